"""Tables and numbers for people: readable in a terminal, plain when piped."""

import sys
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from costmodels.units import format_bytes, format_named, format_signed

PIPED_WIDTH = 150


def console(*, error: bool = False) -> Console:
    """Return a console that prints plain text of a fixed width where nobody looks at it."""
    piped = not (sys.stderr if error else sys.stdout).isatty()
    return Console(
        stderr=error,
        width=PIPED_WIDTH if piped else None,
        no_color=piped,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


class Titled(NamedTuple):
    """A table with the line above it, which is no wider or narrower than it needs."""

    title: str
    table: Table

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Add a row of cells."""
        self.table.add_row(*cells, style=style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="bold")
        # Rich cuts the cells of a column that may not wrap, unless they say how wide they are.
        for column in self.table.columns:
            if column.no_wrap:
                cells = [str(column.header), *map(str, column.cells)]
                column.min_width = max(map(cell_len, cells))
        least = Measurement.get(console, options.update(max_width=_UNBOUNDED), self.table).minimum
        yield from console.render(self.table, options.update(width=max(options.max_width, least)))


def table_of(title: str, *columns: str, left: int = 1) -> Titled:
    """Return an empty table; the first `left` columns are text."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for index, column in enumerate(columns):
        is_text = index < left
        justify: JustifyMethod = "left" if is_text else "right"
        table.add_column(
            column, justify=justify, overflow="fold", no_wrap=index == 0 or not is_text
        )
    return Titled(title, table)


def print_table(out: Console, table: Titled) -> None:
    """Print a table in full: where it is wider than the console, its lines are longer too."""
    out.print(table, crop=False)


def natural_width(out: Console, table: Titled) -> int:
    """Return the columns of text that a table takes when nothing in it is folded."""
    # An unbounded console: a measurement is never more than the width it is asked for.
    return out.measure(table.table, options=out.options.update(max_width=_UNBOUNDED)).maximum


_UNBOUNDED = 100_000


def show_verdict(out: Console, *, fits: bool, headroom_bytes: int, stage: int) -> None:
    """Print whether a plan fits, and by how much."""
    margin = format_bytes(abs(headroom_bytes))
    text = f"fits: {margin} left" if fits else f"does not fit: {margin} too much"
    out.print(f"{text} on the fullest GPUs (stage {stage})", style="green" if fits else "red")


shown, signed = format_named, format_signed
"""Names under which tables use them."""
