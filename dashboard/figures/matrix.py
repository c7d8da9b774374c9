"""A heat map of what GPUs or nodes send to each other."""

import numpy as np
import plotly.graph_objects as go

from costmodels.units import format_traffic
from simulator.matrix import NODE, TrafficMatrix

MOST_CELLS = 512
"""Rows of a heat map; more GPUs are drawn as blocks of neighbours [count]."""


def traffic_heat_map(matrix: TrafficMatrix) -> go.Figure:
    """Return the bytes from each sender (rows) to each receiver as colours, on a log scale.

    Parameters
    ----------
    matrix : TrafficMatrix
        By GPU or by node.

    Returns
    -------
    plotly.graph_objects.Figure
        One cell for each pair, or for each pair of blocks where there are many [byte].
    """
    block = -(-matrix.size // MOST_CELLS)
    size = -(-matrix.size // block)
    places = np.asarray(matrix.source) // block * size + np.asarray(matrix.target) // block
    sent = np.bincount(
        places.astype(np.int64), weights=matrix.sent_bytes, minlength=size * size
    ).reshape(size, size)
    colours = np.full(sent.shape, np.nan)
    np.log10(sent, out=colours, where=sent > 0)
    text = [[format_traffic(value) if value else "" for value in row] for row in sent]
    unit = "node" if matrix.by == NODE else "GPU"
    first = [block * place for place in range(size)]
    name = f"{unit}s of a block of {block}, by the first" if block > 1 else unit
    exponents = np.unique(np.floor(colours[~np.isnan(colours)])).tolist()
    figure = go.Figure(
        go.Heatmap(
            z=colours.tolist(),
            x=first,
            y=first,
            text=text,
            hovertemplate=f"{unit} %{{y}} to %{{x}}: %{{text}}<extra></extra>",
            colorscale="Viridis",
            colorbar={
                "title": {"text": "sent in a step"},
                "tickvals": exponents,
                "ticktext": [format_traffic(10**exponent) for exponent in exponents],
            },
        )
    )
    total = matrix.scale_up_bytes + matrix.network_bytes
    figure.update_layout(
        title={
            "text": f"Bytes between {unit}s in a step: {format_traffic(total)}, of them "
            f"{format_traffic(matrix.network_bytes)} across nodes"
        },
        xaxis={"title": {"text": f"to {name}"}, "constrain": "domain"},
        yaxis={"title": {"text": f"from {name}"}, "autorange": "reversed", "scaleanchor": "x"},
        template="plotly_white",
    )
    return figure
