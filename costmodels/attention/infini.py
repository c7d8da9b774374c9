"""Infini-attention: softmax attention inside segments, and a compressive memory of all before.

Each key-value head has a matrix M of keys by values and a sum of keys z (Munkhdalai et al. 2024,
arXiv:2404.07143v2, equations 5 to 11). A segment first reads M with its queries, then adds to it:
M <- M + s(K)^T V, or V less what M already holds for these keys (the delta rule). A decay
M <- alpha M + eta s(K)^T V changes no matrix product.
"""

from typing import NamedTuple

from costmodels.attention import chunked
from costmodels.attention.accounts import (
    ELEMENTWISE_PER_SCORE,
    Account,
    Heads,
    key_value_bytes,
    linear_work,
    memory_bytes,
    naive_saved_bytes,
    operand_bytes,
    pairs_work,
)
from costmodels.columns import Column, ceil_div, maximum, minimum, where


class Memory(NamedTuple):
    """How a layer uses its compressive memory.

    Attributes
    ----------
    segment_length : Column
        Tokens of a segment n [token].
    is_delta : Column
        Whether an update subtracts what the memory holds for its keys (equation 9).
    first_read, last_update : Column
        Whether a program reads the empty memory, and updates after the last segment.
    is_decayed : Column
        Whether an update scales memory and addition.
    """

    segment_length: Column
    is_delta: Column = 0
    first_read: Column = 0
    last_update: Column = 0
    is_decayed: Column = 0


def segment_count(sequence_length: Column, segment_length: Column) -> Column:
    """Return the segments of a sequence, the last perhaps short [count].

    Examples
    --------
    >>> segment_count(50, 16)
    4
    """
    return ceil_div(sequence_length, segment_length)


def later_tokens(sequence_length: Column, segment_length: Column) -> Column:
    """Return the tokens behind the first segment, which read a memory that holds some [token].

    Examples
    --------
    >>> later_tokens(50, 16)
    34
    """
    return sequence_length - minimum(sequence_length, segment_length)


def earlier_tokens(sequence_length: Column, segment_length: Column) -> Column:
    """Return the tokens before the last segment, whose keys somebody reads from memory [token].

    Examples
    --------
    >>> earlier_tokens(50, 16), earlier_tokens(48, 16)
    (48, 32)
    """
    return (segment_count(sequence_length, segment_length) - 1) * segment_length


def memory_flop(sequence_length: Column, heads: Heads, memory: Memory) -> Column:
    """Return the matrix products of reads and updates in a forward [FLOP].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    memory : Memory
        How the layer uses its memory.

    Returns
    -------
    Column
        2 d_k (d_v + 1) for each query head and token that reads (equation 7, numerator and
        normalizer), 2 d_k d_v for each key-value head and token that is added (equation 8), and
        2 d_k (d_v + 1) more by the delta rule for all but the first segment (equation 9) [FLOP].
    """
    read = 2 * heads.key_size * (heads.value_size + 1)
    readers = where(
        memory.first_read, sequence_length, later_tokens(sequence_length, memory.segment_length)
    )
    added = where(
        memory.last_update, sequence_length, earlier_tokens(sequence_length, memory.segment_length)
    )
    subtracted = maximum(added - memory.segment_length, 0) * memory.is_delta
    update = 2 * heads.key_size * heads.value_size * added + read * subtracted
    reads = heads.query_heads * read * readers
    return heads.batch_size * (reads + heads.key_value_heads * update)


def memory_backward_flop(sequence_length: Column, heads: Heads, memory: Memory) -> Column:
    """Return the matrix products of reads and updates in the backward [FLOP].

    Notes
    -----
    Twice the forward, but the empty memory has no gradient, and what the last update writes nobody
    reads.
    """
    plain = memory._replace(first_read=0, last_update=0)
    inside = 2 * memory_flop(sequence_length, heads, plain)
    first = minimum(sequence_length, memory.segment_length)
    read = 2 * heads.key_size * (heads.value_size + 1)
    empty = memory.first_read * heads.batch_size * heads.query_heads * read * first
    return inside + empty


