"""How figures look within a page: no title of their own, no background, small margins."""

from typing import Any

import plotly.graph_objects as go

INK, FAINT, GRID = "#57606a", "#8c959f", "rgba(128, 136, 146, 0.22)"
"""Colours that read on light and dark backgrounds; style sheets may replace them."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def page_layout(*, height: int = 300, left: int = 56) -> dict[str, Any]:
    """Return the layout of a figure in a page, as a table: far quicker made than an object."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": FAINT, "ticks": ""}
    return {
        "template": {},
        "height": height,
        "margin": {"l": left, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }


def in_page(figure: go.Figure, *, height: int = 300, left: int = 56) -> go.Figure:
    """Return a figure as a page shows it, whose heading stands above it.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Any figure.
    height : int
        Its height [pixel].
    left : int
        Room for the labels of the vertical axis [pixel].
    """
    figure.update_layout(
        title=None,
        height=height,
        margin={"l": left, "r": 12, "t": 12, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": INK},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        uirevision="kept",
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=FAINT, ticks="")
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=FAINT, ticks="")
    return figure
