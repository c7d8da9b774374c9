"""The waterfall of a step's time shows the answer's terms, which add up to the step."""

import json

import plotly.graph_objects as go
import pytest

from costmodels.analysis import CATALOGUE, inputs_of
from costmodels.scenario import scenario_from_table
from dashboard.figures.time import _LABELS, step_bars
from simulator.answer import Answer
from simulator.whatif import estimate


def _answer() -> Answer:
    return estimate(
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": "h100-sxm:8",
                "plan": {"tensor_parallel_size": 2, "pipeline_parallel_size": 4},
                "workload": {"global_batch_size": 8, "sequence_length": 4096},
            }
        )
    )


def test_bars_are_the_terms_that_take_time_and_the_step() -> None:
    answer = _answer()
    (bars,) = step_bars(answer)["data"]
    terms = [name for name in inputs_of("step_s") if answer.time[name]]
    assert bars["x"] == [answer.time[name] for name in (*terms, "step_s")]
    assert bars["measure"] == ["relative"] * len(terms) + ["total"]
    assert [text for text, *_ in bars["customdata"]] == [
        CATALOGUE[name].definition for name in (*terms, "step_s")
    ]


def test_terms_add_up_to_the_step() -> None:
    (bars,) = step_bars(_answer())["data"]
    assert sum(bars["x"][:-1]) == pytest.approx(bars["x"][-1], rel=1e-12)
    assert bars["y"][0] == "compute"
    assert bars["y"][-1] == "step"


def test_every_term_has_a_label_of_its_own() -> None:
    assert _LABELS.keys() == set(inputs_of("step_s"))
    assert len(set(_LABELS.values())) == len(_LABELS)
    (bars,) = step_bars(_answer())["data"]
    assert len(set(bars["y"])) == len(bars["y"])


def test_the_figure_is_valid_json() -> None:
    figure = go.Figure(step_bars(_answer()))
    assert figure.data[0].type == "waterfall"
    assert go.Figure(json.loads(figure.to_json())) == figure
