"""What all reports say of a run: counts, errors and verdicts of each suite."""

import math
from collections.abc import Iterable, Sequence
from statistics import mean, median

import msgspec

from costmodels.units import format_bytes
from validation.running import Outcome, SuiteResult, ValidationRun


class SuiteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A suite in one line.

    Attributes
    ----------
    name, description : str
        Of the suite.
    case_count, exact_count, failure_count, trouble_count : int
        Cases that ran; of them those that ask for equality; those that failed; jobs that could
        not run [count].
    bias_fraction, mean_absolute_fraction, median_absolute_fraction, worst_fraction : float or None
        Mean error, mean and median absolute error, and the error furthest from zero, over the cases
        that do not ask for equality; None without any [fraction].
    wall_s : float
        How long it took [s].
    verdict : str
        ``passed``, ``failed``, ``could not run`` or ``not finished``.
    """

    name: str
    description: str
    case_count: int
    exact_count: int
    failure_count: int
    trouble_count: int
    bias_fraction: float | None
    mean_absolute_fraction: float | None
    median_absolute_fraction: float | None
    worst_fraction: float | None
    wall_s: float
    verdict: str


def is_exact(outcome: Outcome) -> bool:
    """Return whether a case asks for equality."""
    return outcome.case.tolerance_fraction == 0


def summaries(run: ValidationRun) -> list[SuiteSummary]:
    """Return every suite of a run in one line."""
    return [_summary(suite) for suite in run.suites]


def _summary(suite: SuiteResult) -> SuiteSummary:
    near = list(errors(outcome for outcome in suite.outcomes if not is_exact(outcome)))
    sizes = [abs(error) for error in near]
    return SuiteSummary(
        name=suite.name,
        description=suite.description,
        case_count=len(suite.outcomes),
        exact_count=sum(map(is_exact, suite.outcomes)),
        failure_count=len(suite.failures),
        trouble_count=len(suite.troubles),
        bias_fraction=mean(near) if near else None,
        mean_absolute_fraction=mean(sizes) if near else None,
        median_absolute_fraction=median(sizes) if near else None,
        worst_fraction=max(near, key=abs) if near else None,
        wall_s=suite.wall_s,
        verdict=_verdict(suite),
    )


def _verdict(suite: SuiteResult) -> str:
    if suite.failures:
        return "failed"
    if not suite.complete:
        return "could not run" if suite.troubles and not suite.outcomes else "not finished"
    return "could not run" if suite.troubles else "passed"


def errors(outcomes: Iterable[Outcome]) -> Iterable[float]:
    """Return the errors of cases, infinite where a measured zero was missed [fraction]."""
    for outcome in outcomes:
        yield math.inf if outcome.error_fraction is None else outcome.error_fraction


def sentence(run: ValidationRun) -> str:
    """Return the verdict on a run in one sentence."""
    exact = sum(is_exact(outcome) for suite in run.suites for outcome in suite.outcomes)
    parts = [
        f"{run.case_count - run.failure_count:,} of {run.case_count:,} cases passed",
        f"{exact:,} of them ask for equality",
    ]
    if run.trouble_count:
        parts.append(f"{run.trouble_count} could not run")
    if run.interrupted:
        parts.append("stopped before the end")
    return "; ".join(parts) + "."


def number(value: float) -> str:
    """Return a number as reports print it: integers whole, others with six digits."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.6g}"


def percent(fraction: float | None) -> str:
    """Return a fraction as reports print it; a dash for none."""
    if fraction is None:
        return "-"
    return "0" if fraction == 0 else f"{100 * fraction:+.3g} %"


def provenance(run: ValidationRun) -> Sequence[tuple[str, str]]:
    """Return machine, versions, commit, seed and time of a run, as names and values."""
    machine = run.machine
    memory = machine.memory_bytes
    return (
        ("started", f"{run.started}, took {run.wall_s:.0f} s"),
        ("kind", "quick" if run.quick else "full"),
        ("device", run.device),
        ("seed", str(run.seed)),
        ("Shardwise", f"{machine.shardwise}, commit {machine.commit or 'unknown'}"),
        ("machine", f"{machine.processor}, {machine.core_count} cores"),
        ("memory", "unknown" if memory is None else format_bytes(memory)),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("packages", ", ".join(f"{name} {text}" for name, text in machine.packages.items())),
    )
