"""Schedules of any size: spans, rasters, what is held, why ranks wait."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.figures.schedule import (
    CELLS,
    DETAIL_SPANS,
    IDLE,
    Window,
    idle_bars,
    idle_by_cause,
    legend,
    memory_over_time,
    prepared,
    schedule,
    spans_of,
)
from dashboard.state import DEFAULT, scenario_of
from simulator.trace import Trace
from simulator.whatif import simulate

SIZES = {
    "small": (("microbatches", "16"),),
    "interleaved": (
        ("plan.schedule", "interleaved-1f1b"),
        ("plan.virtual_stages", "2"),
        ("microbatches", "32"),
    ),
    "large": (("microbatches", "160"),),
}


@pytest.fixture(scope="module", params=SIZES)
def trace(request: pytest.FixtureRequest) -> Trace:
    return simulate(scenario_of(DEFAULT, SIZES[request.param])).trace


def test_arrays_hold_every_span(trace: Trace) -> None:
    spans = spans_of(trace)
    assert spans.start_s.tolist() == [span.start_s for span in trace.spans]
    assert [spans.names[kind] for kind in spans.kind] == [str(span.name) for span in trace.spans]
    assert [style.label for style in legend(spans_of(trace))][-1] == IDLE.label


def test_few_spans_are_bars_and_many_a_raster(trace: Trace) -> None:
    drawn = schedule(prepared(trace))
    kinds = {entry["type"] for entry in drawn["data"]}
    if len(trace.spans) <= DETAIL_SPANS:
        bars = [entry for entry in drawn["data"] if entry["type"] == "bar" and "text" in entry]
        assert sum(len(entry["x"]) for entry in bars) == len(trace.spans)
        assert "heatmap" not in kinds
    else:
        assert "bar" not in kinds
        (raster,) = (entry for entry in drawn["data"] if entry["type"] == "heatmap")
        assert np.asarray(raster["z"]).shape == (trace.rank_count, CELLS)


def test_a_raster_is_busy_for_as_long_as_ranks_are(trace: Trace) -> None:
    if len(trace.spans) <= DETAIL_SPANS:
        pytest.skip("it is drawn as bars")
    (raster,) = (entry for entry in schedule(prepared(trace))["data"] if entry["type"] == "heatmap")
    codes = np.asarray(raster["z"])
    until_s = max(span.end_s for span in trace.spans)
    for rank in range(trace.rank_count):
        busy_s = sum(span.end_s - span.start_s for span in trace.spans if span.rank == rank)
        cells = np.count_nonzero(codes[rank])
        # Every span may be a cell too long or too short at each end.
        assert cells / CELLS == pytest.approx(busy_s / until_s, abs=0.05)


def test_a_window_shows_what_it_holds(trace: Trace) -> None:
    until_s = max(span.end_s for span in trace.spans)
    window = Window(0.4 * until_s, 0.45 * until_s)
    drawn = schedule(prepared(trace), window=window)
    assert drawn["layout"]["xaxis"]["range"] == [window.start_s, window.end_s]
    count = sum(span.end_s > window.start_s and span.start_s < window.end_s for span in trace.spans)
    assert 0 < count < len(trace.spans)
    assert drawn["layout"]["meta"]["detailed"] == (count <= DETAIL_SPANS)


def test_what_is_held_ends_as_it_starts_and_peaks_as_measured(trace: Trace) -> None:
    from simulator.metrics import peak_bytes

    held = memory_over_time(trace)
    for rank, entry in enumerate(held):
        assert max(entry.held_bytes) == peak_bytes(trace)[rank]
        assert entry.held_bytes[-1] == trace.static_bytes[rank]


def test_causes_add_up_to_the_idle_time(trace: Trace) -> None:
    from simulator.metrics import pipeline_metrics

    metrics = pipeline_metrics(trace)
    for cause, idle_s in zip(idle_by_cause(trace), metrics.idle_s, strict=True):
        assert min(cause) >= -1e-9
        assert sum(cause) == pytest.approx(idle_s, rel=1e-9, abs=1e-9)
    bars = idle_bars(idle_by_cause(trace))["data"]
    assert sum(sum(entry["y"]) for entry in bars) == pytest.approx(sum(metrics.idle_s))


@settings(max_examples=10)
@given(st.floats(0, 1), st.floats(0.0001, 1))
def test_any_window_can_be_drawn(start: float, length: float) -> None:
    trace = simulate(scenario_of(DEFAULT, SIZES["large"])).trace
    until_s = max(span.end_s for span in trace.spans)
    drawn = schedule(prepared(trace), window=Window(start * until_s, (start + length) * until_s))
    assert drawn["data"]
