"""Pipeline schedules for people: compared for a scenario, or one of them action by action."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from cli.tables import console, print_table, table_of
from costmodels.errors import PresetNotFoundError, SpecError, not_found_message
from costmodels.pipelining.actions import Row, format_row
from costmodels.pipelining.asynchronous import staleness_count, weight_version_count
from costmodels.pipelining.automatic import StageTimes, automatic_order, held_most, played
from costmodels.pipelining.csv_orders import order_to_csv
from costmodels.pipelining.orderings import ORDERINGS, Ordering, ScheduleName
from costmodels.units import format_bytes, format_seconds
from simulator.schedule_choices import ScheduleComparison


def show_choices(comparison: ScheduleComparison) -> None:
    """Print what each schedule takes, the fastest first."""
    out = console()
    table = table_of(
        "Schedules on the same devices; * where none is both faster and smaller",
        "schedule",
        "chunks",
        "step",
        "idle / all time",
        "idle / work",
        "fullest GPU",
        "copies",
        "sent between stages",
    )
    for choice in comparison.choices:
        mark = " *" if choice.on_front else ""
        fits = "" if choice.fits else ", does not fit"
        table.add_row(
            f"{choice.schedule}{mark}",
            str(choice.virtual_stages),
            format_seconds(choice.step_s),
            f"{100 * choice.idle_fraction:.2f} %",
            f"{100 * choice.idle_over_work_ratio:.2f} %",
            f"{format_bytes(choice.peak_bytes)}{fits}",
            str(choice.parameter_copies),
            format_bytes(int(choice.sent_bytes)),
        )
    print_table(out, table)
    for name, reason in comparison.refused.items():
        out.print(f"{name}: {reason}")


def show_order(
    name: str, *, ranks: int, chunks: int | None, microbatches: int, csv: Path | None
) -> None:
    """Print what each rank does, or write it to a file in torch's format.

    Raises
    ------
    PresetNotFoundError
        If there is no schedule of this name.
    SpecError
        If the schedule does not exist for these sizes, or the file cannot be written.
    """
    if name not in list(ScheduleName):
        raise PresetNotFoundError(
            not_found_message(what="schedule", name=name, known=list(ScheduleName))
        )
    ordering = ORDERINGS[ScheduleName(name)]
    rows = ordering.rows_of(
        pipeline_parallel_size=ranks,
        virtual_stages=_least_chunks(ordering, ranks, microbatches) if chunks is None else chunks,
        microbatch_count=microbatches,
    )
    _show_rows(rows, csv)
    if ordering.name is ScheduleName.PIPEDREAM and csv is None:
        _show_versions(ranks, microbatches)


def _show_versions(ranks: int, microbatches: int) -> None:
    """Print what an asynchronous schedule keeps, and how old the weights of its gradients are."""
    versions, updates = (
        ", ".join(str(count(ranks, microbatches, rank)) for rank in range(ranks))
        for count in (weight_version_count, staleness_count)
    )
    console().print(
        f"Each backward updates its rank's weights. Versions of weights kept, by rank: {versions}; "
        f"updates between a microbatch's forward and its backward: {updates}.",
        soft_wrap=True,
    )


def show_search(
    text: str, *, ranks: int, microbatches: int, held_limit: int | None, csv: Path | None
) -> None:
    """Search an order for the times of a stage; print it and how long ranks wait, or write it.

    Raises
    ------
    SpecError
        If the times are not three or four positive numbers, or the file cannot be written.
    """
    forward, inputs, weights, hop = _times_of(text)
    times = StageTimes(
        forward_s=(forward,) * ranks,
        input_gradient_s=(inputs,) * ranks,
        weight_gradient_s=(weights,) * ranks,
        hop_s=hop,
    )
    order = automatic_order(
        times, microbatch_count=microbatches, held_limit=ranks if held_limit is None else held_limit
    )
    _show_rows(tuple(Row(actions, frozenset()) for actions in order), csv)
    if csv is None:
        span = played(order, times).longest_span_s
        work = microbatches * (forward + inputs + weights)
        held = max(map(held_most, order))
        console().print(
            f"The longest-working rank takes {span:.6g} for {work:.6g} of work, a bubble of "
            f"{100 * (1 - work / span):.2f} %; ranks hold at most {held:g} microbatches.",
            soft_wrap=True,
        )


def _times_of(text: str) -> tuple[float, float, float, float]:
    """Return three times of actions, and that of a hand-over, zero if left out."""
    try:
        numbers = [float(value) for value in text.split(",")]
    except ValueError:
        numbers = []
    finite = all(map(isfinite, numbers))
    if len(numbers) not in (3, 4) or not finite or min(numbers[:3]) <= 0 or min(numbers) < 0:
        raise SpecError(
            f"--search ({text}): expected F,I,W or F,I,W,HOP, three times above zero and one of "
            "at least zero"
        )
    forward, inputs, weights, *hops = numbers
    return forward, inputs, weights, sum(hops)


def _show_rows(rows: Sequence[Row], csv: Path | None) -> None:
    """Print what each rank does, or write it to a file in torch's format."""
    if csv is not None:
        from cli.inputs import write_text

        write_text(csv, order_to_csv(rows))
        return
    out = console()
    for rank, row in enumerate(rows):
        out.print(f"{rank}  {' '.join(format_row(row))}", soft_wrap=True)


def _least_chunks(ordering: Ordering, ranks: int, microbatches: int) -> int:
    """Return one chunk on each rank, or two where the schedule needs them."""
    one = ordering.legal(
        pipeline_parallel_size=ranks, virtual_stages=1, microbatch_count=microbatches
    )
    interleaves = "interleaved" in ordering.name
    return 1 if one and not interleaves else 2
