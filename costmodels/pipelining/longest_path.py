"""A longest path through the actions of an order, without events.

Each rank is a coroutine that plays its actions as far as their inputs are known; who hands over an
input that a rank waits for wakes it. Closed forms that replay an order and the simulator's fast
engine both run on it: the first know a time for each action and one for a hand-over, the second
sizes, memory and links that may be busy.

An action waits for one arrival: a forward for that of the virtual stage before, a backward or an
input gradient for that of the one after, and at the end of a chain for its own forward. A weight
gradient comes after its input gradient on the same rank, so that it never waits. Arrivals are
looked up by microbatch in lists that the sender and the receiver share.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from costmodels.pipelining.actions import Action, ActionKind

UNKNOWN = -1.0
"""An arrival that nobody knows yet; a number, so that an engine compares without a type check."""

_FIRST_MARK = UNKNOWN - 1.0
"""A rank that waits leaves this less its index where the arrival is to be noted."""

_GRADIENT_KINDS = (ActionKind.BACKWARD, ActionKind.INPUT_GRADIENT)


class Cost(NamedTuple):
    """What one action takes and changes.

    Attributes
    ----------
    duration_s : float
        How long its rank is busy [s].
    delta_bytes : int
        What it allocates at its start less what it releases at its end; one of them is zero [byte].
    sent_bytes : int
        What it hands over [byte].
    """

    duration_s: float
    delta_bytes: int
    sent_bytes: int


class Port(NamedTuple):
    """Where an action of one kind and virtual stage finds its input and leaves its output.

    Attributes
    ----------
    source : list of float
        By microbatch, when its input is there [s].
    target : list of float
        By microbatch, where the arrival of its output is noted [s].
    taker : int or None
        The virtual stage that takes the output; None where it stays, or nobody takes it.
    """

    source: list[float]
    target: list[float]
    taker: int | None


def ports(
    preceding: Sequence[int | None], following: Sequence[int | None], microbatch_count: int
) -> Mapping[ActionKind, Sequence[Port]]:
    """Return the ports of each kind of action by virtual stage.

    Parameters
    ----------
    preceding, following : sequence of int or None
        By virtual stage, the one before it and the one after it.
    microbatch_count : int
        Length of the lists [count].
    """
    stages = range(len(preceding))
    activations = [[UNKNOWN] * microbatch_count for _ in stages]
    gradients = [[UNKNOWN] * microbatch_count for _ in stages]
    at_once, nowhere = [0.0] * microbatch_count, [UNKNOWN] * microbatch_count

    def port(kind: ActionKind, stage: int) -> Port:
        before, after = preceding[stage], following[stage]
        if kind is ActionKind.FORWARD:
            source = at_once if before is None else activations[stage]
            return Port(source, gradients[stage] if after is None else activations[after], after)
        if kind in _GRADIENT_KINDS:
            return Port(gradients[stage], nowhere if before is None else gradients[before], before)
        return Port(at_once, nowhere, None)

    return {kind: [port(kind, stage) for stage in stages] for kind in ActionKind}


class Step(NamedTuple):
    """An action as the loop of a rank needs it, and what the link adds to its hand-over.

    Attributes
    ----------
    source, target : list of float
        As of `Port`.
    costs : sequence of Cost
        By microbatch.
    delay_s : float
        From its end, or the end of its sending on a link that may be busy, to its arrival [s].
    queue : list of float or None
        Where a link that may be busy keeps the time at which it is free; None where each message
        has left before the next is made, so that the delay is a constant.
    bandwidth_bytes_per_s : float
        Of that link [byte/s].
    """

    source: list[float]
    target: list[float]
    costs: Sequence[Cost]
    delay_s: float
    queue: list[float] | None = None
    bandwidth_bytes_per_s: float = 1


class EqualStep(NamedTuple):
    """A step whose actions are alike, and whose link has always sent one message before the next."""

    source: list[float]
    target: list[float]
    duration_s: float
    delta_bytes: int
    delay_s: float


class Played(NamedTuple):
    """When actions start, as far as they could be played.

    Attributes
    ----------
    starts_s : list of list of float
        By rank, when its actions start, in its order; fewer than it has where ranks wait for each
        other forever [s].
    ends_s : list of float
        By rank, when its last action ends [s].
    peak_bytes : list of int
        By rank, the most that its actions hold at once, without what is held all the time [byte].
    """

    starts_s: list[list[float]]
    ends_s: list[float]
    peak_bytes: list[int]

    @classmethod
    def empty(cls, rank_count: int) -> "Played":
        """Return what is found before anything was played."""
        return cls([[] for _ in range(rank_count)], [0] * rank_count, [0] * rank_count)


def units_of(actions: Sequence[Action], pairs: frozenset[int]) -> Iterator[Sequence[Action]]:
    """Yield the actions of a rank in order, those that run together with the next as one."""
    place = 0
    while place < len(actions):
        size = 2 if place in pairs else 1
        yield actions[place : place + size]
        place += size


def play_equal(
    rows: Sequence[Sequence[Action]], steps: Mapping[ActionKind, Sequence[EqualStep]]
) -> Played:
    """Return when actions start that are alike for all microbatches, on links never busy."""
    played, woken = Played.empty(len(rows)), list(range(len(rows) - 1, -1, -1))
    ranks = [_equal_rank(rank, row, steps, played, woken) for rank, row in enumerate(rows)]
    return _run(ranks, played, woken)


def play_units(
    units: Sequence[Iterable[Sequence[Action]]], steps: Mapping[ActionKind, Sequence[Step]]
) -> Played:
    """Return when actions start that differ, run together, or wait for a busy link.

    Those of a unit wait for the inputs of all, run one after the other, and hand over at its end.
    """
    played, woken = Played.empty(len(units)), list(range(len(units) - 1, -1, -1))
    ranks = [_unit_rank(rank, of_rank, steps, played, woken) for rank, of_rank in enumerate(units)]
    return _run(ranks, played, woken)


def _run(ranks: Sequence[Generator[None]], played: Played, woken: list[int]) -> Played:
    while woken:
        next(ranks[woken.pop()], None)
    return played


def _equal_rank(
    rank: int,
    actions: Sequence[Action],
    steps: Mapping[ActionKind, Sequence[EqualStep]],
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


def _unit_rank(
    rank: int,
    units: Iterable[Sequence[Action]],
    steps: Mapping[ActionKind, Sequence[Step]],
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


def _hand_over(step: Step, microbatch: int, now_s: float, woken: list[int]) -> None:
    waiting = step.target[microbatch]
    if step.queue is not None:
        size = step.costs[microbatch].sent_bytes
        step.queue[0] = max(step.queue[0], now_s) + size / step.bandwidth_bytes_per_s
        now_s = step.queue[0]
    step.target[microbatch] = now_s + step.delay_s
    if waiting <= _FIRST_MARK:
        woken.append(int(_FIRST_MARK - waiting))
