"""Times of layers, chunks and the end of a step, from a roofline and from links.

Matrix products take the longer of their work at an attained peak and their operands at an attained
memory bandwidth [1]_; everything between them is bound by memory. All attained fractions are
inputs with a source: none is hidden in a formula.

References
----------
.. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model
   for multicore architectures," Commun. ACM 52(4), 2009. doi:10.1145/1498765.1498785.
"""

from costmodels.collectives import ring_all_reduce_s, ring_pass_s, send_s
from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_WILLIAMS = "Williams et al. 2009, doi:10.1145/1498765.1498785"
_OPERANDS = "by counting the tensors that each operation reads and writes, once each"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_ZHAO = "Zhao et al. 2023, arXiv:2304.11277, section 3.3: what does not hide behind compute"
_LAYER = (KIND,)
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "FLOP/s",
    Scope.GPU,
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
    formula="peak_flop_per_s * accelerator_attention_efficiency_fraction",
    source=_WILLIAMS,
)
def attention_flop_per_s(
    peak_flop_per_s: Column, accelerator_attention_efficiency_fraction: Column
) -> Column:
    """Return the attained rate of attention [FLOP/s]."""
    return peak_flop_per_s * accelerator_attention_efficiency_fraction


@quantity(
    "byte/s",
    Scope.GPU,
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
    formula="layer_gpu_parameters * weight_element_bytes + microbatch_tokens"
    " * (((2 * num_attention_heads + 2 * num_key_value_heads) * head_size"
    " + experts_per_token * (2 + gated) * intermediate_size) // tensor_parallel_size"
    " + (2 + 2 * experts_per_token) * hidden_size) * activation_element_bytes",
    source=_OPERANDS,
)
def layer_matmul_bytes(
    layer_gpu_parameters: Column,
    weight_element_bytes: Column,
    microbatch_tokens: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    experts_per_token: Column,
    gated: Column,
    intermediate_size: Column,
    tensor_parallel_size: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the operands of a layer's matrix products, forward, for one microbatch [byte]."""
    heads = (2 * num_attention_heads + 2 * num_key_value_heads) * head_size
    inner = experts_per_token * (2 + gated) * intermediate_size
    outer = (2 + 2 * experts_per_token) * hidden_size
    elements = microbatch_tokens * ((heads + inner) // tensor_parallel_size + outer)
    return layer_gpu_parameters * weight_element_bytes + elements * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="(10 * sharded_tokens * hidden_size + microbatch_tokens * (2 * (1 - positions_is_learned)"
    " * (num_attention_heads + num_key_value_heads) * head_size"
    " + experts_per_token * (2 + gated) * intermediate_size) // tensor_parallel_size)"
    " * activation_element_bytes",
    source=_OPERANDS + ": two norms, two residual additions, rotation, activation function",
)
def layer_elementwise_bytes(
    sharded_tokens: Column,
    hidden_size: Column,
    microbatch_tokens: Column,
    positions_is_learned: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    experts_per_token: Column,
    gated: Column,
    intermediate_size: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the traffic of a layer's elementwise operations, forward, for one microbatch [byte]."""
    heads = (num_attention_heads + num_key_value_heads) * head_size
    rotated = 2 * (1 - positions_is_learned) * heads
    inner = experts_per_token * (2 + gated) * intermediate_size
    split = microbatch_tokens * (rotated + inner) // tensor_parallel_size
    return (10 * sharded_tokens * hidden_size + split) * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(attention_kernel_is_flash, 0, 4 * (microbatch_tokens * sequence_length"
    " * num_attention_heads // tensor_parallel_size) * activation_element_bytes)",
    source=_OPERANDS + ": scores and probabilities of a naive kernel, written and read",
)
def layer_score_bytes(
    attention_kernel_is_flash: Column,
    microbatch_tokens: Column,
    sequence_length: Column,
    num_attention_heads: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the traffic of a layer's matrix of scores, forward, for one microbatch [byte]."""
    scores = microbatch_tokens * sequence_length * num_attention_heads // tensor_parallel_size
    return where(attention_kernel_is_flash, 0, 4 * scores * activation_element_bytes)


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
    formula="layer_matmul_s + layer_attention_s + layer_elementwise_bytes / memory_bytes_per_s",
    source="the sum of its parts, one after the other",
)
def layer_forward_s(
    layer_matmul_s: Column,
    layer_attention_s: Column,
    layer_elementwise_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's forward, for one microbatch [s]."""
    return layer_matmul_s + layer_attention_s + layer_elementwise_bytes / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="2 * layer_matmul_s + layer_attention_backward_flop / attention_flop_per_s"
    " + 2 * (layer_score_bytes + layer_elementwise_bytes) / memory_bytes_per_s",
    source="two products for each of the forward; tensors and their gradients are read and written",
)
def layer_backward_s(
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
    return 2 * layer_matmul_s + attention + traffic / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="recompute_is_full * layer_forward_s + recompute_is_selective * layer_attention_s",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 5",
)
def layer_recompute_s(
    recompute_is_full: Column,
    layer_forward_s: Column,
    recompute_is_selective: Column,
    layer_attention_s: Column,
) -> Column:
    """Return the time of what a layer's backward computes again, for one microbatch [s]."""
    return recompute_is_full * layer_forward_s + recompute_is_selective * layer_attention_s


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="maximum(head_flop / matmul_flop_per_s, vocabulary_rows * hidden_size"
    " * weight_element_bytes / memory_bytes_per_s)"
    " + 3 * microbatch_tokens * vocabulary_rows * logits_element_bytes / memory_bytes_per_s",
    source=_WILLIAMS + "; logits written, read for the maximum and for the sum",
)
def head_forward_s(
    head_flop: Column,
    matmul_flop_per_s: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    weight_element_bytes: Column,
    memory_bytes_per_s: Column,
    microbatch_tokens: Column,
    logits_element_bytes: Column,
) -> Column:
    """Return the time of head and loss, forward, for one microbatch [s]."""
    weights = vocabulary_rows * hidden_size * weight_element_bytes
    logits = 3 * microbatch_tokens * vocabulary_rows * logits_element_bytes
    product = maximum(head_flop / matmul_flop_per_s, weights / memory_bytes_per_s)
    return product + logits / memory_bytes_per_s


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
    " + chunk_holds_embedding * embedding_forward_s + chunk_holds_head * head_forward_s",
    source="the sum of its parts",
)
def chunk_forward_compute_s(
    chunk_layer_count: Axis,
    layer_forward_s: Axis,
    chunk_holds_embedding: Column,
    embedding_forward_s: Column,
    chunk_holds_head: Column,
    head_forward_s: Column,
) -> Column:
    """Return the compute time of a chunk's forward, for one microbatch [s]."""
    return (
        weighted_total(chunk_layer_count, layer_forward_s)
        + chunk_holds_embedding * embedding_forward_s
        + chunk_holds_head * head_forward_s
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_backward_s)"
    " + 2 * (chunk_holds_embedding * embedding_forward_s + chunk_holds_head * head_forward_s)",
    source="the sum of its parts; the ends take twice their forward",
)
def chunk_backward_compute_s(
    chunk_layer_count: Axis,
    layer_backward_s: Axis,
    chunk_holds_embedding: Column,
    embedding_forward_s: Column,
    chunk_holds_head: Column,
    head_forward_s: Column,
) -> Column:
    """Return the compute time of a chunk's backward, nothing computed again, for a microbatch [s]."""
    ends = chunk_holds_embedding * embedding_forward_s + chunk_holds_head * head_forward_s
    return weighted_total(chunk_layer_count, layer_backward_s) + 2 * ends


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_recompute_s)",
    source="the sum of its parts",
)
def chunk_recompute_s(chunk_layer_count: Axis, layer_recompute_s: Axis) -> Column:
    """Return the time of what a chunk's backward computes again, for one microbatch [s]."""
    return weighted_total(chunk_layer_count, layer_recompute_s)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_all_reduce_s(hidden_all_reduce_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def hidden_all_reduce_s(
    hidden_all_reduce_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of one all-reduce of a microbatch's activation [s]."""
    return ring_all_reduce_s(
        hidden_all_reduce_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_pass_s(hidden_all_gather_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def hidden_all_gather_s(
    hidden_all_gather_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of one all-gather or reduce-scatter of that activation [s]."""
    return ring_pass_s(
        hidden_all_gather_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="6 * (tensor_parallel_size - 1) * tensor_latency_s"
    " + loss_all_reduce_bytes / tensor_bandwidth_bytes_per_s",
    source=_RING + ": three all-reduces",
)
def loss_all_reduce_s(
    tensor_parallel_size: Column,
    tensor_latency_s: Column,
    loss_all_reduce_bytes: Column,
    tensor_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time of the vocabulary-parallel loss's all-reduces, for one microbatch [s]."""
    latency = 6 * (tensor_parallel_size - 1) * tensor_latency_s
    return latency + loss_all_reduce_bytes / tensor_bandwidth_bytes_per_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="forward_all_reduces * hidden_all_reduce_s + chunk_holds_head * loss_all_reduce_s",
    source="Shoeybi et al. 2019, arXiv:1909.08053: nothing to hide behind",
)
def chunk_forward_tensor_s(
    forward_all_reduces: Column,
    hidden_all_reduce_s: Column,
    chunk_holds_head: Column,
    loss_all_reduce_s: Column,
) -> Column:
    """Return the all-reduces that a chunk's forward waits for, for one microbatch [s]."""
    return forward_all_reduces * hidden_all_reduce_s + chunk_holds_head * loss_all_reduce_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="backward_all_reduces * hidden_all_reduce_s",
    source="Shoeybi et al. 2019, arXiv:1909.08053: nothing to hide behind",
)
def chunk_backward_tensor_s(backward_all_reduces: Column, hidden_all_reduce_s: Column) -> Column:
    """Return the all-reduces that a chunk's backward waits for, for one microbatch [s]."""
    return backward_all_reduces * hidden_all_reduce_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="forward_ring_passes * hidden_all_gather_s",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2",
)
def chunk_forward_sequence_s(forward_ring_passes: Column, hidden_all_gather_s: Column) -> Column:
    """Return the sequence-parallel collectives that a chunk's forward waits for [s]."""
    return forward_ring_passes * hidden_all_gather_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="backward_ring_passes * hidden_all_gather_s",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: what is gathered again for "
    "the weight gradient hides behind the input gradient",
)
def chunk_backward_sequence_s(backward_ring_passes: Column, hidden_all_gather_s: Column) -> Column:
    """Return the sequence-parallel collectives that a chunk's backward waits for [s]."""
    return backward_ring_passes * hidden_all_gather_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * ring_pass_s(chunk_gather_bytes, group_size=data_parallel_size,"
    " bandwidth_bytes_per_s=data_bandwidth_bytes_per_s, latency_s=data_latency_s)",
    source=_RING,
)
def chunk_gather_s(
    chunk_exists: Column,
    chunk_gather_bytes: Column,
    data_parallel_size: Column,
    data_bandwidth_bytes_per_s: Column,
    data_latency_s: Column,
) -> Column:
    """Return the time to gather a chunk's sharded weights once [s]."""
    return chunk_exists * ring_pass_s(
        chunk_gather_bytes,
        group_size=data_parallel_size,
        bandwidth_bytes_per_s=data_bandwidth_bytes_per_s,
        latency_s=data_latency_s,
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * ring_pass_s(chunk_gradient_bytes, group_size=data_parallel_size,"
    " bandwidth_bytes_per_s=data_bandwidth_bytes_per_s, latency_s=data_latency_s)",
    source=_RING,
)
def chunk_gradient_s(
    chunk_exists: Column,
    chunk_gradient_bytes: Column,
    data_parallel_size: Column,
    data_bandwidth_bytes_per_s: Column,
    data_latency_s: Column,
) -> Column:
    """Return the time to reduce and scatter a chunk's gradients once [s]."""
    return chunk_exists * ring_pass_s(
        chunk_gradient_bytes,
        group_size=data_parallel_size,
        bandwidth_bytes_per_s=data_bandwidth_bytes_per_s,
        latency_s=data_latency_s,
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="(zero_stage >= 3) * chunk_exists * maximum(chunk_gather_s"
    " - overlap_parameter_gather * chunk_forward_compute_s, 0.0)",
    source=_ZHAO,
)
def chunk_forward_data_s(
    zero_stage: Column,
    chunk_exists: Column,
    chunk_gather_s: Column,
    overlap_parameter_gather: Column,
    chunk_forward_compute_s: Column,
) -> Column:
    """Return the gather of weights that a chunk's forward waits for, for one microbatch [s]."""
    visible = chunk_gather_s - overlap_parameter_gather * chunk_forward_compute_s
    return (zero_stage >= 3) * chunk_exists * maximum(visible, 0.0)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (maximum((zero_stage >= 3) * overlap_parameter_gather * chunk_gather_s"
    " + (zero_stage >= 2) * overlap_gradient_reduction * chunk_gradient_s"
    " - chunk_backward_compute_s, 0.0)"
    " + (zero_stage >= 3) * (1 - overlap_parameter_gather) * chunk_gather_s"
    " + (zero_stage >= 2) * (1 - overlap_gradient_reduction) * chunk_gradient_s)",
    source=_ZHAO + "; both use the same links",
)
def chunk_backward_data_s(
    chunk_exists: Column,
    zero_stage: Column,
    overlap_parameter_gather: Column,
    chunk_gather_s: Column,
    overlap_gradient_reduction: Column,
    chunk_gradient_s: Column,
    chunk_backward_compute_s: Column,
) -> Column:
    """Return the traffic of sharding that a chunk's backward waits for, for one microbatch [s]."""
    gather = (zero_stage >= 3) * chunk_gather_s
    gradient = (zero_stage >= 2) * chunk_gradient_s
    hidden = overlap_parameter_gather * gather + overlap_gradient_reduction * gradient
    visible = (1 - overlap_parameter_gather) * gather + (1 - overlap_gradient_reduction) * gradient
    return chunk_exists * (maximum(hidden - chunk_backward_compute_s, 0.0) + visible)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_compute_s + chunk_forward_tensor_s + chunk_forward_sequence_s"
    " + chunk_forward_data_s",
    source="the sum of its parts",
)
def chunk_forward_s(
    chunk_forward_compute_s: Column,
    chunk_forward_tensor_s: Column,
    chunk_forward_sequence_s: Column,
    chunk_forward_data_s: Column,
) -> Column:
    """Return the time of a chunk's forward, for one microbatch [s]."""
    return (
        chunk_forward_compute_s
        + chunk_forward_tensor_s
        + chunk_forward_sequence_s
        + chunk_forward_data_s
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_compute_s + chunk_recompute_s + chunk_backward_tensor_s"
    " + chunk_backward_sequence_s + chunk_backward_data_s",
    source="the sum of its parts",
)
def chunk_backward_s(
    chunk_backward_compute_s: Column,
    chunk_recompute_s: Column,
    chunk_backward_tensor_s: Column,
    chunk_backward_sequence_s: Column,
    chunk_backward_data_s: Column,
) -> Column:
    """Return the time of a chunk's backward with what it computes again, for one microbatch [s]."""
    return (
        chunk_backward_compute_s
        + chunk_recompute_s
        + chunk_backward_tensor_s
        + chunk_backward_sequence_s
        + chunk_backward_data_s
    )


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    group="time",
    formula="total(chunk_forward_s + chunk_backward_s)",
    source="the sum of its parts",
)
def stage_microbatch_s(chunk_forward_s: Axis, chunk_backward_s: Axis) -> Column:
    """Return the time that a GPU works for one microbatch [s]."""
    return total(
        [
            forward + backward
            for forward, backward in zip(chunk_forward_s, chunk_backward_s, strict=True)
        ]
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_parallel_size > 1, send_s(hop_bytes,"
    " bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s, latency_s=pipeline_latency_s), 0.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def hop_s(
    pipeline_parallel_size: Column,
    hop_bytes: Column,
    pipeline_bandwidth_bytes_per_s: Column,
    pipeline_latency_s: Column,
) -> Column:
    """Return the time from the end of a chunk to the arrival of its output at the next [s]."""
    hop = send_s(
        hop_bytes,
        bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s,
        latency_s=pipeline_latency_s,
    )
    return where(pipeline_parallel_size > 1, hop, 0.0)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="where(zero_stage >= 2, 0.0, (2 - minimum(zero_stage, 1)) * total(chunk_gradient_s))",
    source=_RING + "; sharded gradients were scattered in the backward",
)
def reduction_s(zero_stage: Column, chunk_gradient_s: Axis) -> Column:
    """Return the time to reduce the gradients at the end of a step [s]."""
    passes = 2 - minimum(zero_stage, 1)
    return where(zero_stage >= 2, 0.0, passes * total(chunk_gradient_s))


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="reduction_s * where(overlap_gradient_reduction, unit_parameters / maximum(stage_parameters, 1), 1.0)",
    source="Li et al. 2020, arXiv:2006.15704, section 3.2.3: the last bucket, here one layer, is "
    "ready when the backward ends",
)
def last_reduction_s(
    reduction_s: Column,
    overlap_gradient_reduction: Column,
    unit_parameters: Column,
    stage_parameters: Column,
) -> Column:
    """Return the part of the reduction that cannot start before the last backward ends [s]."""
    last = where(overlap_gradient_reduction, unit_parameters / maximum(stage_parameters, 1), 1.0)
    return reduction_s * last


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="maximum(reduction_s - first(chunk_backward_s), last_reduction_s)",
    source="Li et al. 2020, arXiv:2006.15704, section 3.2.3: the rest hides behind the last "
    "backward of the first chunk",
)
def exposed_reduction_s(
    reduction_s: Column, chunk_backward_s: Axis, last_reduction_s: Column
) -> Column:
    """Return the time that the end of a step waits for the reduction of gradients [s]."""
    return maximum(reduction_s - chunk_backward_s[0], last_reduction_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="minimum(tied_embedding_bytes, 1) * 2 * pipeline_latency_s"
    " + tied_embedding_bytes / pipeline_bandwidth_bytes_per_s",
    source="Narayanan et al. 2021, arXiv:2104.04473: after the backward, nothing to hide behind; "
    + _RING,
)
def tied_embedding_s(
    tied_embedding_bytes: Column,
    pipeline_latency_s: Column,
    pipeline_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time to add the gradients of a tied embedding's copies [s]."""
    steps = minimum(tied_embedding_bytes, 1) * 2
    return steps * pipeline_latency_s + tied_embedding_bytes / pipeline_bandwidth_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="where((zero_stage == 1) + (zero_stage == 2), maximum(total(chunk_gather_s)"
    " - overlap_parameter_gather * first(chunk_forward_s), 0.0), 0.0)",
    source=_ZHAO + ": the first forward of the next step",
)
def exposed_gather_s(
    zero_stage: Column,
    chunk_gather_s: Axis,
    overlap_parameter_gather: Column,
    chunk_forward_s: Axis,
) -> Column:
    """Return the time that a step waits for the gather of updated weights [s]."""
    visible = total(chunk_gather_s) - overlap_parameter_gather * chunk_forward_s[0]
    return where((zero_stage == 1) + (zero_stage == 2), maximum(visible, 0.0), 0.0)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="ceil_div(stage_parameters, where(zero_stage >= 1, data_parallel_size, 1))"
    " * (gradient_element_bytes + 2 * main_weight_element_bytes + 2 * moment_count"
    " * moment_element_bytes + weight_element_bytes"
    " * (1 + (main_weight_element_bytes == 0))) / memory_bytes_per_s",
    source=_OPERANDS
    + ": gradient read; main weights and moments read and written; weights written",
)
def stage_optimizer_s(
    stage_parameters: Column,
    zero_stage: Column,
    data_parallel_size: Column,
    gradient_element_bytes: Column,
    main_weight_element_bytes: Column,
    moment_count: Column,
    moment_element_bytes: Column,
    weight_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a GPU's optimizer, bound by memory [s]."""
    updated = ceil_div(stage_parameters, where(zero_stage >= 1, data_parallel_size, 1))
    element_bytes = (
        gradient_element_bytes
        + 2 * main_weight_element_bytes
        + 2 * moment_count * moment_element_bytes
        + weight_element_bytes * (1 + (main_weight_element_bytes == 0))
    )
    return updated * element_bytes / memory_bytes_per_s
