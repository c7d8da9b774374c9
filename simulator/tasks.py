"""What an action of each kind is to a virtual stage: the arrows of the action graph, as lists.

Both engines walk these lists. An action waits for one arrival: a forward for that of the virtual
stage before, a backward or an input gradient for that of the one after, and at the end of a chain for its
own forward. A weight gradient comes after its input gradient on the same rank, so that it never
waits. Arrivals are looked up by microbatch in lists that the sender and the receiver share.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind
from simulator.program import PipelineProgram
from simulator.resources import LinkSpec

UNKNOWN = -1.0
"""An arrival that nobody knows yet; a number, so that an engine compares without a type check."""

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


class Task(NamedTuple):
    """What an action of one kind is to a virtual stage; lists are by microbatch.

    Attributes
    ----------
    source : list of float
        When its input is there [s].
    target : list of float
        Where the arrival of its output is noted [s].
    costs : sequence of Cost
        What it takes.
    link : LinkSpec or None
        Over which link the output goes; None if it stays on the rank, or if there is none.
    destination : int
        Rank that takes the output.
    """

    source: list[float]
    target: list[float]
    costs: Sequence[Cost]
    link: LinkSpec | None
    destination: int


Tasks: TypeAlias = Mapping[ActionKind, Sequence[Task]]
"""By kind of action and virtual stage."""


def tasks_of(program: PipelineProgram) -> Tasks:
    """Return the task of each kind of action at each virtual stage.

    Raises
    ------
    SpecError
        If a rank plays a weight gradient before the input gradient that it follows from.
    """
    _refuse_early_weight_gradients(program)
    count, stages = program.microbatch_count(), range(program.stage_count)
    activations = [[UNKNOWN] * count for _ in stages]
    gradients = [[UNKNOWN] * count for _ in stages]
    ranks, after, before = program.stage_ranks(), program.next_stages(), program.previous_stages()
    at_once, nowhere = [0.0] * count, [UNKNOWN] * count

    def task(kind: ActionKind, stage: int) -> Task:
        source, target, other = at_once, nowhere, None
        if kind is ActionKind.FORWARD:
            source = at_once if before[stage] is None else activations[stage]
            other = after[stage]
            target = gradients[stage] if other is None else activations[other]
        elif kind in _GRADIENT_KINDS:
            source, other = gradients[stage], before[stage]
            target = nowhere if other is None else gradients[other]
        destination = ranks[stage] if other is None else ranks[other]
        crosses = destination != ranks[stage]
        return Task(
            source=source,
            target=target,
            costs=_costs(program, kind, stage),
            link=program.links[ranks[stage], destination] if crosses else None,
            destination=destination,
        )

    return {kind: [task(kind, stage) for stage in stages] for kind in program.kinds()}


def occupied_s(link: LinkSpec, size_bytes: int) -> float:
    """Return how long a message keeps a link from sending the next one [s].

    Dividing by infinity would turn exact integer times into floating point.
    """
    if math.isinf(link.bandwidth_bytes_per_s):
        return 0
    return size_bytes / link.bandwidth_bytes_per_s


def _costs(program: PipelineProgram, kind: ActionKind, stage: int) -> Sequence[Cost]:
    work, count = program.works(kind)[stage], program.microbatch_count()
    deltas = program.delta_bytes(kind, stage)
    if kind not in program.durations_s and not program.microbatch_scales:
        return [Cost(work.duration_s, deltas[0], work.hand_over_bytes)] * count if count else []
    given = program.durations_s.get(kind)
    durations = [work.duration_s] * count if given is None else given[stage]
    sizes = program.scaled(work.hand_over_bytes)
    return [Cost(*cost) for cost in zip(durations, deltas, sizes, strict=True)]


def _refuse_early_weight_gradients(program: PipelineProgram) -> None:
    """Raise `SpecError` for a weight gradient that its rank plays before the input gradient."""
    if not program.weight_gradient:
        return
    split = ActionKind.INPUT_GRADIENT
    for rank, actions in enumerate(program.order):
        done = set()
        for action in actions:
            stage, kind, microbatch = action
            if kind is split:
                done.add((stage, microbatch))
            elif kind is ActionKind.WEIGHT_GRADIENT and (stage, microbatch) not in done:
                raise SpecError(
                    f"the order deadlocks: rank {rank} waits at {action} for "
                    f"{Action(stage, split, microbatch)}, which it does not do before"
                )
