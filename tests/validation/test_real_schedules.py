"""Torch's pipelining runtime really plays our orders, and takes about what the simulator says."""

from typing import Any

import pytest

from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from simulator.path_metrics import path_metrics
from validation.real_schedules import (
    QUICK,
    SLEEP_S,
    Ran,
    Sleeps,
    executed_cases,
    measured_program,
)


def test_measured_times_make_the_program_by_hand() -> None:
    """Two ranks, one microbatch: rank 1 waits 1 s for each hand-over, turns take half a second."""
    ran = [
        Ran(0, 0, "0F0", 10.0, 12.0),
        Ran(0, 0, "0B0", 22.0, 25.0),
        Ran(0, 1, "1F0", 13.0, 16.0),
        Ran(0, 1, "1B0", 16.5, 21.0),
    ]
    sizes = {"pipeline_parallel_size": 2, "virtual_stages": 1, "microbatch_count": 1}
    program = measured_program("1f1b", ran, **sizes)
    assert program.links[0, 1].latency_s == 0.5
    # The last turn belongs to nobody: the rest is what was measured.
    assert path_metrics(program).pipeline_makespan_s == 25.0 - 10.0 + 0.5


@pytest.mark.torch
@pytest.mark.slow
def test_the_runtime_plays_our_orders_and_the_simulator_is_near() -> None:
    pytest.importorskip("torch")
    from validation.torch_programs.pipelining_runs import ran_actions

    for name, ranks, chunks in QUICK:
        sizes: dict[str, Any] = {"microbatch_count": 4}
        sleeps = Sleeps(SLEEP_S / 6, SLEEP_S / 6, SLEEP_S / 6)
        ran = ran_actions(name, ranks=ranks, virtual_stages=chunks, sleeps=sleeps, steps=1, **sizes)
        order = ORDERINGS[ScheduleName(name)].order(
            pipeline_parallel_size=ranks, virtual_stages=chunks, **sizes
        )
        for rank, actions in enumerate(order):
            assert [one.action for one in ran if one.rank == rank] == list(map(str, actions))
    cases = list(executed_cases(QUICK[:1]))
    assert [case.name for case in cases] == ["1f1b, 2 ranks", "mean error of the makespan"]
    # The machine may be busy: the suite holds it to a few percent.
    assert cases[0].prediction == pytest.approx(cases[0].measurement, rel=0.25)
