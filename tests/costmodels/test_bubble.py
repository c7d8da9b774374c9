"""The bubble in closed form, against hand-made and published values.

Against simulated schedules: `tests/simulator/test_pipeline.py`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.pipelining.bubble import bubble_fraction
from costmodels.pipelining.orders import interleaved_one_f_one_b


def bubble(p: int, v: int, m: int) -> float:
    value = bubble_fraction(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    assert isinstance(value, float)
    return value


def test_by_hand() -> None:
    assert bubble(4, 1, 1) == 0.75
    assert bubble(4, 1, 4) == 3 / 7


def test_one_rank_never_waits() -> None:
    assert bubble(1, 1, 5) == 0


@given(st.integers(1, 64), st.integers(1, 8), st.integers(0, 512))
def test_of_the_ideal_time_it_is_the_ratio_of_the_papers(p: int, v: int, more: int) -> None:
    """GPipe and Megatron-LM divide the idle time by the ideal time v m."""
    m = p + more
    fraction = bubble(p, v, m)
    assert fraction / (1 - fraction) == pytest.approx((p - 1) / (v * m), rel=1e-12)


def test_rows_are_those_of_numbers() -> None:
    p, v, m = np.array([4, 4, 8]), np.array([1, 1, 2]), np.array([1, 4, 32])
    column = bubble_fraction(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    assert column.tolist() == [0.75, 3 / 7, 7 / 71]


def test_fewer_microbatches_than_ranks_take_a_slot_for_every_virtual_stage() -> None:
    """Two chunks on four ranks, three microbatches: 2 x 4 + 3 - 1 slots, of which 2 x 3 are busy."""
    assert bubble(4, 2, 3) == 4 / 10
    assert bubble(4, 2, 4) == 3 / 11
    assert interleaved_one_f_one_b(pipeline_parallel_size=4, virtual_stages=2, microbatch_count=3)
