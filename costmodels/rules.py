"""What makes a plan valid: boolean column functions beside their sentences.

A scenario refuses what breaks a rule; a search masks it. Sizes that divide nothing evenly are
refused rather than rounded.
"""

from typing import Any

import numpy as np

from costmodels.analysis import axes_of, evaluate
from costmodels.columns import Axis, Column, largest, total
from costmodels.compilation import Columns, compile_columns
from costmodels.errors import NotModelledError, SpecError
from costmodels.leaves import Sections, leaves
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.quantities import Rule, parameters_of
from costmodels.specs.plan import RankAxis

LARGEST_COUNT = 2.0**62
"""Bound of every count for one GPU and microbatch, which are 64-bit integers."""


def ranks_fill_cluster(
    accelerator_count: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return whether replicas of a plan fill the accelerators."""
    ranks = tensor_parallel_size * pipeline_parallel_size * context_parallel_size
    return accelerator_count % ranks == 0


def heads_divide(num_attention_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many query heads."""
    return total([heads % tensor_parallel_size for heads in num_attention_heads]) == 0


def key_value_heads_divide(num_key_value_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many key and value heads."""
    return total([heads % tensor_parallel_size for heads in num_key_value_heads]) == 0


def ffn_divides(intermediate_size: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as much of the feed-forward network."""
    return total([width % tensor_parallel_size for width in intermediate_size]) == 0


def sequence_parallel_has_group(sequence_parallel: Column, tensor_parallel_size: Column) -> Column:
    """Return whether sequence parallelism has a tensor-parallel group to split over."""
    return (sequence_parallel == 0) + (tensor_parallel_size > 1) > 0


def sequence_divides(
    sequence_parallel: Column, sequence_length: Column, tensor_parallel_size: Column
) -> Column:
    """Return whether sequence parallelism splits a sequence evenly."""
    return (sequence_parallel == 0) + (sequence_length % tensor_parallel_size == 0) > 0


def batch_divides(
    global_batch_size: Column, micro_batch_size: Column, data_parallel_size: Column
) -> Column:
    """Return whether replicas get whole microbatches, at least one."""
    return global_batch_size % (micro_batch_size * np.maximum(data_parallel_size, 1)) == 0


def stages_have_layers(
    pipeline_parallel_size: Column, virtual_stages: Column, num_hidden_layers: Column
) -> Column:
    """Return whether every virtual stage gets a layer, the ends counting as one each."""
    stages = pipeline_parallel_size * virtual_stages
    return (stages == 1) + (stages <= num_hidden_layers + 2) > 0


def positions_suffice(
    positions_is_learned: Column, sequence_length: Column, max_position_embeddings: Column
) -> Column:
    """Return whether a table of learned positions is long enough."""
    return (positions_is_learned == 0) + (sequence_length <= max_position_embeddings) > 0


def experts_suffice(experts_per_token: Axis, expert_count: Axis) -> Column:
    """Return whether a token can visit as many experts as it should."""
    return largest([k - n for k, n in zip(experts_per_token, expert_count, strict=True)]) <= 0


def groups_divide(num_attention_heads: Axis, num_key_value_heads: Axis) -> Column:
    """Return whether query heads share key and value heads evenly."""
    pairs = zip(num_attention_heads, num_key_value_heads, strict=True)
    return total([heads % shared for heads, shared in pairs]) == 0


def context_parallel_off(context_parallel_size: Column) -> Column:
    """Return whether sequences stay on one rank."""
    return context_parallel_size == 1


def expert_parallel_off(expert_parallel_size: Column) -> Column:
    """Return whether every rank holds all experts."""
    return expert_parallel_size == 1


def is_training(kind_is_training: Column) -> Column:
    """Return whether the workload is training."""
    return kind_is_training == 1


def counts_fit(
    micro_batch_size: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    num_attention_heads: Axis,
    head_size: Axis,
    intermediate_size: Axis,
    expert_count: Axis,
    position_parameters: Column,
) -> Column:
    """Return whether every count for one GPU and microbatch stays below 2^62.

    Notes
    -----
    The largest counts are the FLOP of a backward that recomputes, at most eight times the
    forward's multiply-adds, and the bytes of all parameters' state.
    """
    tokens = 1.0 * micro_batch_size * sequence_length
    heads = largest([1.0 * a * d for a, d in zip(num_attention_heads, head_size, strict=True)])
    inner = largest([1.0 * f * e for f, e in zip(intermediate_size, expert_count, strict=True)])
    weights = num_hidden_layers * hidden_size * (4.0 * heads + 3.0 * inner)
    weights = weights + 2.0 * vocabulary_size * hidden_size + 1.0 * position_parameters
    scores = 4.0 * num_hidden_layers * sequence_length * np.maximum(heads, 16.0)
    return 16.0 * (tokens + 2.0) * (weights + scores) < LARGEST_COUNT


def step_counts_fit(
    global_batch_size: Column,
    microbatch_count: Column,
    micro_batch_size: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    num_attention_heads: Axis,
    head_size: Axis,
    intermediate_size: Axis,
    expert_count: Axis,
) -> Column:
    """Return whether tokens of a step, and activations of all its microbatches, stay below 2^62.

    Notes
    -----
    GPipe keeps the activations of every microbatch. A token keeps at most 100 bytes for each
    element of a layer's activation, scores of a naive kernel included, and its logits.
    """
    heads = largest([1.0 * a * d for a, d in zip(num_attention_heads, head_size, strict=True)])
    inner = largest([1.0 * f * e for f, e in zip(intermediate_size, expert_count, strict=True)])
    elements = hidden_size * largest([1.0 * e for e in expert_count]) + heads + inner
    elements = elements + 1.0 * sequence_length * largest(num_attention_heads)
    token_bytes = 100.0 * (num_hidden_layers * elements + vocabulary_size)
    kept = 1.0 * microbatch_count * micro_batch_size * sequence_length * token_bytes
    return np.maximum(kept, 1.0 * global_batch_size * sequence_length) < LARGEST_COUNT


_TENSOR = "plan.tensor_parallel_size"

RULES = (
    Rule(
        field="model.num_attention_heads",
        function=groups_divide,
        requirement="must be a multiple of model.num_key_value_heads ({num_key_value_heads})",
    ),
    Rule(
        field="model.mixture.experts_per_token",
        function=experts_suffice,
        requirement="must be at most model.mixture.expert_count ({expert_count})",
    ),
    Rule(
        field="workload.sequence_length",
        function=counts_fit,
        requirement="counts for one GPU and microbatch must stay below 2^62: shorten the "
        "sequence, or lower plan.micro_batch_size ({micro_batch_size}) or the model's sizes",
    ),
    Rule(
        field="workload.global_batch_size",
        function=step_counts_fit,
        requirement="tokens of a step, and bytes of the activations of all its microbatches, must "
        "stay below 2^62: lower the batch or workload.sequence_length ({sequence_length})",
    ),
    Rule(
        field="workload.kind",
        function=is_training,
        requirement="is not modelled yet; use training",
        modelled=False,
    ),
    Rule(
        field="plan.context_parallel_size",
        function=context_parallel_off,
        requirement="context parallelism is not modelled yet; use 1",
        modelled=False,
    ),
    Rule(
        field="plan.expert_parallel_size",
        function=expert_parallel_off,
        requirement="expert parallelism is not modelled yet; use 1",
        modelled=False,
    ),
    Rule(
        field="cluster.accelerator_count",
        function=ranks_fill_cluster,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) x "
        "plan.pipeline_parallel_size ({pipeline_parallel_size}) x plan.context_parallel_size "
        "({context_parallel_size})",
    ),
    Rule(
        field="model.num_attention_heads",
        function=heads_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="model.num_key_value_heads",
        function=key_value_heads_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="model.intermediate_size",
        function=ffn_divides,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="plan.sequence_parallel",
        function=sequence_parallel_has_group,
        requirement="splits over the tensor-parallel group: plan.tensor_parallel_size "
        "({tensor_parallel_size}) must be at least 2",
    ),
    Rule(
        field="workload.sequence_length",
        function=sequence_divides,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) "
        "with sequence parallelism",
    ),
    Rule(
        field="workload.sequence_length",
        function=positions_suffice,
        requirement="must be at most model.max_position_embeddings ({max_position_embeddings}) "
        "with learned positions",
    ),
    Rule(
        field="workload.global_batch_size",
        function=batch_divides,
        requirement="must be a multiple of plan.micro_batch_size ({micro_batch_size}) x the "
        "{data_parallel_size} replicas that cluster.accelerator_count and the other parallel "
        "sizes leave",
    ),
    Rule(
        field="plan.pipeline_parallel_size",
        function=stages_have_layers,
        requirement="times plan.virtual_stages ({virtual_stages}) must be at most "
        "model.num_hidden_layers ({num_hidden_layers}) + 2, the ends counting as one layer each",
    ),
)
"""Every rule, in the order in which a scenario is checked; rules that depend on a schedule apart."""


