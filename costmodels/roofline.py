"""Compute times of layers and chunks, from a roofline.

Matrix products take the longer of their work at an attained peak and their operands at an attained
memory bandwidth [1]_; everything between them is bound by memory. All attained fractions are
inputs with a source: none is hidden in a formula.

References
----------
.. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model
   for multicore architectures," Commun. ACM 52(4), 2009. doi:10.1145/1498765.1498785.
"""

from costmodels.columns import Axis, Column, maximum, minimum, weighted_total, where
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_WILLIAMS = "Williams et al. 2009, doi:10.1145/1498765.1498785"
_OPERANDS = "by counting the tensors that each operation reads and writes, once each"
_LAYER = (KIND,)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "FLOP/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="peak_flop_per_s * accelerator_matmul_efficiency_fraction",
    source=_WILLIAMS,
)
def matmul_flop_per_s(
    peak_flop_per_s: Column, accelerator_matmul_efficiency_fraction: Column
) -> Column:
    """Return the attained rate of matrix products [FLOP/s]."""
    return peak_flop_per_s * accelerator_matmul_efficiency_fraction


@quantity(
    "FLOP/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="wide_peak_flop_per_s * accelerator_attention_efficiency_fraction",
    source=_WILLIAMS,
)
def attention_flop_per_s(
    wide_peak_flop_per_s: Column, accelerator_attention_efficiency_fraction: Column
) -> Column:
    """Return the attained rate of attention, which stays in 16 bits or more [FLOP/s]."""
    return wide_peak_flop_per_s * accelerator_attention_efficiency_fraction


