"""Step times of small transformers, on this machine, predicted from its operators."""

from collections.abc import Sequence
from functools import partial

from validation.jobs import Job, Settings, Suite
from validation.step_times import RUNS, step_time_cases


def _jobs(settings: Settings) -> Sequence[Job]:
    """Return nothing for a quick run, which may share the machine with others."""
    if settings.quick:
        return []
    return [
        Job(
            name=f"{axis} parallel" if axis != "one" else "one process",
            run=partial(
                step_time_cases,
                axis,
                seed=settings.seed,
                device=settings.device,
            ),
        )
        for axis in RUNS
    ]


SUITE = Suite(
    name="machine",
    description="Step times of small transformers drawn by a seed, on this machine, predicted "
    "from its operators, calibrated first.",
    page="time.md",
    jobs=_jobs,
    needs=("torch",),
)
