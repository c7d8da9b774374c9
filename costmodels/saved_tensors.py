"""What torch's autograd keeps of a layer, where no library decides it: tensor by tensor.

Two conventions. *Eager on a CPU* is what torch keeps of plain modules and products, with the matrix
of scores in memory: proved equal, to the byte, to the storages that saved-tensor hooks see. *On
CUDA* the same modules run fused kernels for norms and attention, which keep less [1]_; derived from
what these kernels document, not measured here.

A residual sum keeps nothing. A norm keeps its input, statistics in fp32, and its output where a
matrix reads it; an RMSNorm made of products keeps the normalized input too. Rotation keeps sines
and cosines only. Of a gated network silu keeps its input, and the product both its factors.

References
----------
.. [1] ``tools/autograd/derivatives.yaml`` of github.com/pytorch/pytorch: what the backward of each
   operator takes; ``aten/src/ATen/native/native_functions.yaml``: what ``_fused_rms_norm`` and
   ``_scaled_dot_product_flash_attention`` return.
"""

from costmodels.columns import Column, where
from costmodels.quantities import KIND, Basis, Scope, quantity

_TORCH = (
    "what torch's autograd keeps of plain modules: derivatives.yaml of github.com/pytorch/pytorch, "
    "torch 2.13; eager: equal to saved-tensor hooks; fused kernels: as they document it"
)
_LAYER = (KIND,)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="sharded_tokens * ((1 + saved_tensors_is_torch_eager_cpu * norm_is_rmsnorm"
    " * (1 - weights_are_frozen)) * hidden_size * activation_element_bytes"
    " + 4 * (2 - norm_is_rmsnorm))",
    source=_TORCH,
)
def torch_norm_bytes(
    sharded_tokens: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    norm_is_rmsnorm: Column,
    weights_are_frozen: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the memory that torch keeps of a norm beside its output, for one microbatch [byte].

    Examples
    --------
    Sixteen tokens of 24 elements in fp32: input, normalized input and a statistic.

    >>> torch_norm_bytes(16, 1, 1, 0, 24, 4) == 16 * (2 * 24 + 1) * 4
    True
    """
    # The normalized input is kept for the gradient of the norm's weight.
    products = saved_tensors_is_torch_eager_cpu * norm_is_rmsnorm * (1 - weights_are_frozen)
    vectors = 1 + products
    statistics = 4 * (2 - norm_is_rmsnorm)
    return sharded_tokens * (vectors * hidden_size * activation_element_bytes + statistics)


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(key_value_rank > 0, num_attention_heads * (2 * (unrotated_size + rotated_size)"
    " + 2 * value_size + (1 - saved_tensors_is_torch_eager_cpu * (1 - core_is_repeated)"
    " * (micro_batch_size > 1) * (num_attention_heads > 1) * (sequence_length > 1))"
    " * unrotated_size), 2 * num_attention_heads * head_size"
    " + 2 * where(saved_tensors_is_torch_eager_cpu, num_attention_heads, held_key_value_head_count)"
    " * head_size + 2 * attention_output_gate * num_attention_heads * head_size"
    " + (num_attention_heads + held_key_value_head_count) * head_size * where(query_key_norm_is_none, 0,"
    " 1 + saved_tensors_is_torch_eager_cpu * norm_is_rmsnorm * (1 - query_key_norm_is_unscaled)"
    " * (1 - weights_are_frozen)))",
    source=_TORCH + "; keys and values are repeated for all heads, or shared by the kernel; a "
    "value that is a view keeps the expanded keys too",
)
def torch_head_elements(
    key_value_rank: Column,
    num_attention_heads: Column,
    held_key_value_head_count: Column,
    head_size: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
    attention_output_gate: Column,
    query_key_norm_is_none: Column,
    query_key_norm_is_unscaled: Column,
    norm_is_rmsnorm: Column,
    core_is_repeated: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    micro_batch_size: Column,
    sequence_length: Column,
    weights_are_frozen: Column,
) -> Column:
    """Return the elements that torch keeps of a layer's heads beside scores, for one token [element].

    Notes
    -----
    Query, key, value and output; a gate after its sigmoid, and its product; what a norm of queries
    and keys keeps. Eager products copy a value that is a view, but of one head, token or sequence; a checkpoint
    around the inside of attention keeps what it views.
    """
    eager = saved_tensors_is_torch_eager_cpu
    is_copied = (micro_batch_size > 1) * (num_attention_heads > 1) * (sequence_length > 1)
    is_view = 1 - eager * (1 - core_is_repeated) * is_copied
    latent = num_attention_heads * (
        2 * (unrotated_size + rotated_size) + 2 * value_size + is_view * unrotated_size
    )
    queries = num_attention_heads * head_size
    shared = where(eager, num_attention_heads, held_key_value_head_count) * head_size
    both = (num_attention_heads + held_key_value_head_count) * head_size
    scaled = (1 - query_key_norm_is_unscaled) * (1 - weights_are_frozen)
    copies = 1 + eager * norm_is_rmsnorm * scaled
    norms = both * where(query_key_norm_is_none, 0, copies)
    plain = 2 * queries + 2 * shared + 2 * attention_output_gate * queries + norms
    return where(key_value_rank > 0, latent, plain)


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(key_value_rank > 0, (2 + saved_tensors_is_torch_eager_cpu)"
    " * (query_rank + key_value_rank) + rotated_size, 0)",
    source=_TORCH,
)
def torch_compressed_elements(
    key_value_rank: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    query_rank: Column,
    rotated_size: Column,
) -> Column:
    """Return the elements that torch keeps of a layer's compressed vectors, for one token [element]."""
    ranks = query_rank + key_value_rank
    vectors = (2 + saved_tensors_is_torch_eager_cpu) * ranks
    return where(key_value_rank > 0, vectors + rotated_size, 0)


@quantity(
    "element",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(key_value_rank > 0, (query_rank > 0) + 1, (query_key_norm_is_head"
    " * (2 - norm_is_rmsnorm) + query_key_norm_is_unscaled)"
    " * (num_attention_heads + num_key_value_heads)"
    " + query_key_norm_is_full * 2 * (2 - norm_is_rmsnorm))",
    source=_TORCH + ": of norms of queries and keys, or of compressed vectors",
)
def torch_statistic_elements(
    key_value_rank: Column,
    query_rank: Column,
    query_key_norm_is_head: Column,
    query_key_norm_is_full: Column,
    query_key_norm_is_unscaled: Column,
    norm_is_rmsnorm: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
) -> Column:
    """Return the statistics of norms inside a layer's attention, for one token [element]."""
    statistics = 2 - norm_is_rmsnorm
    each = query_key_norm_is_head * statistics + query_key_norm_is_unscaled
    heads = each * (num_attention_heads + num_key_value_heads)
    return where(
        key_value_rank > 0, (query_rank > 0) + 1, heads + query_key_norm_is_full * 2 * statistics
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="((norms_per_layer + 1) // 2) * torch_norm_bytes + layer_input_bytes"
    " + (microbatch_tokens * torch_head_elements // tensor_parallel_size"
    " + sharded_tokens * torch_compressed_elements) * activation_element_bytes"
    " + 4 * sharded_tokens * torch_statistic_elements"
    " + saved_tensors_is_torch_eager_cpu * 16 * sequence_length * (where(key_value_rank > 0,"
    " rotated_size, positions_is_rotary * head_size) // 2)",
    source=_TORCH + "; sines and cosines, in fp32, of queries and of keys",
)
def torch_attention_bytes(
    norms_per_layer: Column,
    torch_norm_bytes: Column,
    layer_input_bytes: Column,
    microbatch_tokens: Column,
    torch_head_elements: Column,
    tensor_parallel_size: Column,
    sharded_tokens: Column,
    torch_compressed_elements: Column,
    activation_element_bytes: Column,
    torch_statistic_elements: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    sequence_length: Column,
    key_value_rank: Column,
    rotated_size: Column,
    positions_is_rotary: Column,
    head_size: Column,
) -> Column:
    """Return the memory that torch keeps around a layer's attention, for one microbatch [byte]."""
    heads = microbatch_tokens * torch_head_elements // tensor_parallel_size
    elements = heads + sharded_tokens * torch_compressed_elements
    rotated = where(key_value_rank > 0, rotated_size, positions_is_rotary * head_size)
    tables = saved_tensors_is_torch_eager_cpu * 16 * sequence_length * (rotated // 2)
    return (
        ((norms_per_layer + 1) // 2) * torch_norm_bytes
        + layer_input_bytes
        + elements * activation_element_bytes
        + 4 * sharded_tokens * torch_statistic_elements
        + tables
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(saved_tensors_is_torch_eager_cpu,"
    " where(key_value_rank > 0, 1, causal) * sequence_length * sequence_length"
    " + microbatch_tokens * (sequence_length + attention_sinks) * activation_element_bytes"
    " * num_attention_heads // tensor_parallel_size,"
    " 4 * microbatch_tokens * num_attention_heads // tensor_parallel_size + 16)",
    source=_TORCH
    + ": mask of one byte, softmax; flash kernel: logsumexp in fp32, and the state of "
    "its random numbers",
)
def torch_core_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    key_value_rank: Column,
    causal: Column,
    sequence_length: Column,
    microbatch_tokens: Column,
    attention_sinks: Column,
    activation_element_bytes: Column,
    num_attention_heads: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the memory that torch keeps inside a layer's attention, for one microbatch [byte]."""
    mask = where(key_value_rank > 0, 1, causal) * sequence_length * sequence_length
    scores = microbatch_tokens * (sequence_length + attention_sinks) * activation_element_bytes
    eager = mask + scores * num_attention_heads // tensor_parallel_size
    flash = 4 * microbatch_tokens * num_attention_heads // tensor_parallel_size + 16
    return where(saved_tensors_is_torch_eager_cpu, eager, flash)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="where(parallel_residual, (norms_per_layer - 1) * torch_norm_bytes,"
    " (norms_per_layer // 2) * torch_norm_bytes + layer_input_bytes)"
    " + (2 + 2 * gated) * (expert_rows * layer_intermediate_size * activation_element_bytes"
    " // layer_split_size + microbatch_tokens * shared_intermediate_size"
    " * activation_element_bytes // tensor_parallel_size)",
    source=_TORCH,
)
def torch_ffn_bytes(
    parallel_residual: Column,
    norms_per_layer: Column,
    torch_norm_bytes: Column,
    layer_input_bytes: Column,
    gated: Column,
    expert_rows: Column,
    layer_intermediate_size: Column,
    layer_split_size: Column,
    microbatch_tokens: Column,
    shared_intermediate_size: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the memory that torch keeps of a layer's feed-forward network, for one microbatch [byte]."""
    rows = expert_rows * layer_intermediate_size * activation_element_bytes // layer_split_size
    shared = microbatch_tokens * shared_intermediate_size * activation_element_bytes
    inner = (2 + 2 * gated) * (rows + shared // tensor_parallel_size)
    series = (norms_per_layer // 2) * torch_norm_bytes + layer_input_bytes
    return where(parallel_residual, (norms_per_layer - 1) * torch_norm_bytes, series) + inner


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="is_mixture * (expert_rows"
    " * ((3 * hidden_size + 1) * activation_element_bytes + 8)"
    " + sharded_tokens * expert_count * activation_element_bytes)",
    source=_TORCH + ": of a routed token its place (int64), its probability, its input, its output "
    "before and after that weighs it; probabilities",
)
def torch_mixture_bytes(
    is_mixture: Column,
    expert_rows: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    sharded_tokens: Column,
    expert_count: Column,
) -> Column:
    """Return the memory that torch keeps to route tokens to experts and back, for one microbatch [byte]."""
    visit = (3 * hidden_size + 1) * activation_element_bytes + 8
    router = sharded_tokens * expert_count * activation_element_bytes
    return is_mixture * (expert_rows * visit + router)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="8 * microbatch_tokens + 8 * positions_is_learned * sequence_length"
    " + embedding_norm * torch_norm_bytes",
    source=_TORCH + ": tokens and positions (int64)",
)
def torch_embedding_bytes(
    microbatch_tokens: Column,
    positions_is_learned: Column,
    sequence_length: Column,
    embedding_norm: Column,
    torch_norm_bytes: Column,
) -> Column:
    """Return the memory that torch keeps of the embedding, for one microbatch [byte]."""
    indices = 8 * microbatch_tokens + 8 * positions_is_learned * sequence_length
    return indices + embedding_norm * torch_norm_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="torch_norm_bytes + layer_input_bytes"
    " + microbatch_tokens * (vocabulary_rows * logits_element_bytes + 8) + 4",
    source=_TORCH + ": logarithm of the softmax, targets (int64) and how many there are",
)
def torch_head_bytes(
    torch_norm_bytes: Column,
    layer_input_bytes: Column,
    microbatch_tokens: Column,
    vocabulary_rows: Column,
    logits_element_bytes: Column,
) -> Column:
    """Return the memory that torch keeps of the head and of the loss, for one microbatch [byte]."""
    logits = microbatch_tokens * (vocabulary_rows * logits_element_bytes + 8) + 4
    return torch_norm_bytes + layer_input_bytes + logits
