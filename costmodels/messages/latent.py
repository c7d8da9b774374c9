"""Messages of latent attention between tensor-parallel ranks: compressed vectors in place of inputs.

The matrices that compress a token are whole on every rank. With sequence parallelism each rank
compresses its part of the sequence, and what is gathered is narrow: the compressed queries, the
compressed keys and values, and the rotated key that all heads share [1]_. Their gradients are
scattered, and the inputs of the two matrices that expand them are gathered again for the gradients
of weights, as those of every split matrix. Without it every rank compresses all tokens, and the
gradients of the three, of which a rank has seen its own heads only, are summed. Without compressed
queries the hidden states take their place, as the queries' matrix is split.

References
----------
.. [1] Megatron-LM, ``megatron/core/transformer/multi_latent_attention.py``, with TransformerEngine's
   modules (``parallel_mode='duplicated'``), github.com/NVIDIA/Megatron-LM@003b4ce261. Without
   sequence parallelism it does not sum the gradient of the rotated key.
"""

from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
)
from costmodels.columns import Axis, Column, as_float, minimum, total, weighted_total, where
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_LATENT = "Megatron-LM, megatron/core/transformer/multi_latent_attention.py; DeepSeek-AI 2024, "
_LATENT += "arXiv:2405.04434, section 2.1"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_LAYER = (KIND,)
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * (key_value_rank > 0))",
    source=_LATENT,
)
def chunk_latent_layers(chunk_layer_count: Axis, key_value_rank: Axis) -> Column:
    """Return the layers of a chunk with latent attention [count]."""
    return weighted_total(chunk_layer_count, [(rank > 0) * 1 for rank in key_value_rank])


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="recompute_is_full * total(chunk_repeated_layer_count * (key_value_rank > 0))",
    source=_LATENT,
)
def chunk_repeated_latent_layers(
    recompute_is_full: Column, chunk_repeated_layer_count: Axis, key_value_rank: Axis
) -> Column:
    """Return the layers of a chunk with latent attention that its backward computes again [count]."""
    latent = [(rank > 0) * 1 for rank in key_value_rank]
    return recompute_is_full * weighted_total(chunk_repeated_layer_count, latent)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(key_value_rank > 0) * microbatch_tokens * (where(query_rank > 0, query_rank,"
    " hidden_size) + key_value_rank) * activation_element_bytes",
    source=_LATENT,
)
def layer_expanded_bytes(
    key_value_rank: Column,
    microbatch_tokens: Column,
    query_rank: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the inputs of the matrices that give the heads of latent attention, for a microbatch [byte].

    Examples
    --------
    DeepSeek-V3, a sequence of 4,096 tokens in 16 bits: 1,536 and 512 elements of each.

    >>> layer_expanded_bytes(512, 4096, 1536, 7168, 2) / 2**20
    16.0
    """
    width = where(query_rank > 0, query_rank, hidden_size) + key_value_rank
    return (key_value_rank > 0) * microbatch_tokens * width * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_expanded_bytes + (key_value_rank > 0) * microbatch_tokens * rotated_size"
    " * activation_element_bytes",
    source=_LATENT,
)
def layer_compressed_bytes(
    layer_expanded_bytes: Column,
    key_value_rank: Column,
    microbatch_tokens: Column,
    rotated_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what a layer's heads of latent attention are made of, for a microbatch [byte]."""
    rotated = microbatch_tokens * rotated_size * activation_element_bytes
    return layer_expanded_bytes + (key_value_rank > 0) * rotated


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_compressed_bytes)",
    source=_LATENT,
)
def chunk_compressed_bytes(chunk_layer_count: Axis, layer_compressed_bytes: Axis) -> Column:
    """Return the compressed vectors of a chunk's layers, for a microbatch [byte]."""
    return weighted_total(chunk_layer_count, layer_compressed_bytes)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_compressed_bytes + total(chunk_layer_count * layer_expanded_bytes)"
    " + recompute_is_full * total(chunk_repeated_layer_count * layer_compressed_bytes)",
    source=_LATENT + "; inputs of split matrices again for the gradients of their weights",
)
def chunk_compressed_gather_bytes(
    chunk_compressed_bytes: Column,
    chunk_layer_count: Axis,
    layer_expanded_bytes: Axis,
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    layer_compressed_bytes: Axis,
) -> Column:
    """Return the payload of all gathers of a chunk's compressed vectors, for a microbatch [byte]."""
    again = weighted_total(chunk_layer_count, layer_expanded_bytes)
    repeated = weighted_total(chunk_repeated_layer_count, layer_compressed_bytes)
    return chunk_compressed_bytes + again + recompute_is_full * repeated


