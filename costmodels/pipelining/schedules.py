"""The pipeline schedules that Shardwise knows, in one registry.

A new schedule is one entry: its order, where it is legal, and what a rank holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from costmodels.columns import Axis, Column
from costmodels.pipelining.hops import gpipe_hops_s, interleaved_hops_s, one_f_one_b_hops_s
from costmodels.pipelining.imbalance import (
    gpipe_imbalance_s,
    interleaved_imbalance_s,
    one_f_one_b_imbalance_s,
)
from costmodels.pipelining.in_flight import (
    at_once_peak_backward_count,
    gpipe_chunk_in_flight_count,
    gpipe_in_flight_count,
    gpipe_peak_activation_bytes,
    interleaved_chunk_in_flight_count,
    interleaved_in_flight_count,
    interleaved_peak_activation_bytes,
    interleaved_peak_backward_count,
    one_f_one_b_chunk_in_flight_count,
    one_f_one_b_in_flight_count,
    one_f_one_b_peak_activation_bytes,
)
from costmodels.pipelining.orderings import (
    ORDERINGS,
    LegalFunction,
    OrderFunction,
    PlacementFunction,
    ScheduleName,
)
from costmodels.pipelining.orders import (
    INTERLEAVED_REQUIREMENT,
    gpipe,
    interleaved_is_legal,
    interleaved_one_f_one_b,
    one_f_one_b,
)
from costmodels.pipelining.replayed import Listed, ReplayedForms
from costmodels.pipelining.split_in_flight import looped_bfs_in_flight_count

__all__ = [
    "SCHEDULES",
    "InFlightFunction",
    "LegalFunction",
    "OrderFunction",
    "PeakActivationFunction",
    "Schedule",
    "ScheduleName",
    "gpipe",
    "interleaved_one_f_one_b",
    "one_f_one_b",
]


class InFlightFunction(Protocol):
    """Count what a rank holds."""

    def __call__(
        self,
        *,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return the (microbatch, chunk) activations that a rank holds at most [count]."""


class PeakActivationFunction(Protocol):
    """Weigh what a rank holds."""

    def __call__(
        self,
        chunk_activation_bytes: Axis,
        *,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return the activation bytes that a rank holds at most [byte]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All that the rest of Shardwise needs to know about one pipeline schedule.

    Attributes
    ----------
    name : ScheduleName
        Its name.
    description : str
        What it does, in one line.
    source : str
        The publication that proposed it.
    requirement : str
        Which sizes are legal, as the predicate of a sentence about the schedule.
    legal : LegalFunction
        The same as a column function.
    order : OrderFunction
        What each rank does, in order.
    placement : PlacementFunction
        Where its virtual stages are.
    in_flight_count : InFlightFunction
        How many (microbatch, chunk) activations a rank holds at most.
    peak_activation_bytes : PeakActivationFunction
        How many bytes they are.
    peak_backward_count : callable
        How many backwards a rank has done when it holds most; inputs of the graph.
    chunk_in_flight_count : callable
        How many microbatches of each chunk it holds then; inputs of the graph.
    uneven_s : callable
        What unequal stages add to the ideal bubble; inputs of the graph.
    exposed_hops_s : callable
        How long a step waits for hand-overs between stages; inputs of the graph.
    """

    name: ScheduleName
    description: str
    source: str
    requirement: str
    legal: LegalFunction
    order: OrderFunction
    placement: PlacementFunction
    in_flight_count: InFlightFunction
    peak_activation_bytes: PeakActivationFunction
    peak_backward_count: Callable[..., Column]
    chunk_in_flight_count: Callable[..., Column]
    uneven_s: Callable[..., Column]
    exposed_hops_s: Callable[..., Column]


def _schedule(
    name: ScheduleName,
    *,
    legal: LegalFunction | None = None,
    requirement: str = "",
    **forms: Callable[..., Column],
) -> Schedule:
    """Return a schedule from its order and its closed forms; what is left out is replayed."""
    ordering = ORDERINGS[name]
    replayed = ReplayedForms(
        Listed(ordering.name.value, ordering.order, ordering.placement, ordering.legal)
    )
    given = {form: forms.get(form, getattr(replayed, form)) for form in _FORMS}
    return Schedule(
        name=name,
        description=ordering.description,
        source=ordering.source,
        requirement=requirement or ordering.requirement,
        legal=legal or ordering.legal,
        order=ordering.order,
        placement=ordering.placement,
        **given,
    )


_FORMS = (
    "in_flight_count",
    "peak_activation_bytes",
    "peak_backward_count",
    "chunk_in_flight_count",
    "uneven_s",
    "exposed_hops_s",
)

SCHEDULES: Mapping[ScheduleName, Schedule] = MappingProxyType(
    {
        schedule.name: schedule
        for schedule in (
            _schedule(
                ScheduleName.GPIPE,
                in_flight_count=gpipe_in_flight_count,
                peak_activation_bytes=gpipe_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=gpipe_chunk_in_flight_count,
                uneven_s=gpipe_imbalance_s,
                exposed_hops_s=gpipe_hops_s,
            ),
            _schedule(
                ScheduleName.ONE_F_ONE_B,
                in_flight_count=one_f_one_b_in_flight_count,
                peak_activation_bytes=one_f_one_b_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=one_f_one_b_chunk_in_flight_count,
                uneven_s=one_f_one_b_imbalance_s,
                exposed_hops_s=one_f_one_b_hops_s,
            ),
            _schedule(
                ScheduleName.LOOPED_BFS,
                in_flight_count=looped_bfs_in_flight_count,
                peak_activation_bytes=gpipe_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=gpipe_chunk_in_flight_count,
            ),
            _schedule(
                ScheduleName.INTERLEAVED_ONE_F_ONE_B,
                legal=interleaved_is_legal,
                requirement=INTERLEAVED_REQUIREMENT,
                in_flight_count=interleaved_in_flight_count,
                peak_activation_bytes=interleaved_peak_activation_bytes,
                peak_backward_count=interleaved_peak_backward_count,
                chunk_in_flight_count=interleaved_chunk_in_flight_count,
                uneven_s=interleaved_imbalance_s,
                exposed_hops_s=interleaved_hops_s,
            ),
        )
    }
)
"""Every schedule that a plan can have, by its name."""
