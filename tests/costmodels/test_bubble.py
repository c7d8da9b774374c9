"""The bubble in closed form, against hand-made and published values.

Against simulated schedules: `tests/simulator/test_pipeline.py`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.bubble import (
    bubble_fraction,
    dual_pipe_bubble_s,
    zb_h1_bubble_s,
    zb_h2_bubble_s,
)
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from costmodels.pipelining.orders import interleaved_one_f_one_b
from costmodels.pipelining.playing import play


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


def waited(
    name: ScheduleName, p: int, v: int, m: int, times: tuple[float, float, float], hop: float = 0.0
) -> tuple[float, float]:
    """Return what a played list takes beyond its work: from first to last, and of one rank."""
    ordering = ORDERINGS[name]
    rows = ordering.rows_of(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    placement = ordering.placement(pipeline_parallel_size=p, virtual_stages=v)
    forward, inputs, weights = (
        (time * ordering.copies / v,) * placement.stage_count for time in times
    )
    durations = {
        ActionKind.FORWARD: forward,
        ActionKind.INPUT_GRADIENT: inputs,
        ActionKind.WEIGHT_GRADIENT: weights,
        ActionKind.BACKWARD: tuple(map(sum, zip(inputs, weights, strict=True))),
    }
    playing = play(
        tuple(row.actions for row in rows),
        placement,
        durations,
        hop_s=hop,
        overlapped=[row.overlapped for row in rows],
    )
    work = m * sum(times)
    return playing.makespan_s - work, playing.longest_span_s - work


@pytest.mark.parametrize(
    ("name", "p", "v", "m", "idle"),
    [
        (ScheduleName.GPIPE, 8, 1, 32, 0.1795),
        (ScheduleName.ONE_F_ONE_B, 8, 1, 32, 0.1795),
        (ScheduleName.INTERLEAVED_ONE_F_ONE_B, 8, 2, 32, 0.0986),
        (ScheduleName.INTERLEAVED_ONE_F_ONE_B, 8, 4, 32, 0.0519),
        (ScheduleName.ZB_H1, 8, 1, 32, 0.0680),
        (ScheduleName.INTERLEAVED_ZERO_BUBBLE, 8, 2, 32, 0.0352),
        (ScheduleName.INTERLEAVED_ZERO_BUBBLE, 8, 4, 32, 0.0179),
        (ScheduleName.ZB_V, 8, 2, 32, 0.0352),
        (ScheduleName.ONE_F_ONE_B, 4, 1, 8, 0.2727),
        (ScheduleName.INTERLEAVED_ONE_F_ONE_B, 4, 2, 8, 0.1579),
        (ScheduleName.INTERLEAVED_ONE_F_ONE_B, 4, 4, 8, 0.0857),
        (ScheduleName.ZB_H1, 4, 1, 8, 0.1111),
        (ScheduleName.INTERLEAVED_ZERO_BUBBLE, 4, 2, 8, 0.0588),
        (ScheduleName.ZB_V, 4, 2, 8, 0.0588),
        (ScheduleName.DUAL_PIPE_V, 4, 2, 8, 0.1111),
    ],
)
def test_idle_shares_of_equal_thirds(
    name: ScheduleName, p: int, v: int, m: int, idle: float
) -> None:
    waits, _ = waited(name, p, v, m, (1.0, 1.0, 1.0))
    assert round(waits / (3 * m + waits), 4) == idle


ranks = st.integers(1, 8)
short = st.floats(0.5, 1.0)
long = st.floats(1.0, 1.5)


@given(ranks, long, long, short)
def test_zb_h1_waits_what_the_paper_says(
    p: int, forward: float, inputs: float, weights: float
) -> None:
    _, longest = waited(ScheduleName.ZB_H1, p, 1, 3 * p, (forward, inputs, weights))
    assert longest == pytest.approx(zb_h1_bubble_s(p, forward, inputs, weights, 0.0), abs=1e-9)


@given(ranks, st.integers(2, 4), long, long, short)
def test_interleaved_zero_bubble_waits_a_share_of_it(
    p: int, v: int, forward: float, inputs: float, weights: float
) -> None:
    times = (forward, inputs, weights)
    whole, _ = waited(ScheduleName.INTERLEAVED_ZERO_BUBBLE, p, v, 3 * p, times)
    assert whole == pytest.approx(zb_h1_bubble_s(p, *times, 0.0) / v, abs=1e-9)


@given(ranks, st.floats(0.5, 0.74))
def test_zb_h2_waits_what_the_paper_says(p: int, weights: float) -> None:
    """F + I above 2 W: a bubble is left on the rank that works longest."""
    times = (1.0, 1.0, weights)
    _, longest = waited(ScheduleName.ZB_H2, p, 1, 4 * p, times)
    assert longest == pytest.approx(zb_h2_bubble_s(p, *times, 0.0), abs=1e-9)


def test_the_authors_own_times() -> None:
    """F 18.522, I 18.086, W 9.337 and a hop of 0.601 ms on eight ranks, 24 microbatches."""
    times, hop = (18.522, 18.086, 9.337), 0.601
    _, first = waited(ScheduleName.ZB_H1, 8, 1, 24, times, hop)
    _, second = waited(ScheduleName.ZB_H2, 8, 1, 24, times, hop)
    assert first == pytest.approx(zb_h1_bubble_s(8, *times, hop), rel=1e-9)
    assert second == pytest.approx(zb_h2_bubble_s(8, *times, hop), rel=1e-9)
    assert round(first / (24 * sum(times) + first), 4) == 0.1585
    assert round(second / (24 * sum(times) + second), 4) == 0.1083


@given(st.integers(1, 6), st.floats(0.5, 1.0))
def test_dual_pipe_waits_what_the_paper_says(half: int, unit: float) -> None:
    """Pairs that start and end together; F, I and W of a chunk are equal."""
    apart, _ = waited(ScheduleName.DUAL_PIPE_V, half, 2, 4 * half, (2 * unit,) * 3)
    assert apart == pytest.approx(dual_pipe_bubble_s(half, unit, unit, unit), abs=1e-9)
    both, _ = waited(ScheduleName.DUAL_PIPE, 2 * half, 2, 8 * half, (unit,) * 3)
    assert both == pytest.approx(dual_pipe_bubble_s(half, unit, unit, unit), abs=1e-9)
