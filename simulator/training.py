"""A scenario's training step as a program for the simulator, and what the simulator found.

Sizes and durations come from the closed forms; order, waiting, overlap and every count come from
the simulation. Tensor-parallel ranks act as one and replicas are equal: one rank of each stage
of one replica is simulated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from costmodels.analysis import evaluate
from costmodels.compilation import Columns, trained_depth
from costmodels.pipelining.actions import Order, Row
from costmodels.pipelining.automatic import StageTimes
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.pipelining.placements import Placement
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.pipelining.searched import searched_order
from costmodels.quantities import ALGORITHM, Basis, Quantity, Scope
from costmodels.scenario import Scenario
from costmodels.specs.plan import Plan
from costmodels.stages import layer_kinds, stage_classes
from simulator.metrics import PipelineMetrics, pipeline_metrics
from simulator.pipeline import Report, simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.publishing import scalar
from simulator.resources import FREE_LINK, LinkSpec
from simulator.trace import DATA_AXIS, Trace

ACTION_LIMIT = 1_000_000
"""Actions past which a step is not played by the event simulator."""

CONTENTION_ACTION_LIMIT = 100_000
"""Actions past which a step is not played on shared links, which takes three simulations."""

PATH_ACTION_LIMIT = 4_000_000
"""Actions past which an estimate does not play the step, by the fast engine."""

_CHUNK_INPUTS = (
    "chunk_forward_s",
    "chunk_backward_s",
    "chunk_forward_flop",
    "chunk_backward_flop",
    "chunk_activation_bytes",
    "chunk_forward_tensor_bytes",
    "chunk_backward_tensor_bytes",
    "chunk_forward_sequence_bytes",
    "chunk_backward_sequence_bytes",
    "chunk_forward_context_bytes",
    "chunk_backward_context_bytes",
    "chunk_forward_expert_bytes",
    "chunk_backward_expert_bytes",
    "chunk_forward_data_bytes",
    "chunk_backward_data_bytes",
    "chunk_weight_gradient_s",
    "chunk_weight_gradient_flop",
    "chunk_backward_replicated_bytes",
)
_STAGE_INPUTS = (
    "weights_bytes",
    "gradients_bytes",
    "optimizer_bytes",
    "buffers_bytes",
    "reduction_s",
    "last_reduction_s",
    "reduction_bytes",
    "replicated_s",
    "end_replicated_bytes",
    "tied_embedding_s",
    "tied_embedding_bytes",
    "mirror_s",
    "mirror_call_bytes",
    "stage_optimizer_s",
    "exposed_gather_s",
    "update_gather_bytes",
)
_PLAN_INPUTS = (
    "hop_bytes",
    "hop_s",
    "pipeline_bandwidth_bytes_per_s",
    "pipeline_latency_s",
    "reserve_bytes",
    "microbatch_count",
    "sequence_parallel",
)
PROGRAM_INPUTS = (*_CHUNK_INPUTS, *_STAGE_INPUTS, *_PLAN_INPUTS)
"""Quantities that a program is made of."""

_HELD_INPUTS = (
    "chunk_activation_bytes",
    "weights_bytes",
    "gradients_bytes",
    "optimizer_bytes",
    "buffers_bytes",
    "reserve_bytes",
    "microbatch_count",
)

SIMULATED = (
    Quantity(
        name="simulated_step_s",
        symbol="T_sim",
        unit="s",
        scope=Scope.TOTAL,
        basis=Basis.ASSUMED,
        group="time",
        definition="Time of a step as the event simulator plays it.",
        formula=ALGORITHM,
        source="discrete-event simulation of every action, hand-over and end of step",
        function=lambda metrics: metrics.makespan_s,
    ),
    Quantity(
        name="simulated_idle_fraction",
        unit="fraction",
        scope=Scope.REPLICA,
        basis=Basis.ASSUMED,
        group="pipeline",
        definition="Share of the pipeline's time in which GPUs wait, measured from spans.",
        formula=ALGORITHM,
        source="discrete-event simulation: one minus busy time over ranks times makespan",
        function=lambda metrics: metrics.idle_fraction,
    ),
    Quantity(
        name="simulated_idle_s",
        unit="s",
        scope=Scope.GPU,
        axes=("stage",),
        basis=Basis.ASSUMED,
        group="pipeline",
        definition="Time in which a GPU of each stage waits while the pipeline runs.",
        formula=ALGORITHM,
        source="discrete-event simulation: makespan of the pipeline minus the rank's spans",
        function=lambda metrics: metrics.idle_s,
    ),
    Quantity(
        name="simulated_peak_bytes",
        unit="byte",
        scope=Scope.GPU,
        axes=("stage",),
        group="memory",
        definition="Peak memory of a GPU of each stage, from the simulator's allocations.",
        basis=Basis.EXACT,
        formula=ALGORITHM,
        source="discrete-event simulation: allocations and releases of every action",
        function=lambda metrics: metrics.peak_bytes,
    ),
)
"""What the simulator publishes, computed from its metrics alone."""


def simulated_inputs(name: str) -> tuple[str, ...]:
    """Return the closed forms that a published number of the simulator is found from."""
    return _HELD_INPUTS if name == "simulated_peak_bytes" else PROGRAM_INPUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A simulated step.

    Attributes
    ----------
    program : PipelineProgram
        What was played.
    trace : Trace
        What happened.
    metrics : PipelineMetrics
        What it took.
    """

    program: PipelineProgram
    trace: Trace
    metrics: PipelineMetrics