def check(sections: Sections) -> None:
    """Raise unless the descriptions go together.

    Raises
    ------
    SpecError
        Naming the field, its value and what would be valid.
    NotModelledError
        If they are legal but have no model yet.
    """
    _check_layers(sections)
    _check_rank_order(sections)
    columns = compile_columns(sections)
    for rule in RULES:
        if not bool(np.all(_holds(rule, columns))):
            error = SpecError if rule.modelled else NotModelledError
            raise error(_sentence(rule, columns))
    _check_replicas(sections, columns)
    _check_schedule(sections, columns)


def valid(columns: Columns) -> Column:
    """Return whether each row of some columns obeys every rule, its schedule's included."""
    needed = {name for rule in RULES for name in parameters_of(rule.function)}
    values = evaluate(columns, sorted(needed))
    holds = [
        rule.function(**{name: values[name] for name in parameters_of(rule.function)})
        for rule in RULES
    ]
    holds.append(_schedule_is_legal(columns))
    result: Any = True
    for column in holds:
        result = np.logical_and(result, column)
    return result


def _holds(rule: Rule, columns: Columns) -> Column:
    return rule.function(**evaluate(columns, parameters_of(rule.function)))


def _schedule_is_legal(columns: Columns) -> Column:
    names = ("pipeline_parallel_size", "virtual_stages", "microbatch_count")
    return SCHEDULES[_schedule_name(columns)].legal(**evaluate(columns, names))


