"""Quantities that each pipeline schedule computes in its own way, and the ideal bubble."""

from types import MappingProxyType

from costmodels.columns import Column
from costmodels.pipelining import bubble
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.quantities import ALGORITHM, CHUNK, STAGE, Basis, Quantity, Scope, quantity

_ORDER = "equal to the schedule's list of actions, replayed"

IN_FLIGHT_COUNT = Quantity(
    name="in_flight_count",
    unit="count",
    scope=Scope.GPU,
    axes=(STAGE,),
    group="pipeline",
    definition="Microbatches, counted for each chunk, whose activations a GPU holds at most.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_ORDER,
    variants=MappingProxyType({str(s.name): s.in_flight_count for s in SCHEDULES.values()}),
    selector="schedule",
)

ACTIVATIONS_BYTES = Quantity(
    name="activations_bytes",
    unit="byte",
    scope=Scope.GPU,
    axes=(STAGE,),
    group="memory",
    definition="Activations kept for the backward pass, at their peak.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_ORDER,
    variants=MappingProxyType({str(s.name): s.peak_activation_bytes for s in SCHEDULES.values()}),
    selector="schedule",
)

PEAK_BACKWARD_COUNT = Quantity(
    name="peak_backward_count",
    unit="count",
    scope=Scope.GPU,
    axes=(STAGE,),
    definition="Backwards, counted for each chunk, that a GPU has done when it holds most.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_ORDER + "; the first such moment",
    variants=MappingProxyType({str(s.name): s.peak_backward_count for s in SCHEDULES.values()}),
    selector="schedule",
)

CHUNK_IN_FLIGHT_COUNT = Quantity(
    name="chunk_in_flight_count",
    unit="count",
    scope=Scope.CHUNK,
    axes=(STAGE, CHUNK),
    definition="Microbatches of a chunk whose activations a GPU holds when it holds most.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_ORDER,
    variants=MappingProxyType({str(s.name): s.chunk_in_flight_count for s in SCHEDULES.values()}),
    selector="schedule",
)


UNEVEN_S = Quantity(
    name="uneven_s",
    unit="s",
    scope=Scope.GPU,
    basis=Basis.ASSUMED,
    definition="Time that unequal stages add to the bubble of equal ones, negative where they fill it.",
    formula=ALGORITHM,
    source="by following the stage that never waits in between; checked against the simulator",
    variants=MappingProxyType({str(s.name): s.uneven_s for s in SCHEDULES.values()}),
    selector="schedule",
)

PIPELINE_EXPOSED_S = Quantity(
    name="pipeline_exposed_s",
    unit="s",
    scope=Scope.GPU,
    group="time",
    basis=Basis.ASSUMED,
    definition="Time of a step that waits for hand-overs between stages.",
    formula=ALGORITHM,
    source="by following the chain of forwards and backwards that wait for each other; exact for "
    "equal stages",
    variants=MappingProxyType({str(s.name): s.exposed_hops_s for s in SCHEDULES.values()}),
    selector="schedule",
)


@quantity(
    "fraction",
    Scope.REPLICA,
    group="pipeline",
    basis=Basis.EXACT,
    formula="(maximum(virtual_stages * microbatch_count + pipeline_parallel_size,"
    " virtual_stages * pipeline_parallel_size + microbatch_count) - 1"
    " - virtual_stages * microbatch_count)"
    " / (maximum(virtual_stages * microbatch_count + pipeline_parallel_size,"
    " virtual_stages * pipeline_parallel_size + microbatch_count) - 1)",
    source="Huang et al. 2019, arXiv:1811.06965; Narayanan et al. 2021, arXiv:2104.04473, "
    "section 2.2: equal stages, free links",
)
def ideal_idle_fraction(
    pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return the share of the pipeline's time that GPUs would wait with equal stages [fraction]."""
    return bubble.bubble_fraction(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
