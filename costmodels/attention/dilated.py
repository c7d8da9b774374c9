"""Dilated attention (LongNet): branches of sparse segments that all heads run, mixed by softmax sums.

Branch (w, r) cuts a sequence into segments of w tokens; in a segment a head attends among every r-th
token, from its own offset (Ding et al. 2023, arXiv:2307.02486, sections 2.2 to 2.4). With the rule of
the paper, head j starts at j mod r (equation 13); Microsoft's torchscale (commit 4d1e0e8) gives
ceil(H / r) neighbouring heads the same offset.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from costmodels.attention.accounts import (
    ELEMENTWISE_PER_SCORE,
    Account,
    Heads,
    key_value_bytes,
    operand_bytes,
    pairs_work,
)
from costmodels.columns import Axis, Column, ceil_div, maximum, minimum, total, where


class Branches(NamedTuple):
    """The branches of a layer and how heads choose their offsets.

    Attributes
    ----------
    segment_lengths : tuple of int
        Tokens of a segment w of each branch [token].
    dilation_rates : tuple of int
        Step r between the tokens that attend to each other, of each branch [token].
    grouped_offsets : int
        One where neighbouring heads share an offset, as in torchscale.
    """

    segment_lengths: Axis
    dilation_rates: Axis
    grouped_offsets: Column = 0


def offset_rows(length: Column, offset: Column, rate: Column) -> Column:
    """Return how many of offset, offset + rate, ... are below a length [token].

    Examples
    --------
    >>> offset_rows(10, 0, 4), offset_rows(10, 3, 4), offset_rows(2, 3, 4)
    (3, 2, 0)
    """
    return maximum(ceil_div(length - offset, rate), 0)


def offset_heads_count(
    query_heads: Column, rate: Column, offset: Column, grouped_offsets: Column
) -> Column:
    """Return the heads with one offset [count].

    Examples
    --------
    >>> offset_heads_count(12, 5, 1, 0), offset_heads_count(12, 5, 4, 1)
    (3, 0)
    """
    group = ceil_div(query_heads, rate)
    grouped = minimum(maximum(query_heads - offset * group, 0), group)
    return where(grouped_offsets, grouped, offset_rows(query_heads, offset, rate))


def head_offset_index(
    head: Column, query_heads: Column, rate: Column, grouped_offsets: Column
) -> Column:
    """Return the first token of a segment that a head attends from [index].

    Examples
    --------
    >>> head_offset_index(7, 12, 4, 0), head_offset_index(7, 12, 4, 1)
    (3, 2)
    """
    return where(grouped_offsets, head // ceil_div(query_heads, rate), head % rate)


def _ahead(query_heads: Column, rate: Column, rest: Column, grouped_offsets: Column) -> Column:
    """Return the heads whose offset is below `rest`: they have one token more [count]."""
    modulo = query_heads // rate * rest + minimum(query_heads % rate, rest)
    grouped = minimum(query_heads, rest * ceil_div(query_heads, rate))
    return where(grouped_offsets, grouped, modulo)


def _triangle(rows: Column) -> Column:
    return rows * (rows + 1) // 2


def _square(rows: Column) -> Column:
    return rows * rows


def _segment_pairs(
    length: Column,
    query_heads: Column,
    rate: Column,
    grouped_offsets: Column,
    area: Callable[[Column], Column],
) -> Column:
    """Return the pairs of one segment over all heads, whose tokens differ by one at most [pair]."""
    rows = length // rate
    ahead = _ahead(query_heads, rate, length - rows * rate, grouped_offsets)
    return ahead * area(rows + 1) + (query_heads - ahead) * area(rows)


def _cut_pairs(
    sequence_length: Column,
    query_heads: Column,
    segment_length: Column,
    rate: Column,
    grouped_offsets: Column,
    area: Callable[[Column], Column],
) -> Column:
    """Return the pairs of all segments of a branch over all heads, of one sequence [pair]."""
    segment = minimum(segment_length, sequence_length)
    whole = sequence_length // segment
    rest = sequence_length - whole * segment
    inside = _segment_pairs(segment, query_heads, rate, grouped_offsets, area)
    return whole * inside + _segment_pairs(rest, query_heads, rate, grouped_offsets, area)


def _over(branches: Branches) -> Iterable[tuple[Column, Column]]:
    return zip(branches.segment_lengths, branches.dilation_rates, strict=True)


def attended_pairs(
    sequence_length: Column, query_heads: Column, branches: Branches, *, causal: Column = 1
) -> Column:
    """Return the pairs that are not masked, over all heads and branches of one sequence [pair].

    Examples
    --------
    >>> attended_pairs(8, 1, Branches((4, 8), (1, 2)))
    30
    """
    grouped = branches.grouped_offsets
    return total(
        [
            where(
                causal,
                _cut_pairs(sequence_length, query_heads, length, rate, grouped, _triangle),
                _cut_pairs(sequence_length, query_heads, length, rate, grouped, _square),
            )
            for length, rate in _over(branches)
        ]
    )


def ragged_pairs(sequence_length: Column, query_heads: Column, branches: Branches) -> Column:
    """Return the pairs that a program computes which takes each head's own tokens [pair].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    query_heads : Column
        Heads of queries [count].
    branches : Branches
        Of the layer.

    Returns
    -------
    Column
        Squares of the tokens of each head, segment and branch, of one sequence [pair].

    Examples
    --------
    >>> paper = Branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
    >>> 2 * (64 + 64) * ragged_pairs(32768, 12, paper)
    429496731648
    """
    grouped = branches.grouped_offsets
    return total(
        [
            _cut_pairs(sequence_length, query_heads, length, rate, grouped, _square)
            for length, rate in _over(branches)
        ]
    )


def padded_pairs(sequence_length: Column, query_heads: Column, branches: Branches) -> Column:
    """Return the pairs that a program computes which fills segments and dilations up [pair].

    Notes
    -----
    As torchscale does (commit 4d1e0e8): every segment has ceil(w / r) tokens for every head.

    Examples
    --------
    >>> paper = Branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
    >>> 2 * (64 + 64) * padded_pairs(32768, 12, paper)
    429513507840
    """
    squares = []
    for length, rate in _over(branches):
        segment = minimum(length, sequence_length)
        squares.append(ceil_div(sequence_length, segment) * _square(ceil_div(segment, rate)))
    return query_heads * total(squares)


def branches_nest(branches: Branches) -> bool:
    """Return whether each branch's segments hold whole ones of the last, on the same tokens.

    Examples
    --------
    >>> branches_nest(Branches((4, 8), (1, 2))), branches_nest(Branches((4, 8), (2, 3)))
    (True, False)
    """
    if branches.grouped_offsets:
        return False
    pairs = list(_over(branches))
    return all(
        length % last_length == 0 and rate % last_rate == 0 and last_length % rate == 0
        for (last_length, last_rate), (length, rate) in pairwise(pairs)
    )


def unique_pairs(
    sequence_length: Column, query_heads: Column, branches: Branches, *, causal: Column = 1
) -> Column:
    """Return the pairs of nested branches, each counted once, of one sequence [pair].

    Notes
    -----
    A branch repeats of the lower ones the pairs inside their segments that are on its own tokens.
    Valid where `branches_nest`.

    Examples
    --------
    >>> unique_pairs(8, 1, Branches((4, 8), (1, 2)))
    24
    """
    grouped = branches.grouped_offsets
    pairs = list(_over(branches))
    repeated = [
        attended_pairs(
            sequence_length, query_heads, Branches((last,), (rate,), grouped), causal=causal
        )
        for (last, _), (_, rate) in pairwise(pairs)
    ]
    return attended_pairs(sequence_length, query_heads, branches, causal=causal) - total(
        [0, *repeated]
    )


def branch_rows(sequence_length: Column, query_heads: Column, branches: Branches) -> Column:
    """Return the queries of all heads and branches, of one sequence [token]."""
    grouped = branches.grouped_offsets
    return total(
        [
            _cut_pairs(sequence_length, query_heads, length, rate, grouped, lambda rows: rows)
            for length, rate in _over(branches)
        ]
    )


def padded_rows(sequence_length: Column, query_heads: Column, branches: Branches) -> Column:
    """Return the queries of all heads and branches, segments and dilations filled up [token]."""
    rows = []
    for length, rate in _over(branches):
        segment = minimum(length, sequence_length)
        rows.append(ceil_div(sequence_length, segment) * ceil_div(segment, rate))
    return query_heads * total(rows)


def step_pairs(sequence_length: Column, query_heads: Column, branches: Branches) -> Column:
    """Return the keys that the last token's queries read, over all heads and branches [pair].

    Examples
    --------
    >>> [step_pairs(n, 2, Branches((4, 8), (1, 2))) for n in (1, 2, 3, 4, 5)]
    [3, 5, 8, 10, 5]
    """
    counts = []
    for length, rate in _over(branches):
        place = (sequence_length - 1) % length
        heads = offset_heads_count(query_heads, rate, place % rate, branches.grouped_offsets)
        counts.append(heads * (place // rate + 1))
    return total(counts)


def cached_rows_limit_tokens(
    sequence_length: Column, query_heads: Column, branches: Branches
) -> Column:
    """Return a bound of the keys that all heads keep while they may be read again [token].

    Notes
    -----
    A segment's tokens of a head, in every branch; a token that branches share counted once in
    each, so that the bound is met only without shared ones. With w / r constant it does not grow
    with the sequence but by the number of branches.
    """
    rows = [
        minimum(sequence_length, ceil_div(minimum(length, sequence_length), rate))
        for length, rate in _over(branches)
    ]
    return query_heads * minimum(sequence_length, total(rows))


def live_tokens(token: int, query_heads: int, branches: Branches) -> list[int]:
    """Return how many keys each head keeps while a token is processed, its own included.

    Parameters
    ----------
    token : int
        Place of the token [index].
    query_heads : int
        Heads of queries [count].
    branches : Branches
        Of the layer.

    Returns
    -------
    list of int
        For each head the tokens that a branch of it may still read: those of the current segment
        on its offset, as long as this or a later token of the segment is on it too [token].
    """
    return [len(live_places(token, head, query_heads, branches)) for head in range(query_heads)]


def live_places(token: int, head: int, query_heads: int, branches: Branches) -> list[int]:
    """Return the places of the keys that one head keeps while a token is processed, in order."""
    kept = []
    for length, rate in _over(branches):
        offset = int(head_offset_index(head, query_heads, rate, branches.grouped_offsets))
        start = token // length * length
        last = start + offset + (offset_rows(length, offset, rate) - 1) * rate
        if last >= token:
            kept.append(np.arange(start + offset, token + 1, rate))
    return [int(place) for place in np.unique(np.concatenate([np.arange(0), *kept]))]


def account(
    sequence_length: Column,
    heads: Heads,
    *,
    branches: Branches,
    causal: Column = 1,
    padded: bool = False,
) -> Account:
    """Return the account of dilated attention.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    branches : Branches
        Of the layer.
    causal : Column
        Whether the future is masked.
    padded : bool
        Whether a program fills segments and dilations up, as torchscale does.

    Notes
    -----
    State is a bound (`cached_rows_limit_tokens`): the least that a decoder can keep. Torchscale
    keeps all tokens.
    """
    batch, query_heads = heads.batch_size, heads.query_heads
    pairs = padded_pairs if padded else ragged_pairs
    executed = batch * pairs(sequence_length, query_heads, branches)
    attended = batch * attended_pairs(sequence_length, query_heads, branches, causal=causal)
    unique = (
        batch * unique_pairs(sequence_length, query_heads, branches, causal=causal)
        if branches_nest(branches)
        else None
    )
    count_rows = padded_rows if padded else branch_rows
    rows = batch * count_rows(sequence_length, query_heads, branches)
    ways = len(branches.segment_lengths)
    outputs = batch * query_heads * sequence_length
    per_head = heads._replace(query_heads=query_heads, key_value_heads=query_heads)
    of_one_head = per_head._replace(key_value_heads=1)
    state = key_value_bytes(
        cached_rows_limit_tokens(sequence_length, query_heads, branches), of_one_head
    )
    widths = heads.key_size + heads.value_size
    gathered = rows * (2 * heads.key_size + heads.value_size)
    mixed = ways * outputs * (heads.value_size + 1)
    steps = batch * step_pairs(sequence_length, query_heads, branches)
    return Account(
        attended_pairs=attended,
        unique_pairs=unique,
        executed_pairs=executed,
        ideal=pairs_work(attended, heads),
        executed=pairs_work(executed, heads),
        elementwise_flop=(ELEMENTWISE_PER_SCORE + 4) * executed
        + 2 * rows
        + outputs * (5 * ways + 2 * ways * heads.value_size),
        saved_bytes=(gathered + 2 * executed + rows + mixed) * heads.element_bytes,
        flash_saved_bytes=(gathered + rows * heads.value_size + mixed) * heads.element_bytes
        + 4 * rows,
        state_bytes=state,
        peak_state_bytes=state,
        decode_flop=pairs_work(steps, heads).forward_flop,
        decode_burst_flop=0 * executed,
        prefill_traffic_bytes=operand_bytes(sequence_length, heads)
        + 2 * mixed * heads.element_bytes,
        score_traffic_bytes=4 * executed * heads.element_bytes,
        decode_traffic_bytes=steps * widths * heads.element_bytes,
    )