def _schedule_name(columns: Columns) -> Any:
    return next(name for name in SCHEDULES if name == columns.schedule)


def _shown(name: str, columns: Columns) -> str:
    value = evaluate(columns, (name,))[name]
    while axes_of(name) and isinstance(value, tuple):
        value = value[0]
    return str(np.asarray(value).reshape(-1)[0])


def _sentence(rule: Rule, columns: Columns) -> str:
    inputs = {name: _shown(name, columns) for name in parameters_of(rule.function)}
    value = f" ({_stated(rule.field, columns)})"
    return f"{rule.field}{value}: {rule.requirement.format(**inputs)}"


def _stated(field: str, columns: Columns) -> str:
    """Return the value of a field, as the columns hold it: a choice by its chosen member."""
    named = [name for name, leaf in leaves().items() if leaf.path == field]
    if len(named) == 1:
        return _shown(named[0], columns)
    chosen = next(name for name in named if _shown(name, columns) == "1")
    return chosen.split("_is_")[1].replace("_", "-")


def _check_layers(sections: Sections) -> None:
    plan, model = sections.plan, sections.model
    if plan.layers_per_stage is None:
        return
    stages = plan.pipeline_parallel_size * plan.virtual_stages
    if (
        len(plan.layers_per_stage) != stages
        or sum(plan.layers_per_stage) != model.num_hidden_layers
    ):
        raise SpecError(
            f"plan.layers_per_stage ({list(plan.layers_per_stage)}): must have "
            f"plan.pipeline_parallel_size x plan.virtual_stages = {stages} members that sum to "
            f"model.num_hidden_layers ({model.num_hidden_layers})"
        )


def _check_rank_order(sections: Sections) -> None:
    order = sections.plan.rank_order
    if sorted(order) != sorted(RankAxis):
        raise SpecError(
            f"plan.rank_order ({[axis.value for axis in order]}): must name each of tensor, "
            "context, data and pipeline once"
        )
    if len(sections.model.layouts) > sections.model.num_hidden_layers:
        raise SpecError(
            f"model.layouts ({len(sections.model.layouts)} members): must be at most "
            f"model.num_hidden_layers ({sections.model.num_hidden_layers})"
        )


def _check_replicas(sections: Sections, columns: Columns) -> None:
    plan = sections.plan
    stated = plan.data_parallel_size
    derived = int(evaluate(columns, ("data_parallel_size",))["data_parallel_size"][0])
    if stated is not None and stated != derived:
        raise SpecError(
            f"plan.data_parallel_size ({stated}): must be {derived} = cluster.accelerator_count "
            f"({sections.cluster.accelerator_count}) / (plan.tensor_parallel_size "
            f"({plan.tensor_parallel_size}) x plan.pipeline_parallel_size "
            f"({plan.pipeline_parallel_size}) x plan.context_parallel_size "
            f"({plan.context_parallel_size})); leave it out to derive it"
        )


def _check_schedule(sections: Sections, columns: Columns) -> None:
    if not bool(np.all(_schedule_is_legal(columns))):
        plan = sections.plan
        microbatches = _shown("microbatch_count", columns)
        raise SpecError(
            f"plan.schedule ({plan.schedule.value}): {SCHEDULES[plan.schedule].requirement}; here "
            f"plan.pipeline_parallel_size is {plan.pipeline_parallel_size}, plan.virtual_stages "
            f"{plan.virtual_stages}, microbatches {microbatches}"
        )
