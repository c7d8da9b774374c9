"""Dilated attention with one dilation for each head, other dilations in other layers.

Three readings. *Sliding*: a query sees its own token and every r-th before it, K keys (Longformer's
dilated sliding window, Beltagy et al. 2020, arXiv:2004.05150, section 3.1). *Segment*: one branch of
LongNet for each head, whose other queries see nothing. *Residue*: in a segment every class of tokens
with the same remainder attends to itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from costmodels.attention import chunked, sliding
from costmodels.attention.accounts import Account, Heads, softmax_account
from costmodels.attention.dilated import offset_rows
from costmodels.columns import Axis, Column, largest, minimum, total


class Dilations(NamedTuple):
    """Which keys the heads of a layer see.

    Attributes
    ----------
    rates : tuple of int
        Dilations; head h has `rates[h * len(rates) // query_heads]`, equal shares of heads [token].
    keys : Column
        Keys of a query in the sliding reading, its own included [token].
    segment_lengths : tuple of int
        Tokens of a segment for each dilation, empty for the sliding reading [token].
    every_residue : int
        Whether all classes of a segment attend, or that of the head's offset only.
    """

    rates: Axis
    keys: Column = 0
    segment_lengths: Axis = ()
    every_residue: Column = 0


def sliding_pairs(sequence_length: Column, keys: Column, rate: Column) -> Column:
    """Return the pairs of one head that sees every r-th token, itself included [pair].

    Notes
    -----
    Tokens with the same remainder are a sequence of their own with a window of K keys.

    Examples
    --------
    >>> sliding_pairs(5, 2, 1), sliding_pairs(5, 2, 3)
    (9, 7)
    """
    whole = sequence_length // rate
    longer = sequence_length - whole * rate
    more = sliding.attended_pairs(whole + 1, keys)
    return longer * more + (rate - longer) * sliding.attended_pairs(whole, keys)


def segment_pairs(
    sequence_length: Column, segment_length: Column, rate: Column, offset: Column
) -> Column:
    """Return the causal pairs of one head with one branch, of its own offset [pair].

    Examples
    --------
    >>> segment_pairs(8, 4, 2, 0), segment_pairs(6, 4, 2, 1)
    (6, 4)
    """
    return _cut(sequence_length, segment_length, rate, offset, chunked.attended_pairs)


def segment_square_pairs(
    sequence_length: Column, segment_length: Column, rate: Column, offset: Column
) -> Column:
    """Return the pairs that a program computes for one head with one branch [pair]."""
    return _cut(sequence_length, segment_length, rate, offset, chunked.square_pairs)


def _cut(
    sequence_length: Column,
    segment_length: Column,
    rate: Column,
    offset: Column,
    area: Callable[[Column, Column], Column],
) -> Column:
    segment = minimum(segment_length, sequence_length)
    whole = sequence_length // segment
    rows = offset_rows(segment, offset, rate)
    rest = offset_rows(sequence_length - whole * segment, offset, rate)
    # One chunk as long as its tokens, or one that is never filled where there are none.
    return whole * area(rows, rows + 1) + area(rest, rest + 1)


def residue_pairs(sequence_length: Column, segment_length: Column, rate: Column) -> Column:
    """Return the causal pairs of one head whose every class attends to itself [pair].

    Examples
    --------
    >>> residue_pairs(8, 4, 2)
    12
    """
    return _classes(sequence_length, segment_length, rate, chunked.attended_pairs)


def residue_square_pairs(sequence_length: Column, segment_length: Column, rate: Column) -> Column:
    """Return the pairs that a program computes for one head whose every class attends [pair]."""
    return _classes(sequence_length, segment_length, rate, chunked.square_pairs)


def _classes(
    sequence_length: Column,
    segment_length: Column,
    rate: Column,
    area: Callable[[Column, Column], Column],
) -> Column:
    segment = minimum(segment_length, sequence_length)
    whole = sequence_length // segment
    rest = sequence_length - whole * segment
    return whole * _of_classes(segment, rate, area) + _of_classes(rest, rate, area)


def _of_classes(length: Column, rate: Column, area: Callable[[Column, Column], Column]) -> Column:
    rows = length // rate
    longer = length - rows * rate
    return longer * area(rows + 1, rows + 2) + (rate - longer) * area(rows, rows + 1)


def cached_tokens(sequence_length: Column, keys: Column, rate: Column) -> Column:
    """Return the tokens that a head keeps in the sliding reading: all between its keys [token].

    Examples
    --------
    >>> cached_tokens(10**6, 2048, 256)
    524033
    """
    return minimum(sequence_length, (keys - 1) * rate + 1)


def span_tokens(sequence_length: Column, keys: Column, largest_rates: Axis) -> Column:
    """Return how far back the last token's output reaches after some layers [token].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    keys : Column
        Keys of a query [token].
    largest_rates : Axis
        Largest dilation of each layer [token].

    Examples
    --------
    >>> span_tokens(10**6, 2048, (4, 32, 256))
    597725
    """
    return minimum(sequence_length, 1 + (keys - 1) * total(largest_rates))


def _by_head(
    sequence_length: Column, query_heads: int, dilations: Dilations
) -> tuple[list[Column], list[Column], list[Column], list[Column]]:
    """Return for each head attended, executed, cached tokens at most, and the last token's keys."""
    places = [head * len(dilations.rates) // query_heads for head in range(query_heads)]
    attended, executed, cached, steps = [], [], [], []
    for head, place in enumerate(places):
        rate = dilations.rates[place]
        if not dilations.segment_lengths:
            attended.append(sliding_pairs(sequence_length, dilations.keys, rate))
            executed.append(sequence_length * dilations.keys)
            cached.append(cached_tokens(sequence_length, dilations.keys, rate))
            steps.append(minimum(dilations.keys, (sequence_length - 1) // rate + 1))
            continue
        segment, offset = dilations.segment_lengths[place], head % rate
        here = (sequence_length - 1) % segment
        if dilations.every_residue:
            attended.append(residue_pairs(sequence_length, segment, rate))
            executed.append(residue_square_pairs(sequence_length, segment, rate))
            cached.append(minimum(sequence_length, segment))
            steps.append(here // rate + 1)
        else:
            attended.append(segment_pairs(sequence_length, segment, rate, offset))
            executed.append(segment_square_pairs(sequence_length, segment, rate, offset))
            cached.append(offset_rows(minimum(sequence_length, segment), offset, rate))
            steps.append((here % rate == offset) * (here // rate + 1))
    return attended, executed, cached, steps


def _kept_elements(sequence_length: Column, heads: Heads, dilations: Dilations) -> Any:
    """Return gathered queries, keys and values of one sequence, which a program keeps [element]."""
    key, value = heads.key_size, heads.value_size
    query_heads = int(heads.query_heads)
    if not dilations.segment_lengths:
        return query_heads * sequence_length * (key + dilations.keys * (key + value))
    rows = []
    for head in range(query_heads):
        place = head * len(dilations.rates) // query_heads
        segment, rate = dilations.segment_lengths[place], dilations.rates[place]
        if dilations.every_residue:
            rows.append(sequence_length)
            continue
        whole = sequence_length // segment
        rest = sequence_length - whole * segment
        offset = head % rate
        rows.append(whole * offset_rows(segment, offset, rate) + offset_rows(rest, offset, rate))
    return total(rows) * (2 * key + value)


def _shared_tokens(
    sequence_length: Column, heads: Heads, dilations: Dilations, cached: list[Column]
) -> list[Column]:
    """Return the tokens that each head of keys and values keeps at most."""
    query_heads = int(heads.query_heads)
    group = query_heads // int(heads.key_value_heads)
    kept = []
    for first in range(0, query_heads, group):
        members = range(first, first + group)
        if dilations.every_residue or not dilations.segment_lengths:
            kept.append(largest([cached[head] for head in members]))
            continue
        places = {head: head * len(dilations.rates) // query_heads for head in members}
        # Heads with one dilation and one offset read the same tokens.
        apart = {(place, head % dilations.rates[place]): head for head, place in places.items()}
        kept.append(minimum(sequence_length, total([cached[head] for head in apart.values()])))
    return kept


def account(sequence_length: Column, heads: Heads, *, dilations: Dilations) -> Account:
    """Return the account of one dilation for each head.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes; the number of query heads is a plain integer.
    dilations : Dilations
        Which keys the heads see.

    Notes
    -----
    Heads that share keys and values keep what one of them reads: in segments the tokens on all their
    offsets, at most (dilations that differ count apart), else as many as the one that keeps most. In
    the sliding reading a program gathers K keys for every query, masked ones too.
    """
    attended, executed, cached, steps = _by_head(sequence_length, int(heads.query_heads), dilations)
    shared = _shared_tokens(sequence_length, heads, dilations, cached)
    # `key_value_bytes` counts key-value heads; the sum over heads stands for them.
    found = softmax_account(
        sequence_length,
        heads,
        attended_pairs=total(attended),
        executed_pairs=total(executed),
        state_tokens=0 * sequence_length,
        peak_state_tokens=0 * sequence_length,
        step_pairs=total(steps),
    )
    width = heads.batch_size * (heads.key_size + heads.value_size) * heads.element_bytes
    kept = heads.batch_size * _kept_elements(sequence_length, heads, dilations)
    state = total(shared) * width
    read = heads.batch_size * total(steps) * (heads.key_size + heads.value_size)
    return found._replace(
        saved_bytes=(kept + found.executed_pairs) * heads.element_bytes,
        state_bytes=state,
        peak_state_bytes=state,
        decode_traffic_bytes=read * heads.element_bytes,
    )
