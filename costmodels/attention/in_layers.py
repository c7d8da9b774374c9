"""What the quantities of a layer take of each layout, as functions of a scenario's inputs.

Pairs are of one head and sequence: heads of dilated attention differ by one token of a segment, so
that theirs are a mean. What a layout does beside pairs (reads and updates of a memory, chunks of a
recurrence) is its state's work, of all heads and one sequence.
"""

from costmodels.attention import chunked, delta, dilated, infini, linear, sliding
from costmodels.attention.accounts import Heads
from costmodels.columns import Axis, Column, ceil_div, maximum, minimum, total, where

DELTA_CHUNK_LENGTH = 64
"""Tokens of a chunk in kernels of the gated delta rule (flash-linear-attention, transformers)."""


def _kernel_pairs(
    attended: Column, sequence_length: Column, attention_kernel_is_flash: Column
) -> Column:
    """Return attended pairs of a kernel that skips masked blocks, the whole square of a naive one."""
    return where(attention_kernel_is_flash, attended, sequence_length * sequence_length)


def sliding_attended_pairs(sequence_length: Column, window: Column, sink_tokens: Column) -> Column:
    """Return the pairs of query and key in the window, or a sink, for one head and sequence [pair].

    Examples
    --------
    >>> sliding_attended_pairs(4, 2, 0), sliding_attended_pairs(4, 2, 1)
    (7, 9)
    """
    return sliding.attended_pairs(sequence_length, window, sink_tokens)


def sliding_executed_pairs(
    sequence_length: Column,
    window: Column,
    sink_tokens: Column,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair]."""
    attended = sliding.attended_pairs(sequence_length, window, sink_tokens)
    return _kernel_pairs(attended, sequence_length, attention_kernel_is_flash)


def chunked_attended_pairs(sequence_length: Column, chunk_length: Column) -> Column:
    """Return the pairs of query and key of the same chunk, for one head and sequence [pair].

    Examples
    --------
    >>> chunked_attended_pairs(5, 2)
    7
    """
    return chunked.attended_pairs(sequence_length, chunk_length)


def chunked_executed_pairs(
    sequence_length: Column, chunk_length: Column, attention_kernel_is_flash: Column
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair]."""
    attended = chunked.attended_pairs(sequence_length, chunk_length)
    return _kernel_pairs(attended, sequence_length, attention_kernel_is_flash)


def dilated_attended_pairs(
    sequence_length: Column,
    num_attention_heads: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
) -> Column:
    """Return the pairs of all branches, the mean of heads rounded down, for one sequence [pair].

    Examples
    --------
    >>> dilated_attended_pairs(8, 2, (4, 8), (1, 2))
    30
    """
    branches = dilated.Branches(segment_lengths, dilation_rates)
    pairs = dilated.attended_pairs(sequence_length, num_attention_heads, branches)
    return pairs // num_attention_heads


