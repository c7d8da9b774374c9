"""The Gantt chart draws every span of a trace once, in few traces."""

import json
from collections import Counter

import plotly.graph_objects as go
import pytest

from costmodels.scenario import scenario_from_table
from dashboard.figures import pipeline
from dashboard.figures.pipeline import gantt
from simulator.trace import Engine, Span, Trace
from simulator.whatif import simulate


def _trace(batch: int = 8, plan: dict[str, object] | None = None) -> Trace:
    return simulate(
        scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": "h100-sxm:8",
                "plan": {"pipeline_parallel_size": 4, "zero_stage": 1, **(plan or {})},
                "workload": {"global_batch_size": batch, "sequence_length": 4096},
            }
        )
    ).trace


def _drawn(figure: go.Figure) -> Counter[tuple[int, float, float, int, int]]:
    return Counter(
        (int(rank), float(start_s), float(place[1]), int(place[2]), int(place[3]))
        for bar in figure.data
        for rank, start_s, place in zip(bar.y, bar.base, bar.customdata, strict=True)
    )


def _expected(trace: Trace) -> Counter[tuple[int, float, float, int, int]]:
    def index(value: int | None) -> int:
        return -1 if value is None else value

    return Counter(
        (span.rank, span.start_s, span.end_s, index(span.stage), index(span.microbatch))
        for span in trace.spans
    )


@pytest.mark.parametrize(
    "plan", [{}, {"virtual_stages": 2, "schedule": "interleaved-1f1b"}, {"schedule": "gpipe"}]
)
def test_every_span_is_drawn_once(plan: dict[str, object]) -> None:
    trace = _trace(plan=plan)
    assert _drawn(gantt(trace)) == _expected(trace)


def test_bars_are_as_long_as_their_spans() -> None:
    trace = _trace()
    for bar in gantt(trace).data:
        for start_s, length_s, place in zip(bar.base, bar.x, bar.customdata, strict=True):
            assert start_s == place[0]
            assert length_s == place[4]
            assert start_s + length_s == pytest.approx(place[1], rel=1e-12)


def test_traces_do_not_grow_with_spans() -> None:
    few, many = _trace(8), _trace(512)
    assert len(many.spans) > 20 * len(few.spans)
    assert len(gantt(many).data) == len(gantt(few).data) <= 6


def test_the_figure_grows_no_faster_than_the_trace() -> None:
    few, many = _trace(256), _trace(1024)
    sizes = [len(gantt(trace).to_json()) / len(trace.spans) for trace in (few, many)]
    assert sizes[1] < 1.05 * sizes[0]


def test_kinds_have_colours_of_their_own() -> None:
    bars = gantt(_trace()).data
    colours = [bar.marker.color for bar in bars]
    assert len(set(colours)) == len(bars)
    assert {bar.name for bar in bars} >= {"forward", "backward", "gradient reduction", "optimizer"}


def test_computing_and_sending_do_not_cover_each_other() -> None:
    lanes = [(offset, offset + width) for offset, width in pipeline._LANES.values()]
    compute, network = (lanes[list(pipeline._LANES).index(engine)] for engine in Engine)
    assert -0.5 <= compute[0] < compute[1] <= network[0] < network[1] <= 0.5


def test_microbatches_are_written_on_few_bars_only() -> None:
    few, many = gantt(_trace(8)), gantt(_trace(512))
    assert list(few.data[0].text)[:2] == ["0", "1"]
    assert all(bar.text is None for bar in many.data)


def test_a_span_of_another_name_is_drawn_too() -> None:
    span = Span(0, Engine.COMPUTE, "checkpoint", None, None, 0.0, 1.0, 0, 0, 0, None)
    figure = gantt(Trace(static_bytes=(0,), spans=[span]))
    assert [bar.name for bar in figure.data] == ["checkpoint"]


def test_an_empty_trace_is_an_empty_figure() -> None:
    figure = gantt(Trace(static_bytes=()))
    assert len(figure.data) == 0
    assert json.loads(figure.to_json())["data"] == []


def test_the_figure_is_valid_json() -> None:
    figure = gantt(_trace())
    read = go.Figure(json.loads(figure.to_json()))
    assert len(read.data) == len(figure.data)
    assert read.layout == figure.layout
