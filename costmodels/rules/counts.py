"""Every count for one GPU and microbatch, and of a step, is a 64-bit integer: sizes are bounded."""

from costmodels.attention.in_layers import DELTA_CHUNK_LENGTH
from costmodels.columns import Axis, Column, largest, maximum, minimum, total, where
from costmodels.rules.declaration import rule

LARGEST_COUNT = 2.0**62
"""Bound of every count for one GPU and microbatch, which are 64-bit integers."""


def _branches(dilation_rates: Axis) -> Column:
    """Return the most branches of a layer's dilated attention, one for other layouts [count]."""
    return largest([1.0, *[1.0 * len(rates) for rates in dilation_rates]])


def _state_elements(
    num_attention_heads: Axis,
    attention_query_size: Axis,
    segment_length: Axis,
    block_length: Axis,
    scan_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
) -> Column:
    """Return a bound of a layer's state, zero where no layer has one in chunks [element]."""
    softmax = [
        1.0 * minimum(segment + block + scan, 1) * heads * size * (size + 1)
        for heads, size, segment, block, scan in zip(
            num_attention_heads,
            attention_query_size,
            segment_length,
            block_length,
            scan_length,
            strict=True,
        )
    ]
    delta = [
        1.0 * heads * key * value
        for heads, key, value in zip(value_heads, key_head_size, value_head_size, strict=True)
    ]
    return largest([*softmax, *delta])


def _sums(*sizes: Axis) -> list[Column]:
    """Return the sum of some sizes for each kind of layer."""
    return [total([1.0 * size for size in each]) for each in zip(*sizes, strict=True)]


def _keys_of_query(
    sequence_length: Column,
    attention_kernel_is_flash: Column,
    *,
    masked: Axis,
    own: Axis,
    gathered: Axis,
) -> Column:
    """Return the most keys whose scores a query computes in any layer [count].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    attention_kernel_is_flash : Column
        Whether masked blocks are skipped.
    masked : Axis
        Keys of layouts that a naive kernel computes in the whole square: windows and chunks, by kind
        of layer, zero for others [token].
    own : Axis
        Keys of layouts that have a segment or a chunk of their own, zero for others [token].
    gathered : Axis
        Keys that are gathered for each query, more than there are tokens perhaps [token].
    """
    found = []
    for near, inside, apart in zip(masked, own, gathered, strict=True):
        local = 1.0 * near + inside + apart
        few = minimum(local, maximum(sequence_length, 1.0 * apart))
        skipped = where(attention_kernel_is_flash, few, 1.0 * sequence_length)
        some = where(near > 0, skipped, few)
        found.append(where(local > 0, some, 1.0 * sequence_length))
    return largest(found)


def _seen_again(segment_length: Axis, memory_tokens: Axis, compressed_tokens: Axis) -> Column:
    """Return the most states of memories that a token's segment projects, for each token [count]."""
    return largest(
        [
            (plain + squeezed) / maximum(segment, 1.0)
            for segment, plain, squeezed in zip(
                segment_length, memory_tokens, compressed_tokens, strict=True
            )
        ]
    )


