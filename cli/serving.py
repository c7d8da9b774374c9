"""The command that serves the dashboard."""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import typer

from cli.inputs import read_scenario
from costmodels.errors import SpecError

_NEEDED = ("alembic", "dash", "plotly", "sqlalchemy", "waitress")


def check_packages() -> None:
    """Raise unless what the dashboard needs is installed.

    Raises
    ------
    SpecError
        If a package is missing.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise SpecError(
            f"the dashboard needs {', '.join(missing)}: pip install -c constraints.txt "
            "-e '.[dashboard]'"
        )


def serve_dashboard(
    file: Path | None,
    settings: Sequence[str],
    *,
    host: str,
    port: int,
    auth: str | None,
    no_auth: bool,
    database: str | None,
    reports: Path | None,
    opens_browser: bool,
    strict: bool,
) -> None:
    """Serve the dashboard, opened on a scenario file if one is given.

    Raises
    ------
    SpecError
        If the file is wrong, a package is missing, or others could reach it unasked.
    """
    if reports is not None and not reports.is_dir():
        raise SpecError(f"--reports ({reports}): is no folder; shardwise validate --out makes one")
    check_packages()
    from dashboard.app import create_app
    from dashboard.jobs.keeping import kept_worker
    from dashboard.opening import opened
    from dashboard.reports import DEFAULT_FOLDER
    from dashboard.security import Access, is_loopback, read_access
    from dashboard.serving import serve
    from dashboard.state import State, query_of
    from dashboard.store.database import database_url
    from dashboard.store.scenarios import Store

    local = is_loopback(host)
    if not local and not auth and not no_auth:
        raise SpecError(
            f"--host {host}: others can reach this address; give --auth USER:PASSWORD, or "
            "--no-auth to let everybody in"
        )
    described = None
    if file is not None or settings:
        described = read_scenario(file, {}, settings, strict=strict)
    store, state = Store(database_url(database)), State()
    if described is not None:
        name = "opened" if file is None or str(file) == "-" else file.stem
        state = State(base=str(opened(store, described, name).id))
    access = read_access(auth, Access().hosts if local else ())
    app = create_app(store, access, reports or DEFAULT_FOLDER)
    # Jobs are done by a process of their own, which a database within this one does not reach.
    worker = (
        kept_worker(store.jobs.url, reports or DEFAULT_FOLDER)
        if store.jobs.is_shared
        else nullcontext()
    )
    with worker:
        serve(
            app.server,
            host,
            port,
            query=query_of(state),
            announce=lambda address: typer.echo(f"{address}  (Ctrl-C ends it)"),
            opens_browser=opens_browser,
        )
