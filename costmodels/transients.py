"""What a GPU holds for a moment of the backward, and copies that kernels keep for themselves.

While a layer goes backward it holds what is computed again, the gradient that comes in, and the
gradients of the widest tensors of its attention or of its feed-forward network. While the head goes
backward it holds the gradient of its input, and of the logits where that has no place in theirs;
logits are gone when the first layer follows. Beside them stand the buffers in `memory`.

TransformerEngine sums gradients of weights into the accumulated ones, and hands autograd a dummy in
place of each: one for each shape, kept for good [1]_.

References
----------
.. [1] TransformerEngine 2.11, github.com/NVIDIA/TransformerEngine,
   ``transformer_engine/pytorch/module/base.py``: ``get_dummy_wgrad``.
"""

from costmodels.columns import Axis, Column, largest, maximum, minimum, total, where
from costmodels.quantities import KIND, STAGE, Basis, Scope, quantity

_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 5"
_BACKWARD = "the gradients that a backward of these products holds at once, by counting tensors"
_ENGINE = "TransformerEngine 2.11, pytorch/module/base.py: get_dummy_wgrad, one for each shape"
_LAYER = (KIND,)
_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="recompute_is_full * (layer_activation_bytes - layer_input_bytes)"
    " + core_is_repeated * attention_core_bytes + attention_repeated_bytes",
    source=_KORTHIKANTI + ": one layer at a time is computed again, from the input that is kept",
)
def layer_recomputed_bytes(
    recompute_is_full: Column,
    layer_activation_bytes: Column,
    layer_input_bytes: Column,
    core_is_repeated: Column,
    attention_core_bytes: Column,
    attention_repeated_bytes: Column,
) -> Column:
    """Return what a layer's backward computes again: all of it, or modules of its attention [byte]."""
    whole = recompute_is_full * (layer_activation_bytes - layer_input_bytes)
    return whole + core_is_repeated * attention_core_bytes + attention_repeated_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ffn_repeated_bytes + mixture_repeated_bytes",
    source=_KORTHIKANTI + ": when the network goes backward, of one layer at a time",
)
def network_recomputed_bytes(ffn_repeated_bytes: Column, mixture_repeated_bytes: Column) -> Column:
    """Return what modules of a layer's network compute again in the backward [byte]."""
    return ffn_repeated_bytes + mixture_repeated_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_input_bytes + microbatch_tokens * ((num_attention_heads + held_key_value_head_count)"
    " * (attention_query_size + attention_value_size) + where(attention_kernel_is_flash, 0,"
    " 2 * num_attention_heads * sequence_length)) * activation_element_bytes"
    " // tensor_parallel_size",
    source=_BACKWARD + ": of query, key, value and output; of scores before and after the softmax, "
    "where they are kept",
)
def attention_gradient_bytes(
    layer_input_bytes: Column,
    microbatch_tokens: Column,
    num_attention_heads: Column,
    held_key_value_head_count: Column,
    attention_query_size: Column,
    attention_value_size: Column,
    attention_kernel_is_flash: Column,
    sequence_length: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the gradients that the backward of a layer's attention holds at once [byte]."""
    heads = (num_attention_heads + held_key_value_head_count) * (
        attention_query_size + attention_value_size
    )
    scores = where(attention_kernel_is_flash, 0, 2 * num_attention_heads * sequence_length)
    elements = microbatch_tokens * (heads + scores)
    return layer_input_bytes + elements * activation_element_bytes // tensor_parallel_size


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda) * (zero_stage <= 1)"
    " * (microbatch_count > 1) * (1 - weights_are_frozen) * weight_element_bytes",
    source="torch's autograd makes the gradient of a weight as a tensor of its own and adds it to "
    "the accumulated one; of a first microbatch it becomes that one; counted in running programs",
)
def summand_element_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    zero_stage: Column,
    microbatch_count: Column,
    weights_are_frozen: Column,
    weight_element_bytes: Column,
) -> Column:
    """Return the bytes of a weight's gradient before it is added to the accumulated one [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    trained = (zero_stage <= 1) * (microbatch_count > 1) * (1 - weights_are_frozen)
    return plain_torch * trained * weight_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_input_bytes + maximum(expert_rows * layer_intermediate_size // layer_split_size,"
    " microbatch_tokens * shared_intermediate_size // tensor_parallel_size)"
    " * activation_element_bytes + maximum((1 + gated) * activation_element_bytes"
    " * maximum(expert_rows * layer_intermediate_size // layer_split_size,"
    " microbatch_tokens * shared_intermediate_size // tensor_parallel_size),"
    " hidden_size * layer_intermediate_size // layer_split_size * summand_element_bytes)",
    source=_BACKWARD + ": of the inner activation, and of the one or two projections behind it, or "
    "of the last matrix's weights where it is not yet added to the accumulated one",
)
def ffn_gradient_bytes(
    layer_input_bytes: Column,
    gated: Column,
    activation_element_bytes: Column,
    expert_rows: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    microbatch_tokens: Column,
    shared_intermediate_size: Column,
    tensor_parallel_size: Column,
    hidden_size: Column,
    summand_element_bytes: Column,
) -> Column:
    """Return the gradients that the backward of a feed-forward network holds at once [byte]."""
    routed = expert_rows * layer_intermediate_size // layer_split_size
    shared = microbatch_tokens * shared_intermediate_size // tensor_parallel_size
    inner = activation_element_bytes * maximum(routed, shared)
    weights = hidden_size * layer_intermediate_size // layer_split_size * summand_element_bytes
    return layer_input_bytes + inner + maximum((1 + gated) * inner, weights)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="largest(minimum(stage_layer_count, 1) * (maximum(attention_gradient_bytes"
    " - (1 - parallel_residual) * (ffn_saved_bytes - ffn_repeated_bytes) + layer_recomputed_bytes,"
    " ffn_gradient_bytes + recompute_is_full * layer_recomputed_bytes + network_recomputed_bytes)"
    " + recompute_is_full"
    " * (minimum(minimum(recompute_group_size, stage_repeated_layer_count) - 1, 0)"
    " * (layer_activation_bytes - layer_input_bytes)"
    " + maximum(minimum(recompute_group_size, stage_repeated_layer_count) - 1, 0)"
    " * layer_activation_bytes)))",
    source=_BACKWARD + "; what the feed-forward network kept is gone when attention goes backward, "
    "where it stands behind it; a group of layers is computed again at once, as if all were the "
    "largest",
)
def layer_transient_bytes(
    stage_layer_count: Axis,
    layer_recomputed_bytes: Axis,
    attention_gradient_bytes: Axis,
    ffn_gradient_bytes: Axis,
    ffn_saved_bytes: Axis,
    ffn_repeated_bytes: Axis,
    network_recomputed_bytes: Axis,
    parallel_residual: Column,
    recompute_is_full: Column,
    recompute_group_size: Column,
    stage_repeated_layer_count: Axis,
    layer_activation_bytes: Axis,
    layer_input_bytes: Column,
) -> Column:
    """Return the most that a layer's backward holds beside what was kept [byte]."""
    held = []
    kept_of_networks = [
        own - less for own, less in zip(ffn_saved_bytes, ffn_repeated_bytes, strict=True)
    ]
    for count, again, network, attention, ffn, kept, repeated, whole in zip(
        stage_layer_count,
        layer_recomputed_bytes,
        network_recomputed_bytes,
        attention_gradient_bytes,
        ffn_gradient_bytes,
        kept_of_networks,
        stage_repeated_layer_count,
        layer_activation_bytes,
        strict=True,
    ):
        others = minimum(recompute_group_size, repeated) - 1
        none = minimum(others, 0) * (whole - layer_input_bytes)
        group = recompute_is_full * (none + maximum(others, 0) * whole)
        later = attention - (1 - parallel_residual) * kept + again
        earlier = ffn + recompute_is_full * again + network
        held.append(minimum(count, 1) * (maximum(later, earlier) + group))
    return largest(held)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens * vocabulary_rows * logits_element_bytes",
    source="what the loss keeps of the logits; gone when the head's backward is done",
)
def logits_bytes(
    microbatch_tokens: Column, vocabulary_rows: Column, logits_element_bytes: Column
) -> Column:
    """Return the logits as the loss keeps them, for one microbatch [byte]."""
    return microbatch_tokens * vocabulary_rows * logits_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " maximum(2 * microbatch_tokens * vocabulary_rows * logits_element_bytes, microbatch_tokens"
    " * hidden_size * activation_element_bytes + vocabulary_rows * hidden_size"
    " * summand_element_bytes),"
    " microbatch_tokens * (hidden_size * activation_element_bytes + vocabulary_rows"
    " * (logits_element_bytes > activation_element_bytes) * activation_element_bytes))",
    source="gradient of the head's input; of the logits: Megatron-LM's cross entropy makes it in "
    "place, megatron/core/tensor_parallel/cross_entropy.py, and converts it where logits are wider; "
    "torch's nll_loss and log_softmax make one each, and the logits are gone before there is one of input "
    "and weights",
)
def head_transient_bytes(
    microbatch_tokens: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    vocabulary_rows: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    logits_element_bytes: Column,
    summand_element_bytes: Column,
) -> Column:
    """Return the most that the head's backward holds beside what was kept [byte]."""
    inner = microbatch_tokens * hidden_size * activation_element_bytes
    logits = microbatch_tokens * vocabulary_rows * logits_element_bytes
    weights = vocabulary_rows * hidden_size * summand_element_bytes
    narrow = (logits_element_bytes > activation_element_bytes) * activation_element_bytes
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    megatron = inner + microbatch_tokens * vocabulary_rows * narrow
    return where(plain_torch, maximum(2 * logits, inner + weights), megatron)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="maximum(total(chunk_holds_head) * head_transient_bytes,"
    " layer_transient_bytes + dequantized_bytes - total(chunk_holds_head) * logits_bytes"
    " + minimum(total(chunk_prediction_repeated_count), 1) * prediction_saved_bytes"
    " + tied_embeddings * (pipeline_parallel_size == 1) * vocabulary_rows * hidden_size"
    " * summand_element_bytes)",
    source="the larger moment: the head goes backward, or a layer after its logits are gone, with "
    "the wide copy of a matrix in few bits; autograd keeps a tied matrix's gradient from the head "
    "until the embedding has its own",
)
def transient_bytes(
    chunk_holds_head: Axis,
    head_transient_bytes: Column,
    layer_transient_bytes: Column,
    dequantized_bytes: Column,
    logits_bytes: Column,
    chunk_prediction_repeated_count: Axis,
    prediction_saved_bytes: Column,
    tied_embeddings: Column,
    pipeline_parallel_size: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    summand_element_bytes: Column,
) -> Column:
    """Return the most that a GPU's backward holds beside what was kept [byte].

    Examples
    --------
    A head of 30, logits of 20, a layer of 60, on the last stage; and without the head.

    >>> transient_bytes([1], 30, 60, 0, 20, [0], 0, 0, 1, 9, 9, 0)
    40
    >>> transient_bytes([0], 30, 60, 0, 20, [0], 0, 0, 1, 9, 9, 0)
    60
    """
    holds = total(chunk_holds_head)
    further = minimum(total(chunk_prediction_repeated_count), 1) * prediction_saved_bytes
    held = tied_embeddings * (pipeline_parallel_size == 1) * vocabulary_rows * hidden_size
    layer = layer_transient_bytes + dequantized_bytes - holds * logits_bytes + further
    layer = layer + held * summand_element_bytes
    return maximum(holds * head_transient_bytes, layer)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="(2 + gated) * hidden_size * (layer_intermediate_size // layer_split_size"
    " + where(shared_intermediate_size == layer_intermediate_size, 0, shared_intermediate_size)"
    " // tensor_parallel_size)",
    source=_ENGINE + "; experts have one shape",
)
def ffn_shape_parameters(
    gated: Column,
    hidden_size: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    shared_intermediate_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the weights of one matrix for each shape of a feed-forward network [parameter]."""
    own = shared_intermediate_size == layer_intermediate_size
    shared = where(own, 0, shared_intermediate_size) // tensor_parallel_size
    return (2 + gated) * hidden_size * (layer_intermediate_size // layer_split_size + shared)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="(attention_matrix_parameters + layer_copied_matrix_parameters) // tensor_parallel_size"
    " + attention_compressing_parameters",
    source=_ENGINE,
)
def attention_shape_parameters(
    attention_matrix_parameters: Column,
    layer_copied_matrix_parameters: Column,
    tensor_parallel_size: Column,
    attention_compressing_parameters: Column,
) -> Column:
    """Return the weights of one matrix for each shape of a layer's attention [parameter]."""
    split = attention_matrix_parameters + layer_copied_matrix_parameters
    return split // tensor_parallel_size + attention_compressing_parameters


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="saved_tensors_is_transformer_engine * activation_element_bytes"
    " * (largest(minimum(stage_layer_count, 1) * attention_shape_parameters)"
    " + total(minimum(stage_layer_count, 1) * ffn_shape_parameters)"
    " + total(chunk_holds_head) * hidden_size * vocabulary_rows"
    " + minimum(total(chunk_prediction_count), 1) * 2 * hidden_size * hidden_size"
    " // tensor_parallel_size)",
    source=_ENGINE + "; matrices of one layer have different shapes, attention of all layers the "
    "same ones",
)
def dummy_gradient_bytes(
    saved_tensors_is_transformer_engine: Column,
    activation_element_bytes: Column,
    stage_layer_count: Axis,
    attention_shape_parameters: Axis,
    ffn_shape_parameters: Axis,
    chunk_holds_head: Axis,
    hidden_size: Column,
    vocabulary_rows: Column,
    chunk_prediction_count: Axis,
    tensor_parallel_size: Column,
) -> Column:
    """Return the dummy gradients that fused kernels keep for autograd [byte]."""
    exists = [minimum(count, 1) for count in stage_layer_count]
    attention = largest(
        [here * own for here, own in zip(exists, attention_shape_parameters, strict=True)]
    )
    ffn = total([here * own for here, own in zip(exists, ffn_shape_parameters, strict=True)])
    head = total(chunk_holds_head) * hidden_size * vocabulary_rows
    further = minimum(total(chunk_prediction_count), 1)
    projection = further * 2 * hidden_size * hidden_size // tensor_parallel_size
    elements = attention + ffn + head + projection
    return saved_tensors_is_transformer_engine * activation_element_bytes * elements
