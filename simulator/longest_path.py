"""The fast engine: a program on the longest path of `costmodels.pipelining.longest_path`.

It serves steps without chance and without links that several senders share, and gives the same
times as the event simulator there, to within rounding.
"""

from collections.abc import Mapping, Sequence

from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.longest_path import (
    Cost,
    EqualStep,
    Played,
    Step,
    play_equal,
    play_units,
)
from simulator.deadlocks import refuse_deadlock
from simulator.program import PipelineProgram
from simulator.record import Record
from simulator.resources import Link
from simulator.tasks import Tasks, occupied_s


def play(program: PipelineProgram, tasks: Tasks) -> Played:
    """Return when each action of a program starts.

    Parameters
    ----------
    program : PipelineProgram
        What the ranks are to do.
    tasks : Tasks
        Its action graph.

    Returns
    -------
    Played
        Starts, ends and peaks by rank.

    Raises
    ------
    SpecError
        If ranks wait for each other forever.
    """
    steps = _steps(program, tasks)
    if _is_equal(program, steps):
        played = play_equal(program.order, _equal_steps(steps))
    else:
        played = play_units([program.units(rank) for rank in range(len(program.order))], steps)
    refuse_deadlock(program, list(map(len, played.starts_s)))
    return played


def record_path(program: PipelineProgram, tasks: Tasks) -> Record:
    """Return when everything happens, as `simulator.pipeline.record_pipeline` does."""
    played = play(program, tasks)
    record = Record.empty(len(program.order))
    links = {pair: Link(spec) for pair, spec in program.links.items()}
    for rank, starts in enumerate(played.starts_s):
        record.starts_s[rank] = starts
        ends = record.ends_s[rank]
        for unit in program.units(rank):
            costs = [tasks[kind][stage].costs[microbatch] for stage, kind, microbatch in unit]
            ends += [
                starts[len(ends) + place] + cost.duration_s for place, cost in enumerate(costs)
            ]
            for (stage, kind, _), cost in zip(unit, costs, strict=True):
                task = tasks[kind][stage]
                if task.link is not None:
                    link = links[rank, task.destination]
                    departure_s, arrival_s = link.send(ends[-1], cost.sent_bytes)
                    record.departures_s[rank].append(departure_s)
                    record.arrivals_s[rank].append(arrival_s)
    return record


def _is_equal(program: PipelineProgram, steps: Mapping[ActionKind, Sequence[Step]]) -> bool:
    queued = any(step.queue is not None for of_kind in steps.values() for step in of_kind)
    return not (queued or program.is_varied() or any(program.overlapped))


def _equal_steps(
    steps: Mapping[ActionKind, Sequence[Step]],
) -> Mapping[ActionKind, Sequence[EqualStep]]:
    def equal(step: Step) -> EqualStep:
        # Without any microbatch there is no action either.
        duration_s, delta, _ = step.costs[0] if step.costs else Cost(0, 0, 0)
        return EqualStep(step.source, step.target, duration_s, delta, step.delay_s)

    return {kind: [equal(step) for step in of_kind] for kind, of_kind in steps.items()}


def _steps(program: PipelineProgram, tasks: Tasks) -> dict[ActionKind, list[Step]]:
    ranks = program.stage_ranks()
    # Two that run together hand over at the same time, so that even a fast link may be busy.
    varied = program.is_varied() or any(program.overlapped)
    slowest: dict[tuple[int, int], float] = {}
    shortest: dict[tuple[int, int], float] = {}
    for of_kind in tasks.values():
        for stage, task in enumerate(of_kind):
            if task.link is None:
                continue
            pair = ranks[stage], task.destination
            for cost in task.costs if varied else task.costs[:1]:
                busy_s = occupied_s(task.link, cost.sent_bytes)
                slowest[pair] = max(slowest.get(pair, 0), busy_s)
                shortest[pair] = min(shortest.get(pair, cost.duration_s), cost.duration_s)
    queues = {pair: [0.0] for pair, busy_s in slowest.items() if busy_s > shortest[pair]}

    def step(kind: ActionKind, stage: int) -> Step:
        task = tasks[kind][stage]
        pair = ranks[stage], task.destination
        if task.link is None:
            return Step(task.source, task.target, task.costs, 0)
        queue, bandwidth = queues.get(pair), task.link.bandwidth_bytes_per_s
        if varied and queue is None:
            queue = queues.setdefault(pair, [0.0])
        alone_s = 0 if queue else occupied_s(task.link, task.costs[0].sent_bytes)
        delay_s = alone_s + task.link.latency_s
        return Step(task.source, task.target, task.costs, delay_s, queue, bandwidth)

    return {kind: [step(kind, stage) for stage in range(len(tasks[kind]))] for kind in tasks}
