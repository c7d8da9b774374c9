"""The bubble in closed form, against hand-made and published values.

Against simulated schedules: `tests/simulator/test_pipeline.py`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.pipelining.bubble import bubble_fraction, bubble_fraction_is_valid
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


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 512))
def test_of_the_ideal_time_it_is_the_ratio_of_the_papers(p: int, v: int, m: int) -> None:
    """GPipe and Megatron-LM divide the idle time by the ideal time v m."""
    fraction = bubble(p, v, m)
    assert fraction / (1 - fraction) == pytest.approx((p - 1) / (v * m), rel=1e-12)


def test_rows_are_those_of_numbers() -> None:
    p, v, m = np.array([4, 4, 8]), np.array([1, 1, 2]), np.array([1, 4, 32])
    column = bubble_fraction(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    assert column.tolist() == [0.75, 3 / 7, 7 / 71]


def test_not_valid_for_interleaved_with_fewer_microbatches_than_ranks() -> None:
    valid = bubble_fraction_is_valid(
        pipeline_parallel_size=np.array([4, 4, 4]),
        virtual_stages=np.array([2, 2, 1]),
        microbatch_count=np.array([3, 4, 3]),
    )
    assert valid.tolist() == [False, True, True]
    # Such orders exist nonetheless.
    assert interleaved_one_f_one_b(pipeline_parallel_size=4, virtual_stages=2, microbatch_count=3)
