"""A scenario's training step on links that its traffic shares, and what sharing costs.

The computing of an action is that of the closed forms; its traffic is played: collectives inside
the replica layer by layer, gathers of sharded weights before or beside an action, reductions of
gradients beside the last backwards or after them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from costmodels.analysis import evaluate
from costmodels.compilation import Columns
from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.scenario import Scenario
from costmodels.specs.plan import GradientBuckets, Plan
from simulator.contention import Reduction, SharedStep, Stream, When, play_shared, without_traffic
from simulator.fluid import Loss
from simulator.layer_traffic import LAYER_TRAFFIC_INPUTS, layer_traffic
from simulator.metrics import PipelineMetrics, makespan_s, pipeline_metrics
from simulator.program import ActionWork, PipelineProgram
from simulator.publishing import scalar
from simulator.topology import Layout, Sharing, Way, topology_of
from simulator.trace import DATA_AXIS, Trace
from simulator.training import chunk_places, chunk_value, classes_of, step_program
from simulator.variation import Variation, varied

_RINGS = (
    (
        "sharding",
        "chunk_dense_gather_bytes",
        "chunk_dense_gradient_bytes",
        "chunk_bucket_count",
        "chunk_gather_count",
    ),
    ("replication", "", "chunk_replica_bytes", "chunk_replica_bucket_count", ""),
    (
        "expert_sharding",
        "chunk_expert_gather_bytes",
        "chunk_expert_gradient_bytes",
        "chunk_expert_bucket_count",
        "chunk_expert_gather_count",
    ),
)
"""Rings of data parallelism: what a virtual stage gathers and reduces around each, and in how many
calls gradients are reduced and weights gathered."""

_INPUTS = (
    "chunk_forward_compute_s",
    "chunk_backward_compute_s",
    "chunk_recompute_s",
    "chunk_offload_s",
    "chunk_layers",
    "chunk_trained_parameters",
    "chunk_last_bucket_parameters",
    "trained_unit_parameters",
    "pipeline_stride",
    *(name for _, *names in _RINGS for name in names if name),
    *(f"{group}_{name}" for group, *_ in _RINGS for name in ("size", "node_members", "latency_s")),
    "microbatch_count",
    *LAYER_TRAFFIC_INPUTS,
)


class _Ring(NamedTuple):
    """Ranks that gather weights or reduce gradients: what they send, how far, in how many steps."""

    gather: str
    gradient: str
    buckets: str
    gathers: str
    size: int
    members: int
    steps: int
    latency_s: float


def _ring(values: Mapping[str, Any], group: str, *names: str) -> _Ring:
    gather, gradient, buckets, gathers = names
    size = int(scalar(values[f"{group}_size"]))
    # Groups that share shards hold the same: they sum and spread them, in twice the steps.
    passes = 1 if gather else 2
    return _Ring(
        gather=gather,
        gradient=gradient,
        buckets=buckets,
        gathers=gathers,
        size=size,
        members=int(scalar(values[f"{group}_node_members"])),
        steps=passes * (size - 1),
        latency_s=scalar(values[f"{group}_latency_s"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """What a step takes on shared links, and why.

    Attributes
    ----------
    trace : Trace
        What happened on shared links.
    metrics : PipelineMetrics
        What it took.
    alone_s : float
        The same step if every message went as fast as alone [s].
    without_data_s : float
        The same step without any traffic of data parallelism [s].
    utilisation : mapping of str to float
        By resource, what it carried over what it could have in the step's time [fraction].
    losses : mapping of Loss to float
        By reason, the time by which messages were later than alone, all ranks together [s].
    cause : str
        Why the step is longer than alone, in one sentence.
    """

    trace: Trace
    metrics: PipelineMetrics
    alone_s: float
    without_data_s: float
    utilisation: Mapping[str, float]
    losses: Mapping[Loss, float]
    cause: str


def contended_step(
    scenario: Scenario,
    columns: Columns,
    sharing: Sharing | None = None,
    variation: Variation | None = None,
    given: GivenOrder | None = None,
) -> Contention:
    """Return a step of one replica on links that its traffic shares, beside the same step alone.

    Parameters
    ----------
    scenario : Scenario
        What is trained, and how.
    columns : Columns
        The scenario's inputs, of length one.
    sharing : Sharing, optional
        What GPUs of a node share; by default nothing but the fabric.
    variation : Variation, optional
        Microbatches of different sizes, slow ranks, chance; collectives keep their sizes.
    given : GivenOrder, optional
        An order in place of the schedule's.

    Returns
    -------
    Contention
        Trace, quantities, and the difference that sharing makes.
    """
    step = shared_step(scenario, columns, sharing or Sharing(), given)
    step = replace(step, program=varied(step.program, variation or Variation()))
    shared = play_shared(step)
    alone_s = makespan_s(play_shared(step, is_shared=False).trace)
    metrics = pipeline_metrics(shared.trace)
    return Contention(
        trace=shared.trace,
        metrics=metrics,
        alone_s=alone_s,
        without_data_s=makespan_s(play_shared(without_traffic(step)).trace),
        utilisation=shared.utilisation,
        losses=shared.losses,
        cause=_cause(metrics.makespan_s - alone_s, metrics.makespan_s, shared.losses),
    )


MOST_PARTS = 40_000
"""Parts of all actions past which an action has fewer than its layers."""


def _part_count(program: PipelineProgram, layers: int) -> int:
    return max(min(layers, MOST_PARTS // max(program.action_count(), 1)), 1)


NEGLIGIBLE_FRACTION = 1e-6
"""Share of a step up to which a difference counts as rounding."""


def _cause(difference_s: float, whole_s: float, losses: Mapping[Loss, float]) -> str:
    lost = sum(losses.values())
    if lost <= NEGLIGIBLE_FRACTION * whole_s:
        return "no two messages ever shared a link that limited them"
    worst = max(losses, key=lambda loss: (losses[loss], loss))
    others = " and ".join(
        "other messages of its own" if axis == worst.axis else f"{axis} traffic"
        for axis in worst.others
    )
    reason = (
        f"{worst.axis} traffic waited most, for {worst.resource}, which it shared with {others}"
    )
    if abs(difference_s) <= NEGLIGIBLE_FRACTION * whole_s:
        return f"{reason}; the schedule hides it all"
    return reason


def _calls(ring: _Ring, plan: Plan, value: Callable[[str], Any]) -> float:
    """Return the calls that a part of a chunk's gradients takes: of all of them, or of a bucket."""
    parts = 1 if plan.zero_stage >= 2 else int(value("chunk_bucket_count"))
    return int(value(ring.buckets)) / parts