def dilated_executed_pairs(
    sequence_length: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair].

    Notes
    -----
    Segments and dilations are filled up, as in torchscale (commit 4d1e0e8); a naive kernel computes
    the square of a segment's tokens, a flash kernel half of it and the diagonal.

    Examples
    --------
    >>> dilated_executed_pairs(8, (4, 8), (1, 2), 0)
    48
    """
    squares, triangles = [], []
    for length, rate in zip(segment_lengths, dilation_rates, strict=True):
        segment = minimum(length, sequence_length)
        count, rows = ceil_div(sequence_length, segment), ceil_div(segment, rate)
        squares.append(count * rows * rows)
        triangles.append(count * (rows * (rows + 1) // 2))
    return where(attention_kernel_is_flash, total(triangles), total(squares))


def infini_attended_pairs(sequence_length: Column, segment_length: Column) -> Column:
    """Return the pairs of query and key of the same segment, for one head and sequence [pair]."""
    return chunked.attended_pairs(sequence_length, segment_length)


def infini_executed_pairs(
    sequence_length: Column, segment_length: Column, attention_kernel_is_flash: Column
) -> Column:
    """Return the pairs whose score is computed: squares of segments by a naive kernel [pair].

    Examples
    --------
    >>> infini_executed_pairs(5, 2, 1), infini_executed_pairs(5, 2, 0)
    (7, 9)
    """
    return where(
        attention_kernel_is_flash,
        chunked.attended_pairs(sequence_length, segment_length),
        chunked.square_pairs(sequence_length, segment_length),
    )


def recurrent_attended_pairs() -> Column:
    """Return zero: a recurrence has a state instead of pairs [pair]."""
    return 0


def recurrent_executed_pairs() -> Column:
    """Return zero: scores inside a chunk are counted with the state [pair]."""
    return 0


def softmax_state_flop() -> Column:
    """Return zero: there is no state [FLOP]."""
    return 0


def _infini_heads(
    num_attention_heads: Column, num_key_value_heads: Column, head_size: Column
) -> Heads:
    return Heads(1, num_attention_heads, num_key_value_heads, head_size, head_size)


def infini_state_flop(
    sequence_length: Column,
    segment_length: Column,
    delta_rule: Column,
    first_read: Column,
    last_update: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return the reads and updates of memory that are computed, all heads, one sequence [FLOP].

    Examples
    --------
    >>> infini_state_flop(4096, 2048, 0, 0, 0, 8, 8, 128)
    1077936128
    """
    heads = _infini_heads(num_attention_heads, num_key_value_heads, head_size)
    memory = infini.Memory(segment_length, delta_rule, first_read, last_update)
    return infini.memory_flop(sequence_length, heads, memory)


def infini_state_model_flop(
    sequence_length: Column,
    segment_length: Column,
    delta_rule: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return the reads and updates that the model needs, all heads, one sequence [FLOP]."""
    heads = _infini_heads(num_attention_heads, num_key_value_heads, head_size)
    return infini.memory_flop(sequence_length, heads, infini.Memory(segment_length, delta_rule))


def infini_state_spared_flop(
    sequence_length: Column,
    segment_length: Column,
    delta_rule: Column,
    first_read: Column,
    last_update: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return the work of gradients that nobody needs: of the empty memory, and of the last [FLOP].

    Examples
    --------
    >>> infini_state_spared_flop(4096, 2048, 0, 0, 0, 8, 8, 128)
    0
    >>> infini_state_spared_flop(4, 2, 0, 1, 0, 1, 1, 2) == 2 * 2 * 2 * (2 + 1)
    True
    """
    heads = _infini_heads(num_attention_heads, num_key_value_heads, head_size)
    memory = infini.Memory(segment_length, delta_rule, first_read, last_update)
    forward = infini.memory_flop(sequence_length, heads, memory)
    return 2 * forward - infini.memory_backward_flop(sequence_length, heads, memory)


def gated_delta_state_flop(
    sequence_length: Column, value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return the work of chunks of 64 tokens, all heads, one sequence [FLOP].

    Examples
    --------
    >>> gated_delta_state_flop(64, 1, 128, 128)
    4364990
    """
    heads = Heads(1, value_heads, value_heads, key_head_size, value_head_size)
    return delta.chunked_flop(sequence_length, heads, DELTA_CHUNK_LENGTH)


def lightning_state_flop(
    sequence_length: Column, block_length: Column, num_attention_heads: Column, head_size: Column
) -> Column:
    """Return the work of blocks: inside, the read and the addition, all heads, one sequence [FLOP]."""
    heads = _infini_heads(num_attention_heads, num_attention_heads, head_size)
    return linear.chunked_flop(sequence_length, heads, linear.Scan(block_length, 0))


def gated_delta_state_model_flop(
    sequence_length: Column, value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return the work token by token, which the model needs, all heads, one sequence [FLOP]."""
    heads = Heads(1, value_heads, value_heads, key_head_size, value_head_size)
    return delta.recurrent_flop(sequence_length, heads)


def lightning_state_model_flop(
    sequence_length: Column, num_attention_heads: Column, head_size: Column
) -> Column:
    """Return the work token by token, which the model needs, all heads, one sequence [FLOP]."""
    heads = _infini_heads(num_attention_heads, num_attention_heads, head_size)
    return linear.recurrent_flop(sequence_length, heads, linear.Scan(0, 0))


def no_spared_flop() -> Column:
    """Return zero: every product of the forward has two of the backward [FLOP]."""
    return 0


def no_repeated_flop() -> Column:
    """Return zero: weights multiply each token once [FLOP]."""
    return 0


def softmax_state_kept_bytes() -> Column:
    """Return zero: there is no state [byte]."""
    return 0


def _dilated_rows(
    sequence_length: Column, num_attention_heads: Column, segment_lengths: Axis, rates: Axis
) -> Column:
    """Return the queries of all branches and heads, filled up, of one sequence [token]."""
    branches = dilated.Branches(segment_lengths, rates)
    return dilated.padded_rows(sequence_length, num_attention_heads, branches)


def dilated_state_kept_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
    activation_element_bytes: Column,
) -> Column:
    """Return what branches keep for the backward beside dense tensors, one sequence [byte].

    Notes
    -----
    Of each branch gathered queries, keys, values and outputs, and one logsumexp of a query in fp32;
    outputs scattered to their places, which the mixture weighs.
    """
    rows = _dilated_rows(sequence_length, num_attention_heads, segment_lengths, dilation_rates)
    branches = total([length * 0 + 1 for length in segment_lengths])
    scattered = branches * num_attention_heads * sequence_length * (head_size + 1)
    return (4 * rows * head_size + scattered) * activation_element_bytes + 4 * rows


def dilated_state_traffic_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
    activation_element_bytes: Column,
) -> Column:
    """Return what gathering and mixing branches read and write, one sequence [byte].

    Notes
    -----
    Queries, keys and values of each branch are read and written; outputs of each scattered and read
    again, and their mixture written: (2 k + 1) tensors.
    """
    rows = _dilated_rows(sequence_length, num_attention_heads, segment_lengths, dilation_rates)
    branches = total([length * 0 + 1 for length in segment_lengths])
    mixed = (2 * branches + 1) * num_attention_heads * sequence_length
    return (6 * rows + mixed) * head_size * activation_element_bytes