@quantity(
    "FLOP/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="wide_peak_flop_per_s * accelerator_matmul_efficiency_fraction",
    source=_WILLIAMS + "; the head is left out of FP8 in TransformerEngine's recipes",
)
def wide_matmul_flop_per_s(
    wide_peak_flop_per_s: Column, accelerator_matmul_efficiency_fraction: Column
) -> Column:
    """Return the attained rate of products that stay in 16 bits or more: the head's [FLOP/s]."""
    return wide_peak_flop_per_s * accelerator_matmul_efficiency_fraction


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="accelerator_memory_bandwidth_bytes_per_s * accelerator_memory_efficiency_fraction",
    source=_WILLIAMS,
)
def memory_bytes_per_s(
    accelerator_memory_bandwidth_bytes_per_s: Column,
    accelerator_memory_efficiency_fraction: Column,
) -> Column:
    """Return the attained memory bandwidth [byte/s]."""
    return accelerator_memory_bandwidth_bytes_per_s * accelerator_memory_efficiency_fraction


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_gpu_parameters * read_element_bytes + (microbatch_tokens"
    " * ((attention_projected_elements + (2 + gated) * shared_intermediate_size)"
    " // tensor_parallel_size + (2 + 2 * minimum(shared_intermediate_size, 1)) * hidden_size)"
    " + expert_rows * ((2 + gated) * layer_intermediate_size // layer_split_size"
    " + 2 * hidden_size) + sharded_tokens * attention_compressed_elements) * activation_element_bytes",
    source=_OPERANDS,
)
def layer_matmul_bytes(
    layer_gpu_parameters: Column,
    read_element_bytes: Column,
    microbatch_tokens: Column,
    attention_projected_elements: Column,
    expert_rows: Column,
    gated: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    shared_intermediate_size: Column,
    tensor_parallel_size: Column,
    hidden_size: Column,
    sharded_tokens: Column,
    attention_compressed_elements: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the operands of a layer's matrix products, forward, for one microbatch [byte]."""
    shared = (2 + gated) * shared_intermediate_size
    split = (attention_projected_elements + shared) // tensor_parallel_size
    outer = (2 + 2 * minimum(shared_intermediate_size, 1)) * hidden_size
    row = (2 + gated) * layer_intermediate_size // layer_split_size + 2 * hidden_size
    whole = sharded_tokens * attention_compressed_elements
    elements = microbatch_tokens * (split + outer) + expert_rows * row + whole
    return layer_gpu_parameters * read_element_bytes + elements * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="((6 + 2 * norms_per_layer) * sharded_tokens * hidden_size"
    " + sharded_tokens * attention_compressed_elements + microbatch_tokens"
    " * (attention_rotated_elements + (2 + gated) * shared_intermediate_size)"
    " // tensor_parallel_size + expert_rows * (2 + gated) * layer_intermediate_size"
    " // layer_split_size) * activation_element_bytes",
    source=_OPERANDS + ": norms, two residual additions, rotation, norms and gate of heads, "
    "activation function",
)
def layer_elementwise_bytes(
    norms_per_layer: Column,
    sharded_tokens: Column,
    hidden_size: Column,
    attention_compressed_elements: Column,
    microbatch_tokens: Column,
    attention_rotated_elements: Column,
    expert_rows: Column,
    gated: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    shared_intermediate_size: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the traffic of a layer's elementwise operations, forward, for one microbatch [byte]."""
    inner = attention_rotated_elements + (2 + gated) * shared_intermediate_size
    split = microbatch_tokens * inner // tensor_parallel_size
    rows = expert_rows * (2 + gated) * layer_intermediate_size // layer_split_size
    whole = (6 + 2 * norms_per_layer) * hidden_size + attention_compressed_elements
    return (sharded_tokens * whole + split + rows) * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(attention_kernel_is_flash, 0, 4 * (micro_batch_size * executed_pairs"
    " // context_parallel_size * num_attention_heads // tensor_parallel_size)"
    " * activation_element_bytes)"
    " + micro_batch_size * attention_state_traffic_bytes // tensor_parallel_size",
    source=_OPERANDS + ": scores and probabilities of a naive kernel, written and read; states",
)
def layer_score_bytes(
    attention_kernel_is_flash: Column,
    micro_batch_size: Column,
    executed_pairs: Column,
    context_parallel_size: Column,
    num_attention_heads: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
    attention_state_traffic_bytes: Column,
) -> Column:
    """Return the traffic of a layer's scores and states, forward, for one microbatch [byte]."""
    pairs = micro_batch_size * executed_pairs // context_parallel_size
    scores = pairs * num_attention_heads // tensor_parallel_size
    naive = where(attention_kernel_is_flash, 0, 4 * scores * activation_element_bytes)
    return naive + micro_batch_size * attention_state_traffic_bytes // tensor_parallel_size


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(layer_matmul_flop / matmul_flop_per_s, layer_matmul_bytes / memory_bytes_per_s)",
    source=_WILLIAMS,
)
def layer_matmul_s(
    layer_matmul_flop: Column,
    matmul_flop_per_s: Column,
    layer_matmul_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's matrix products, forward, for one microbatch [s]."""
    return maximum(layer_matmul_flop / matmul_flop_per_s, layer_matmul_bytes / memory_bytes_per_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_attention_flop / attention_flop_per_s + layer_score_bytes / memory_bytes_per_s",
    source=_WILLIAMS,
)
def layer_attention_s(
    layer_attention_flop: Column,
    attention_flop_per_s: Column,
    layer_score_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's attention, forward, for one microbatch [s]."""
    return layer_attention_flop / attention_flop_per_s + layer_score_bytes / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="layer_matmul_s + layer_attention_s + layer_elementwise_bytes / memory_bytes_per_s"
    " + (layer_adapter_s + layer_dequantization_s)",
    source="the sum of its parts, one after the other",
)
def layer_forward_s(
    layer_matmul_s: Column,
    layer_attention_s: Column,
    layer_elementwise_bytes: Column,
    memory_bytes_per_s: Column,
    layer_adapter_s: Column,
    layer_dequantization_s: Column,
) -> Column:
    """Return the time of a layer's forward, for one microbatch [s]."""
    own_s = layer_matmul_s + layer_attention_s + layer_elementwise_bytes / memory_bytes_per_s
    return own_s + (layer_adapter_s + layer_dequantization_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="backward_product_count * layer_matmul_s"
    " + layer_attention_backward_flop / attention_flop_per_s"
    " + 2 * (layer_score_bytes + layer_elementwise_bytes) / memory_bytes_per_s"
    " + (2 * layer_adapter_s + layer_dequantization_s)",
    source="two products for each of the forward, one for each of a frozen matrix; tensors and "
    "their gradients are read and written",
)
def layer_backward_s(
    backward_product_count: Column,
    layer_adapter_s: Column,
    layer_dequantization_s: Column,
    layer_matmul_s: Column,
    layer_attention_backward_flop: Column,
    attention_flop_per_s: Column,
    layer_score_bytes: Column,
    layer_elementwise_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's backward without recomputation, for one microbatch [s]."""
    traffic = 2 * (layer_score_bytes + layer_elementwise_bytes)
    attention = layer_attention_backward_flop / attention_flop_per_s
    own_s = backward_product_count * layer_matmul_s + attention + traffic / memory_bytes_per_s
    return own_s + (2 * layer_adapter_s + layer_dequantization_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="recompute_is_full * layer_forward_s + core_is_repeated * layer_attention_s"
    " + layer_module_recompute_s",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 5",
)
def layer_recompute_s(
    recompute_is_full: Column,
    layer_forward_s: Column,
    core_is_repeated: Column,
    layer_attention_s: Column,
    layer_module_recompute_s: Column,
) -> Column:
    """Return the time of what a layer's backward computes again, for one microbatch [s]."""
    own_s = recompute_is_full * layer_forward_s + core_is_repeated * layer_attention_s
    return own_s + layer_module_recompute_s


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="maximum(head_flop / wide_matmul_flop_per_s,"
    " vocabulary_rows * hidden_size * read_element_bytes / memory_bytes_per_s)",
    source=_WILLIAMS,
)
def head_product_s(
    head_flop: Column,
    wide_matmul_flop_per_s: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    read_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of the head's matrix product, forward, for one microbatch [s]."""
    weights = vocabulary_rows * hidden_size * read_element_bytes
    return maximum(head_flop / wide_matmul_flop_per_s, weights / memory_bytes_per_s)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="head_product_s"
    " + 3 * microbatch_tokens * vocabulary_rows * logits_element_bytes / memory_bytes_per_s",
    source=_OPERANDS + ": logits written, read for the maximum and for the sum",
)
def head_forward_s(
    head_product_s: Column,
    microbatch_tokens: Column,
    vocabulary_rows: Column,
    logits_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of head and loss, forward, for one microbatch [s]."""
    logits = 3 * microbatch_tokens * vocabulary_rows * logits_element_bytes
    return head_product_s + logits / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="2 * layer_input_bytes / memory_bytes_per_s",
    source=_OPERANDS + ": rows read and written",
)
def embedding_forward_s(layer_input_bytes: Column, memory_bytes_per_s: Column) -> Column:
    """Return the time of the embedding, forward, for one microbatch [s]."""
    return 2 * layer_input_bytes / memory_bytes_per_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_forward_s)"
    " + chunk_embedding_passes * embedding_forward_s + chunk_head_passes * head_forward_s"
    " + chunk_prediction_count * prediction_forward_s",
    source="the sum of its parts",
)
def chunk_forward_compute_s(
    chunk_layer_count: Axis,
    layer_forward_s: Axis,
    chunk_embedding_passes: Column,
    embedding_forward_s: Column,
    chunk_head_passes: Column,
    head_forward_s: Column,
    chunk_prediction_count: Column,
    prediction_forward_s: Column,
) -> Column:
    """Return the compute time of a chunk's forward, for one microbatch [s]."""
    return (
        weighted_total(chunk_layer_count, layer_forward_s)
        + chunk_embedding_passes * embedding_forward_s
        + chunk_head_passes * head_forward_s
        + chunk_prediction_count * prediction_forward_s
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="2 * chunk_trained_parameters * gradient_element_bytes / memory_bytes_per_s",
    source=_OPERANDS + ": gradients of a microbatch are added to those of the others",
)
def chunk_accumulation_s(
    chunk_trained_parameters: Column, gradient_element_bytes: Column, memory_bytes_per_s: Column
) -> Column:
    """Return the time to add a chunk's gradients to the accumulated ones, for a microbatch [s]."""
    return 2 * chunk_trained_parameters * gradient_element_bytes / memory_bytes_per_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_backward_s)"
    " + 2 * (chunk_embedding_passes * embedding_forward_s + chunk_head_passes * head_forward_s"
    " + chunk_prediction_count * prediction_forward_s)"
    " + chunk_accumulation_s - weights_are_frozen * (2 * chunk_embedding_passes"
    " * embedding_forward_s + chunk_head_passes * head_product_s)",
    source="the sum of its parts; the ends take twice their forward, but for the gradients of "
    "frozen weights",
)
def chunk_backward_compute_s(
    chunk_layer_count: Axis,
    layer_backward_s: Axis,
    chunk_embedding_passes: Column,
    embedding_forward_s: Column,
    chunk_head_passes: Column,
    head_forward_s: Column,
    chunk_prediction_count: Column,
    prediction_forward_s: Column,
    chunk_accumulation_s: Column,
    weights_are_frozen: Column,
    head_product_s: Column,
) -> Column:
    """Return the compute time of a chunk's backward, nothing computed again, for a microbatch [s]."""
    ends = chunk_embedding_passes * embedding_forward_s + chunk_head_passes * head_forward_s
    ends = ends + chunk_prediction_count * prediction_forward_s
    layers = weighted_total(chunk_layer_count, layer_backward_s)
    frozen = 2 * chunk_embedding_passes * embedding_forward_s + chunk_head_passes * head_product_s
    return layers + 2 * ends + chunk_accumulation_s - weights_are_frozen * frozen


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(kind_repeated_layers * layer_recompute_s)"
    " + chunk_prediction_repeated_count * prediction_forward_s",
    source="the sum of its parts",
)
def chunk_recompute_s(
    kind_repeated_layers: Axis,
    layer_recompute_s: Axis,
    chunk_prediction_repeated_count: Column,
    prediction_forward_s: Column,
) -> Column:
    """Return the time of what a chunk's backward computes again, for one microbatch [s]."""
    further = chunk_prediction_repeated_count * prediction_forward_s
    return weighted_total(kind_repeated_layers, layer_recompute_s) + further
