"""Latent attention: how many pairs of query and key it has; the future is always masked."""

from typing import NamedTuple

from costmodels.attention import dense
from costmodels.attention.accounts import Account, Heads, linear_work, pairs_work
from costmodels.columns import Column


def attended_pairs(sequence_length: Column) -> Column:
    """Return the pairs of query and key that are not masked, for one head and sequence [pair].

    Examples
    --------
    >>> attended_pairs(4)
    10
    """
    return dense.attended_pairs(sequence_length, 1)


def executed_pairs(sequence_length: Column, attention_kernel_is_flash: Column) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair]."""
    return dense.executed_pairs(sequence_length, 1, attention_kernel_is_flash)


class Compressed(NamedTuple):
    """Widths of latent attention (DeepSeek-AI 2024, arXiv:2405.04434, section 2.1).

    Attributes
    ----------
    key_value_rank : Column
        Width of the compressed keys and values [element].
    unrotated_size, rotated_size : Column
        Of a head's query and key [element].
    """

    key_value_rank: Column
    unrotated_size: Column
    rotated_size: Column


def expanding_flop(token_count: Column, heads: Heads, compressed: Compressed) -> Column:
    """Return the work that expands the compressed vectors to keys and values of heads [FLOP].

    Notes
    -----
    The same work turns queries and outputs into compressed ones where they are absorbed.

    Examples
    --------
    >>> expanding_flop(4096, Heads(query_heads=128), Compressed(512, 128, 64)) / 4096
    33554432.0
    """
    width = heads.query_heads * (compressed.unrotated_size + heads.value_size)
    return 2 * heads.batch_size * token_count * compressed.key_value_rank * width


def cached_bytes(token_count: Column, heads: Heads, compressed: Compressed) -> Column:
    """Return the compressed vectors and rotated keys of tokens, one for all heads [byte].

    Examples
    --------
    >>> cached_bytes(1, Heads(), Compressed(512, 128, 64))
    1152
    """
    width = compressed.key_value_rank + compressed.rotated_size
    return heads.batch_size * token_count * width * heads.element_bytes


def account(
    sequence_length: Column, heads: Heads, *, compressed: Compressed, absorbed: bool = False
) -> Account:
    """Return the account of causal latent attention; the prefill as said, decoding absorbed.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes; a query is as wide as both its parts.
    compressed : Compressed
        Widths.
    absorbed : bool
        Whether queries are turned into compressed ones, so that keys and values need not be
        expanded: scores of rank plus rotated width, and weighted values of the rank.

    Notes
    -----
    The expanding matrix is counted here, since it differs between the two; other projections are
    not. So are its operands among what is kept for the backward, but for its weights: compressed
    vectors; absorbed, the queries before they are turned and the outputs before they are expanded.
    Scores in memory have the keys of each head beside them, a flash kernel reads absorbed ones once
    for all heads.
    """
    wide = heads._replace(key_size=compressed.unrotated_size + compressed.rotated_size)
    narrow = heads._replace(
        key_size=compressed.key_value_rank + compressed.rotated_size,
        value_size=compressed.key_value_rank,
    )
    core = narrow if absorbed else wide
    found = dense.account(sequence_length, core._replace(key_value_heads=core.query_heads))
    expanding = linear_work(expanding_flop(sequence_length, heads, compressed))
    state = cached_bytes(sequence_length, heads, compressed)
    one = 1 + 0 * sequence_length
    step = pairs_work(heads.batch_size * heads.query_heads * sequence_length, narrow)
    tokens = heads.batch_size * sequence_length
    rank, plain = compressed.key_value_rank, heads.query_heads * compressed.unrotated_size
    outputs = heads.query_heads * rank
    entering = tokens * heads.element_bytes * (plain + outputs if absorbed else rank)
    flash = found.flash_saved_bytes + tokens * rank * heads.element_bytes
    if absorbed:
        # Queries and outputs of each head, one key for all, of which the value is a part.
        own = heads.query_heads * (narrow.key_size + narrow.value_size) + narrow.key_size
        flash = tokens * ((own + plain) * heads.element_bytes + 4 * heads.query_heads)
    return found._replace(
        saved_bytes=found.saved_bytes + entering,
        flash_saved_bytes=flash,
        ideal=found.ideal.plus(expanding),
        executed=found.executed.plus(expanding),
        state_bytes=state,
        peak_state_bytes=state,
        decode_flop=step.forward_flop + expanding_flop(one, heads, compressed),
        decode_traffic_bytes=state,
    )
