"""The pipeline schedules that Shardwise knows, in one registry.

A new schedule is one entry: its order, where it is legal, and what a rank holds.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from costmodels.columns import Axis, Column
from costmodels.pipelining.actions import Row
from costmodels.pipelining.bubble import SLOT_FORMULAS, slots_bubble_s, slots_idle_fraction
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
    ROUNDS_REQUIREMENT,
    gpipe,
    interleaved_is_legal,
    interleaved_one_f_one_b,
    one_f_one_b,
    several_chunks_in_rounds_is_legal,
)
from costmodels.pipelining.replayed import Listed, ReplayedForms
from costmodels.pipelining.searched import (
    searched_chunk_in_flight_count,
    searched_exposed_hops_s,
    searched_ideal_bubble_s,
    searched_in_flight_count,
    searched_peak_activation_bytes,
    searched_uneven_s,
)
from costmodels.pipelining.split_in_flight import (
    dual_pipe_v_in_flight_count,
    interleaved_zb_in_flight_count,
    looped_bfs_in_flight_count,
    zb_h1_chunk_in_flight_count,
    zb_h1_in_flight_count,
    zb_h1_peak_activation_bytes,
    zb_h2_chunk_in_flight_count,
    zb_h2_in_flight_count,
    zb_h2_peak_activation_bytes,
    zb_v_in_flight_count,
)

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
    rows_of : callable
        The same with the actions that overlap.
    placement : PlacementFunction
        Where its virtual stages are.
    splits : bool
        Whether some backwards are two actions.
    held_key : callable
        What ranks have in common that hold the same, whatever their chunks weigh.
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
    ideal_bubble_s, ideal_idle_fraction : callable
        What equal stages with free links wait; inputs of the graph.
    formulas : mapping of str to str
        Expressions of those of them that one states.
    """

    name: ScheduleName
    description: str
    source: str
    requirement: str
    legal: LegalFunction
    order: OrderFunction
    rows_of: Callable[..., tuple[Row, ...]]
    placement: PlacementFunction
    splits: bool
    held_key: Callable[..., Hashable]
    in_flight_count: InFlightFunction
    peak_activation_bytes: PeakActivationFunction
    peak_backward_count: Callable[..., Column]
    chunk_in_flight_count: Callable[..., Column]
    uneven_s: Callable[..., Column]
    exposed_hops_s: Callable[..., Column]
    ideal_bubble_s: Callable[..., Column]
    ideal_idle_fraction: Callable[..., Column]
    formulas: Mapping[str, str]


_SLOTS: Mapping[str, Callable[..., Column]] = {
    "ideal_bubble_s": slots_bubble_s,
    "ideal_idle_fraction": slots_idle_fraction,
}


def _schedule(
    name: ScheduleName,
    *,
    legal: LegalFunction | None = None,
    requirement: str = "",
    whole_backwards: bool = False,
    **closed: Callable[..., Column],
) -> Schedule:
    """Return a schedule from its order and its closed forms; what is left out is replayed."""
    ordering = ORDERINGS[name]
    forms = {**closed, **(_SLOTS if whole_backwards else {})}
    replayed = ReplayedForms(
        Listed(
            ordering.name.value,
            ordering.rows_of,
            ordering.placement,
            ordering.legal,
            ordering.copies,
        )
    )
    formulas = SLOT_FORMULAS if whole_backwards else {}
    given = {form: forms.get(form, getattr(replayed, form)) for form in _FORMS}
    return Schedule(
        name=name,
        description=ordering.description,
        source=ordering.source,
        requirement=requirement or ordering.requirement,
        legal=legal or ordering.legal,
        order=ordering.order,
        rows_of=ordering.rows_of,
        placement=ordering.placement,
        splits=ordering.splits,
        formulas=formulas,
        held_key=(
            forms["in_flight_count"] if "peak_activation_bytes" in forms else replayed.held_key
        ),
        **given,
    )


_FORMS = (
    "in_flight_count",
    "peak_activation_bytes",
    "peak_backward_count",
    "chunk_in_flight_count",
    "uneven_s",
    "exposed_hops_s",
    "ideal_bubble_s",
    "ideal_idle_fraction",
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
                whole_backwards=True,
            ),
            _schedule(
                ScheduleName.ONE_F_ONE_B,
                in_flight_count=one_f_one_b_in_flight_count,
                peak_activation_bytes=one_f_one_b_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=one_f_one_b_chunk_in_flight_count,
                uneven_s=one_f_one_b_imbalance_s,
                exposed_hops_s=one_f_one_b_hops_s,
                whole_backwards=True,
            ),
            _schedule(
                ScheduleName.LOOPED_BFS,
                in_flight_count=looped_bfs_in_flight_count,
                peak_activation_bytes=gpipe_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=gpipe_chunk_in_flight_count,
                whole_backwards=True,
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
                whole_backwards=True,
            ),
            _schedule(
                ScheduleName.ZB_H1,
                in_flight_count=zb_h1_in_flight_count,
                peak_activation_bytes=zb_h1_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=zb_h1_chunk_in_flight_count,
            ),
            _schedule(
                ScheduleName.ZB_H2,
                in_flight_count=zb_h2_in_flight_count,
                peak_activation_bytes=zb_h2_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=zb_h2_chunk_in_flight_count,
            ),
            _schedule(
                ScheduleName.INTERLEAVED_ZERO_BUBBLE,
                legal=several_chunks_in_rounds_is_legal,
                requirement=f"takes at least 2 virtual stages per rank and {ROUNDS_REQUIREMENT}",
                in_flight_count=interleaved_zb_in_flight_count,
            ),
            _schedule(ScheduleName.ZB_V, in_flight_count=zb_v_in_flight_count),
            _schedule(ScheduleName.DUAL_PIPE_V, in_flight_count=dual_pipe_v_in_flight_count),
            _schedule(ScheduleName.DUAL_PIPE),
            _schedule(
                ScheduleName.ZB_AUTO,
                in_flight_count=searched_in_flight_count,
                peak_activation_bytes=searched_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=searched_chunk_in_flight_count,
                uneven_s=searched_uneven_s,
                exposed_hops_s=searched_exposed_hops_s,
                ideal_bubble_s=searched_ideal_bubble_s,
            ),
        )
    }
)
"""Every schedule that a plan can have, by its name."""
