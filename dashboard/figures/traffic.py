"""Figures of traffic: what a GPU of each stage sends in a step, collective by collective."""

import plotly.graph_objects as go

from simulator.accounting import Message, TrafficAccount

_COLOURS = {
    "tensor": "#0072B2",
    "sequence": "#56B4E9",
    "pipeline": "#E69F00",
    "tied embedding": "#CC79A7",
    "data": "#009E73",
}
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""

_OTHER = "#999999"
_PATTERNS = {"all-reduce": "", "all-gather": "/", "reduce-scatter": "x", "send": "."}


def sent_by_stage(account: TrafficAccount) -> go.Figure:
    """Return what a GPU of every stage sends in a step as stacked bars.

    Parameters
    ----------
    account : TrafficAccount
        What is sent, by stage and collective.

    Returns
    -------
    plotly.graph_objects.Figure
        One bar for each stage and collective [byte].
    """
    bars = [
        go.Bar(
            name=_name(message),
            x=list(range(len(message.sent_bytes))),
            y=message.sent_bytes,
            customdata=list(
                zip(message.calls, message.payload_bytes, message.network_bytes, strict=True)
            ),
            marker={
                "color": _COLOURS.get(message.axis, _OTHER),
                "pattern": {"shape": _PATTERNS.get(message.collective, "")},
            },
            hovertemplate="stage %{x}: %{y:.4s}B sent, %{customdata[2]:.4s}B across nodes<br>"
            "%{customdata[0]:,.0f} calls of %{customdata[1]:.4s}B",
        )
        for message in account.messages
    ]
    figure = go.Figure(bars)
    figure.update_layout(
        barmode="stack",
        title={"text": "Bytes that a GPU sends in a step, by stage"},
        xaxis={"title": {"text": "pipeline stage"}, "tickmode": "linear", "tick0": 0},
        yaxis={"title": {"text": "sent [B]"}, "rangemode": "tozero", "tickformat": "~s"},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        template="plotly_white",
    )
    if len(account.stage_sent_bytes) > 32:
        figure.update_xaxes(tickmode="auto")
    return figure


def _name(message: Message) -> str:
    chunk = "" if message.chunk_index is None else f", chunk {message.chunk_index}"
    return f"{message.axis}: {message.name.replace('_', ' ')}{chunk}"
