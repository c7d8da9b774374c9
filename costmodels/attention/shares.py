"""One dilation for each equal share of a layer's heads, as functions of a scenario's inputs.

As many heads, and as many of keys and values, have each dilation; heads differ by their offset, their
place among all heads. Pairs are of one head and sequence, so that theirs are a mean rounded down;
what the mean leaves out is counted with the layer's state, of all heads and one sequence.
"""

from collections.abc import Callable, Iterator

from costmodels.attention import per_head
from costmodels.columns import Axis, Column, ceil_div, minimum, total, where


def _ahead(heads: Column, rate: Column, rest: Column) -> Column:
    """Return how many of the first heads have an offset below `rest` [count]."""
    return heads // rate * rest + minimum(heads % rate, rest)


def _rows(
    length: Column,
    rate: Column,
    first: Column,
    heads: Column,
    area: Callable[[Column], Column],
) -> Column:
    """Return the sum over a share's heads of a function of their tokens of one segment."""
    rows = length // rate
    rest = length - rows * rate
    longer = _ahead(first + heads, rate, rest) - _ahead(first, rate, rest)
    return longer * area(rows + 1) + (heads - longer) * area(rows)


def _in_segments(
    sequence_length: Column,
    segment_length: Column,
    rate: Column,
    first: Column,
    heads: Column,
    area: Callable[[Column], Column],
) -> Column:
    """Return the sum over a share's heads and the segments of a sequence."""
    segment = minimum(segment_length, sequence_length)
    whole = sequence_length // segment
    rest = sequence_length - whole * segment
    inside = _rows(segment, rate, first, heads, area)
    return whole * inside + _rows(rest, rate, first, heads, area)


def _triangle(rows: Column) -> Column:
    return rows * (rows + 1) // 2


def _square(rows: Column) -> Column:
    return rows * rows


def _shares(heads: Column, dilation_rates: Axis) -> Iterator[tuple[Column, Column, Column]]:
    """Return the dilation of each share, its first head, and how many heads it has."""
    share = heads // len(dilation_rates)
    for place, rate in enumerate(dilation_rates):
        yield rate, place * share, share


def _segments(
    heads: Column, dilation_rates: Axis, segment_lengths: Axis
) -> list[tuple[Column, Column, Column, Column]]:
    """Return dilation, first head, heads and segment of each share, none without segments."""
    shares = zip(_shares(heads, dilation_rates), segment_lengths, strict=False)
    return [(*share, length) for share, length in shares]


