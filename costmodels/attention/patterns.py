"""Who attends to whom, as matrices: the definition of each layout, for small sequences.

Entry (i, j) of a matrix of (sequence, sequence) is how many times query i counts key j: in dilated
attention a key that several branches see counts once in each, and their mixture by softmax sums is
one softmax with these multiplicities.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from costmodels.attention.dilated import Branches, head_offset_index
from costmodels.attention.per_head import Dilations

Pattern: TypeAlias = npt.NDArray[np.int64]


def _places(sequence_length: int) -> tuple[Pattern, Pattern]:
    places = np.arange(sequence_length)
    return places[:, None], places[None, :]


def dense(sequence_length: int, *, causal: bool = True) -> Pattern:
    """Return the pattern of dense attention.

    Examples
    --------
    >>> dense(2).tolist()
    [[1, 0], [1, 1]]
    """
    query, key = _places(sequence_length)
    return ((key <= query) | (not causal)).astype(np.int64) * np.ones_like(query + key)


def sliding(sequence_length: int, window: int, sink_tokens: int = 0) -> Pattern:
    """Return the pattern of a sliding window with sinks."""
    query, key = _places(sequence_length)
    near = (query - key < window) | (key < sink_tokens)
    seen: Pattern = ((key <= query) & near).astype(np.int64)
    return seen


def chunked(sequence_length: int, chunk_length: int) -> Pattern:
    """Return the pattern of attention inside chunks."""
    query, key = _places(sequence_length)
    own: Pattern = ((key <= query) & (query // chunk_length == key // chunk_length)).astype(
        np.int64
    )
    return own


def dilated(
    sequence_length: int, head: int, query_heads: int, branches: Branches, *, causal: bool = True
) -> Pattern:
    """Return the pattern of one head of dilated attention."""
    query, key = _places(sequence_length)
    found = np.zeros((sequence_length, sequence_length), dtype=np.int64)
    for length, rate in zip(branches.segment_lengths, branches.dilation_rates, strict=True):
        offset = head_offset_index(head, query_heads, rate, branches.grouped_offsets)
        together = query // length == key // length
        on = (query % length % rate == offset) & (key % length % rate == offset)
        found += together & on & ((key <= query) | (not causal))
    return found


def per_head(sequence_length: int, head: int, query_heads: int, dilations: Dilations) -> Pattern:
    """Return the pattern of one head with a dilation of its own."""
    query, key = _places(sequence_length)
    place = head * len(dilations.rates) // query_heads
    rate = dilations.rates[place]
    aligned = (key <= query) & ((query - key) % rate == 0)
    if not dilations.segment_lengths:
        near: Pattern = (aligned & (query - key < dilations.keys * rate)).astype(np.int64)
        return near
    segment = dilations.segment_lengths[place]
    inside = aligned & (query // segment == key // segment)
    if not dilations.every_residue:
        inside = inside & (query % segment % rate == head % rate)
    seen: Pattern = inside.astype(np.int64)
    return seen
