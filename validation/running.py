"""Running suites of validation: what each case found, and what could not run."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec

import msgspec

from costmodels.errors import SpecError, not_found_message
from validation.cases import Case, error_fraction, passed
from validation.jobs import Job, Settings, Suite, UnavailableError
from validation.machine import Machine, this_machine

SCHEMA_VERSION = 1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A case that ran.

    Attributes
    ----------
    job : str
        Job of the suite that made it.
    case : Case
        The comparison.
    error_fraction : float or None
        By what share of the measurement the prediction is too large; None where that is infinite,
        since a measured zero was missed [fraction].
    passed : bool
        The verdict.
    command : str
        Runs it again.
    """

    job: str
    case: Case
    error_fraction: float | None
    passed: bool
    command: str


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A job that did not run, or not to its end.

    Attributes
    ----------
    job : str
        Its name; a star for all jobs of the suite.
    reason : str
        Why.
    """

    job: str
    reason: str


class SuiteResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite found.

    Attributes
    ----------
    name, description, page : str
        Of the suite.
    outcomes : tuple of Outcome
        Cases that ran, in order.
    troubles : tuple of Trouble
        Jobs that could not.
    wall_s : float
        How long it took [s].
    complete : bool
        Whether every job was begun; false after an interruption.
    """

    name: str
    description: str
    page: str
    outcomes: tuple[Outcome, ...]
    troubles: tuple[Trouble, ...]
    wall_s: float
    complete: bool

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Cases that failed."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)


class ValidationRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of some suites.

    Attributes
    ----------
    schema_version : int
        Of this record.
    started : str
        When, in UTC, as ISO 8601.
    wall_s : float
        How long it took [s].
    quick : bool
        Whether jobs that take long were left out.
    device : str
        Where programs ran whose measurement depends on it.
    seed : int
        From which random choices were drawn.
    machine : Machine
        Where it ran.
    suites : tuple of SuiteResult
        In the order of the report.
    interrupted : bool
        Whether it was stopped before its end.
    """

    schema_version: int
    started: str
    wall_s: float
    quick: bool
    device: str
    seed: int
    machine: Machine
    suites: tuple[SuiteResult, ...]
    interrupted: bool

    @property
    def case_count(self) -> int:
        """Cases that ran [count]."""
        return sum(len(suite.outcomes) for suite in self.suites)

    @property
    def failure_count(self) -> int:
        """Cases that failed [count]."""
        return sum(len(suite.failures) for suite in self.suites)

    @property
    def trouble_count(self) -> int:
        """Jobs that could not run [count]."""
        return sum(len(suite.troubles) for suite in self.suites)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, before each job.

    Attributes
    ----------
    suite, job : str
        What comes next.
    done, total : int
        Jobs behind, and all of them [count].
    cases, failures : int
        Cases that ran so far, and those that failed [count].
    """

    suite: str
    job: str
    done: int
    total: int
    cases: int
    failures: int


def run_suites(
    suites: Iterable[Suite],
    settings: Settings,
    *,
    only: Sequence[str] = (),
    report: Callable[[Progress], None] = lambda _: None,
) -> ValidationRun:
    """Run suites one job after the other, whatever fails.

    Parameters
    ----------
    suites : iterable of Suite
        What to run.
    settings : Settings
        How.
    only : sequence of str
        Names of the jobs to run; empty for all.
    report : callable
        Called before each job.

    Returns
    -------
    ValidationRun
        What was found; after an interruption from the keyboard, what was found until then.

    Raises
    ------
    SpecError
        If no job has a name of `only`.
    """
    offered = [(suite, suite.jobs(settings)) for suite in suites]
    _refuse_unknown(offered, only)
    planned = [
        (suite, [job for job in jobs if not only or job.name in only]) for suite, jobs in offered
    ]
    run = _Run(settings=settings, total=sum(len(jobs) for _, jobs in planned), report=report)
    started, begin_s = datetime.now(UTC), time.perf_counter()
    results = [run.suite(suite, jobs) for suite, jobs in planned if jobs]
    return ValidationRun(
        schema_version=SCHEMA_VERSION,
        started=started.isoformat(timespec="seconds"),
        wall_s=time.perf_counter() - begin_s,
        quick=settings.quick,
        device=settings.device,
        seed=settings.seed,
        machine=this_machine(),
        suites=tuple(results),
        interrupted=run.interrupted,
    )


def _refuse_unknown(offered: Sequence[tuple[Suite, Sequence[Job]]], only: Sequence[str]) -> None:
    known = {job.name for _, jobs in offered for job in jobs}
    for name in only:
        if name not in known:
            raise SpecError(not_found_message(what="job", name=name, known=sorted(known)))


class _Run:
    """The state of a run: how far it is, and whether somebody stopped it."""

    def __init__(
        self, *, settings: Settings, total: int, report: Callable[[Progress], None]
    ) -> None:
        self.settings = settings
        self.interrupted = False
        self._total, self._report = total, report
        self._done = self._cases = self._failures = 0

    def suite(self, suite: Suite, jobs: Sequence[Job]) -> SuiteResult:
        """Run the jobs of one suite."""
        begin_s, outcomes, troubles = time.perf_counter(), list[Outcome](), list[Trouble]()
        missing = [name for name in suite.needs if find_spec(name) is None]
        if missing:
            reason = f"needs {', '.join(missing)}: install the validation extra"
            troubles.append(Trouble(job="*", reason=reason))
        begun = 0
        for job in [] if missing or self.interrupted else jobs:
            begun += 1
            self._tell(suite.name, job.name)
            try:
                self._job(suite, job, outcomes, troubles)
            except KeyboardInterrupt:
                self.interrupted = True
                troubles.append(Trouble(job=job.name, reason="interrupted"))
                break
        self._done += len(jobs) if missing else 0
        return SuiteResult(
            name=suite.name,
            description=suite.description,
            page=suite.page,
            outcomes=tuple(outcomes),
            troubles=tuple(troubles),
            wall_s=time.perf_counter() - begin_s,
            complete=begun == len(jobs) and not self.interrupted,
        )

    def _job(
        self, suite: Suite, job: Job, outcomes: list[Outcome], troubles: list[Trouble]
    ) -> None:
        try:
            outcomes.extend(self._outcome(suite, job, case) for case in job.run())
        except UnavailableError as error:
            troubles.append(Trouble(job=job.name, reason=str(error)))
        except Exception as error:  # noqa: BLE001 - one job's failure must not stop the others
            reason = f"{type(error).__name__}: {error}"
            troubles.append(Trouble(job=job.name, reason=reason))
        self._done += 1

    def _outcome(self, suite: Suite, job: Job, case: Case) -> Outcome:
        error, verdict = error_fraction(case), passed(case)
        self._cases += 1
        self._failures += not verdict
        return Outcome(
            job=job.name,
            case=case,
            error_fraction=error if abs(error) < float("inf") else None,
            passed=verdict,
            command=case.command or self._command(suite, job),
        )

    def _command(self, suite: Suite, job: Job) -> str:
        seed = f" --seed {self.settings.seed}" if self.settings.seed else ""
        device = f" --device {self.settings.device}" if self.settings.device != "cpu" else ""
        return f"shardwise validate {suite.name} --job '{job.name}'{seed}{device}"

    def _tell(self, suite: str, job: str) -> None:
        self._report(Progress(suite, job, self._done, self._total, self._cases, self._failures))