def infini_state_kept_bytes(
    sequence_length: Column,
    segment_length: Column,
    delta_rule: Column,
    first_read: Column,
    last_update: Column,
    decayed: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what reads and updates keep for the backward, memory in fp32, one sequence [byte].

    Notes
    -----
    As the program of `validation` keeps it: mapped queries and keys, both parts of the quotient and
    the quotient, a copy of the state for each segment that reads it.
    """
    heads = _infini_heads(num_attention_heads, num_key_value_heads, head_size)
    sized = heads._replace(element_bytes=activation_element_bytes, memory_element_bytes=4)
    memory = infini.Memory(segment_length, delta_rule, first_read, last_update, decayed)
    return infini.mapped_bytes(sequence_length, sized, memory)


def gated_delta_state_kept_bytes(
    sequence_length: Column, value_heads: Column, activation_element_bytes: Column
) -> Column:
    """Return what kernels keep: the inverse of each chunk, sums of decays in fp32 [byte].

    Notes
    -----
    States of chunks are computed again in the backward (flash-linear-attention,
    fla/ops/gated_delta_rule/chunk.py).
    """
    token = DELTA_CHUNK_LENGTH * activation_element_bytes + 4
    return sequence_length * value_heads * token


def softmax_state_traffic_bytes() -> Column:
    """Return zero: there is no state [byte]."""
    return 0


def infini_state_traffic_bytes(
    sequence_length: Column,
    segment_length: Column,
    last_update: Column,
    num_key_value_heads: Column,
    head_size: Column,
) -> Column:
    """Return memory written after each segment and read in the next, fp32, one sequence [byte]."""
    segments = infini.segment_count(sequence_length, segment_length) - 1
    return 4 * (2 * segments + last_update) * num_key_value_heads * head_size * (head_size + 1)


def gated_delta_state_traffic_bytes(
    sequence_length: Column,
    value_heads: Column,
    key_head_size: Column,
    value_head_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return states of chunks, written by one kernel and read by the next, one sequence [byte]."""
    chunks = maximum(infini.segment_count(sequence_length, DELTA_CHUNK_LENGTH) - 1, 0)
    matrix = value_heads * key_head_size * value_head_size * activation_element_bytes
    return 2 * chunks * matrix


def lightning_state_traffic_bytes() -> Column:
    """Return zero: a head's state stays on its processor from block to block [byte]."""
    return 0
