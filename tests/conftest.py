"""What all tests share: hypothesis draws the same examples every time, slow tests run last."""

from collections.abc import Iterator
from time import monotonic

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=1000)
settings.load_profile("ci")

_LIMIT = "--slow-limit-s"
_LEFT_OUT = "left out: the time for slow tests is over"
_started_s = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _LIMIT,
        type=float,
        default=float("inf"),
        help="seconds from the start of the session after which no slow test starts",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_started_s] = monotonic()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    spent_s = monotonic() - item.config.stash[_started_s]
    if item.get_closest_marker("slow") and spent_s > item.config.getoption(_LIMIT):
        pytest.skip(_LEFT_OUT)


def _left_out(reports: list[pytest.TestReport]) -> Iterator[str]:
    for report in reports:
        if isinstance(report.longrepr, tuple) and _LEFT_OUT in report.longrepr[2]:
            yield report.nodeid


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    names = list(_left_out(terminalreporter.stats.get("skipped", [])))
    if names:
        terminalreporter.section("slow tests left out, for lack of time")
        for name in names:
            terminalreporter.line(name)
