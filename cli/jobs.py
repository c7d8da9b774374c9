"""Long work of the dashboard on the command line: doing it, listing it, ending it."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.serving import check_packages
from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError
from costmodels.units import format_fraction, format_seconds

if TYPE_CHECKING:
    from dashboard.store.jobs import Job, Jobs

_REPORTS_VARIABLE = "SHARDWISE_REPORTS"


def do_jobs(
    database: str | None, reports: Path | None, *, until_idle: bool, parent: int | None
) -> None:
    """Do jobs until a signal says to stop.

    Raises
    ------
    SpecError
        If a package is missing, or the database cannot be reached.
    """
    check_packages()
    from dashboard.jobs.worker import work
    from dashboard.reports import DEFAULT_FOLDER

    folder = reports or Path(os.environ.get(_REPORTS_VARIABLE) or DEFAULT_FOLDER)
    found = _jobs(database)
    if not found.is_shared:
        raise SpecError("--database (sqlite://): ends with the process that made it; name a file")
    work(found, folder, say=_say, until_idle=until_idle, parent=parent)


def _say(line: str) -> None:
    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {line}")


def _jobs(database: str | None) -> "Jobs":
    from dashboard.store.database import Database, database_url
    from dashboard.store.jobs import Jobs

    return Jobs(Database(database_url(database)))


def chosen(words: Sequence[str], database: str | None) -> "list[dict[str, Any]]":
    """Return all jobs, or those that were ended just now.

    Raises
    ------
    SpecError
        If the words ask for something else, or a job cannot be ended.
    """
    check_packages()
    if not words:
        return [_record(job) for job in _jobs(database).listed()]
    if words[0] != "cancel" or len(words) == 1:
        raise SpecError(f"jobs ({' '.join(words)}): expected no word, or cancel N...")
    known = _jobs(database)
    return [_record(known.cancel(_number(word))) for word in words[1:]]


def _number(word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise SpecError(f"job ({word}): expected the number of a job")
    return int(word)


def _record(job: "Job") -> dict[str, Any]:
    """Return a job as a record; what it is to do, which may be long, is left out."""
    kept = job._asdict() | {"is_abandoned": job.is_abandoned}
    kept.pop("content")
    return kept


def show_jobs(records: Sequence[dict[str, Any]]) -> None:
    """Print a line for each job."""
    to = console()
    if not records:
        to.print("no jobs")
        return
    columns = ("job", "kind", "what", "state", "asked", "took", "of it", "says")
    table = table_of("Jobs, the newest first", *columns, left=4)
    for record in records:
        table.add_row(
            str(record["id"]),
            record["kind"],
            record["title"],
            _state(record),
            f"{datetime.fromtimestamp(record['asked_s'], UTC):%Y-%m-%d %H:%M}",
            _took(record),
            format_fraction(record["done"] / record["total"]) if record["total"] else "-",
            record["reason"] or record["message"] or "-",
        )
    print_table(to, table)


def _state(record: dict[str, Any]) -> str:
    if record["is_abandoned"]:
        return "worker silent"
    ending = record["is_cancelled"] and record["state"] == "running"
    return "ending" if ending else str(record["state"])


def _took(record: dict[str, Any]) -> str:
    if record["begun_s"] is None or record["ended_s"] is None:
        return "-"
    return format_seconds(record["ended_s"] - record["begun_s"])
