"""Figures of memory: what each stage holds against what its GPUs have."""

from typing import Any

import plotly.graph_objects as go

from costmodels.analysis import CATALOGUE, inputs_of
from costmodels.units import UNITS
from dashboard.figures.style import page_layout
from simulator.accounting import MemoryAccount
from simulator.answer import Answer

_GIB_BYTES = int(UNITS["bytes"]["GiB"])
_COLOURS = {
    "weights_bytes": "#0072B2",
    "gradients_bytes": "#E69F00",
    "optimizer_bytes": "#009E73",
    "activations_bytes": "#CC79A7",
    "buffers_bytes": "#56B4E9",
    "reserve_bytes": "#999999",
    "served_weights_bytes": "#0072B2",
    "copied_weights_bytes": "#0072B2",
    "kv_cache_bytes": "#E69F00",
    "serving_hidden_bytes": "#CC79A7",
    "serving_layer_bytes": "#CC79A7",
    "serving_logits_bytes": "#CC79A7",
}
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""


def memory_by_stage(answer: Answer) -> go.Figure:
    """Return the memory of a GPU of every stage as stacked bars, its capacity as a line.

    Parameters
    ----------
    answer : Answer
        What Shardwise says of a scenario.

    Returns
    -------
    plotly.graph_objects.Figure
        One bar for each stage and component [GiB].
    """
    bars = [go.Bar(bar) for bar in _parts(answer)]
    return _stacked(
        bars,
        capacity_bytes=_capacity_bytes(answer),
        verdict=_verdict(
            fits=answer.fits,
            headroom_bytes=answer.memory["headroom_bytes"],
            stage=answer.memory["worst_stage_index"],
        ),
    )


def stage_bars(answer: Answer) -> dict[str, Any]:
    """Return the same for a page: a plotly figure as a table, without a title."""
    capacity = _capacity_bytes(answer) / _GIB_BYTES
    layout = page_layout(height=330)
    bars = _parts(answer)
    layout["xaxis"] |= {"title": {"text": "pipeline stage"}}
    if len(bars[0]["x"]) <= 32:
        layout["xaxis"] |= {"tickmode": "linear", "tick0": 0}
    layout["yaxis"] |= {"title": {"text": "memory [GiB]"}, "rangemode": "tozero"}
    line = {"color": "#D55E00", "dash": "dash", "width": 1.5}
    whole = {"xref": "paper", "x0": 0, "x1": 1, "y0": capacity, "y1": capacity}
    layout |= {
        "barmode": "stack",
        "margin": layout["margin"] | {"t": 48},
        "legend": {
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.02,
            "x": 0,
            "font": {"size": 11},
            "traceorder": "normal",
        },
        "shapes": [{"type": "line", "line": line, **whole}],
    }
    return {"data": [{"type": "bar", **bar} for bar in bars], "layout": layout}


def _parts(answer: Answer) -> list[dict[str, Any]]:
    """Return one bar for each stage and part of its memory [GiB]."""
    stages = list(range(len(answer.memory["stage_bytes"])))
    return [
        {
            "name": name.removesuffix("_bytes"),
            "x": stages,
            "y": _gib_by_stage(answer.memory[name], len(stages)),
            "marker": {"color": _COLOURS[name]},
            "hovertemplate": "stage %{x}: %{y:.3f} GiB<br>" + CATALOGUE[name].definition,
        }
        for name in inputs_of("stage_bytes")
    ]


def memory_by_component(account: MemoryAccount) -> go.Figure:
    """Return the memory of a GPU of every stage by component, its capacity as a line.

    Parameters
    ----------
    account : MemoryAccount
        Memory by stage and component.

    Returns
    -------
    plotly.graph_objects.Figure
        One bar for each stage and component that is there [GiB]; components of a part share its
        colour and differ in their pattern.
    """
    shown = [entry for entry in account.components if any(entry.stage_bytes)]
    places = {
        entry.name: [other.name for other in shown if other.part_of == entry.part_of].index(
            entry.name
        )
        for entry in shown
    }
    bars = [
        go.Bar(
            name=entry.name.removesuffix("_bytes").replace("_", " "),
            x=list(range(len(entry.stage_bytes))),
            y=[size_bytes / _GIB_BYTES for size_bytes in entry.stage_bytes],
            marker={
                "color": _COLOURS[entry.part_of],
                "pattern": {"shape": _PATTERNS[places[entry.name] % len(_PATTERNS)]},
            },
            hovertemplate="stage %{x}: %{y:.3f} GiB<br>" + entry.definition,
        )
        for entry in shown
    ]
    return _stacked(
        bars,
        capacity_bytes=account.accelerator_memory_bytes,
        verdict=_verdict(
            fits=account.fits,
            headroom_bytes=account.headroom_bytes,
            stage=account.worst_stage_index,
        ),
    )


_PATTERNS = ("", "/", "x", ".", "-", "+", "|")


def _stacked(bars: list[go.Bar], *, capacity_bytes: int, verdict: str) -> go.Figure:
    """Return bars of memory by stage on each other, the capacity as a line."""
    capacity = capacity_bytes / _GIB_BYTES
    figure = go.Figure(bars)
    figure.add_hline(
        y=capacity,
        line={"color": "#D55E00", "dash": "dash"},
        annotation={"text": f"capacity {capacity:.2f} GiB", "font": {"color": "#D55E00"}},
    )
    figure.update_layout(
        barmode="stack",
        title={"text": f"Memory of a GPU by stage: {verdict}"},
        xaxis={"title": {"text": "pipeline stage"}, "tickmode": "linear", "tick0": 0},
        yaxis={"title": {"text": "memory [GiB]"}, "rangemode": "tozero"},
        legend={"traceorder": "reversed"},
        template="plotly_white",
    )
    if bars and len(bars[0].x) > 32:
        figure.update_xaxes(tickmode="auto")
    return figure


def _gib_by_stage(value: Any, stage_count: int) -> list[float]:
    """Return bytes by stage in GiB, which rounds nothing; one number stands for all stages."""
    stages = value if isinstance(value, list) else [value] * stage_count
    return [size_bytes / _GIB_BYTES for size_bytes in stages]


def _capacity_bytes(answer: Answer) -> int:
    stated = answer.scenario["cluster"]["accelerator"]["memory_bytes"]
    value: int = stated["value"] if isinstance(stated, dict) else stated
    return value


def _verdict(*, fits: bool, headroom_bytes: int, stage: int) -> str:
    margin = f"{abs(headroom_bytes) / _GIB_BYTES:.2f} GiB {'left' if fits else 'too much'}"
    return f"{'fits' if fits else 'does not fit'}, {margin} on stage {stage}"
