"""A scenario under an order that somebody wrote: its plan changed to fit, refused where it cannot."""

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.scenario import Scenario, scenario_from_table, scenario_to_table
from simulator.inert_fields import counted
from simulator.publishing import scalar


def under_order(scenario: Scenario, given: GivenOrder) -> Scenario:
    """Return a scenario whose plan has the virtual stages of an order.

    Parameters
    ----------
    scenario : Scenario
        Its schedule and virtual stages give way to those of the order; the rest stays.
    given : GivenOrder
        What ranks do.

    Raises
    ------
    SpecError
        If ranks or microbatches are others than those of the order.
    """
    plan = scenario.plan
    if plan.pipeline_parallel_size != given.rank_count:
        raise SpecError(
            f"plan.pipeline_parallel_size ({plan.pipeline_parallel_size}): the order of "
            f"{given.name} has {counted(given.rank_count, 'rank')}"
        )
    table = scenario_to_table(scenario)
    changes = {"plan.schedule": given.like.value, "plan.virtual_stages": given.chunk_count}
    changed = scenario_from_table(table, changes)
    values = evaluate(compile_columns(changed), ("microbatch_count",))
    microbatches = int(scalar(values["microbatch_count"]))
    if microbatches != given.microbatch_count:
        raise SpecError(
            f"workload.global_batch_size ({scenario.workload.global_batch_size}) makes "
            f"{microbatches} microbatches; the order of {given.name} has {given.microbatch_count}"
        )
    return changed
