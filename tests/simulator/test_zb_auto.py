"""Zb-auto in answers: an order searched for a scenario's own times, within a limit on memory."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import NotModelledError
from costmodels.pipelining.automatic import held_most
from costmodels.pipelining.searched import SEARCHED_LIMIT
from costmodels.scenario import Scenario, scenario_from_table
from simulator.whatif import estimate, simulate


def scenario(schedule: str, *, layers: int = 11, microbatches: int = 8, **plan: Any) -> Scenario:
    """Return layers that do not divide by four ranks, on links that take some time."""
    return scenario_from_table(
        {
            "model": {"preset": "llama-3.1-8b", "num_hidden_layers": layers},
            "cluster": "h100-sxm:4",
            "plan": {"pipeline_parallel_size": 4, "schedule": schedule, "recompute": "full"} | plan,
            "workload": {"global_batch_size": microbatches, "sequence_length": 1024},
        }
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(8, 16), st.integers(1, 9), st.integers(1, 9))
def test_closed_form_and_both_engines_play_the_order_found(
    layers: int, microbatches: int, limit: int
) -> None:
    asked = scenario("zb-auto", layers=layers, microbatches=microbatches, held_limit=limit)
    answer, played = estimate(asked), simulate(asked)
    simulated: Any = answer.time["simulated_step_s"]
    assert played.metrics.makespan_s == pytest.approx(simulated)
    assert played.metrics.pipeline_makespan_s == pytest.approx(answer.time["pipeline_s"])
    assert answer.pipeline["in_flight_count"] == [min(limit, microbatches)] * 4
    assert max(map(held_most, played.program.order)) <= min(limit, microbatches)
    for peak, allowed in zip(played.metrics.peak_bytes, answer.memory["stage_bytes"], strict=True):
        assert peak <= allowed


@pytest.mark.parametrize(("fixed", "limit"), [("zb-h1", 4), ("zb-h2", 7)])
@pytest.mark.parametrize("layers", [8, 11, 14])
def test_it_is_no_slower_than_fixed_orders_that_hold_as_much(
    fixed: str, limit: int, layers: int
) -> None:
    """The search takes the longest rank's span, which is the pipeline but for its start."""
    searched = estimate(scenario("zb-auto", layers=layers, held_limit=limit)).time["pipeline_s"]
    given_s: Any = estimate(scenario(fixed, layers=layers)).time["pipeline_s"]
    assert searched <= given_s * (1 + 1e-9)


def test_left_out_the_limit_is_the_number_of_ranks() -> None:
    assert estimate(scenario("zb-auto")).time == estimate(scenario("zb-auto", held_limit=4)).time


def test_other_schedules_say_that_the_limit_moves_nothing() -> None:
    notes = estimate(scenario("1f1b", held_limit=4)).notes
    assert any("plan.held_limit" in note and "only zb-auto" in note for note in notes)
    assert not any("plan.held_limit" in note for note in estimate(scenario("zb-auto")).notes)


def test_a_step_too_long_to_search_is_refused() -> None:
    microbatches = SEARCHED_LIMIT // 12 + 1
    with pytest.raises(NotModelledError, match=r"zb-auto.*is not searched; at most 60,000 are"):
        estimate(scenario("zb-auto", microbatches=microbatches))
