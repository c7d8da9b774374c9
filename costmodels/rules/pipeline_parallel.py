"""Stages of a pipeline: their layers, what they hand over, and their schedule."""

from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.columns import Column
from costmodels.compilation import Columns
from costmodels.errors import NotModelledError, SpecError
from costmodels.leaves import Sections
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.rules.declaration import rule
from costmodels.rules.sentences import shown


@rule(
    "plan.layers_per_stage",
    "must have plan.pipeline_parallel_size ({pipeline_parallel_size}) x "
    "plan.virtual_stages ({virtual_stages}) members that sum to model.num_hidden_layers "
    "({num_hidden_layers}); half as many where plan.schedule has two copies of the layers",
)
def layers_match(
    stated_stage_count: Column,
    stated_layer_count: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    schedule_copies: Column,
    num_hidden_layers: Column,
) -> Column:
    """Return whether stated layers are those of the model, one number for each virtual stage."""
    stages = pipeline_parallel_size * virtual_stages // schedule_copies
    fit = (stated_stage_count == stages) * (stated_layer_count == num_hidden_layers)
    return (stated_stage_count == 0) + fit > 0


@rule(
    "plan.pipeline_parallel_size",
    "times plan.virtual_stages ({virtual_stages}) must be at most "
    "model.num_hidden_layers ({num_hidden_layers}) + 2, the ends counting as one layer each; "
    "half of it where plan.schedule has two copies of the layers",
)
def stages_have_layers(
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    schedule_copies: Column,
    num_hidden_layers: Column,
) -> Column:
    """Return whether every virtual stage gets a layer, the ends counting as one each."""
    stages = pipeline_parallel_size * virtual_stages // schedule_copies
    return (stages == 1) + (stages <= num_hidden_layers + 2) > 0


@rule(
    "plan.scatter_gather_handovers",
    "needs stages that hand over to each other, and ranks that take a part each: "
    "plan.pipeline_parallel_size ({pipeline_parallel_size}) and plan.tensor_parallel_size "
    "({tensor_parallel_size}) must be at least 2",
)
def handovers_have_parts(
    scatter_gather_handovers: Column, tensor_parallel_size: Column, pipeline_parallel_size: Column
) -> Column:
    """Return whether there are hand-overs, and ranks that could each take a part of one."""
    both = (tensor_parallel_size > 1) * (pipeline_parallel_size > 1)
    return (scatter_gather_handovers == 0) + both > 0


@rule(
    "plan.scatter_gather_handovers",
    "changes nothing with plan.sequence_parallel=true: each tensor-parallel rank "
    "holds, and hands over, its part of the sequence already; leave one of them out",
)
def handovers_are_whole(scatter_gather_handovers: Column, sequence_parallel: Column) -> Column:
    """Return whether ranks that are to hand over parts hold more than a part."""
    return scatter_gather_handovers * sequence_parallel == 0


@rule(
    "plan.scatter_gather_handovers",
    "cuts an activation into equal parts: tokens of a microbatch "
    "({microbatch_tokens}) x model.hidden_size ({hidden_size}) must be a multiple of "
    "plan.tensor_parallel_size ({tensor_parallel_size})",
)
def handovers_divide(
    scatter_gather_handovers: Column,
    microbatch_tokens: Column,
    hidden_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether parts of a hand-over are equal."""
    even = microbatch_tokens * hidden_size % tensor_parallel_size == 0
    return (scatter_gather_handovers == 0) + even > 0


def schedule_is_legal(columns: Columns) -> Column:
    """Return whether a schedule exists for the stages and microbatches of each row."""
    names = ("pipeline_parallel_size", "virtual_stages", "microbatch_count")
    return SCHEDULES[_schedule_name(columns)].legal(**evaluate(columns, names))


def _schedule_name(columns: Columns) -> Any:
    return next(name for name in SCHEDULES if name == columns.schedule)


def check_schedule(sections: Sections, columns: Columns) -> None:
    """Raise unless a plan's schedule is modelled, and exists for its stages and microbatches.

    Raises
    ------
    SpecError
        Naming the schedule and what it requires.
    NotModelledError
        If only its order is known.
    """
    if sections.plan.schedule not in SCHEDULES:
        raise NotModelledError(
            f"plan.schedule ({sections.plan.schedule.value}): memory and time of it are not "
            f"modelled yet, only its order; modelled: {', '.join(SCHEDULES)}"
        )
    if not bool(np.all(schedule_is_legal(columns))):
        plan = sections.plan
        microbatches = shown("microbatch_count", columns)
        raise SpecError(
            f"plan.schedule ({plan.schedule.value}): {SCHEDULES[plan.schedule].requirement}; here "
            f"plan.pipeline_parallel_size is {plan.pipeline_parallel_size}, plan.virtual_stages "
            f"{plan.virtual_stages}, microbatches {microbatches}"
        )
