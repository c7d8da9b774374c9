"""Figures of number formats hold the numbers they are given."""

import pytest

pytest.importorskip("plotly", reason="plotly is not installed: the dashboard extra")

from costmodels.number_formats.explaining import explain
from costmodels.number_formats.scalars import scalar_formats
from costmodels.scenario import scenario_from_table
from dashboard.figures import formats as figures
from simulator.format_comparison import compare_formats


def test_bars_stack_to_the_weights() -> None:
    scenario = scenario_from_table(
        {
            "model": "mixtral-8x7b",
            "cluster": "h100-sxm:8",
            "workload": {"global_batch_size": 8, "sequence_length": 1024},
        }
    )
    comparison = compare_formats(scenario, ["bf16", "nf4", "hqq4"])
    figure = figures.memory_by_format(comparison, {"h100-sxm": 80 * 2**30})
    bars = [trace for trace in figure.data if trace.type == "bar"]
    for place, entry in enumerate(comparison.storages):
        assert sum(bar.y[place] for bar in bars) == pytest.approx(entry.weights_bytes / 2**30)
    (points,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert list(points.y) == [entry.sqnr_db for entry in comparison.storages]
    assert figure.layout.shapes[0].y0 == 80


def test_neighbours_stand_around_the_number() -> None:
    figure = figures.neighbours_of(explain(3.14, scalar_formats()["bf16"]))
    points = {trace.name: trace.x[0] for trace in figure.data}
    assert points["next below"] < points["number"] < points["held"] < points["next above"]
    last = figures.neighbours_of(explain(500.0, scalar_formats()["fp8_e4m3fn"].as_of("torch")))
    assert "next above" not in {trace.name for trace in last.data}


def test_all_numbers_of_a_format() -> None:
    (marks,) = figures.numbers_of(scalar_formats()["fp4_e2m1"]).data
    assert list(marks.x) == [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]
