"""Low-rank adapters beside frozen weights (LoRA): what is trained, what it does, what it keeps.

Beside a frozen projection W of (out, in) stand A of (r, in) and B of (out, r), and the output is
W x + B A x [1]_. Gradients, main weights, moments and what replicas exchange are of A and B alone.
Gradients still flow through W to its input, so that its backward has one product in place of two,
and no frozen matrix keeps its input; A keeps its own. QLoRA stores W in few bits, and turns one
matrix at a time into the format of activations for its product [2]_.

Gradients flow to the output of the embedding, as recomputation needs it (``enable_input_require_grads``
of transformers). Adapters are applied as peft applies them, without dropout [3]_: where their format is
not that of activations, each keeps a copy of its input in its own.

References
----------
.. [1] E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models," 2021, section 4.1.
   arXiv:2106.09685.
.. [2] T. Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs," 2023, section 3.
   arXiv:2305.14314.
.. [3] github.com/huggingface/peft, ``tuners/lora/layer.py``: ``Linear.forward``,
   ``_cast_input_dtype``.
"""

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
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_HU = "Hu et al. 2021, arXiv:2106.09685, section 4.1"
_KEPT = (
    _HU + "; github.com/huggingface/peft, tuners/lora/layer.py; equal to saved-tensor hooks in fp32"
)
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 5, of what is trained"
_QLORA = "Dettmers et al. 2023, arXiv:2305.14314, section 3; bitsandbytes, autograd/_functions.py"
_OPERANDS = "by counting the tensors that each operation reads and writes, once each"
_LAYER = (KIND,)
_STAGE = (STAGE,)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="hidden_size * (adapts_query + adapts_key + adapts_value)"
    " + adapts_output * num_attention_heads * head_size",
    source=_HU,
)
def attention_adapted_input_elements(
    hidden_size: Column,
    adapts_query: Column,
    adapts_key: Column,
    adapts_value: Column,
    adapts_output: Column,
    num_attention_heads: Column,
    head_size: Column,
) -> Column:
    """Return the inputs of adapted projections of a layer's attention, for one token [element]."""
    shared = hidden_size * (adapts_query + adapts_key + adapts_value)
    return shared + adapts_output * num_attention_heads * head_size


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(adapts_query * num_attention_heads + (adapts_key + adapts_value)"
    " * num_key_value_heads) * head_size + adapts_output * hidden_size",
    source=_HU,
)
def attention_adapted_output_elements(
    adapts_query: Column,
    num_attention_heads: Column,
    adapts_key: Column,
    adapts_value: Column,
    num_key_value_heads: Column,
    head_size: Column,
    adapts_output: Column,
    hidden_size: Column,
) -> Column:
    """Return the outputs of adapted projections of a layer's attention, for one token [element]."""
    heads = adapts_query * num_attention_heads
    heads = heads + (adapts_key + adapts_value) * num_key_value_heads
    return heads * head_size + adapts_output * hidden_size


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="hidden_size * (adapts_gate + adapts_up) + adapts_down * layer_intermediate_size",
    source=_HU,
)
def ffn_adapted_input_elements(
    hidden_size: Column,
    adapts_gate: Column,
    adapts_up: Column,
    adapts_down: Column,
    layer_intermediate_size: Column,
) -> Column:
    """Return the inputs of adapted projections of a feed-forward network, for one token [element]."""
    return hidden_size * (adapts_gate + adapts_up) + adapts_down * layer_intermediate_size


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_intermediate_size * (adapts_gate + adapts_up) + adapts_down * hidden_size",
    source=_HU,
)
def ffn_adapted_output_elements(
    layer_intermediate_size: Column,
    adapts_gate: Column,
    adapts_up: Column,
    adapts_down: Column,
    hidden_size: Column,
) -> Column:
    """Return the outputs of adapted projections of a feed-forward network, for one token [element]."""
    return layer_intermediate_size * (adapts_gate + adapts_up) + adapts_down * hidden_size


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_adapted_input_elements + ffn_adapted_input_elements",
    source=_HU,
)
def layer_adapted_input_elements(
    attention_adapted_input_elements: Column, ffn_adapted_input_elements: Column
) -> Column:
    """Return the inputs of a layer's adapted projections, for one token [element]."""
    return attention_adapted_input_elements + ffn_adapted_input_elements


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_adapted_output_elements + ffn_adapted_output_elements",
    source=_HU,
)
def layer_adapted_output_elements(
    attention_adapted_output_elements: Column, ffn_adapted_output_elements: Column
) -> Column:
    """Return the outputs of a layer's adapted projections, for one token [element]."""
    return attention_adapted_output_elements + ffn_adapted_output_elements


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="adapter_rank * (layer_adapted_input_elements + layer_adapted_output_elements)",
    source=_HU + "; as peft counts trainable parameters",
)
def layer_adapter_parameters(
    adapter_rank: Column,
    layer_adapted_input_elements: Column,
    layer_adapted_output_elements: Column,
) -> Column:
    """Return the parameters of a layer's adapters [parameter].

    Examples
    --------
    Rank 16 on the query and value of Llama 3.1 8B: 4096 inputs each, 4096 and 1024 outputs.

    >>> layer_adapter_parameters(16, 4096 + 4096, 4096 + 1024)
    212992
    """
    return adapter_rank * (layer_adapted_input_elements + layer_adapted_output_elements)


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, total(kind_layer_count * layer_adapter_parameters),"
    " total_parameters + multi_token_prediction_parameters)",
    source=_HU + "; without adapters all weights, those that predict further tokens included",
)
def trained_parameters(
    weights_are_frozen: Column,
    kind_layer_count: Axis,
    layer_adapter_parameters: Axis,
    total_parameters: Column,
    multi_token_prediction_parameters: Column,
) -> Column:
    """Return the parameters that training changes: all, or those of adapters alone [parameter]."""
    adapters = weighted_total(kind_layer_count, layer_adapter_parameters)
    return where(weights_are_frozen, adapters, total_parameters + multi_token_prediction_parameters)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_adapter_parameters)",
    source=_HU,
)
def chunk_adapter_parameters(chunk_layer_count: Axis, layer_adapter_parameters: Axis) -> Column:
    """Return the parameters of a chunk's adapters [parameter]."""
    return weighted_total(chunk_layer_count, layer_adapter_parameters)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, chunk_adapter_parameters, chunk_parameters)",
    source=_HU,
)
def chunk_trained_parameters(
    weights_are_frozen: Column, chunk_adapter_parameters: Column, chunk_parameters: Column
) -> Column:
    """Return the parameters of a chunk that have gradients [parameter]."""
    return where(weights_are_frozen, chunk_adapter_parameters, chunk_parameters)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(1 - weights_are_frozen) * chunk_expert_parameters",
    source=_HU,
)
def chunk_trained_expert_parameters(
    weights_are_frozen: Column, chunk_expert_parameters: Column
) -> Column:
    """Return the parameters of a chunk's experts apart that have gradients [parameter]."""
    return (1 - weights_are_frozen) * chunk_expert_parameters


