"""Validation on the command line: running suites, comparing runs."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError
from validation.jobs import Settings
from validation.report.comparison import Difference, differences, load, load_all
from validation.report.summary import number, percent, provenance, sentence, summaries
from validation.report.writing import write_report
from validation.running import Progress, ValidationRun, run_suites
from validation.suites import chosen_suites, known_suites

FAILED, UNAVAILABLE = 1, 4
"""Exit codes: a case failed; none did, but some suite could not run."""

DEVICES = ("auto", "cpu", "cuda")
_MOST_SHOWN = 20
_REPORT_NEEDS = ("plotly", "jinja2")


def settings_of(*, quick: bool, device: str, seed: int) -> Settings:
    """Return settings from the command line's words.

    Raises
    ------
    SpecError
        If there is no such device.
    """
    if device not in DEVICES:
        raise SpecError(f"--device ({device}): must be one of {', '.join(DEVICES)}")
    if seed < 0:
        raise SpecError(f"--seed ({seed}): must be at least 0")
    return Settings(quick=quick, device=_device(device), seed=seed)


def _device(asked: str) -> str:
    if asked == "cpu" or find_spec("torch") is None:
        return "cpu" if asked == "auto" else asked
    from validation.torch_runtime import has_cuda

    if asked == "cuda" and not has_cuda():
        raise SpecError("--device (cuda): torch finds no CUDA device on this machine; use cpu")
    return "cuda" if has_cuda() else "cpu"


def validated(
    names: Sequence[str],
    settings: Settings,
    *,
    jobs: Sequence[str],
    out: Path | None,
    progress_json: bool = False,
) -> ValidationRun:
    """Run suites, show how far they are, and write the report.

    With `progress_json`, programs are told how far they are: a line of JSON before each job, on
    standard output.

    Raises
    ------
    SpecError
        If a suite or a job is unknown, or the report cannot be written.
    """
    if out is not None:
        _check_report(out)
    suites = chosen_suites(names)
    if settings.quick and not any(suite.jobs(settings) for suite in suites):
        left_out = ", ".join(suite.name for suite in suites)
        raise SpecError(f"--quick: leaves out all of {left_out}; run it without")
    with _progress(progress_json) as report:
        run = run_suites(suites, settings, only=jobs, report=report)
    if out is not None:
        try:
            write_report(run, out)
        except OSError as error:
            raise SpecError(f"--out ({out}): cannot be written: {error.strerror}") from None
    return run


def _check_report(out: Path) -> None:
    missing = [name for name in _REPORT_NEEDS if find_spec(name) is None]
    if missing:
        raise SpecError(f"--out ({out}): the report needs {', '.join(missing)}: pip install it")
    if out.exists() and not out.is_dir():
        raise SpecError(f"--out ({out}): is a file; name a folder")


@contextmanager
def _progress(as_json: bool) -> Iterator[Any]:
    """Show a bar on a terminal's error stream, or tell programs; else nothing."""
    if as_json:
        yield lambda progress: _print_line(asdict(progress))
        return
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(progress: Progress) -> None:
            failures = f", {progress.failures} failed" if progress.failures else ""
            text = f"{progress.suite}: {progress.job} ({progress.cases:,} cases{failures})"
            bar.update(task, total=progress.total, completed=progress.done, description=text)

        yield report


def _print_line(told: dict[str, Any]) -> None:
    # At once: who reads it wants to know now.
    print(msgspec.json.encode(told).decode(), flush=True)


def tell_run(run: ValidationRun, out: Path | None) -> None:
    """Print the verdict for programs, as the last line of JSON."""
    _print_line(
        {
            "verdict": sentence(run),
            "cases": run.case_count,
            "failures": run.failure_count,
            "troubles": run.trouble_count,
            "interrupted": run.interrupted,
            "report": None if out is None else str(out),
        }
    )


def exit_code(run: ValidationRun) -> int:
    """Return the exit code of a run: zero where every case passed and every job ran."""
    if run.failure_count:
        return FAILED
    return UNAVAILABLE if run.trouble_count else 0


