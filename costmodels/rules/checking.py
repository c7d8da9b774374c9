"""Every rule in its order: a scenario refuses what breaks one, a search masks it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.columns import Column
from costmodels.compilation import Columns, compile_fields
from costmodels.errors import NotModelledError, SpecError
from costmodels.leaves import Sections
from costmodels.quantities import parameters_of
from costmodels.rules import (
    context_parallel,
    counts,
    data_parallel,
    experts,
    inference,
    memory,
    model,
    pipeline_parallel,
    recomputation,
    tensor_parallel,
)
from costmodels.rules.context_parallel import check_shared_sequences
from costmodels.rules.data_parallel import check_rank_order
from costmodels.rules.declaration import Rule, rule_of
from costmodels.rules.layouts import check_layouts
from costmodels.rules.memory import check_saved_tensors
from costmodels.rules.model import check_model
from costmodels.rules.pipeline_parallel import check_schedule, schedule_is_legal
from costmodels.rules.precision import check_storage
from costmodels.rules.recomputation import check_modules
from costmodels.rules.sentences import sentence

_IN_ORDER: tuple[Callable[..., Column], ...] = (
    model.groups_divide,
    experts.experts_suffice,
    counts.counts_fit,
    counts.step_counts_fit,
    inference.serving_is_in_series,
    model.norms_are_placed,
    model.predictions_embed_tokens_alone,
    inference.serving_keeps_weights_whole,
    inference.serving_has_one_chunk,
    inference.serving_keeps_sequences_whole,
    inference.serving_keeps_contexts_whole,
    inference.serving_keeps_experts_whole,
    inference.serving_drops_no_token,
    inference.serving_is_fused,
    context_parallel.context_blocks_are_equal,
    data_parallel.ranks_fill_cluster,
    data_parallel.replicas_match,
    tensor_parallel.heads_divide,
    tensor_parallel.state_heads_divide,
    tensor_parallel.key_value_heads_divide,
    tensor_parallel.copied_heads_have_own_norms,
    tensor_parallel.memories_are_split,
    tensor_parallel.ffn_divides,
    recomputation.predictions_are_repeated_alone,
    recomputation.mlp_has_layers,
    recomputation.repeated_experts_have_layers,
    recomputation.experts_are_repeated_once,
    recomputation.repeated_shared_experts_have_layers,
    recomputation.shared_experts_are_repeated_once,
    recomputation.repeated_shared_experts_reduce_alone,
    recomputation.up_projection_has_layers,
    recomputation.up_projection_is_whole,
    recomputation.repeated_norms_are_apart,
    recomputation.repeated_networks_reduce_alone,
    recomputation.repeated_modules_are_trained,
    tensor_parallel.predictions_divide,
    tensor_parallel.shared_experts_divide,
    tensor_parallel.sequence_parallel_has_group,
    pipeline_parallel.handovers_have_parts,
    pipeline_parallel.handovers_are_whole,
    pipeline_parallel.handovers_divide,
    tensor_parallel.sequence_divides,
    context_parallel.context_divides,
    context_parallel.context_heads_divide,
    experts.experts_share_ranks,
    experts.expert_split_has_experts,
    experts.capacity_has_experts,
    experts.expert_width_divides,
    experts.experts_apart_split_tokens,
    data_parallel.sharding_group_shards,
    data_parallel.sharding_group_divides,
    experts.expert_ranks_fit,
    model.positions_suffice,
    data_parallel.batch_divides,
    memory.cast_has_shards,
    memory.cast_is_on_accelerator,
    memory.offload_has_link,
    memory.offloaded_activations_have_link,
    memory.offloaded_activations_come_back_once,
    memory.saved_tensors_have_kernel,
    memory.saved_tensors_have_format,
    memory.saved_tensors_have_dropout,
    data_parallel.ddp_shards_nothing,
    data_parallel.ddp_order_is_known,
    data_parallel.ddp_backwards_are_whole,
    data_parallel.fsdp_units_are_sharded,
    data_parallel.fsdp_units_have_own_sizes,
    pipeline_parallel.stages_have_layers,
)
_OF_SCHEDULE: tuple[Callable[..., Column], ...] = (pipeline_parallel.layers_match,)
"""Rules for which a schedule must exist: how many stages there are is its to say."""

RULES = tuple(map(rule_of, (*_IN_ORDER, *_OF_SCHEDULE)))
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
    _check_lists(sections)
    columns = compile_fields(sections)
    _check_rules(RULES[: len(_IN_ORDER)], sections, columns)
    check_schedule(sections, columns)
    _check_rules(RULES[len(_IN_ORDER) :], sections, columns)


def _check_rules(rules: Sequence[Rule], sections: Sections, columns: Columns) -> None:
    """Raise what the first rule that does not hold says."""
    for rule in rules:
        if not bool(np.all(_holds(rule, columns))):
            error = SpecError if rule.modelled else NotModelledError
            raise error(sentence(rule, sections, columns))


def valid(columns: Columns) -> Column:
    """Return whether each row of some columns obeys every rule, its schedule's included."""
    needed = {name for rule in RULES for name in parameters_of(rule.function)}
    values = evaluate(columns, sorted(needed))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        holds = [
            rule.function(**{name: values[name] for name in parameters_of(rule.function)})
            for rule in RULES
        ]
        holds.append(schedule_is_legal(columns))
    result: Any = np.ones(columns.row_count, dtype=bool)
    for column in holds:
        result = np.logical_and(result, column)
    return result


def _holds(rule: Rule, columns: Columns) -> Column:
    return rule.function(**evaluate(columns, parameters_of(rule.function)))


def _check_lists(sections: Sections) -> None:
    """Raise unless lists, and what no column holds, are right."""
    check_rank_order(sections)
    check_modules(sections)
    check_model(sections.model)
    check_layouts(sections)
    check_shared_sequences(sections)
    check_saved_tensors(sections)
    check_storage(sections)
