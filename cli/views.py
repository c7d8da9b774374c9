"""Simulations, comparisons, derivations and lists for people."""

from rich.markup import escape
from rich.padding import Padding
from rich.tree import Tree

from cli.listings import Listing
from cli.tables import Titled, console, shown, table_of
from costmodels.units import (
    format_bytes,
    format_flop,
    format_fraction,
    format_seconds,
    format_traffic,
)
from simulator.answer import Comparison, Derivation, Difference
from simulator.training import Simulation


def show_simulation(played: Simulation) -> None:
    """Print what a simulated step took, GPU by GPU."""
    out, metrics = console(), played.metrics
    out.print(f"step {format_seconds(metrics.makespan_s)} (basis: assumed)")
    out.print(
        f"pipeline {format_seconds(metrics.pipeline_makespan_s)}, idle "
        f"{format_fraction(metrics.idle_fraction)}; {len(played.trace.spans):,} spans"
    )
    table = table_of(
        "One GPU of each stage", "stage", "busy", "idle", "idle share", "work", "peak memory"
    )
    phase_s = metrics.pipeline_makespan_s
    for stage, busy_s in enumerate(metrics.busy_s):
        table.add_row(
            str(stage),
            format_seconds(busy_s),
            format_seconds(metrics.idle_s[stage]),
            format_fraction(metrics.idle_s[stage] / phase_s),
            format_flop(metrics.flop[stage]),
            format_bytes(metrics.peak_bytes[stage]),
        )
    out.print(table)
    sent = table_of("Bytes sent, one GPU of each stage together", "axis", "bytes")
    for axis, size_bytes in metrics.sent_bytes.items():
        sent.add_row(axis, format_traffic(size_bytes))
    out.print(sent)


def show_comparison(comparison: Comparison) -> None:
    """Print a column for each case beside the scenario that they start from."""
    out = console()
    columns = ["", "before"]
    for number, case in enumerate(comparison.cases, start=1):
        changes = " ".join(f"{path}={value}" for path, value in case.changes.items())
        out.print(f"case {number}: {changes}")
        columns += [f"case {number}", "difference"]
    table = table_of("Before, after, and the terms that make the difference", *columns)
    fits = [str(case.answer.fits).lower() for case in comparison.cases]
    table.add_row("fits", str(comparison.base.fits).lower(), *(c for f in fits for c in (f, "")))
    for name in dict.fromkeys(d.name for case in comparison.cases for d in case.differences):
        _add_difference_rows(table, name, comparison)
    out.print(table)
    for number, case in enumerate(comparison.cases, start=1):
        for note in case.answer.notes:
            if note not in comparison.base.notes:
                out.print(Padding(f"- case {number}: {note}", (0, 0, 0, 2)))


def _add_difference_rows(table: Titled, name: str, comparison: Comparison) -> None:
    """Add a quantity's row, and one for each term that moved it in any case."""
    found = [
        next((d for d in case.differences if d.name == name), None) for case in comparison.cases
    ]
    before = next(d.before for d in found if d is not None)
    cells = [cell for d in found for cell in _difference_cells(d)]
    moved = dict.fromkeys(
        term.name for d in found if d is not None for term in d.terms if term.difference
    )
    table.add_row(name, shown(name, before), *cells, style="bold" if moved else None)
    for term_name in moved:
        terms = [
            next((t for t in d.terms if t.name == term_name), None) if d is not None else None
            for d in found
        ]
        first = next(term.before for term in terms if term is not None)
        cells = [
            cell
            for term in terms
            for cell in (
                ("-", "-")
                if term is None
                else (shown(term_name, term.after), _signed(term_name, term.difference))
            )
        ]
        table.add_row(f"    {term_name}", shown(term_name, first), *cells)


def _difference_cells(entry: Difference | None) -> tuple[str, str]:
    if entry is None:
        return "-", "-"
    difference = "-" if entry.difference is None else _signed(entry.name, entry.difference)
    if entry.difference and entry.before:
        difference += f" ({100 * entry.difference / abs(entry.before):+.1f} %)"
    return shown(entry.name, entry.after), difference


def _signed(name: str, value: float) -> str:
    if name.endswith("_fraction"):
        return f"{100 * value:+.2f} points"
    sign = "-" if value < 0 else "+" if value > 0 else ""
    return sign + shown(name, abs(value))


def show_derivation(derivation: Derivation, depth: int) -> None:
    """Print the derivation of a number as a tree, as many levels deep as asked."""
    tree = Tree(_derivation_text(derivation, root=True), guide_style="dim")
    _grow(tree, derivation, depth)
    console().print(tree)


def _grow(tree: Tree, derivation: Derivation, depth: int) -> None:
    if depth == 0:
        return
    for entry in derivation.inputs:
        _grow(tree.add(_derivation_text(entry, root=False)), entry, depth - 1)


def _derivation_text(entry: Derivation, *, root: bool) -> str:
    value = _value_text(entry)
    lines = [f"{entry.name} = {value}  \\[{entry.basis.value}; {entry.scope}]"]
    if root or not entry.formula:
        lines.append(escape(entry.definition))
    if entry.formula:
        lines.append("formula: " + escape(entry.formula))
    if entry.substituted:
        lines.append("       = " + escape(entry.substituted))
    if entry.source:
        lines.append("source: " + escape(entry.source))
    return "\n".join(lines)


def _value_text(entry: Derivation) -> str:
    if isinstance(entry.value, dict):
        return "; ".join(f"{label}: {value}" for label, value in entry.value.items())
    return (
        f"{entry.value} {entry.unit}" if entry.unit not in ("truth", "index") else str(entry.value)
    )


def show_listing(table: Listing) -> None:
    """Print a list."""
    printed = table_of(table.title, *table.columns, left=len(table.columns))
    for row in table.rows:
        printed.add_row(*row)
    console().print(printed)
