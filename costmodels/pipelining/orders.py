"""The order in which each rank does its forwards and backwards, and where such an order exists.

An order says nothing about time. The rule that most here share: a rank does some forwards to warm
up, then alternates one forward and one backward, then does the backwards that are left. They
differ in how many forwards warm up, and in the sequence of chunks. Orders that split backwards
are in `zero_bubble` and `dual_pipe`.
"""

from collections.abc import Sequence

from costmodels.columns import Column
from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.interleaving import (
    interleaved_warmup_count,
    microbatches_per_round,
    round_count,
)

ONE_CHUNK_REQUIREMENT = "requires one virtual stage per rank"

LOOPED_BFS_REQUIREMENT = "takes any sizes"

ROUNDS_REQUIREMENT = (
    "requires a microbatch_count that is a multiple of the number of rounds, "
    "max(1, microbatch_count // pipeline_parallel_size)"
)

INTERLEAVED_REQUIREMENT = (
    "requires at least 2 virtual stages per rank, at least 2 pipeline ranks, and a "
    "microbatch_count that is a multiple of the number of rounds, "
    "max(1, microbatch_count // pipeline_parallel_size)"
)
"""Of a plan: with one chunk it does what 1F1B does, and holds more."""


def one_chunk_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether GPipe and 1F1B exist for these sizes, row by row."""
    return (virtual_stages == 1) & (pipeline_parallel_size >= 1) & (microbatch_count >= 1)


def looped_bfs_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether looped breadth-first exists for these sizes, row by row: it always does."""
    return (virtual_stages >= 1) & (pipeline_parallel_size >= 1) & (microbatch_count >= 1)


