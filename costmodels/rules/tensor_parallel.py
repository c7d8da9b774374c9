"""Ranks that split matrices, and sequences between them."""

from costmodels.columns import Axis, Column, total
from costmodels.rules.declaration import rule


@rule(
    "model.num_attention_heads",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
)
def heads_divide(num_attention_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many query heads."""
    return total([heads % tensor_parallel_size for heads in num_attention_heads]) == 0


@rule(
    "model.layouts",
    "key_heads and value_heads of a gated delta rule must be multiples of "
    "plan.tensor_parallel_size ({tensor_parallel_size})",
)
def state_heads_divide(key_heads: Axis, value_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many heads of a gated delta rule."""
    uneven = [heads % tensor_parallel_size for heads in (*key_heads, *value_heads)]
    return total(uneven) == 0


@rule(
    "model.num_key_value_heads",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}), or a "
    "divisor, so that as many ranks have a copy of each; other ranks are not modelled yet",
    modelled=False,
)
def key_value_heads_divide(num_key_value_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every rank has as many key and value heads, or a copy of one."""
    uneven = [
        (heads % tensor_parallel_size) * (tensor_parallel_size % heads)
        for heads in num_key_value_heads
    ]
    return total(uneven) == 0


@rule(
    "model.query_key_norm",
    "one weight over the keys of all heads is not modelled where ranks "
    "(plan.tensor_parallel_size, {tensor_parallel_size}) share key and value heads "
    "({num_key_value_heads})",
    modelled=False,
)
def copied_heads_have_own_norms(
    kind_is_training: Column,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
    query_key_norm_is_full: Column,
) -> Column:
    """Return whether ranks that share key and value heads normalize each head alone, in training."""
    shares = total([heads < tensor_parallel_size for heads in num_key_value_heads])
    return kind_is_training * query_key_norm_is_full * shares == 0


@rule(
    "plan.tensor_parallel_size",
    "must be at most model.num_key_value_heads ({num_key_value_heads}) with "
    "Infini-attention (model.layouts): its memory is one for each key head, and work on copies of "
    "it is not modelled yet",
    modelled=False,
)
def memories_are_split(
    segment_length: Axis,
    compression_rate: Axis,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether no memory of Infini-attention, one for each key head, has copies."""
    copied = [
        (segment > 0) * (rate == 0) * (heads < tensor_parallel_size)
        for segment, rate, heads in zip(
            segment_length, compression_rate, num_key_value_heads, strict=True
        )
    ]
    return total(copied) == 0


@rule(
    "model.intermediate_size",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
)
def ffn_divides(intermediate_size: Axis, is_mixture: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as much of the feed-forward network."""
    # Experts are another rule's.
    widths = zip(intermediate_size, is_mixture, strict=True)
    return total([(mixture == 0) * (w % tensor_parallel_size) for w, mixture in widths]) == 0


@rule(
    "model.mixture.shared_intermediate_size",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
)
def shared_experts_divide(shared_intermediate_size: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as much of the shared experts."""
    return total([width % tensor_parallel_size for width in shared_intermediate_size]) == 0


@rule(
    "model.hidden_size",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) "
    "where further tokens are predicted (model.multi_token_prediction_layers)",
)
def predictions_divide(
    prediction_count: Column, hidden_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return whether tensor-parallel ranks share the projections to further tokens evenly."""
    return (prediction_count == 0) + (hidden_size % tensor_parallel_size == 0) > 0


@rule(
    "plan.sequence_parallel",
    "splits over the tensor-parallel group: plan.tensor_parallel_size "
    "({tensor_parallel_size}) must be at least 2",
)
def sequence_parallel_has_group(sequence_parallel: Column, tensor_parallel_size: Column) -> Column:
    """Return whether sequence parallelism has a tensor-parallel group to split over."""
    return (sequence_parallel == 0) + (tensor_parallel_size > 1) > 0


@rule(
    "workload.sequence_length",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) x "
    "plan.context_parallel_size ({context_parallel_size}) with sequence parallelism",
)
def sequence_divides(
    sequence_parallel: Column,
    sequence_length: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return whether sequence parallelism splits a sequence evenly, or a rank's part of it."""
    ranks = tensor_parallel_size * context_parallel_size
    return (sequence_parallel == 0) + (sequence_length % ranks == 0) > 0
