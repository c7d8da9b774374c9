"""Activations kept for the backward pass, by GPU and microbatch.

Which tensors are kept is a convention, `plan.saved_tensors`. That of Megatron-LM [1]_ is written for
any number of heads, feed-forward network and number format: for GPT in 16 bits with dropout it is
the s b h (34 + 5 a s / h) of the paper. With a flash kernel the matrix of scores is never kept,
only one logsumexp a query [2]_. Kernels of TransformerEngine keep that and the statistics of norms,
the output of attention twice under context parallelism, and no outputs of experts, which the
router's probabilities weigh inside [3]_. What torch keeps of plain modules is in `saved_tensors`.

References
----------
.. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models,"
   2022, sections 4 and 5. arXiv:2205.05198.
.. [2] T. Dao et al., "FlashAttention," 2022, section 3.1. arXiv:2205.14135.
.. [3] TransformerEngine 2.11, github.com/NVIDIA/TransformerEngine:
   ``pytorch/module/layernorm_linear.py``, ``pytorch/attention/dot_product_attention``;
   Megatron-LM, ``megatron/core/transformer/moe/experts.py``.
"""

from costmodels.columns import Axis, Column, ceil_div, minimum, total, weighted_total, where
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4"
_DAO = "Dao et al. 2022, arXiv:2205.14135, section 3.1"
_ENGINE = "; TransformerEngine 2.11, github.com/NVIDIA/TransformerEngine, pytorch/module"
_CONVENTION = "the convention that plan.saved_tensors names"
_LAYER = (KIND,)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="sharded_tokens * hidden_size * activation_element_bytes",
    source=_KORTHIKANTI,
)
def layer_input_bytes(
    sharded_tokens: Column, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return the activation between two layers, for one microbatch [byte]."""
    return sharded_tokens * hidden_size * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(parallel_residual, 2, norms_per_layer) * layer_input_bytes + dropout * sharded_tokens * hidden_size"
    " + (microbatch_tokens * (attention_kept_elements + saved_tensors_is_transformer_engine"
    " * (context_parallel_size > 1) * num_attention_heads * attention_value_size)"
    " // tensor_parallel_size"
    " + sharded_tokens * attention_kept_compressed_elements) * activation_element_bytes"
    " + saved_tensors_is_transformer_engine * ((norms_per_layer + 1) // 2) * (2 - norm_is_rmsnorm)"
    " * 4 * sharded_tokens",
    source=_KORTHIKANTI + ": norm input and output, one input more for each norm beyond two; what "
    "heads keep; dropout mask" + _ENGINE,
)
def megatron_attention_bytes(
    parallel_residual: Column,
    norms_per_layer: Column,
    layer_input_bytes: Column,
    dropout: Column,
    sharded_tokens: Column,
    hidden_size: Column,
    microbatch_tokens: Column,
    attention_kept_elements: Column,
    saved_tensors_is_transformer_engine: Column,
    context_parallel_size: Column,
    num_attention_heads: Column,
    attention_value_size: Column,
    tensor_parallel_size: Column,
    attention_kept_compressed_elements: Column,
    activation_element_bytes: Column,
    norm_is_rmsnorm: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps around a layer's attention, for one microbatch [byte]."""
    engine = saved_tensors_is_transformer_engine
    twice = engine * (context_parallel_size > 1) * num_attention_heads * attention_value_size
    heads = microbatch_tokens * (attention_kept_elements + twice) // tensor_parallel_size
    elements = heads + sharded_tokens * attention_kept_compressed_elements
    statistics = engine * ((norms_per_layer + 1) // 2) * (2 - norm_is_rmsnorm)
    return (
        where(parallel_residual, 2, norms_per_layer) * layer_input_bytes
        + dropout * sharded_tokens * hidden_size
        + elements * activation_element_bytes
        + statistics * 4 * sharded_tokens
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="(where(attention_kernel_is_flash, 4 * microbatch_tokens * minimum(executed_pairs, 1),"
    " micro_batch_size * executed_pairs // context_parallel_size"
    " * (activation_element_bytes + dropout * (activation_element_bytes + 1)))"
    " * num_attention_heads + micro_batch_size * attention_state_kept_bytes)"
    " // tensor_parallel_size",
    source=_KORTHIKANTI + ": softmax output, dropout mask and output; flash: " + _DAO,
)
def megatron_core_bytes(
    attention_kernel_is_flash: Column,
    microbatch_tokens: Column,
    executed_pairs: Column,
    micro_batch_size: Column,
    context_parallel_size: Column,
    activation_element_bytes: Column,
    dropout: Column,
    num_attention_heads: Column,
    attention_state_kept_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps inside a layer's attention, for one microbatch [byte].

    Examples
    --------
    >>> megatron_core_bytes(0, 2048, 2048**2, 1, 1, 2, 1, 96, 0, 8) == 5 * 96 * 2048 * 2048 // 8
    True
    """
    score_bytes = activation_element_bytes + dropout * (activation_element_bytes + 1)
    kept = where(
        attention_kernel_is_flash,
        4 * microbatch_tokens * minimum(executed_pairs, 1),
        micro_batch_size * executed_pairs // context_parallel_size * score_bytes,
    )
    states = micro_batch_size * attention_state_kept_bytes
    return (kept * num_attention_heads + states) // tensor_parallel_size


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(parallel_residual, norms_per_layer - 1, 2) * layer_input_bytes"
    " + dropout * sharded_tokens * hidden_size"
    " + (2 + gated) * (expert_rows * layer_intermediate_size * activation_element_bytes"
    " // layer_split_size + microbatch_tokens * shared_intermediate_size"
    " * activation_element_bytes // tensor_parallel_size)"
    " + saved_tensors_is_transformer_engine * (norms_per_layer // 2) * (2 - norm_is_rmsnorm)"
    " * 4 * sharded_tokens",
    source=_KORTHIKANTI
    + ": norm input and output; projections and their product; dropout mask"
    + _ENGINE,
)
def megatron_ffn_bytes(
    parallel_residual: Column,
    layer_input_bytes: Column,
    dropout: Column,
    sharded_tokens: Column,
    hidden_size: Column,
    gated: Column,
    expert_rows: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    microbatch_tokens: Column,
    shared_intermediate_size: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
    saved_tensors_is_transformer_engine: Column,
    norms_per_layer: Column,
    norm_is_rmsnorm: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps of a layer's feed-forward network, for one microbatch [byte]."""
    rows = expert_rows * layer_intermediate_size * activation_element_bytes // layer_split_size
    shared = microbatch_tokens * shared_intermediate_size * activation_element_bytes
    inner = (2 + gated) * (rows + shared // tensor_parallel_size)
    engine = saved_tensors_is_transformer_engine
    statistics = engine * (norms_per_layer // 2) * (2 - norm_is_rmsnorm)
    return (
        where(parallel_residual, norms_per_layer - 1, 2) * layer_input_bytes
        + dropout * sharded_tokens * hidden_size
        + inner
        + statistics * 4 * sharded_tokens
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="is_mixture * ((2 - saved_tensors_is_transformer_engine) * expert_rows"
    " * hidden_size * activation_element_bytes"
    " + 4 * sharded_tokens * (expert_count + experts_per_token))",
    source="Gale et al. 2022, arXiv:2211.15841, section 4 (permuted tokens); outputs of experts "
    "kept for the gradient of their weights; probabilities in fp32; tokens balanced" + _ENGINE,
)
def megatron_mixture_bytes(
    is_mixture: Column,
    saved_tensors_is_transformer_engine: Column,
    expert_rows: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    sharded_tokens: Column,
    expert_count: Column,
    experts_per_token: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps to route tokens to experts and back, for one microbatch [byte]."""
    routed = expert_rows * hidden_size
    router = 4 * sharded_tokens * (expert_count + experts_per_token)
    copies = 2 - saved_tensors_is_transformer_engine
    return is_mixture * (copies * routed * activation_element_bytes + router)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="shared_gate * (layer_input_bytes + where(saved_tensors_is_torch_eager_cpu"
    " + saved_tensors_is_torch_cuda, activation_element_bytes, 4) * sharded_tokens)",
    source="by counting tensors: the output of shared experts is kept for the gradient of their gate, "
    "and the gate; with kernels in fp32",
)
def shared_gate_bytes(
    shared_gate: Column,
    layer_input_bytes: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    activation_element_bytes: Column,
    sharded_tokens: Column,
) -> Column:
    """Return the activations kept for the gate of shared experts, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    element_bytes = where(plain_torch, activation_element_bytes, 4)
    return shared_gate * (layer_input_bytes + element_bytes * sharded_tokens)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_attention_bytes, megatron_attention_bytes) - attention_unkept_bytes"
    " + weights_are_frozen * attention_adapter_bytes",
    source=_CONVENTION + "; inputs of frozen matrices are not kept, those of adapters are",
)
def attention_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_attention_bytes: Column,
    megatron_attention_bytes: Column,
    attention_unkept_bytes: Column,
    weights_are_frozen: Column,
    attention_adapter_bytes: Column,
) -> Column:
    """Return the activations kept around a layer's attention, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    whole = where(plain_torch, torch_attention_bytes, megatron_attention_bytes)
    return whole - attention_unkept_bytes + weights_are_frozen * attention_adapter_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_core_bytes, megatron_core_bytes)",
    source=_CONVENTION,
)
def attention_core_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_core_bytes: Column,
    megatron_core_bytes: Column,
) -> Column:
    """Return the activations kept inside a layer's attention, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    return where(plain_torch, torch_core_bytes, megatron_core_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_ffn_bytes, megatron_ffn_bytes) - ffn_unkept_bytes"
    " + weights_are_frozen * ffn_adapter_bytes",
    source=_CONVENTION + "; inputs of frozen matrices are not kept, those of adapters are",
)
def ffn_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_ffn_bytes: Column,
    megatron_ffn_bytes: Column,
    ffn_unkept_bytes: Column,
    weights_are_frozen: Column,
    ffn_adapter_bytes: Column,
) -> Column:
    """Return the activations kept for a layer's feed-forward network, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    whole = where(plain_torch, torch_ffn_bytes, megatron_ffn_bytes)
    return whole - ffn_unkept_bytes + weights_are_frozen * ffn_adapter_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_mixture_bytes, megatron_mixture_bytes) + shared_gate_bytes",
    source=_CONVENTION,
)
def mixture_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_mixture_bytes: Column,
    megatron_mixture_bytes: Column,
    shared_gate_bytes: Column,
) -> Column:
    """Return the activations kept to route tokens to experts and back, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    return where(plain_torch, torch_mixture_bytes, megatron_mixture_bytes) + shared_gate_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_saved_bytes + attention_core_bytes + ffn_saved_bytes + mixture_saved_bytes",
    source=_KORTHIKANTI,
)
def layer_activation_bytes(
    attention_saved_bytes: Column,
    attention_core_bytes: Column,
    ffn_saved_bytes: Column,
    mixture_saved_bytes: Column,
) -> Column:
    """Return the activations of a layer without recomputation, for one microbatch [byte]."""
    return attention_saved_bytes + attention_core_bytes + ffn_saved_bytes + mixture_saved_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(recompute_is_full, layer_input_bytes,"
    " layer_activation_bytes - layer_repeated_bytes)",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 5",
)
def layer_stored_bytes(
    recompute_is_full: Column,
    layer_input_bytes: Column,
    layer_activation_bytes: Column,
    layer_repeated_bytes: Column,
) -> Column:
    """Return the activations of a layer kept until its backward, for one microbatch [byte]."""
    kept = layer_activation_bytes - layer_repeated_bytes
    return where(recompute_is_full, layer_input_bytes, kept)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="dropout * sharded_tokens * hidden_size + embedding_norm * layer_input_bytes",
    source=_KORTHIKANTI + ".3: dropout mask; input of a norm",
)
def megatron_embedding_bytes(
    dropout: Column,
    sharded_tokens: Column,
    hidden_size: Column,
    embedding_norm: Column,
    layer_input_bytes: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps behind the embedding, for one microbatch [byte]."""
    return dropout * sharded_tokens * hidden_size + embedding_norm * layer_input_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="2 * layer_input_bytes + microbatch_tokens * vocabulary_rows * logits_element_bytes",
    source=_KORTHIKANTI + ".3: input and output of the final norm, logits",
)
def megatron_head_bytes(
    layer_input_bytes: Column,
    microbatch_tokens: Column,
    vocabulary_rows: Column,
    logits_element_bytes: Column,
) -> Column:
    """Return the activations that Megatron-LM keeps for head and loss, for one microbatch [byte]."""
    return 2 * layer_input_bytes + microbatch_tokens * vocabulary_rows * logits_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_embedding_bytes - weights_are_frozen * 8 * (microbatch_tokens + positions_is_learned"
    " * sequence_length), megatron_embedding_bytes)",
    source=_CONVENTION + "; a frozen table keeps no tokens",
)
def embedding_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    weights_are_frozen: Column,
    microbatch_tokens: Column,
    positions_is_learned: Column,
    sequence_length: Column,
    torch_embedding_bytes: Column,
    megatron_embedding_bytes: Column,
) -> Column:
    """Return the activations kept behind the embedding, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    tokens = weights_are_frozen * 8 * (microbatch_tokens + positions_is_learned * sequence_length)
    return where(plain_torch, torch_embedding_bytes - tokens, megatron_embedding_bytes)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_head_bytes, megatron_head_bytes) - weights_are_frozen * layer_input_bytes",
    source=_CONVENTION + "; a frozen head keeps no input",
)
def head_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    weights_are_frozen: Column,
    layer_input_bytes: Column,
    torch_head_bytes: Column,
    megatron_head_bytes: Column,
) -> Column:
    """Return the activations kept for head and loss, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    whole = where(plain_torch, torch_head_bytes, megatron_head_bytes)
    return whole - weights_are_frozen * layer_input_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=(STAGE, CHUNK, KIND),
    basis=Basis.EXACT,
    formula="chunk_offloaded_layer_count - recompute_is_full * chunk_offloaded_repeated_count",
    source="Megatron-LM: cpu-offloading-num-layers",
)
def kind_offloaded_layers(
    chunk_offloaded_layer_count: Column,
    recompute_is_full: Column,
    chunk_offloaded_repeated_count: Column,
) -> Column:
    """Return the layers of a kind in a chunk that send more than their input to the host [count]."""
    return chunk_offloaded_layer_count - recompute_is_full * chunk_offloaded_repeated_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=(STAGE, CHUNK, KIND),
    basis=Basis.EXACT,
    formula="chunk_layer_count - recompute_is_full * chunk_repeated_layer_count"
    " - kind_offloaded_layers",
    source="Megatron-LM: recompute-method, recompute-num-layers",
)
def kind_kept_layers(
    chunk_layer_count: Column,
    recompute_is_full: Column,
    chunk_repeated_layer_count: Column,
    kind_offloaded_layers: Column,
) -> Column:
    """Return the layers of a kind in a chunk of which a GPU keeps more than the input [count]."""
    kept = chunk_layer_count - recompute_is_full * chunk_repeated_layer_count
    return kept - kind_offloaded_layers


@quantity(
    "count",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="recompute_is_full * ceil_div(total(chunk_offloaded_repeated_count),"
    " recompute_group_size)",
    source="one for each group of layers that is computed again and begins in an offloaded one",
)
def chunk_offloaded_input_count(
    recompute_is_full: Column,
    chunk_offloaded_repeated_count: Axis,
    recompute_group_size: Column,
) -> Column:
    """Return the inputs of recomputed layers of a chunk that go to the host [count]."""
    groups = ceil_div(total(chunk_offloaded_repeated_count), recompute_group_size)
    return recompute_is_full * groups


@quantity(
    "byte",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="minimum(total(chunk_offloaded_layer_count), 1) * where(chunk_holds_embedding,"
    " weights_are_frozen * (1 - embedding_norm) * (1 - positions_is_learned), 1)"
    " * layer_input_bytes",
    source="a leaf of the graph, which its gradient is added to: what a stage received (Megatron-LM, "
    "megatron/core/pipeline_parallel/schedules.py: input_tensors), and the output of a frozen "
    "embedding (peft: enable_input_require_grads)",
)
def chunk_retained_input_bytes(
    chunk_offloaded_layer_count: Axis,
    chunk_holds_embedding: Column,
    weights_are_frozen: Column,
    embedding_norm: Column,
    positions_is_learned: Column,
    layer_input_bytes: Column,
) -> Column:
    """Return the input of a chunk's first layer that stays on the GPU beside its copy on the host [byte].

    Examples
    --------
    >>> chunk_retained_input_bytes([2], 0, 0, 0, 0, 10), chunk_retained_input_bytes([2], 1, 0, 0, 0, 10)
    (10, 0)
    """
    leaf = weights_are_frozen * (1 - embedding_norm) * (1 - positions_is_learned)
    leaves = minimum(total(chunk_offloaded_layer_count), 1)
    return leaves * where(chunk_holds_embedding, leaf, 1) * layer_input_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="(recompute_is_full * ceil_div(total(chunk_repeated_layer_count),"
    " recompute_group_size) - chunk_offloaded_input_count) * layer_input_bytes"
    " + chunk_retained_input_bytes",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 5: one for each group of layers",
)
def chunk_layer_input_bytes(
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    recompute_group_size: Column,
    chunk_offloaded_input_count: Column,
    layer_input_bytes: Column,
    chunk_retained_input_bytes: Column,
) -> Column:
    """Return the inputs of a chunk's layers that a GPU keeps by themselves, for one microbatch [byte]."""
    groups = ceil_div(total(chunk_repeated_layer_count), recompute_group_size)
    kept = (recompute_is_full * groups - chunk_offloaded_input_count) * layer_input_bytes
    return kept + chunk_retained_input_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="chunk_layer_input_bytes + total(kind_kept_layers * (layer_activation_bytes"
    " - layer_repeated_bytes))"
    " + chunk_embedding_passes * embedding_saved_bytes + chunk_head_bytes",
    source=_KORTHIKANTI,
)
def chunk_activation_bytes(
    chunk_layer_input_bytes: Column,
    kind_kept_layers: Axis,
    layer_activation_bytes: Axis,
    layer_repeated_bytes: Axis,
    chunk_embedding_passes: Column,
    embedding_saved_bytes: Column,
    chunk_head_bytes: Column,
) -> Column:
    """Return the activations of a chunk that a GPU keeps until its backward, for one microbatch [byte]."""
    kept = [
        whole - again
        for whole, again in zip(layer_activation_bytes, layer_repeated_bytes, strict=True)
    ]
    return (
        chunk_layer_input_bytes
        + weighted_total(kind_kept_layers, kept)
        + chunk_embedding_passes * embedding_saved_bytes
        + chunk_head_bytes
    )
