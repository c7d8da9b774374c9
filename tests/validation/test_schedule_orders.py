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
    assert len(SUITE.jobs(Settings())) == 2 + 16
    assert len(SUITE.jobs(Settings(quick=True))) == 2


def test_the_authors_bubbles_come_out_of_their_times() -> None:
    cases = list(bubble_rates.rate_cases())
    assert len(cases) == 6 * 4
    assert all(map(passed, cases))


@pytest.mark.slow
def test_searched_orders_wait_as_little_as_the_authors() -> None:
    cases = list(bubble_rates.searched_cases())
    assert len(cases) == 6 * 2
    assert all(map(passed, cases))


def test_a_search_that_keeps_all_until_the_weight_gradient_needs_more_memory() -> None:
    """The authors' 2 p is enough because their input gradients release most activations."""
    row = bubble_rates.published_rows()[0]
    searched = bubble_rates.SEARCHED[1]
    small = {**row, "pipeline_parallel_size": "4", "microbatch_count": "12"}
    kept = {**small, "num_attention_heads": "0"}
    assert bubble_rates.searched_rate(searched, small) < bubble_rates.searched_rate(searched, kept)
