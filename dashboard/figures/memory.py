"""Figures of memory: what each stage holds against what its GPUs have."""

from typing import Any

import plotly.graph_objects as go

from costmodels.analysis import CATALOGUE, inputs_of
from costmodels.units import UNITS
from simulator.answer import Answer

_GIB_BYTES = int(UNITS["bytes"]["GiB"])
_COLOURS = {
    "weights_bytes": "#0072B2",
    "gradients_bytes": "#E69F00",
    "optimizer_bytes": "#009E73",
    "activations_bytes": "#CC79A7",
    "buffers_bytes": "#56B4E9",
    "reserve_bytes": "#999999",
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
    stages = list(range(len(answer.memory["stage_bytes"])))
    bars = [
        go.Bar(
            name=name.removesuffix("_bytes"),
            x=stages,
            y=_gib_by_stage(answer.memory[name], len(stages)),
            marker={"color": _COLOURS[name]},
            hovertemplate="stage %{x}: %{y:.3f} GiB<br>" + CATALOGUE[name].definition,
        )
        for name in inputs_of("stage_bytes")
    ]
    capacity = _capacity_bytes(answer) / _GIB_BYTES
    figure = go.Figure(bars)
    figure.add_hline(
        y=capacity,
        line={"color": "#D55E00", "dash": "dash"},
        annotation={"text": f"capacity {capacity:.2f} GiB", "font": {"color": "#D55E00"}},
    )
    figure.update_layout(
        barmode="stack",
        title={"text": f"Memory of a GPU by stage: {_verdict(answer)}"},
        xaxis={"title": {"text": "pipeline stage"}, "tickmode": "linear", "tick0": 0},
        yaxis={"title": {"text": "memory [GiB]"}, "rangemode": "tozero"},
        legend={"traceorder": "reversed"},
        template="plotly_white",
    )
    if len(stages) > 32:
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


def _verdict(answer: Answer) -> str:
    headroom = answer.memory["headroom_bytes"] / _GIB_BYTES
    margin = f"{abs(headroom):.2f} GiB {'left' if answer.fits else 'too much'}"
    verdict = "fits" if answer.fits else "does not fit"
    return f"{verdict}, {margin} on stage {answer.memory['worst_stage_index']}"
