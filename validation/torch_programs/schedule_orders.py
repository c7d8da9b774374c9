"""What the schedules of torch.distributed.pipelining do, rank by rank, without processes.

Stages are stand-ins that talk to nobody. Schedules of one stage for each rank are run with stages
that note what they are told; `pipeline_order` would not do, since that of 1F1B is wrong on the last
rank and never executed. The others run their list with sends and receives added, of which the
actions that compute are the order; adding them fails where the list deadlocks.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch.distributed.pipelining import schedules

_ONE_STAGE = MappingProxyType({"gpipe": "ScheduleGPipe", "1f1b": "Schedule1F1B"})
_SEVERAL = MappingProxyType(
    {
        "interleaved-1f1b": "ScheduleInterleaved1F1B",
        "looped-bfs": "ScheduleLoopedBFS",
        "zb-h1": "ScheduleInterleavedZeroBubble",
        "interleaved-zb": "ScheduleInterleavedZeroBubble",
        "zb-v": "ScheduleZBVZeroBubble",
        "dualpipe-v": "ScheduleDualPipeV",
    }
)
CLASSES: Mapping[str, str] = MappingProxyType({**_ONE_STAGE, **_SEVERAL})
"""Our name of each schedule that torch has, and torch's."""


class _Stage:
    """Stands in for a stage: notes what it is told to do."""

    is_first = False
    is_last = False
    has_backward = True

    def __init__(self, *, stage_index: int, num_stages: int, group_size: int) -> None:
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.group_size = group_size
        self.group_rank = stage_index % group_size
        self.submod = torch.nn.Identity()
        self.done: list[str] = []

    def forward_one_chunk(self, microbatch: int, *_: object, **__: object) -> None:
        self.done.append(f"{self.stage_index}F{microbatch}")

    def backward_one_chunk(self, microbatch: int, *_: object, **__: object) -> None:
        self.done.append(f"{self.stage_index}B{microbatch}")

    def no_communication(self, _: int) -> list[object]:
        return []

    get_fwd_recv_ops = get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = no_communication
    perform_reduce_grad = no_communication


def executed_order(
    name: str,
    *,
    pipeline_parallel_size: int,
    virtual_stages: int,
    microbatch_count: int,
    with_sends: bool = True,
) -> list[list[str]]:
    """Return what each rank computes, in torch's notation; two that overlap in their order.

    Parameters
    ----------
    name : str
        Our name of the schedule.
    pipeline_parallel_size, virtual_stages, microbatch_count : int
        Sizes [count].
    with_sends : bool, optional
        Whether sends and receives are added as for a run: slow, and moves no computation.

    Raises
    ------
    ValueError
        If torch refuses these sizes.
    AssertionError
        If the schedule that torch makes cannot be run.
    """
    if name in _ONE_STAGE:
        if virtual_stages != 1:
            raise ValueError(f"{name} takes one stage for each rank")
        return _run(_ONE_STAGE[name], pipeline_parallel_size, microbatch_count)
    schedule_class = getattr(schedules, _SEVERAL[name])
    count = pipeline_parallel_size * virtual_stages
    stages = [
        _Stage(stage_index=index, num_stages=count, group_size=pipeline_parallel_size)
        for index in range(0, count, pipeline_parallel_size)
    ]
    if with_sends:
        made = schedule_class(stages, microbatch_count)
        rows = made.pipeline_order_with_comms
    else:
        made = _without_sends(schedule_class)(stages, microbatch_count)
        rows = made.pipeline_order
    return [_computed(rows[rank]) for rank in range(pipeline_parallel_size)]


def _without_sends(schedule_class: Callable[..., Any]) -> Any:
    class Listed(schedule_class):  # type: ignore[misc, valid-type]
        def _prepare_schedule_with_comms(self, *_: object, **__: object) -> None:
            pass

    return Listed


def _computed(actions: list[Any]) -> list[str]:
    row: list[str] = []
    for action in actions:
        if action is None or not action.is_compute_op:
            continue
        row.extend(map(str, action.sub_actions or (action,)))
    return row


def _run(class_name: str, ranks: int, microbatch_count: int) -> list[list[str]]:
    rows = []
    for rank in range(ranks):
        stage = _Stage(stage_index=rank, num_stages=ranks, group_size=ranks)
        schedule = getattr(schedules, class_name)(stage, microbatch_count)
        schedule._initialize_stage = lambda *_: None
        schedule._step_microbatches()
        rows.append(stage.done)
    return rows