def action_count(scenario: Scenario, microbatch_count: int, given: GivenOrder | None = None) -> int:
    """Return the most actions that one step of one replica may have [count]."""
    if given is not None:
        return given.action_count
    plan = scenario.plan
    halves = 3 if SCHEDULES[plan.schedule].splits else 2
    return halves * microbatch_count * plan.pipeline_parallel_size * plan.virtual_stages


def classes_of(scenario: Scenario, microbatch_count: int) -> tuple[int, ...]:
    """Return for each stage the class whose values are its own."""
    plan = scenario.plan
    kinds, _ = layer_kinds(scenario.model)
    classes = stage_classes(
        kinds,
        plan.pipeline_parallel_size,
        plan.virtual_stages,
        microbatch_count,
        plan.schedule,
        plan.layers_per_stage,
        plan.repeated_layers,
        trained_depth(scenario),
        plan.offload_activations_num_layers,
    )
    of_stage = {stage: index for index, entry in enumerate(classes) for stage in entry.stages}
    return tuple(of_stage[stage] for stage in range(plan.pipeline_parallel_size))


def simulate_step(program: PipelineProgram, report: Report | None = None) -> Simulation:
    """Return what happens when a program is played; `report` as of `simulate_pipeline`."""
    trace = simulate_pipeline(program, report)
    return Simulation(program=program, trace=trace, metrics=pipeline_metrics(trace))


def step_program(
    scenario: Scenario, columns: Columns, given: GivenOrder | None = None
) -> PipelineProgram:
    """Return one step of one replica as the simulator plays it.

    Parameters
    ----------
    scenario : Scenario
        What is trained, and how.
    columns : Columns
        The scenario's inputs, of length one.
    given : GivenOrder, optional
        An order in place of the schedule's, with its virtual stages on the same ranks.

    Returns
    -------
    PipelineProgram
        Order, durations, sizes and links.
    """
    values = evaluate(columns, PROGRAM_INPUTS)
    plan = scenario.plan
    microbatches = int(scalar(values["microbatch_count"]))
    classes = classes_of(scenario, microbatches)
    schedule = SCHEDULES[plan.schedule]
    splits = given.splits if given else schedule.splits
    places = chunk_places(scenario, classes)
    forward = [_work("forward", place, values) for place in places]
    backward = [_work("backward", place, values) for place in places]
    weight = [_weight_gradient(place, values) for place in places] if splits else []
    inputs = [_without(*both) for both in zip(backward, weight, strict=False)]
    if given:
        rows = given.rows
    elif plan.schedule is ScheduleName.ZB_AUTO:
        times = _stage_times((forward, inputs, weight), scalar(values["hop_s"]))
        limit = plan.held_limit or plan.pipeline_parallel_size
        rows = _without_pairs(searched_order(times, microbatches, limit))
    else:
        rows = schedule.rows_of(**_sizes(plan, microbatches))
    return PipelineProgram(
        order=tuple(row.actions for row in rows),
        overlapped=[row.overlapped for row in rows] if any(row.overlapped for row in rows) else (),
        forward=forward,
        backward=backward,
        input_gradient=inputs,
        weight_gradient=weight,
        activation_bytes=[
            int(chunk_value(values, "chunk_activation_bytes", place)) for place in places
        ],
        static_bytes=[sum(_static_parts(values, index).values()) for index in classes],
        static_parts=[_static_parts(values, index) for index in classes],
        step_ends=[
            _step_end(values, index, overlaps=plan.overlap_gradient_reduction) for index in classes
        ],
        links=_links(plan.pipeline_parallel_size, values),
        successors=placement_of(scenario).following,
    )


def _stage_times(works: Sequence[Sequence[ActionWork]], hop_s: float) -> StageTimes:
    """Return the times of forwards, input and weight gradients of ranks of one chunk."""
    forward, inputs, weight = (tuple(work.duration_s for work in kind) for kind in works)
    return StageTimes(
        forward_s=forward, input_gradient_s=inputs, weight_gradient_s=weight, hop_s=hop_s
    )


def _without_pairs(order: Order) -> tuple[Row, ...]:
    return tuple(Row(actions, frozenset()) for actions in order)


def _sizes(plan: Plan, microbatch_count: int) -> dict[str, int]:
    return {
        "pipeline_parallel_size": plan.pipeline_parallel_size,
        "virtual_stages": plan.virtual_stages,
        "microbatch_count": microbatch_count,
    }


