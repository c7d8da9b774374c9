"""What the page on accuracy says of a validation run, kept beside it.

``shardwise validate --out report`` makes the run; ``python -m docs.validation_record report`` keeps
its summary in ``docs/validation_run.json``, from which ``python -m docs.generate`` writes the tables.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

import msgspec

from docs.markdown import markdown_table
from validation.claims import claim_rows, counted
from validation.report.comparison import load
from validation.report.summary import (
    SuiteSummary,
    errors,
    is_exact,
    percent,
    provenance,
    sentence,
    summaries,
)
from validation.running import Outcome, SuiteResult, ValidationRun

RECORD = Path(__file__).parent / "validation_run.json"


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Cases of a suite that were made together.

    Attributes
    ----------
    suite, job : str
        Their names.
    case_count, exact_count, failure_count : int
        Cases; those that ask for equality; those that failed [count].
    mean_absolute_fraction, worst_fraction : float or None
        Of the cases that do not ask for equality; None without any [fraction].
    worst_case : str
        Name of the worst of them.
    """

    suite: str
    job: str
    case_count: int
    exact_count: int
    failure_count: int
    mean_absolute_fraction: float | None
    worst_fraction: float | None
    worst_case: str


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run, without its cases.

    Attributes
    ----------
    sentence : str
        The verdict.
    provenance : list of tuple of str
        Machine, versions, commit, seed and time.
    suites : list of SuiteSummary
        Each suite in a line.
    jobs : list of JobSummary
        Jobs of each suite.
    failures : list of tuple of str
        Suite, case, error and allowed error of each case that failed.
    claims : dict of str to int
        Claims of the notes by status.
    """

    sentence: str
    provenance: list[tuple[str, str]]
    suites: list[SuiteSummary]
    jobs: list[JobSummary]
    failures: list[tuple[str, str, str, str]]
    claims: dict[str, int]


def summary_of(run: ValidationRun) -> RunSummary:
    """Return what the page keeps of a run."""
    return RunSummary(
        sentence=sentence(run),
        provenance=list(provenance(run)),
        suites=summaries(run),
        jobs=[job for suite in run.suites for job in _jobs(suite)],
        failures=[
            (
                suite.name,
                outcome.case.name,
                percent(outcome.error_fraction),
                percent(outcome.case.tolerance_fraction).lstrip("+"),
            )
            for suite in run.suites
            for outcome in suite.failures
        ],
        claims=counted(claim_rows(run)),
    )


def _jobs(suite: SuiteResult) -> Iterable[JobSummary]:
    for name, group in groupby(suite.outcomes, lambda outcome: outcome.job):
        outcomes = list(group)
        near = [outcome for outcome in outcomes if not is_exact(outcome)]
        worst = max(near, key=_size, default=None)
        yield JobSummary(
            suite=suite.name,
            job=name,
            case_count=len(outcomes),
            exact_count=len(outcomes) - len(near),
            failure_count=sum(not outcome.passed for outcome in outcomes),
            mean_absolute_fraction=mean(map(abs, errors(near))) if near else None,
            worst_fraction=worst.error_fraction if worst else None,
            worst_case=worst.case.name if worst else "",
        )


def _size(outcome: Outcome) -> float:
    return max(map(abs, errors([outcome])))


def kept() -> RunSummary:
    """Return the summary that lies beside the page."""
    return msgspec.json.decode(RECORD.read_bytes(), type=RunSummary)


def run_table() -> str:
    """Return where the kept run was made, and its suites, as Markdown."""
    record = kept()
    suites = markdown_table(
        ("suite", "compares", "cases", "exact", "failed", "mean abs. error", "worst", "verdict"),
        (
            (
                row.name,
                row.description,
                f"{row.case_count:,}",
                f"{row.exact_count:,}",
                str(row.failure_count),
                percent(row.mean_absolute_fraction).lstrip("+"),
                percent(row.worst_fraction),
                row.verdict,
            )
            for row in record.suites
        ),
    )
    machine = "; ".join(f"{name} {value}" for name, value in record.provenance)
    claims = ", ".join(f"{count} {status}" for status, count in record.claims.items())
    return f"{record.sentence} Claims of the notes: {claims}.\n\n{suites}\n\n{machine}."


def near_table() -> str:
    """Return the jobs whose cases do not all ask for equality, with their worst case."""
    return markdown_table(
        ("suite", "job", "cases", "mean abs. error", "worst", "worst case"),
        (
            (
                job.suite,
                job.job,
                f"{job.case_count - job.exact_count:,}",
                percent(job.mean_absolute_fraction).lstrip("+"),
                percent(job.worst_fraction),
                job.worst_case,
            )
            for job in kept().jobs
            if job.case_count > job.exact_count
        ),
    )


def failures_table() -> str:
    """Return the cases that failed, or that there are none."""
    failures = kept().failures
    if not failures:
        return "No case failed."
    return markdown_table(("suite", "case", "error", "allowed"), failures)


def main(arguments: Sequence[str]) -> int:
    """Keep the summary of the report in a folder."""
    summary = summary_of(load(Path(arguments[0])))
    text = msgspec.json.format(msgspec.json.encode(summary), indent=1)
    RECORD.write_bytes(text + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
