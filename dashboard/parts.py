"""Pieces of a page: numbers that explain themselves, tables, cards, figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from dash import dcc, html

from costmodels.analysis import CATALOGUE
from costmodels.quantities import Quantity
from costmodels.units import format_named
from dashboard.attributes import aria, data
from dashboard.identity import dom_id
from dashboard.state import State, query_of
from simulator.training import SIMULATED

KNOWN: Mapping[str, Quantity] = {entry.name: entry for entry in (*CATALOGUE.values(), *SIMULATED)}
"""Every quantity that can be explained, by name."""


def number(path: str, value: Any, *, at: str, text: str | None = None) -> html.Button:
    """Return a number that shows its definition to the pointer and its derivation when opened.

    Parameters
    ----------
    path : str
        Group and name, such as ``time.step_s``.
    value : object
        As the command line prints it, in base units.
    at : str
        Where it stands: a page may show a number in several places.
    text : str, optional
        How it is written, if not with the unit that its name ends with.
    """
    name = path.rpartition(".")[2]
    entry = KNOWN[name]
    return html.Button(
        text_of(name, value) if text is None else text,
        id={"type": "explain", "path": path, "at": at},
        className="number",
        title=f"{entry.definition} {entry.scope.value}, {entry.unit}. Open for its derivation.",
        **data(value=msgspec.json.encode(value).decode(), path=path, at=at),
    )


def text_of(name: str, value: Any) -> str:
    """Return the value of a quantity with its unit: memory in GiB, what is sent in GB."""
    entry = KNOWN.get(name)
    is_sent = entry is not None and entry.group == "communication" and entry.unit == "byte"
    return format_named("sent_bytes" if is_sent else name, value)


def card(title: str, *children: Any, note: str = "", wide: bool = False, key: str = "") -> Any:
    """Return a titled part of a page."""
    head: list[Any] = [html.H2(title)]
    if note:
        head.append(html.Span(note, className="note"))
    return html.Section(
        [html.Div(head, className="card-head"), *children],
        className="card wide" if wide else "card",
        **data(card=key),
    )


def figure(name: str | dict[str, str], drawn: Any, description: str, **more: Any) -> html.Div:
    """Return a figure with buttons that save it, described for those who cannot see it."""
    return html.Div(
        [
            dcc.Graph(
                id=name,
                figure=drawn,
                config={"displayModeBar": False, "responsive": True, "doubleClick": "reset"},
                **more,
            ),
            html.Div(
                [_saver(dom_id(name), kind) for kind in ("png", "svg")],
                className="savers",
            ),
        ],
        className="figure",
        role="figure",
        **aria(label=description),
    )


def _saver(name: str, kind: str) -> html.Button:
    return html.Button(
        kind.upper(),
        className="saver",
        title=f"save this figure as {kind.upper()}",
        **data(figure=name, format=kind),
    )


def table(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    align: str = "l",
    marked: Iterable[int] = (),
    caption: str = "",
) -> html.Div:
    """Return a table of texts and numbers.

    Parameters
    ----------
    name : str
        Under which it is saved as CSV.
    columns : sequence of str
        Headings.
    rows : iterable of sequences
        Cells.
    align : str
        For each column l for text or r for numbers; further columns are numbers.
    marked : iterable of int
        Rows that stand out.
    caption : str
        What it shows, for screen readers.
    """
    strong = set(marked)
    head = [html.Th(text, scope="col", className=_side(i, align)) for i, text in enumerate(columns)]
    body = [
        html.Tr(
            [html.Td(cell, className=_side(place, align)) for place, cell in enumerate(row)],
            className="marked" if index in strong else "",
        )
        for index, row in enumerate(rows)
    ]
    return html.Div(
        [
            html.Table(
                [
                    html.Caption(caption or name, className="unseen"),
                    html.Thead(html.Tr(head)),
                    html.Tbody(body),
                ],
                id=f"table-{name}",
            ),
            html.Button(
                "CSV",
                className="saver",
                title="save this table as CSV",
                **data(table=f"table-{name}", name=name),
            ),
        ],
        className="table",
    )


def _side(place: int, align: str) -> str:
    return "" if align[place : place + 1] == "l" else "right"


def apply_link(text: str, state: State, changes: Mapping[str, Any], path: str = "/") -> dcc.Link:
    """Return a link to the same page with some fields changed."""
    return dcc.Link(text, href=path + query_of(state.changed(changes)), className="apply")


def more(summary: str, *children: Any, is_open: bool = False) -> html.Details:
    """Return a part that opens when it is asked for."""
    return html.Details([html.Summary(summary), *children], open=is_open, className="more")


def message(text: str, *children: Any) -> html.Div:
    """Return a sentence in place of what cannot be shown."""
    return html.Div([html.P(text), *children], className="empty")


def unit_part(path: str) -> str:
    """Return the part of a path whose ending tells the unit: of peaks, the one before the last.

    Examples
    --------
    >>> unit_part("cluster.accelerator.peak_flop_per_s.bf16"), unit_part("plan.zero_stage")
    ('peak_flop_per_s', 'zero_stage')
    """
    parts = path.split(".")
    return parts[-2] if len(parts) > 1 and parts[-2].endswith("_per_s") else parts[-1]
