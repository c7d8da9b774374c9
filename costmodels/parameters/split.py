"""Parameters of one GPU: what tensor-parallel ranks split, copy and share, and experts apart."""

from types import MappingProxyType

from costmodels.columns import Axis, Column, ceil_div, largest, minimum, where
from costmodels.quantities import (
    ALGORITHM,
    KIND,
    OF_SOFTMAX_HEADS,
    Basis,
    Quantity,
    Scope,
    quantity,
)

_MEGATRON = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_MEGATRON_MOE = (
    "Liu et al. 2025, arXiv:2504.14960, section 3 (folded parallelism of experts); Megatron-LM, "
    "parallel_state: tensor-parallel size of experts, by default that of all matrices"
)
_COPIES = (
    "Ainslie et al. 2023, arXiv:2305.13245, section 2.2; with fewer heads than ranks each rank has"
    " a copy of one: vLLM, vllm/model_executor/layers/linear.py (QKVParallelLinear);"
    " neuronx-distributed, modules/qkv_linear.py"
)
_LAYER = (KIND,)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, layer_replicated_parameters - is_mixture * expert_count"
    " * ffn_bias * hidden_size, query_key_norm_is_head * 2 * head_size * (1 + norm_is_layernorm))",
    source=_KORTHIKANTI + "; Megatron-LM, finalize_model_grads: sequence-parallel weights, and "
    "norms of query and key heads",
)
def layer_summed_parameters(
    sequence_parallel: Column,
    layer_replicated_parameters: Column,
    is_mixture: Column,
    expert_count: Column,
    ffn_bias: Column,
    hidden_size: Column,
    query_key_norm_is_head: Column,
    head_size: Column,
    norm_is_layernorm: Column,
) -> Column:
    """Return the weights of a layer whose gradients are sums over tensor-parallel ranks [parameter].

    Notes
    -----
    Each rank sees a part of the sequence, or for norms of heads a part of the heads. What an expert
    adds after its second matrix sees every token of the expert on every rank that splits it.
    """
    outputs = is_mixture * expert_count * ffn_bias * hidden_size
    norms = query_key_norm_is_head * 2 * head_size * (1 + norm_is_layernorm)
    return where(sequence_parallel, layer_replicated_parameters - outputs, norms)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(stated_expert_tensor_parallel_size > 0,"
    " stated_expert_tensor_parallel_size, tensor_parallel_size)",
    source=_MEGATRON_MOE,
)
def expert_tensor_size(
    stated_expert_tensor_parallel_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return the ranks that split each expert [count]."""
    stated = stated_expert_tensor_parallel_size
    return where(stated > 0, stated, tensor_parallel_size)


@quantity(
    "truth",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1 - (expert_parallel_size == 1) * (expert_tensor_size == tensor_parallel_size)",
    source=_MEGATRON_MOE,
)
def experts_apart(
    expert_parallel_size: Column, expert_tensor_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return whether experts have parallel groups of their own [truth]."""
    return 1 - (expert_parallel_size == 1) * (expert_tensor_size == tensor_parallel_size)


@quantity(
    "count",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(is_mixture, expert_tensor_size, tensor_parallel_size)",
    source=_MEGATRON_MOE,
)
def layer_split_size(
    is_mixture: Column, expert_tensor_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return the ranks that split a layer's feed-forward network, or each of its experts [count]."""
    return where(is_mixture, expert_tensor_size, tensor_parallel_size)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="is_mixture * (expert_count // expert_parallel_size) * ((expert_matrix_parameters"
    " + expert_bias_parameters) // expert_tensor_size + ffn_bias * hidden_size)",
    source=_MEGATRON_MOE,
)
def layer_expert_parameters(
    is_mixture: Column,
    expert_count: Column,
    expert_parallel_size: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    expert_tensor_size: Column,
    ffn_bias: Column,
    hidden_size: Column,
) -> Column:
    """Return the parameters of a layer's routed experts on one GPU [parameter].

    Examples
    --------
    Mixtral 8x7B, experts over 4 ranks, each of them split over 2.

    >>> layer_expert_parameters(1, 8, 4, 3 * 4096 * 14336, 0, 2, 0, 4096) == 3 * 4096 * 14336
    True
    """
    split = (expert_matrix_parameters + expert_bias_parameters) // expert_tensor_size
    held = expert_count // expert_parallel_size
    return is_mixture * held * (split + ffn_bias * hidden_size)


@quantity(
    "count",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ceil_div(num_key_value_heads, tensor_parallel_size)",
    source=_COPIES,
)
def rank_key_value_head_count(num_key_value_heads: Column, tensor_parallel_size: Column) -> Column:
    """Return the key and value heads of a layer on one tensor-parallel rank [count].

    Examples
    --------
    >>> rank_key_value_head_count(8, 4), rank_key_value_head_count(8, 16)
    (2, 1)
    """
    return ceil_div(num_key_value_heads, tensor_parallel_size)


def softmax_held_heads_count(
    rank_key_value_head_count: Column, tensor_parallel_size: Column
) -> Column:
    """Return the key and value heads of a layer on all tensor-parallel ranks, with copies [count]."""
    return rank_key_value_head_count * tensor_parallel_size


def other_held_heads_count(num_key_value_heads: Column) -> Column:
    """Return the key and value heads of a model whose layer has others of its own [count]."""
    return num_key_value_heads


HELD_HEADS = Quantity(
    name="held_key_value_head_count",
    unit="count",
    scope=Scope.REPLICA,
    axes=_LAYER,
    definition="Key and value heads of a layer on all tensor-parallel ranks, with copies.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_COPIES,
    variants=MappingProxyType(
        dict.fromkeys(
            (*OF_SOFTMAX_HEADS, "latent"),
            softmax_held_heads_count,
        )
        | dict.fromkeys(("gated-delta", "lightning"), other_held_heads_count)
    ),
    selector="layout",
)
"""Only softmax attention shares its key and value heads between ranks."""


@quantity(
    "parameter",
    Scope.REPLICA,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="kind_is_training * (held_key_value_head_count - num_key_value_heads) * 2 * head_size"
    " * hidden_size",
    source=_COPIES,
)
def layer_copied_matrix_parameters(
    kind_is_training: Column,
    held_key_value_head_count: Column,
    num_key_value_heads: Column,
    head_size: Column,
    hidden_size: Column,
) -> Column:
    """Return the weights of copied key and value heads of a layer, on all ranks together [parameter].

    Examples
    --------
    >>> layer_copied_matrix_parameters(1, 16, 8, 128, 4096) == 8 * 2 * 128 * 4096
    True
    """
    copies = kind_is_training * (held_key_value_head_count - num_key_value_heads)
    return copies * 2 * head_size * hidden_size


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="kind_is_training * minimum(held_key_value_head_count - num_key_value_heads, 1)"
    " * rank_key_value_head_count * 2 * head_size * (hidden_size + attention_bias)",
    source=_COPIES,
)
def layer_shared_parameters(
    kind_is_training: Column,
    held_key_value_head_count: Column,
    num_key_value_heads: Column,
    rank_key_value_head_count: Column,
    head_size: Column,
    hidden_size: Column,
    attention_bias: Column,
) -> Column:
    """Return the weights of a layer of which other ranks have a copy, on one GPU [parameter]."""
    shares = kind_is_training * minimum(held_key_value_head_count - num_key_value_heads, 1)
    return shares * rank_key_value_head_count * 2 * head_size * (hidden_size + attention_bias)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(layer_sharded_parameters + layer_copied_matrix_parameters + kind_is_training"
    " * attention_bias * (held_key_value_head_count - num_key_value_heads) * 2 * head_size"
    " - is_mixture * expert_count * (expert_matrix_parameters"
    " + expert_bias_parameters)) // tensor_parallel_size + layer_replicated_parameters"
    " - is_mixture * expert_count * ffn_bias * hidden_size + layer_expert_parameters",
    source=_MEGATRON,
)
def layer_gpu_parameters(
    layer_sharded_parameters: Column,
    layer_copied_matrix_parameters: Column,
    kind_is_training: Column,
    attention_bias: Column,
    held_key_value_head_count: Column,
    num_key_value_heads: Column,
    head_size: Column,
    layer_replicated_parameters: Column,
    tensor_parallel_size: Column,
    is_mixture: Column,
    expert_count: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    ffn_bias: Column,
    hidden_size: Column,
    layer_expert_parameters: Column,
) -> Column:
    """Return the parameters of a layer on one GPU, its experts divided by their own ranks [parameter]."""
    experts = is_mixture * expert_count
    split = experts * (expert_matrix_parameters + expert_bias_parameters)
    whole = experts * ffn_bias * hidden_size
    copies = kind_is_training * (held_key_value_head_count - num_key_value_heads)
    copied = layer_copied_matrix_parameters + attention_bias * copies * 2 * head_size
    others = (layer_sharded_parameters + copied - split) // tensor_parallel_size
    return others + layer_replicated_parameters - whole + layer_expert_parameters


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="largest(held_key_value_head_count // num_key_value_heads)",
    source=_COPIES,
)
def key_value_copies_size(held_key_value_head_count: Axis, num_key_value_heads: Axis) -> Column:
    """Return the tensor-parallel ranks that have the same key and value heads [count]."""
    pairs = zip(held_key_value_head_count, num_key_value_heads, strict=True)
    return largest([held // heads for held, heads in pairs])
