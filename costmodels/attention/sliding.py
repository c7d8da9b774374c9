"""Sliding-window attention: every query sees the nearest keys, its own among them, and some sinks.

The window counts the query's own key: query i sees keys i - window + 1 to i. Papers and kernels that
count the keys before it have a window one smaller (Mistral 7B's text; transformers pull request
40163). Sinks are the first tokens of a sequence, which every query sees (Xiao et al. 2023,
arXiv:2309.17453).
"""

from costmodels.attention.accounts import Account, Heads, softmax_account
from costmodels.columns import Column, maximum, minimum


def attended_pairs(sequence_length: Column, window: Column, sink_tokens: Column = 0) -> Column:
    """Return the pairs of query and key that are not masked, of one head [pair].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence N [token].
    window : Column
        Keys of a query W, its own included [token].
    sink_tokens : Column
        First tokens that every query sees S [token].

    Returns
    -------
    Column
        N w - w (w - 1) / 2 with w = min(W, N), and for the M = N - w queries whose window has left
        the first token, M s - s (s - 1) / 2 with s = min(S, M) [pair].

    Examples
    --------
    >>> attended_pairs(32768, 4096), attended_pairs(4, 2), attended_pairs(4, 2, 1)
    (125831168, 7, 9)
    """
    width = minimum(window, sequence_length)
    beyond = sequence_length - width
    sinks = minimum(sink_tokens, beyond)
    near = sequence_length * width - width * (width - 1) // 2
    return near + beyond * sinks - sinks * (sinks - 1) // 2


def chunked_pairs(
    sequence_length: Column, window: Column, chunk_length: Column, sink_tokens: Column = 0
) -> Column:
    """Return the pairs that a program computes which takes queries in chunks, of one head [pair].

    Parameters
    ----------
    sequence_length, window, sink_tokens : Column
        As in `attended_pairs` [token].
    chunk_length : Column
        Queries of a chunk [token].

    Returns
    -------
    Column
        For queries a to e - 1: e - a times the keys max(0, a - window + 1) to e - 1, and the sinks
        before them [pair].

    Examples
    --------
    >>> chunked_pairs(4, 2, 2), chunked_pairs(4, 2, 4), chunked_pairs(5, 2, 2)
    (10, 16, 12)
    """
    start = sequence_length // chunk_length * chunk_length
    rest = sequence_length - start
    whole, tail = _chunk_keys(sequence_length, window, chunk_length, sink_tokens)
    return chunk_length * whole + rest * tail


def gathered_tokens(
    sequence_length: Column, window: Column, chunk_length: Column, sink_tokens: Column = 0
) -> Column:
    """Return the keys of all chunks together, parameters as in `chunked_pairs` [token].

    Examples
    --------
    >>> gathered_tokens(5, 2, 2)
    7
    """
    rest = sequence_length - sequence_length // chunk_length * chunk_length
    whole, tail = _chunk_keys(sequence_length, window, chunk_length, sink_tokens)
    return whole + minimum(rest, 1) * tail


def _chunk_keys(
    sequence_length: Column, window: Column, chunk_length: Column, sink_tokens: Column
) -> tuple[Column, Column]:
    """Return the keys that whole chunks take together, and those of a short last one [token]."""
    whole = sequence_length // chunk_length
    start = whole * chunk_length
    # Chunks whose first key is the sequence's, then those whose keys have a constant width.
    early = minimum(whole, (window - 1) // chunk_length + 1)
    near = chunk_length * (early * (early + 1) // 2)
    later = (whole - early) * (chunk_length + window - 1)
    # Later chunk i takes min(S, i C - W + 1) sinks: growing until all are behind its window.
    filled = -((1 - sink_tokens - window) // chunk_length)
    first_full = minimum(maximum(filled, early), whole)
    growing = first_full - early
    grown = chunk_length * ((early + first_full - 1) * growing // 2) - growing * (window - 1)
    sinks = grown + (whole - first_full) * sink_tokens
    first = maximum(start - window + 1, 0)
    return near + later + sinks, sequence_length - first + minimum(sink_tokens, first)


def cached_tokens(sequence_length: Column, window: Column, sink_tokens: Column = 0) -> Column:
    """Return the tokens whose keys and values a decoder keeps: a rolling window and sinks [token].

    Examples
    --------
    >>> cached_tokens(32768, 4096), cached_tokens(10, 4, 2), cached_tokens(5, 4, 2)
    (4096, 6, 5)
    """
    return minimum(sequence_length, window + sink_tokens)


def reached_tokens(
    sequence_length: Column, window: Column, layers: Column, sink_tokens: Column = 0
) -> Column:
    """Return the tokens that the last token's output depends on after some layers [token].

    Examples
    --------
    >>> reached_tokens(10**6, 4096, 32)
    131041
    """
    near = minimum(sequence_length, layers * (window - 1) + 1)
    return minimum(sequence_length, near + minimum(sink_tokens, sequence_length))


def account(
    sequence_length: Column,
    heads: Heads,
    *,
    window: Column,
    sink_tokens: Column = 0,
    chunk_length: Column | None = None,
) -> Account:
    """Return the account of sliding-window attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    window, sink_tokens : Column
        As in `attended_pairs` [token].
    chunk_length : Column, optional
        Queries that a program takes at once: as many as the window has keys [token].
    """
    chunk = window if chunk_length is None else chunk_length
    executed = chunked_pairs(sequence_length, window, chunk, sink_tokens)
    cached = cached_tokens(sequence_length, window, sink_tokens)
    found = softmax_account(
        sequence_length,
        heads,
        attended_pairs=heads.query_heads * attended_pairs(sequence_length, window, sink_tokens),
        executed_pairs=heads.query_heads * executed,
        state_tokens=cached,
        peak_state_tokens=cached,
        step_pairs=heads.query_heads * cached,
    )
    keys = gathered_tokens(sequence_length, window, chunk, sink_tokens)
    width = heads.key_size + heads.value_size
    kept = sequence_length * heads.key_size + keys * width + executed
    saved = heads.batch_size * heads.query_heads * kept * heads.element_bytes
    return found._replace(saved_bytes=saved)
