"""What an order implies: whether it can be played, when each action ends, what a rank holds.

An action starts when its rank is free and its input is there. A forward takes the output of the
stage before; a backward, or its input-gradient half, takes the gradient of the stage after, and on
the last stage follows its own forward; the weight-gradient half follows the other half.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import add
from typing import NamedTuple

from costmodels.errors import SpecError
from costmodels.pipelining.actions import RETURNING, Action, ActionKind, Order
from costmodels.pipelining.longest_path import (
    Cost,
    EqualStep,
    Step,
    play_equal,
    play_units,
    ports,
    units_of,
)
from costmodels.pipelining.placements import Placement

Durations = Mapping[ActionKind, Sequence[float]]
"""For each kind of action, its time on every virtual stage [s]."""


class Playing(NamedTuple):
    """When the actions of an order end, with links that nobody shares.

    Attributes
    ----------
    ends_s : tuple of tuple of float
        For each rank and action, its end [s].
    busy_s : tuple of float
        For each rank, the sum of its actions' times [s].
    start_s : tuple of float
        For each rank, the start of its first action [s].
    """

    ends_s: tuple[tuple[float, ...], ...]
    busy_s: tuple[float, ...]
    start_s: tuple[float, ...]

    @property
    def makespan_s(self) -> float:
        """End of the last action of any rank [s]."""
        return max((ends[-1] for ends in self.ends_s if ends), default=0.0)

    @property
    def longest_span_s(self) -> float:
        """Longest time of any rank from its first action to its last [s]."""
        spans = (
            ends[-1] - start for ends, start in zip(self.ends_s, self.start_s, strict=True) if ends
        )
        return max(spans, default=0.0)


def play(
    order: Order,
    placement: Placement,
    durations: Durations,
    *,
    hop_s: float = 0.0,
    overlapped: Sequence[frozenset[int]] | None = None,
) -> Playing:
    """Return when each action of an order ends, by the longest path through what it waits for.

    Parameters
    ----------
    order : Order
        For each rank, its actions.
    placement : Placement
        Where the virtual stages are.
    durations : mapping of ActionKind to sequence of float
        Times of the kinds that the order uses, by virtual stage [s].
    hop_s : float, optional
        From the end of an action to the arrival of its output on another rank [s].
    overlapped : sequence of frozenset of int, optional
        For each rank the places of the forwards that run together with the action after them: both
        start when both inputs are there, and end together after the sum of their times. Left out,
        they run one after the other.

    Returns
    -------
    Playing
        Ends of all actions; links are private and always free.

    Raises
    ------
    SpecError
        If ranks wait for each other forever: the message names the circle.
    """
    count = 1 + max((a.microbatch for row in order for a in row), default=-1)
    steps = _steps(placement, durations, count, hop_s)
    playable = [_up_to_early_weights(row) for row in order]
    if overlapped is not None and any(overlapped):
        pairs = zip(playable, overlapped, strict=True)
        played = play_units([units_of(*entry) for entry in pairs], steps)
    else:
        played = play_equal(playable, _equal(steps))
        overlapped = None
    if list(map(len, played.starts_s)) != list(map(len, order)):
        raise SpecError(f"the order deadlocks: {_circle(order, placement, played.starts_s)}")
    times = [[durations[kind][stage] for stage, kind, _ in row] for row in order]
    ends = [list(map(add, *entry)) for entry in zip(played.starts_s, times, strict=True)]
    for of_rank, places in zip(ends, overlapped or (), strict=False):
        for place in places:
            of_rank[place] = of_rank[place + 1]
    return Playing(
        ends_s=tuple(map(tuple, ends)),
        busy_s=tuple(map(sum, times)),
        start_s=tuple(starts[0] if starts else 0.0 for starts in played.starts_s),
    )


def _steps(
    placement: Placement, durations: Durations, microbatch_count: int, hop_s: float
) -> dict[ActionKind, list[Step]]:
    """Return what actions take and wait for, where a message travels between ranks only."""
    ranks = placement.ranks
    of_kind = ports(placement.preceding(), placement.following, microbatch_count)

    def step(kind: ActionKind, stage: int) -> Step:
        source, target, taker = of_kind[kind][stage]
        costs = [Cost(durations[kind][stage], 0, 0)] * microbatch_count
        travels = taker is not None and ranks[taker] != ranks[stage]
        return Step(source, target, costs, hop_s if travels else 0)

    stages = range(placement.stage_count)
    return {kind: [step(kind, stage) for stage in stages] for kind in durations}


def _equal(steps: Mapping[ActionKind, Sequence[Step]]) -> dict[ActionKind, list[EqualStep]]:
    return {
        kind: [
            EqualStep(one.source, one.target, one.costs[0].duration_s, 0, one.delay_s)
            for one in of_kind
            if one.costs
        ]
        for kind, of_kind in steps.items()
    }


def _up_to_early_weights(row: Sequence[Action]) -> Sequence[Action]:
    """Return the actions before a weight gradient that comes before its input gradient."""
    done: set[tuple[int, int]] = set()
    for place, (stage, kind, microbatch) in enumerate(row):
        if kind is ActionKind.INPUT_GRADIENT:
            done.add((stage, microbatch))
        elif kind is ActionKind.WEIGHT_GRADIENT and (stage, microbatch) not in done:
            return row[:place]
    return row


def needed_by(action: Action, placement: Placement, order: Order) -> Action | None:
    """Return the action whose output an action takes, None for the first stage's forward."""
    stage, kind, microbatch = action
    if kind is ActionKind.FORWARD:
        before = placement.preceding()[stage]
        return None if before is None else Action(before, kind, microbatch)
    if kind is ActionKind.WEIGHT_GRADIENT:
        return Action(stage, ActionKind.INPUT_GRADIENT, microbatch)
    after = placement.following[stage]
    if after is None:
        return Action(stage, ActionKind.FORWARD, microbatch)
    candidates = [Action(after, returning, microbatch) for returning in RETURNING]
    held = set(order[placement.ranks[after]])
    return next((entry for entry in candidates if entry in held), candidates[0])


