"""Figures of time: what a step is made of."""

import plotly.graph_objects as go

from costmodels.analysis import CATALOGUE, inputs_of
from simulator.answer import Answer

_LABELS = {
    "compute_s": "compute",
    "recompute_s": "recomputation",
    "tensor_exposed_s": "tensor parallel,<br>exposed",
    "sequence_exposed_s": "sequence parallel,<br>exposed",
    "context_exposed_s": "context parallel,<br>exposed",
    "expert_exposed_s": "expert parallel,<br>exposed",
    "data_exposed_s": "data parallel,<br>exposed",
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
    step_s = answer.time["step_s"]
    figure = go.Figure()
    figure.update_layout(
        title={"text": f"Time of a step (basis: {answer.time['basis']})"},
        yaxis={"title": {"text": "time [s]"}, "rangemode": "tozero"},
        showlegend=False,
        template="plotly_white",
    )
    if step_s is None:
        text = "the plan does not fit: times are withheld"
        figure.add_annotation(text=text, showarrow=False, font={"size": 16})
        return figure
    terms = inputs_of("step_s")
    names = (*terms, "step_s")
    figure.add_trace(
        go.Waterfall(
            measure=["relative"] * len(terms) + ["total"],
            x=[_LABELS.get(name, name) for name in terms] + ["step"],
            y=[answer.time[name] for name in names],
            customdata=[[CATALOGUE[name].definition, answer.time[name] / step_s] for name in names],
            hovertemplate="%{y:.6g} s, %{customdata[1]:.2%} of the step<br>"
            "%{customdata[0]}<extra></extra>",
            increasing={"marker": {"color": "#56B4E9"}},
            decreasing={"marker": {"color": "#D55E00"}},
            totals={"marker": {"color": "#0072B2"}},
        )
    )
    return figure
