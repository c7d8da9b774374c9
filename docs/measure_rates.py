"""The bubble rates that the zero-bubble authors print, beside those of Shardwise's orders."""

import sys
from collections.abc import Mapping
from typing import Any

from docs.markdown import markdown_table
from validation.bubble_rates import COMPARED, SEARCHED, bubble_rate, published_rows, searched_rate


def rates_table() -> str:
    """Return every rate in per cent: Shardwise's, the authors', and the difference in points."""
    header = ["model", "m", *(entry.name for entry in (*COMPARED, *SEARCHED))]
    return markdown_table(header, map(_cells, published_rows()))


def _cells(row: Mapping[str, str]) -> list[str]:
    rates = {entry.column: bubble_rate(entry.name, row) for entry in COMPARED}
    rates |= {entry.column: searched_rate(entry, row) for entry in SEARCHED}
    compared = ((rate, float(row[column])) for column, rate in rates.items())
    return [row["model"], row["microbatch_count"], *(_cell(*pair) for pair in compared)]


def _cell(rate: float, printed: float) -> str:
    return f"{100 * rate:.2f} / {100 * printed:.2f} ({100 * (rate - printed):+.2f})"


TABLES: Mapping[str, Any] = {"bubble rates": rates_table}
"""The tables by the name under which a page asks for them."""

if __name__ == "__main__":
    for name, table in TABLES.items():
        sys.stdout.write(f"{name}\n\n{table()}\n\n")
