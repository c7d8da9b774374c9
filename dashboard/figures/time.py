"""Figures of time: what a step is made of."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from costmodels.analysis import CATALOGUE, inputs_of
from dashboard.figures.style import FAINT, page_layout
from simulator.answer import Answer

_LABELS = {
    "compute_s": "compute",
    "recompute_s": "recomputation",
    "tensor_exposed_s": "tensor parallel,<br>exposed",
    "sequence_exposed_s": "sequence parallel,<br>exposed",
    "context_exposed_s": "context parallel,<br>exposed",
    "expert_exposed_s": "expert parallel,<br>exposed",
    "data_exposed_s": "data parallel,<br>exposed",
    "offload_exposed_s": "offload,<br>exposed",
    "pipeline_exposed_s": "hand-overs,<br>exposed",
    "bubble_s": "pipeline<br>bubble",
    "imbalance_s": "slow<br>stages",
    "replicated_exposed_s": "replicated<br>gradients",
    "tied_exposed_s": "tied<br>embedding",
    "optimizer_s": "optimizer",
}


def step_waterfall(answer: Answer) -> go.Figure:
    """Return the terms of a step's time, each starting where the one before it ends.

    Parameters
    ----------
    answer : Answer
        What Shardwise says of a scenario.

    Returns
    -------
    plotly.graph_objects.Figure
        A waterfall from compute to the step; without bars where times are withheld [s].
    """
    figure = go.Figure()
    figure.update_layout(
        title={"text": f"Time of a step (basis: {answer.time['basis']})"},
        yaxis={"title": {"text": "time [s]"}, "rangemode": "tozero"},
        showlegend=False,
        template="plotly_white",
    )
    if answer.time["step_s"] is None:
        text = "the plan does not fit: times are withheld"
        figure.add_annotation(text=text, showarrow=False, font={"size": 16})
        return figure
    terms = inputs_of("step_s")
    labels = [_LABELS.get(name, _label(name)) for name in terms] + ["step"]
    lengths_s = [answer.time[name] for name in (*terms, "step_s")]
    figure.add_trace(go.Waterfall(x=labels, y=lengths_s, **_waterfall(answer, terms)))
    return figure


def step_bars(answer: Answer) -> dict[str, Any]:
    """Return the same with time to the right and a line for each term that takes any.

    Parameters
    ----------
    answer : Answer
        What Shardwise says of a scenario; its times are not withheld.

    Returns
    -------
    dict
        A plotly figure as a table [s].
    """
    terms = [name for name in inputs_of("step_s") if answer.time[name]]
    labels = [_LABELS.get(name, _label(name)).replace("<br>", " ") for name in terms]
    lengths_s = [answer.time[name] for name in (*terms, "step_s")]
    layout = page_layout(height=330, left=150)
    layout["xaxis"] |= {"title": {"text": "time [s]"}, "rangemode": "tozero"}
    layout["yaxis"] |= {"autorange": "reversed", "automargin": True}
    bars = {
        "type": "waterfall",
        "orientation": "h",
        "x": lengths_s,
        "y": [*labels, "step"],
        "connector": {"line": {"color": FAINT, "width": 1}},
        **_waterfall(answer, terms),
    }
    return {"data": [bars], "layout": layout}


def _waterfall(answer: Answer, terms: Sequence[str]) -> dict[str, Any]:
    """Return what both directions of a waterfall share."""
    step_s = answer.time["step_s"]
    names = (*terms, "step_s")
    return {
        "measure": ["relative"] * len(terms) + ["total"],
        "customdata": [
            [CATALOGUE[name].definition, answer.time[name] / step_s, answer.time[name]]
            for name in names
        ],
        "hovertemplate": "%{customdata[2]:.6g} s, %{customdata[1]:.2%} of the step<br>"
        "%{customdata[0]}<extra></extra>",
        "increasing": {"marker": {"color": "#56B4E9"}},
        "decreasing": {"marker": {"color": "#D55E00"}},
        "totals": {"marker": {"color": "#0072B2"}},
    }


def _label(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ").replace(" exposed", ",<br>exposed")
