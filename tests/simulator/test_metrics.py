"""Quantities of a trace, from traces made by hand."""

from simulator.metrics import PipelineMetrics, peak_bytes, pipeline_metrics
from simulator.trace import DATA_AXIS, PIPELINE_AXIS, Engine, Send, Span, Trace


def span(
    rank: int,
    name: str,
    microbatch: int,
    start_s: float,
    end_s: float,
    *,
    flop: int = 0,
    allocated_bytes: int = 0,
    released_bytes: int = 0,
) -> Span:
    return Span(
        rank=rank,
        engine=Engine.COMPUTE,
        name=name,
        stage=rank,
        microbatch=microbatch,
        start_s=start_s,
        end_s=end_s,
        flop=flop,
        allocated_bytes=allocated_bytes,
        released_bytes=released_bytes,
        received_send=None,
    )


def test_by_hand() -> None:
    """Two ranks, one microbatch; the pipeline runs from 0 to 10 and a reduction until 13."""
    trace = Trace(
        static_bytes=(100, 200),
        spans=[
            span(0, "F", 0, 0, 2, flop=20, allocated_bytes=7),
            span(1, "F", 0, 3, 4, flop=10, allocated_bytes=9),
            span(1, "B", 0, 4, 6, flop=30, released_bytes=9),
            span(0, "B", 0, 7, 10, flop=40, released_bytes=7),
            span(1, "F", 0, 6, 13)._replace(stage=None, microbatch=None, name="reduction"),
        ],
        sends=[
            Send(PIPELINE_AXIS, 0, 1, 50, 2, 3, 0),
            Send(PIPELINE_AXIS, 1, 0, 60, 6, 7, 2),
            Send(DATA_AXIS, 1, None, 5, 6, 13, 4),
        ],
    )
    assert pipeline_metrics(trace) == PipelineMetrics(
        makespan_s=13,
        pipeline_makespan_s=10,
        busy_s=(5, 3),
        idle_s=(5, 7),
        idle_fraction=12 / 20,
        idle_to_busy_fraction=12 / 8,
        sent_bytes={PIPELINE_AXIS: 110, DATA_AXIS: 5},
        flop=(60, 40),
        peak_bytes=(107, 209),
    )


def test_the_phase_starts_with_its_first_action() -> None:
    trace = Trace(static_bytes=(0,), spans=[span(0, "F", 0, 5, 6), span(0, "B", 0, 8, 9)])
    metrics = pipeline_metrics(trace)
    assert (metrics.makespan_s, metrics.pipeline_makespan_s, metrics.idle_s) == (9, 4, (2,))


def test_what_is_released_is_free_for_the_next_action_at_the_same_time() -> None:
    trace = Trace(
        static_bytes=(0,),
        spans=[
            span(0, "F", 0, 0, 1, allocated_bytes=8),
            span(0, "B", 0, 1, 2, released_bytes=8),
            span(0, "F", 1, 2, 3, allocated_bytes=8),
            span(0, "B", 1, 3, 4, released_bytes=8),
        ],
    )
    assert peak_bytes(trace) == (8,)


def test_nothing_took_no_time() -> None:
    metrics = pipeline_metrics(Trace(static_bytes=(3,)))
    assert (metrics.makespan_s, metrics.idle_fraction, metrics.peak_bytes) == (0, 0, (3,))


def test_idle_time_does_not_round_below_zero() -> None:
    assert (1.1 - 0.1) - ((0.2 - 0.1) + (1.1 - 0.2)) < 0
    spans = [span(0, "F", 0, 0.1, 0.2), span(0, "B", 0, 0.2, 1.1)]
    found = pipeline_metrics(Trace(static_bytes=(0,), spans=spans))
    assert found.idle_s == (0.0,)
    assert found.idle_fraction == 0