def _reduction(
    whole: list[Stream], plan: Plan, unit_parameters: float, value: Callable[[str], Any]
) -> Reduction:
    """Return what a chunk reduces at the end of a step: in the plan's buckets, or layer by layer."""
    count, last = int(value("chunk_bucket_count")), int(value("chunk_last_bucket_parameters"))
    if plan.gradient_buckets is GradientBuckets.TORCH_DDP:
        return Reduction(whole, count, last / max(int(value("chunk_trained_parameters")), 1))
    if plan.gradient_bucket_parameters:
        parameters = (count - 1) * plan.gradient_bucket_parameters + last
        return Reduction(whole, count, last / max(parameters, 1))
    layers = max(round(value("chunk_trained_parameters") / unit_parameters), 1)
    buckets = layers if plan.overlap_gradient_reduction else 1
    return Reduction(whole, buckets, 1 / buckets)


def shared_step(
    scenario: Scenario, columns: Columns, sharing: Sharing, given: GivenOrder | None = None
) -> SharedStep:
    """Return one step of one replica with its traffic apart from its work.

    Parameters
    ----------
    scenario : Scenario
        What is trained, and how.
    columns : Columns
        The scenario's inputs, of length one.
    sharing : Sharing
        What GPUs of a node share.
    given : GivenOrder, optional
        An order in place of the schedule's.

    Returns
    -------
    SharedStep
        For `simulator.contention.play_shared`.
    """
    base = step_program(scenario, columns, given)
    values = evaluate(columns, _INPUTS)
    plan = scenario.plan
    classes = classes_of(scenario, int(scalar(values["microbatch_count"])))
    places = chunk_places(scenario, classes)
    stages = range(base.stage_count)

    def of_stage(name: str, stage: int) -> Any:
        return chunk_value(values, name, places[stage])

    layout = Layout(rank_count=len(base.order), stride=int(scalar(values["pipeline_stride"])))
    topology = topology_of(scenario.cluster, layout, sharing)
    rings = [_ring(values, *entry) for entry in _RINGS]

    def streams(name: str, when: When, stage: int, passes: int = 1) -> list[Stream]:
        """Return what a virtual stage sends around each ring, once or more often."""
        found = []
        for ring in rings:
            quantity = ring.gather if name == "gather" else ring.gradient
            size_bytes = passes * int(of_stage(quantity, stage)) if quantity else 0
            rank = base.stage_ranks()[stage]
            uses = topology.ring_uses(rank, size=ring.size, members=ring.members)
            if size_bytes:
                value = partial(of_stage, stage=stage)
                calls = value(ring.gathers) if name == "gather" else _calls(ring, plan, value)
                latency_s = calls * passes * ring.steps * ring.latency_s
                found.append(Stream(name, when, size_bytes, Way(uses, latency_s)))
        return found

    def gathers(stage: int) -> list[Stream]:
        when = When.BESIDE if plan.overlap_parameter_gather else When.BEFORE
        return streams("gather", when, stage) if plan.zero_stage >= 3 else []

    def scatters(stage: int) -> list[Stream]:
        when = When.BESIDE if plan.overlap_gradient_reduction else When.AFTER
        return streams("reduction", when, stage) if plan.zero_stage >= 2 else []

    def reduction(stage: int) -> Reduction | None:
        whole = streams("reduction", When.AFTER, stage, 2 - min(plan.zero_stage, 1))
        if plan.zero_stage >= 2 or not whole:
            return None
        unit = scalar(values["trained_unit_parameters"][classes[base.stage_ranks()[stage]]])
        return _reduction(whole, plan, unit, partial(of_stage, stage=stage))

    inner = {
        direction: [
            layer_traffic(direction, values, place, base.stage_ranks()[stage], topology)
            for stage, place in enumerate(places)
        ]
        for direction in ("forward", "backward")
    }

    def works(direction: str, given: Any) -> list[ActionWork]:
        return [
            replace(
                work,
                duration_s=of_stage(f"chunk_{direction}_compute_s", stage)
                + (of_stage("chunk_recompute_s", stage) if direction == "backward" else 0),
                sent_bytes={a: size for a, size in work.sent_bytes.items() if a != DATA_AXIS},
            )
            for stage, work in enumerate(given)
        ]

    backward = works("backward", base.backward)
    return SharedStep(
        program=replace(
            base,
            forward=works("forward", base.forward),
            backward=backward,
            input_gradient=[
                replace(whole, duration_s=whole.duration_s - half.duration_s, flop=own.flop)
                for whole, half, own in zip(
                    backward, base.weight_gradient, base.input_gradient, strict=False
                )
            ],
        ),
        topology=topology,
        streams={
            ActionKind.FORWARD: [gathers(stage) for stage in stages],
            ActionKind.BACKWARD: [[*gathers(stage), *scatters(stage)] for stage in stages],
            # Weights are needed for the gradient of the input; the other half makes their own.
            ActionKind.INPUT_GRADIENT: [gathers(stage) for stage in stages],
            ActionKind.WEIGHT_GRADIENT: [scatters(stage) for stage in stages],
        },
        reductions=[reduction(stage) for stage in stages],
        overlaps_reduction=plan.overlap_gradient_reduction,
        layer_traffic={
            ActionKind.FORWARD: inner["forward"],
            ActionKind.BACKWARD: inner["backward"],
            ActionKind.INPUT_GRADIENT: inner["backward"],
        },
        host_copies_s=[of_stage("chunk_offload_s", stage) for stage in stages],
        part_counts=[_part_count(base, int(of_stage("chunk_layers", stage))) for stage in stages],
    )
