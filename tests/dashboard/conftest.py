"""A server in this process, and a browser that watches for errors."""

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("dash")


@pytest.fixture(scope="session")
def app() -> Any:
    from dashboard.app import create_app

    return create_app()


@pytest.fixture(scope="session")
def address(app: Any) -> Iterator[str]:
    from werkzeug.serving import make_server

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
