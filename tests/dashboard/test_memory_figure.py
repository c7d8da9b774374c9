"""The memory figure shows the answer's numbers, and nothing else."""

import json

import plotly.graph_objects as go
import pytest

from costmodels.scenario import scenario_from_table
from dashboard.figures.memory import memory_by_stage, stage_bars
from simulator.answer import Answer
from simulator.whatif import estimate

GIB = 2**30


def _answer(**cluster: object) -> Answer:
    return estimate(
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": {"preset": "h100-sxm:8", **cluster},
                "plan": {"tensor_parallel_size": 2, "pipeline_parallel_size": 4},
                "workload": {"global_batch_size": 8, "sequence_length": 4096},
            }
        )
    )


def _capacities(figure: go.Figure) -> list[float]:
    return [shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1]


def test_bars_of_a_stage_sum_to_its_memory() -> None:
    answer = _answer()
    bars = memory_by_stage(answer).data
    assert [bar.name for bar in bars] == [
        "weights",
        "gradients",
        "optimizer",
        "activations",
        "buffers",
        "reserve",
    ]
    for stage, size_bytes in enumerate(answer.memory["stage_bytes"]):
        assert sum(bar.y[stage] for bar in bars) * GIB == size_bytes


def test_each_bar_is_its_component() -> None:
    answer = _answer()
    for bar in memory_by_stage(answer).data:
        value = answer.memory[f"{bar.name}_bytes"]
        stages = value if isinstance(value, list) else [value] * 4
        assert [size * GIB for size in bar.y] == stages
        assert list(bar.x) == [0, 1, 2, 3]


def test_the_line_is_the_capacity() -> None:
    assert _capacities(memory_by_stage(_answer())) == [85_520_809_984 / GIB]


def test_a_capacity_without_source_is_read_too() -> None:
    answer = _answer(accelerator={"memory_bytes": "16 GiB"})
    assert not isinstance(answer.scenario["cluster"]["accelerator"]["memory_bytes"], dict)
    assert _capacities(memory_by_stage(answer)) == [16.0]


@pytest.mark.parametrize(("memory", "verdict"), [("80 GiB", "fits"), ("16 GiB", "does not fit")])
def test_the_title_says_whether_it_fits(memory: str, verdict: str) -> None:
    figure = memory_by_stage(_answer(accelerator={"memory_bytes": memory}))
    assert f": {verdict}, " in figure.layout.title.text


def test_the_figure_is_valid_json() -> None:
    figure = memory_by_stage(_answer())
    assert go.Figure(json.loads(figure.to_json())) == figure


def test_bars_of_a_page_are_the_same() -> None:
    answer = _answer()
    drawn, page = memory_by_stage(answer), stage_bars(answer)
    for bar, entry in zip(drawn.data, page["data"], strict=True):
        assert list(bar.y) == entry["y"]
        assert bar.name == entry["name"]
    (line,) = page["layout"]["shapes"]
    assert _capacities(drawn) == [line["y0"]]
