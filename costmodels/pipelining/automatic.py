"""An order searched for: given times of actions and a limit on memory, little waiting.

After the heuristic of the zero-bubble paper: forwards as far as memory lets them, then a forward
and an input gradient in turn, and weight gradients where a rank would wait or where memory is full.
Rules of this kind are played greedily, many of them, and the best order is kept. Fixed orders that
keep within the limit take part, so that the result is never worse than they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.orders import ONE_CHUNK_REQUIREMENT
from costmodels.pipelining.placements import looped
from costmodels.pipelining.playing import Playing, play
from costmodels.pipelining.zero_bubble import zb_h1, zb_h1_is_legal, zb_h2

_F, _I, _W = ActionKind.FORWARD, ActionKind.INPUT_GRADIENT, ActionKind.WEIGHT_GRADIENT

_WARMUP_SLOPES = (1.0, 1.5, 2.0, 2.5, 3.0)
_PATIENCE = (0.0, 0.5, 1.0)
_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long the actions of a stage take, by virtual stage, one on each rank.

    Attributes
    ----------
    forward_s, input_gradient_s, weight_gradient_s : tuple of float
        Times for one microbatch on each rank [s].
    hop_s : float
        From the end of an action to the arrival of its output on the next rank [s].
    """

    forward_s: tuple[float, ...]
    input_gradient_s: tuple[float, ...]
    weight_gradient_s: tuple[float, ...]
    hop_s: float = 0.0

    def __post_init__(self) -> None:
        lengths = {
            len(times) for times in (self.forward_s, self.input_gradient_s, self.weight_gradient_s)
        }
        if lengths == {0} or len(lengths) != 1:
            raise SpecError(f"each rank takes one time of each kind, but there are {lengths}")

    @property
    def rank_count(self) -> int:
        """Ranks of the pipeline [count]."""
        return len(self.forward_s)


class _Memory(NamedTuple):
    """Microbatches that a rank may hold, and the share that a weight gradient waits with."""

    limit: int
    kept_fraction: float


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a rank chooses: forwards that warm up, and how it takes turns.

    A rank has at most 1 + slope (p - 1 - rank) microbatches whose input gradient is not done. It
    starts a weight gradient where the input that it waits for comes later than `patience` weight
    gradients from now.
    """

    slope: float
    patience: float
    gradients_first: bool


def automatic_order(
    times: StageTimes, *, microbatch_count: int, held_limit: int, kept_fraction: float = 1.0
) -> Order:
    """Return an order that waits little and holds at most `held_limit` microbatches on a rank.

    Parameters
    ----------
    times : StageTimes
        Times of each rank's actions, in any one unit.
    microbatch_count : int
        Microbatches in a step [count].
    held_limit : int
        Microbatches whose activations a rank may hold at once [count].
    kept_fraction : float, optional
        Share of a microbatch's activations that is kept from the end of its input gradient to the
        end of its weight gradient; all, as torch keeps them, if left out [fraction].

    Returns
    -------
    Order
        For each rank, its actions, with every backward in halves. The same input always gives the
        same order. No rank's span is longer than the longest of ZB-H1 or of ZB-H2, where these
        exist and hold no more than the limit.

    Raises
    ------
    SpecError
        If a size or the limit is below one, or `kept_fraction` is not from 0 to 1.

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, section 3.1 (the
       heuristic; the paper refines it by integer programming, which this does not).
       arXiv:2401.10241.

    Examples
    --------
    >>> times = StageTimes(
    ...     forward_s=(1.0, 1.0), input_gradient_s=(1.0, 1.0), weight_gradient_s=(1.0, 1.0)
    ... )
    >>> order = automatic_order(times, microbatch_count=3, held_limit=2)
    >>> max(int(held_most(row)) for row in order)
    2
    """
    if microbatch_count < 1 or held_limit < 1:
        raise SpecError(
            "an automatic schedule takes a microbatch_count and a held_limit of at least 1, but "
            f"microbatch_count is {microbatch_count} and held_limit is {held_limit}"
        )
    if not 0 <= kept_fraction <= 1:
        raise SpecError(f"kept_fraction ({kept_fraction}): expected a share from 0 to 1")
    return min(
        _candidates(times, microbatch_count, _Memory(held_limit, kept_fraction)),
        key=lambda order: _cost(order, times),
    )


def zb_auto(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order searched for equal times of F, I and W, and as many microbatches as ranks.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches in a step [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.
    """
    if virtual_stages != 1:
        raise SpecError(f"zb-auto {ONE_CHUNK_REQUIREMENT}, but virtual_stages is {virtual_stages}")
    equal = (1.0,) * pipeline_parallel_size
    times = StageTimes(forward_s=equal, input_gradient_s=equal, weight_gradient_s=equal)
    return automatic_order(
        times, microbatch_count=microbatch_count, held_limit=pipeline_parallel_size
    )


def held_most(row: Sequence[Action], *, kept_fraction: float = 1.0) -> float:
    """Return how many microbatches' activations a rank holds at most [count].

    Parameters
    ----------
    row : sequence of Action
        What the rank does, with its backwards in halves.
    kept_fraction : float, optional
        Share that is kept from the end of an input gradient to the end of the weight gradient.
    """
    done = dict.fromkeys(ActionKind, 0)
    most = 0.0
    for action in row:
        done[action.kind] += 1
        if action.kind is _F:
            most = max(most, _held(done, kept_fraction))
    return most


