"""Messages of one GPU: what a chunk sends for one microbatch, and at the end of a step.

Tensor parallelism reduces the output of attention and of the feed-forward network in the forward
and their input's gradient in the backward [1]_. With sequence parallelism each all-reduce becomes
a reduce-scatter and an all-gather, and the gathered input is gathered once more for the weight
gradient [2]_. Pipeline ranks send an activation forward and a gradient back for each boundary
[3]_; replicas reduce gradients and, where sharded, gather weights [4]_.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM," 2019, section 3. arXiv:1909.08053.
.. [2] V. Korthikanti et al., 2022, section 4.2.2. arXiv:2205.05198.
.. [3] D. Narayanan et al., 2021, section 2.2. arXiv:2104.04473.
.. [4] S. Rajbhandari et al., "ZeRO," 2020, section 7. arXiv:1910.02054.
"""

from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_reduce_scatter_bytes,
)
from costmodels.columns import Axis, Column, minimum, total, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_SHOEYBI = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7; ring: Patarasuk and Yuan 2009"
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens * hidden_size * activation_element_bytes",
    source=_SHOEYBI,
)
def hidden_message_bytes(
    microbatch_tokens: Column, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return the activation of a whole microbatch, the message of tensor parallelism [byte]."""
    return microbatch_tokens * hidden_size * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(hidden_message_bytes, tensor_parallel_size)",
    source=_SHOEYBI,
)
def hidden_all_reduce_bytes(hidden_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-reduce of a microbatch's activation [byte]."""
    return ring_all_reduce_bytes(hidden_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(hidden_message_bytes, tensor_parallel_size)",
    source=_KORTHIKANTI,
)
def hidden_all_gather_bytes(hidden_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-gather or reduce-scatter of that activation [byte]."""
    return ring_all_gather_bytes(hidden_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="3 * ring_all_reduce_bytes(4 * microbatch_tokens, tensor_parallel_size)",
    source=_SHOEYBI + ": maximum, sum of exponentials and label's logit, in fp32",
)
def loss_all_reduce_bytes(microbatch_tokens: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent by the vocabulary-parallel loss, for one microbatch [byte]."""
    return 3 * ring_all_reduce_bytes(4 * microbatch_tokens, tensor_parallel_size)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    group="pipeline",
    basis=Basis.EXACT,
    formula="total(chunk_layer_count)",
    source="by definition",
)
def chunk_layers(chunk_layer_count: Axis) -> Column:
    """Return the layers of a chunk [count]."""
    return total(chunk_layer_count)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, 0, 2 * chunk_layers + chunk_holds_embedding)",
    source=_SHOEYBI,
)
def forward_all_reduces(
    sequence_parallel: Column, chunk_layers: Column, chunk_holds_embedding: Column
) -> Column:
    """Return the all-reduces of activations in a chunk's forward [count]."""
    return where(sequence_parallel, 0, 2 * chunk_layers + chunk_holds_embedding)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, 0, 2 * chunk_layers + chunk_holds_head"
    " + recompute_is_full * 2 * chunk_layers)",
    source=_SHOEYBI + "; recomputed layers reduce again",
)
def backward_all_reduces(
    sequence_parallel: Column,
    chunk_layers: Column,
    chunk_holds_head: Column,
    recompute_is_full: Column,
) -> Column:
    """Return the all-reduces of activations and gradients in a chunk's backward [count]."""
    layers = 2 * chunk_layers + recompute_is_full * 2 * chunk_layers
    return where(sequence_parallel, 0, layers + chunk_holds_head)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (4 * chunk_layers + chunk_holds_embedding + chunk_holds_head)",
    source=_KORTHIKANTI,
)
def forward_ring_passes(
    sequence_parallel: Column,
    chunk_layers: Column,
    chunk_holds_embedding: Column,
    chunk_holds_head: Column,
) -> Column:
    """Return the all-gathers and reduce-scatters of activations in a chunk's forward [count]."""
    return sequence_parallel * (4 * chunk_layers + chunk_holds_embedding + chunk_holds_head)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (4 * chunk_layers + chunk_holds_embedding + chunk_holds_head"
    " + recompute_is_full * 4 * chunk_layers)",
    source=_KORTHIKANTI + "; recomputed layers gather again",
)
def backward_ring_passes(
    sequence_parallel: Column,
    chunk_layers: Column,
    chunk_holds_embedding: Column,
    chunk_holds_head: Column,
    recompute_is_full: Column,
) -> Column:
    """Return the all-gathers and reduce-scatters in a chunk's backward that it waits for [count]."""
    layers = 4 * chunk_layers + recompute_is_full * 4 * chunk_layers
    return sequence_parallel * (layers + chunk_holds_embedding + chunk_holds_head)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (2 * chunk_layers + chunk_holds_head)",
    source=_KORTHIKANTI + ": inputs of split matrices, gathered again for the weight gradient, "
    "behind the product that gives the input gradient",
)
def regathers(sequence_parallel: Column, chunk_layers: Column, chunk_holds_head: Column) -> Column:
    """Return the all-gathers in a chunk's backward that a matrix product hides [count]."""
    return sequence_parallel * (2 * chunk_layers + chunk_holds_head)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="forward_all_reduces * hidden_all_reduce_bytes"
    " + chunk_holds_head * loss_all_reduce_bytes",
    source=_SHOEYBI,
)
def chunk_forward_tensor_bytes(
    forward_all_reduces: Column,
    hidden_all_reduce_bytes: Column,
    chunk_holds_head: Column,
    loss_all_reduce_bytes: Column,
) -> Column:
    """Return the bytes sent by the all-reduces of a chunk's forward, for one microbatch [byte]."""
    return forward_all_reduces * hidden_all_reduce_bytes + chunk_holds_head * loss_all_reduce_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="backward_all_reduces * hidden_all_reduce_bytes",
    source=_SHOEYBI,
)
def chunk_backward_tensor_bytes(
    backward_all_reduces: Column, hidden_all_reduce_bytes: Column
) -> Column:
    """Return the bytes sent by the all-reduces of a chunk's backward, for one microbatch [byte]."""
    return backward_all_reduces * hidden_all_reduce_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="forward_ring_passes * hidden_all_gather_bytes",
    source=_KORTHIKANTI,
)
def chunk_forward_sequence_bytes(
    forward_ring_passes: Column, hidden_all_gather_bytes: Column
) -> Column:
    """Return the bytes sent for sequence parallelism in a chunk's forward, for a microbatch [byte]."""
    return forward_ring_passes * hidden_all_gather_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(backward_ring_passes + regathers) * hidden_all_gather_bytes",
    source=_KORTHIKANTI,
)
def chunk_backward_sequence_bytes(
    backward_ring_passes: Column, regathers: Column, hidden_all_gather_bytes: Column
) -> Column:
    """Return the bytes sent for sequence parallelism in a chunk's backward, for a microbatch [byte]."""
    return (backward_ring_passes + regathers) * hidden_all_gather_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * ring_all_reduce_bytes(chunk_summed_parameters,"
    " tensor_parallel_size)",
    source=_KORTHIKANTI + ": each rank has seen its part of the sequence",
)
def chunk_replicated_bytes(
    reduction_element_bytes: Column, chunk_summed_parameters: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to sum a chunk's gradients of replicated weights once [byte]."""
    return reduction_element_bytes * ring_all_reduce_bytes(
        chunk_summed_parameters, tensor_parallel_size
    )


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 2) * chunk_replicated_bytes",
    source=_ZERO + "; gradients that are scattered after every backward are summed before",
)
def chunk_backward_replicated_bytes(zero_stage: Column, chunk_replicated_bytes: Column) -> Column:
    """Return the bytes sent to sum gradients of replicated weights after one backward [byte]."""
    return (zero_stage >= 2) * chunk_replicated_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(zero_stage < 2) * total(chunk_replicated_bytes)",
    source=_KORTHIKANTI + "; once, when gradients have accumulated",
)
def end_replicated_bytes(zero_stage: Column, chunk_replicated_bytes: Axis) -> Column:
    """Return the bytes sent to sum gradients of replicated weights at the end of a step [byte]."""
    return (zero_stage < 2) * total(chunk_replicated_bytes)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="sharded_tokens * hidden_size * activation_element_bytes",
    source=_NARAYANAN,
)
def hop_bytes(
    sharded_tokens: Column, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return the bytes that one GPU sends across one stage boundary, for a microbatch [byte]."""
    return sharded_tokens * hidden_size * activation_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_exists - chunk_holds_embedding - chunk_holds_head",
    source=_NARAYANAN + ": forward unless it is the last, back unless it is the first",
)
def chunk_hops(
    chunk_exists: Column, chunk_holds_embedding: Column, chunk_holds_head: Column
) -> Column:
    """Return the sends of a chunk for one microbatch, forward and back [count]."""
    return 2 * chunk_exists - chunk_holds_embedding - chunk_holds_head


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="tied_embeddings * minimum(pipeline_parallel_size - 1, 1)"
    " * (total(chunk_holds_embedding) + total(chunk_holds_head))"
    " * ring_all_reduce_bytes(vocabulary_rows * hidden_size * reduction_element_bytes, 2)",
    source="Narayanan et al. 2021, arXiv:2104.04473: the two copies of a tied embedding",
)
def tied_embedding_bytes(
    tied_embeddings: Column,
    pipeline_parallel_size: Column,
    chunk_holds_embedding: Axis,
    chunk_holds_head: Axis,
    vocabulary_rows: Column,
    hidden_size: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the bytes sent to add the gradients of a tied embedding's copies, in a step [byte]."""
    copies = tied_embeddings * minimum(pipeline_parallel_size - 1, 1)
    holders = total(chunk_holds_embedding) + total(chunk_holds_head)
    message = vocabulary_rows * hidden_size * reduction_element_bytes
    return copies * holders * ring_all_reduce_bytes(message, 2)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * ring_reduce_scatter_bytes(chunk_parameters,"
    " data_parallel_size)",
    source=_ZERO,
)
def chunk_gradient_bytes(
    chunk_parameters: Column, reduction_element_bytes: Column, data_parallel_size: Column
) -> Column:
    """Return the bytes sent to reduce and scatter a chunk's gradients once [byte]."""
    return reduction_element_bytes * ring_reduce_scatter_bytes(chunk_parameters, data_parallel_size)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="weight_element_bytes * ring_all_gather_bytes(chunk_parameters, data_parallel_size)",
    source=_ZERO,
)
def chunk_gather_bytes(
    chunk_parameters: Column, weight_element_bytes: Column, data_parallel_size: Column
) -> Column:
    """Return the bytes sent to gather a chunk's sharded weights once [byte]."""
    return weight_element_bytes * ring_all_gather_bytes(chunk_parameters, data_parallel_size)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 3) * chunk_gather_bytes",
    source=_ZERO,
)
def chunk_forward_data_bytes(zero_stage: Column, chunk_gather_bytes: Column) -> Column:
    """Return the bytes sent to gather a chunk's weights for one forward [byte]."""
    return (zero_stage >= 3) * chunk_gather_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 3) * chunk_gather_bytes + (zero_stage >= 2) * chunk_gradient_bytes",
    source=_ZERO + "; sharded gradients are scattered after every backward",
)
def chunk_backward_data_bytes(
    zero_stage: Column, chunk_gather_bytes: Column, chunk_gradient_bytes: Column
) -> Column:
    """Return the bytes sent to gather weights and scatter gradients for one backward [byte]."""
    return (zero_stage >= 3) * chunk_gather_bytes + (zero_stage >= 2) * chunk_gradient_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 0, (2 - minimum(zero_stage, 1)) * total(chunk_gradient_bytes))",
    source=_ZERO + "; an all-reduce is two passes of the ring",
)
def reduction_bytes(zero_stage: Column, chunk_gradient_bytes: Axis) -> Column:
    """Return the bytes that a GPU sends to reduce gradients at the end of a step [byte]."""
    passes = 2 - minimum(zero_stage, 1)
    return where(zero_stage >= 2, 0, passes * total(chunk_gradient_bytes))


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where((zero_stage == 1) + (zero_stage == 2), total(chunk_gather_bytes), 0)",
    source=_ZERO,
)
def update_gather_bytes(zero_stage: Column, chunk_gather_bytes: Axis) -> Column:
    """Return the bytes that a GPU sends to gather updated weights at the end of a step [byte]."""
    return where((zero_stage == 1) + (zero_stage == 2), total(chunk_gather_bytes), 0)
