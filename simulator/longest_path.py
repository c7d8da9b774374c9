"""The fast engine: a longest path through the action graph, without events.

It serves steps without chance and without links that several senders share, and gives the same
times as the event simulator there, to within rounding. Each rank is a coroutine that plays its
actions as far as their inputs are known; who hands over an input that a rank waits for wakes it.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import NamedTuple

from costmodels.pipelining.actions import Action, ActionKind
from simulator.deadlocks import refuse_deadlock
from simulator.program import PipelineProgram
from simulator.record import Record
from simulator.resources import Link
from simulator.tasks import UNKNOWN, Cost, Tasks, occupied_s

_FIRST_MARK = UNKNOWN - 1.0
"""A rank that waits leaves this less its index where the arrival is to be noted."""


class _Step(NamedTuple):
    """A task as the loop of a rank needs it: after the hand-over, what the link adds.

    `queue` is where a link that may be busy keeps the time at which it is free; None where each
    message has left before the next is made, so that the delay is a constant.
    """

    source: list[float]
    target: list[float]
    costs: Sequence[Cost]
    delay_s: float
    queue: list[float] | None
    bandwidth_bytes_per_s: float


class _EqualStep(NamedTuple):
    """A step whose actions are alike, and whose link has always sent one message before the next."""

    source: list[float]
    target: list[float]
    duration_s: float
    delta_bytes: int
    delay_s: float


class Played(NamedTuple):
    """What the fast engine finds.

    Attributes
    ----------
    starts_s : list of list of float
        By rank, when its actions start, in program order [s].
    ends_s : list of float
        By rank, when its last action ends [s].
    peak_bytes : list of int
        By rank, the most that its actions hold at once, without what is held all the time [byte].
    """

    starts_s: list[list[float]]
    ends_s: list[float]
    peak_bytes: list[int]


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
    rank_count = len(program.order)
    played = Played([[] for _ in range(rank_count)], [0] * rank_count, [0] * rank_count)
    woken: list[int] = list(range(rank_count - 1, -1, -1))
    equal = _equal_steps(steps) if _is_equal(program, steps) else None
    ranks = [
        _play_units(rank, program.units(rank), steps, played, woken)
        if equal is None
        else _play_rank(rank, actions, equal, played, woken)
        for rank, actions in enumerate(program.order)
    ]
    while woken:
        next(ranks[woken.pop()], None)
    refuse_deadlock(program, list(map(len, played.starts_s)))
    return played


def _play_rank(
    rank: int,
    actions: Sequence[Action],
    steps: Mapping[ActionKind, Sequence[_EqualStep]],
    played: Played,
    woken: list[int],
) -> Generator[None]:
    """Play the actions of a rank, alike for all microbatches, one at a time, on links never busy.

    Yields
    ------
    None
        While an input is not known.
    """
    # One loop without calls, not even of max(): this is where the engine spends its time.
    start_at, first_mark = played.starts_s[rank].append, _FIRST_MARK
    mark = first_mark - rank
    clock_s: float = 0
    held = peak = 0
    for stage, kind, microbatch in actions:
        source, target, duration_s, delta, delay_s = steps[kind][stage]
        arrival_s = source[microbatch]
        if arrival_s < 0:
            source[microbatch] = mark
            yield
            arrival_s = source[microbatch]
        if arrival_s > clock_s:  # noqa: PLR1730
            clock_s = arrival_s
        start_at(clock_s)
        clock_s += duration_s
        held += delta
        if held > peak:  # noqa: PLR1730
            peak = held
        waiting = target[microbatch]
        target[microbatch] = clock_s + delay_s
        if waiting <= first_mark:
            woken.append(int(first_mark - waiting))
    played.ends_s[rank] = clock_s
    played.peak_bytes[rank] = peak


def _play_units(
    rank: int,
    units: Iterable[Sequence[Action]],
    steps: dict[ActionKind, list[_Step]],
    played: Played,
    woken: list[int],
) -> Generator[None]:
    """Play the actions of a rank that differ, run together, or wait for a busy link.

    Yields
    ------
    None
        While an input is not known.
    """
    clock_s: float = 0
    held = peak = 0
    for unit in units:
        for stage, kind, microbatch in unit:
            source = steps[kind][stage].source
            if source[microbatch] < 0:
                source[microbatch] = _FIRST_MARK - rank
                yield
            clock_s = max(clock_s, source[microbatch])
        for stage, kind, microbatch in unit:
            played.starts_s[rank].append(clock_s)
            duration_s, delta, _ = steps[kind][stage].costs[microbatch]
            clock_s += duration_s
            held += delta
            peak = max(peak, held)
        for stage, kind, microbatch in unit:
            _hand_over(steps[kind][stage], microbatch, clock_s, woken)
    played.ends_s[rank] = clock_s
    played.peak_bytes[rank] = peak


def _hand_over(step: _Step, microbatch: int, now_s: float, woken: list[int]) -> None:
    waiting = step.target[microbatch]
    if step.queue is not None:
        size = step.costs[microbatch].sent_bytes
        step.queue[0] = max(step.queue[0], now_s) + size / step.bandwidth_bytes_per_s
        now_s = step.queue[0]
    step.target[microbatch] = now_s + step.delay_s
    if waiting <= _FIRST_MARK:
        woken.append(int(_FIRST_MARK - waiting))


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


def _is_equal(program: PipelineProgram, steps: Mapping[ActionKind, Sequence[_Step]]) -> bool:
    queued = any(step.queue is not None for of_kind in steps.values() for step in of_kind)
    return not (queued or program.is_varied() or any(program.overlapped))


def _equal_steps(
    steps: Mapping[ActionKind, Sequence[_Step]],
) -> Mapping[ActionKind, Sequence[_EqualStep]]:
    def equal(step: _Step) -> _EqualStep:
        # Without any microbatch there is no action either.
        duration_s, delta, _ = step.costs[0] if step.costs else Cost(0, 0, 0)
        return _EqualStep(step.source, step.target, duration_s, delta, step.delay_s)

    return {kind: [equal(step) for step in of_kind] for kind, of_kind in steps.items()}


def _steps(program: PipelineProgram, tasks: Tasks) -> dict[ActionKind, list[_Step]]:
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

    def step(kind: ActionKind, stage: int) -> _Step:
        task = tasks[kind][stage]
        pair = ranks[stage], task.destination
        if task.link is None:
            return _Step(task.source, task.target, task.costs, 0, None, 1)
        queue, bandwidth = queues.get(pair), task.link.bandwidth_bytes_per_s
        if varied and queue is None:
            queue = queues.setdefault(pair, [0.0])
        alone_s = 0 if queue else occupied_s(task.link, task.costs[0].sent_bytes)
        delay_s = alone_s + task.link.latency_s
        return _Step(task.source, task.target, task.costs, delay_s, queue, bandwidth)

    return {kind: [step(kind, stage) for stage in range(len(tasks[kind]))] for kind in tasks}