def _held(done: Mapping[ActionKind, int], kept_fraction: float) -> float:
    """Return what is held after some actions [count]; exact where all or nothing is kept."""
    return done[_F] - done[_I] + kept_fraction * (done[_I] - done[_W])


def _cost(order: Order, times: StageTimes) -> tuple[float, float]:
    """Return the longest span of a rank, and of equal ones the end of the last [s]."""
    playing = played(order, times)
    return playing.longest_span_s, playing.makespan_s


def played(order: Order, times: StageTimes) -> Playing:
    """Return when the actions of an order with one stage on each rank end.

    Parameters
    ----------
    order : Order
        For each rank, its actions, with every backward in halves.
    times : StageTimes
        How long they take.
    """
    return play(
        order,
        looped(pipeline_parallel_size=times.rank_count, virtual_stages=1),
        {_F: times.forward_s, _I: times.input_gradient_s, _W: times.weight_gradient_s},
        hop_s=times.hop_s,
    )


def _candidates(times: StageTimes, microbatch_count: int, memory: _Memory) -> Iterator[Order]:
    """Yield orders that keep within the limit: fixed ones first, then one of each rule."""
    sizes = {
        "pipeline_parallel_size": times.rank_count,
        "virtual_stages": 1,
        "microbatch_count": microbatch_count,
    }
    fixed = [zb_h2(**sizes)]
    if zb_h1_is_legal(**sizes):
        fixed.insert(0, zb_h1(**sizes))
    for order in fixed:
        most = max(held_most(row, kept_fraction=memory.kept_fraction) for row in order)
        if most <= memory.limit:
            yield order
    for slope, patience, gradients_first in product(_WARMUP_SLOPES, _PATIENCE, (True, False)):
        rule = _Rule(slope, patience, gradients_first)
        yield _Greedy(times, microbatch_count, memory, rule).order()


class _Greedy:
    """All ranks at once, each doing what its rule says with what has arrived."""

    def __init__(
        self, times: StageTimes, microbatch_count: int, memory: _Memory, rule: _Rule
    ) -> None:
        count = times.rank_count
        self._times, self._rule = times, rule
        self._microbatches, self._memory = microbatch_count, memory
        self._rows: list[list[Action]] = [[] for _ in range(count)]
        self._free_s = [0.0] * count
        self._done = [dict.fromkeys((_F, _I, _W), 0) for _ in range(count)]
        self._ends: list[dict[ActionKind, list[float]]] = [{_F: [], _I: []} for _ in range(count)]
        self._durations = {
            _F: times.forward_s,
            _I: times.input_gradient_s,
            _W: times.weight_gradient_s,
        }

    def order(self) -> Order:
        """Play to the end, always the action that can start first, and return what was done."""
        ranks = range(self._times.rank_count)
        choices = [self._choice(rank) for rank in ranks]
        for _ in range(3 * self._microbatches * len(ranks)):
            start_s, rank, kind = min(choice for choice in choices if choice is not None)
            self._do(rank, kind, start_s)
            # What a rank hands over is new to its neighbours alone.
            for changed in range(max(rank - 1, 0), min(rank + 2, len(ranks))):
                choices[changed] = self._choice(changed)
        return tuple(map(tuple, self._rows))

    def _do(self, rank: int, kind: ActionKind, start_s: float) -> None:
        done = self._done[rank]
        self._rows[rank].append(Action(rank, kind, done[kind]))
        done[kind] += 1
        end_s = start_s + self._durations[kind][rank]
        self._free_s[rank] = end_s
        if kind is not _W:
            self._ends[rank][kind].append(end_s)

    def _choice(self, rank: int) -> tuple[float, int, ActionKind] | None:
        """Return when and what a rank would do next; None where it must wait for others."""
        free_s = self._free_s[rank]
        starts = {kind: max(free_s, self._arrival_s(rank, kind)) for kind in (_F, _I)}
        kind = min((_I, _F) if self._prefers_gradient(rank) else (_F, _I), key=starts.__getitem__)
        done = self._done[rank]
        patience_s = self._rule.patience * self._times.weight_gradient_s[rank]
        if done[_W] < done[_I] and starts[kind] > free_s + patience_s:
            return free_s, rank, _W
        return None if starts[kind] == _NEVER else (starts[kind], rank, kind)

    def _prefers_gradient(self, rank: int) -> bool:
        """Return whether an input gradient goes first where both it and a forward could start."""
        if self._rule.gradients_first:
            return True
        row = self._rows[rank]
        return bool(row) and next((a.kind for a in reversed(row) if a.kind is not _W), _I) is _F

    def _arrival_s(self, rank: int, kind: ActionKind) -> float:
        """Return when the next action of a kind has its input; never, as far as is known."""
        done = self._done[rank]
        number = done[kind]
        if number >= self._microbatches:
            return _NEVER
        if kind is _F:
            held = _held(done, self._memory.kept_fraction)
            if held + 1 > self._memory.limit or done[_F] - done[_I] >= self._warmup(rank):
                return _NEVER
            return 0.0 if rank == 0 else self._end_s(rank - 1, _F, number) + self._times.hop_s
        if rank == self._times.rank_count - 1:
            return self._end_s(rank, _F, number)
        return self._end_s(rank + 1, _I, number) + self._times.hop_s

    def _warmup(self, rank: int) -> int:
        return 1 + int(self._rule.slope * (self._times.rank_count - 1 - rank))

    def _end_s(self, rank: int, kind: ActionKind, number: int) -> float:
        ends = self._ends[rank][kind]
        return ends[number] if number < len(ends) else _NEVER
