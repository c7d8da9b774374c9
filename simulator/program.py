"""What the ranks of a pipeline are to do in one step, and how long each piece takes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.longest_path import units_of
from simulator.resources import LinkSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionWork:
    """What one action of a virtual stage takes; integers give exact integer times.

    Attributes
    ----------
    duration_s : float
        How long it keeps its rank busy [s].
    flop : int
        Its work [FLOP].
    hand_over_bytes : int
        What it sends to the virtual stage that goes on, if that is on another rank [byte].
    sent_bytes : mapping of str to int
        What it sends meanwhile on other parallel dimensions, by axis [byte].
    """

    duration_s: float
    flop: int
    hand_over_bytes: int
    sent_bytes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_negative("duration_s", self.duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """What a rank does after its last backward: reduce gradients, update, gather parameters.

    Attributes
    ----------
    reduction_s : float
        All of the reduction of gradients over the data-parallel group [s].
    reduction_last_s : float
        The part of it that cannot start before the last backward has ended [s].
    overlaps_backward : bool
        Whether the rest of it may run from the start of the last backward.
    reduction_bytes : int
        What it sends [byte].
    replicated_s : float
        The sum over tensor-parallel ranks of the gradients of what each of them holds [s].
    replicated_bytes : mapping of str to int
        What it sends, by axis [byte].
    tied_s : float
        The sum of the gradients of a tied embedding's copies, on the first and the last rank [s].
    tied_bytes : int
        What it sends [byte].
    copies_s : float
        The sum of the gradients of two copies of the layers that ranks of one pipeline hold [s].
    copies_bytes : int
        What it sends [byte].
    optimizer_s : float
        The update of the parameters [s].
    gather_s : float
        The gather of the parameters over the data-parallel group, as far as nothing hides it [s].
    gather_bytes : int
        What it sends [byte].
    """

    reduction_s: float
    reduction_last_s: float
    overlaps_backward: bool
    reduction_bytes: int
    optimizer_s: float
    gather_s: float
    gather_bytes: int
    replicated_s: float = 0
    replicated_bytes: Mapping[str, int] = field(default_factory=dict)
    tied_s: float = 0
    tied_bytes: int = 0
    copies_s: float = 0
    copies_bytes: int = 0

    def __post_init__(self) -> None:
        for name in (
            "reduction_s",
            "reduction_last_s",
            "replicated_s",
            "tied_s",
            "copies_s",
            "optimizer_s",
            "gather_s",
        ):
            _refuse_negative(name, getattr(self, name))
        if self.reduction_last_s > self.reduction_s:
            raise SpecError(
                f"reduction_last_s ({self.reduction_last_s}) is more than "
                f"reduction_s ({self.reduction_s}), of which it is a part"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineProgram:
    """All that an engine needs to play a step.

    Attributes
    ----------
    order : Order
        For each rank, its actions.
    forward, backward : sequence of ActionWork
        By virtual stage; a backward makes the gradients of inputs and of weights at once.
    activation_bytes : sequence of int
        By virtual stage, what is stored from the start of a forward until its backward ends [byte].
    static_bytes : sequence of int
        By rank, what is held all the time [byte].
    step_ends : sequence of StepEnd
        By rank.
    links : mapping of (int, int) to LinkSpec
        By source and destination rank, for all pairs that hand over.
    static_parts : sequence of mapping of str to int
        By rank, what its static memory consists of; empty where nobody asks [byte].
    input_gradient, weight_gradient : sequence of ActionWork
        By virtual stage, the two parts of a backward that is split; empty where the order has none.
    early_released_bytes : sequence of int
        By virtual stage, the part of the activations that an input gradient releases at its end;
        the weight gradient releases the rest. Empty stands for nothing [byte].
    successors : sequence of int or None
        By virtual stage, the one that takes its output, None for the last of a chain; empty stands
        for a single chain in the order of the stages.
    overlapped : sequence of frozenset of int
        By rank, places of actions that run together with the one after them: both wait for the
        inputs of both, take their times together, and hand over at the end of the second; empty
        where there are none [index].
    durations_s : mapping of ActionKind to sequence of sequence of float
        For kinds of action that do not last alike for all microbatches, by virtual stage and
        microbatch [s].
    microbatch_scales : sequence of float
        By microbatch, its size over that of the mean one, which scales what it stores and sends and
        its FLOP; empty where all are alike. What is given in `durations_s` is not scaled [ratio].
    """

    order: Order
    forward: Sequence[ActionWork]
    backward: Sequence[ActionWork]
    activation_bytes: Sequence[int]
    static_bytes: Sequence[int]
    step_ends: Sequence[StepEnd]
    links: Mapping[tuple[int, int], LinkSpec]
    static_parts: Sequence[Mapping[str, int]] = ()
    input_gradient: Sequence[ActionWork] = ()
    weight_gradient: Sequence[ActionWork] = ()
    early_released_bytes: Sequence[int] = ()
    successors: Sequence[int | None] = ()
    overlapped: Sequence[frozenset[int]] = ()
    durations_s: Mapping[ActionKind, Sequence[Sequence[float]]] = field(default_factory=dict)
    microbatch_scales: Sequence[float] = ()
    _microbatch_count: int = field(init=False, repr=False, compare=False)
    _stage_ranks: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_repeated(self.order)
        count = 1 + max(
            (max(a[2] for a in actions) for actions in self.order if actions), default=-1
        )
        # Found once: they go through all actions, and engines ask for them at every stage.
        object.__setattr__(self, "_microbatch_count", count)
        object.__setattr__(self, "_stage_ranks", _stage_ranks(self.order, len(self.forward)))
        for name in ("backward", "activation_bytes"):
            _refuse_length(name, len(getattr(self, name)), len(self.forward), "virtual stages")
        for name in ("input_gradient", "weight_gradient", "early_released_bytes", "successors"):
            if getattr(self, name):
                _refuse_length(name, len(getattr(self, name)), len(self.forward), "virtual stages")
        for name in ("static_bytes", "step_ends"):
            _refuse_length(name, len(getattr(self, name)), len(self.order), "ranks")
        for rank, parts in enumerate(self.static_parts):
            if sum(parts.values()) != self.static_bytes[rank]:
                raise SpecError(
                    f"static_parts of rank {rank} add up to {sum(parts.values())}, not to its "
                    f"static_bytes ({self.static_bytes[rank]})"
                )
        if self.microbatch_scales:
            count = self.microbatch_count()
            _refuse_length("microbatch_scales", len(self.microbatch_scales), count, "microbatches")
        self._refuse_wrong_pairs()
        self._refuse_early_release()
        self._refuse_missing_work()
        self._refuse_missing_links()

    @property
    def stage_count(self) -> int:
        """Virtual stages in the whole pipeline [count]."""
        return len(self.forward)

    def action_count(self) -> int:
        """Return the actions of all ranks [count]."""
        return sum(map(len, self.order))

    def microbatch_count(self) -> int:
        """Return how many microbatches the order goes up to [count]."""
        return self._microbatch_count

    def is_varied(self) -> bool:
        """Return whether microbatches differ in time or size."""
        return bool(self.durations_s or self.microbatch_scales)

    def kinds(self) -> tuple[ActionKind, ...]:
        """Return the kinds of action that the program has work for."""
        return tuple(kind for kind in ActionKind if self.works(kind))

    def works(self, kind: ActionKind) -> Sequence[ActionWork]:
        """Return the work of a kind of action by virtual stage, empty where there is none."""
        return {
            ActionKind.FORWARD: self.forward,
            ActionKind.BACKWARD: self.backward,
            ActionKind.INPUT_GRADIENT: self.input_gradient,
            ActionKind.WEIGHT_GRADIENT: self.weight_gradient,
        }[kind]

    def delta_bytes(self, kind: ActionKind, stage: int) -> Sequence[int]:
        """Return by microbatch what an action allocates, or releases if negative [byte]."""
        stored = self.scaled(self.activation_bytes[stage])
        early = self.scaled(self.early_released_bytes[stage] if self.early_released_bytes else 0)
        if kind is ActionKind.FORWARD:
            return stored
        if kind is ActionKind.INPUT_GRADIENT:
            return [-size_bytes for size_bytes in early]
        if kind is ActionKind.WEIGHT_GRADIENT:
            return [first - whole for whole, first in zip(stored, early, strict=True)]
        return [-size_bytes for size_bytes in stored]

    def scaled(self, amount: int) -> Sequence[int]:
        """Return bytes or FLOP of the mean microbatch for each microbatch, to the nearest unit."""
        if not self.microbatch_scales:
            return [amount] * self.microbatch_count()
        return [round(scale * amount) for scale in self.microbatch_scales]

    def stage_ranks(self) -> Mapping[int, int]:
        """Return the rank of each virtual stage."""
        return self._stage_ranks

    def next_stages(self) -> list[int | None]:
        """Return for each virtual stage the one that takes its output."""
        if self.successors:
            return list(self.successors)
        return [*range(1, self.stage_count), None]

    def previous_stages(self) -> list[int | None]:
        """Return for each virtual stage the one whose output it takes."""
        previous: list[int | None] = [None] * self.stage_count
        for stage, following in enumerate(self.next_stages()):
            if following is not None:
                previous[following] = stage
        return previous

    def previous_action(self, action: Action) -> Action | None:
        """Return the action that makes what this one takes; None before the first."""
        stage, kind, microbatch = action
        if kind is ActionKind.FORWARD:
            before = self.previous_stages()[stage]
            return None if before is None else Action(before, kind, microbatch)
        if kind is ActionKind.WEIGHT_GRADIENT:
            return Action(stage, ActionKind.INPUT_GRADIENT, microbatch)
        following = self.next_stages()[stage]
        if following is None:
            return Action(stage, ActionKind.FORWARD, microbatch)
        split = Action(following, ActionKind.INPUT_GRADIENT, microbatch)
        is_split = any(split in actions for actions in self.order)
        return split if is_split else Action(following, ActionKind.BACKWARD, microbatch)

    def units(self, rank: int) -> Iterator[Sequence[Action]]:
        """Return the actions of a rank in order, those that run together as one."""
        pairs = self.overlapped[rank] if self.overlapped else frozenset()
        return units_of(self.order[rank], pairs)

    def _refuse_wrong_pairs(self) -> None:
        if self.overlapped:
            _refuse_length("overlapped", len(self.overlapped), len(self.order), "ranks")
        for rank, places in enumerate(self.overlapped):
            for place in places:
                if not 0 <= place < len(self.order[rank]) - 1 or place + 1 in places:
                    raise SpecError(
                        f"overlapped has place {place} on rank {rank}, which is no pair of its "
                        f"{len(self.order[rank])} actions"
                    )

    def _refuse_early_release(self) -> None:
        for stage, early in enumerate(self.early_released_bytes):
            if not 0 <= early <= self.activation_bytes[stage]:
                raise SpecError(
                    f"early_released_bytes ({early}) of virtual stage {stage} is not a part of its "
                    f"activation_bytes ({self.activation_bytes[stage]})"
                )

    def _refuse_missing_work(self) -> None:
        kinds = {action[1] for actions in self.order for action in actions}
        for kind in sorted(kinds):
            if self.forward and not self.works(kind):
                raise SpecError(
                    f"order has {kind} actions, but the program has no work of {kind.name.lower()}"
                )
        for kind, durations in self.durations_s.items():
            _refuse_length(f"durations_s[{kind}]", len(durations), self.stage_count, "stages")
            for of_stage in durations:
                for duration_s in of_stage:
                    _refuse_negative("duration_s", duration_s)

    def _refuse_missing_links(self) -> None:
        missing = sorted(set(self._crossed_pairs()) - self.links.keys())
        if missing:
            raise SpecError(f"links has no entry for the pairs of ranks {missing}")

    def _crossed_pairs(self) -> Iterator[tuple[int, int]]:
        ranks = self.stage_ranks()
        for stage, following in enumerate(self.next_stages()):
            if following is not None and ranks[stage] != ranks[following]:
                yield ranks[stage], ranks[following]
                yield ranks[following], ranks[stage]


def _refuse_negative(name: str, duration_s: float) -> None:
    # "not >=" refuses NaN too, which would silently disorder the simulation's queue.
    if not duration_s >= 0:
        raise SpecError(f"{name} ({duration_s}) must not be negative")


def _refuse_length(name: str, length: int, expected: int, of_what: str) -> None:
    if length != expected:
        raise SpecError(f"{name} has {length} entries for {expected} {of_what}")


def _stage_ranks(order: Order, stage_count: int) -> dict[int, int]:
    """Return the rank of each virtual stage; each must be on one rank."""
    stages_of_rank = [{action[0] for action in actions} for actions in order]
    ranks = {stage: rank for rank, stages in enumerate(stages_of_rank) for stage in stages}
    if sum(map(len, stages_of_rank)) != len(ranks) or ranks.keys() != set(range(stage_count)):
        placed = [sorted(stages) for stages in stages_of_rank]
        raise SpecError(
            f"order places virtual stages {placed} on the ranks, but each of the "
            f"{stage_count} virtual stages must be on one rank"
        )
    return ranks


def _refuse_repeated(order: Order) -> None:
    # Sets of the ranks are cheap; the actions are counted only to name what is wrong.
    distinct = set().union(*map(set, order)) if order else set()
    if len(distinct) == sum(map(len, order)):
        return
    counts = Counter(action for actions in order for action in actions)
    repeated = [str(action) for action, count in counts.items() if count > 1]
    raise SpecError(f"order repeats the actions {', '.join(repeated)}")
