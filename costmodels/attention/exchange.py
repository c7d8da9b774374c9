"""Bytes that a rank sends for attention when a sequence is spread over ranks, for one layer.

Every rank holds an equal part of the tokens, N / P, at first. Forward; what the backward sends is
stated where it differs.
"""

from costmodels.attention.accounts import Heads, key_value_bytes, memory_bytes
from costmodels.attention.dilated import Branches
from costmodels.columns import Column, maximum, minimum, total


def ring_bytes(sequence_length: Column, heads: Heads, ranks: Column) -> Column:
    """Return the bytes that a rank passes on in ring attention: keys and values of all others.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence, a multiple of the ranks [token].
    heads : Heads
        Sizes.
    ranks : Column
        Ranks P [count].

    Returns
    -------
    Column
        (P - 1) blocks of N / P tokens, whether the future is masked or not [byte].

    Notes
    -----
    Liu et al. 2023, arXiv:2310.01889, section 3. The backward sends keys and values again, and
    their gradients P times.

    Examples
    --------
    >>> ring_bytes(2**20, Heads(query_heads=32, key_value_heads=8), 8) / 2**30
    3.5
    """
    return (ranks - 1) * key_value_bytes(sequence_length // ranks, heads)


def ulysses_bytes(sequence_length: Column, heads: Heads, ranks: Column) -> Column:
    """Return the bytes that a rank sends in four all-to-alls of DeepSpeed-Ulysses.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence, a multiple of the ranks [token].
    heads : Heads
        Sizes; ranks divide the key-value heads.
    ranks : Column
        Ranks P [count].

    Returns
    -------
    Column
        Queries, keys, values and outputs of N / P tokens, but the rank's own part of them [byte].

    Notes
    -----
    Jacobs et al. 2023, arXiv:2309.14509, section 3.2, which leaves (P - 1) / P out. The backward
    sends as much.

    Examples
    --------
    >>> ulysses_bytes(2**20, Heads(query_heads=32, key_value_heads=8), 8) / 2**30
    2.1875
    """
    queries = heads.query_heads * (heads.key_size + heads.value_size)
    shared = heads.key_value_heads * (heads.key_size + heads.value_size)
    held = heads.batch_size * (sequence_length // ranks) * (queries + shared)
    return held * heads.element_bytes // ranks * (ranks - 1)


def halo_bytes(
    sequence_length: Column, heads: Heads, ranks: Column, farthest_tokens: Column
) -> Column:
    """Return the bytes that a rank sends to those behind it whose windows reach its tokens.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence, a multiple of the ranks [token].
    heads : Heads
        Sizes.
    ranks : Column
        Ranks P [count].
    farthest_tokens : Column
        Tokens before its own that a query sees at most: window less one [token].

    Returns
    -------
    Column
        Of the first rank, which sends most: each later rank gets what its first query sees [byte].

    Examples
    --------
    >>> halo_bytes(64, Heads(), 4, 10) == key_value_bytes(10, Heads())
    True
    """
    others = sequence_length - sequence_length // ranks
    return key_value_bytes(minimum(farthest_tokens, others), heads)


def dilated_bytes(
    sequence_length: Column, heads: Heads, ranks: Column, branches: Branches
) -> Column:
    """Return the bytes that a rank sends to gather the segments of dilated attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence, a multiple of the ranks [token].
    heads : Heads
        Sizes.
    ranks : Column
        Ranks P [count].
    branches : Branches
        Of the layer; a segment that is longer than a rank's part is a multiple of it, and its
        dilation divides the part.

    Returns
    -------
    Column
        In every branch with segments longer than N / P, the dilated keys and values of a rank's
        part to each other rank of its segment (Ding et al. 2023, section 3.1) [byte].

    Examples
    --------
    >>> nested = Branches([2048 * 2**i for i in range(10)], [2**i for i in range(10)])
    >>> round(dilated_bytes(2**20, Heads(query_heads=32, key_value_heads=32), 8, nested) / 2**30, 3)
    0.066
    """
    return _gathered_bytes(sequence_length, heads, ranks, branches, whole=0)


def dilated_world_bytes(
    sequence_length: Column, heads: Heads, ranks: Column, branches: Branches
) -> Column:
    """Return the bytes that a rank sends as torchscale gathers: to all ranks, then cut [byte].

    Notes
    -----
    Microsoft torchscale, commit 4d1e0e8, component/dilated_attention.py.
    """
    return _gathered_bytes(sequence_length, heads, ranks, branches, whole=1)


def _gathered_bytes(
    sequence_length: Column, heads: Heads, ranks: Column, branches: Branches, whole: int
) -> Column:
    part = sequence_length // ranks
    rows = []
    for length, rate in zip(branches.segment_lengths, branches.dilation_rates, strict=True):
        others = maximum(length // part - 1, 0)
        spread = (length > part) * (ranks - 1)
        capped = others * (others < ranks) + (ranks - 1) * (others >= ranks)
        rows.append((whole * spread + (1 - whole) * capped) * (part // rate))
    per_token = heads.query_heads * (heads.key_size + heads.value_size)
    return heads.batch_size * per_token * heads.element_bytes * total(rows)


def state_passing_bytes(heads: Heads, normalizer: Column = 1) -> Column:
    """Return the bytes that a rank sends to the next: memory of all before, whatever the length.

    Notes
    -----
    One after the other by the delta rule; a prefix sum or an all-gather of states without it
    (LASP-2, arXiv:2502.07563). The backward sends as much back.

    Examples
    --------
    >>> state_passing_bytes(Heads())
    528384
    """
    return memory_bytes(heads, normalizer=normalizer)
