"""Quantities that each pipeline schedule computes in its own way, and the ideal bubble."""

from collections.abc import Mapping
from types import MappingProxyType

from costmodels.pipelining.schedules import SCHEDULES
from costmodels.quantities import ALGORITHM, CHUNK, STAGE, Basis, Quantity, Scope

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_ORDER = "equal to the schedule's list of actions, replayed"


def _stated(name: str) -> Mapping[str, str]:
    """Return the expression of each schedule whose function one states."""
    return MappingProxyType(
        {str(s.name): s.formulas[name] for s in SCHEDULES.values() if name in s.formulas}
    )


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
    source="by following the stage that never waits in between; checked against the simulator; of "
    "split backwards and looped breadth-first the longest path through the schedule's list",
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
    "equal stages; of split backwards and looped breadth-first the longest path through the list "
    "less that with free links",
    variants=MappingProxyType({str(s.name): s.exposed_hops_s for s in SCHEDULES.values()}),
    selector="schedule",
)


IDEAL_BUBBLE_S = Quantity(
    name="ideal_bubble_s",
    unit="s",
    scope=Scope.GPU,
    basis=Basis.ASSUMED,
    definition="Time in which a pipeline of equal stages fills and drains.",
    formula=ALGORITHM,
    source=f"{_NARAYANAN}; a slot for every virtual stage where there are fewer microbatches than "
    "ranks; of split backwards the longest path through the schedule's list, with chunks of the "
    "mean",
    variants=MappingProxyType({str(s.name): s.ideal_bubble_s for s in SCHEDULES.values()}),
    selector="schedule",
    formulas=_stated("ideal_bubble_s"),
)

IDEAL_IDLE_FRACTION = Quantity(
    name="ideal_idle_fraction",
    unit="fraction",
    scope=Scope.REPLICA,
    group="pipeline",
    basis=Basis.EXACT,
    definition="Share of the pipeline's time that GPUs would wait with equal stages.",
    formula=ALGORITHM,
    source=f"Huang et al. 2019, arXiv:1811.06965; {_NARAYANAN}: equal stages, free links; of split "
    "backwards the longest path through the schedule's list",
    variants=MappingProxyType({str(s.name): s.ideal_idle_fraction for s in SCHEDULES.values()}),
    selector="schedule",
    formulas=_stated("ideal_idle_fraction"),
)
