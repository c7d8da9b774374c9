"""Quantities of a step from the fast engine: counts of its actions, and times of a longest path."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import add, itemgetter
from typing import NamedTuple

from costmodels.pipelining.actions import Action, ActionKind
from costmodels.pipelining.longest_path import Played
from simulator.longest_path import play
from simulator.metrics import PipelineMetrics
from simulator.program import PipelineProgram
from simulator.step_ends import EndPart, step_end_parts
from simulator.tasks import Tasks, tasks_of
from simulator.trace import PIPELINE_AXIS


def path_metrics(program: PipelineProgram) -> PipelineMetrics:
    """Return all quantities of a program that was played by the fast engine, without a trace.

    Parameters
    ----------
    program : PipelineProgram
        What the ranks are to do; its links are private.

    Returns
    -------
    PipelineMetrics
        As `pipeline_metrics` of the simulated trace; times to within rounding.

    Raises
    ------
    SpecError
        If ranks wait for each other forever.
    """
    tasks = tasks_of(program)
    played = play(program, tasks)
    loads = [_load(program, tasks, actions) for actions in program.order]
    ends = [played.ends_s[rank] for rank, actions in enumerate(program.order) if actions]
    phase_s = max(ends, default=0) - min((of[0] for of in played.starts_s if of), default=0)
    busy = tuple(load.busy_s for load in loads)
    idle = tuple(max(phase_s - rank_busy_s, 0.0) for rank_busy_s in busy)
    parts = list(_end_parts(program, played))
    sent: Counter[str] = Counter()
    for load in loads:
        sent.update(load.sent_bytes)
    for part in parts:
        sent.update(part.sent_bytes)
    return PipelineMetrics(
        makespan_s=max([*ends, *(part.end_s for part in parts)], default=0),
        pipeline_makespan_s=phase_s,
        busy_s=busy,
        idle_s=idle,
        idle_fraction=sum(idle) / (len(busy) * phase_s) if phase_s else 0.0,
        idle_to_busy_fraction=sum(idle) / sum(busy) if sum(busy) else 0.0,
        sent_bytes=dict(sent),
        flop=tuple(load.flop for load in loads),
        peak_bytes=tuple(map(add, program.static_bytes, played.peak_bytes)),
    )


class _Load(NamedTuple):
    """What the actions of a rank take together."""

    busy_s: float
    flop: int
    sent_bytes: Mapping[str, int]


def _load(program: PipelineProgram, tasks: Tasks, actions: Sequence[Action]) -> _Load:
    """Count the actions of each kind and stage; those that differ are taken one by one."""
    busy_s: float = 0
    flop = 0
    sent: Counter[str] = Counter()
    for kind, stage, microbatches in _alike(actions, varied=program.is_varied()):
        work, task = program.works(kind)[stage], tasks[kind][stage]
        microbatch, count = microbatches
        scale = program.microbatch_scales[microbatch] if program.microbatch_scales else 1
        duration_s, _, hand_over_bytes = task.costs[microbatch]
        busy_s += count * duration_s
        flop += count * round(scale * work.flop)
        for axis, size_bytes in work.sent_bytes.items():
            if size_bytes:
                sent[axis] += count * round(scale * size_bytes)
        if task.link is not None:
            sent[PIPELINE_AXIS] += count * hand_over_bytes
    return _Load(busy_s, flop, sent)


def _alike(
    actions: Sequence[Action], *, varied: bool
) -> Iterator[tuple[ActionKind, int, tuple[int, int]]]:
    """Yield kind, stage, one microbatch and how many take the same."""
    if varied:
        for stage, kind, microbatch in actions:
            yield kind, stage, (microbatch, 1)
        return
    for (stage, kind), count in Counter(map(itemgetter(0, 1), actions)).items():
        yield kind, stage, (0, count)


def _end_parts(program: PipelineProgram, played: Played) -> Iterator[EndPart]:
    for rank, end in enumerate(program.step_ends):
        starts = played.starts_s[rank]
        yield from step_end_parts(
            end, last_start_s=starts[-1] if starts else 0, last_end_s=played.ends_s[rank]
        )
