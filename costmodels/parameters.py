"""Parameters: of a layer, of the model, and of what one GPU holds.

Sharding follows Megatron-LM [1]_: query, key, value and the first feed-forward projection are
split by columns, output and second feed-forward projection by rows, the embedding by vocabulary;
norms, the router and the biases of row-parallel projections are on every rank.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using
   Model Parallelism," 2019, section 3. arXiv:1909.08053.
"""

from types import MappingProxyType

from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    largest,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import (
    ALGORITHM,
    CHUNK,
    KIND,
    OF_SOFTMAX_HEADS,
    STAGE,
    Basis,
    Quantity,
    Scope,
    quantity,
)

_MEGATRON = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_VASWANI = "Vaswani et al. 2017, arXiv:1706.03762, section 3; counts equal to the modules of torch"
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
_DEEPSEEK = (
    "Dai et al. 2024, arXiv:2401.06066, section 3.2; Rajbhandari et al. 2022, arXiv:2201.05596"
)
_SHAZEER = "Shazeer et al. 2017, arXiv:1701.06538, section 2; Jiang et al. 2024, arXiv:2401.04088"


@quantity(
    "count",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(is_mixture * (expert_intermediate_size > 0), expert_intermediate_size,"
    " intermediate_size)",
    source=_SHAZEER,
)
def layer_intermediate_size(
    is_mixture: Column, expert_intermediate_size: Column, intermediate_size: Column
) -> Column:
    """Return the width of a layer's feed-forward network, or of one of its experts [count].

    Examples
    --------
    >>> int(layer_intermediate_size(1, 2048, 18432)), int(layer_intermediate_size(0, 0, 18432))
    (2048, 18432)
    """
    has_own = is_mixture * (expert_intermediate_size > 0)
    return where(has_own, expert_intermediate_size, intermediate_size)


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(2 + gated) * hidden_size * layer_intermediate_size",
    source="Shazeer 2020, arXiv:2002.05202, section 2 (gated); " + _VASWANI,
)
def expert_matrix_parameters(
    hidden_size: Column, layer_intermediate_size: Column, gated: Column
) -> Column:
    """Return the weights of one feed-forward network, or of one expert [parameter].

    Examples
    --------
    >>> expert_matrix_parameters(4096, 14336, gated=1)
    176160768
    """
    return (2 + gated) * hidden_size * layer_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ffn_bias * (1 + gated) * layer_intermediate_size",
    source=_VASWANI,
)
def expert_bias_parameters(
    layer_intermediate_size: Column, gated: Column, ffn_bias: Column
) -> Column:
    """Return the biases of the first projections of a feed-forward network [parameter]."""
    return ffn_bias * (1 + gated) * layer_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(2 + gated) * hidden_size * shared_intermediate_size",
    source=_DEEPSEEK,
)
def shared_matrix_parameters(
    hidden_size: Column, shared_intermediate_size: Column, gated: Column
) -> Column:
    """Return the weights of the experts of a layer that every token visits [parameter].

    Examples
    --------
    >>> shared_matrix_parameters(7168, 2048, gated=1)
    44040192
    """
    return (2 + gated) * hidden_size * shared_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ffn_bias * (1 + gated) * shared_intermediate_size",
    source=_DEEPSEEK,
)
def shared_bias_parameters(
    shared_intermediate_size: Column, gated: Column, ffn_bias: Column
) -> Column:
    """Return the biases of the first projections of a layer's shared experts [parameter]."""
    return ffn_bias * (1 + gated) * shared_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="is_mixture * hidden_size * (expert_count + shared_gate)",
    source=_SHAZEER,
)
def router_parameters(
    hidden_size: Column, expert_count: Column, is_mixture: Column, shared_gate: Column
) -> Column:
    """Return the weights of a layer's router and shared gate, zero without a mixture [parameter]."""
    return is_mixture * hidden_size * (expert_count + shared_gate)