def interleaved_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether a plan can have interleaved 1F1B of these sizes, row by row."""
    in_rounds = whole_rounds_is_legal(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
    return in_rounds & (virtual_stages >= 2) & (pipeline_parallel_size >= 2)


def whole_rounds_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether the microbatches make whole rounds, as torch asks, row by row."""
    rounds = round_count(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    return (virtual_stages >= 1) & (microbatch_count >= 1) & (microbatch_count % rounds == 0)


def several_chunks_in_rounds_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether there are several chunks, and whole rounds of microbatches, row by row."""
    in_rounds = whole_rounds_is_legal(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
    return in_rounds & (virtual_stages >= 2)


def gpipe(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of GPipe: all forwards, then all backwards, both from microbatch zero.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches in a step [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If `virtual_stages` is not one.

    Examples
    --------
    >>> order = gpipe(pipeline_parallel_size=2, virtual_stages=1, microbatch_count=2)
    >>> " ".join(map(str, order[0]))
    '0F0 0F1 0B0 0B1'
    """
    if virtual_stages != 1:
        raise SpecError(f"GPipe {ONE_CHUNK_REQUIREMENT}, but virtual_stages is {virtual_stages}")
    return tuple(
        _alternate(
            forwards=_passes(rank, ActionKind.FORWARD, microbatch_count),
            backwards=_passes(rank, ActionKind.BACKWARD, microbatch_count),
            warmup_count=microbatch_count,
        )
        for rank in range(pipeline_parallel_size)
    )


def looped_bfs(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of looped breadth-first: all microbatches through a chunk, then the next.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank; chunk c of a rank is virtual stage c p + rank [count].
    microbatch_count : int
        Microbatches in a step [count].

    Returns
    -------
    Order
        For each rank, its actions; backwards take chunks and microbatches from the last, as
        torch does.

    References
    ----------
    .. [1] J. Lamy-Poirier, "Breadth-first pipeline parallelism," MLSys, 2023. arXiv:2211.05953.

    Examples
    --------
    >>> order = looped_bfs(pipeline_parallel_size=2, virtual_stages=2, microbatch_count=2)
    >>> " ".join(map(str, order[0]))
    '0F0 0F1 2F0 2F1 2B1 2B0 0B1 0B0'
    """
    p, count = pipeline_parallel_size, pipeline_parallel_size * virtual_stages
    rows = []
    for rank in range(p):
        forwards = [
            action
            for stage in range(rank, count, p)
            for action in _passes(stage, ActionKind.FORWARD, microbatch_count)
        ]
        backwards = [
            Action(stage, ActionKind.BACKWARD, microbatch)
            for stage, _, microbatch in reversed(forwards)
        ]
        rows.append((*forwards, *backwards))
    return tuple(rows)


def one_f_one_b(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> Order:
    """Return the order of 1F1B: a backward as soon as there can be one, to hold little.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches in a step; may be fewer than the ranks, which torch refuses [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If `virtual_stages` is not one.

    Examples
    --------
    >>> order = one_f_one_b(pipeline_parallel_size=2, virtual_stages=1, microbatch_count=3)
    >>> " ".join(map(str, order[0]))
    '0F0 0F1 0B0 0F2 0B1 0B2'
    """
    if virtual_stages != 1:
        raise SpecError(f"1F1B {ONE_CHUNK_REQUIREMENT}, but virtual_stages is {virtual_stages}")
    return tuple(
        _alternate(
            forwards=_passes(rank, ActionKind.FORWARD, microbatch_count),
            backwards=_passes(rank, ActionKind.BACKWARD, microbatch_count),
            warmup_count=min(pipeline_parallel_size - 1 - rank, microbatch_count),
        )
        for rank in range(pipeline_parallel_size)
    )


def interleaved_one_f_one_b(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> Order:
    """Return the order of interleaved 1F1B: rounds of microbatches through a rank's chunks.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank; chunk c of a rank is virtual stage c p + rank [count].
    microbatch_count : int
        Microbatches in a step, a multiple of the number of rounds [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.

    Examples
    --------
    >>> order = interleaved_one_f_one_b(
    ...     pipeline_parallel_size=2, virtual_stages=2, microbatch_count=2
    ... )
    >>> " ".join(map(str, order[1]))
    '1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1'
    """
    if not whole_rounds_is_legal(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    ):
        raise SpecError(
            f"interleaved 1F1B {ROUNDS_REQUIREMENT}, but "
            f"pipeline_parallel_size is {pipeline_parallel_size}, virtual_stages "
            f"{virtual_stages} and microbatch_count {microbatch_count}"
        )
    round_size = microbatches_per_round(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    passes = [
        (chunk, microbatch)
        for first in range(0, microbatch_count, round_size)
        for chunk in range(virtual_stages)
        for microbatch in range(first, first + round_size)
    ]
    return tuple(
        _alternate(
            forwards=[
                Action(chunk * pipeline_parallel_size + rank, ActionKind.FORWARD, microbatch)
                for chunk, microbatch in passes
            ],
            backwards=[
                Action(
                    (virtual_stages - 1 - chunk) * pipeline_parallel_size + rank,
                    ActionKind.BACKWARD,
                    microbatch,
                )
                for chunk, microbatch in passes
            ],
            warmup_count=interleaved_warmup_count(
                pipeline_parallel_size=pipeline_parallel_size,
                virtual_stages=virtual_stages,
                microbatch_count=microbatch_count,
                stage_index=rank,
            ),
        )
        for rank in range(pipeline_parallel_size)
    )


def _passes(stage: int, kind: ActionKind, microbatch_count: int) -> list[Action]:
    return [Action(stage, kind, microbatch) for microbatch in range(microbatch_count)]


def _alternate(
    *, forwards: Sequence[Action], backwards: Sequence[Action], warmup_count: int
) -> tuple[Action, ...]:
    """Return the warm-up, then forward and backward in turn, then the remaining backwards."""
    pair_count = len(forwards) - warmup_count
    pairs = zip(forwards[warmup_count:], backwards[:pair_count], strict=True)
    return (
        *forwards[:warmup_count],
        *(action for pair in pairs for action in pair),
        *backwards[pair_count:],
    )
