"""Linear attention: a running sum of keys times values stands for all past tokens.

Token by token, or in chunks that attend inside and read the sum of all before (Katharopoulos et al.
2020, arXiv:2006.16236). Lightning attention (MiniMax 2025, arXiv:2501.08313) is the same without a
normalizer, with a decay that changes no matrix product.
"""

from typing import NamedTuple

from costmodels.attention import chunked, infini
from costmodels.attention.accounts import (
    Account,
    Heads,
    linear_work,
    memory_bytes,
    operand_bytes,
)
from costmodels.columns import Column, where


class Scan(NamedTuple):
    """How linear attention is computed.

    Attributes
    ----------
    chunk_length : Column
        Tokens of a chunk, zero for one token after the other [token].
    has_normalizer : Column
        Whether outputs are divided by queries times the sum of keys.
    """

    chunk_length: Column = 64
    has_normalizer: Column = 1


def full_flop(sequence_length: Column, heads: Heads) -> Column:
    """Return the matrix products without a mask: one sum of all keys times values [FLOP].

    Examples
    --------
    >>> full_flop(3, Heads(query_heads=1, key_value_heads=1, key_size=2, value_size=2))
    60
    """
    key, value = heads.key_size, heads.value_size
    read = heads.query_heads * 2 * key * (value + 1)
    return heads.batch_size * sequence_length * (read + heads.key_value_heads * 2 * key * value)


def recurrent_flop(sequence_length: Column, heads: Heads, scan: Scan) -> Column:
    """Return the matrix products token by token: one addition and one read each [FLOP]."""
    key, value = heads.key_size, heads.value_size
    read = heads.query_heads * 2 * key * (value + scan.has_normalizer)
    return heads.batch_size * sequence_length * (read + heads.key_value_heads * 2 * key * value)


def chunked_flop(sequence_length: Column, heads: Heads, scan: Scan) -> Column:
    """Return the matrix products in chunks [FLOP].

    Notes
    -----
    Inside a chunk of n tokens 2 n^2 (d_k + d_v); every chunk but the first reads the sum, every
    chunk but the last adds to it. The normalizer inside a chunk is a sum of scores.
    """
    chunk, key, value = scan.chunk_length, heads.key_size, heads.value_size
    inside = 2 * chunked.square_pairs(sequence_length, chunk) * (key + value)
    later = infini.later_tokens(sequence_length, chunk)
    read = 2 * key * (value + scan.has_normalizer) * later
    added = 2 * key * value * infini.earlier_tokens(sequence_length, chunk)
    of_queries = heads.query_heads * (inside + read)
    return heads.batch_size * (of_queries + heads.key_value_heads * added)


def account(sequence_length: Column, heads: Heads, *, scan: Scan) -> Account:
    """Return the account of causal linear attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    scan : Scan
        How it is computed.

    Notes
    -----
    Kept for the backward are the tensors of the program of `validation`, in chunks: queries and keys
    before and after their map, expanded keys and values, scores, both parts of the quotient, and a
    copy of the state for each chunk that reads it.
    """
    tokens = heads.batch_size * heads.query_heads * sequence_length
    key, value = heads.key_size, heads.value_size
    in_chunks = scan.chunk_length > 0
    chunk = where(in_chunks, scan.chunk_length, 1)
    ideal = recurrent_flop(sequence_length, heads, scan)
    in_chunk = scan._replace(chunk_length=chunk)
    executed = where(in_chunks, chunked_flop(sequence_length, heads, in_chunk), ideal)
    pairs = where(in_chunks, chunked.square_pairs(sequence_length, chunk), 0)
    executed_pairs = heads.batch_size * heads.query_heads * pairs
    state = memory_bytes(heads, normalizer=scan.has_normalizer) + 0 * sequence_length
    states = (infini.segment_count(sequence_length, chunk) - 1) * state
    operands = operand_bytes(sequence_length, heads)
    reads = where(infini.segment_count(sequence_length, chunk) > 1, 1, 0)
    normal = scan.has_normalizer
    of_queries = tokens * (3 * key + value + normal * (value + 1)) + executed_pairs
    of_keys = heads.batch_size * heads.key_value_heads * sequence_length
    of_keys = of_keys * (key + reads * (key + value)) + pairs
    copies = states // heads.key_value_heads * heads.query_heads
    saved = (of_queries + of_keys) * heads.element_bytes + copies
    return Account(
        attended_pairs=heads.batch_size
        * heads.query_heads
        * (sequence_length * (sequence_length + 1) // 2),
        unique_pairs=heads.batch_size
        * heads.query_heads
        * (sequence_length * (sequence_length + 1) // 2),
        executed_pairs=executed_pairs,
        ideal=linear_work(ideal),
        executed=linear_work(executed),
        elementwise_flop=elementwise_flop(sequence_length, heads, in_chunk),
        saved_bytes=saved,
        flash_saved_bytes=saved - executed_pairs * heads.element_bytes,
        state_bytes=state,
        peak_state_bytes=state,
        decode_flop=recurrent_flop(1 + 0 * sequence_length, heads, scan),
        decode_burst_flop=0 * executed,
        prefill_traffic_bytes=operands + 2 * states,
        score_traffic_bytes=4 * executed_pairs * heads.element_bytes,
        decode_traffic_bytes=2 * state,
    )


def elementwise_flop(sequence_length: Column, heads: Heads, scan: Scan) -> Column:
    """Return the work between matrix products of causal linear attention in chunks [FLOP].

    Notes
    -----
    ELU + 1 of queries and keys (2 d_k each); for a score of a chunk one for its mask and one for
    the normalizer's sum; for a query that reads, the addition of numerator and normalizer
    (d_v + 1), for each the quotient (d_v); the sum of keys (d_k) and its addition, with that of
    keys times values, in every chunk that adds.
    """
    chunk, key, value = scan.chunk_length, heads.key_size, heads.value_size
    normal = scan.has_normalizer
    scores = (1 + normal) * chunked.square_pairs(sequence_length, chunk)
    later = infini.later_tokens(sequence_length, chunk)
    earlier = infini.earlier_tokens(sequence_length, chunk)
    updates = infini.segment_count(sequence_length, chunk) - 1
    again = where(updates > 1, updates - 1, 0)
    queries = sequence_length * (2 * key + normal * value) + later * (value + normal)
    keys = sequence_length * 2 * key + normal * earlier * key + again * key * (value + normal)
    of_queries = heads.query_heads * (scores + queries)
    return heads.batch_size * (of_queries + heads.key_value_heads * keys)
