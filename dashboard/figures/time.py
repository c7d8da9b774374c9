"""Figures of time: what a step is made of."""

from typing import Any

from costmodels.analysis import CATALOGUE, inputs_of
from dashboard.figures.style import FAINT, page_layout
from simulator.answer import Answer

_LABELS = {
    "compute_s": "compute",
    "recompute_s": "recomputation",
    "tensor_exposed_s": "tensor parallel, exposed",
    "sequence_exposed_s": "sequence parallel, exposed",
    "context_exposed_s": "context parallel, exposed",
    "expert_exposed_s": "expert parallel, exposed",
    "data_exposed_s": "data parallel, exposed",
    "offload_exposed_s": "offload, exposed",
    "pipeline_exposed_s": "hand-overs, exposed",
    "bubble_s": "pipeline bubble",
    "imbalance_s": "slow stages",
    "replicated_exposed_s": "replicated gradients",
    "tied_exposed_s": "tied embedding",
    "optimizer_s": "optimizer",
}


def step_bars(answer: Answer) -> dict[str, Any]:
    """Return the terms of a step's time, each starting where the one before it ends.

    Time goes to the right; a term that takes none has no line.

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
    labels = [_LABELS[name] for name in terms]
    step_s = answer.time["step_s"]
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
        "measure": ["relative"] * len(terms) + ["total"],
        "customdata": [
            [CATALOGUE[name].definition, answer.time[name] / step_s, answer.time[name]]
            for name in (*terms, "step_s")
        ],
        "hovertemplate": "%{customdata[2]:.6g} s, %{customdata[1]:.2%} of the step<br>"
        "%{customdata[0]}<extra></extra>",
        "increasing": {"marker": {"color": "#56B4E9"}},
        "decreasing": {"marker": {"color": "#D55E00"}},
        "totals": {"marker": {"color": "#0072B2"}},
    }
    return {"data": [bars], "layout": layout}
