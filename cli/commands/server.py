"""Commands of the dashboard: its server, its workers and their jobs."""

from pathlib import Path
from typing import Annotated

import typer

from cli.flags import AsJson, OptionalFile, Settings, Strict, Text, flag
from cli.printing import print_json


def dashboard(
    scenario: OptionalFile = None,
    settings: Settings = None,
    host: Annotated[str, flag("--host", "address to listen on", "ADDRESS")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 for any free one")
    ] = 8050,
    auth: Annotated[Text, flag("--auth", "who may ask, where others reach it", "USER:PASSWORD")] = (
        None
    ),
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="let everybody in who reaches the address")
    ] = False,
    database: Annotated[Text, flag("--database", "where scenarios are saved", "ADDRESS")] = None,
    reports: Annotated[
        Path | None, typer.Option("--reports", metavar="FOLDER", help="of validation reports")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="whether to open a browser")
    ] = True,
    strict: Strict = False,
) -> None:
    """Look at plans in a browser; everything stays on this machine."""
    from cli.serving import serve_dashboard

    serve_dashboard(
        scenario,
        settings or (),
        host=host,
        port=port,
        auth=auth,
        no_auth=no_auth,
        database=database,
        reports=reports,
        opens_browser=browser,
        strict=strict,
    )


def worker(
    database: Annotated[Text, flag("--database", "where jobs are, as of dashboard", "ADDRESS")] = (
        None
    ),
    reports: Annotated[
        Path | None, typer.Option("--reports", metavar="FOLDER", help="of validation reports")
    ] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="end once no job waits")] = False,
    parent: Annotated[
        int | None,
        typer.Option("--parent", metavar="PID", help="end after this process has", hidden=True),
    ] = None,
) -> None:
    """Do the dashboard's jobs, one after the other, beside a server or several."""
    from cli.jobs import do_jobs

    do_jobs(database, reports, until_idle=until_idle, parent=parent)


def jobs(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[cancel N...]", help="jobs to end; all are listed where none is"),
    ] = None,
    database: Annotated[Text, flag("--database", "where they are, as of dashboard", "ADDRESS")] = (
        None
    ),
    as_json: AsJson = False,
) -> None:
    """List the dashboard's jobs, large simulations and validation runs, or cancel some."""
    from cli.jobs import chosen, show_jobs

    found = chosen(words or (), database)
    if as_json:
        print_json(found)
    else:
        show_jobs(found)
