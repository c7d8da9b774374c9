"""The kinds of long work: how each is asked for, by which program it is done, what it says.

Each job is done by a program of its own, which tells how far it is by lines of JSON. So nothing that
fails, leaks or is killed there reaches the worker, and ending a job is ending a program.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from costmodels.errors import SpecError, not_found_message
from costmodels.scenario import Scenario, scenario_hash, scenario_to_table
from costmodels.version import VERSION
from dashboard.store.jobs import Job, Jobs

SIMULATION, VALIDATION = "simulation", "validation"
"""Names of the kinds."""

_SUITE = re.compile(r"[a-z][a-z0-9-]{0,60}")


class Told(NamedTuple):
    """How far a job is.

    Attributes
    ----------
    done, total : int
        Parts behind, and all of them [count].
    message : str
        What is being done.
    """

    done: int = 0
    total: int = 0
    message: str = ""


class Place(NamedTuple):
    """Where a worker may write.

    Attributes
    ----------
    folder : Path
        For the files of one job, removed after it.
    reports : Path
        Folder of validation reports.
    """

    folder: Path
    reports: Path


class Kind(NamedTuple):
    """A kind of long work.

    Attributes
    ----------
    command : callable
        From a job and where to write to the program that does it.
    told : callable
        From a line that the program said to how far it is.
    result : callable
        From where it wrote to what is kept of it.
    succeeded : tuple of int
        Exit codes with which there is a result.
    """

    command: Callable[[Job, Place], list[str]]
    told: Callable[[Mapping[str, Any]], Told]
    result: Callable[[Place], bytes]
    succeeded: tuple[int, ...] = (0,)


def ask_simulation(jobs: Jobs, scenario: Scenario, title: str) -> Job:
    """Return the job that plays a step of a scenario."""
    content = msgspec.json.encode(scenario_to_table(scenario)).decode()
    return jobs.add(SIMULATION, simulation_key(scenario), title, content)


def simulation_key(scenario: Scenario) -> str:
    """Return what tells the simulation of a scenario from others, by this version."""
    return f"{scenario_hash(scenario)[:40]} {VERSION}"[:64]


def ask_validation(jobs: Jobs, suites: Sequence[str] = ()) -> Job:
    """Return the job that runs the quick validation, of some suites or of all.

    Raises
    ------
    SpecError
        If the name of a suite cannot be one.
    """
    for name in suites:
        if not _SUITE.fullmatch(name):
            raise SpecError(f"suite ({name[:60]}): expected the name of a suite")
    content = msgspec.json.encode({"suites": list(suites)}).decode()
    title = f"quick validation of {', '.join(suites) or 'everything'}"
    return jobs.add(VALIDATION, " ".join(suites)[:64], title, content)


def kind_of(job: Job) -> Kind:
    """Return the kind of a job.

    Raises
    ------
    SpecError
        If this version does not know it.
    """
    if job.kind not in _KINDS:
        raise SpecError(not_found_message(what="kind of job", name=job.kind[:60], known=_KINDS))
    return _KINDS[job.kind]


_SCENARIO, _RESULT = "scenario.json", "result"


def _simulation_command(job: Job, place: Place) -> list[str]:
    (place.folder / _SCENARIO).write_text(job.content, encoding="utf-8")
    files = (str(place.folder / name) for name in (_SCENARIO, _RESULT))
    return [sys.executable, "-m", "dashboard.jobs.simulation", *files]


def _simulation_told(line: Mapping[str, Any]) -> Told:
    return Told(int(line["done"]), int(line["total"]), str(line["message"]))


def _written_result(place: Place) -> bytes:
    return (place.folder / _RESULT).read_bytes()


def _validation_command(job: Job, place: Place) -> list[str]:
    suites = [str(name) for name in msgspec.json.decode(job.content)["suites"]]
    for name in suites:
        # What stands in a database is not to become an option.
        if not _SUITE.fullmatch(name):
            raise SpecError(f"suite ({name[:60]}): expected the name of a suite")
    name = f"quick-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    (place.folder / _RESULT).write_text(name, encoding="utf-8")
    out = ["--out", str(place.reports / name)]
    run = ["-m", "cli.main", "validate", *suites, "--quick", "--progress-json"]
    return [sys.executable, *run, *out]


def _validation_told(line: Mapping[str, Any]) -> Told:
    failed = f", {line['failures']} failed" if line["failures"] else ""
    message = f"{line['suite']}: {line['job']} ({line['cases']:,} cases{failed})"
    return Told(int(line["done"]), int(line["total"]), message)


_CASE_FAILED, _UNAVAILABLE = 1, 4

_KINDS: Mapping[str, Kind] = {
    SIMULATION: Kind(_simulation_command, _simulation_told, _written_result),
    # A case that fails and a suite that cannot run are findings: the report says so.
    VALIDATION: Kind(
        _validation_command,
        _validation_told,
        _written_result,
        (0, _CASE_FAILED, _UNAVAILABLE),
    ),
}