def _circle(order: Order, placement: Placement, ends: Sequence[Sequence[float]]) -> str:
    """Return the circle in which ranks wait for each other, or what nobody makes."""
    stuck = {
        rank: row[len(done)]
        for rank, (row, done) in enumerate(zip(order, ends, strict=True))
        if len(done) < len(row)
    }
    rank = min(stuck)
    seen: list[int] = []
    sentences = {}
    while rank not in seen:
        seen.append(rank)
        action = stuck[rank]
        needed = needed_by(action, placement, order)
        holder = None if needed is None else placement.ranks[needed.stage]
        sentences[rank] = f"rank {rank} waits at {action} for {needed}"
        if holder is None or needed not in order[holder]:
            return f"{sentences[rank]}, which no rank does"
        rank = holder
    circle = seen[seen.index(rank) :]
    return "; ".join(
        f"{sentences[entry]}, which rank {nearest} does later"
        for entry, nearest in zip(circle, [*circle[1:], circle[0]], strict=True)
    )


def check_order(order: Order, placement: Placement) -> None:
    """Raise unless every action is there once and the order can be played to its end.

    Parameters
    ----------
    order : Order
        For each rank, its actions.
    placement : Placement
        Where the virtual stages are.

    Raises
    ------
    SpecError
        If an action is repeated, missing or on the wrong rank, or if ranks wait in a circle.
    """
    _refuse_misplaced(order, placement)
    counts = Counter(action for row in order for action in row)
    repeated = [str(action) for action, count in counts.items() if count > 1]
    if repeated:
        raise SpecError(f"the order repeats {_some(repeated)}")
    missing = [str(action) for action in _missing(counts.keys(), placement)]
    if missing:
        raise SpecError(f"the order lacks {_some(missing)}")
    both = [
        f"{stage}B{microbatch}"
        for stage, kind, microbatch in counts
        if kind in (ActionKind.INPUT_GRADIENT, ActionKind.WEIGHT_GRADIENT)
        and Action(stage, ActionKind.BACKWARD, microbatch) in counts
    ]
    if both:
        raise SpecError(f"the order does {_some(sorted(set(both)))} both whole and in halves")
    still = dict.fromkeys(ActionKind, (0.0,) * placement.stage_count)
    play(order, placement, still)
    _refuse_early(order)


def _refuse_misplaced(order: Order, placement: Placement) -> None:
    for rank, row in enumerate(order):
        for action in row:
            if action.stage >= placement.stage_count or placement.ranks[action.stage] != rank:
                raise SpecError(f"the order has {action} on rank {rank}, where its stage is not")


def _refuse_early(order: Order) -> None:
    """Raise where a rank does a backward before its own forward."""
    for rank, row in enumerate(order):
        forwards: set[tuple[int, int]] = set()
        for action in row:
            key = (action.stage, action.microbatch)
            if action.kind is ActionKind.FORWARD:
                forwards.add(key)
            elif key not in forwards:
                raise SpecError(
                    f"the order has {action} on rank {rank} before its forward "
                    f"{action.stage}F{action.microbatch}"
                )


def _missing(actions: object, placement: Placement) -> Iterator[Action]:
    """Yield what every microbatch needs on its way through the model and is not there."""
    held = set(actions)  # type: ignore[call-overload]
    count = 1 + max((action.microbatch for action in held), default=-1)
    chains = placement.chains()
    for microbatch in range(count):
        taken = [
            chain
            for chain in chains
            if any(
                Action(stage, kind, microbatch) in held for stage in chain for kind in ActionKind
            )
        ]
        for stage in (taken or chains)[0]:
            yield from _missing_of_stage(held, stage, microbatch)
        for chain in taken[1:]:
            # A second way through the model is one too many: named by what it would lack.
            raise SpecError(
                f"microbatch {microbatch} goes two ways, through virtual stages "
                f"{taken[0][0]} and {chain[0]}"
            )


def _missing_of_stage(held: set[Action], stage: int, microbatch: int) -> Iterator[Action]:
    forward, backward, inputs, weights = (Action(stage, kind, microbatch) for kind in ActionKind)
    if forward not in held:
        yield forward
    if backward in held:
        return
    if inputs not in held and weights not in held:
        yield backward
        return
    yield from (half for half in (inputs, weights) if half not in held)


def _some(names: Sequence[str]) -> str:
    """Return the first few of some names, with how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
