"""The orders of the pipeline schedules, against torch's and against what any order must obey."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import RELEASING, RETURNING, Action, ActionKind, Order
from costmodels.pipelining.orderings import ORDERINGS, Ordering
from costmodels.pipelining.playing import check_order
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName

SAMPLE = [(1, 1, 3), (2, 1, 1), (4, 1, 4), (4, 1, 10), (5, 1, 9), (2, 2, 2), (4, 2, 3), (4, 2, 10)]
SAMPLE += [(3, 4, 8), (4, 3, 8), (8, 2, 16), (4, 2, 1), (4, 2, 9), (3, 1, 7), (4, 1, 9)]
SAMPLE += [(4, 2, 7), (5, 2, 11), (5, 4, 14)]

sizes = st.tuples(st.integers(1, 16), st.integers(1, 4), st.integers(1, 64))


def is_legal(schedule: Ordering, p: int, v: int, m: int) -> bool:
    legal = schedule.legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    assert isinstance(legal, bool)
    return legal


def order_of(schedule: Ordering, p: int, v: int, m: int) -> Order:
    return schedule.order(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)


def legal_cases(p: int, v: int, m: int) -> Iterator[Ordering]:
    return (schedule for schedule in ORDERINGS.values() if is_legal(schedule, p, v, m))


def as_text(order: Order) -> list[list[str]]:
    return [[str(action) for action in actions] for actions in order]


def test_the_registry_knows_each_name() -> None:
    assert set(ORDERINGS) == set(ScheduleName)
    assert set(SCHEDULES) <= set(ORDERINGS)
    assert all(name == schedule.name for name, schedule in SCHEDULES.items())


def test_interleaved_as_drawn_by_hand() -> None:
    """Two ranks, two chunks, four microbatches: each round of two goes through both chunks."""
    order = order_of(ORDERINGS[ScheduleName.INTERLEAVED_ONE_F_ONE_B], 2, 2, 4)
    assert [" ".join(actions) for actions in as_text(order)] == [
        "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
        "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3",
    ]


@given(sizes)
def test_each_rank_does_its_own_chunks_once_each_way(size: tuple[int, int, int]) -> None:
    p, v, m = size
    for schedule in legal_cases(p, v, m):
        for rank, actions in enumerate(order_of(schedule, p, v, m)):
            stages = schedule.placement(pipeline_parallel_size=p, virtual_stages=v).stages_of(rank)
            # Each copy of a part of the model takes its share of the microbatches.
            passes = len(stages) * m // schedule.copies
            assert len(set(actions)) == len(actions)
            assert {action.stage for action in actions} <= set(stages)
            for kinds in ([ActionKind.FORWARD], RELEASING, RETURNING):
                assert sum(action.kind in kinds for action in actions) == passes


@given(sizes)
def test_a_backward_follows_its_forward(size: tuple[int, int, int]) -> None:
    p, v, m = size
    for schedule in legal_cases(p, v, m):
        for actions in order_of(schedule, p, v, m):
            place = {action: index for index, action in enumerate(actions)}
            for stage, kind, microbatch in actions:
                if kind is not ActionKind.FORWARD:
                    forward = Action(stage, ActionKind.FORWARD, microbatch)
                    backward = Action(stage, kind, microbatch)
                    assert place[forward] < place[backward]


@pytest.mark.parametrize("name", [ScheduleName.GPIPE, ScheduleName.ONE_F_ONE_B])
def test_one_chunk_schedules_refuse_more(name: ScheduleName) -> None:
    with pytest.raises(SpecError, match=r"one virtual stage per rank, but virtual_stages is 2"):
        order_of(ORDERINGS[name], 4, 2, 8)


def test_interleaved_refuses_what_is_not_legal() -> None:
    interleaved = ORDERINGS[ScheduleName.INTERLEAVED_ONE_F_ONE_B]
    with pytest.raises(SpecError, match=r"multiple of the number of rounds") as error:
        order_of(interleaved, 4, 2, 9)
    assert "microbatch_count 9" in str(error.value)
    assert not is_legal(interleaved, 4, 2, 9)


@pytest.mark.parametrize("size", [(4, 1, 8), (1, 2, 8), (4, 2, 9)])
def test_a_plan_has_interleaved_1f1b_where_it_helps(size: tuple[int, int, int]) -> None:
    names = ("pipeline_parallel_size", "virtual_stages", "microbatch_count")
    legal = SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B].legal
    assert not legal(**dict(zip(names, size, strict=True)))


@given(st.lists(sizes, min_size=1))
def test_legal_is_the_same_for_a_column_and_for_each_row(rows: list[tuple[int, int, int]]) -> None:
    p, v, m = np.array(rows).T
    for schedule in ORDERINGS.values():
        column = schedule.legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
        assert column.tolist() == [is_legal(schedule, *row) for row in rows]


def same_as_torch(name: ScheduleName, p: int, v: int, m: int, *, with_sends: bool) -> None:
    """Compare what torch executes, or that it refuses, with ours."""
    executed_order = pytest.importorskip("validation.torch_programs.schedule_orders").executed_order
    sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
    ordering = ORDERINGS[name]
    if not ordering.legal(**sizes):
        with pytest.raises(SpecError):
            ordering.order(**sizes)
        # Torch's class has more chunks under another name of ours.
        if not (name is ScheduleName.ZB_H1 and v > 1):
            with pytest.raises(ValueError, match=r"requires|takes one stage"):
                executed_order(name.value, **sizes, with_sends=with_sends)
        return
    if name is ScheduleName.ONE_F_ONE_B and m < p:
        # Ours is the order that torch would do, were it not refused.
        with pytest.raises(ValueError, match="greater than"):
            executed_order(name.value, **sizes)
        return
    assert as_text(ordering.order(**sizes)) == executed_order(
        name.value, **sizes, with_sends=with_sends
    )


OWN = (
    ScheduleName.ZB_H2,
    ScheduleName.DUAL_PIPE,
    ScheduleName.ZB_AUTO,
    ScheduleName.PIPEDREAM,
)
TORCHS = [name for name in ScheduleName if name not in OWN]


@pytest.mark.torch
@pytest.mark.parametrize("name", TORCHS)
def test_torch_executes_and_refuses_the_same(name: ScheduleName) -> None:
    for p, v, m in SAMPLE:
        same_as_torch(name, p, v, m, with_sends=True)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHS)
def test_torch_executes_and_refuses_the_same_in_a_wide_range(name: ScheduleName) -> None:
    """Every m for some p: adding sends and receives takes minutes, and moves nothing else."""
    for p in (1, 2, 3, 7, 8, 16):
        for v in range(1, 5):
            for m in range(1, 65):
                same_as_torch(name, p, v, m, with_sends=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ScheduleName)
def test_every_order_can_be_played(name: ScheduleName) -> None:
    ordering = ORDERINGS[name]
    for p in (1, 2, 3, 4, 7, 8):
        for v in range(1, 5):
            for m in (1, 2, 3, 5, 8, 13, 14, 16, 24):
                sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
                if ordering.legal(**sizes):
                    placement = ordering.placement(pipeline_parallel_size=p, virtual_stages=v)
                    check_order(ordering.order(**sizes), placement)


@settings(max_examples=20)
@given(st.integers(1, 16), st.integers(1, 64))
def test_one_f_one_b_holds_no_more_than_ranks_ahead(p: int, m: int) -> None:
    for rank, actions in enumerate(order_of(ORDERINGS[ScheduleName.ONE_F_ONE_B], p, 1, m)):
        held = 0
        for action in actions:
            held += 1 if action.kind is ActionKind.FORWARD else -1
            assert held <= p - rank
