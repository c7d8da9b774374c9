"""Figures of a validation run: predictions against measurements, and errors."""

from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from validation.report.summary import is_exact
from validation.running import Outcome, ValidationRun

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito's palette: its colours differ for colour-blind people too."""


def predicted_against_measured(run: ValidationRun) -> go.Figure:
    """Return every case with its prediction over its measurement, both axes logarithmic.

    Parameters
    ----------
    run : ValidationRun
        What ran. Cases whose prediction or measurement is not positive have no place on the axes;
        the subtitle counts them.

    Returns
    -------
    plotly.graph_objects.Figure
        A colour for each suite, a cross for each case that failed, the line of equality.
    """
    figure = go.Figure()
    left_out, extremes = 0, []
    for suite, colour in zip(run.suites, cycle(_COLOURS), strict=False):
        shown = [outcome for outcome in suite.outcomes if _has_place(outcome)]
        left_out += len(suite.outcomes) - len(shown)
        extremes += [outcome.case.measurement for outcome in shown]
        figure.add_trace(_points(suite.name, shown, colour))
    if extremes:
        ends = [min(extremes), max(extremes)]
        line = {"color": "#666666", "width": 1, "dash": "dot"}
        figure.add_trace(
            go.Scattergl(x=ends, y=ends, mode="lines", line=line, name="equal", hoverinfo="skip")
        )
    zeros = f"; {left_out} of zero or below are in the tables only" if left_out else ""
    figure.update_layout(
        title={"text": f"Predicted against measured<br><sup>{run.case_count} cases{zeros}</sup>"},
        xaxis={"title": {"text": "measured, in the unit of each case"}, "type": "log"},
        yaxis={"title": {"text": "predicted, in the unit of each case"}, "type": "log"},
        template="plotly_white",
        height=520,
    )
    return figure


def errors_by_suite(run: ValidationRun) -> go.Figure | None:
    """Return the errors of all cases that do not ask for equality, one row for each suite.

    Returns
    -------
    plotly.graph_objects.Figure or None
        Box and points for each suite [percent of the measurement]; None without any such case.
    """
    figure = go.Figure()
    for suite, colour in zip(run.suites, cycle(_COLOURS), strict=False):
        near = [outcome for outcome in suite.outcomes if not is_exact(outcome)]
        shown = [outcome for outcome in near if outcome.error_fraction is not None]
        if not shown:
            continue
        figure.add_trace(
            go.Box(
                x=[100 * (outcome.error_fraction or 0.0) for outcome in shown],
                name=suite.name,
                text=[outcome.case.name for outcome in shown],
                hovertemplate="%{text}: %{x:.3g} %<extra></extra>",
                boxpoints="all",
                jitter=0.6,
                pointpos=0,
                marker={"color": colour, "size": 4, "opacity": 0.6},
                line={"color": colour},
            )
        )
    if not figure.data:
        return None
    figure.update_layout(
        title={"text": "Errors of the cases that do not ask for equality"},
        xaxis={"title": {"text": "prediction over measurement, minus one (%)"}},
        template="plotly_white",
        showlegend=False,
        height=160 + 60 * len(figure.data),
    )
    return figure


def failures_over_time(runs: Sequence[ValidationRun]) -> go.Figure:
    """Return cases and failures of several runs, by when they started.

    Returns
    -------
    plotly.graph_objects.Figure
        Cases that passed and cases that failed, stacked.
    """
    started = [run.started for run in runs]
    texts = [run.machine.commit or "" for run in runs]
    figure = go.Figure(
        [
            go.Bar(name=name, x=started, y=counts, text=texts, marker={"color": colour})
            for name, counts, colour in (
                ("passed", [run.case_count - run.failure_count for run in runs], "#0072B2"),
                ("failed", [run.failure_count for run in runs], "#D55E00"),
            )
        ]
    )
    figure.update_layout(
        title={"text": "Cases of each run"},
        barmode="stack",
        yaxis={"title": {"text": "cases"}},
        template="plotly_white",
    )
    return figure


def _has_place(outcome: Outcome) -> bool:
    return outcome.case.prediction > 0 and outcome.case.measurement > 0


def _points(suite: str, outcomes: Sequence[Outcome], colour: str) -> go.Scattergl:
    cases = [outcome.case for outcome in outcomes]
    return go.Scattergl(
        x=[case.measurement for case in cases],
        y=[case.prediction for case in cases],
        text=[f"{case.name}<br>{case.unit}" for case in cases],
        name=suite,
        mode="markers",
        marker={
            "color": colour,
            "size": [6 if outcome.passed else 11 for outcome in outcomes],
            "symbol": ["circle" if outcome.passed else "x" for outcome in outcomes],
            "opacity": 0.7,
        },
        hovertemplate="%{text}<br>predicted %{y:.6g}, measured %{x:.6g}<extra></extra>",
    )
