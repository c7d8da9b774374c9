"""Reports of validation runs in the folder that an application was told of."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from flask import Flask, current_app

from costmodels.errors import SpecError
from validation.report.comparison import RECORD, load
from validation.running import ValidationRun

_FOLDER = "SHARDWISE_REPORTS"
DEFAULT_FOLDER = Path("report")
"""Where `shardwise validate --out report` writes."""

MOST_RUNS = 50
"""Reports that are read, the newest of them."""


class Report(NamedTuple):
    """A run and the folder that its report lies in.

    Attributes
    ----------
    name : str
        The folder, from the one that all lie in.
    run : ValidationRun
        What ran.
    """

    name: str
    run: ValidationRun


def keep_reports(server: Flask, folder: Path | None) -> None:
    """Say where an application finds reports, None for nowhere."""
    server.config[_FOLDER] = folder


def folder() -> Path | None:
    """Return where the application that answers the request finds reports."""
    found: Path | None = current_app.config[_FOLDER]
    return found


def reports(place: Path) -> tuple[list[Report], list[str]]:
    """Return the reports of a folder, the earliest run first, and why others cannot be read.

    Parameters
    ----------
    place : Path
        A report, or a folder of reports.
    """
    files = sorted(place.glob(f"**/{RECORD}"), key=_changed, reverse=True)[:MOST_RUNS]
    found, refused = [], []
    for file in files:
        name = file.parent.relative_to(place).as_posix()
        try:
            found.append(Report(name, _loaded(file, _changed(file))))
        except SpecError as error:
            refused.append(str(error).replace(str(file), f"{name}/{RECORD}"))
    return sorted(found, key=lambda report: report.run.started), refused


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


@lru_cache(maxsize=MOST_RUNS)
def _loaded(file: Path, changed: float) -> ValidationRun:
    del changed  # A report that is written again is read again.
    return load(file)
