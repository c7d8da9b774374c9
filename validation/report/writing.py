"""Writing a report into a folder."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from validation.report.comparison import RECORD
from validation.report.junit import junit
from validation.report.markdown import markdown
from validation.running import ValidationRun


def report_files(run: ValidationRun) -> Iterator[tuple[str, str]]:
    """Return name and text of each file of a report, the record first.

    Parameters
    ----------
    run : ValidationRun
        What ran.

    Yields
    ------
    tuple of str and str
        JSON, Markdown and JUnit XML; the page last, which needs plotly.
    """
    yield RECORD, msgspec.json.format(msgspec.json.encode(run), indent=2).decode() + "\n"
    yield "report.md", markdown(run)
    yield "junit.xml", junit(run)
    from validation.report.page import page

    yield "report.html", page(run)


def write_report(run: ValidationRun, folder: Path) -> list[Path]:
    """Write a report into a folder, which is made where it is missing.

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in report_files(run):
        file = folder / name
        file.write_text(text, encoding="utf-8")
        files.append(file)
    return files
