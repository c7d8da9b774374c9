"""Curves of a number over the values of one field."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from costmodels.units import format_named
from dashboard.figures.style import FAINT, FONT, GRID, INK
from simulator.answer import Answer


class Point(NamedTuple):
    """A value of the field, and the answer there."""

    value: int
    answer: Answer


def sweep(points: Sequence[Point], quantity: str, field: str) -> dict[str, Any]:
    """Return a number over the values of a field; hollow where the plan does not fit.

    Parameters
    ----------
    points : sequence of Point
        In the order of the values.
    quantity : str
        Group and name, such as ``time.step_s``; not drawn where it is withheld.
    field : str
        Path of the field.
    """
    group, _, name = quantity.partition(".")
    shown = [
        (point.value, value, point.answer.fits)
        for point in points
        if isinstance(value := getattr(point.answer, group).get(name), int | float)
    ]
    values = [value for value, _, _ in shown]
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": FAINT, "ticks": ""}
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": values,
                "y": [number for _, number, _ in shown],
                "text": [
                    f"{field} {value:,}<br>{format_named(name, number)}"
                    + ("" if fits else "<br>does not fit")
                    for value, number, fits in shown
                ],
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": "#0072B2", "width": 2},
                "marker": {
                    "size": 9,
                    "color": "#0072B2",
                    "symbol": ["circle" if fits else "circle-open" for _, _, fits in shown],
                },
            }
        ],
        "layout": {
            "template": {},
            "height": 320,
            "margin": {"l": 70, "r": 16, "t": 10, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 12, "color": INK},
            "xaxis": axis
            | {
                "title": {"text": field},
                "type": "log" if min(values, default=0) > 0 else "linear",
                "tickvals": values,
                "ticktext": [f"{value:,}" for value in values],
            },
            "yaxis": axis
            | {"title": {"text": quantity}, "rangemode": "tozero", "tickformat": "~s"},
        },
    }
