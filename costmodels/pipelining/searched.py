"""Zb-auto for plans: the searched order's time, from its list, and what its limit allows to hold.

An order is searched once for given times and kept, so that closed forms and simulator play the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from costmodels.columns import Axis, Column, maximum, minimum, where
from costmodels.errors import NotModelledError
from costmodels.pipelining.actions import Order
from costmodels.pipelining.automatic import StageTimes, automatic_order, played
from costmodels.pipelining.replayed import flat_leaves, plain_row

SEARCHED_LIMIT = 60_000
"""Actions, over all rows, past which no order is searched: some 30 orders are tried for each."""

_Chunks = tuple[tuple[float, ...], ...]


def held_limit_count(stated_held_limit: Column, pipeline_parallel_size: Column) -> Column:
    """Return the microbatches that a rank may hold: as many as ranks, if nothing is stated [count].

    Examples
    --------
    >>> held_limit_count(0, 8), held_limit_count(12, 8)
    (8, 12)
    """
    return where(stated_held_limit, stated_held_limit, pipeline_parallel_size)


def searched_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
    stated_held_limit: Column = 0,
) -> Column:
    """Return the activations that the search may let a rank hold; its order may need fewer [count].

    Examples
    --------
    >>> searched_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=3
    ... )
    4
    """
    return minimum(held_limit_count(stated_held_limit, pipeline_parallel_size), microbatch_count)


def searched_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
    stated_held_limit: Column = 0,
) -> Column:
    """Return the activation bytes that the search may let a rank hold [byte]."""
    return chunk_activation_bytes[0] * searched_in_flight_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
        stated_held_limit=stated_held_limit,
    )


def searched_chunk_in_flight_count(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    chunk_exists: Column,
    stated_held_limit: Column,
) -> Column:
    """Return the microbatches of a chunk that the search may let a rank hold [count]."""
    limit = held_limit_count(stated_held_limit, pipeline_parallel_size)
    return minimum(limit, microbatch_count) * chunk_exists


def searched_ideal_bubble_s(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    stated_held_limit: Column,
    class_stage_count: Axis,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
    chunk_weight_gradient_s: Axis,
    hop_s: Column,
    mean_stage_s: Column,
) -> Column:
    """Return what the order waits where stages are equal and links free [s]."""
    whole = _whole_s(
        (pipeline_parallel_size, microbatch_count, stated_held_limit),
        (class_stage_count, chunk_forward_s, chunk_backward_s, chunk_weight_gradient_s),
        hop_s,
        equal=True,
        free=True,
    )
    return maximum(whole - microbatch_count * mean_stage_s, 0.0)


def searched_uneven_s(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    stated_held_limit: Column,
    class_stage_count: Axis,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
    chunk_weight_gradient_s: Axis,
    hop_s: Column,
    mean_stage_s: Column,
    ideal_bubble_s: Column,
) -> Column:
    """Return what the order takes beyond ideal work and bubble, with free links [s]."""
    whole = _whole_s(
        (pipeline_parallel_size, microbatch_count, stated_held_limit),
        (class_stage_count, chunk_forward_s, chunk_backward_s, chunk_weight_gradient_s),
        hop_s,
        equal=False,
        free=True,
    )
    return whole - microbatch_count * mean_stage_s - ideal_bubble_s


def searched_exposed_hops_s(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    stated_held_limit: Column,
    class_stage_count: Axis,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
    chunk_weight_gradient_s: Axis,
    hop_s: Column,
) -> Column:
    """Return how much longer the order takes with hand-overs than with free links [s]."""
    sizes = (pipeline_parallel_size, microbatch_count, stated_held_limit)
    axes = (class_stage_count, chunk_forward_s, chunk_backward_s, chunk_weight_gradient_s)
    with_hops = _whole_s(sizes, axes, hop_s, equal=False, free=False)
    return with_hops - _whole_s(sizes, axes, hop_s, equal=False, free=True)


@lru_cache(maxsize=64)
def searched_order(times: StageTimes, microbatch_count: int, held_limit: int) -> Order:
    """Return the order of zb-auto for given times: a microbatch's activations are kept until W.

    Parameters
    ----------
    times : StageTimes
        Times of each rank's actions.
    microbatch_count : int
        Microbatches in a step [count].
    held_limit : int
        Microbatches that a rank may hold [count].

    Raises
    ------
    NotModelledError
        If the step has more actions than an order is searched for.
    """
    _refuse_long(3 * times.rank_count * microbatch_count)
    return automatic_order(times, microbatch_count=microbatch_count, held_limit=held_limit)


def _refuse_long(actions: int) -> None:
    if actions > SEARCHED_LIMIT:
        raise NotModelledError(
            f"plan.schedule (zb-auto): an order of {actions:,} actions is not searched; at most "
            f"{SEARCHED_LIMIT:,} are"
        )


def _whole_s(
    sizes: tuple[Column, ...], axes: tuple[Axis, ...], hop_s: Column, *, equal: bool, free: bool
) -> Column:
    """Return the longest path through the searched orders, row by row [s]."""
    leaves = [*sizes, hop_s, *(leaf for axis in axes for leaf in flat_leaves(axis))]
    count = max(np.size(leaf) for leaf in leaves)
    ranks, microbatches, _ = (np.broadcast_to(np.ravel(size), (count,)) for size in sizes)
    _refuse_long(int((3.0 * ranks * microbatches).sum()))
    rows = []
    for row in range(count):
        p, m, stated = (plain_row(size, row) for size in sizes)
        classes, *chunks = (plain_row(axis, row) for axis in axes)
        times = _stage_times(p, classes, chunks, plain_row(hop_s, row))
        limit = stated or p
        rows.append(0.0 if times is None else _played_s(times, m, limit, equal=equal, free=free))
    scalar = all(isinstance(leaf, int | float) for leaf in leaves)
    return rows[0] if scalar else np.array(rows)


def _stage_times(
    rank_count: int, classes: Sequence[int], chunks: Sequence[_Chunks], hop_s: float
) -> StageTimes | None:
    """Return the times of every rank; None for a row whose classes are those of other sizes."""
    if sum(classes) != rank_count:
        return None
    forward, backward, weight = (
        tuple(
            of_class[0] for of_class, count in zip(kind, classes, strict=True) for _ in range(count)
        )
        for kind in chunks
    )
    inputs = tuple(whole - half for whole, half in zip(backward, weight, strict=True))
    return StageTimes(
        forward_s=forward, input_gradient_s=inputs, weight_gradient_s=weight, hop_s=hop_s
    )


@lru_cache(maxsize=256)
def _played_s(
    times: StageTimes, microbatches: int, limit: int, *, equal: bool, free: bool
) -> float:
    order = searched_order(times, microbatches, limit)

    def own(kind: tuple[float, ...]) -> tuple[float, ...]:
        return (sum(kind) / len(kind),) * len(kind) if equal else kind

    given: Any = StageTimes(
        forward_s=own(times.forward_s),
        input_gradient_s=own(times.input_gradient_s),
        weight_gradient_s=own(times.weight_gradient_s),
        hop_s=0.0 if free else times.hop_s,
    )
    return played(order, given).makespan_s