def all_attended_pairs(
    sequence_length: Column,
    num_attention_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the pairs that are not masked, of all heads and one sequence [pair].

    Examples
    --------
    >>> all_attended_pairs(5, 2, (1, 3), (), 2, 0), all_attended_pairs(8, 2, (2, 2), (4, 4), 0, 0)
    (16, 12)
    """
    # One of the two is zero: without segments queries have keys, and the other way round.
    slid = [
        heads * per_head.sliding_pairs(sequence_length, keys_per_query, rate)
        for rate, _, heads in _shares(num_attention_heads, dilation_rates)
    ]
    return total(slid) + total(
        [
            0,
            *[
                where(
                    every_residue,
                    heads * per_head.residue_pairs(sequence_length, length, rate),
                    _in_segments(sequence_length, length, rate, first, heads, _triangle),
                )
                for rate, first, heads, length in _segments(
                    num_attention_heads, dilation_rates, segment_lengths
                )
            ],
        ]
    )


def all_executed_pairs(
    sequence_length: Column,
    num_attention_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the pairs whose score is computed, of all heads and one sequence [pair].

    Notes
    -----
    A flash kernel computes attended pairs. A naive one gathers all keys of every query, masked ones
    too, or takes the square of a segment's tokens.

    Examples
    --------
    >>> all_executed_pairs(5, 2, (1, 3), (), 2, 0, 0)
    20
    """
    attended = all_attended_pairs(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    squares = [
        where(
            every_residue,
            heads * per_head.residue_square_pairs(sequence_length, length, rate),
            _in_segments(sequence_length, length, rate, first, heads, _square),
        )
        for rate, first, heads, length in _segments(
            num_attention_heads, dilation_rates, segment_lengths
        )
    ]
    gathered = num_attention_heads * sequence_length * keys_per_query
    return where(attention_kernel_is_flash, attended, gathered + total([0, *squares]))


def dilated_heads_attended_pairs(
    sequence_length: Column,
    num_attention_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the pairs that are not masked, the mean of heads rounded down, of one sequence [pair]."""
    pairs = all_attended_pairs(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    return pairs // num_attention_heads


def dilated_heads_executed_pairs(
    sequence_length: Column,
    num_attention_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the pairs that are computed, the mean of heads rounded down, of one sequence [pair]."""
    pairs = all_executed_pairs(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
        attention_kernel_is_flash,
    )
    return pairs // num_attention_heads


def dilated_heads_state_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    attention_kernel_is_flash: Column,
) -> Column:
    """Return the work of computed pairs that the mean of heads leaves out, one sequence [FLOP]."""
    pairs = all_executed_pairs(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
        attention_kernel_is_flash,
    )
    return 4 * head_size * (pairs % num_attention_heads)


def dilated_heads_state_model_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the work of attended pairs that the mean of heads leaves out, one sequence [FLOP]."""
    pairs = all_attended_pairs(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    return 4 * head_size * (pairs % num_attention_heads)


def _gathered_rows(
    sequence_length: Column,
    num_attention_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> tuple[Column, Column]:
    """Return the queries, and the keys, that a naive kernel gathers for all heads [token]."""
    rows = [
        where(
            every_residue,
            heads * sequence_length,
            _in_segments(sequence_length, length, rate, first, heads, lambda tokens: tokens),
        )
        for rate, first, heads, length in _segments(
            num_attention_heads, dilation_rates, segment_lengths
        )
    ]
    queries = total([0, *rows])
    return queries, queries + num_attention_heads * sequence_length * keys_per_query


def dilated_heads_state_kept_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    attention_kernel_is_flash: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what a naive kernel gathers and keeps for the backward, one sequence [byte]."""
    queries, keys = _gathered_rows(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    gathered = (queries + 2 * keys) * head_size * activation_element_bytes
    return where(attention_kernel_is_flash, 0 * gathered, gathered)


def dilated_heads_state_traffic_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    attention_kernel_is_flash: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return what a naive kernel reads and writes to gather, one sequence [byte]."""
    return 2 * dilated_heads_state_kept_bytes(
        sequence_length,
        num_attention_heads,
        head_size,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
        attention_kernel_is_flash,
        activation_element_bytes,
    )


def all_cached_tokens(
    sequence_length: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the tokens that a decoder keeps at most, over all heads of keys and values [token].

    Notes
    -----
    Sliding, all between the first and the last of a query's keys. In segments, the tokens on the
    offsets of the heads that share keys, or all of the segment.

    Examples
    --------
    >>> all_cached_tokens(100, 2, 2, (1, 8), (), 4, 0), all_cached_tokens(8, 4, 2, (2,), (4,), 0, 0)
    (29, 8)
    """
    shared = num_key_value_heads // len(dilation_rates)
    group = num_attention_heads // num_key_value_heads
    slides = minimum(keys_per_query, 1)
    kept = [
        slides * shared * per_head.cached_tokens(sequence_length, keys_per_query, rate)
        for rate in dilation_rates
    ]
    for rate, first, heads, length in _segments(
        num_attention_heads, dilation_rates, segment_lengths
    ):
        segment = minimum(length, sequence_length)
        own = _rows(segment, rate, first, heads, lambda tokens: tokens)
        # Neighbours have neighbouring offsets: as many heads as the dilation see all tokens.
        every = where(every_residue, 1, group >= rate)
        kept.append(where(every, shared * segment, own))
    return total(kept)


def rank_cached_tokens(all_tokens: Column, tensor_parallel_size: Column) -> Column:
    """Return the tokens of heads of keys and values on one rank, dilations shared evenly [token].

    Examples
    --------
    >>> rank_cached_tokens(29, 2)
    15
    """
    return ceil_div(all_tokens, tensor_parallel_size)


def step_tokens(
    sequence_length: Column,
    head_count: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the keys that a token reads over all heads, of queries or of keys, at most [token].

    Notes
    -----
    In segments at the end of one; of heads with an offset of their own, as many as can share the
    token's.

    Examples
    --------
    >>> step_tokens(100, 2, (1, 8), (), 16, 0), step_tokens(100, 4, (2,), (8,), 0, 0)
    (29, 8)
    """
    slid = [
        heads * minimum(keys_per_query, ceil_div(sequence_length, rate))
        for rate, _, heads in _shares(head_count, dilation_rates)
    ]
    inside = [
        where(every_residue, heads, ceil_div(heads, rate))
        * ceil_div(minimum(length, sequence_length), rate)
        for rate, _, heads, length in _segments(head_count, dilation_rates, segment_lengths)
    ]
    return total([*slid, *inside])
