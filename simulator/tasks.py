"""What an action of each kind is to a virtual stage: the arrows of the action graph, as lists.

Both engines walk these lists, those of `costmodels.pipelining.longest_path`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind
from costmodels.pipelining.longest_path import Cost, ports
from simulator.program import PipelineProgram
from simulator.resources import LinkSpec


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
    ranks = program.stage_ranks()
    of_kind = ports(program.previous_stages(), program.next_stages(), program.microbatch_count())

    def task(kind: ActionKind, stage: int) -> Task:
        source, target, other = of_kind[kind][stage]
        destination = ranks[stage] if other is None else ranks[other]
        crosses = destination != ranks[stage]
        return Task(
            source=source,
            target=target,
            costs=_costs(program, kind, stage),
            link=program.links[ranks[stage], destination] if crosses else None,
            destination=destination,
        )

    stages = range(program.stage_count)
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
