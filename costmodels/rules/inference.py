"""What inference is modelled without."""

from costmodels.columns import Column
from costmodels.rules.declaration import rule


@rule(
    "model.parallel_residual",
    "attention and feed-forward network side by side are not modelled in inference "
    "yet; parameters are counted (shardwise show model)",
    modelled=False,
)
def serving_is_in_series(kind_is_training: Column, parallel_residual: Column) -> Column:
    """Return whether the network reads what attention wrote, in inference."""
    return (kind_is_training == 1) + (parallel_residual == 0) > 0


@rule(
    "plan.zero_stage",
    "inference with sharded weights is not modelled; use 0, or workload.kind=training",
    modelled=False,
)
def serving_keeps_weights_whole(kind_is_training: Column, zero_stage: Column) -> Column:
    """Return whether replicas shard nothing in inference."""
    return (kind_is_training == 1) + (zero_stage == 0) > 0


@rule(
    "plan.virtual_stages",
    "inference with several chunks of layers on a rank is not modelled; use 1, or "
    "workload.kind=training",
    modelled=False,
)
def serving_has_one_chunk(kind_is_training: Column, virtual_stages: Column) -> Column:
    """Return whether a rank has one chunk of layers in inference."""
    return (kind_is_training == 1) + (virtual_stages == 1) > 0


@rule(
    "plan.sequence_parallel",
    "inference with sequence parallelism is not modelled; use false, or workload.kind=training",
    modelled=False,
)
def serving_keeps_sequences_whole(kind_is_training: Column, sequence_parallel: Column) -> Column:
    """Return whether activations of inference are not split along the sequence."""
    return (kind_is_training == 1) + (sequence_parallel == 0) > 0


@rule(
    "plan.context_parallel_size",
    "inference with shared sequences is not modelled yet; use 1, or workload.kind=training",
    modelled=False,
)
def serving_keeps_contexts_whole(kind_is_training: Column, context_parallel_size: Column) -> Column:
    """Return whether sequences of inference stay on one rank."""
    return (kind_is_training == 1) + (context_parallel_size == 1) > 0


@rule(
    "plan.expert_parallel_size",
    "inference with experts apart from other matrices is not modelled yet; use 1, "
    "and leave plan.expert_tensor_parallel_size out, or workload.kind=training",
    modelled=False,
)
def serving_keeps_experts_whole(kind_is_training: Column, experts_apart: Column) -> Column:
    """Return whether inference has all experts on every rank."""
    return (kind_is_training == 1) + (experts_apart == 0) > 0


@rule(
    "plan.expert_capacity_factor",
    "inference with a capacity of experts is not modelled yet; leave it out, or "
    "workload.kind=training",
    modelled=False,
)
def serving_drops_no_token(kind_is_training: Column, stated_capacity_factor: Column) -> Column:
    """Return whether experts of inference take all tokens that choose them."""
    return (kind_is_training == 1) + (stated_capacity_factor == 0) > 0


@rule(
    "plan.attention_kernel",
    "inference is modelled with a fused kernel only; use flash, or workload.kind=training",
    modelled=False,
)
def serving_is_fused(kind_is_training: Column, attention_kernel_is_flash: Column) -> Column:
    """Return whether inference computes attention in tiles."""
    return (kind_is_training == 1) + (attention_kernel_is_flash == 1) > 0