def with_free_links(program: PipelineProgram) -> PipelineProgram:
    """Return the program with hand-overs that take no time."""
    return replace(program, links=dict.fromkeys(program.links, FREE_LINK))


def with_equal_stages(program: PipelineProgram) -> PipelineProgram:
    """Return the program with the mean duration for every stage."""

    def equal(works: Any) -> list[ActionWork]:
        mean_s = sum(work.duration_s for work in works) / max(len(works), 1)
        return [replace(work, duration_s=mean_s) for work in works]

    return replace(
        program,
        forward=equal(program.forward),
        backward=equal(program.backward),
        input_gradient=equal(program.input_gradient),
        weight_gradient=equal(program.weight_gradient),
    )


class Place(NamedTuple):
    """Where the values of a virtual stage are: the class of its rank, and the chunk."""

    stage_class: int
    chunk: int


def placement_of(scenario: Scenario) -> Placement:
    """Return where the virtual stages of a plan are."""
    plan = scenario.plan
    return SCHEDULES[plan.schedule].placement(
        pipeline_parallel_size=plan.pipeline_parallel_size, virtual_stages=plan.virtual_stages
    )


def chunk_places(scenario: Scenario, classes: tuple[int, ...]) -> list[Place]:
    """Return for each virtual stage where its values are."""
    placement = placement_of(scenario)
    places = {
        stage: Place(classes[rank], chunk)
        for rank, stages in enumerate(placement.stages_by_rank())
        for chunk, stage in enumerate(stages)
    }
    return [places[stage] for stage in range(placement.stage_count)]


def chunk_value(values: Mapping[str, Any], name: str, place: Place) -> Any:
    """Return the value of a virtual stage, the one of its rank's class and chunk."""
    return scalar(values[name][place.stage_class][place.chunk])


def _weight_gradient(place: Place, values: Mapping[str, Any]) -> ActionWork:
    """Return the half of a backward that gives gradients of weights: it hands nothing over."""
    return ActionWork(
        duration_s=chunk_value(values, "chunk_weight_gradient_s", place),
        flop=int(chunk_value(values, "chunk_weight_gradient_flop", place)),
        hand_over_bytes=0,
    )


def _without(whole: ActionWork, half: ActionWork) -> ActionWork:
    """Return the other half of a backward, which communicates as the whole does."""
    return replace(
        whole, duration_s=whole.duration_s - half.duration_s, flop=whole.flop - half.flop
    )


def _work(direction: str, place: Place, values: Mapping[str, Any]) -> ActionWork:
    def value(name: str) -> Any:
        return chunk_value(values, f"chunk_{direction}_{name}", place)

    axes = ("tensor", "sequence", "context", "expert", DATA_AXIS)
    sent = {axis: int(value(f"{axis}_bytes")) for axis in axes}
    if direction == "backward":
        sent[_replicated_axis(values)] += int(value("replicated_bytes"))
    return ActionWork(
        duration_s=value("s"),
        flop=int(value("flop")),
        hand_over_bytes=int(scalar(values["hop_bytes"])),
        sent_bytes={axis: size for axis, size in sent.items() if size},
    )


def _replicated_axis(values: Mapping[str, Any]) -> str:
    """Return the axis on which gradients of replicated weights are summed."""
    return "sequence" if scalar(values["sequence_parallel"]) else "tensor"


_STATIC_PARTS = ("weights", "gradients", "optimizer", "buffers")


def _static_parts(values: Mapping[str, Any], index: int) -> dict[str, int]:
    parts = {name: int(scalar(values[f"{name}_bytes"][index])) for name in _STATIC_PARTS}
    return parts | {"reserve": int(scalar(values["reserve_bytes"]))}


def _step_end(values: Mapping[str, Any], index: int, *, overlaps: bool) -> StepEnd:
    def value(name: str) -> Any:
        return scalar(values[name][index])

    return StepEnd(
        reduction_s=value("reduction_s"),
        reduction_last_s=min(value("last_reduction_s"), value("reduction_s")),
        overlaps_backward=overlaps,
        reduction_bytes=int(value("reduction_bytes")),
        replicated_s=value("replicated_s"),
        replicated_bytes={_replicated_axis(values): int(value("end_replicated_bytes"))},
        tied_s=value("tied_embedding_s"),
        tied_bytes=int(value("tied_embedding_bytes")),
        copies_s=value("mirror_s"),
        copies_bytes=int(value("mirror_call_bytes")),
        optimizer_s=value("stage_optimizer_s"),
        gather_s=value("exposed_gather_s"),
        gather_bytes=int(value("update_gather_bytes")),
    )


def _links(rank_count: int, values: Mapping[str, Any]) -> dict[tuple[int, int], LinkSpec]:
    link = LinkSpec(
        latency_s=scalar(values["pipeline_latency_s"]),
        bandwidth_bytes_per_s=scalar(values["pipeline_bandwidth_bytes_per_s"]),
    )
    pairs = {}
    for rank in range(rank_count):
        following = (rank + 1) % rank_count
        if following != rank:
            pairs[rank, following] = pairs[following, rank] = link
    return pairs
