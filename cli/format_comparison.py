"""A model's weights in every number format, for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.padding import Padding

from cli.inputs import read_text
from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError, UnitError, not_found_message
from costmodels.number_formats.error import DISTRIBUTIONS
from costmodels.number_formats.layouts import StoredFormat, formats_of_text, stored_formats
from costmodels.scenario import Scenario
from costmodels.units import format_bytes, format_count, format_rate, format_seconds, parse_quantity
from simulator.format_comparison import (
    FormatComparison,
    Stored,
    checked_accelerators,
    compare_formats,
)


def check_options(
    options: Mapping[str, Any],
    *,
    asked: bool,
    question: tuple[str, str] | None,
    require_fit: bool,
) -> None:
    """Raise where options go together that cannot.

    Raises
    ------
    SpecError
        Naming the option.
    """
    if not asked:
        given = next(name for name, value in options.items() if value is not None)
        raise SpecError(f"{given}: needs --compare-formats")
    if question is not None:
        raise SpecError(f"--{question[0]}: cannot be asked together with --compare-formats")
    if require_fit:
        raise SpecError("--require-fit: no plan is judged with --compare-formats")


def compared(scenario: Scenario, options: Mapping[str, Any]) -> FormatComparison:
    """Return the comparison that options ask for.

    Raises
    ------
    SpecError
        If a name is unknown or a rate cannot be read.
    """
    distribution = options["--distribution"] or "gaussian"
    if distribution not in DISTRIBUTIONS:
        raise SpecError(
            not_found_message(what="--distribution", name=distribution[:60], known=DISTRIBUTIONS)
        )
    checked_accelerators(names(options["--accelerators"]), scenario)
    return compare_formats(
        scenario,
        names(options["--storages"]),
        own=own_formats(options["--formats"]),
        distribution=distribution,
        storage_bytes_per_s=_rate(options, "--storage-rate"),
        pcie_bytes_per_s=_rate(options, "--pcie-rate"),
    )


def names(text: str | None) -> tuple[str, ...]:
    """Return names with commas between."""
    return tuple(part.strip()[:200] for part in text.split(",")) if text else ()


def own_formats(file: Path | None) -> dict[str, StoredFormat]:
    """Return the formats of a file, none without.

    Raises
    ------
    SpecError
        If the file cannot be read, describes none, or takes a known name.
    """
    if file is None:
        return {}
    own = formats_of_text(read_text(file), where_from=str(file))
    taken = sorted(set(own) & set(stored_formats()))
    if taken:
        raise SpecError(f"{file}: {taken[0]} is the name of a known format; choose another")
    return own


def _rate(options: Mapping[str, Any], name: str) -> float | None:
    text = options[name]
    if text is None:
        return None
    try:
        return float(parse_quantity(text, "bytes_per_s"))
    except UnitError as error:
        raise SpecError(f"{name}: {error}") from None


def show_comparison(
    scenario: Scenario, comparison: FormatComparison, accelerators: str | None
) -> None:
    """Print size, loading, speed and error of each storage, then how many accelerators hold it."""
    out = console()
    shown = checked_accelerators(names(accelerators), scenario)
    out.print(f"{comparison.model}: {format_count(comparison.weights)} weights")
    table = table_of(
        f"Weights in each storage; speed on {comparison.accelerator}, over 16 bit",
        *("storage", "size", "bits/weight", "SQNR", "basis"),
        *("from storage", "over PCIe", "products in", "FLOP/s", "reading"),
    )
    for entry in comparison.storages:
        table.add_row(
            entry.name,
            format_bytes(entry.weights_bytes),
            f"{entry.bits_per_weight:.4f}",
            "-" if entry.sqnr_db is None else f"{entry.sqnr_db:.2f} dB",
            entry.error_basis,
            format_seconds(entry.storage_load_s),
            format_seconds(entry.pcie_load_s),
            entry.multiplies,
            f"{entry.flop_multiple:.3g}x",
            f"{entry.read_multiple:.3g}x",
        )
    print_table(out, table)
    counts = table_of("Fewest accelerators that hold the weights", "storage", *shown)
    for entry in comparison.storages:
        counts.add_row(entry.name, *(_count(entry, name) for name in shown))
    print_table(out, counts)
    for text in _notes(comparison):
        out.print(Padding(f"- {text}", (0, 0, 0, 2)))


def _count(entry: Stored, accelerator: str) -> str:
    found = [each.count for each in entry.holders if each.accelerator == accelerator]
    return str(found[0]) if found else "none"


def _notes(comparison: FormatComparison) -> list[str]:
    remarks: dict[str, list[str]] = {}
    for entry in comparison.storages:
        if entry.remark:
            remarks.setdefault(entry.remark, []).append(entry.name)
    sources = comparison.sources
    return [
        f"SQNR is that of the layers' matrices on {comparison.distribution} weights: closed form "
        "(exact), or measured where codes are found by search",
        "an accelerator holds what its memory leaves beside context and allocator reserve; "
        "activations and cache come on top",
        f"storage reads {format_rate(comparison.storage_bytes_per_s, 'B/s')} "
        f"({sources['storage_bytes_per_s'].basis.value}), once for all; each of the fewest "
        f"accelerators loads its share over {format_rate(comparison.pcie_bytes_per_s, 'B/s')} "
        f"({sources['pcie_bytes_per_s'].basis.value})",
        *(f"{remark}: {', '.join(found)}" for remark, found in remarks.items()),
    ]
