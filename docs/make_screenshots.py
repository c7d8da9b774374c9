"""Pictures of the dashboard's pages for the documentation: ``python -m docs.make_screenshots``.

Needs Chromium on PATH and playwright.
"""

import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from dashboard.app import create_app
from dashboard.jobs.kinds import ask_simulation
from dashboard.opening import opened
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.scenarios import Store
from validation.jobs import Settings
from validation.report.comparison import RECORD
from validation.running import run_suites
from validation.suites import chosen_suites

IMAGES = Path(__file__).resolve().parent / "images"


_LARGE = "20000"
"""Microbatches that make a step too large for a page to wait for."""


class Shot(NamedTuple):
    """A picture: its name, the address, what must be there first, and its size in pixels."""

    name: str
    address: str
    awaited: str
    height: int = 900
    width: int = 1280
    scheme: str = "light"


SHOTS = (
    # First: a worker that is silent for long would be taken for dead.
    Shot("job", f"/pipeline?microbatches={_LARGE}", "#job progress", height=720),
    Shot("plan", "/", "#later .card"),
    Shot("plan-dark", "/", "#later .card", scheme="dark"),
    Shot("plan-narrow", "/", "#later .card", width=390),
    Shot("pipeline", "/pipeline?view.against=interleaved-1f1b", ".barlayer .point"),
    Shot("communication", "/communication?view.axis=data", "#later .card"),
    Shot("attention", "/attention", "#later .main-svg", height=1500),
    Shot("formats", "/formats", "#later .main-svg", height=1500),
    Shot("numbers", "/numbers", "#result .card"),
    Shot("validation", "/validation?view.suite=published-memory&view.case=0", ".main-svg", 1500),
    Shot("compare", "/compare?view.with=2,3&view.sweep=plan.micro_batch_size", "#later .card"),
    Shot("scenarios", "/scenarios?scenario=2", "#table-scenarios"),
)
_SAVED = (
    ("as trained", ()),
    ("interleaved", (("plan.schedule", "interleaved-1f1b"), ("plan.virtual_stages", "4"))),
    ("on B200", (("cluster", "b200-sxm"),)),
)


def _filled(folder: Path) -> Store:
    """Return a store with saved scenarios, and with a job that is half done."""
    store = Store(f"sqlite:///{folder / 'store.sqlite'}")
    for name, changes in _SAVED:
        opened(store, scenario_of(DEFAULT, changes), name)
    large = scenario_of(DEFAULT, (("microbatches", _LARGE),))
    ask_simulation(store.jobs, large, "1f1b of 640,000 actions")
    job = store.jobs.claim("a worker")
    if job is not None:
        store.jobs.beat(job, done=263_000, total=640_000, message="actions are played")
    return store


def _write_report(folder: Path) -> None:
    run = run_suites(chosen_suites(("published-memory",)), Settings(quick=True))
    (folder / RECORD).write_bytes(msgspec.json.encode(run))


def _take(browser: Any, base: str, shot: Shot) -> None:
    page = browser.new_page(
        base_url=base,
        viewport={"width": shot.width, "height": shot.height},
        color_scheme=shot.scheme,
    )
    page.set_default_timeout(90_000)
    page.goto(shot.address)
    page.locator(shot.awaited).first.wait_for(state="attached")
    page.wait_for_timeout(1_500)
    page.screenshot(path=str(IMAGES / f"dashboard-{shot.name}.png"))
    page.close()


def main(names: Sequence[str] = ()) -> None:
    """Take pictures of these names, all of them where none is named."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium on PATH")
    with TemporaryDirectory() as folder:
        _write_report(Path(folder))
        app = create_app(_filled(Path(folder)), reports=Path(folder))
        _take_all(make_server("127.0.0.1", 0, app.server, threaded=True), chromium, names)


def _take_all(server: Any, chromium: str, names: Sequence[str]) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in (each for each in SHOTS if not names or each.name in names):
            _take(browser, f"http://127.0.0.1:{server.port}", shot)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
