"""Simulations, comparisons, derivations and lists for people."""

from rich.padding import Padding
from rich.tree import Tree

from cli.descriptions import Described, value_text
from cli.listings import Listing
from cli.tables import (
    Titled,
    console,
    natural_width,
    print_table,
    shown,
    signed,
    table_of,
)
from simulator.answer import Comparison, Derivation, Difference


def show_comparison(comparison: Comparison) -> None:
    """Print columns for each case beside the scenario that they start from.

    As many cases as the width holds share a table, at least one; further ones get further tables
    with the same rows.
    """
    out = console()
    for number, case in enumerate(comparison.cases, start=1):
        changes = " ".join(f"{path}={value}" for path, value in case.changes.items())
        out.print(f"case {number}: {changes}")
    first, count = 0, len(comparison.cases)
    while first < count:
        last = first + 1
        table = _comparison_table(comparison, range(first, last))
        while last < count:
            wider = _comparison_table(comparison, range(first, last + 1))
            if natural_width(out, wider) > out.width:
                break
            table, last = wider, last + 1
        print_table(out, table)
        first = last
    for number, case in enumerate(comparison.cases, start=1):
        for note in case.answer.notes:
            if note not in comparison.base.notes:
                out.print(Padding(f"- case {number}: {note}", (0, 0, 0, 2)))


def _comparison_table(comparison: Comparison, shown_cases: range) -> Titled:
    """Return the table of some of the cases; its rows are those that any case needs."""
    columns = ["", "before"]
    for index in shown_cases:
        columns += [f"case {index + 1}", "difference"]
    table = table_of("Before, after, and the terms that make the difference", *columns)
    fits = [str(comparison.cases[index].answer.fits).lower() for index in shown_cases]
    table.add_row("fits", str(comparison.base.fits).lower(), *(c for f in fits for c in (f, "")))
    for name in dict.fromkeys(d.name for case in comparison.cases for d in case.differences):
        _add_difference_rows(table, name, comparison, shown_cases)
    return table


def _add_difference_rows(
    table: Titled, name: str, comparison: Comparison, shown_cases: range
) -> None:
    """Add a quantity's row, and one for each term that moved it in any case."""
    found = [
        next((d for d in case.differences if d.name == name), None) for case in comparison.cases
    ]
    before = next(d.before for d in found if d is not None)
    cells = [cell for index in shown_cases for cell in _difference_cells(found[index])]
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
            for term in (terms[index] for index in shown_cases)
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
        difference += f" ({signed(100 * entry.difference / abs(entry.before), 1)} %)"
    return shown(entry.name, entry.after), difference


def _signed(name: str, value: float) -> str:
    if name.endswith("_fraction"):
        return f"{signed(100 * value)} points"
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
    lines = [f"{entry.name} = {value}  [{entry.basis.value}; {entry.scope}]"]
    if root or not entry.formula:
        lines.append(entry.definition)
    if entry.formula:
        lines.append("formula: " + entry.formula)
    if entry.substituted:
        member = f"  ({entry.substituted_for})" if entry.substituted_for else ""
        lines.append(f"       = {entry.substituted}{member}")
    if entry.source:
        lines.append("source: " + entry.source)
    return "\n".join(lines)


def _value_text(entry: Derivation) -> str:
    if entry.withheld:
        return f"withheld: {entry.withheld} (--ignore-memory gives it)"
    if isinstance(entry.value, dict):
        return "; ".join(f"{label}: {value}" for label, value in entry.value.items())
    return (
        f"{entry.value} {entry.unit}" if entry.unit not in ("truth", "index") else str(entry.value)
    )


def show_listing(table: Listing) -> None:
    """Print a list, or that it is empty."""
    if not table.rows:
        console().print(f"{table.title}: none holds every word")
        return
    printed = table_of(table.title, *table.columns, left=len(table.columns))
    for row in table.rows:
        printed.add_row(*row)
    print_table(console(), printed)


def show_description(found: Described) -> None:
    """Print a description, each value with its source, and what follows from it."""
    out = console()
    columns = ("field", "value", "basis", "source")
    sourced = any(field.basis for field in found.fields)
    used = columns if sourced else columns[:2]
    table = table_of(f"{found.what} {found.name}", *used, left=len(used))
    for field in found.fields:
        own = (field.basis, field.source) if field.basis else ("", "")
        table.add_row(field.field, value_text(field), *(own if sourced else ()))
    print_table(out, table)
    if found.source:
        others = "values without a source of their own" if sourced else "all values"
        out.print(f"source of {others}: {found.source}")
        out.print()
    if found.counts:
        counts = table_of("Parameters that follow from it", "quantity", "definition", "", left=2)
        for count in found.counts:
            counts.add_row(count.name, count.definition, f"{count.value:,}")
        print_table(out, counts)
    for note in found.notes:
        out.print(Padding(f"- {note}", (0, 0, 0, 2)))
