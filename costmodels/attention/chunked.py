"""Chunked attention: a query sees the past of its own chunk (Llama 4)."""

from costmodels.attention.accounts import Account, Heads, softmax_account
from costmodels.columns import Column, minimum


def attended_pairs(sequence_length: Column, chunk_length: Column) -> Column:
    """Return the pairs of query and key that are not masked, of one head [pair].

    Examples
    --------
    >>> attended_pairs(5, 2), attended_pairs(5, 8)
    (7, 15)
    """
    whole = sequence_length // chunk_length
    rest = sequence_length - whole * chunk_length
    return whole * (chunk_length * (chunk_length + 1) // 2) + rest * (rest + 1) // 2


def square_pairs(sequence_length: Column, chunk_length: Column) -> Column:
    """Return the pairs that a program computes which masks the square of each chunk [pair].

    Examples
    --------
    >>> square_pairs(5, 2)
    9
    """
    whole = sequence_length // chunk_length
    rest = sequence_length - whole * chunk_length
    return whole * chunk_length * chunk_length + rest * rest


def cached_tokens(sequence_length: Column, chunk_length: Column) -> Column:
    """Return the tokens that a decoder keeps after the last token: its own chunk's past [token].

    Examples
    --------
    >>> cached_tokens(5, 2), cached_tokens(4, 2)
    (1, 2)
    """
    return (sequence_length - 1) % chunk_length + 1


def account(sequence_length: Column, heads: Heads, *, chunk_length: Column) -> Account:
    """Return the account of chunked attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    chunk_length : Column
        Tokens of a chunk [token].
    """
    cached = cached_tokens(sequence_length, chunk_length)
    return softmax_account(
        sequence_length,
        heads,
        attended_pairs=heads.query_heads * attended_pairs(sequence_length, chunk_length),
        executed_pairs=heads.query_heads * square_pairs(sequence_length, chunk_length),
        state_tokens=cached,
        peak_state_tokens=minimum(sequence_length, chunk_length),
        step_pairs=heads.query_heads * cached,
    )