def show_run(run: ValidationRun, out: Path | None) -> None:
    """Print the verdict, a line for each suite, what failed and what could not run."""
    to = console()
    to.print(sentence(run), style="red" if run.failure_count else "green")
    table = table_of(
        "Suites", "suite", "cases", "exact", "failed", "mean abs. error", "worst", "time", "verdict"
    )
    for row in summaries(run):
        table.add_row(
            row.name,
            f"{row.case_count:,}",
            f"{row.exact_count:,}",
            str(row.failure_count),
            percent(row.mean_absolute_fraction).lstrip("+"),
            percent(row.worst_fraction),
            f"{row.wall_s:.1f} s",
            row.verdict,
        )
    print_table(to, table)
    _show_failures(to, run)
    for suite in run.suites:
        for trouble in suite.troubles:
            job = "" if trouble.job == "*" else f", {trouble.job}"
            to.print(f"could not run {suite.name}{job}: {trouble.reason}", style="red")
    to.print("; ".join(f"{name} {value}" for name, value in provenance(run)))
    if out is not None:
        to.print(f"report: {out / 'report.html'}")


def _show_failures(to: Any, run: ValidationRun) -> None:
    failed = [outcome for suite in run.suites for outcome in suite.failures]
    if not failed:
        return
    table = table_of("Failed", "case", "predicted", "measured", "unit", "error", "allowed")
    for outcome in failed[:_MOST_SHOWN]:
        case = outcome.case
        table.add_row(
            case.name,
            number(case.prediction),
            number(case.measurement),
            case.unit,
            percent(outcome.error_fraction),
            percent(case.tolerance_fraction).lstrip("+"),
        )
    print_table(to, table)
    if len(failed) > _MOST_SHOWN:
        to.print(f"and {len(failed) - _MOST_SHOWN} more: --out FOLDER writes them all")


def show_suites() -> None:
    """Print the suites that there are."""
    table = table_of("Suites", "suite", "compares", left=2)
    for suite in known_suites().values():
        table.add_row(suite.name, suite.description)
    print_table(console(), table)


def compared(words: Sequence[str]) -> list[Difference]:
    """Return what changed between two reports.

    Raises
    ------
    SpecError
        If they are not two, or one cannot be read.
    """
    if len(words) != 2:
        raise SpecError(f"diff ({len(words)} reports): compares two: validate diff BEFORE AFTER")
    return differences(*(load(Path(word)) for word in words))


def show_differences(found: Sequence[Difference]) -> None:
    """Print the cases that changed."""
    to = console()
    if not found:
        to.print("no case changed")
        return
    table = table_of(
        f"{len(found)} cases changed", "case", "change", "predicted", "measured", "unit", left=2
    )
    for entry in found:
        table.add_row(
            f"{entry.suite}: {entry.case}",
            entry.change,
            _pair(entry, 0),
            _pair(entry, 1),
            entry.unit,
        )
    print_table(to, table)


def _pair(entry: Difference, place: int) -> str:
    values = [side[place] for side in (entry.before, entry.after) if side is not None]
    texts = [number(value or 0) for value in values]
    return " -> ".join(dict.fromkeys(texts))


def history(words: Sequence[str]) -> list[ValidationRun]:
    """Return the runs of a folder of reports.

    Raises
    ------
    SpecError
        If it is not one folder, or holds no report.
    """
    if len(words) != 1:
        raise SpecError(f"history ({len(words)} folders): takes one: validate history FOLDER")
    return load_all(Path(words[0]))


def show_history(runs: Sequence[ValidationRun]) -> None:
    """Print a line for each run of each suite, so that errors can be followed over time."""
    table = table_of(
        f"{len(runs)} runs", "started", "commit", "suite", "cases", "failed", "mean abs. error",
        "worst", left=3,
    )  # fmt: skip
    for run in runs:
        for row in summaries(run):
            table.add_row(
                run.started,
                run.machine.commit or "-",
                row.name,
                f"{row.case_count:,}",
                str(row.failure_count),
                percent(row.mean_absolute_fraction).lstrip("+"),
                percent(row.worst_fraction),
            )
    print_table(console(), table)


def quiet_libraries() -> None:
    """Keep the chatter of libraries away from the report: what they say when they load."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("torchao").setLevel(logging.CRITICAL)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger().setLevel(logging.CRITICAL)
