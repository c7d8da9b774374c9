"""Experts: how many a token visits, and the ranks that share or split them."""

from costmodels.columns import Axis, Column, largest, total, where
from costmodels.rules.declaration import rule


@rule(
    "model.mixture.experts_per_token",
    "must be at most model.mixture.expert_count ({expert_count})",
)
def experts_suffice(experts_per_token: Axis, expert_count: Axis) -> Column:
    """Return whether a token can visit as many experts as it should."""
    return largest([k - n for k, n in zip(experts_per_token, expert_count, strict=True)]) <= 0


@rule(
    "plan.expert_parallel_size",
    "must divide model.mixture.expert_count ({expert_count}); 1 without experts",
)
def experts_share_ranks(
    expert_count: Axis, is_mixture: Axis, expert_parallel_size: Column
) -> Column:
    """Return whether there are experts for the ranks that share them, and as many on each."""
    pairs = zip(expert_count, is_mixture, strict=True)
    uneven = total([mixture * (experts % expert_parallel_size) for experts, mixture in pairs])
    return (expert_parallel_size == 1) + (largest(is_mixture) > 0) * (uneven == 0) > 0


@rule(
    "plan.expert_tensor_parallel_size",
    "splits experts: the model needs a mixture; leave it out",
)
def expert_split_has_experts(
    stated_expert_tensor_parallel_size: Column, is_mixture: Axis
) -> Column:
    """Return whether there are experts to split where a number of ranks is stated."""
    return (stated_expert_tensor_parallel_size == 0) + (largest(is_mixture) > 0) > 0


@rule(
    "plan.expert_capacity_factor",
    "bounds the tokens of experts: the model needs a mixture; leave it out",
)
def capacity_has_experts(stated_capacity_factor: Column, is_mixture: Axis) -> Column:
    """Return whether there are experts where a capacity is stated."""
    return (stated_capacity_factor == 0) + (largest(is_mixture) > 0) > 0


@rule(
    "plan.expert_tensor_parallel_size",
    "must divide model.mixture.expert_intermediate_size "
    "({expert_intermediate_size}, zero for model.intermediate_size, {intermediate_size}); left out, it is "
    "plan.tensor_parallel_size ({expert_tensor_size})",
)
def expert_width_divides(
    expert_intermediate_size: Axis,
    intermediate_size: Axis,
    is_mixture: Axis,
    expert_tensor_size: Column,
) -> Column:
    """Return whether every rank that splits an expert has as much of it."""
    widths = zip(expert_intermediate_size, intermediate_size, is_mixture, strict=True)
    left = [
        mixture * (where(own > 0, own, width) % expert_tensor_size)
        for own, width, mixture in widths
    ]
    return total(left) == 0


@rule(
    "plan.expert_parallel_size",
    "sends tokens from parts of a sequence: with plan.tensor_parallel_size "
    "({tensor_parallel_size}) above 1 it needs plan.sequence_parallel=true, as another "
    "plan.expert_tensor_parallel_size does",
)
def experts_apart_split_tokens(
    experts_apart: Column, tensor_parallel_size: Column, sequence_parallel: Column
) -> Column:
    """Return whether tensor-parallel ranks hold different tokens where experts are apart."""
    return (experts_apart == 0) + (tensor_parallel_size == 1) + (sequence_parallel == 1) > 0


@rule(
    "plan.expert_parallel_size",
    "times plan.expert_tensor_parallel_size ({expert_tensor_size}) must divide "
    "plan.tensor_parallel_size ({tensor_parallel_size}) x the {sharding_size} ranks over which "
    "states are sharded",
)
def expert_ranks_fit(
    experts_apart: Column,
    sharding_size: Column,
    tensor_parallel_size: Column,
    expert_tensor_size: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return whether ranks that split and share experts divide those of a sharding group."""
    ranks = sharding_size * tensor_parallel_size
    return (experts_apart == 0) + (ranks % (expert_tensor_size * expert_parallel_size) == 0) > 0
