"""Every idle second has one cause; variation makes some of them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.schedules import ScheduleName
from simulator.frames import memory_frame, ranks_frame, sends_frame, spans_frame
from simulator.idle import IdleCauses, idle_causes
from simulator.metrics import link_utilisation, pipeline_metrics
from simulator.path_metrics import path_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram
from simulator.resources import LinkSpec
from simulator.variation import Variation, varied
from tests.simulator.pipeline_programs import (
    Size,
    equal_program,
    order_from_text,
    unequal_program,
    unequal_programs,
    work,
)


def causes(program: PipelineProgram) -> tuple[IdleCauses, ...]:
    return idle_causes(program, simulate_pipeline(program))


@given(unequal_programs(), st.floats(0, 0.5), st.integers(0, 9))
def test_causes_add_up_to_the_idle_time(program: PipelineProgram, jitter: float, seed: int) -> None:
    changed = varied(program, Variation(jitter_fraction=jitter, seed=seed))
    metrics = pipeline_metrics(simulate_pipeline(changed))
    for idle_s, found in zip(metrics.idle_s, causes(changed), strict=True):
        assert found.total_s() == pytest.approx(idle_s, rel=1e-9, abs=1e-9)
        assert min(found.warm_up_s, found.drain_s, found.dependency_s, found.link_s) >= -1e-9
        assert found.straggler_s >= 0


def test_causes_by_hand() -> None:
    """Two ranks, forward 1 s, backward 2 s, a hop of 3 bytes at 1 byte/s and 1 s of latency."""
    order = order_from_text("0F0 0B0", "1F0 1B0")
    program = unequal_program(
        order,
        forward=[work(1, 3)] * 2,
        backward=[work(2, 3)] * 2,
        activation_bytes=[1, 1],
        link=LinkSpec(latency_s=1, bandwidth_bytes_per_s=1),
    )
    # Rank 0 waits from 1: its gradient is made at 8 and there at 12.
    assert causes(program) == (
        IdleCauses(warm_up_s=0, drain_s=0, dependency_s=7, link_s=4, straggler_s=0),
        IdleCauses(warm_up_s=5, drain_s=6, dependency_s=0, link_s=0, straggler_s=0),
    )
    slow = varied(program, Variation(stragglers={1: 2}))
    # Twice as slow, rank 1 makes the gradient at 11, of which 2 s are its backward's excess.
    assert causes(slow)[0] == IdleCauses(
        warm_up_s=0, drain_s=0, dependency_s=8, link_s=4, straggler_s=2
    )
    trace = simulate_pipeline(program)
    assert link_utilisation(trace, program.links) == {(0, 1): 3 / 14, (1, 0): 3 / 14}


def test_the_two_bubbles_have_names() -> None:
    metrics = path_metrics(equal_program(Size(ScheduleName.GPIPE, 4, 1, 8).order(), 4))
    assert metrics.idle_fraction == pytest.approx(3 / 11)
    assert metrics.idle_to_busy_fraction == pytest.approx(3 / 8)


@given(unequal_programs(), st.integers(0, 3))
def test_a_seed_gives_one_variation(program: PipelineProgram, seed: int) -> None:
    variation = Variation(jitter_fraction=0.2, seed=seed)
    assert varied(program, variation) == varied(program, variation)
    assert varied(program, Variation(seed=seed)) is program


def test_jitter_keeps_the_mean_and_has_its_deviation() -> None:
    program = equal_program(Size(ScheduleName.GPIPE, 1, 1, 4000).order(), 1)
    durations = varied(program, Variation(jitter_fraction=0.1)).durations_s
    for kind, mean_s in ((program.kinds()[0], 1), (program.kinds()[1], 2)):
        (drawn,) = durations[kind]
        mean = sum(drawn) / len(drawn)
        deviation = (sum((d - mean) ** 2 for d in drawn) / len(drawn)) ** 0.5
        assert mean == pytest.approx(mean_s, rel=0.01)
        assert deviation / mean == pytest.approx(0.1, rel=0.05)


def test_long_sequences_take_longer_and_store_more() -> None:
    program = equal_program(Size(ScheduleName.ONE_F_ONE_B, 2, 1, 2).order(), 2)
    program = replace(program, activation_bytes=[10, 10])
    long = varied(program, Variation(microbatch_scales=(0.5, 1.5)))
    assert sum(path_metrics(long).busy_s) == sum(path_metrics(program).busy_s)
    assert path_metrics(long).peak_bytes == (20, 15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jitter_fraction": 2}, r"jitter \(2\) must be from 0 to 1"),
        ({"stragglers": {0: 0}}, r"straggler of rank 0 \(0\) must be a positive factor"),
        ({"stragglers": {7: 2}}, "straggler 7 is none of the 2 ranks"),
        ({"microbatch_scales": (1,)}, "--microbatch-sizes has 1 entry for 2 microbatches"),
        ({"microbatch_scales": (-1, 1)}, "must be positive"),
    ],
)
def test_wrong_variations_are_refused(changes: dict[str, Any], message: str) -> None:
    program = equal_program(Size(ScheduleName.GPIPE, 2, 1, 2).order(), 2)
    with pytest.raises(SpecError, match=message):
        varied(program, Variation(**changes))


def test_frames_have_a_row_for_each_record() -> None:
    pytest.importorskip("pandas")
    program = equal_program(Size(ScheduleName.ONE_F_ONE_B, 2, 1, 3).order(), 2)
    trace = simulate_pipeline(program)
    spans, sends = spans_frame(trace), sends_frame(trace)
    assert len(spans) == len(trace.spans)
    assert list(spans["end_s"]) == [span.end_s for span in trace.spans]
    assert len(sends) == len(trace.sends)
    ranks = ranks_frame(program, trace)
    assert list(ranks["idle_s"]) == list(pipeline_metrics(trace).idle_s)
    assert memory_frame(trace)["held_bytes"].max() == 2
