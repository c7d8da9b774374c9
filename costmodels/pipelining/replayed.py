"""What a schedule holds and how long it takes, from its list of actions, for rows of any length.

For schedules whose list is the simplest exact statement: a list is made and replayed once for each
combination of sizes among the rows, and its result kept. Rows whose sizes the schedule refuses get
zero, which nobody reads: a search masks them.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from costmodels.columns import Axis, Column, maximum
from costmodels.errors import NotModelledError
from costmodels.pipelining.actions import RELEASING, Action, ActionKind, Row
from costmodels.pipelining.placements import Placement
from costmodels.pipelining.playing import play

PLAYED_LIMIT = 5_000_000
"""Actions, over all rows, past which times are not found by playing lists."""


class Listed(NamedTuple):
    """A schedule as its list of actions.

    Attributes
    ----------
    name : str
        Name in messages.
    rows : callable
        Its order with the actions that overlap, from the three sizes.
    placement : callable
        Where its virtual stages are, from p and v.
    legal : callable
        Whether it exists, from the three sizes.
    copies : int
        How many copies of the layers its ranks hold, each for its part of the microbatches [count].
    """

    name: str
    rows: Callable[..., tuple[Row, ...]]
    placement: Callable[..., Placement]
    legal: Callable[..., Column]
    copies: int = 1


class Held(NamedTuple):
    """What a rank holds at a moment that may be its peak.

    Attributes
    ----------
    released_count : int
        Whole backwards or weight gradients done [count].
    counts : tuple of int
        By chunk, the microbatches whose activations it holds [count].
    """

    released_count: int
    counts: tuple[int, ...]


@lru_cache(maxsize=1024)
def held_at_peaks(listed: Listed, p: int, v: int, m: int) -> tuple[tuple[Held, ...], ...]:
    """Return for each rank the moments of which one is the peak, whatever its chunks weigh.

    Activations are kept from the start of a forward to the end of the backward, or of its
    weight-gradient half. A moment at which every chunk holds no more than at another one is left
    out.
    """
    placement = listed.placement(pipeline_parallel_size=p, virtual_stages=v)
    rows = listed.rows(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    return tuple(
        tuple(_largest_moments(row.actions, placement.stages_of(rank)))
        for rank, row in enumerate(rows)
    )


def _largest_moments(row: Sequence[Action], stages: Sequence[int]) -> Iterator[Held]:
    first: dict[tuple[int, ...], int] = {}
    held: Counter[int] = Counter()
    released = 0
    for action in row:
        if action.kind is ActionKind.FORWARD:
            held[action.stage] += 1
        elif action.kind in RELEASING:
            first.setdefault(tuple(held[stage] for stage in stages), released)
            held[action.stage] -= 1
            released += 1
    for counts, place in first.items():
        if not any(
            other != counts and all(more >= own for more, own in zip(other, counts, strict=True))
            for other in first
        ):
            yield Held(place, counts)


def _groups(*columns: Column) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield each combination of some columns' values, with the rows that have it."""
    rows = np.stack([np.ravel(column) for column in np.broadcast_arrays(*columns)])
    combinations, inverse = np.unique(rows, axis=1, return_inverse=True)
    inverse = np.ravel(inverse)
    for index, values in enumerate(combinations.T.tolist()):
        yield tuple(values), np.flatnonzero(inverse == index)


def _plain(*columns: Column) -> bool:
    return all(isinstance(column, int) for column in columns)


def _row_count(*columns: Column) -> int:
    return int(np.broadcast(*columns).size)


