"""Figures of validation runs as the report draws them, without WebGL."""

from collections.abc import Sequence

import plotly.graph_objects as go

from validation.report.figures import (
    errors_by_suite,
    failures_over_time,
    predicted_against_measured,
)
from validation.running import ValidationRun


def predictions(run: ValidationRun) -> go.Figure:
    """Return every case with its prediction over its measurement, both axes logarithmic."""
    return _without_webgl(predicted_against_measured(run))


def errors(run: ValidationRun) -> go.Figure | None:
    """Return the errors of all cases that do not ask for equality; None without any."""
    return errors_by_suite(run)


def over_time(runs: Sequence[ValidationRun]) -> go.Figure:
    """Return cases that passed and that failed, by when each run started."""
    return failures_over_time(runs)


def _without_webgl(figure: go.Figure) -> go.Figure:
    """Return a figure whose points are drawn as shapes: WebGL makes code, which pages forbid."""
    drawn = figure.to_dict()
    for trace in drawn["data"]:
        trace["type"] = trace["type"].removesuffix("gl")
    drawn["layout"]["template"] = {}
    return go.Figure(drawn)
