"""The page of validation: suites, errors, each case with its claim, the notes' claims, runs."""

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from costmodels.errors import SpecError, not_found_message
from costmodels.scenario import Scenario
from dashboard.bar import view_choice
from dashboard.figures.style import in_page
from dashboard.figures.validation import errors, over_time, predictions
from dashboard.jobs.kinds import VALIDATION
from dashboard.library import store
from dashboard.pages.page import Asked, Page
from dashboard.pages.work import Offer, validation_job, work_part
from dashboard.parts import card, figure, message, more, table
from dashboard.reports import DEFAULT_FOLDER, Report, folder, reports
from dashboard.security import is_trusted
from dashboard.state import State, query_of
from validation.claims import claim_rows, counted
from validation.report.summary import number, percent, provenance, sentence, summaries
from validation.running import Outcome, SuiteResult, ValidationRun

RUN, SUITE, CASE = "run", "suite", "case"
"""What the controls and links state: a report's folder, a suite, a case by its place there."""

_PATH, _MOST_CASES = "/validation", 200


def _found() -> tuple[list[Report], list[str]]:
    place = folder()
    return ([], []) if place is None else reports(place)


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return which run and which suite are shown."""
    del scenario
    found, _ = _found()
    names = [report.name for report in reversed(found)]
    suites = list(dict.fromkeys(suite.name for report in found for suite in report.run.suites))
    return [
        html.Div(
            [
                view_choice(RUN, "run", names, state.viewed(RUN), "a report; the newest if empty"),
                view_choice(SUITE, "suite", suites, state.viewed(SUITE), "whose cases are listed"),
            ],
            className="fields",
        )
    ]


def render(asked: Asked) -> Sequence[Any]:
    """Return a run: its verdict, suites, figures, cases and claims; then all runs over time."""
    found, refused = _found()
    told = [*_work(found, asked.state.viewed(SUITE)), *(message(text) for text in refused)]
    if not found:
        return [
            *told,
            message(
                "There is no report yet. Write one with "
                f"shardwise validate --quick --out {DEFAULT_FOLDER}/first, and open "
                f"shardwise dashboard --reports {DEFAULT_FOLDER}."
            ),
        ]
    shown = _chosen(found, asked.state.viewed(RUN))
    run = shown.run
    return [
        *told,
        card("Verdict", *_verdict(run), note=shown.name.strip("."), key="verdict"),
        card("Suites", _suites(run, asked.state), key="suites"),
        html.Div(_figures(run), className="columns"),
        *_cases(run, asked.state),
        card("Claims of the notes", *_claims(run), key="claims"),
        card(
            "Runs over time",
            figure(
                "runs",
                in_page(over_time([report.run for report in found]), height=240),
                "Cases that passed and that failed in each run, by when it started",
            ),
            _runs(found, asked.state),
            key="runs",
        ),
    ]


def _work(found: Sequence[Report], suite: str) -> list[Any]:
    """Return the button that starts a quick validation, or how far the one that runs is."""
    if folder() is None or not store().jobs.is_shared:
        return []
    job = validation_job()
    if not is_trusted():
        return [work_part(job, [])] if job is not None and job.is_open else []
    offers = [Offer("Run the quick validation", VALIDATION)]
    if any(each.name == suite for report in found for each in report.run.suites):
        offers.append(Offer(f"Run {suite} only", VALIDATION, suite))
    note = "minutes, in the background, with torch in a process of its own"
    return [card("Measure here", work_part(job, offers), note=note, key="work")]


def _chosen(found: Sequence[Report], name: str) -> Report:
    if not name:
        return found[-1]
    known = {report.name: report for report in found}
    if name not in known:
        raise SpecError(not_found_message(what="run", name=name[:60], known=known))
    return known[name]


def _verdict(run: ValidationRun) -> list[Any]:
    return [
        html.P(sentence(run), className="verdict"),
        more("Machine, versions, commit, seed", _pairs(provenance(run))),
    ]


def _pairs(pairs: Sequence[tuple[str, Any]]) -> html.Dl:
    return html.Dl([part for name, value in pairs for part in (html.Dt(name), html.Dd(value))])


def _link(text: str, state: State, **view: str) -> dcc.Link:
    return dcc.Link(text, href=_PATH + query_of(state.seen(view)), className="apply")


def _suites(run: ValidationRun, state: State) -> Any:
    rows = [
        [
            _link(row.name, state, suite=row.name, case=""),
            row.description,
            f"{row.case_count:,}",
            f"{row.exact_count:,}",
            str(row.failure_count),
            percent(row.bias_fraction),
            percent(row.mean_absolute_fraction).lstrip("+"),
            percent(row.worst_fraction),
            f"{row.wall_s:.1f} s",
            _verdict_word(row.verdict),
        ]
        for row in summaries(run)
    ]
    columns = (
        *("suite", "compares", "cases", "exact", "failed", "bias"),
        *("mean abs. error", "worst", "time", "verdict"),
    )
    troubles = [
        html.Li(f"could not run {suite.name}, {trouble.job}: {trouble.reason}")
        for suite in run.suites
        for trouble in suite.troubles
    ]
    return html.Div([table("suites", columns, rows, align="ll"), html.Ul(troubles)])


def _verdict_word(word: str) -> html.Span:
    return html.Span(word, className={"passed": "yes", "failed": "no"}.get(word, "note"))


def _figures(run: ValidationRun) -> list[Any]:
    spread = errors(run)
    parts = [
        card(
            "Predicted against measured",
            figure(
                "predictions",
                in_page(predictions(run), height=420),
                "Every case, its prediction over its measurement, both axes logarithmic",
            ),
            note="a cross failed; zero and below only in the tables",
            key="scatter",
        )
    ]
    if spread is not None:
        parts.append(
            card(
                "Errors where equality is not asked for",
                figure("errors", in_page(spread, height=420, left=110), "Errors of each suite"),
                key="errors",
            )
        )
    return parts


def _cases(run: ValidationRun, state: State) -> list[Any]:
    chosen = state.viewed(SUITE)
    suite = next((each for each in run.suites if each.name == chosen), None)
    if suite is None:
        told = f"This run has no suite {chosen}." if chosen else "Choose a suite to see its cases."
        return [message(told)]
    outcome = _case(suite, state.viewed(CASE))
    opened = [] if outcome is None else [_opened(outcome)]
    return [*opened, card(f"Cases of {suite.name}", *_listed(suite, state), key="cases")]


def _case(suite: SuiteResult, place: str) -> Outcome | None:
    if not place.isascii() or not place.isdigit():
        return None
    index = int(place[:9])
    return suite.outcomes[index] if index < len(suite.outcomes) else None


def _listed(suite: SuiteResult, state: State) -> list[Any]:
    # What failed comes first.
    order = sorted(enumerate(suite.outcomes), key=lambda entry: entry[1].passed)
    rows = [
        [
            _link(outcome.case.name, state, case=str(index)),
            number(outcome.case.prediction),
            number(outcome.case.measurement),
            outcome.case.unit,
            percent(outcome.error_fraction),
            percent(outcome.case.tolerance_fraction).lstrip("+"),
            _verdict_word("passed" if outcome.passed else "failed"),
        ]
        for index, outcome in order[:_MOST_CASES]
    ]
    columns = ("case", "predicted", "measured", "unit", "error", "allowed", "verdict")
    parts = [table("cases", columns, rows, align="lrrl")]
    if len(order) > _MOST_CASES:
        parts.append(message(f"and {len(order) - _MOST_CASES:,} more, in the report's page"))
    return parts


def _opened(outcome: Outcome) -> Any:
    case = outcome.case
    pairs = (
        ("claim", case.claim),
        ("predicted", f"{number(case.prediction)} {case.unit}"),
        ("measured", f"{number(case.measurement)} {case.unit}"),
        ("error", percent(outcome.error_fraction)),
        ("allowed", f"{percent(case.tolerance_fraction).lstrip('+')}: {case.tolerance_reason}"),
        ("verdict", _verdict_word("passed" if outcome.passed else "failed")),
        ("method", case.method),
        ("source", case.source),
        ("command", html.Code(outcome.command)),
        ("notes' claims", ", ".join(case.claims) or "none"),
    )
    return card(case.name, _pairs(pairs), note=outcome.job, key="case")


_STATUSES = {"shown": "yes", "case failed": "no"}


def _claims(run: ValidationRun) -> list[Any]:
    rows = claim_rows(run)
    counts = ", ".join(f"{count} {status}" for status, count in counted(rows).items())
    lines = [
        [
            row.claim.id,
            row.claim.notes_say,
            row.claim.verdict,
            row.claim.truth,
            html.Span(row.status, className=_STATUSES.get(row.status, "note")),
            row.measured,
        ]
        for row in rows
    ]
    columns = ("claim", "notes say", "verdict", "what holds", "status", "measured")
    return [
        html.P(f"{len(rows)} claims: {counts}."),
        more("Every claim", table("claims", columns, lines, align="llllll")),
    ]


def _runs(found: Sequence[Report], state: State) -> Any:
    rows = [
        [
            _link(report.name, state, run=report.name, case=""),
            report.run.started,
            report.run.machine.commit or "-",
            "quick" if report.run.quick else "full",
            f"{report.run.case_count:,}",
            str(report.run.failure_count),
            str(report.run.trouble_count),
        ]
        for report in reversed(found)
    ]
    columns = ("run", "started", "commit", "kind", "cases", "failed", "could not run")
    return table("runs", columns, rows, align="llll")


PAGE = Page(_PATH, "Validation", render, controls=controls, about_scenario=False)
"""The page."""
