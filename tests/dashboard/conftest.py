"""A server in this process, a browser that watches for errors, and databases."""

import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("dash")


class Place(NamedTuple):
    """What the application of the tests writes to."""

    store: Any
    reports: Path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    from dashboard.store.scenarios import Store

    folder = tmp_path_factory.mktemp("dashboard")
    return Place(Store(f"sqlite:///{folder / 'store.sqlite'}"), folder / "reports")


@pytest.fixture(scope="session")
def app(place: Place) -> Any:
    from dashboard.app import create_app

    return create_app(place.store, None, place.reports)


@pytest.fixture(scope="session")
def address(app: Any) -> Iterator[str]:
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium on PATH: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """Return a page; an error in its console or a request to elsewhere fails the test."""
    context = chromium.new_context(
        base_url=address, viewport={"width": 1280, "height": 900}, accept_downloads=True
    )
    context.set_default_timeout(25_000)
    made = context.new_page()
    problems: list[str] = []
    watch(made, address, problems)
    yield made
    context.close()
    assert problems == []


def watch(page: Any, address: str, problems: list[str]) -> None:
    page.on(
        "console",
        lambda entry: problems.append(entry.text) if entry.type == "error" else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url)
            if request.url.startswith("http") and not request.url.startswith(address)
            else None
        ),
    )


def _postgres_folder() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server of its own."""
    binaries = _postgres_folder()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    as_root = os.geteuid() == 0
    if as_root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    user = ["runuser", "-u", "postgres", "--"] if as_root else []
    folder = Path(subprocess.check_output([*user, "mktemp", "-d"], text=True, cwd="/").strip())

    def run(*arguments: str) -> None:
        subprocess.run(
            [*user, str(binaries / arguments[0]), *arguments[1:]],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )

    data, log = str(folder / "data"), str(folder / "log")
    run("initdb", "-D", data, "-A", "trust", "-U", "shard", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-F -c listen_addresses= -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
    yield f"postgresql+psycopg://shard@/postgres?host={folder}"
    run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    subprocess.run([*user, "rm", "-r", str(folder)], check=True, cwd="/")


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "sqlite://"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'scenarios.sqlite'}"
    else:
        found: str = request.getfixturevalue("postgresql")
        yield found
        from sqlalchemy import create_engine

        from dashboard.store.migrate import downgrade

        engine = create_engine(found)
        downgrade(engine, "base")
        engine.dispose()
