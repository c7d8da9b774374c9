"""Figures of where GPUs sit and who sends to whom."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodels.units import format_traffic
from dashboard.figures.style import FONT, INK
from dashboard.topology import Corner, Matrix, Mesh, labels

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""

_GROWTH = 10
_NODES_IN_A_ROW = 4


def _frame(height: int) -> dict[str, Any]:
    return {
        "template": {},
        "height": height,
        "margin": {"l": 52, "r": 12, "t": 8, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
    }


def gpus_by_node(mesh: Mesh, corner: Corner, axis: str) -> dict[str, Any]:
    """Return the GPUs of some nodes, a row for each node, coloured by their group on an axis.

    Parameters
    ----------
    mesh : Mesh
        Where ranks sit.
    corner : Corner
        Which of them to show.
    axis : str
        Axis whose groups have colours; members of a group share one.
    """
    ranks = corner.ranks
    nodes = mesh.node(ranks)
    shown = np.unique(nodes)
    slots = ranks % mesh.per_node
    width = int(slots.max()) + 1
    groups = mesh.group(ranks, axis)
    # Shifted by one after every round, so that groups above each other differ.
    order = np.searchsorted(np.unique(groups), groups)
    colours = (order + order // len(PALETTE)) % len(PALETTE)
    codes = np.full((len(shown), width), -1, dtype=np.int64)
    texts = np.full((len(shown), width), "", dtype=object)
    rows = np.searchsorted(shown, nodes)
    codes[rows, slots] = colours
    names = labels(mesh, ranks)
    for row, slot, name, group in zip(rows, slots, names, groups, strict=True):
        texts[row, slot] = f"{name}<br>{axis} group {group}"
    count = len(PALETTE)
    scale = [
        [edge, colour]
        for index, colour in enumerate(PALETTE)
        for edge in (index / count, (index + 1) / count)
    ]
    cells = [[code if code >= 0 else None for code in row] for row in codes.tolist()]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": cells,
                "text": texts.tolist(),
                "y": [f"node {node}" for node in shown.tolist()],
                "zmin": -0.5,
                "zmax": count - 0.5,
                "colorscale": scale,
                "showscale": False,
                "xgap": 2,
                "ygap": 3,
                "hovertemplate": "%{text}<extra></extra>",
            }
        ],
        "layout": _frame(64 + max(min(len(shown), 40) * 13, 80))
        | {
            "xaxis": {
                "title": {"text": "GPU of the node"},
                "showgrid": False,
                "zeroline": False,
                "dtick": 1 if width <= 16 else None,
            },
            "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category"},
            "margin": {"l": 76, "r": 12, "t": 8, "b": 40},
        },
    }


def heat_map(mesh: Mesh, matrix: Matrix) -> dict[str, Any]:
    """Return what ranks send each other, a colour for each power of ten."""
    sent = matrix.sent_bytes
    names = labels(mesh, matrix.ranks)
    positive = sent[sent > 0]
    with np.errstate(divide="ignore"):
        powers = np.where(sent > 0, np.log10(np.where(sent > 0, sent, 1.0)), np.nan)
    low = float(np.floor(np.log10(positive.min()))) if positive.size else 0.0
    high = float(np.ceil(np.log10(positive.max()))) if positive.size else 1.0
    high = max(high, low + 1)
    ticks = np.arange(low, high + 1)
    text = [
        [
            f"{names[source]}<br>to {names[target]}<br>{format_traffic(size)}" if size else ""
            for target, size in enumerate(row)
        ]
        for source, row in enumerate(sent.tolist())
    ]
    places = [str(rank) for rank in matrix.ranks.tolist()]
    axis = {"showgrid": False, "zeroline": False, "type": "category", "nticks": 9}
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [[None if np.isnan(v) else round(v, 4) for v in row] for row in powers],
                "x": places,
                "y": places,
                "text": text,
                "hovertemplate": "%{text}<extra></extra>",
                "hoverongaps": False,
                "zmin": low,
                "zmax": high,
                "colorscale": "Cividis",
                "reversescale": True,
                "colorbar": {
                    "tickvals": ticks.tolist(),
                    "ticktext": [format_traffic(float(_GROWTH**power)) for power in ticks],
                    "thickness": 10,
                    "outlinewidth": 0,
                },
            }
        ],
        "layout": _frame(430)
        | {
            "xaxis": axis | {"title": {"text": "receiving rank"}},
            "yaxis": axis | {"title": {"text": "sending rank"}, "autorange": "reversed"},
        },
    }


class _Box:
    """A rectangle with a text in it."""

    def __init__(self, left: float, top: float, width: float, height: float) -> None:
        self.left, self.top, self.width, self.height = left, top, width, height

    def shape(self, colour: str) -> dict[str, Any]:
        return {
            "type": "rect",
            "x0": self.left,
            "x1": self.left + self.width,
            "y0": -self.top,
            "y1": -self.top - self.height,
            "fillcolor": colour,
            "line": {"color": "white", "width": 1.5},
            "layer": "below",
        }

    def text(self, said: str) -> dict[str, Any]:
        return {
            "x": self.left + self.width / 2,
            "y": -self.top - self.height / 2,
            "text": said,
            "showarrow": False,
            "font": {"size": 11},
        }


def split_layers(
    rank_count: int, sizes: Sequence[str], collectives: Sequence[str]
) -> dict[str, Any]:
    """Return the two ways to split a matrix product, one above the other.

    Parameters
    ----------
    rank_count : int
        Ranks that share the matrix; at most eight are drawn.
    sizes : sequence of str
        Texts of tokens, inputs and outputs.
    collectives : sequence of str
        What combines the parts of the column split, and of the row split.
    """
    tokens, inputs, outputs = sizes
    drawn = min(rank_count, 8)
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    grey = "rgba(128, 136, 146, 0.35)"

    def parts(box: _Box, *, by_column: bool, split: bool) -> None:
        if not split:
            shapes.append(box.shape(grey))
            return
        for index in range(drawn):
            if by_column:
                part = _Box(
                    box.left + index * box.width / drawn, box.top, box.width / drawn, box.height
                )
            else:
                part = _Box(
                    box.left, box.top + index * box.height / drawn, box.width, box.height / drawn
                )
            shapes.append(part.shape(PALETTE[index]))

    for row, (title, by_column, combine) in enumerate(
        (
            ("column-parallel", True, collectives[0]),
            ("row-parallel", False, collectives[1]),
        )
    ):
        top = row * 2.7
        x, w, y = _Box(0, top + 0.5, 1.7, 1.2), _Box(2.5, top + 0.25, 2.4, 1.7), None
        y = _Box(5.8, top + 0.5, 2.4, 1.2)
        parts(x, by_column=True, split=not by_column)
        parts(w, by_column=by_column, split=True)
        parts(y, by_column=True, split=by_column)
        notes += [
            _Box(0, top - 0.25, 3, 0.3).text(f"<b>{title}</b>") | {"xanchor": "left", "x": 0},
            _Box(1.7, top + 0.9, 0.8, 0.4).text("x"),
            _Box(4.9, top + 0.9, 0.9, 0.4).text("="),
            _Box(0, top + 2.0, 1.7, 0.3).text(f"X: {tokens} x {inputs}"),
            _Box(2.5, top + 2.0, 2.4, 0.3).text(f"W: {inputs} x {outputs}"),
            _Box(5.8, top + 2.0, 2.4, 0.3).text(f"Y: {combine}"),
        ]
    hidden = {"visible": False, "fixedrange": True}
    return {
        "data": [{"type": "scatter", "x": [0, 8.3], "y": [0.4, -5.1], "mode": "none"}],
        "layout": _frame(330)
        | {
            "shapes": shapes,
            "annotations": notes,
            "xaxis": hidden | {"range": [-0.1, 8.4]},
            "yaxis": hidden | {"range": [-5.15, 0.35]},
            "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
            "showlegend": False,
        },
    }
