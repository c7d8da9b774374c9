"""The waterfall of a step's time shows the answer's terms, which add up to the step."""

import json

import plotly.graph_objects as go
import pytest

from costmodels.analysis import inputs_of
from costmodels.scenario import scenario_from_table
from dashboard.figures.time import step_bars, step_waterfall
from simulator.answer import Answer
from simulator.whatif import estimate


def _answer(memory: str = "80 GiB") -> Answer:
    return estimate(
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": {"preset": "h100-sxm:8", "accelerator": {"memory_bytes": memory}},
                "plan": {"tensor_parallel_size": 2, "pipeline_parallel_size": 4},
                "workload": {"global_batch_size": 8, "sequence_length": 4096},
            }
        )
    )


def test_bars_are_the_terms_and_the_step() -> None:
    answer = _answer()
    (waterfall,) = step_waterfall(answer).data
    assert list(waterfall.y) == [answer.time[name] for name in (*inputs_of("step_s"), "step_s")]
    assert list(waterfall.measure) == ["relative"] * len(inputs_of("step_s")) + ["total"]


def test_terms_add_up_to_the_step() -> None:
    (waterfall,) = step_waterfall(_answer()).data
    assert sum(waterfall.y[:-1]) == pytest.approx(waterfall.y[-1], rel=1e-12)
    assert waterfall.x[0] == "compute"
    assert waterfall.x[-1] == "step"


def test_every_term_has_a_label_of_its_own() -> None:
    (waterfall,) = step_waterfall(_answer()).data
    assert len(set(waterfall.x)) == len(waterfall.x)
    assert not any(label.endswith("_s") for label in waterfall.x)


def test_withheld_times_leave_no_bars() -> None:
    figure = step_waterfall(_answer("8 GiB"))
    assert len(figure.data) == 0
    assert "does not fit" in figure.layout.annotations[0].text


def test_the_figure_is_valid_json() -> None:
    figure = step_waterfall(_answer())
    assert go.Figure(json.loads(figure.to_json())) == figure


def test_lines_of_a_page_are_the_terms_that_take_time() -> None:
    answer = _answer()
    (bars,) = step_bars(answer)["data"]
    assert sum(bars["x"][:-1]) == pytest.approx(bars["x"][-1], rel=1e-12)
    assert all(bars["x"])
    assert go.Figure(step_bars(answer)).data[0].type == "waterfall"