def elementwise_flop(sequence_length: Column, heads: Heads, memory: Memory) -> Column:
    """Return the work of the program between matrix products [FLOP].

    Notes
    -----
    Beside 6 for each score: for a query that reads, ELU + 1 (2 d_k), the quotient of equation 7
    (d_v) and the gate of equation 10 (3 d_v), for one of the first segment the gate alone (d_v);
    for a key that is added ELU + 1 (2 d_k) and the sum of keys (d_k); for each update but the first
    the addition to memory (d_k d_v + d_k); by the delta rule quotient and difference (2 d_v).
    """
    segment = memory.segment_length
    later = later_tokens(sequence_length, segment)
    earlier = earlier_tokens(sequence_length, segment)
    updates = segment_count(sequence_length, segment) - 1
    again = maximum(updates - 1, 0)
    key, value = heads.key_size, heads.value_size
    scores = ELEMENTWISE_PER_SCORE * chunked.square_pairs(sequence_length, segment)
    queries = (sequence_length - later) * value + later * (2 * key + 4 * value)
    keys = earlier * 3 * key + again * (key * value + key)
    decay = memory.is_decayed * (again * (key * value + key) + updates * (key * value + key))
    delta = memory.is_delta * maximum(earlier - segment, 0) * 2 * value
    of_heads = heads.query_heads * (scores + queries)
    return heads.batch_size * (of_heads + heads.key_value_heads * (keys + delta + decay))


