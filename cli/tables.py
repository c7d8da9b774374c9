"""Tables and numbers for people: readable in a terminal, plain when piped."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from costmodels.units import (
    SECONDS_PER_HOUR,
    format_bytes,
    format_energy,
    format_flop,
    format_fraction,
    format_number,
    format_rate,
    format_seconds,
    format_traffic,
    format_usd,
    unit_of_field,
)

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


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, no sign of minus before what rounds to zero.

    Examples
    --------
    >>> signed(-0.001), signed(-0.1), signed(2.0, 1)
    ('+0.00', '-0.10', '+2.0')
    """
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def shown(name: str, value: Any) -> str:
    """Return a number with the unit that its name ends with."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("sent_bytes"):
        return format_traffic(value)
    if "tokens_per_s" in name:
        return f"{value:,.1f} tokens/s"
    unit = unit_of_field(name.removesuffix("_per_gpu"))
    return _FORMS.get(unit, format_number)(value)


_FORMS: Mapping[str, Callable[[float], str]] = {
    "bytes": format_bytes,
    "bytes_per_s": lambda value: format_rate(value, "B/s"),
    "flop": format_flop,
    "flop_per_s": lambda value: format_rate(value, "FLOP/s"),
    "s": format_seconds,
    "w": lambda value: f"{value:,.4g} W",
    "j": format_energy,
    "usd": format_usd,
    "usd_per_s": lambda value: f"{format_usd(value * SECONDS_PER_HOUR)}/h",
    "fraction": format_fraction,
}
