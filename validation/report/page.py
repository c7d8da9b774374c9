"""A validation run as one HTML page that opens without a network."""

from importlib import resources
from itertools import groupby
from typing import Any

import jinja2

from validation.claims import claim_rows, counted
from validation.report import figures
from validation.report.summary import number, percent, provenance, sentence, summaries
from validation.running import Outcome, SuiteResult, ValidationRun


def page(run: ValidationRun) -> str:
    """Return a run as a page: verdict, figures, a table for each suite, each case to open."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "percent": percent}
    claims = claim_rows(run)
    drawn = [figures.predicted_against_measured(run), figures.errors_by_suite(run)]
    return environment.get_template("report.html.j2").render(
        run=run,
        sentence=sentence(run),
        summaries=summaries(run),
        suites=[(suite, _jobs(suite)) for suite in run.suites],
        claims=claims,
        claim_counts=counted(claims),
        provenance=provenance(run),
        figures=_html([figure for figure in drawn if figure is not None]),
    )


def _template(name: str) -> str:
    file = resources.files("validation.report") / "templates" / name
    return file.read_text(encoding="utf-8")


def _jobs(suite: SuiteResult) -> list[tuple[str, list[Outcome]]]:
    return [(name, list(group)) for name, group in groupby(suite.outcomes, _job)]


def _job(outcome: Outcome) -> str:
    return outcome.job


def _html(drawn: list[Any]) -> list[str]:
    return [
        figure.to_html(full_html=False, include_plotlyjs=index == 0)
        for index, figure in enumerate(drawn)
    ]