@quantity(
    "parameter",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(chunk_trained_parameters)",
    source=_HU,
)
def stage_trained_parameters(chunk_trained_parameters: Axis) -> Column:
    """Return the parameters of a GPU that have gradients, before they are sharded [parameter]."""
    return total(chunk_trained_parameters)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ceil_div(stage_trained_parameters - total(chunk_trained_expert_parameters),"
    " sharding_size) + ceil_div(total(chunk_trained_expert_parameters), expert_sharding_size)",
    source=_ZERO,
)
def trained_shard_parameters(
    stage_trained_parameters: Column,
    chunk_trained_expert_parameters: Axis,
    sharding_size: Column,
    expert_sharding_size: Column,
) -> Column:
    """Return the parameters with gradients of a GPU's shard [parameter]."""
    experts = total(chunk_trained_expert_parameters)
    others = ceil_div(stage_trained_parameters - experts, sharding_size)
    return others + ceil_div(experts, expert_sharding_size)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, largest(minimum(stage_layer_count, 1)"
    " * layer_adapter_parameters), unit_parameters)",
    source="Zhao et al. 2023, arXiv:2304.11277, section 3.2: a layer is a unit of sharding",
)
def trained_unit_parameters(
    weights_are_frozen: Column,
    stage_layer_count: Axis,
    layer_adapter_parameters: Axis,
    unit_parameters: Column,
) -> Column:
    """Return the parameters with gradients of the largest layer, embedding or head [parameter]."""
    layers = [
        minimum(count, 1) * own
        for count, own in zip(stage_layer_count, layer_adapter_parameters, strict=True)
    ]
    return where(weights_are_frozen, largest(layers), unit_parameters)


