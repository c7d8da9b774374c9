"""Exchanges of one GPU: rows of tokens to the experts and back, and sequences that ranks share.

Experts on ranks of their own receive the rows that choose them and send back what they make of them, an
all-to-all each way; ranks that split an expert gather its rows and scatter the sums [1]_. Ranks that
share a sequence pass keys and values round a ring, gather them, or exchange heads [2]_ [3]_ [4]_.

References
----------
.. [1] D. Liu et al., 2025, section 3. arXiv:2504.14960.
.. [2] H. Liu et al., "Ring Attention with Blockwise Transformers," 2023. arXiv:2310.01889.
.. [3] Llama Team, 2024, section 3.3.2. arXiv:2407.21783.
.. [4] S. A. Jacobs et al., "DeepSpeed Ulysses," 2023, section 3. arXiv:2309.14509.
"""

from costmodels.collectives import all_to_all_bytes, ring_all_gather_bytes
from costmodels.columns import Axis, Column, largest, minimum, weighted_total, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_FOLDED = "Liu et al. 2025, arXiv:2504.14960, section 3; Rajbhandari et al. 2022, arXiv:2201.05596"
_CONTEXT = (
    "ring: Liu et al. 2023, arXiv:2310.01889, keys, values and their gradients go round;"
    " gathered: Llama Team 2024, arXiv:2407.21783, section 3.3.2;"
    " heads exchanged: Jacobs et al. 2023, arXiv:2309.14509, section 3"
)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * is_mixture)",
    source="by definition",
)
def chunk_mixture_layers(chunk_layer_count: Axis, is_mixture: Axis) -> Column:
    """Return the layers of a chunk that have experts [count]."""
    return weighted_total(chunk_layer_count, is_mixture)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="recompute_is_full * total(chunk_repeated_layer_count * is_mixture)"
    " + total(chunk_layer_count * network_is_repeated * is_mixture)",
    source=_KORTHIKANTI,
)
def chunk_repeated_mixture_layers(
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    is_mixture: Axis,
    chunk_layer_count: Axis,
    network_is_repeated: Axis,
) -> Column:
    """Return the layers of a chunk with experts that its backward computes again [count]."""
    experts = [
        mixture * again for mixture, again in zip(is_mixture, network_is_repeated, strict=True)
    ]
    whole = recompute_is_full * weighted_total(chunk_repeated_layer_count, is_mixture)
    return whole + weighted_total(chunk_layer_count, experts)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="largest(is_mixture * routed_rows) * hidden_size * activation_element_bytes",
    source=_FOLDED,
)
def expert_message_bytes(
    is_mixture: Axis, routed_rows: Axis, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return what a GPU hands over to send its rows to experts, for one microbatch [byte]."""
    rows = [mixture * count for mixture, count in zip(is_mixture, routed_rows, strict=True)]
    return largest(rows) * hidden_size * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="all_to_all_bytes(expert_message_bytes, expert_parallel_size)",
    source=_FOLDED + "; tokens balanced",
)
def expert_exchange_bytes(expert_message_bytes: Column, expert_parallel_size: Column) -> Column:
    """Return the bytes sent in one exchange of rows between a layer's experts [byte]."""
    return all_to_all_bytes(expert_message_bytes, expert_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="expert_stride * expert_message_bytes",
    source=_FOLDED,
)
def expert_rows_message_bytes(expert_stride: Column, expert_message_bytes: Column) -> Column:
    """Return the rows that ranks which split an expert gather, for one microbatch [byte]."""
    return expert_stride * expert_message_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(expert_rows_message_bytes, expert_stride)",
    source=_FOLDED,
)
def expert_rows_bytes(expert_rows_message_bytes: Column, expert_stride: Column) -> Column:
    """Return the bytes sent to gather rows over the ranks that split an expert, or to scatter them [byte]."""
    return ring_all_gather_bytes(expert_rows_message_bytes, expert_stride)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_mixture_layers * (expert_exchange_bytes + expert_rows_bytes)",
    source=_FOLDED + ": to the experts and back",
)
def chunk_forward_expert_bytes(
    chunk_mixture_layers: Column, expert_exchange_bytes: Column, expert_rows_bytes: Column
) -> Column:
    """Return the bytes sent to experts and back in a chunk's forward, for one microbatch [byte]."""
    return 2 * chunk_mixture_layers * (expert_exchange_bytes + expert_rows_bytes)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_forward_expert_bytes + 2 * chunk_repeated_mixture_layers"
    " * (expert_exchange_bytes + expert_rows_bytes)",
    source=_FOLDED + ": gradients the same way; recomputed layers send again",
)
def chunk_backward_expert_bytes(
    chunk_forward_expert_bytes: Column,
    chunk_repeated_mixture_layers: Column,
    expert_exchange_bytes: Column,
    expert_rows_bytes: Column,
) -> Column:
    """Return the bytes sent to experts and back in a chunk's backward, for one microbatch [byte]."""
    again = 2 * chunk_repeated_mixture_layers * (expert_exchange_bytes + expert_rows_bytes)
    return chunk_forward_expert_bytes + again


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens * largest(held_key_value_head_count * (attention_query_size +"
    " attention_value_size)) // tensor_parallel_size * activation_element_bytes",
    source=_CONTEXT,
)
def context_block_bytes(
    microbatch_tokens: Column,
    held_key_value_head_count: Axis,
    attention_query_size: Axis,
    attention_value_size: Axis,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the keys and values of a layer on one context-parallel rank, for one microbatch [byte]."""
    widths = [
        heads * (query + value)
        for heads, query, value in zip(
            held_key_value_head_count, attention_query_size, attention_value_size, strict=True
        )
    ]
    elements = microbatch_tokens * largest(widths) // tensor_parallel_size
    return elements * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens * largest(num_attention_heads * attention_value_size) //"
    " tensor_parallel_size * activation_element_bytes",
    source=_CONTEXT,
)
def context_output_bytes(
    microbatch_tokens: Column,
    num_attention_heads: Axis,
    attention_value_size: Axis,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the output of a layer's heads on one context-parallel rank, for one microbatch [byte]."""
    widths = [
        heads * size for heads, size in zip(num_attention_heads, attention_value_size, strict=True)
    ]
    elements = microbatch_tokens * largest(widths) // tensor_parallel_size
    return elements * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="context_block_bytes + microbatch_tokens * largest(num_attention_heads *"
    " attention_query_size) // tensor_parallel_size * activation_element_bytes",
    source=_CONTEXT,
)
def context_input_bytes(
    context_block_bytes: Column,
    microbatch_tokens: Column,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return queries, keys and values of a layer on one context-parallel rank, for a microbatch [byte]."""
    widths = [
        heads * size for heads, size in zip(num_attention_heads, attention_query_size, strict=True)
    ]
    elements = microbatch_tokens * largest(widths) // tensor_parallel_size
    return context_block_bytes + elements * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="context_parallel_size * context_block_bytes",
    source=_CONTEXT,
)
def context_gathered_bytes(context_parallel_size: Column, context_block_bytes: Column) -> Column:
    """Return the keys and values of a layer for whole sequences, for one microbatch [byte]."""
    return context_parallel_size * context_block_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(context_gathered_bytes, context_parallel_size)",
    source=_CONTEXT,
)
def context_pass_bytes(context_gathered_bytes: Column, context_parallel_size: Column) -> Column:
    """Return the bytes sent to bring keys and values of a layer to all context-parallel ranks [byte]."""
    return ring_all_gather_bytes(context_gathered_bytes, context_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="all_to_all_bytes(context_input_bytes, context_parallel_size)",
    source=_CONTEXT,
)
def context_input_exchange_bytes(
    context_input_bytes: Column, context_parallel_size: Column
) -> Column:
    """Return the bytes sent to exchange queries, keys and values by heads, in one layer [byte]."""
    return all_to_all_bytes(context_input_bytes, context_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="all_to_all_bytes(context_output_bytes, context_parallel_size)",
    source=_CONTEXT,
)
def context_output_exchange_bytes(
    context_output_bytes: Column, context_parallel_size: Column
) -> Column:
    """Return the bytes sent to exchange the output of heads, in one layer [byte]."""
    return all_to_all_bytes(context_output_bytes, context_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="where(context_parallel_method_is_ulysses, context_input_exchange_bytes +"
    " context_output_exchange_bytes, context_pass_bytes)",
    source=_CONTEXT,
)
def context_forward_bytes(
    context_parallel_method_is_ulysses: Column,
    context_input_exchange_bytes: Column,
    context_output_exchange_bytes: Column,
    context_pass_bytes: Column,
) -> Column:
    """Return the bytes sent between context-parallel ranks in a layer's forward [byte]."""
    exchanged = context_input_exchange_bytes + context_output_exchange_bytes
    return where(context_parallel_method_is_ulysses, exchanged, context_pass_bytes)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="context_forward_bytes + where(context_parallel_method_is_ulysses, 0,"
    " context_pass_bytes) + context_parallel_method_is_ring *"
    " minimum(context_parallel_size - 1, 1) * context_block_bytes",
    source=_CONTEXT + "; in a ring gradients go once more, home to their owner",
)
def context_backward_bytes(
    context_forward_bytes: Column,
    context_parallel_method_is_ulysses: Column,
    context_pass_bytes: Column,
    context_parallel_method_is_ring: Column,
    context_parallel_size: Column,
    context_block_bytes: Column,
) -> Column:
    """Return the bytes sent between context-parallel ranks in a layer's backward, nothing repeated [byte].

    Notes
    -----
    Keys and values come once more; their gradients go round, or are scattered.
    """
    gradients = where(context_parallel_method_is_ulysses, 0, context_pass_bytes)
    home = context_parallel_method_is_ring * minimum(context_parallel_size - 1, 1)
    return context_forward_bytes + gradients + home * context_block_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_layers * context_forward_bytes",
    source=_CONTEXT,
)
def chunk_forward_context_bytes(chunk_layers: Column, context_forward_bytes: Column) -> Column:
    """Return the bytes sent between context-parallel ranks in a chunk's forward, for a microbatch [byte]."""
    return chunk_layers * context_forward_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_layers * context_backward_bytes"
    " + chunk_attention_repeated_layers * context_forward_bytes",
    source=_CONTEXT + "; attention that is computed again sends again",
)
def chunk_backward_context_bytes(
    chunk_layers: Column,
    context_backward_bytes: Column,
    chunk_attention_repeated_layers: Column,
    context_forward_bytes: Column,
) -> Column:
    """Return the bytes sent between context-parallel ranks in a chunk's backward, for a microbatch [byte]."""
    again = chunk_attention_repeated_layers * context_forward_bytes
    return chunk_layers * context_backward_bytes + again
