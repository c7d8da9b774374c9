"""Figures of work: what all GPUs of each stage execute in a step, by component."""

import plotly.graph_objects as go

from simulator.accounting import WorkAccount

_COLOURS = {
    "projection": "#0072B2",
    "scores": "#56B4E9",
    "ffn": "#E69F00",
    "router": "#CC79A7",
    "adapter": "#F0E442",
    "head": "#009E73",
}
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""

_RECOMPUTED = "#D55E00"
_FORWARD, _BACKWARD = "", "/"


def work_by_stage(account: WorkAccount) -> go.Figure:
    """Return what all GPUs of every stage execute in a step as stacked bars.

    Parameters
    ----------
    account : WorkAccount
        Work by stage and component.

    Returns
    -------
    plotly.graph_objects.Figure
        One bar for each stage, component and direction that has some [FLOP].
    """
    bars = []
    for entry in account.components:
        for phase, flop, pattern in (
            ("forward", entry.hardware_forward_flop, _FORWARD),
            ("backward", entry.hardware_backward_flop, _BACKWARD),
        ):
            bars.append(_bar(f"{entry.name} {phase}", flop, _COLOURS[entry.name], pattern))
    bars.append(_bar("recomputation", account.recompute_flop, _RECOMPUTED, _FORWARD))
    figure = go.Figure([bar for bar in bars if any(bar.y)])
    figure.update_layout(
        barmode="stack",
        title={"text": "Work executed in a step, all GPUs of a stage"},
        xaxis={"title": {"text": "pipeline stage"}, "tickmode": "linear", "tick0": 0},
        yaxis={"title": {"text": "work [FLOP]"}, "rangemode": "tozero", "tickformat": "~s"},
        legend={"traceorder": "reversed"},
        template="plotly_white",
    )
    if len(account.recompute_flop) > 32:
        figure.update_xaxes(tickmode="auto")
    return figure


def _bar(name: str, flop: list[float], colour: str, pattern: str) -> go.Bar:
    return go.Bar(
        name=name,
        x=list(range(len(flop))),
        y=flop,
        marker={"color": colour, "pattern": {"shape": pattern}},
        hovertemplate="stage %{x}: %{y:.4s}FLOP<br>" + name,
    )
