"""Schedules: what each rank does, against what torch executes."""

from collections.abc import Sequence
from functools import partial

from validation import bubble_rates, schedule_orders
from validation.jobs import Job, Settings, Suite


def _jobs(settings: Settings) -> Sequence[Job]:
    rates = Job(name="bubble rates", run=bubble_rates.rate_cases)
    searched = Job(name="searched orders", run=bubble_rates.searched_cases)
    if settings.quick:
        return [rates, Job(name="orders", run=schedule_orders.order_cases)]
    orders = [
        Job(
            name=f"orders {ranks} ranks",
            run=partial(schedule_orders.order_cases, (ranks,), schedule_orders.ALL_MICROBATCHES),
        )
        for ranks in schedule_orders.ALL_RANKS
    ]
    return [rates, searched, *orders]


SUITE = Suite(
    name="schedules",
    description="Orders of pipeline schedules, action for action, against those that "
    "torch.distributed.pipelining executes, and what it refuses; bubbles, against those that the "
    "zero-bubble authors print for their times.",
    page="pipeline.md",
    jobs=_jobs,
    needs=("torch",),
)
