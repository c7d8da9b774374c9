"""Linear attention and Compressive Transformers in a model's layers, as functions of a scenario.

What a layer does beside pairs of query and key is its state's work, of all heads and one sequence.
"""

from costmodels.attention import chunked, infini, linear, memories
from costmodels.attention.accounts import Heads
from costmodels.attention.linear import Scan
from costmodels.attention.memories import Compression
from costmodels.columns import Column, maximum, minimum, where


def _heads(
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    element_bytes: Column = 2,
) -> Heads:
    return Heads(
        1, num_attention_heads, num_key_value_heads, head_size, head_size, element_bytes, 4
    )


def linear_state_flop(
    sequence_length: Column,
    scan_length: Column,
    normalized: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return the work of chunks, or token by token, all heads, one sequence [FLOP].

    Examples
    --------
    >>> linear_state_flop(128, 64, 1, 1, 1, 16), linear_state_flop(2, 0, 0, 1, 1, 16)
    (591872, 2048)
    """
    heads = _heads(num_attention_heads, num_key_value_heads, head_size)
    chunk = maximum(scan_length, 1)
    in_chunks = linear.chunked_flop(sequence_length, heads, Scan(chunk, normalized))
    one_by_one = linear.recurrent_flop(sequence_length, heads, Scan(0, normalized))
    return where(scan_length > 0, in_chunks, one_by_one)


def linear_state_model_flop(
    sequence_length: Column,
    normalized: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return the work token by token, which the model needs, all heads, one sequence [FLOP]."""
    heads = _heads(num_attention_heads, num_key_value_heads, head_size)
    return linear.recurrent_flop(sequence_length, heads, Scan(0, normalized))


def linear_state_kept_bytes(
    sequence_length: Column,
    scan_length: Column,
    normalized: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    attention_kernel_is_flash: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what linear attention keeps beside queries, keys, values and output, one sequence [byte].

    Notes
    -----
    Mapped queries and keys, and the normalizer of each query. A naive kernel in chunks keeps their
    scores, too, and a state in fp32 for each that reads one; others compute both again.
    """
    tokens = sequence_length * head_size * (num_attention_heads + num_key_value_heads)
    normalizers = normalized * sequence_length * num_attention_heads
    chunk = maximum(scan_length, 1)
    inside = num_attention_heads * chunked.square_pairs(sequence_length, chunk)
    states = infini.segment_count(sequence_length, chunk) - 1
    matrices = 4 * states * num_attention_heads * head_size * (head_size + normalized)
    kept = (tokens + normalizers) * activation_element_bytes
    naive = (1 - attention_kernel_is_flash) * (scan_length > 0)
    return kept + naive * (inside * activation_element_bytes + matrices)


def linear_state_traffic_bytes(
    sequence_length: Column,
    scan_length: Column,
    normalized: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return maps of queries and keys, and states of chunks in fp32, written and read [byte]."""
    tokens = sequence_length * head_size * (num_attention_heads + num_key_value_heads)
    states = infini.segment_count(sequence_length, maximum(scan_length, 1)) - 1
    matrix = num_key_value_heads * head_size * (head_size + normalized)
    between = 2 * 4 * states * matrix * (scan_length > 0)
    return 2 * tokens * activation_element_bytes + between


def _compression(
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Compression:
    return Compression(segment_length, memory_tokens, compressed_tokens, compression_rate)


def compressive_attended_pairs(
    sequence_length: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Column:
    """Return the pairs with memories and the segment's past, for one head and sequence [pair]."""
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return memories.attended_pairs(sequence_length, own)


def compressive_executed_pairs(
    sequence_length: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair].

    Examples
    --------
    >>> compressive_executed_pairs(6, 2, 2, 2, 2, 0), compressive_executed_pairs(6, 2, 2, 2, 2, 1)
    (22, 19)
    """
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return where(
        attention_kernel_is_flash,
        memories.attended_pairs(sequence_length, own),
        memories.executed_pairs(sequence_length, own),
    )


def compressive_state_model_flop(
    sequence_length: Column,
    hidden_size: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Column:
    """Return a third of what compressing needs in a step, one sequence [FLOP].

    Notes
    -----
    A step is counted as three forwards. A compressor needs two: memories have no gradient.

    Examples
    --------
    >>> compressive_state_model_flop(6, 8, 2, 2, 2, 2)
    170
    """
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return 2 * memories.compressor_flop(sequence_length, 1, hidden_size, own) // 3


def compressive_state_flop(
    sequence_length: Column,
    hidden_size: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the work of compressing, on all tensor-parallel ranks: each has a compressor [FLOP].

    Examples
    --------
    >>> compressive_state_flop(6, 8, 2, 2, 2, 2, 1), compressive_state_flop(6, 8, 2, 2, 2, 2, 2)
    (256, 512)
    """
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return tensor_parallel_size * memories.compressor_flop(sequence_length, 1, hidden_size, own)


def compressive_state_spared_flop(
    sequence_length: Column,
    hidden_size: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the work of gradients of memories, which have none: the compressor's inputs [FLOP]."""
    return compressive_state_flop(
        sequence_length,
        hidden_size,
        segment_length,
        memory_tokens,
        compressed_tokens,
        compression_rate,
        tensor_parallel_size,
    )


def compressive_repeated_flop(
    sequence_length: Column,
    hidden_size: Column,
    head_size: Column,
    held_key_value_head_count: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Column:
    """Return the work of keys and values of memories, projected in each segment [FLOP].

    Examples
    --------
    >>> compressive_repeated_flop(6, 8, 4, 2, 2, 2, 2, 2)
    1280
    """
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    tokens = memories.projected_again_tokens(sequence_length, own)
    return 4 * tokens * hidden_size * held_key_value_head_count * head_size


def compressive_state_kept_bytes(
    sequence_length: Column,
    hidden_size: Column,
    head_size: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    attention_kernel_is_flash: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what segments keep of memories for the backward, one sequence [byte].

    Notes
    -----
    Keys and values that each segment projects again (a naive kernel expands them to all heads);
    what it projects, memories and its own states side by side; what was compressed. Every
    tensor-parallel rank has the hidden states whole.
    """
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    again = memories.projected_again_tokens(sequence_length, own)
    heads = where(attention_kernel_is_flash, num_key_value_heads, num_attention_heads)
    beside = again + sequence_length * minimum(again, 1)
    states = (beside + memories.dropped_tokens(sequence_length, own)) * hidden_size
    elements = 2 * again * heads * head_size + states * tensor_parallel_size
    return elements * activation_element_bytes


def compressive_state_traffic_bytes(
    sequence_length: Column,
    hidden_size: Column,
    head_size: Column,
    num_key_value_heads: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return memories read, their keys and values written and read, states compressed [byte]."""
    own = _compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    again = memories.projected_again_tokens(sequence_length, own)
    dropped = memories.dropped_tokens(sequence_length, own)
    states = (again + dropped + dropped // compression_rate) * hidden_size
    elements = 4 * again * num_key_value_heads * head_size + states * tensor_parallel_size
    return elements * activation_element_bytes