@quantity(
    "parameter",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="hidden_size * (1 + norm_is_layernorm)",
    source="Ba et al. 2016, arXiv:1607.06450; Zhang and Sennrich 2019, arXiv:1910.07467",
)
def norm_parameters(hidden_size: Column, norm_is_layernorm: Column) -> Column:
    """Return the parameters of one normalization [parameter]."""
    return hidden_size * (1 + norm_is_layernorm)


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_matrix_parameters + attention_vector_parameters + shared_matrix_parameters"
    " + shared_bias_parameters"
    " + expert_count * (expert_matrix_parameters + expert_bias_parameters)",
    source=_MEGATRON,
)
def layer_sharded_parameters(
    attention_matrix_parameters: Column,
    attention_vector_parameters: Column,
    shared_matrix_parameters: Column,
    shared_bias_parameters: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    expert_count: Column,
) -> Column:
    """Return the parameters of a layer that tensor parallelism splits [parameter]."""
    return (
        attention_matrix_parameters
        + attention_vector_parameters
        + shared_matrix_parameters
        + shared_bias_parameters
        + expert_count * (expert_matrix_parameters + expert_bias_parameters)
    )


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_whole_parameters"
    " + (expert_count + minimum(shared_intermediate_size, 1)) * ffn_bias * hidden_size"
    " + router_parameters + router_bias * expert_count + norms_per_layer * norm_parameters",
    source=_MEGATRON,
)
def layer_replicated_parameters(
    attention_whole_parameters: Column,
    hidden_size: Column,
    ffn_bias: Column,
    expert_count: Column,
    shared_intermediate_size: Column,
    router_parameters: Column,
    router_bias: Column,
    norms_per_layer: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of a layer that every tensor-parallel rank holds [parameter]."""
    return (
        attention_whole_parameters
        + (expert_count + minimum(shared_intermediate_size, 1)) * ffn_bias * hidden_size
        + router_parameters
        + router_bias * expert_count
        + norms_per_layer * norm_parameters
    )


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_sharded_parameters + layer_replicated_parameters",
    source=_VASWANI,
)
def layer_parameters(
    layer_sharded_parameters: Column, layer_replicated_parameters: Column
) -> Column:
    """Return the parameters of a layer [parameter]."""
    return layer_sharded_parameters + layer_replicated_parameters


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(expert_count - experts_per_token)"
    " * (expert_matrix_parameters + expert_bias_parameters + ffn_bias * hidden_size)",
    source=_SHAZEER,
)
def layer_inactive_parameters(
    expert_count: Column,
    experts_per_token: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    ffn_bias: Column,
    hidden_size: Column,
) -> Column:
    """Return the parameters of the experts of a layer that a token does not visit [parameter]."""
    return (expert_count - experts_per_token) * (
        expert_matrix_parameters + expert_bias_parameters + ffn_bias * hidden_size
    )


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="vocabulary_size * hidden_size",
    source=_VASWANI,
)
def embedding_parameters(vocabulary_size: Column, hidden_size: Column) -> Column:
    """Return the parameters of the token embedding [parameter]."""
    return vocabulary_size * hidden_size


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="positions_is_learned * (max_position_embeddings + reserved_positions) * hidden_size",
    source=_VASWANI,
)
def position_parameters(
    positions_is_learned: Column,
    max_position_embeddings: Column,
    reserved_positions: Column,
    hidden_size: Column,
) -> Column:
    """Return the parameters of the table of learned positions [parameter]."""
    return positions_is_learned * (max_position_embeddings + reserved_positions) * hidden_size


@quantity(
    "parameter",
    Scope.TOTAL,
    symbol="N",
    group="parameters",
    basis=Basis.EXACT,
    formula="total(kind_layer_count * layer_parameters)"
    " + (2 - tied_embeddings) * embedding_parameters + head_bias * vocabulary_size"
    " + position_parameters + (1 + embedding_norm) * norm_parameters",
    source=_VASWANI,
)
def total_parameters(
    kind_layer_count: Axis,
    layer_parameters: Axis,
    embedding_parameters: Column,
    position_parameters: Column,
    norm_parameters: Column,
    embedding_norm: Column,
    tied_embeddings: Column,
    head_bias: Column,
    vocabulary_size: Column,
) -> Column:
    """Return the parameters of the model, a tied head counted once [parameter].

    Notes
    -----
    Layers that predict further tokens are not among them: they serve training, and are published
    apart.
    """
    return (
        weighted_total(kind_layer_count, layer_parameters)
        + (2 - tied_embeddings) * embedding_parameters
        + head_bias * vocabulary_size
        + position_parameters
        + (1 + embedding_norm) * norm_parameters
    )


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="total(predicted_layer_count * (layer_parameters + 2 * hidden_size * hidden_size"
    " + 3 * norm_parameters))",
    source="DeepSeek-AI 2024, arXiv:2412.19437, section 2.2: a layer, a projection of two"
    " normalized vectors to one, a norm; embedding and head are those of the model",
)
def multi_token_prediction_parameters(
    predicted_layer_count: Axis,
    layer_parameters: Axis,
    hidden_size: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters that only predict further tokens, beside the model's [parameter]."""
    own = 2 * hidden_size * hidden_size + 3 * norm_parameters
    return weighted_total(predicted_layer_count, [layer + own for layer in layer_parameters])


@quantity(
    "parameter",
    Scope.TOTAL,
    symbol="N_a",
    group="parameters",
    basis=Basis.EXACT,
    formula="total_parameters - total(kind_layer_count * layer_inactive_parameters)",
    source=_SHAZEER,
)
def active_parameters(
    total_parameters: Column, kind_layer_count: Axis, layer_inactive_parameters: Axis
) -> Column:
    """Return the parameters that one token passes through, embeddings included [parameter]."""
    return total_parameters - weighted_total(kind_layer_count, layer_inactive_parameters)


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
    "row",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ceil_div(vocabulary_size, tensor_parallel_size)",
    source=_MEGATRON,
)
def vocabulary_rows(vocabulary_size: Column, tensor_parallel_size: Column) -> Column:
    """Return the rows of the embedding on one tensor-parallel rank, padded to be equal [row]."""
    return ceil_div(vocabulary_size, tensor_parallel_size)


