"""Commands that compare predictions with programs and measure this machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.exits import INTERRUPTED
from cli.flags import AsJson
from cli.printing import print_json


def validate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE...] | list | diff BEFORE AFTER | history FOLDER",
            help="suites to run, all where none is named; or reports to compare",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="leave out what takes long")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda", help="where programs run")
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="of random choices")] = 0,
    job: Annotated[
        list[str] | None, typer.Option("--job", metavar="NAME", help="only this job of a suite")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="write page, Markdown, JSON and JUnit XML"),
    ] = None,
    progress_json: Annotated[
        bool,
        typer.Option(
            "--progress-json",
            help="for programs: a line of JSON before each job, and one with the verdict",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare predictions with running torch programs and published measurements."""
    from cli import validating

    words = words or []
    if progress_json and (as_json or words[:1] in (["list"], ["diff"], ["history"])):
        raise typer.BadParameter("--progress-json is for runs of suites, without --json")
    if words[:1] == ["list"]:
        validating.show_suites()
    elif words[:1] == ["diff"]:
        found = validating.compared(words[1:])
        print_json(found) if as_json else validating.show_differences(found)
    elif words[:1] == ["history"]:
        runs = validating.history(words[1:])
        print_json(runs) if as_json else validating.show_history(runs)
    else:
        validating.quiet_libraries()
        settings = validating.settings_of(quick=quick, device=device, seed=seed)
        run = validating.validated(
            words, settings, jobs=job or (), out=out, progress_json=progress_json
        )
        if progress_json:
            validating.tell_run(run, out)
        else:
            print_json(run) if as_json else validating.show_run(run, out)
        raise typer.Exit(INTERRUPTED if run.interrupted else validating.exit_code(run))


def calibrate(
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="processes that run at once")
    ] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda", help="where operators run")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="time each operator less often")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="OUT.toml", help="write a cluster that --cluster reads"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: products, attention, memory, optimizer, all-reduces."""
    from cli import calibrating

    found = calibrating.calibrated(processes, device=device, quick=quick, out=out)
    print_json(found) if as_json else calibrating.show_calibration(found, out)
