"""Bubbles of schedules played with the times of the zero-bubble authors, against their own rates.

Their times of a stage's forward, input gradient, weight gradient and hand-over go in; out comes the
share of the longest-working rank's time that is no work. Embedding and head count as a layer each,
which gives the chunks of their interleaved schedule.
"""

import csv
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple

from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.automatic import StageTimes, automatic_order, played
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from costmodels.pipelining.playing import play
from validation.cases import Case

SUITE = "zero-bubble-rates"

_SOURCE = "Qi et al. 2024, arXiv:2401.10241, tables 5 and 6"
_METHOD = "computed by the authors from profiled times of stages on A100 GPUs"
_LAYERS_OF_ENDS = 2


class Compared(NamedTuple):
    """One rate of the authors, and what a column of their table is predicted with."""

    name: ScheduleName
    column: str
    tolerance_fraction: float
    reason: str


COMPARED = (
    Compared(
        ScheduleName.ONE_F_ONE_B,
        "rate_1f1b",
        0.005,
        "the same list: four decimals of a rate of at least 0.03 round by at most 0.2 %",
    ),
    Compared(
        ScheduleName.INTERLEAVED_ONE_F_ONE_B,
        "rate_interleaved_1f1b",
        0.1,
        "how the authors place hand-overs between chunks is not printed",
    ),
    Compared(
        ScheduleName.ZB_H1,
        "rate_zb_h1",
        0.005,
        "the same list: four decimals of a rate of at least 0.03 round by at most 0.2 %",
    ),
    Compared(
        ScheduleName.ZB_H2,
        "rate_zb_h2",
        0.005,
        "the same list: four decimals of a rate of at least 0.03 round by at most 0.2 %",
    ),
)
"""The schedules of the table that are fixed orders."""


class Searched(NamedTuple):
    """A column of the table whose orders are searched for under a limit on memory.

    Attributes
    ----------
    name : str
        As the authors call it.
    column : str
        Of the table.
    limit_per_rank : int
        Microbatches that a rank may hold, over the number of ranks [count].
    """

    name: str
    column: str
    limit_per_rank: int


SEARCHED = (
    Searched("ZB-1p", "rate_zb_1p", 1),
    Searched("ZB-2p", "rate_zb_2p", 2),
)


def searched_cases() -> Iterator[Case]:
    """Yield every rate of the table for the orders that are searched for.

    Yields
    ------
    Case
        What the order that Shardwise finds leaves for work, and what theirs does: one less the
        rate, as rates near zero have no relative error of interest.
    """
    for row in published_rows():
        for searched in SEARCHED:
            yield Case(
                suite=SUITE,
                name=f"{row['model']}, {row['microbatch_count']} microbatches, {searched.name}",
                claim="in an order searched for, ranks work as large a share of the time as in the "
                "authors' own",
                prediction=1 - searched_rate(searched, row),
                measurement=1 - float(row[searched.column]),
                unit="fraction",
                tolerance_fraction=0.001,
                tolerance_reason="both searches are heuristic, and theirs goes "
                "on by integer programming",
                method=_METHOD,
                source=_SOURCE,
            )


def searched_rate(searched: Searched, row: Mapping[str, str]) -> float:
    """Return the bubble rate of the order that is found for the authors' times [fraction].

    Parameters
    ----------
    searched : Searched
        Which limit.
    row : mapping of str to str
        Sizes and times of a stage for one microbatch.
    """
    p, m = int(row["pipeline_parallel_size"]), int(row["microbatch_count"])
    forward, inputs, weights = (
        float(row[column]) for column in ("forward_ms", "input_gradient_ms", "weight_gradient_ms")
    )
    times = StageTimes(
        forward_s=(forward,) * p,
        input_gradient_s=(inputs,) * p,
        weight_gradient_s=(weights,) * p,
        hop_s=float(row["hop_ms"]),
    )
    order = automatic_order(
        times,
        microbatch_count=m,
        held_limit=searched.limit_per_rank * p,
        kept_fraction=_kept_fraction(row),
    )
    return 1 - m * (forward + inputs + weights) / played(order, times).longest_span_s


def _kept_fraction(row: Mapping[str, str]) -> float:
    """Return the authors' activations between both halves of a backward over all of them.

    Their table 1: s b h (34 + 5 a s / h) up to the input gradient, then 32 s b h.
    """
    heads, length, hidden = (
        int(row[column]) for column in ("num_attention_heads", "sequence_length", "hidden_size")
    )
    return 32 / (34 + 5 * heads * length / hidden)


def rate_cases() -> Iterator[Case]:
    """Yield every rate of the table for the schedules that are fixed orders.

    Yields
    ------
    Case
        Predicted and printed rate.
    """
    for row in published_rows():
        for compared in COMPARED:
            yield Case(
                suite=SUITE,
                name=f"{row['model']}, {row['microbatch_count']} microbatches, {compared.name}",
                claim="played with the authors' times, a schedule has the bubble that they print",
                prediction=bubble_rate(compared.name, row),
                measurement=float(row[compared.column]),
                unit="fraction",
                tolerance_fraction=compared.tolerance_fraction,
                tolerance_reason=compared.reason,
                method=_METHOD,
                source=_SOURCE,
            )


def published_rows() -> list[dict[str, str]]:
    """Return the rows of the authors' table."""
    path = files("validation") / "data" / "qi2024" / "bubble_rates.csv"
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bubble_rate(name: ScheduleName, row: Mapping[str, str]) -> float:
    """Return the share of the longest-working rank's time that is no work [fraction].

    Parameters
    ----------
    name : ScheduleName
        The schedule.
    row : mapping of str to str
        Sizes and times of a stage for one microbatch; times in any one unit.
    """
    p, m = int(row["pipeline_parallel_size"]), int(row["microbatch_count"])
    interleaved = name is ScheduleName.INTERLEAVED_ONE_F_ONE_B
    v = (int(row["num_hidden_layers"]) + _LAYERS_OF_ENDS) // p if interleaved else 1
    forward, inputs, weights = (
        float(row[column]) / v
        for column in ("forward_ms", "input_gradient_ms", "weight_gradient_ms")
    )
    ordering = ORDERINGS[name]
    placement = ordering.placement(pipeline_parallel_size=p, virtual_stages=v)
    times = {
        ActionKind.FORWARD: forward,
        ActionKind.BACKWARD: inputs + weights,
        ActionKind.INPUT_GRADIENT: inputs,
        ActionKind.WEIGHT_GRADIENT: weights,
    }
    playing = play(
        ordering.order(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m),
        placement,
        {kind: (time,) * placement.stage_count for kind, time in times.items()},
        hop_s=float(row["hop_ms"]),
    )
    return 1 - m * v * (forward + inputs + weights) / playing.longest_span_s
