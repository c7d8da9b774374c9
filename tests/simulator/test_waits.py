"""The closed forms of what a schedule waits for, against the simulator playing the schedule."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from costmodels.analysis import CATALOGUE
from costmodels.pipelining.hops import one_f_one_b_hops_s
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.quantities import parameters_of
from simulator.metrics import pipeline_makespan_s
from simulator.pipeline import simulate_pipeline
from simulator.resources import LinkSpec
from tests.simulator.pipeline_programs import unequal_program, work


def played_s(
    schedule: ScheduleName, v: int, m: int, forward: list[float], backward: list[float], hop: float
) -> float:
    """Return the simulated time of virtual stages of these durations."""
    p = len(forward) // v
    order = SCHEDULES[schedule].order(
        pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m
    )
    program = unequal_program(
        order,
        forward=list(map(work, forward)),
        backward=list(map(work, backward)),
        activation_bytes=[0] * len(forward),
        link=LinkSpec(latency_s=hop, bandwidth_bytes_per_s=math.inf),
    )
    return pipeline_makespan_s(simulate_pipeline(program))


def closed_s(
    schedule: ScheduleName, v: int, m: int, forward: list[float], backward: list[float], hop: float
) -> float:
    """Return the closed form's time: work, bubble, waits for stages, waits for hand-overs."""
    p = len(forward) // v
    stages_f = [forward[rank::p] for rank in range(p)]
    stages_b = [backward[rank::p] for rank in range(p)]
    work = [sum(f) + sum(b) for f, b in zip(stages_f, stages_b, strict=True)]
    mean = sum(work) / p
    inputs: dict[str, Any] = {
        "pipeline_parallel_size": p,
        "virtual_stages": v,
        "microbatch_count": m,
        "class_stage_count": [1] * p,
        "run_stage_count": [1] * p,
        "stage_index": list(range(p)),
        "chunk_forward_s": stages_f,
        "chunk_backward_s": stages_b,
        "stage_microbatch_s": work,
        "mean_stage_s": mean,
        "slowest_stage_s": max(work),
        "mean_chunk_forward_s": sum(forward) / len(forward),
        "mean_chunk_backward_s": sum(backward) / len(backward),
        "hop_s": hop,
        "hop_occupancy_s": 0.0,
    }
    waits = 0.0
    for name in ("ideal_bubble_s", "uneven_s", "pipeline_exposed_s"):
        function = CATALOGUE[name].chosen(schedule.value)
        waits += function(**{entry: inputs[entry] for entry in parameters_of(function)})
    return m * mean + waits


durations = st.floats(0.5, 4.0)
ranks = st.integers(2, 10)
microbatches = st.integers(1, 40)


@given(st.lists(st.tuples(durations, durations), min_size=1, max_size=10), microbatches)
def test_gpipe_is_exact_for_any_stages(stages: list[tuple[float, float]], m: int) -> None:
    forward, backward = map(list, zip(*stages, strict=True))
    args = (ScheduleName.GPIPE, 1, m, forward, backward, 0.25)
    assert closed_s(*args) == pytest.approx(played_s(*args), rel=1e-12)


@given(ranks, microbatches, durations, durations, st.floats(0.0, 4.0))
def test_1f1b_is_exact_for_equal_stages_and_any_hop(
    p: int, m: int, forward: float, backward: float, hop: float
) -> None:
    args = (ScheduleName.ONE_F_ONE_B, 1, m, [forward] * p, [backward] * p, hop)
    assert closed_s(*args) == pytest.approx(played_s(*args), rel=1e-12)


@given(ranks, microbatches, durations, st.floats(1.0, 3.0), st.integers(0, 9))
def test_1f1b_is_exact_for_one_slow_stage_wherever_it_is(
    p: int, m: int, forward: float, slower: float, place: int
) -> None:
    times = [forward] * p
    times[place % p] *= slower
    args = (ScheduleName.ONE_F_ONE_B, 1, m, times, [2 * f for f in times], 0.0)
    assert closed_s(*args) == pytest.approx(played_s(*args), rel=1e-12)


@given(
    st.lists(st.tuples(durations, st.integers(1, 6)), min_size=1, max_size=6),
    microbatches,
    st.floats(0.0, 4.0),
)
def test_1f1b_loops_of_whole_runs_are_the_slowest(
    runs: list[tuple[float, int]], m: int, hop: float
) -> None:
    """Counted by run, or stage by stage: no loop that cuts a run takes longer."""
    stages = [work for work, count in runs for _ in range(count)]
    by_run: list[int] = []
    for _, count in runs:
        by_run += [count] + [0] * (count - 1)
    waits = [
        one_f_one_b_hops_s(hop, 0.0, len(stages), m, counts, stages, max(stages))
        for counts in (by_run, [1] * len(stages))
    ]
    assert waits[0] == pytest.approx(waits[1], rel=1e-9, abs=1e-9)


@given(st.lists(durations, min_size=2, max_size=10), microbatches, st.floats(0.0, 0.5))
def test_1f1b_is_near_for_random_stages(forward: list[float], m: int, hop: float) -> None:
    """Stages that differ eightfold, which no balanced model has: within a quarter."""
    args = (ScheduleName.ONE_F_ONE_B, 1, m, forward, [2 * f for f in forward], hop)
    assert closed_s(*args) == pytest.approx(played_s(*args), rel=0.25)


@given(ranks, st.integers(2, 4), microbatches, durations, st.floats(1.0, 3.0), st.floats(0, 1))
def test_interleaved_is_exact_for_equal_stages_and_hops_within_a_chunk(
    p: int, v: int, m: int, forward: float, ratio: float, share: float
) -> None:
    sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
    schedule = ScheduleName.INTERLEAVED_ONE_F_ONE_B
    assume(SCHEDULES[schedule].legal(**sizes))
    equal = [forward] * (p * v), [ratio * forward] * (p * v)
    args = (schedule, v, m, *equal, share * forward)
    assert closed_s(*args) == pytest.approx(played_s(*args), rel=1e-12)
