"""What ranks hold over a step, and what the notes claim of it."""

from collections.abc import Sequence

import pytest
from hypothesis import given

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.pipelining.schedules import ScheduleName
from simulator.memory_timeline import memory_peaks, memory_timeline
from simulator.metrics import peak_bytes, pipeline_makespan_s, pipeline_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram
from simulator.trace import Trace
from simulator.training import classes_of
from simulator.whatif import simulate
from tests.simulator.pipeline_programs import Size, equal_program, unequal_programs
from tests.simulator.witnesses import FILES, witness


@given(unequal_programs())
def test_a_timeline_ends_where_it_began_and_its_highest_point_is_the_peak(
    program: PipelineProgram,
) -> None:
    trace = simulate_pipeline(program)
    points = list(memory_timeline(trace))
    peaks = memory_peaks(trace)
    for rank in range(trace.rank_count):
        held = [point.held_bytes for point in points if point.rank == rank]
        assert held[-1] == trace.static_bytes[rank]
        assert max(held) == peaks[rank].held_bytes == peak_bytes(trace)[rank]


@given(unequal_programs())
def test_the_parts_of_a_peak_add_up_to_it(program: PipelineProgram) -> None:
    for peak in memory_peaks(simulate_pipeline(program)):
        parts = [*peak.static_bytes.values(), *(chunk.size_bytes for chunk in peak.chunks)]
        assert sum(parts) == peak.held_bytes
        for chunk in peak.chunks:
            stored = program.activation_bytes[chunk.stage]
            assert chunk.size_bytes == stored * len(chunk.microbatches)


@pytest.mark.parametrize("name", FILES)
def test_the_peak_of_a_scenario_is_the_closed_form_part_by_part(name: str) -> None:
    scenario = witness(name)
    trace = simulate(scenario).trace
    peaks = memory_peaks(trace)
    parts = ("weights", "gradients", "optimizer", "buffers", "reserve")
    assert all(set(peak.static_bytes) == set(parts) for peak in peaks)
    microbatches = {span.microbatch for span in trace.spans} - {None}
    classes = classes_of(scenario, len(microbatches))
    closed = evaluate(compile_columns(scenario), ("stage_bytes",))["stage_bytes"]
    assert [peak.held_bytes for peak in peaks] == [int(closed[index][0]) for index in classes]


def most_held(name: ScheduleName, p: int, m: int) -> Sequence[int]:
    return peak_bytes(simulate_pipeline(equal_program(Size(name, p, 1, m).order(), p)))


@pytest.mark.parametrize("m", [1, 4, 8, 32])
def test_gpipe_holds_all_microbatches_and_1f1b_at_most_p(m: int) -> None:
    assert most_held(ScheduleName.GPIPE, 4, m) == (m,) * 4
    assert most_held(ScheduleName.ONE_F_ONE_B, 4, m) == tuple(min(m, 4 - rank) for rank in range(4))


def area(trace: Trace, rank: int) -> float:
    """Return the byte-seconds of activations of a rank."""
    stored = [s for s in trace.spans if s.rank == rank and s.stage is not None]
    held: float = 0
    starts = {s.microbatch: s.start_s for s in stored if s.allocated_bytes}
    for span in stored:
        if span.released_bytes:
            held += span.released_bytes * (span.end_s - starts[span.microbatch])
    return held


def test_pipedreams_order_frees_earlier_for_the_same_bubble() -> None:
    traces = {
        name: simulate_pipeline(equal_program(Size(name, 4, 1, 8).order(), 4))
        for name in (ScheduleName.GPIPE, ScheduleName.ONE_F_ONE_B)
    }
    gpipe, pipedream = traces.values()
    assert pipeline_makespan_s(gpipe) == pipeline_makespan_s(pipedream)
    assert pipeline_metrics(gpipe).idle_s == pipeline_metrics(pipedream).idle_s
    for rank in range(4):
        assert area(pipedream, rank) < area(gpipe, rank)
