"""Every schedule's order, played by both engines: published bubbles, and no deadlock."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.pipelining.actions import Order
from costmodels.pipelining.orderings import ORDERINGS
from costmodels.pipelining.schedules import ScheduleName
from simulator.metrics import pipeline_metrics
from simulator.path_metrics import path_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram
from simulator.resources import FREE_LINK
from tests.simulator.pipeline_programs import NO_STEP_END, work


def ideal_program(name: ScheduleName, p: int, v: int, m: int) -> PipelineProgram | None:
    """Return equal stages and free links, F = I = W = 1 and B = 2; None where it does not exist."""
    ordering = ORDERINGS[name]
    sizes: dict[str, Any] = {
        "pipeline_parallel_size": p,
        "virtual_stages": v,
        "microbatch_count": m,
    }
    if not ordering.legal(**sizes):
        return None
    order: Order = ordering.order(**sizes)
    placement = ordering.placement(pipeline_parallel_size=p, virtual_stages=v)
    stages = placement.stage_count
    return PipelineProgram(
        order=order,
        forward=[work(1)] * stages,
        backward=[work(2)] * stages,
        input_gradient=[work(1)] * stages,
        weight_gradient=[work(1)] * stages,
        activation_bytes=[1] * stages,
        static_bytes=[0] * p,
        step_ends=[NO_STEP_END] * p,
        links={(one, two): FREE_LINK for one in range(p) for two in range(p) if one != two},
        successors=placement.following,
        overlapped=[row.overlapped for row in ordering.rows_of(**sizes)],
    )


BUBBLES = {
    # Chunks, idle share with 8 ranks and 32 microbatches, and with 4 and 8; torch 2.13's orders.
    ("gpipe", 1): (0.1795, 0.2727),
    ("1f1b", 1): (0.1795, 0.2727),
    ("interleaved-1f1b", 2): (0.0986, 0.1579),
    ("interleaved-1f1b", 4): (0.0519, 0.0857),
    ("interleaved-zb", 1): (0.0680, 0.1111),
    ("interleaved-zb", 2): (0.0352, 0.0588),
    ("zb-v", 2): (0.0352, 0.0588),
    ("dualpipe-v", 2): (None, 0.1111),
}


@pytest.mark.parametrize(("schedule", "v"), BUBBLES)
def test_the_bubble_is_the_published_one(schedule: str, v: int) -> None:
    for (p, m), expected in zip(((8, 32), (4, 8)), BUBBLES[schedule, v], strict=True):
        if expected is None:
            continue
        program = ideal_program(ScheduleName(schedule), p, v, m)
        assert program is not None
        assert path_metrics(program).idle_fraction == pytest.approx(expected, abs=5e-5)


@settings(max_examples=150)
@given(st.sampled_from(list(ORDERINGS)), st.integers(1, 6), st.integers(1, 4), st.integers(1, 16))
def test_both_engines_play_every_schedule_alike(name: ScheduleName, p: int, v: int, m: int) -> None:
    program = ideal_program(name, p, v, m)
    if program is None:
        return
    simulated, fast = pipeline_metrics(simulate_pipeline(program)), path_metrics(program)
    # Whole seconds: nothing rounds.
    assert (simulated.makespan_s, simulated.idle_s) == (fast.makespan_s, fast.idle_s)
    assert (simulated.peak_bytes, simulated.flop) == (fast.peak_bytes, fast.flop)
    # Work is conserved whatever the schedule: each chunk of each microbatch takes three seconds.
    copies = ORDERINGS[name].copies
    assert sum(fast.busy_s) * copies == 3 * m * program.stage_count
