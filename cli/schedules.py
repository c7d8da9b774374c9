"""Pipeline schedules for people: compared for a scenario, or one of them action by action."""

from pathlib import Path

from cli.tables import console, print_table, table_of
from costmodels.errors import PresetNotFoundError, not_found_message
from costmodels.pipelining.actions import format_row
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
