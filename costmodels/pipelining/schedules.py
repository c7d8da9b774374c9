"""The pipeline schedules that Shardwise knows, in one registry.

A new schedule is one entry: its order, where it is legal, and what a rank holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from costmodels.columns import Axis, Column
from costmodels.pipelining.actions import Order
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
from costmodels.pipelining.orders import (
    INTERLEAVED_REQUIREMENT,
    ONE_CHUNK_REQUIREMENT,
    gpipe,
    interleaved_is_legal,
    interleaved_one_f_one_b,
    one_chunk_is_legal,
    one_f_one_b,
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


class ScheduleName(StrEnum):
    """The name of a pipeline schedule in files and on the command line."""

    GPIPE = "gpipe"
    ONE_F_ONE_B = "1f1b"
    INTERLEAVED_ONE_F_ONE_B = "interleaved-1f1b"


class OrderFunction(Protocol):
    """Make the order of a schedule."""

    def __call__(
        self, *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
    ) -> Order:
        """Return for each rank its actions; raise `SpecError` for sizes that are not legal."""


class LegalFunction(Protocol):
    """Say where a schedule exists."""

    def __call__(
        self, *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
    ) -> Column:
        """Return whether the schedule exists for these sizes, row by row."""


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
    in_flight_count: InFlightFunction
    peak_activation_bytes: PeakActivationFunction
    peak_backward_count: Callable[..., Column]
    chunk_in_flight_count: Callable[..., Column]
    uneven_s: Callable[..., Column]
    exposed_hops_s: Callable[..., Column]


SCHEDULES: Mapping[ScheduleName, Schedule] = MappingProxyType(
    {
        schedule.name: schedule
        for schedule in (
            Schedule(
                name=ScheduleName.GPIPE,
                description="all forwards, then all backwards",
                source='Y. Huang et al., "GPipe: Efficient training of giant neural networks '
                'using pipeline parallelism," NeurIPS, 2019. arXiv:1811.06965.',
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=gpipe,
                in_flight_count=gpipe_in_flight_count,
                peak_activation_bytes=gpipe_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=gpipe_chunk_in_flight_count,
                uneven_s=gpipe_imbalance_s,
                exposed_hops_s=gpipe_hops_s,
            ),
            Schedule(
                name=ScheduleName.ONE_F_ONE_B,
                description="one forward and one backward in turn, after a short warm-up",
                source='D. Narayanan et al., "Memory-efficient pipeline-parallel DNN training," '
                "ICML, 2021 (there PipeDream-Flush). arXiv:2006.09503.",
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=one_f_one_b,
                in_flight_count=one_f_one_b_in_flight_count,
                peak_activation_bytes=one_f_one_b_peak_activation_bytes,
                peak_backward_count=at_once_peak_backward_count,
                chunk_in_flight_count=one_f_one_b_chunk_in_flight_count,
                uneven_s=one_f_one_b_imbalance_s,
                exposed_hops_s=one_f_one_b_hops_s,
            ),
            Schedule(
                name=ScheduleName.INTERLEAVED_ONE_F_ONE_B,
                description="1F1B over several chunks of the model on each rank",
                source='D. Narayanan et al., "Efficient large-scale language model training on '
                'GPU clusters using Megatron-LM," SC, 2021. arXiv:2104.04473.',
                requirement=INTERLEAVED_REQUIREMENT,
                legal=interleaved_is_legal,
                order=interleaved_one_f_one_b,
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
"""Every schedule by its name."""
