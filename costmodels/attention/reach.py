"""How many tokens the output of the last token depends on, after some layers.

Layouts with a closed form have it in their module. Those of sparse keys are followed set by set from
the last token backwards: exact, for sequences that fit an array.
"""

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from costmodels.attention.dilated import Branches, head_offset_index
from costmodels.attention.per_head import Dilations, span_tokens
from costmodels.columns import Column, largest, minimum

Marks: TypeAlias = npt.NDArray[np.bool_]

LONGEST_FOLLOWED = 1 << 20
"""Tokens up to which sets are followed."""


def compressive_tokens(
    sequence_length: Column,
    layers: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    rate: Column,
    own_tokens: Column,
) -> Column:
    """Return the reach of a Compressive Transformer: its memories' in every layer [token].

    Notes
    -----
    (c r + N) l of Munkhdalai et al. 2024, Table 1, and the open segment.
    """
    return minimum(
        sequence_length, layers * (memory_tokens + rate * compressed_tokens) + own_tokens
    )


def dilated_count(
    sequence_length: int, layers: int, query_heads: int, branches: Branches
) -> list[int]:
    """Return how many tokens the last one depends on after each of some layers of all branches.

    Parameters
    ----------
    sequence_length : int
        Tokens of a sequence [token].
    layers : int
        Layers, alike [count].
    query_heads : int
        Heads of queries [count].
    branches : Branches
        Of each layer.

    Examples
    --------
    >>> nested = Branches((16, 32, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32))
    >>> dilated_count(512, 3, 32, nested), dilated_count(512, 6, 12, nested)
    ([56, 448, 512], [40, 272, 414, 482, 484, 484])
    """

    def through(marks: Marks) -> Marks:
        found = marks.copy()
        for length, rate in zip(branches.segment_lengths, branches.dilation_rates, strict=True):
            offsets = {
                int(head_offset_index(head, query_heads, rate, branches.grouped_offsets))
                for head in range(query_heads)
            }
            for offset in sorted(offsets):
                _mark_classes(marks, found, min(length, len(marks)), rate, offset)
        return found

    return _followed(sequence_length, [through] * layers)


def per_head_count(
    sequence_length: int, layers: int, query_heads: int, each_layer: Sequence[Dilations]
) -> list[int]:
    """Return how many tokens the last one depends on after each layer, dilations repeating.

    Parameters
    ----------
    sequence_length : int
        Tokens of a sequence [token].
    layers : int
        Layers [count].
    query_heads : int
        Heads of queries [count].
    each_layer : sequence of Dilations
        Of the layers from the first on, from the start again after the last.

    Examples
    --------
    >>> notes = [Dilations(rates, 4) for rates in ((1, 2, 4), (8, 16, 32), (64, 128, 256))]
    >>> per_head_count(4096, 3, 3, notes)[-1], per_head_count(4096, 3, 3, notes[::-1])[-1]
    (384, 384)
    """
    order = list(islice(cycle(each_layer), layers))
    # A layer's output depends on the inputs that its keys had: the last layer is followed first.
    return [
        _followed(
            sequence_length,
            [_step_of(dilations, query_heads) for dilations in reversed(order[:count])],
        )[-1]
        for count in range(1, layers + 1)
    ]


def _step_of(dilations: Dilations, query_heads: int) -> Callable[[Marks], Marks]:
    def through(marks: Marks) -> Marks:
        found = marks.copy()
        for head in range(query_heads):
            place = head * len(dilations.rates) // query_heads
            rate = dilations.rates[place]
            if not dilations.segment_lengths:
                found |= _spread(marks, rate, int(dilations.keys))
                continue
            length = min(dilations.segment_lengths[place], len(marks))
            offsets = range(rate) if dilations.every_residue else (head % rate,)
            for offset in offsets:
                _mark_classes(marks, found, length, rate, offset)
        return found

    return through


def _followed(sequence_length: int, steps: Sequence[Callable[[Marks], Marks]]) -> list[int]:
    marks = np.zeros(sequence_length, dtype=bool)
    marks[-1] = True
    counts = []
    for step in steps:
        marks = step(marks)
        counts.append(int(marks.sum()))
    return counts


def _spread(marks: Marks, rate: int, keys: int) -> Marks:
    """Return the places that are 0, 1, ... keys - 1 steps of `rate` before a marked one."""
    found, reach = marks.copy(), 1
    while reach < keys and reach * rate < len(marks):
        shift = min(reach, keys - reach) * rate
        if shift < len(marks):
            found[:-shift] |= found[shift:].copy()
        reach = min(2 * reach, keys)
    return found


def _mark_classes(marks: Marks, found: Marks, length: int, rate: int, offset: int) -> None:
    """Mark in `found` all places of a class that are not behind a marked one of its segment."""
    firsts = np.arange(0, len(marks), length)[:, None]
    places = (firsts + np.arange(offset, length, rate)).ravel()
    segments = np.repeat(np.arange(len(firsts)), len(range(offset, length, rate)))
    kept = places < len(marks)
    places, segments = places[kept], segments[kept]
    if not len(places):
        return
    before = np.concatenate(([0], np.cumsum(marks[places])))
    ends = np.searchsorted(segments, segments, side="right")
    found[places[before[ends] - before[:-1] > 0]] = True


def sliding_span_tokens(sequence_length: int, layers: int, each_layer: Sequence[Dilations]) -> int:
    """Return how far back sliding dilations of layers reach, holes included [token]."""
    order = islice(cycle(each_layer), layers)
    rates = [largest(dilations.rates) for dilations in order]
    return int(span_tokens(sequence_length, each_layer[0].keys, rates))
