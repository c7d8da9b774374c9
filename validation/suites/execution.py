"""Execution: schedules as torch's runtime plays them on this machine, against the simulator."""

from collections.abc import Sequence
from functools import partial

from validation import real_schedules
from validation.jobs import Job, Settings, Suite


def _jobs(settings: Settings) -> Sequence[Job]:
    """Return nothing for a quick run, which may share the machine with others."""
    if settings.quick:
        return []
    products = partial(real_schedules.executed_cases, real_schedules.COMPUTED, sleep=False)
    return [
        Job(name="makespan", run=partial(real_schedules.executed_cases, real_schedules.FULL)),
        Job(name="products", run=products),
    ]


SUITE = Suite(
    name="execution",
    description="Makespan of every schedule of torch.distributed.pipelining on 2 and 4 processes "
    "whose stages sleep, and on 2 that compute, against the simulator fed with the times of actions and hand-overs.",
    page="simulator.md",
    jobs=_jobs,
    needs=("torch",),
)
