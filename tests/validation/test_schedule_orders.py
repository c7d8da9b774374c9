"""The suite of orders: what it compares, and that it fails where an order differs."""

from typing import Any

import pytest

from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from validation import bubble_rates, schedule_orders
from validation.cases import passed
from validation.jobs import Settings
from validation.suites.schedules import SUITE

pytestmark = pytest.mark.torch


def test_orders_of_four_ranks_are_torchs() -> None:
    cases = list(schedule_orders.order_cases((4,), (1, 5, 8)))
    assert {case.name.split(",")[0] for case in cases} == set(schedule_orders.TORCHS)
    assert all(map(passed, cases))
    assert any("refused" in case.name for case in cases)


def test_an_order_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped: dict[Any, Any] = {
        **ORDERINGS,
        ScheduleName.GPIPE: ORDERINGS[ScheduleName.LOOPED_BFS],
    }
    monkeypatch.setattr(schedule_orders, "ORDERINGS", swapped)
    failed = [case for case in schedule_orders.order_cases((2,), (4,)) if not passed(case)]
    assert {case.name for case in failed} == {"gpipe, 2 ranks", "gpipe, 2 ranks, refused"}


def test_the_whole_range_is_run_where_it_may_take_long() -> None:
    assert len(SUITE.jobs(Settings())) == 1 + 16
    assert len(SUITE.jobs(Settings(quick=True))) == 2


def test_the_authors_bubbles_come_out_of_their_times() -> None:
    cases = list(bubble_rates.rate_cases())
    assert len(cases) == 6 * 4
    assert all(map(passed, cases))