@rule(
    "workload.sequence_length",
    "counts for one GPU and microbatch must stay below 2^62: shorten the "
    "sequence, lower plan.micro_batch_size (microbatches of {microbatch_tokens} tokens), or "
    "split the model over more ranks",
)
def counts_fit(
    microbatch_tokens: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    attention_kernel_is_flash: Column,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    layer_intermediate_size: Axis,
    shared_intermediate_size: Axis,
    expert_count: Axis,
    experts_per_token: Axis,
    position_parameters: Column,
    segment_length: Axis,
    block_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
    dilation_rates: Axis,
    scan_length: Axis,
    keys_per_query: Axis,
    memory_tokens: Axis,
    compressed_tokens: Axis,
    compression_rate: Axis,
    window: Axis,
    sink_tokens: Axis,
    chunk_length: Axis,
    segment_lengths: Axis,
    kind_is_decode: Column,
    kind_is_training: Column,
    replica_sequence_count: Column,
) -> Column:
    """Return whether every count for one GPU and microbatch stays below 2^62.

    Notes
    -----
    The largest counts are products before they are divided among tensor-parallel ranks, and sums
    over the layers of a GPU: at most twenty times a layer's multiply-adds, sixteen bytes of state
    for each parameter, eight bytes for each score of a naive kernel. A query computes scores with
    the keys of its window, chunk or segments, padded ones counted twice; a step of decode has one
    token of each sequence, whose keys and values take less than 64 bytes an element of the heads. A
    state for each token bounds one for each chunk. A compressor multiplies each token at most once
    on every rank, and memories at most what their segments see.
    """
    tokens = 1.0 * where(kind_is_decode, replica_sequence_count, microbatch_tokens)
    heads = _branches(dilation_rates) * largest(
        [1.0 * a * d for a, d in zip(num_attention_heads, attention_query_size, strict=True)]
    )
    states = _state_elements(
        num_attention_heads,
        attention_query_size,
        segment_length,
        block_length,
        scan_length,
        value_heads,
        key_head_size,
        value_head_size,
    )
    active = largest(
        [1.0 * f * k for f, k in zip(layer_intermediate_size, experts_per_token, strict=True)]
    ) + largest(shared_intermediate_size)
    held = largest(
        [1.0 * f * e for f, e in zip(layer_intermediate_size, expert_count, strict=True)]
    ) + largest(shared_intermediate_size)
    # A scan token by token has as much work as one in chunks of one token.
    widest = [
        1.0 * a * d * (d + 1)
        for a, d in zip(num_attention_heads, attention_query_size, strict=True)
    ]
    states = maximum(states, largest(widest))
    rate = largest([1.0 * each for each in compression_rate])
    squeezed = minimum(rate, 1.0) * hidden_size * hidden_size
    again = _seen_again(segment_length, memory_tokens, compressed_tokens)
    keys = _keys_of_query(
        sequence_length,
        attention_kernel_is_flash,
        masked=_sums(window, sink_tokens, chunk_length),
        own=_sums(
            segment_length,
            memory_tokens,
            compressed_tokens,
            block_length,
            scan_length,
            [2.0 * total([0, *lengths]) for lengths in segment_lengths],
            [DELTA_CHUNK_LENGTH * minimum(heads, 1) for heads in value_heads],
        ),
        gathered=keys_per_query,
    )
    scores = tokens * where(kind_is_decode, 1.0, keys)
    kept = where(attention_kernel_is_flash, 0.0, 8.0 * scores * largest(num_attention_heads))
    kept = kept * _branches(dilation_rates)
    products = hidden_size * (4.0 * heads * (1.0 + again) + 3.0 * active) + states
    products = products + squeezed * tensor_parallel_size
    layer = 20.0 * (tokens * products + scores * heads) + kept
    layers = num_hidden_layers / pipeline_parallel_size + 2.0
    ends = 8.0 * (tokens + 16.0) * hidden_size * vocabulary_size
    state = 16.0 * (
        hidden_size * (4.0 * heads + 3.0 * held) + position_parameters + rate * squeezed
    )
    caches = 64.0 * (1 - kind_is_training) * replica_sequence_count * sequence_length * heads
    layer = layer + caches
    shared = layer * maximum(layers / tensor_parallel_size, 1.0)
    return shared + ends + state * maximum(layers, 1.0) < LARGEST_COUNT


@rule(
    "workload.global_batch_size",
    "tokens of a step, and bytes of the activations of all its microbatches, must "
    "stay below 2^62: lower the batch or workload.sequence_length ({sequence_length})",
)
def step_counts_fit(
    global_batch_size: Column,
    microbatch_count: Column,
    microbatch_tokens: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    attention_kernel_is_flash: Column,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    layer_intermediate_size: Axis,
    shared_intermediate_size: Axis,
    experts_per_token: Axis,
    expert_count: Axis,
    segment_length: Axis,
    block_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
    dilation_rates: Axis,
    scan_length: Axis,
    keys_per_query: Axis,
    memory_tokens: Axis,
    compressed_tokens: Axis,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether tokens of a step, and activations of all its microbatches, stay below 2^62.

    Notes
    -----
    GPipe keeps the activations of every microbatch. A token keeps at most twenty bytes for each
    element of a layer's activation, eight for each score of a naive kernel, and its logits.
    """
    branches = _branches(dilation_rates)
    states = _state_elements(
        num_attention_heads,
        attention_query_size,
        segment_length,
        block_length,
        scan_length,
        value_heads,
        key_head_size,
        value_head_size,
    )
    heads = branches * largest(
        [1.0 * a * d for a, d in zip(num_attention_heads, attention_query_size, strict=True)]
    )
    active = largest(
        [1.0 * f * k for f, k in zip(layer_intermediate_size, experts_per_token, strict=True)]
    ) + largest(shared_intermediate_size)
    routed = hidden_size * largest([1.0 * k for k in experts_per_token]) + largest(expert_count)
    scores = where(
        attention_kernel_is_flash, 0.0, 1.0 * sequence_length * largest(num_attention_heads)
    )
    elements = 5.0 * hidden_size + 4.0 * heads + 3.0 * active + 2.0 * routed
    again = _seen_again(segment_length, memory_tokens, compressed_tokens)
    gathered = largest([1.0 * keys for keys in keys_per_query])
    beside = heads * (again + gathered) + hidden_size * again * tensor_parallel_size
    elements = elements + scores * branches + states + beside
    token_bytes = 20.0 * (num_hidden_layers * elements + vocabulary_size)
    kept = 1.0 * microbatch_count * microbatch_tokens * token_bytes
    return maximum(kept, 1.0 * global_batch_size * sequence_length) < LARGEST_COUNT
