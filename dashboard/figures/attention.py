"""Figures of attention layouts: cost against length, who attends whom, memory by segments."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from costmodels.attention.patterns import Pattern
from simulator.attention import AttentionAnswer, MemoryStep

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""

_PANELS = (
    ("ideal_forward_flop", "work of a forward [FLOP]"),
    ("state_bytes", "state of a decoder [byte]"),
    ("reached_tokens", "reached by the last token [token]"),
)


def against_length(answers: Mapping[str, Sequence[AttentionAnswer]]) -> go.Figure:
    """Return work, state and reach of layouts against sequence length, both axes logarithmic.

    Parameters
    ----------
    answers : mapping of str to sequence of AttentionAnswer
        Answers of each layout, by its label, at several lengths.

    Returns
    -------
    plotly.graph_objects.Figure
        One panel for each number, one line for each layout.
    """
    figure = make_subplots(rows=1, cols=len(_PANELS), subplot_titles=[p[1] for p in _PANELS])
    for number, (label, own) in enumerate(answers.items()):
        for column, (name, _) in enumerate(_PANELS, start=1):
            # Floats: JavaScript has no integers beyond 53 bits.
            points = [
                (answer.sequence_length, float(value))
                for answer in own
                if (value := getattr(answer, name)) is not None
            ]
            figure.add_trace(
                go.Scatter(
                    name=label,
                    x=[point[0] for point in points],
                    y=[point[1] for point in points],
                    mode="lines+markers",
                    line={"color": COLOURS[number % len(COLOURS)]},
                    legendgroup=label,
                    showlegend=column == 1,
                    hovertemplate=f"{label}<br>%{{x:,}} tokens: %{{y:.4s}}",
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(type="log", title={"text": "tokens of a sequence"})
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_layout(
        title={"text": "One layer's attention against sequence length"}, template="plotly_white"
    )
    return figure


def who_attends_whom(patterns: Mapping[str, Pattern]) -> go.Figure:
    """Return matrices of queries and keys, a darker cell where a key counts more often.

    Parameters
    ----------
    patterns : mapping of str to array
        (sequence, sequence) counts by label.
    """
    figure = make_subplots(rows=1, cols=len(patterns), subplot_titles=list(patterns))
    for column, pattern in enumerate(patterns.values(), start=1):
        figure.add_trace(
            go.Heatmap(
                z=pattern.tolist(),
                colorscale=[[0, "#FFFFFF"], [0.01, "#9ECAE1"], [1, "#08306B"]],
                showscale=False,
                zmin=0,
                hovertemplate="query %{y} counts key %{x} %{z} times<extra></extra>",
            ),
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed", title={"text": "query"})
    figure.update_xaxes(title={"text": "key"})
    figure.update_layout(title={"text": "Who attends whom"}, template="plotly_white")
    return figure


def reach_by_layer(reached: Mapping[str, Pattern]) -> go.Figure:
    """Return which tokens the last one depends on, a row for each number of layers.

    Parameters
    ----------
    reached : mapping of str to array
        (layers, sequence) by label, 1 where a token is reached.
    """
    titles = list(reached)
    figure = make_subplots(rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=0.2)
    for row, found in enumerate(reached.values(), start=1):
        figure.add_trace(
            go.Heatmap(
                z=found.tolist(),
                y=list(range(1, len(found) + 1)),
                colorscale=[[0, "rgba(128, 136, 146, 0.15)"], [1, COLOURS[0]]],
                showscale=False,
                zmin=0,
                zmax=1,
                xgap=1,
                ygap=1,
                hovertemplate="token %{x} after %{y} layers: %{z}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    figure.update_yaxes(dtick=1, title={"text": "layers"})
    figure.update_xaxes(title={"text": "token"}, row=len(titles))
    return figure


def memory_by_segment(steps: Sequence[MemoryStep]) -> go.Figure:
    """Return a decoder's compressive memory and segment cache after each segment.

    Parameters
    ----------
    steps : sequence of MemoryStep
        In their order.
    """
    tokens = [step.tokens for step in steps]
    figure = go.Figure(
        [
            go.Scatter(
                name="compressive memory",
                x=tokens,
                y=[step.memory_bytes for step in steps],
                line={"color": COLOURS[0]},
            ),
            go.Scatter(
                name="keys and values of the segment",
                x=tokens,
                y=[step.window_bytes for step in steps],
                line={"color": COLOURS[1]},
            ),
        ]
    )
    figure.update_layout(
        title={"text": "Memory after each segment"},
        xaxis={"title": {"text": "tokens read"}},
        yaxis={"title": {"text": "size [byte]"}, "type": "log"},
        template="plotly_white",
    )
    return figure


def recall_error(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> go.Figure:
    """Return the error of what a memory gives back against keys stored over key size.

    Parameters
    ----------
    curves : mapping of str to tuple
        Loads and relative errors, by label.
    """
    figure = go.Figure(
        [
            go.Scatter(
                name=label,
                x=list(loads),
                y=list(errors),
                mode="lines+markers",
                line={"color": COLOURS[number % len(COLOURS)]},
            )
            for number, (label, (loads, errors)) in enumerate(curves.items())
        ]
    )
    figure.update_layout(
        title={"text": "What a compressive memory gives back"},
        xaxis={"title": {"text": "keys stored / key size"}, "type": "log"},
        yaxis={"title": {"text": "relative error of a stored value"}, "rangemode": "tozero"},
        template="plotly_white",
    )
    return figure
