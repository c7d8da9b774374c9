"""What the ranks of a pipeline are to do in one step, and how long each piece takes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
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

    def __post_init__(self) -> None:
        for name in (
            "reduction_s",
            "reduction_last_s",
            "replicated_s",
            "tied_s",
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
    """All that `simulate_pipeline` needs.

    Attributes
    ----------
    order : Order
        For each rank, its actions.
    forward, backward : sequence of ActionWork
        By virtual stage.
    activation_bytes : sequence of int
        By virtual stage, what is stored from the start of a forward until its backward ends [byte].
    static_bytes : sequence of int
        By rank, what is held all the time [byte].
    step_ends : sequence of StepEnd
        By rank.
    links : mapping of (int, int) to LinkSpec
        By source and destination rank, for all pairs that hand over.
    """

    order: Order
    forward: Sequence[ActionWork]
    backward: Sequence[ActionWork]
    activation_bytes: Sequence[int]
    static_bytes: Sequence[int]
    step_ends: Sequence[StepEnd]
    links: Mapping[tuple[int, int], LinkSpec]

    def __post_init__(self) -> None:
        for name in ("backward", "activation_bytes"):
            _refuse_length(name, len(getattr(self, name)), len(self.forward), "virtual stages")
        for name in ("static_bytes", "step_ends"):
            _refuse_length(name, len(getattr(self, name)), len(self.order), "ranks")
        _refuse_repeated(self.order)
        self._refuse_missing_links()

    @property
    def stage_count(self) -> int:
        """Virtual stages in the whole pipeline [count]."""
        return len(self.forward)

    def microbatch_count(self) -> int:
        """Return how many microbatches the order goes up to [count]."""
        microbatches = (action.microbatch for actions in self.order for action in actions)
        return 1 + max(microbatches, default=-1)

    def stage_ranks(self) -> dict[int, int]:
        """Return the rank of each virtual stage.

        Raises
        ------
        SpecError
            If a stage is on two ranks, on none, or is none of the program's.
        """
        stages_of_rank = [{action.stage for action in actions} for actions in self.order]
        ranks = {stage: rank for rank, stages in enumerate(stages_of_rank) for stage in stages}
        if sum(map(len, stages_of_rank)) != len(ranks) or ranks.keys() != set(
            range(self.stage_count)
        ):
            placed = [sorted(stages) for stages in stages_of_rank]
            raise SpecError(
                f"order places virtual stages {placed} on the ranks, but each of the "
                f"{self.stage_count} virtual stages must be on one rank"
            )
        return ranks

    def next_action(self, action: Action) -> Action | None:
        """Return the action that takes what this one makes; None after the last.

        A microbatch goes forward through all virtual stages, and backward through them again.
        """
        stage, kind, microbatch = action
        if kind is ActionKind.BACKWARD:
            return Action(stage - 1, kind, microbatch) if stage > 0 else None
        if stage + 1 < self.stage_count:
            return Action(stage + 1, kind, microbatch)
        return Action(stage, ActionKind.BACKWARD, microbatch)

    def previous_action(self, action: Action) -> Action | None:
        """Return the action that makes what this one takes; None before the first."""
        stage, kind, microbatch = action
        if kind is ActionKind.FORWARD:
            return Action(stage - 1, kind, microbatch) if stage > 0 else None
        if stage + 1 < self.stage_count:
            return Action(stage + 1, kind, microbatch)
        return Action(stage, ActionKind.FORWARD, microbatch)

    def _refuse_missing_links(self) -> None:
        missing = sorted(set(self._crossed_pairs()) - self.links.keys())
        if missing:
            raise SpecError(f"links has no entry for the pairs of ranks {missing}")

    def _crossed_pairs(self) -> Iterator[tuple[int, int]]:
        ranks = self.stage_ranks()
        for stage in range(self.stage_count - 1):
            if ranks[stage] != ranks[stage + 1]:
                yield ranks[stage], ranks[stage + 1]
                yield ranks[stage + 1], ranks[stage]


def _refuse_negative(name: str, duration_s: float) -> None:
    # "not >=" refuses NaN too, which would silently disorder the simulation's queue.
    if not duration_s >= 0:
        raise SpecError(f"{name} ({duration_s}) must not be negative")


def _refuse_length(name: str, length: int, expected: int, of_what: str) -> None:
    if length != expected:
        raise SpecError(f"{name} has {length} entries for {expected} {of_what}")


def _refuse_repeated(order: Order) -> None:
    counts = Counter(action for actions in order for action in actions)
    repeated = [str(action) for action, count in counts.items() if count > 1]
    if repeated:
        raise SpecError(f"order repeats the actions {', '.join(repeated)}")