@quantity(
    "byte",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, adapter_element_bytes, weight_element_bytes)",
    source="by definition",
)
def trained_element_bytes(
    weights_are_frozen: Column, adapter_element_bytes: Column, weight_element_bytes: Column
) -> Column:
    """Return the bytes of a weight that is trained [byte]."""
    return where(weights_are_frozen, adapter_element_bytes, weight_element_bytes)


@quantity(
    "byte",
    Scope.PLAN,
    basis=Basis.ASSUMED,
    formula="where(weights_are_frozen * minimum(embedding_stored_parameters, 1),"
    " activation_element_bytes, weight_element_bytes)",
    source=_QLORA + ": of weights in few bits a copy in the format of activations is read",
)
def read_element_bytes(
    weights_are_frozen: Column,
    embedding_stored_parameters: Column,
    activation_element_bytes: Column,
    weight_element_bytes: Column,
) -> Column:
    """Return the bytes of a weight as a product reads it [byte]."""
    copied = weights_are_frozen * minimum(embedding_stored_parameters, 1)
    return where(copied, activation_element_bytes, weight_element_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="weights_are_frozen * where(zero_stage >= 3, trained_shard_parameters,"
    " stage_trained_parameters) * adapter_element_bytes",
    source=_ZERO,
)
def adapter_weights_bytes(
    weights_are_frozen: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    stage_trained_parameters: Column,
    adapter_element_bytes: Column,
) -> Column:
    """Return the weights of adapters, beside the frozen ones [byte]."""
    held = where(zero_stage >= 3, trained_shard_parameters, stage_trained_parameters)
    return weights_are_frozen * held * adapter_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="weights_are_frozen * kind_is_training * narrow_matrix_parameters"
    " * activation_element_bytes",
    source=_QLORA + ": MatMul4Bit turns the matrix of one product into the format of its input",
)
def dequantized_bytes(
    weights_are_frozen: Column,
    kind_is_training: Column,
    narrow_matrix_parameters: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the copy of the largest matrix in few bits while it is multiplied [byte]."""
    trains = weights_are_frozen * kind_is_training
    return trains * narrow_matrix_parameters * activation_element_bytes


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * layer_adapter_parameters",
    source=_HU + ": two products, of rank r",
)
def layer_adapter_flop(microbatch_tokens: Column, layer_adapter_parameters: Column) -> Column:
    """Return the forward work of a layer's adapters, for one microbatch [FLOP]."""
    return 2 * microbatch_tokens * layer_adapter_parameters


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * sequence_length * layer_adapter_parameters",
    source=_HU,
)
def layer_model_adapter_flop(sequence_length: Column, layer_adapter_parameters: Column) -> Column:
    """Return the forward work that a layer's adapters need, for one sequence [FLOP]."""
    return 2 * sequence_length * layer_adapter_parameters


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="2 - weights_are_frozen",
    source=_HU + ": a frozen matrix has the gradient of its input alone",
)
def backward_product_count(weights_are_frozen: Column) -> Column:
    """Return the products of a model's matrix in the backward, for one of the forward [count]."""
    return 2 - weights_are_frozen


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_adapter_parameters * adapter_element_bytes + microbatch_tokens"
    " * (layer_adapted_input_elements + 3 * layer_adapted_output_elements"
    " + 2 * adapter_rank * (adapts_query + adapts_key + adapts_value + adapts_output"
    " + adapts_gate + adapts_up + adapts_down)) * activation_element_bytes",
    source=_OPERANDS + ": input, the r numbers between the products, output, and its sum with that "
    "of the frozen matrix",
)
def layer_adapter_bytes(
    layer_adapter_parameters: Column,
    adapter_element_bytes: Column,
    microbatch_tokens: Column,
    layer_adapted_input_elements: Column,
    layer_adapted_output_elements: Column,
    adapter_rank: Column,
    adapts_query: Column,
    adapts_key: Column,
    adapts_value: Column,
    adapts_output: Column,
    adapts_gate: Column,
    adapts_up: Column,
    adapts_down: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the traffic of a layer's adapters, forward, for one microbatch [byte]."""
    attention = adapts_query + adapts_key + adapts_value + adapts_output
    count = attention + adapts_gate + adapts_up + adapts_down
    elements = layer_adapted_input_elements + 3 * layer_adapted_output_elements
    elements = microbatch_tokens * (elements + 2 * adapter_rank * count)
    weights = layer_adapter_parameters * adapter_element_bytes
    return weights + elements * activation_element_bytes


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(layer_adapter_flop / wide_matmul_flop_per_s,"
    " layer_adapter_bytes / memory_bytes_per_s)",
    source="Williams et al. 2009, doi:10.1145/1498765.1498785",
)
def layer_adapter_s(
    layer_adapter_flop: Column,
    wide_matmul_flop_per_s: Column,
    layer_adapter_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's adapters, forward, for one microbatch [s]."""
    return maximum(
        layer_adapter_flop / wide_matmul_flop_per_s, layer_adapter_bytes / memory_bytes_per_s
    )


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="weights_are_frozen * minimum(narrow_matrix_parameters, 1)"
    " * (layer_split_stored_bytes + layer_whole_stored_bytes"
    " + (layer_split_stored_parameters + layer_whole_stored_parameters)"
    " * activation_element_bytes) / memory_bytes_per_s",
    source=_QLORA + "; " + _OPERANDS + ": stored weights read, copies written",
)
def layer_dequantization_s(
    weights_are_frozen: Column,
    narrow_matrix_parameters: Column,
    layer_split_stored_bytes: Column,
    layer_whole_stored_bytes: Column,
    layer_split_stored_parameters: Column,
    layer_whole_stored_parameters: Column,
    activation_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time to turn a layer's weights in few bits into wide ones, once [s]."""
    happens = weights_are_frozen * minimum(narrow_matrix_parameters, 1)
    stored = layer_split_stored_bytes + layer_whole_stored_bytes
    copied = layer_split_stored_parameters + layer_whole_stored_parameters
    return happens * (stored + copied * activation_element_bytes) / memory_bytes_per_s


@quantity(
    "truth",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="weights_are_frozen * (1 - (adapter_element_bytes == activation_element_bytes))",
    source=_KEPT,
)
def adapter_inputs_apart(
    weights_are_frozen: Column, adapter_element_bytes: Column, activation_element_bytes: Column
) -> Column:
    """Return whether adapters keep copies of their inputs, in a format of their own [truth]."""
    return weights_are_frozen * (1 - (adapter_element_bytes == activation_element_bytes))


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="microbatch_tokens * adapter_element_bytes * (adapter_rank * (adapts_query + adapts_key"
    " + adapts_value + adapts_output) + adapter_inputs_apart"
    " * attention_adapted_input_elements)",
    source=_KEPT,
)
def attention_adapter_bytes(
    microbatch_tokens: Column,
    adapter_element_bytes: Column,
    adapter_rank: Column,
    adapts_query: Column,
    adapts_key: Column,
    adapts_value: Column,
    adapts_output: Column,
    adapter_inputs_apart: Column,
    attention_adapted_input_elements: Column,
) -> Column:
    """Return what adapters of a layer's attention keep of their own, for one microbatch [byte]."""
    between = adapter_rank * (adapts_query + adapts_key + adapts_value + adapts_output)
    copies = adapter_inputs_apart * attention_adapted_input_elements
    return microbatch_tokens * adapter_element_bytes * (between + copies)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="microbatch_tokens * adapter_element_bytes * (adapter_rank * (adapts_gate + adapts_up"
    " + adapts_down) + adapter_inputs_apart"
    " * ffn_adapted_input_elements)",
    source=_KEPT,
)
def ffn_adapter_bytes(
    microbatch_tokens: Column,
    adapter_element_bytes: Column,
    adapter_rank: Column,
    adapts_gate: Column,
    adapts_up: Column,
    adapts_down: Column,
    adapter_inputs_apart: Column,
    ffn_adapted_input_elements: Column,
) -> Column:
    """Return what adapters of a feed-forward network keep of their own, for one microbatch [byte]."""
    between = adapter_rank * (adapts_gate + adapts_up + adapts_down)
    copies = adapter_inputs_apart * ffn_adapted_input_elements
    return microbatch_tokens * adapter_element_bytes * (between + copies)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="weights_are_frozen * microbatch_tokens * activation_element_bytes * (hidden_size"
    " * (1 - (1 - adapter_inputs_apart) * minimum(adapts_query + adapts_key + adapts_value"
    " + parallel_residual * (norms_per_layer == 1) * (adapts_gate + adapts_up), 1))"
    " + num_attention_heads * head_size * (1 - (1 - adapter_inputs_apart) * adapts_output)"
    " * maximum(1 - attention_kernel_is_flash, attention_output_gate))",
    source=_KEPT + "; a flash kernel keeps its output itself: Dao et al. 2022, arXiv:2205.14135",
)
def attention_unkept_bytes(
    weights_are_frozen: Column,
    microbatch_tokens: Column,
    activation_element_bytes: Column,
    hidden_size: Column,
    adapter_inputs_apart: Column,
    adapts_query: Column,
    adapts_key: Column,
    adapts_value: Column,
    parallel_residual: Column,
    norms_per_layer: Column,
    adapts_gate: Column,
    adapts_up: Column,
    num_attention_heads: Column,
    head_size: Column,
    adapts_output: Column,
    attention_kernel_is_flash: Column,
    attention_output_gate: Column,
) -> Column:
    """Return the inputs of frozen projections of attention that nothing keeps [byte]."""
    one_norm = parallel_residual * (norms_per_layer == 1)
    readers = adapts_query + adapts_key + adapts_value + one_norm * (adapts_gate + adapts_up)
    normed = hidden_size * (1 - (1 - adapter_inputs_apart) * minimum(readers, 1))
    only_reader = maximum(1 - attention_kernel_is_flash, attention_output_gate)
    output = num_attention_heads * head_size * (1 - (1 - adapter_inputs_apart) * adapts_output)
    elements = normed + output * only_reader
    return weights_are_frozen * microbatch_tokens * activation_element_bytes * elements


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="weights_are_frozen * microbatch_tokens * activation_element_bytes * (hidden_size"
    " * (1 - parallel_residual * (norms_per_layer == 1))"
    " * (1 - (1 - adapter_inputs_apart) * minimum(adapts_gate + adapts_up, 1))"
    " + layer_intermediate_size * (1 - (1 - adapter_inputs_apart) * adapts_down))",
    source=_KEPT,
)
def ffn_unkept_bytes(
    weights_are_frozen: Column,
    microbatch_tokens: Column,
    activation_element_bytes: Column,
    hidden_size: Column,
    parallel_residual: Column,
    norms_per_layer: Column,
    adapter_inputs_apart: Column,
    adapts_gate: Column,
    adapts_up: Column,
    layer_intermediate_size: Column,
    adapts_down: Column,
) -> Column:
    """Return the inputs of frozen matrices of a feed-forward network that nothing keeps [byte]."""
    own_norm = 1 - parallel_residual * (norms_per_layer == 1)
    unread = own_norm * (1 - (1 - adapter_inputs_apart) * minimum(adapts_gate + adapts_up, 1))
    inner = layer_intermediate_size * (1 - (1 - adapter_inputs_apart) * adapts_down)
    elements = hidden_size * unread + inner
    return weights_are_frozen * microbatch_tokens * activation_element_bytes * elements