def state_bytes(token_count: Column, heads: Heads, segment_length: Column) -> Column:
    """Return what a decoder keeps after some tokens: the open segment's keys and values, memory.

    Parameters
    ----------
    token_count : Column
        Tokens read so far [token].
    heads : Heads
        Sizes.
    segment_length : Column
        Tokens of a segment [token].

    Returns
    -------
    Column
        A full segment is added to memory when the next token comes [byte].

    Examples
    --------
    >>> one = Heads(query_heads=1, key_value_heads=1, key_size=4, value_size=4)
    >>> [state_bytes(n, one, 2) for n in (1, 2, 3, 4)]
    [16, 32, 96, 112]
    """
    local = (token_count - 1) % segment_length + 1
    holds = minimum((token_count - 1) // segment_length, 1)
    return key_value_bytes(local, heads) + holds * memory_bytes(heads)


def peak_state_bytes(token_count: Column, heads: Heads, segment_length: Column) -> Column:
    """Return the most that a decoder keeps on its way through some tokens [byte].

    Notes
    -----
    The first segment is full before there is a memory; where the second is full too, both are.
    """
    first = key_value_bytes(minimum(token_count, segment_length), heads)
    behind = minimum(maximum(token_count - segment_length, 0), segment_length)
    later = minimum(behind, 1) * memory_bytes(heads) + key_value_bytes(behind, heads)
    return maximum(first, later)


def step_flop(token_count: Column, heads: Heads, segment_length: Column) -> Column:
    """Return the matrix products of a decoding step, that of the last of some tokens [FLOP]."""
    local = (token_count - 1) % segment_length + 1
    holds = minimum((token_count - 1) // segment_length, 1)
    softmax = 2 * local * (heads.key_size + heads.value_size)
    read = 2 * heads.key_size * (heads.value_size + 1) * holds
    return heads.batch_size * heads.query_heads * (softmax + read)


def burst_flop(heads: Heads, memory: Memory) -> Column:
    """Return the matrix products of the update when a decoder has filled a segment [FLOP]."""
    write = 2 * heads.key_size * heads.value_size
    subtract = memory.is_delta * 2 * heads.key_size * (heads.value_size + 1)
    tokens = heads.batch_size * heads.key_value_heads * memory.segment_length
    return tokens * (write + subtract)


def mapped_bytes(sequence_length: Column, heads: Heads, memory: Memory) -> Column:
    """Return what reads and updates keep for the backward [byte].

    Notes
    -----
    Nothing of an update after the last segment, which no backward reaches. Factors of a decay are
    learned: they keep what they scale.
    """
    segment, key, value = memory.segment_length, heads.key_size, heads.value_size
    later = later_tokens(sequence_length, segment)
    # The empty memory has no gradient: its readers keep no mapped queries.
    first = where(memory.first_read, sequence_length - later, 0)
    earlier = earlier_tokens(sequence_length, segment)
    updates = segment_count(sequence_length, segment) - 1
    others = maximum(updates - 1, 0)
    again = others * memory.is_delta
    reads = heads.query_heads * (later * (key + 2 * value + 1) + first * (2 * value + 1))
    subtracted = maximum(earlier - segment, 0) * memory.is_delta * (2 * value + 1)
    writes = heads.key_value_heads * (earlier * key + subtracted)
    scaled = memory.is_decayed * (updates + others)
    copies = heads.query_heads * (updates + minimum(memory.first_read, 1))
    states = (copies + heads.key_value_heads * (again + scaled)) * key * (value + 1)
    elements = (reads + writes) * heads.element_bytes
    return heads.batch_size * (elements + states * heads.memory_element_bytes)


def account(sequence_length: Column, heads: Heads, *, memory: Memory) -> Account:
    """Return the account of Infini-attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    memory : Memory
        How the layer uses its memory.

    Notes
    -----
    Kept for the backward are the tensors of the program of `validation`: beside softmax and its
    output, for each query that reads its mapped self, both parts of the quotient and the quotient;
    for each key that is added its mapped self; a copy of the state for each segment that reads it.
    A naive program keeps grouped keys and values before and after they are expanded. By the delta
    rule also difference, parts of the quotient and the state for each segment that subtracts.
    """
    segment = memory.segment_length
    attended = chunked.attended_pairs(sequence_length, segment)
    executed = chunked.square_pairs(sequence_length, segment)
    of_all = heads.batch_size * heads.query_heads
    attended, executed = of_all * attended, of_all * executed
    ideal_memory = memory._replace(first_read=0, last_update=0)
    forward = memory_flop(sequence_length, heads, memory)
    backward = memory_backward_flop(sequence_length, heads, memory)
    state = linear_work(forward)._replace(backward_flop=backward, flash_backward_flop=backward)
    states = (segment_count(sequence_length, segment) - 1) * memory_bytes(heads)
    mapped = mapped_bytes(sequence_length, heads, memory)
    outputs = of_all * sequence_length * heads.value_size * heads.element_bytes
    holds = minimum(segment_count(sequence_length, segment) - 1, 1)
    originals = holds * key_value_bytes(sequence_length, heads)
    held = state_bytes(sequence_length, heads, segment)
    operands = operand_bytes(sequence_length, heads)
    return Account(
        attended_pairs=attended,
        unique_pairs=attended,
        executed_pairs=executed,
        ideal=pairs_work(attended, heads).plus(
            linear_work(memory_flop(sequence_length, heads, ideal_memory))
        ),
        executed=pairs_work(executed, heads).plus(state),
        elementwise_flop=elementwise_flop(sequence_length, heads, memory),
        saved_bytes=naive_saved_bytes(sequence_length, executed, heads)
        + outputs
        + originals
        + mapped,
        flash_saved_bytes=operands + 4 * of_all * sequence_length + mapped,
        state_bytes=held,
        peak_state_bytes=peak_state_bytes(sequence_length, heads, segment),
        decode_flop=step_flop(sequence_length, heads, segment),
        decode_burst_flop=burst_flop(heads, memory) + 0 * executed,
        prefill_traffic_bytes=operands + 2 * states,
        score_traffic_bytes=4 * executed * heads.element_bytes,
        decode_traffic_bytes=held,
    )