@quantity(
    "parameter",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="vocabulary_rows * hidden_size + position_parameters"
    " + embedding_norm * norm_parameters",
    source=_MEGATRON,
)
def embedding_gpu_parameters(
    vocabulary_rows: Column,
    hidden_size: Column,
    position_parameters: Column,
    embedding_norm: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of the input embeddings on one GPU of the first stage [parameter]."""
    return vocabulary_rows * hidden_size + position_parameters + embedding_norm * norm_parameters


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="minimum(pipeline_parallel_size - 1, 1) * (1 - schedule_joins_ends)",
    source="Narayanan et al. 2021, arXiv:2104.04473, section 2.2; on one rank they share it: "
    "DeepSeek-AI 2024, arXiv:2412.19437, section 3.2.3",
)
def separate_ends_count(pipeline_parallel_size: Column, schedule_joins_ends: Column) -> Column:
    """Return the ranks that hold the head but not the embedding: one, or none [count].

    Examples
    --------
    >>> separate_ends_count(1, 0), separate_ends_count(4, 0), separate_ends_count(4, 1)
    (0, 1, 0)
    """
    return minimum(pipeline_parallel_size - 1, 1) * (1 - schedule_joins_ends)


@quantity(
    "parameter",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="maximum(1 - tied_embeddings, separate_ends_count)"
    " * vocabulary_rows * hidden_size + head_bias * vocabulary_rows + norm_parameters",
    source=_MEGATRON + "; Narayanan et al. 2021, arXiv:2104.04473",
)
def head_gpu_parameters(
    vocabulary_rows: Column,
    hidden_size: Column,
    tied_embeddings: Column,
    separate_ends_count: Column,
    head_bias: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of final norm and head on one GPU of the last stage [parameter].

    Notes
    -----
    A tied head shares the embedding where one rank holds both; else the last stage keeps a copy.
    """
    separate = maximum(1 - tied_embeddings, separate_ends_count)
    return separate * vocabulary_rows * hidden_size + head_bias * vocabulary_rows + norm_parameters


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_gpu_parameters)"
    " + chunk_holds_embedding * embedding_gpu_parameters"
    " + chunk_holds_head * head_gpu_parameters + chunk_prediction_parameters",
    source=_MEGATRON,
)
def chunk_parameters(
    chunk_layer_count: Axis,
    layer_gpu_parameters: Axis,
    chunk_holds_embedding: Column,
    embedding_gpu_parameters: Column,
    chunk_holds_head: Column,
    head_gpu_parameters: Column,
    chunk_prediction_parameters: Column,
) -> Column:
    """Return the parameters of one chunk of layers on one GPU, with the ends it holds [parameter]."""
    return (
        weighted_total(chunk_layer_count, layer_gpu_parameters)
        + chunk_holds_embedding * embedding_gpu_parameters
        + chunk_holds_head * head_gpu_parameters
        + chunk_prediction_parameters
    )


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_summed_parameters) + sequence_parallel"
    " * (chunk_holds_embedding * (position_parameters + embedding_norm * norm_parameters)"
    " + (chunk_holds_head + 3 * chunk_prediction_count) * norm_parameters)",
    source=_KORTHIKANTI,
)
def chunk_summed_parameters(
    chunk_layer_count: Axis,
    layer_summed_parameters: Axis,
    sequence_parallel: Column,
    chunk_holds_embedding: Column,
    position_parameters: Column,
    embedding_norm: Column,
    norm_parameters: Column,
    chunk_holds_head: Column,
    chunk_prediction_count: Column,
) -> Column:
    """Return the weights of a chunk whose gradients are sums over tensor-parallel ranks [parameter]."""
    embedding = chunk_holds_embedding * (position_parameters + embedding_norm * norm_parameters)
    ends = embedding + (chunk_holds_head + 3 * chunk_prediction_count) * norm_parameters
    layers = weighted_total(chunk_layer_count, layer_summed_parameters)
    return layers + sequence_parallel * ends


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_shared_parameters)",
    source=_COPIES,
)
def chunk_shared_parameters(chunk_layer_count: Axis, layer_shared_parameters: Axis) -> Column:
    """Return the weights of a chunk of which other tensor-parallel ranks have a copy [parameter]."""
    return weighted_total(chunk_layer_count, layer_shared_parameters)


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


@quantity(
    "parameter",
    Scope.GPU,
    axes=(STAGE,),
    group="parameters",
    basis=Basis.EXACT,
    formula="total(chunk_parameters)",
    source=_MEGATRON,
)
def stage_parameters(chunk_parameters: Axis) -> Column:
    """Return the parameters on one GPU before data-parallel sharding [parameter]."""
    return total(chunk_parameters)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="experts_apart * total(chunk_layer_count * layer_expert_parameters)",
    source=_MEGATRON_MOE,
)
def chunk_expert_parameters(
    experts_apart: Column, chunk_layer_count: Axis, layer_expert_parameters: Axis
) -> Column:
    """Return the parameters of a chunk's experts that have groups of their own [parameter]."""
    return experts_apart * weighted_total(chunk_layer_count, layer_expert_parameters)


@quantity(
    "parameter",
    Scope.GPU,
    axes=(STAGE,),
    basis=Basis.EXACT,
    formula="total(chunk_expert_parameters)",
    source=_MEGATRON_MOE,
)
def stage_expert_parameters(chunk_expert_parameters: Axis) -> Column:
    """Return the parameters of a GPU's experts that have groups of their own [parameter]."""
    return total(chunk_expert_parameters)
