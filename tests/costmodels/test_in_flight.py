"""What a rank holds at most, in closed form, against a replay of its actions."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import RELEASING, Action, ActionKind
from costmodels.pipelining.schedules import SCHEDULES, Schedule, ScheduleName

LARGEST_P, LARGEST_V, LARGEST_M = 16, 4, 64

SEVERAL_CHUNKS = {
    ScheduleName.INTERLEAVED_ONE_F_ONE_B: LARGEST_V,
    ScheduleName.LOOPED_BFS: LARGEST_V,
    ScheduleName.INTERLEAVED_ZERO_BUBBLE: LARGEST_V,
    ScheduleName.ZB_V: 2,
    ScheduleName.DUAL_PIPE_V: 2,
    ScheduleName.DUAL_PIPE: 2,
}
IN_ROUNDS = (
    ScheduleName.INTERLEAVED_ONE_F_ONE_B,
    ScheduleName.ZB_H1,
    ScheduleName.INTERLEAVED_ZERO_BUBBLE,
)

EXACT = [name for name in SCHEDULES if name is not ScheduleName.ZB_AUTO]
"""The count of a searched order is what the search allows; its list may hold less."""

Row = tuple[int, int, int, int]
"""Ranks, chunks, microbatches and a rank."""


def replayed_peak(actions: Sequence[Action], p: int, weights: Sequence[int]) -> int:
    """Return the most that a rank holds while it plays its actions, by brute force."""
    chunks = {stage: chunk for chunk, stage in enumerate(sorted({a.stage for a in actions}))}
    held = peak = 0
    for action in actions:
        weight = weights[chunks[action.stage]]
        if action.kind is ActionKind.FORWARD:
            held += weight
        elif action.kind in RELEASING:
            held -= weight
        peak = max(peak, held)
    return peak


def legal_rows(schedule: Schedule, p: int) -> list[Row]:
    return [
        (p, v, m, rank)
        for v in range(1, LARGEST_V + 1)
        for m in range(1, LARGEST_M + 1)
        if schedule.legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
        for rank in range(p)
    ]


def actions_of(schedule: Schedule, row: Row) -> Sequence[Action]:
    p, v, m, rank = row
    order = schedule.order(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    return order[rank]


@st.composite
def rows_of(draw: st.DrawFn, name: ScheduleName) -> Row:
    """Draw sizes that are legal: rounds of equal size, so that m is a multiple of their number."""
    p = draw(st.integers(1, LARGEST_P))
    m = draw(st.integers(1, LARGEST_M))
    v = 1
    legal = SCHEDULES[name].legal
    if name in SEVERAL_CHUNKS:
        p = max(p, 2)
        v = draw(st.integers(2, SEVERAL_CHUNKS[name]))
    if name in IN_ROUNDS:
        m -= m % max(1, m // p)
    if name is ScheduleName.DUAL_PIPE_V:
        m = max(m, 2 * p)
    if name is ScheduleName.DUAL_PIPE:
        p, m = p + p % 2, 2 * max(m, p + p % 2)
    assert legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    return p, v, m, draw(st.integers(0, p - 1))


chunk_bytes = st.lists(st.integers(0, 1000), min_size=LARGEST_V, max_size=LARGEST_V)


def padded(weights: Sequence[int], v: int) -> list[int]:
    """Return the weights with zeros for the chunks that a row lacks."""
    return [*weights[:v], *[0] * (LARGEST_V - v)]


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data(), weights=chunk_bytes)
def test_peak_is_that_of_a_replay(
    name: ScheduleName, data: st.DataObject, weights: list[int]
) -> None:
    row = p, v, m, rank = data.draw(rows_of(name))
    peak = SCHEDULES[name].peak_activation_bytes(
        padded(weights, v),
        pipeline_parallel_size=p,
        virtual_stages=v,
        microbatch_count=m,
        stage_index=rank,
    )
    assert peak == replayed_peak(actions_of(SCHEDULES[name], row), p, weights)
    assert type(peak) is int


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data())
def test_count_is_that_of_a_replay(name: ScheduleName, data: st.DataObject) -> None:
    row = p, v, m, rank = data.draw(rows_of(name))
    count = SCHEDULES[name].in_flight_count(
        pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m, stage_index=rank
    )
    assert count == replayed_peak(actions_of(SCHEDULES[name], row), p, [1] * v)
    assert type(count) is int


@pytest.mark.parametrize("name", SCHEDULES)
@given(data=st.data())
def test_a_row_is_the_same_among_others(name: ScheduleName, data: st.DataObject) -> None:
    rows = data.draw(st.lists(rows_of(name), min_size=1, max_size=20))
    weights = [padded(data.draw(chunk_bytes), v) for _, v, _, _ in rows]
    p, v, m, rank = np.array(rows).T
    column = SCHEDULES[name].peak_activation_bytes(
        list(np.array(weights).T),
        pipeline_parallel_size=p,
        virtual_stages=v,
        microbatch_count=m,
        stage_index=rank,
    )
    assert column.dtype == np.int64
    assert column.tolist() == [
        SCHEDULES[name].peak_activation_bytes(
            row_weights,
            pipeline_parallel_size=row[0],
            virtual_stages=row[1],
            microbatch_count=row[2],
            stage_index=row[3],
        )
        for row, row_weights in zip(rows, weights, strict=True)
    ]


def test_the_peak_may_come_late() -> None:
    """A rank holds most when a light chunk goes back while a heavy one goes forward."""
    peaks = [
        SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B].peak_activation_bytes(
            weights, pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=0
        )
        for weights in ([1, 0], [0, 1], [1, 1])
    ]
    # After ten warm-up forwards, 6 of chunk 0 and 4 of chunk 1, the last two of chunk 0 come while
    # two of chunk 1 go back: 7 + 4 = 11 is the most of both, while 8 of chunk 0 come later.
    assert peaks == [8, 4, 11]


def exists_on(name: ScheduleName, p: int) -> bool:
    """Return whether a schedule exists on a number of ranks, for some chunks and microbatches."""
    if name is ScheduleName.DUAL_PIPE:
        return p % 2 == 0
    return p > 1 or name is not ScheduleName.INTERLEAVED_ONE_F_ONE_B


@pytest.mark.parametrize("p", range(1, LARGEST_P + 1, 2))
def test_dual_pipe_is_refused_on_an_odd_number_of_ranks(p: int) -> None:
    with pytest.raises(SpecError, match=f"an even pipeline_parallel_size.*_size is {p}, "):
        SCHEDULES[ScheduleName.DUAL_PIPE].order(
            pipeline_parallel_size=p, virtual_stages=2, microbatch_count=LARGEST_M
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("p", range(1, LARGEST_P + 1))
def test_full_range_is_that_of_a_replay(name: ScheduleName, p: int) -> None:
    schedule = SCHEDULES[name]
    rows = legal_rows(schedule, p)
    assert bool(rows) == exists_on(name, p)
    if not rows:
        return
    columns = np.array(rows).T
    sizes = dict(
        zip(
            ("pipeline_parallel_size", "virtual_stages", "microbatch_count", "stage_index"),
            columns,
            strict=True,
        )
    )
    generator = np.random.default_rng(seed=p)
    weights = generator.integers(0, 1000, size=(LARGEST_V, len(rows)))
    weights[np.arange(LARGEST_V)[:, None] >= columns[1]] = 0
    peaks = schedule.peak_activation_bytes(list(weights), **sizes).tolist()
    counts = schedule.in_flight_count(**sizes).tolist()
    for (_, v, m), ranks in groupby(range(len(rows)), key=lambda index: rows[index][:3]):
        order = schedule.order(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
        for index in ranks:
            actions = order[rows[index][3]]
            assert peaks[index] == replayed_peak(actions, p, weights[:, index].tolist())
            assert counts[index] == replayed_peak(actions, p, [1] * LARGEST_V)


@pytest.mark.slow
@pytest.mark.parametrize("p", range(1, LARGEST_P + 1))
def test_a_searched_order_holds_no_more_than_its_count(p: int) -> None:
    schedule = SCHEDULES[ScheduleName.ZB_AUTO]
    for m in (1, p, 2 * p + 1):
        sizes = {"pipeline_parallel_size": p, "virtual_stages": 1, "microbatch_count": m}
        for rank, actions in enumerate(schedule.order(**sizes)):
            count = schedule.in_flight_count(**sizes, stage_index=rank)
            assert replayed_peak(actions, p, [1]) <= count