# Between ranks


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * ring_all_gather_bytes(chunk_compressed_bytes,"
    " tensor_parallel_size)",
    source=_LATENT,
)
def chunk_forward_compressed_bytes(
    sequence_parallel: Column, chunk_compressed_bytes: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to gather compressed vectors in a chunk's forward, for a microbatch [byte]."""
    return sequence_parallel * ring_all_gather_bytes(chunk_compressed_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(total(chunk_layer_count * layer_expanded_bytes),"
    " tensor_parallel_size) * sequence_parallel",
    source=_LATENT,
)
def chunk_compressed_again_bytes(
    chunk_layer_count: Axis,
    layer_expanded_bytes: Axis,
    tensor_parallel_size: Column,
    sequence_parallel: Column,
) -> Column:
    """Return the bytes sent to gather compressed vectors that a product hides, for a microbatch [byte]."""
    again = weighted_total(chunk_layer_count, layer_expanded_bytes)
    return ring_all_gather_bytes(again, tensor_parallel_size) * sequence_parallel


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(key_value_rank > 0) * (ring_all_reduce_bytes(microbatch_tokens * where(query_rank > 0,"
    " query_rank, hidden_size) * activation_element_bytes, tensor_parallel_size)"
    " + ring_all_reduce_bytes(microbatch_tokens * key_value_rank * activation_element_bytes,"
    " tensor_parallel_size) + ring_all_reduce_bytes(microbatch_tokens * rotated_size"
    " * activation_element_bytes, tensor_parallel_size))",
    source=_RING,
)
def layer_compressed_reduce_bytes(
    key_value_rank: Column,
    microbatch_tokens: Column,
    query_rank: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
    rotated_size: Column,
) -> Column:
    """Return the bytes sent to sum the gradients of a layer's compressed vectors, for a microbatch [byte]."""
    token_bytes = microbatch_tokens * activation_element_bytes
    queries = where(query_rank > 0, query_rank, hidden_size)
    sent = [
        ring_all_reduce_bytes(token_bytes * width, tensor_parallel_size)
        for width in (queries, key_value_rank, rotated_size)
    ]
    return (key_value_rank > 0) * total(sent)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_compressed_reduce_bytes)",
    source=_RING,
)
def chunk_compressed_reduce_bytes(
    chunk_layer_count: Axis, layer_compressed_reduce_bytes: Axis
) -> Column:
    """Return the bytes sent to sum the gradients of a chunk's compressed vectors, for a microbatch [byte]."""
    return weighted_total(chunk_layer_count, layer_compressed_reduce_bytes)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, ring_all_gather_bytes(chunk_compressed_bytes"
    " + recompute_is_full * total(chunk_repeated_layer_count * layer_compressed_bytes),"
    " tensor_parallel_size), chunk_compressed_reduce_bytes)",
    source=_LATENT + ": gradients scattered, or summed",
)
def chunk_backward_compressed_bytes(
    sequence_parallel: Column,
    chunk_compressed_bytes: Column,
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    layer_compressed_bytes: Axis,
    tensor_parallel_size: Column,
    chunk_compressed_reduce_bytes: Column,
) -> Column:
    """Return the bytes of compressed vectors that a chunk's backward waits for, for a microbatch [byte]."""
    repeated = weighted_total(chunk_repeated_layer_count, layer_compressed_bytes)
    passes = chunk_compressed_bytes + recompute_is_full * repeated
    scattered = ring_all_gather_bytes(passes, tensor_parallel_size)
    return where(sequence_parallel, scattered, chunk_compressed_reduce_bytes)


# Over a step


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel",
    source=_LATENT,
)
def compressed_scatter_passes(chunk_microbatch_count: Column, sequence_parallel: Column) -> Column:
    """Return how often a chunk's compressed vectors are gathered and scattered, over a step [count]."""
    return as_float(chunk_microbatch_count) * sequence_parallel


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (1 - sequence_parallel)",
    source=_LATENT,
)
def compressed_reduce_passes(chunk_microbatch_count: Column, sequence_parallel: Column) -> Column:
    """Return how often the gradients of a chunk's compressed vectors are summed, over a step [count]."""
    return as_float(chunk_microbatch_count) * (1 - sequence_parallel)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (5 * total(chunk_latent_layers)"
    " + 3 * total(chunk_repeated_latent_layers))",
    source=_LATENT + ": three forward, two of them again for weight gradients",
)
def compressed_all_gather_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_latent_layers: Axis,
    chunk_repeated_latent_layers: Axis,
) -> Column:
    """Return the all-gathers of compressed vectors, over a step [count]."""
    layers = 5 * total(chunk_latent_layers) + 3 * total(chunk_repeated_latent_layers)
    return as_float(chunk_microbatch_count) * sequence_parallel * layers


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * 3 * total(chunk_latent_layers)",
    source=_LATENT,
)
def compressed_reduce_scatter_calls(
    chunk_microbatch_count: Column, sequence_parallel: Column, chunk_latent_layers: Axis
) -> Column:
    """Return the reduce-scatters of compressed vectors' gradients, over a step [count]."""
    layers = 3 * total(chunk_latent_layers)
    return as_float(chunk_microbatch_count) * sequence_parallel * layers


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (1 - sequence_parallel)"
    " * minimum(tensor_parallel_size - 1, 1) * 3 * total(chunk_latent_layers)",
    source=_LATENT,
)
def compressed_all_reduce_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    tensor_parallel_size: Column,
    chunk_latent_layers: Axis,
) -> Column:
    """Return the all-reduces of compressed vectors' gradients, over a step [count]."""
    layers = 3 * total(chunk_latent_layers) * minimum(tensor_parallel_size - 1, 1)
    return as_float(chunk_microbatch_count) * (1 - sequence_parallel) * layers


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(chunk_compressed_gather_bytes)",
    source=_LATENT,
)
def compressed_gather_message_bytes(chunk_compressed_gather_bytes: Axis) -> Column:
    """Return the payload of a microbatch's gathers of compressed vectors [byte]."""
    return total(chunk_compressed_gather_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(compressed_gather_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def compressed_gather_bytes(
    compressed_gather_message_bytes: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent in a microbatch's gathers of compressed vectors [byte]."""
    return ring_all_gather_bytes(compressed_gather_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(chunk_compressed_bytes)",
    source=_LATENT,
)
def compressed_message_bytes(chunk_compressed_bytes: Axis) -> Column:
    """Return the payload of a microbatch's sums of compressed vectors' gradients [byte]."""
    return total(chunk_compressed_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(compressed_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def compressed_scatter_bytes(
    compressed_message_bytes: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to scatter a microbatch's gradients of compressed vectors [byte]."""
    return ring_all_gather_bytes(compressed_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(chunk_compressed_reduce_bytes)",
    source=_RING,
)
def compressed_reduce_bytes(chunk_compressed_reduce_bytes: Axis) -> Column:
    """Return the bytes sent to sum a microbatch's gradients of compressed vectors [byte]."""
    return total(chunk_compressed_reduce_bytes)
