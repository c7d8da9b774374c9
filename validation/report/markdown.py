"""A validation run as Markdown, short enough for a pull request."""

from collections.abc import Iterable, Sequence

from validation.report.summary import number, percent, provenance, sentence, summaries
from validation.running import Outcome, ValidationRun

MOST_ROWS = 50
"""Failed cases that are listed; the others are counted."""


def markdown(run: ValidationRun) -> str:
    """Return a run as Markdown: verdict, suites, what failed, what could not run, where it ran."""
    return "\n".join(
        [
            "# Validation",
            "",
            sentence(run),
            "",
            *_table(
                ("suite", "cases", "exact", "failed", "mean abs. error", "worst", "verdict"),
                (
                    (
                        row.name,
                        f"{row.case_count:,}",
                        f"{row.exact_count:,}",
                        str(row.failure_count),
                        percent(row.mean_absolute_fraction).lstrip("+"),
                        percent(row.worst_fraction),
                        row.verdict,
                    )
                    for row in summaries(run)
                ),
            ),
            *_failures(run),
            *_troubles(run),
            "",
            "## Where it ran",
            "",
            *(f"- {name}: {value}" for name, value in provenance(run)),
            "",
        ]
    )


def _failures(run: ValidationRun) -> Iterable[str]:
    failed = [(suite.name, outcome) for suite in run.suites for outcome in suite.failures]
    if not failed:
        return
    yield from ("", "## Failed", "")
    yield from _table(
        ("suite", "case", "predicted", "measured", "unit", "error", "allowed", "again"),
        (_failure(suite, outcome) for suite, outcome in failed[:MOST_ROWS]),
    )
    if len(failed) > MOST_ROWS:
        yield f"\nand {len(failed) - MOST_ROWS} more."


def _failure(suite: str, outcome: Outcome) -> Sequence[str]:
    case = outcome.case
    return (
        suite,
        case.name,
        number(case.prediction),
        number(case.measurement),
        case.unit,
        percent(outcome.error_fraction),
        percent(case.tolerance_fraction).lstrip("+"),
        f"`{outcome.command}`",
    )


def _troubles(run: ValidationRun) -> Iterable[str]:
    rows = [
        (suite.name, trouble.job, trouble.reason)
        for suite in run.suites
        for trouble in suite.troubles
    ]
    if rows:
        yield from ("", "## Could not run", "")
        yield from _table(("suite", "job", "why"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for row in rows:
        yield _line([cell.replace("|", "\\|").replace("\n", " ") for cell in row])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
