"""Figures of number formats: a model's weights in each, and the numbers of a format on a line."""

from typing import Any

import plotly.graph_objects as go

from costmodels.number_formats.encoding import finite_numbers
from costmodels.number_formats.explaining import Explained
from costmodels.number_formats.scalars import ScalarFormat
from costmodels.units import UNITS
from simulator.format_comparison import FormatComparison

_GIB_BYTES = int(UNITS["bytes"]["GiB"])
_COLOURS = {
    "attention": "#0072B2",
    "ffn": "#E69F00",
    "experts": "#D55E00",
    "router": "#F0E442",
    "embedding": "#009E73",
    "head": "#56B4E9",
    "vectors": "#999999",
}


def memory_by_format(
    comparison: FormatComparison, capacities: dict[str, int] | None = None
) -> go.Figure:
    """Return the weights of each storage as stacked bars, the expected error beside them.

    Parameters
    ----------
    comparison : FormatComparison
        The storages.
    capacities : dict of str to int or None
        Memory of accelerators, drawn as lines [byte].

    Returns
    -------
    plotly.graph_objects.Figure
        A bar for each storage and role [GiB]; points of the ratio [dB].
    """
    names = [entry.name for entry in comparison.storages]
    roles = [
        role for role in _COLOURS if any(role in each.role_bytes for each in comparison.storages)
    ]
    figure = go.Figure(
        [
            go.Bar(
                name=role,
                x=names,
                y=[each.role_bytes.get(role, 0) / _GIB_BYTES for each in comparison.storages],
                marker={"color": _COLOURS[role]},
                hovertemplate="%{x}, " + role + ": %{y:.3f} GiB<extra></extra>",
            )
            for role in roles
        ]
    )
    figure.add_trace(
        go.Scatter(
            name=f"expected SQNR, {comparison.distribution}",
            x=names,
            y=[each.sqnr_db for each in comparison.storages],
            mode="markers",
            yaxis="y2",
            marker={"color": "#000000", "symbol": "diamond"},
            customdata=[each.error_basis for each in comparison.storages],
            hovertemplate="%{x}: %{y:.2f} dB (%{customdata})<extra></extra>",
        )
    )
    for name, size in (capacities or {}).items():
        figure.add_hline(y=size / _GIB_BYTES, line={"dash": "dot"}, annotation_text=name)
    figure.update_layout(
        barmode="stack",
        title=f"Weights of {comparison.model} in each storage",
        yaxis={"title": "weights [GiB]"},
        yaxis2={"title": "SQNR [dB]", "overlaying": "y", "side": "right", "rangemode": "tozero"},
        xaxis={"title": "storage"},
    )
    return figure


def neighbours_of(found: Explained) -> go.Figure:
    """Return a number, what a format makes of it, and the format's next numbers on a line.

    Parameters
    ----------
    found : Explained
        The number in its format.

    Returns
    -------
    plotly.graph_objects.Figure
        Points on a line.
    """
    points: list[tuple[str, float | None, str]] = [
        ("next below", found.below, "#999999"),
        ("held", found.value, "#0072B2"),
        ("next above", found.above, "#999999"),
        ("number", found.number, "#D55E00"),
    ]
    figure = go.Figure(
        [
            go.Scatter(
                name=name,
                x=[value],
                y=[0],
                mode="markers+text",
                text=[name],
                textposition="bottom center" if name == "number" else "top center",
                marker={"color": colour, "size": 12},
                hovertemplate=name + ": %{x}<extra></extra>",
            )
            for name, value, colour in points
            if value is not None
        ]
    )
    figure.update_layout(
        title=f"{found.format} around {found.number!r}", yaxis={"visible": False}, showlegend=False
    )
    return figure


def numbers_of(source: ScalarFormat) -> go.Figure:
    """Return every number of a format of at most 8 bits on a line.

    Parameters
    ----------
    source : ScalarFormat
        The format.

    Returns
    -------
    plotly.graph_objects.Figure
        A mark for each number, denser toward zero.
    """
    numbers: Any = finite_numbers(source)
    figure = go.Figure(
        go.Scatter(
            x=numbers.tolist(),
            y=[0] * len(numbers),
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 14, "color": "#0072B2"},
            hovertemplate="%{x}<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"The {len(numbers)} numbers of {source.name}", yaxis={"visible": False}
    )
    return figure
