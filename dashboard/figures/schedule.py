"""A simulated step of any size: an overview as a raster, bars once few enough spans are in view.

Browsers draw some thousands of bars at once, and rasters of any schedule: so a schedule is shown as
a raster of what each rank does, until a window holds few enough spans to draw them one by one.
Figures are plain tables, which are several times faster to make and to send than objects.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from costmodels.units import UNITS
from dashboard.figures.pipeline import style_of
from dashboard.figures.style import FAINT, FONT, GRID, INK
from simulator.drawing import Style
from simulator.trace import PIPELINE_AXIS, Engine, Span, Trace

DETAIL_SPANS = 2_000
"""Spans in view up to which each is a bar."""

CELLS = 1_500
"""Cells of a raster along the time axis: about one for each pixel."""

IDLE = Style("idle", "#d8dee4")
"""How a rank is drawn that waits."""

_LABELLED_SPANS = 600
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_GIB_BYTES = float(UNITS["bytes"]["GiB"])


class Window(NamedTuple):
    """A stretch of time [s]."""

    start_s: float
    end_s: float


class Spans(NamedTuple):
    """The spans of a trace as arrays, in the order in which they were made.

    Attributes
    ----------
    start_s, end_s : array
        From when to when [s].
    rank, stage, microbatch : array
        Which action of which rank; -1 for none [index].
    kind : array
        Place in `names` [index].
    computes : array
        Whether a rank's computing is busy, not its network.
    names : tuple of str
        Names of the kinds of spans.
    """

    start_s: _Floats
    end_s: _Floats
    rank: _Ints
    stage: _Ints
    microbatch: _Ints
    kind: _Ints
    computes: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    def kept(self, which: npt.NDArray[Any]) -> "Spans":
        """Return some of the spans."""
        return Spans(
            start_s=self.start_s[which],
            end_s=self.end_s[which],
            rank=self.rank[which],
            stage=self.stage[which],
            microbatch=self.microbatch[which],
            kind=self.kind[which],
            computes=self.computes[which],
            names=self.names,
        )


def spans_of(trace: Trace) -> Spans:
    """Return the spans of a trace as arrays."""
    spans = trace.spans
    names: dict[str, int] = {}
    kinds = [names.setdefault(str(span.name), len(names)) for span in spans]
    return Spans(
        start_s=np.asarray([span.start_s for span in spans], dtype=np.float64),
        end_s=np.asarray([span.end_s for span in spans], dtype=np.float64),
        rank=np.asarray([span.rank for span in spans], dtype=np.int64),
        stage=_indices([span.stage for span in spans]),
        microbatch=_indices([span.microbatch for span in spans]),
        kind=np.asarray(kinds, dtype=np.int64),
        computes=np.asarray([span.engine is Engine.COMPUTE for span in spans], dtype=bool),
        names=tuple(names),
    )


def _indices(values: Sequence[int | None]) -> _Ints:
    return np.asarray([-1 if value is None else value for value in values], dtype=np.int64)


def legend(spans: Spans) -> list[Style]:
    """Return what the colours of a schedule mean, in the order in which kinds first appear."""
    return [*(style_of(name) for name in spans.names), IDLE]


class Held(NamedTuple):
    """What ranks hold over time, as steps.

    Attributes
    ----------
    time_s : list of float
        When it changes [s].
    held_bytes : list of int
        What is held from then on [byte].
    """

    time_s: list[float]
    held_bytes: list[int]


class Prepared(NamedTuple):
    """What every drawing of a trace starts from; made once, drawn in many windows.

    Attributes
    ----------
    spans : Spans
        What ranks did.
    held : list of Held
        What each rank held.
    """

    spans: Spans
    held: list[Held]

    @property
    def rank_count(self) -> int:
        """Return the ranks of the pipeline [count]."""
        return len(self.held)


def prepared(trace: Trace) -> Prepared:
    """Return what every drawing of a trace starts from."""
    return Prepared(spans_of(trace), memory_over_time(trace))


def schedule(
    drawn_from: Prepared,
    *,
    window: Window | None = None,
    until_s: float | None = None,
    capacity_bytes: int | None = None,
) -> dict[str, Any]:
    """Return what each rank did when, and below it what it held, on one time axis.

    Parameters
    ----------
    drawn_from : Prepared
        A simulated step.
    window : Window, optional
        What is in view; all of it, if left out.
    until_s : float, optional
        Where the time axis ends, so that several schedules share it; the end of the step, if left
        out [s].
    capacity_bytes : int, optional
        Memory of a GPU, drawn as a line [byte].

    Returns
    -------
    dict
        A plotly figure as a table: bars up to `DETAIL_SPANS` in view, a raster above.
    """
    spans, ranks = drawn_from.spans, drawn_from.rank_count
    last_s = float(spans.end_s.max(initial=0.0)) if until_s is None else until_s
    view = window or Window(0.0, last_s)
    seen = spans.kept((spans.end_s > view.start_s) & (spans.start_s < view.end_s))
    detailed = len(seen.start_s) <= DETAIL_SPANS
    drawn = [_idle_rows(ranks, view), *_bars(seen)] if detailed else [_raster(seen, ranks, view)]
    return {
        "data": [*drawn, *_memory(drawn_from.held, view)],
        "layout": _layout(ranks, view, capacity_bytes, is_detailed=detailed),
    }


def _idle_rows(rank_count: int, window: Window) -> dict[str, Any]:
    """Return the rows in which bars lie: where no bar covers one, the rank waits."""
    return {
        "type": "bar",
        "orientation": "h",
        "base": [window.start_s] * rank_count,
        "x": [window.end_s - window.start_s] * rank_count,
        "y": list(range(rank_count)),
        "offset": -0.4,
        "width": 0.6,
        "marker": {"color": IDLE.colour, "opacity": 0.45, "line": {"width": 0}},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _bars(spans: Spans) -> list[dict[str, Any]]:
    labelled = len(spans.start_s) <= _LABELLED_SPANS
    found = []
    for kind, name in enumerate(spans.names):
        for computes in (True, False):
            chosen = spans.kept((spans.kind == kind) & (spans.computes == computes))
            if len(chosen.start_s):
                found.append(_bars_of(name, chosen, computes=computes, labelled=labelled))
    return found


def _bars_of(name: str, spans: Spans, *, computes: bool, labelled: bool) -> dict[str, Any]:
    style = style_of(name)
    in_pipeline = bool(spans.stage[0] >= 0)
    which = "stage %{customdata[1]}, microbatch %{customdata[2]}<br>" if in_pipeline else ""
    # Seconds to nine digits: lists of short numbers travel in a tenth of the bytes of arrays.
    start_s, length_s = _short(spans.start_s), _short(spans.end_s - spans.start_s)
    stage, microbatch = spans.stage.tolist(), spans.microbatch.tolist()
    return {
        "type": "bar",
        "orientation": "h",
        "name": style.label,
        "base": start_s,
        "x": length_s,
        "y": spans.rank.tolist(),
        "offset": -0.4 if computes else 0.22,
        "width": 0.6 if computes else 0.18,
        "marker": {
            "color": style.colour,
            "line": {"color": "white", "width": 0.5 if labelled else 0},
        },
        "text": [str(index) for index in microbatch] if labelled and in_pipeline else None,
        "textposition": "inside",
        "textangle": 0,
        "insidetextanchor": "middle",
        "insidetextfont": {"size": 9, "color": "#1f2328"},
        "cliponaxis": False,
        "customdata": list(zip(start_s, stage, microbatch, length_s, strict=True)),
        "hovertemplate": f"{style.label}, rank %{{y}}<br>{which}"
        "from %{customdata[0]:.6g} s, %{customdata[3]:.4g} s long<extra></extra>",
        "showlegend": False,
    }


def _short(values: _Floats) -> list[float]:
    return [float(f"{value:.9g}") for value in values.tolist()]


def _raster(spans: Spans, rank_count: int, window: Window) -> dict[str, Any]:
    """Return what each rank does at the middle of each cell of time."""
    edges = np.linspace(window.start_s, window.end_s, CELLS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    codes = np.zeros((rank_count, CELLS), dtype=np.int64)
    for rank in range(rank_count):
        # The network first: what a rank computes at the same time is drawn over it.
        for computes in (False, True):
            own = spans.kept((spans.rank == rank) & (spans.computes == computes))
            if not len(own.start_s):
                continue
            own = own.kept(np.argsort(own.start_s, kind="stable"))
            place = np.searchsorted(own.start_s, middles, side="right") - 1
            busy = (place >= 0) & (own.end_s[place] > middles)
            codes[rank, busy] = own.kind[place[busy]] + 1
    styles = [IDLE, *(style_of(name) for name in spans.names)]
    count = len(styles)
    scale = [
        [edge, style.colour]
        for index, style in enumerate(styles)
        for edge in (index / count, (index + 1) / count)
    ]
    return {
        "type": "heatmap",
        "z": codes.tolist(),
        "x0": float(middles[0]),
        "dx": float(edges[1] - edges[0]),
        "y": list(range(rank_count)),
        "zmin": -0.5,
        "zmax": count - 0.5,
        "colorscale": scale,
        "showscale": False,
        "ygap": 1,
        "hovertemplate": "rank %{y}, %{x:.5g} s: %{text}<extra></extra>",
        "text": [[styles[code].label for code in row] for row in codes.tolist()]
        if rank_count * CELLS <= _HOVERED_CELLS
        else None,
    }


_HOVERED_CELLS = 48_000


def memory_over_time(trace: Trace) -> list[Held]:
    """Return what each rank holds over time, from its allocations and releases."""
    found = [Held([], []) for _ in range(trace.rank_count)]
    sizes = [0] * trace.rank_count
    for change in trace.memory_changes():
        sizes[change.rank] += change.delta_bytes
        held = found[change.rank]
        held.time_s.append(change.time_s)
        held.held_bytes.append(sizes[change.rank])
    return found


def _memory(every: list[Held], window: Window) -> list[dict[str, Any]]:
    """Return a line for each rank; that of the fullest stands out."""
    peaks = [max(held.held_bytes, default=0) for held in every]
    fullest = int(np.argmax(peaks)) if peaks else 0
    order = [rank for rank in range(len(every)) if rank != fullest] + [fullest]
    lines = []
    for rank in order[-_MOST_LINES:]:
        held = _thinned(every[rank], window)
        is_fullest = rank == fullest
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": held.time_s,
                "y": [float(f"{size / _GIB_BYTES:.6g}") for size in held.held_bytes],
                "line": {
                    "shape": "hv",
                    "width": 2 if is_fullest else 1,
                    "color": "#0072B2" if is_fullest else "rgba(128, 136, 146, 0.55)",
                },
                "yaxis": "y2",
                "name": f"rank {rank}" + (" (fullest)" if is_fullest else ""),
                "hovertemplate": f"rank {rank}: %{{y:.4g}} GiB at %{{x:.5g}} s<extra></extra>",
                "showlegend": False,
            }
        )
    return lines


_MOST_LINES = 32


_STEPS = 400
"""Steps of a line up to which all are drawn."""


def _thinned(held: Held, window: Window) -> Held:
    """Return no more steps than can be seen: the largest of each cell of time."""
    if len(held.time_s) <= _STEPS:
        return held
    time_s = np.asarray(held.time_s)
    size = np.asarray(held.held_bytes)
    inside = (time_s >= window.start_s) & (time_s <= window.end_s)
    first = max(int(np.argmax(inside)) - 1, 0)
    last = len(inside) - int(np.argmax(inside[::-1]))
    time_s, size = time_s[first:last], size[first:last]
    if len(time_s) <= _STEPS:
        return Held(time_s.tolist(), size.tolist())
    starts = np.linspace(0, len(size), _STEPS, endpoint=False).astype(np.int64)
    return Held(time_s[starts].tolist(), np.maximum.reduceat(size, starts).tolist())


def _layout(
    rank_count: int, window: Window, capacity_bytes: int | None, *, is_detailed: bool
) -> dict[str, Any]:
    height = 120 + min(max(rank_count, 4), 24) * 18
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": FAINT, "ticks": ""}
    shapes = []
    if capacity_bytes is not None:
        capacity = capacity_bytes / _GIB_BYTES
        shapes.append(
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "yref": "y2",
                "y0": capacity,
                "y1": capacity,
                "line": {"color": "#D55E00", "dash": "dash", "width": 1.5},
            }
        )
    memory_share = 110 / (height + 40)
    return {
        "template": {},
        "barmode": "overlay",
        "height": height + 70,
        "margin": {"l": 52, "r": 12, "t": 6, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "dragmode": "zoom",
        "shapes": shapes,
        "meta": {"detailed": is_detailed},
        "xaxis": axis
        | {"title": {"text": "time [s]"}, "range": [window.start_s, window.end_s], "anchor": "y2"},
        "yaxis": axis
        | {
            "title": {"text": "rank"},
            "range": [rank_count - 0.5, -0.5],
            "fixedrange": True,
            "tickmode": "linear" if rank_count <= 32 else "auto",
            "domain": [memory_share + 0.06, 1],
            "showgrid": False,
        },
        "yaxis2": axis
        | {
            "title": {"text": "held [GiB]"},
            "rangemode": "tozero",
            "fixedrange": True,
            "domain": [0, memory_share],
        },
        "hovermode": "closest",
        "uniformtext": {"minsize": 8, "mode": "hide"},
    }


class IdleTime(NamedTuple):
    """Why a rank waits while the pipeline runs; the four add up to its idle time [s].

    Attributes
    ----------
    filling_s : float
        Before its first action.
    hand_overs_s : float
        While its input is on the way.
    stages_s : float
        While another stage still works on its input.
    draining_s : float
        After its last action.
    """

    filling_s: float
    hand_overs_s: float
    stages_s: float
    draining_s: float


IDLE_CAUSES = (
    ("filling_s", "pipeline fills", "#56B4E9"),
    ("stages_s", "another stage works", "#E69F00"),
    ("hand_overs_s", "input on the way", "#CC79A7"),
    ("draining_s", "pipeline drains", "#0072B2"),
)
"""Causes of idle time: field of `IdleTime`, label, colour."""


def idle_by_cause(trace: Trace) -> list[IdleTime]:
    """Return for each rank why it waits, from spans and sends."""
    pipeline = [span for span in trace.spans if span.stage is not None]
    first_s = min((span.start_s for span in pipeline), default=0.0)
    last_s = max((span.end_s for span in pipeline), default=0.0)
    ranks: list[list[Span]] = [[] for _ in range(trace.rank_count)]
    for span in pipeline:
        ranks[span.rank].append(span)
    return [_idle(trace, spans, first_s, last_s) for spans in ranks]


def _idle(trace: Trace, spans: list[Span], first_s: float, last_s: float) -> IdleTime:
    if not spans:
        return IdleTime(last_s - first_s, 0.0, 0.0, 0.0)
    travelling = waiting = 0.0
    for before, span in pairwise(spans):
        gap_s = span.start_s - before.end_s
        on_the_way_s = 0.0
        if gap_s > 0 and span.received_send is not None:
            send = trace.sends[span.received_send]
            if send.axis == PIPELINE_AXIS:
                on_the_way_s = max(span.start_s - max(send.start_s, before.end_s), 0.0)
        travelling += on_the_way_s
        waiting += max(gap_s - on_the_way_s, 0.0)
    return IdleTime(spans[0].start_s - first_s, travelling, waiting, last_s - spans[-1].end_s)


def idle_bars(causes: Sequence[IdleTime]) -> dict[str, Any]:
    """Return why each rank waits, as stacked bars."""
    data = [
        {
            "type": "bar",
            "name": label,
            "x": list(range(len(causes))),
            "y": [getattr(cause, field) for cause in causes],
            "marker": {"color": colour},
            "hovertemplate": f"rank %{{x}}: {label}, %{{y:.4g}} s<extra></extra>",
        }
        for field, label, colour in IDLE_CAUSES
    ]
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": FAINT}
    return {
        "data": data,
        "layout": {
            "template": {},
            "barmode": "stack",
            "height": 260,
            "margin": {"l": 52, "r": 12, "t": 40, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 12, "color": INK},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
            "xaxis": axis | {"title": {"text": "rank"}, "dtick": 1 if len(causes) <= 32 else None},
            "yaxis": axis | {"title": {"text": "idle [s]"}},
        },
    }
