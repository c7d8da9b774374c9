"""An order from a file, played for a scenario: as the schedule it was written from, or refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from costmodels.pipelining.csv_orders import order_to_csv
from costmodels.pipelining.given_orders import GivenOrder, given_order
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.scenario import Scenario, scenario_from_table
from simulator.metrics import pipeline_metrics
from simulator.path_metrics import path_metrics
from simulator.pipeline import simulate_pipeline
from simulator.schedule_choices import compare_schedules
from simulator.training import step_program
from simulator.whatif import contention, estimate, ordered_metrics, simulate, verdict


def scenario(schedule: str, p: int, v: int, m: int, **plan: Any) -> Scenario:
    """Return a small model on a pipeline alone."""
    return scenario_from_table(
        {
            "model": {"preset": "llama-3.1-8b", "num_hidden_layers": 8},
            "cluster": f"h100-sxm:{p}",
            "plan": {
                "pipeline_parallel_size": p,
                "virtual_stages": v,
                "schedule": schedule,
                "recompute": "full",
                **plan,
            },
            "workload": {"global_batch_size": m, "sequence_length": 2048},
        }
    )


def written(asked: Scenario, m: int) -> GivenOrder:
    """Return the order of a scenario's schedule, by way of a file's text."""
    plan = asked.plan
    rows = SCHEDULES[plan.schedule].rows_of(
        pipeline_parallel_size=plan.pipeline_parallel_size,
        virtual_stages=plan.virtual_stages,
        microbatch_count=m,
    )
    return given_order(order_to_csv(rows), name="order.csv")


CASES = [
    ("gpipe", 1),
    ("1f1b", 1),
    ("interleaved-1f1b", 2),
    ("looped-bfs", 2),
    ("zb-h1", 1),
    ("zb-h2", 1),
    ("interleaved-zb", 2),
    ("zb-v", 2),
    ("dualpipe-v", 2),
    ("dualpipe", 2),
]


@pytest.mark.parametrize(("name", "v"), CASES)
def test_a_schedule_written_to_a_file_answers_as_itself(name: str, v: int) -> None:
    p, m = 2, 4
    asked = scenario(name, p, v, m)
    order = written(asked, m)
    # What the file is played for has another schedule, which gives way.
    other = scenario("1f1b", p, 1, m)
    answer = estimate(asked)
    found = simulate(other, order=order)
    assert found.trace == simulate(asked).trace
    assert found.metrics.idle_s == pytest.approx(answer.pipeline["simulated_idle_s"])
    assert list(found.metrics.peak_bytes) == answer.memory["simulated_peak_bytes"]
    assert list(found.metrics.peak_bytes) == answer.memory["stage_bytes"]
    one, its = verdict(other, order=order), verdict(asked)
    assert (one.headroom_bytes, one.worst_stage_index) == (
        its.headroom_bytes,
        its.worst_stage_index,
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_both_engines_play_orders_that_no_schedule_has(data: st.DataObject) -> None:
    """Weight gradients moved to later places of their rank: always played, always alike."""
    p, m = data.draw(st.integers(2, 3)), data.draw(st.integers(3, 5))
    rows = []
    for row in SCHEDULES[ScheduleName.ZB_H2].rows_of(
        pipeline_parallel_size=p, virtual_stages=1, microbatch_count=m
    ):
        actions = list(row.actions)
        for action in [action for action in actions if action.kind == "W"]:
            place = actions.index(action)
            actions.remove(action)
            actions.insert(data.draw(st.integers(place, len(actions))), action)
        rows.append(row._replace(actions=tuple(actions)))
    order = given_order(order_to_csv(rows), name="late.csv")
    asked = scenario("1f1b", p, 1, m)
    by_events, by_path = simulate(asked, order=order).metrics, ordered_metrics(asked, order)
    assert by_events.makespan_s == pytest.approx(by_path.makespan_s)
    assert by_events.idle_s == pytest.approx(by_path.idle_s)
    assert by_events.peak_bytes == by_path.peak_bytes
    program = step_program(asked, compile_columns(asked), order)
    assert pipeline_metrics(simulate_pipeline(program)) == by_events
    assert path_metrics(program) == by_path


def test_schedules_are_compared_with_an_order() -> None:
    asked = scenario("1f1b", 2, 1, 4)
    found = compare_schedules(asked, order=written(asked, 4))
    rows = {choice.schedule: choice for choice in found.choices}
    same, itself = rows["order.csv"], rows["1f1b"]
    assert same.step_s == itself.step_s
    assert same.idle_fraction == pytest.approx(itself.idle_fraction)
    assert (same.peak_bytes, same.sent_bytes) == (itself.peak_bytes, itself.sent_bytes)


def test_an_order_is_played_on_shared_links() -> None:
    asked = scenario("1f1b", 2, 1, 4)
    found = contention(asked, order=written(asked, 4))
    assert found.metrics == contention(asked).metrics


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0F0,0B0\n1B0,1F0\n", "before its forward|deadlocks"),
        (
            "0F0,0B0,0F1,0B1\n1F1,1F0,1B1,1B0\n",
            r"rank 0 waits at 0B0 for 1B0, which rank 1 does later; "
            r"rank 1 waits at 1F1 for 0F1, which rank 0 does later",
        ),
        ("0F0,1F0,1B0,0B0\n2F0,3F0,3B0,2B0\n", r"ranks \[0, 0, 1, 1\]: expected \[0, 1, 0, 1\] or"),
        ("0F0,0B0\n1F0\n", "the order lacks 1B0"),
    ],
)
def test_an_order_that_cannot_be_played_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        given_order(text, name="order.csv")


def test_an_order_of_other_sizes_is_refused() -> None:
    order = written(scenario("1f1b", 2, 1, 4), 4)
    with pytest.raises(SpecError, match=r"pipeline_parallel_size \(4\): the order of order.csv"):
        simulate(scenario("1f1b", 4, 1, 4), order=order)
    with pytest.raises(SpecError, match=r"global_batch_size \(8\) makes 8 microbatches; the order"):
        verdict(scenario("1f1b", 2, 1, 8), order=order)