class ReplayedForms:
    """The column functions of a schedule, by replaying its list.

    Parameters
    ----------
    listed : Listed
        The schedule.
    """

    def __init__(self, listed: Listed) -> None:
        self.listed = listed

    def _moments(self, p: int, v: int, m: int, rank: int) -> tuple[Held, ...]:
        sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
        if not self.listed.legal(**sizes) or rank >= p:
            return (Held(0, (0,) * v),)
        return held_at_peaks(self.listed, p, v, m)[rank]

    def held_key(
        self,
        *,
        pipeline_parallel_size: int,
        virtual_stages: int,
        microbatch_count: int,
        stage_index: int,
    ) -> Hashable:
        """Return what ranks that hold the same have in common."""
        return self._moments(pipeline_parallel_size, virtual_stages, microbatch_count, stage_index)

    def in_flight_count(
        self,
        *,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return the (microbatch, chunk) activations that a rank holds at most [count]."""
        given = (pipeline_parallel_size, virtual_stages, microbatch_count, stage_index)
        counts = np.zeros(_row_count(*given), dtype=np.int64)
        for sizes, rows in _groups(*given):
            counts[rows] = max(sum(held.counts) for held in self._moments(*sizes))
        return int(counts[0]) if _plain(*given) else counts

    def peak_activation_bytes(
        self,
        chunk_activation_bytes: Axis,
        *,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return the activation bytes that a rank holds at most [byte]."""
        given = (pipeline_parallel_size, virtual_stages, microbatch_count, stage_index)
        peaks, _ = self._peak(chunk_activation_bytes, given)
        return peaks

    def peak_backward_count(
        self,
        chunk_activation_bytes: Axis,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return what a rank has released when it holds most, the first time [count]."""
        given = (pipeline_parallel_size, virtual_stages, microbatch_count, stage_index)
        _, released = self._peak(chunk_activation_bytes, given)
        return released

    def _peak(
        self, chunk_activation_bytes: Axis, given: tuple[Column, ...]
    ) -> tuple[Column, Column]:
        count = _row_count(*given, *chunk_activation_bytes)
        weights = [np.broadcast_to(np.ravel(chunk), (count,)) for chunk in chunk_activation_bytes]
        peaks, released = (np.zeros(count, dtype=np.int64) for _ in range(2))
        for sizes, rows in _groups(*(np.broadcast_to(np.ravel(each), (count,)) for each in given)):
            peaks[rows] = -1
            for held in self._moments(*sizes):
                total = np.zeros(len(rows), dtype=np.int64)
                for chunk, weight in zip(held.counts, weights, strict=False):
                    total = total + chunk * weight[rows]
                larger = total > peaks[rows]
                released[rows] = np.where(larger, held.released_count, released[rows])
                peaks[rows] = np.maximum(total, peaks[rows])
        if _plain(*given, *chunk_activation_bytes):
            return int(peaks[0]), int(released[0])
        return peaks, released

    def chunk_in_flight_count(
        self,
        peak_backward_count: Column,
        chunk_index: Column,
        chunk_exists: Column,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        stage_index: Column,
    ) -> Column:
        """Return the microbatches of a chunk that a rank holds at its peak [count]."""
        sizes = (pipeline_parallel_size, virtual_stages, microbatch_count, stage_index)
        given = (*sizes, peak_backward_count, chunk_index, chunk_exists)
        counts = np.zeros(_row_count(*given), dtype=np.int64)
        for (p, v, m, rank, released, chunk, exists), rows in _groups(*given):
            if exists and chunk < v:
                moments = dict(self._moments(p, v, m, rank))
                counts[rows] = moments.get(released, (0,) * v)[chunk]
        return int(counts[0]) if _plain(*given) else counts

    def uneven_s(
        self,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        class_stage_count: Axis,
        chunk_forward_s: Axis,
        chunk_backward_s: Axis,
        chunk_weight_gradient_s: Axis,
        mean_stage_s: Column,
        ideal_bubble_s: Column,
    ) -> Column:
        """Return what the list takes beyond ideal work and bubble, with free links [s]."""
        whole = self.whole_s(
            pipeline_parallel_size,
            virtual_stages,
            microbatch_count,
            class_stage_count,
            chunk_forward_s,
            chunk_backward_s,
            chunk_weight_gradient_s,
            0.0,
        )
        return whole - self._work_s(microbatch_count, mean_stage_s) - ideal_bubble_s

    def _work_s(self, microbatch_count: Column, mean_stage_s: Column) -> Column:
        """Return what a rank works, a mean over ranks [s]."""
        return microbatch_count // self.listed.copies * mean_stage_s

    def exposed_hops_s(
        self,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        class_stage_count: Axis,
        chunk_forward_s: Axis,
        chunk_backward_s: Axis,
        chunk_weight_gradient_s: Axis,
        hop_s: Column,
    ) -> Column:
        """Return how much longer the list takes with hand-overs than with free links [s]."""
        given = (
            pipeline_parallel_size,
            virtual_stages,
            microbatch_count,
            class_stage_count,
            chunk_forward_s,
            chunk_backward_s,
            chunk_weight_gradient_s,
        )
        return self.whole_s(*given, hop_s) - self.whole_s(*given, 0.0)

    def ideal_bubble_s(
        self,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        mean_stage_s: Column,
        mean_chunk_forward_s: Column,
        mean_chunk_backward_s: Column,
        mean_chunk_weight_gradient_s: Column,
    ) -> Column:
        """Return what the list takes beyond its work where chunks are equal and links free [s]."""
        chunks = max(int(np.max(virtual_stages)), 1)
        whole = self.whole_s(
            pipeline_parallel_size,
            virtual_stages,
            microbatch_count,
            (pipeline_parallel_size,),
            ((mean_chunk_forward_s,) * chunks,),
            ((mean_chunk_backward_s,) * chunks,),
            ((mean_chunk_weight_gradient_s,) * chunks,),
            0.0,
        )
        return maximum(whole - self._work_s(microbatch_count, mean_stage_s), 0.0)

    def ideal_idle_fraction(
        self, ideal_bubble_s: Column, microbatch_count: Column, mean_stage_s: Column
    ) -> Column:
        """Return the share of that bubble in the whole of the pipeline's time [fraction]."""
        return ideal_bubble_s / (self._work_s(microbatch_count, mean_stage_s) + ideal_bubble_s)

    def whole_s(
        self,
        pipeline_parallel_size: Column,
        virtual_stages: Column,
        microbatch_count: Column,
        class_stage_count: Axis,
        chunk_forward_s: Axis,
        chunk_backward_s: Axis,
        chunk_weight_gradient_s: Axis,
        hop_s: Column,
    ) -> Column:
        """Return the longest path through the list, row by row [s].

        Raises
        ------
        NotModelledError
            If the rows together have more actions than are played.
        """
        sizes = (pipeline_parallel_size, virtual_stages, microbatch_count)
        axes = (class_stage_count, chunk_forward_s, chunk_backward_s, chunk_weight_gradient_s)
        leaves = [*sizes, hop_s, *(leaf for axis in axes for leaf in flat_leaves(axis))]
        count = max(np.size(leaf) for leaf in leaves)
        self._refuse_long(*(np.broadcast_to(np.ravel(size), (count,)) for size in sizes))
        rows = []
        for row in range(count):
            p, v, m, hop = (plain_row(each, row) for each in (*sizes, hop_s))
            classes, forward, backward, weight = (plain_row(axis, row) for axis in axes)
            rows.append(_played_s(self.listed, (p, v, m), hop, classes, forward, backward, weight))
        scalar = all(isinstance(leaf, int | float) for leaf in leaves)
        return rows[0] if scalar else np.array(rows)

    def _refuse_long(self, p: Column, v: Column, m: Column) -> None:
        # Three actions for a microbatch on every virtual stage is the most that there are.
        actions = int((3.0 * p * v * m).sum())
        if actions > PLAYED_LIMIT:
            raise NotModelledError(
                f"plan.schedule ({self.listed.name}): its time has no closed form, and its "
                f"{len(p):,} rows have up to {actions:,} actions to play; at most "
                f"{PLAYED_LIMIT:,} are played at once"
            )


def flat_leaves(value: Any) -> Iterator[Any]:
    """Yield the columns of nested axes."""
    if isinstance(value, tuple | list):
        for member in value:
            yield from flat_leaves(member)
    else:
        yield value


def plain_row(value: Any, row: int) -> Any:
    """Return the row of a column, or of every column of nested axes, as plain numbers."""
    if isinstance(value, tuple | list):
        return tuple(plain_row(member, row) for member in value)
    column = np.ravel(value)
    return column[row if len(column) > 1 else 0].item()


@lru_cache(maxsize=256)
def _made(listed: Listed, p: int, v: int, m: int) -> tuple[tuple[Row, ...], Placement]:
    rows = listed.rows(pipeline_parallel_size=p, virtual_stages=v, microbatch_count=m)
    return rows, listed.placement(pipeline_parallel_size=p, virtual_stages=v)


@lru_cache(maxsize=256)
def _played_s(
    listed: Listed,
    sizes: tuple[int, int, int],
    hop_s: float,
    class_stage_count: tuple[int, ...],
    forward: tuple[tuple[float, ...], ...],
    backward: tuple[tuple[float, ...], ...],
    weight: tuple[tuple[float, ...], ...],
) -> float:
    p, v, m = sizes
    named = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
    if not listed.legal(**named) or sum(class_stage_count) != p:
        return 0.0
    rows, placement = _made(listed, p, v, m)
    of_rank = [index for index, count in enumerate(class_stage_count) for _ in range(count)]
    durations = by_stage(placement, of_rank, forward, backward, weight)
    order, overlapped = tuple(row.actions for row in rows), [row.overlapped for row in rows]
    return play(order, placement, durations, hop_s=hop_s, overlapped=overlapped).makespan_s


def by_stage(
    placement: Placement,
    class_of_rank: Sequence[int],
    forward: Sequence[Sequence[float]],
    backward: Sequence[Sequence[float]],
    weight: Sequence[Sequence[float]],
) -> Mapping[ActionKind, Sequence[float]]:
    """Return the times of each kind of action by virtual stage, from those by class and chunk."""
    whole: dict[ActionKind, list[float]] = {
        kind: [0.0] * placement.stage_count for kind in ActionKind
    }
    for rank, index in enumerate(class_of_rank):
        for chunk, stage in enumerate(placement.stages_of(rank)):
            whole[ActionKind.FORWARD][stage] = forward[index][chunk]
            whole[ActionKind.BACKWARD][stage] = backward[index][chunk]
            whole[ActionKind.WEIGHT_GRADIENT][stage] = weight[index][chunk]
            rest = backward[index][chunk] - weight[index][chunk]
            whole[ActionKind.INPUT_GRADIENT][stage] = rest
    return whole
