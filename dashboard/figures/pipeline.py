"""The schedule of a simulated step, rank by rank."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from simulator.drawing import OTHER_COLOUR, STYLES, Style
from simulator.trace import Engine, Span, Trace

LABELLED_SPANS = 600
"""Spans up to which each action of the pipeline shows its microbatch, and bars have borders."""


_LANES = {Engine.COMPUTE: (-0.4, 0.55), Engine.NETWORK: (0.18, 0.22)}
"""For each engine where its bars begin below the rank, and how thick they are [ranks]."""


def style_of(name: str) -> Style:
    """Return how spans of a name are drawn."""
    return STYLES.get(name, Style(name, OTHER_COLOUR))


def gantt(trace: Trace) -> go.Figure:
    """Return what each rank did when: one bar for each span, one trace for each kind of span.

    What the network does at the end of a step runs in a thin lane below the rank's computing,
    since the two may overlap.

    Parameters
    ----------
    trace : Trace
        A simulated step.

    Returns
    -------
    plotly.graph_objects.Figure
        Time on the horizontal axis, ranks downwards.
    """
    kinds: dict[tuple[str, Engine], list[Span]] = {}
    for span in trace.spans:
        kinds.setdefault((str(span.name), span.engine), []).append(span)
    labelled = len(trace.spans) <= LABELLED_SPANS
    figure = go.Figure(
        [_bars(name, engine, spans, labelled=labelled) for (name, engine), spans in kinds.items()]
    )
    ranks = trace.rank_count
    figure.update_layout(
        barmode="overlay",
        title={"text": "Schedule of one step of one replica"},
        xaxis={"title": {"text": "time [s]"}, "rangemode": "tozero"},
        yaxis={
            "title": {"text": "pipeline rank"},
            "range": [ranks - 0.5, -0.5],
            "tickmode": "linear" if ranks <= 32 else "auto",
            "tick0": 0,
        },
        template="plotly_white",
    )
    return figure


def _bars(name: str, engine: Engine, spans: Sequence[Span], *, labelled: bool) -> go.Bar:
    style = style_of(name)
    offset, width = _LANES[engine]
    start_s = np.asarray([span.start_s for span in spans], dtype=np.float64)
    end_s = np.asarray([span.end_s for span in spans], dtype=np.float64)
    in_pipeline = spans[0].stage is not None
    which = "stage %{customdata[2]}, microbatch %{customdata[3]}<br>" if in_pipeline else ""
    # Absent indices become -1, which the text beside the pointer leaves out: arrays stay numbers.
    places = np.asarray([(_index(span.stage), _index(span.microbatch)) for span in spans])
    return go.Bar(
        name=style.label,
        orientation="h",
        base=start_s,
        x=end_s - start_s,
        y=np.asarray([span.rank for span in spans]),
        offset=offset,
        width=width,
        marker={
            "color": style.colour,
            "line": {"color": "white", "width": 0.5 if labelled else 0},
        },
        text=[str(span.microbatch) for span in spans] if labelled and in_pipeline else None,
        textposition="inside",
        textangle=0,
        insidetextanchor="middle",
        # The pointer's own x would be the end of a bar that has a base, not its length.
        customdata=np.column_stack([start_s, end_s, places, end_s - start_s]),
        hovertemplate=f"{style.label}, rank %{{y}}<br>{which}"
        "%{customdata[0]:.6g} s to %{customdata[1]:.6g} s,"
        " %{customdata[4]:.6g} s long<extra></extra>",
    )


def _index(index: int | None) -> int:
    return -1 if index is None else index
