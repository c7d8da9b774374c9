"""The orders of the pipeline schedules, against torch's and against what any order must obey."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.schedules import SCHEDULES, Schedule, ScheduleName

TORCH_CLASSES = {
    ScheduleName.GPIPE: "ScheduleGPipe",
    ScheduleName.ONE_F_ONE_B: "Schedule1F1B",
    ScheduleName.INTERLEAVED_ONE_F_ONE_B: "ScheduleInterleaved1F1B",
}

SAMPLE = [(1, 1, 3), (2, 1, 1), (4, 1, 4), (4, 1, 10), (5, 1, 9), (2, 2, 2), (4, 2, 3), (4, 2, 10)]
SAMPLE += [(3, 4, 8), (4, 3, 8), (8, 2, 16), (4, 2, 1), (16, 2, 32)]

sizes = st.tuples(st.integers(1, 16), st.integers(1, 4), st.integers(1, 64))


def is_legal(schedule: Schedule, p: int, v: int, m: int) -> bool:
    legal = schedule.legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    assert isinstance(legal, bool)
    return legal


def order_of(schedule: Schedule, p: int, v: int, m: int) -> Order:
    return schedule.order(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)


def legal_cases(p: int, v: int, m: int) -> Iterator[Schedule]:
    return (schedule for schedule in SCHEDULES.values() if is_legal(schedule, p, v, m))


def as_text(order: Order) -> list[list[str]]:
    return [[str(action) for action in actions] for actions in order]


def test_the_registry_knows_each_name() -> None:
    assert set(SCHEDULES) == set(ScheduleName)
    assert all(name == schedule.name for name, schedule in SCHEDULES.items())


def test_interleaved_as_drawn_by_hand() -> None:
    """Two ranks, two chunks, four microbatches: each round of two goes through both chunks."""
    order = order_of(SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B], 2, 2, 4)
    assert [" ".join(actions) for actions in as_text(order)] == [
        "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3",
        "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3",
    ]


@given(sizes)
def test_each_rank_does_its_own_chunks_once_each_way(size: tuple[int, int, int]) -> None:
    p, v, m = size
    for schedule in legal_cases(p, v, m):
        for rank, actions in enumerate(order_of(schedule, p, v, m)):
            expected = {
                Action(chunk * p + rank, kind, microbatch)
                for chunk in range(v)
                for kind in (ActionKind.FORWARD, ActionKind.BACKWARD)
                for microbatch in range(m)
            }
            assert set(actions) == expected
            assert len(actions) == len(expected)


@given(sizes)
def test_a_backward_follows_its_forward(size: tuple[int, int, int]) -> None:
    p, v, m = size
    for schedule in legal_cases(p, v, m):
        for actions in order_of(schedule, p, v, m):
            place = {action: index for index, action in enumerate(actions)}
            for stage, kind, microbatch in actions:
                if kind is ActionKind.BACKWARD:
                    forward = Action(stage, ActionKind.FORWARD, microbatch)
                    backward = Action(stage, kind, microbatch)
                    assert place[forward] < place[backward]


@pytest.mark.parametrize("name", [ScheduleName.GPIPE, ScheduleName.ONE_F_ONE_B])
def test_one_chunk_schedules_refuse_more(name: ScheduleName) -> None:
    with pytest.raises(SpecError, match=r"one virtual stage per rank, but virtual_stages is 2"):
        order_of(SCHEDULES[name], 4, 2, 8)


@pytest.mark.parametrize("size", [(4, 1, 8), (1, 2, 8), (4, 2, 9)])
def test_interleaved_refuses_what_is_not_legal(size: tuple[int, int, int]) -> None:
    interleaved = SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B]
    with pytest.raises(SpecError, match=r"multiple of the number of rounds") as error:
        order_of(interleaved, *size)
    assert f"microbatch_count {size[2]}" in str(error.value)
    assert not is_legal(interleaved, *size)


@given(st.lists(sizes, min_size=1))
def test_legal_is_the_same_for_a_column_and_for_each_row(rows: list[tuple[int, int, int]]) -> None:
    p, v, m = np.array(rows).T
    for schedule in SCHEDULES.values():
        column = schedule.legal(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
        assert column.tolist() == [is_legal(schedule, *row) for row in rows]


class RecordingStage:
    """Stands in for a stage of torch: notes what it is told to do and talks to nobody."""

    is_first = False
    is_last = False
    has_backward = True

    def __init__(self, *, stage_index: int, num_stages: int, group_size: int) -> None:
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.group_size = group_size
        self.group_rank = stage_index % group_size
        self.done: list[str] = []

    def forward_one_chunk(self, microbatch: int, *_: object, **__: object) -> None:
        self.done.append(f"{self.stage_index}F{microbatch}")

    def backward_one_chunk(self, microbatch: int, *_: object, **__: object) -> None:
        self.done.append(f"{self.stage_index}B{microbatch}")

    def no_communication(self, _: int) -> list[object]:
        return []

    get_fwd_recv_ops = get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = no_communication
    perform_reduce_grad = no_communication


@pytest.fixture(scope="module")
def torch_schedules() -> Any:
    return pytest.importorskip("torch.distributed.pipelining.schedules")


def executed_by_torch(torch_schedules: Any, name: ScheduleName, p: int, m: int) -> list[list[str]]:
    """Return what the stages of a schedule with one chunk are told to do.

    `pipeline_order` would not do: for 1F1B it is wrong on the last rank and never executed.
    """
    schedule_class = getattr(torch_schedules, TORCH_CLASSES[name])
    stages = [RecordingStage(stage_index=rank, num_stages=p, group_size=p) for rank in range(p)]
    for stage in stages:
        schedule = schedule_class(stage, m)
        schedule._initialize_stage = lambda *_: None
        schedule._step_microbatches()
    return [stage.done for stage in stages]


def interleaved_of_torch(torch_schedules: Any, p: int, v: int, m: int) -> Any:
    stages = [
        RecordingStage(stage_index=chunk * p, num_stages=v * p, group_size=p) for chunk in range(v)
    ]
    return torch_schedules.ScheduleInterleaved1F1B(stages, m)


def check_one_chunk(torch_schedules: Any, name: ScheduleName, p: int, m: int) -> None:
    order = order_of(SCHEDULES[name], p, 1, m)
    assert as_text(order) == executed_by_torch(torch_schedules, name, p, m)


@pytest.mark.torch
@pytest.mark.parametrize(("p", "v", "m"), SAMPLE)
def test_torch_executes_the_same(torch_schedules: Any, p: int, v: int, m: int) -> None:
    if v > 1:
        schedule = interleaved_of_torch(torch_schedules, p, v, m)
        executed = [
            [str(action) for action in actions if action.computation_type.value in "FB"]
            for actions in schedule.pipeline_order_with_comms.values()
        ]
        ours = order_of(SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B], p, v, m)
        assert as_text(ours) == executed
        return
    check_one_chunk(torch_schedules, ScheduleName.GPIPE, p, m)
    if m >= p:
        check_one_chunk(torch_schedules, ScheduleName.ONE_F_ONE_B, p, m)


@pytest.mark.torch
@pytest.mark.parametrize(("p", "v", "m"), [(4, 2, 9), (4, 2, 11), (3, 2, 7), (5, 4, 14)])
def test_torch_refuses_the_same(torch_schedules: Any, p: int, v: int, m: int) -> None:
    refused = not is_legal(SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B], p, v, m)
    try:
        interleaved_of_torch(torch_schedules, p, v, m)
    except ValueError:
        assert refused
    else:
        assert not refused


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("p", range(1, 17))
def test_torch_executes_the_same_in_the_full_range(
    torch_schedules: Any, p: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adding sends and receives takes minutes in all, and leaves the order of the rest alone, as
    # the sample shows.
    interleaved_class = torch_schedules.ScheduleInterleaved1F1B
    monkeypatch.setattr(interleaved_class, "_prepare_schedule_with_comms", lambda *_: None)
    for m in range(1, 65):
        check_one_chunk(torch_schedules, ScheduleName.GPIPE, p, m)
        if m >= p:
            check_one_chunk(torch_schedules, ScheduleName.ONE_F_ONE_B, p, m)
        for v in range(2, 5):
            ours = SCHEDULES[ScheduleName.INTERLEAVED_ONE_F_ONE_B]
            if not is_legal(ours, p, v, m):
                if p > 1:
                    with pytest.raises(ValueError, match="multiple of the number of rounds"):
                        interleaved_of_torch(torch_schedules, p, v, m)
                continue
            theirs = interleaved_of_torch(torch_schedules, p, v, m).pipeline_order
            assert as_text(order_of(ours, p, v, m)) == [
                [str(action) for action in actions if action is not None]
                for actions in theirs.values()
            ]


@settings(max_examples=20)
@given(st.integers(1, 16), st.integers(1, 64))
def test_one_f_one_b_holds_no_more_than_ranks_ahead(p: int, m: int) -> None:
    for rank, actions in enumerate(order_of(SCHEDULES[ScheduleName.ONE_F_ONE_B], p, 1, m)):
        held = 0
        for action in actions:
            held += 1 if action.kind is ActionKind.FORWARD else -1
            assert held <= p - rank
