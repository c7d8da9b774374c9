"""Linear attention by a gated delta rule, token by token or in chunks (Yang et al. 2024).

S <- g S + b k (v - (g S)^T k)^T for each value head, read by its query (arXiv:2412.06464, equation 10).
In chunks the products of the updates are joined in one triangular matrix T = (I + tril(b K K^T))^-1
(section 3.3); gates are elementwise.
"""

from costmodels.attention import chunked, infini
from costmodels.attention.accounts import (
    Account,
    Heads,
    linear_work,
    memory_bytes,
    operand_bytes,
)
from costmodels.columns import Column, maximum, minimum


def recurrent_flop(sequence_length: Column, heads: Heads) -> Column:
    """Return the matrix products token by token: what is held, the addition, the read [FLOP].

    Examples
    --------
    >>> recurrent_flop(1, Heads(query_heads=1, key_size=2, value_size=3))
    36
    """
    tokens = heads.batch_size * heads.query_heads * sequence_length
    return tokens * 6 * heads.key_size * heads.value_size


def solve_flop(rows: Column) -> Column:
    """Return the products that invert a unit triangular matrix row by row [FLOP].

    Notes
    -----
    Row i times the i rows above it, 2 i^2 FLOP for i from 2 below n, since the second row needs no
    product: (n - 1) n (2 n - 1) / 3 - 2.

    Examples
    --------
    >>> solve_flop(4), 2 * (4 + 9)
    (26, 26)
    """
    second = maximum(minimum(rows - 1, 1), 0)
    return (rows - 1) * rows * (2 * rows - 1) // 3 - 2 * second


def _joined_pairs(rows: Column) -> Column:
    """Return the entries of a chunk's triangular matrix, none for one token [pair]."""
    return rows * rows * (rows > 1)


def chunked_flop(sequence_length: Column, heads: Heads, chunk_length: Column) -> Column:
    """Return the matrix products in chunks, as many tokens as there are in the last [FLOP].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes; one query head for each value head, as kernels repeat queries and keys.
    chunk_length : Column
        Tokens of a chunk n [token].

    Returns
    -------
    Column
        For a chunk scores of queries with keys, times values: 2 n^2 (d_k + d_v); if it has more
        than one token scores of keys, T times values: 2 n^2 (d_k + d_v), and the inverse; if there
        is a state T times keys, 2 n^2 d_k, and 4 n d_k d_v to read the state; 2 n d_k d_v to add to
        it where somebody reads it [FLOP].
    """
    key, value = heads.key_size, heads.value_size
    whole = sequence_length // chunk_length
    rest = sequence_length - whole * chunk_length
    joined = whole * _joined_pairs(chunk_length) + _joined_pairs(rest)
    first = _joined_pairs(minimum(sequence_length, chunk_length))
    scores = chunked.square_pairs(sequence_length, chunk_length) + joined
    inside = 2 * scores * (key + value) + 2 * (joined - first) * key
    inverse = whole * solve_flop(chunk_length) + solve_flop(rest)
    later = infini.later_tokens(sequence_length, chunk_length)
    earlier = infini.earlier_tokens(sequence_length, chunk_length)
    state = 2 * key * value * (2 * later + earlier)
    return heads.batch_size * heads.query_heads * (inside + inverse + state)


def account(
    sequence_length: Column,
    heads: Heads,
    *,
    chunk_length: Column,
    convolution_elements: Column = 0,
) -> Account:
    """Return the account of a gated delta rule.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes: query heads are value heads, key-value heads those of keys.
    chunk_length : Column
        Tokens of a chunk [token].
    convolution_elements : Column
        Of the last tokens that a short convolution keeps for the next [element].

    Notes
    -----
    Kept for the backward, approximately: three scores of a chunk, a state for each chunk but the
    last, and for each token queries and keys twice, values four times.
    """
    of_all = heads.batch_size * heads.query_heads
    key, value = heads.key_size, heads.value_size
    executed_pairs = of_all * chunked.square_pairs(sequence_length, chunk_length)
    state_heads = heads._replace(key_value_heads=heads.query_heads)
    tail = heads.batch_size * convolution_elements * heads.element_bytes
    matrix = memory_bytes(state_heads, normalizer=0)
    state = matrix + tail + 0 * sequence_length
    states = (infini.segment_count(sequence_length, chunk_length) - 1) * matrix
    tokens = of_all * sequence_length * (4 * key + 4 * value) * heads.element_bytes
    pairs = of_all * (sequence_length * (sequence_length + 1) // 2)
    executed = chunked_flop(sequence_length, heads, chunk_length)
    return Account(
        attended_pairs=pairs,
        unique_pairs=pairs,
        executed_pairs=executed_pairs,
        ideal=linear_work(recurrent_flop(sequence_length, heads)),
        executed=linear_work(executed),
        elementwise_flop=3 * executed_pairs + of_all * sequence_length * (3 * key + 3 * value),
        saved_bytes=tokens + states + 3 * executed_pairs * heads.element_bytes,
        flash_saved_bytes=tokens + states,
        state_bytes=state,
        peak_state_bytes=state,
        decode_flop=recurrent_flop(1 + 0 * sequence_length, heads),
        decode_burst_flop=0 * executed,
        prefill_traffic_bytes=operand_bytes(sequence_length, heads) + 2 * states,
        score_traffic_bytes=4 * executed_pairs * heads.element_bytes,
        decode_traffic_bytes=2 * state,
    )
