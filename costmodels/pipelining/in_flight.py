"""What a rank holds for its backward passes, at most, in closed form for each schedule.

A rank stores the activations of a (microbatch, chunk) pair from the start of its forward until
the end of its backward. The peak is over the rank's own sequence of actions: how long each action
takes does not matter, since a rank stores before a forward and releases after a backward.
"""

from costmodels.columns import (
    Axis,
    Column,
    first_of_largest,
    largest,
    maximum,
    minimum,
    total,
    weighted_total,
)
from costmodels.pipelining.interleaving import interleaved_warmup_count, microbatches_per_round


def gpipe_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the (microbatch, chunk) activations that a rank holds at most under GPipe.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline; does not matter here [count].
    virtual_stages : Column
        Chunks of a rank, v [count].
    microbatch_count : Column
        Microbatches in a step, m [count].
    stage_index : Column
        Rank in the pipeline; does not matter here [index].

    Returns
    -------
    Column
        m v: every forward comes before any backward [count].

    Examples
    --------
    >>> gpipe_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=0
    ... )
    8
    """
    return microbatch_count * virtual_stages


def one_f_one_b_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the microbatches whose activations a rank holds at most under 1F1B.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    virtual_stages : Column
        Chunks of a rank, which is one here [count].
    microbatch_count : Column
        Microbatches in a step, m [count].
    stage_index : Column
        Rank in the pipeline, from zero [index].

    Returns
    -------
    Column
        min(p - rank, m) [count].

    Examples
    --------
    >>> one_f_one_b_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=1
    ... )
    3
    """
    return minimum(pipeline_parallel_size - stage_index, microbatch_count)


def interleaved_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the (microbatch, chunk) activations held at most under interleaved 1F1B.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    virtual_stages : Column
        Chunks of a rank, v [count].
    microbatch_count : Column
        Microbatches in a step, m [count].
    stage_index : Column
        Rank in the pipeline, from zero [index].

    Returns
    -------
    Column
        min(w + 1, v m), after w warm-up forwards and one more [count].

    Examples
    --------
    >>> interleaved_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=0
    ... )
    11
    """
    warmup_count = interleaved_warmup_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )
    return minimum(warmup_count + 1, virtual_stages * microbatch_count)


def gpipe_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the activation bytes that a rank holds at most under GPipe.

    Parameters
    ----------
    chunk_activation_bytes : Axis
        For each chunk of the rank, what one microbatch stores; zero beyond v [byte].
    pipeline_parallel_size, virtual_stages, stage_index : Column
        As in `gpipe_in_flight_count`; do not matter here [count, count, index].
    microbatch_count : Column
        Microbatches in a step, m [count].

    Returns
    -------
    Column
        m times the sum over chunks [byte].

    Examples
    --------
    >>> gpipe_peak_activation_bytes(
    ...     [10], pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=0
    ... )
    80
    """
    return microbatch_count * total(chunk_activation_bytes)


def one_f_one_b_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the activation bytes that a rank holds at most under 1F1B.

    Parameters
    ----------
    chunk_activation_bytes : Axis
        What one microbatch stores in the rank's only chunk, the first entry [byte].
    pipeline_parallel_size, virtual_stages, microbatch_count, stage_index : Column
        As in `one_f_one_b_in_flight_count` [count, count, count, index].

    Returns
    -------
    Column
        min(p - rank, m) times the bytes of the chunk [byte].

    Examples
    --------
    >>> one_f_one_b_peak_activation_bytes(
    ...     [10], pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=1
    ... )
    30
    """
    return chunk_activation_bytes[0] * one_f_one_b_in_flight_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )


def interleaved_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the activation bytes that a rank holds at most under interleaved 1F1B.

    Parameters
    ----------
    chunk_activation_bytes : Axis
        For each chunk of the rank, what one microbatch stores; zero beyond v [byte].
    pipeline_parallel_size, virtual_stages, microbatch_count, stage_index : Column
        As in `interleaved_in_flight_count` [count, count, count, index].

    Returns
    -------
    Column
        The exact peak over the rank's actions, for chunks that may differ [byte].

    Notes
    -----
    Let w be the warm-up forwards and r the microbatches of a round. Just before its backward
    number i, from zero, the rank has done w + i + 1 forwards (v m if that is fewer), and what it
    holds cannot be more a little earlier or later. From i to i + 1 it gains an activation of the
    chunk that goes forward and loses one of the chunk that goes backward, so the bytes are linear
    in i until one of the chunks changes: until i or w + i + 1 is a multiple of r. The peak is at
    such an i or at an end.

    Multiples i of r below v r are enough. After v r steps everything repeats. And the rank's
    sequence of chunks is the same when it is read from its end with forwards and backwards
    swapped, so that i and v m - w - 1 - i hold the same bytes: this takes each multiple w + i + 1
    to a multiple i, and one end to the other.

    Examples
    --------
    Two ranks, two chunks, two microbatches; the first rank does F0 F0 F1 F1 B1 B1 B0 B0, where
    the digit is the chunk, and holds two of each.

    >>> interleaved_peak_activation_bytes(
    ...     [10, 1], pipeline_parallel_size=2, virtual_stages=2, microbatch_count=2, stage_index=0
    ... )
    22
    """
    moments = _interleaved_moments(
        chunk_activation_bytes,
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )
    return largest([held_bytes for _, held_bytes in moments])


def _interleaved_moments(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> list[tuple[Column, Column]]:
    """Return the backwards done, and the bytes held, at every moment that may be the peak."""
    round_size = microbatches_per_round(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    warmup_count = interleaved_warmup_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )
    last = virtual_stages * microbatch_count
    moments = []
    for index in range(len(chunk_activation_bytes)):
        backward_count = index * round_size
        forward_count = minimum(warmup_count + 1 + backward_count, last)
        cycle_size = virtual_stages * round_size
        forwards = _in_cycles(forward_count, cycle_size)
        backwards = _in_cycles(backward_count, cycle_size)
        in_flight = [
            _held_of_chunk(forwards, backwards, chunk, virtual_stages, round_size)
            for chunk in range(len(chunk_activation_bytes))
        ]
        moments.append((backward_count, weighted_total(in_flight, chunk_activation_bytes)))
    # Once all forwards are done the rank only releases, so a multiple past the end does no harm.
    return moments


def _in_cycles(done_count: Column, cycle_size: Column) -> tuple[Column, Column]:
    """Return the whole cycles of so many passes, and the passes of the one begun [count, count]."""
    cycles = done_count // cycle_size
    return cycles, done_count - cycles * cycle_size


def _held_of_chunk(
    forwards: tuple[Column, Column],
    backwards: tuple[Column, Column],
    chunk_index: Column,
    virtual_stages: Column,
    round_size: Column,
) -> Column:
    """Return what a rank holds of a chunk after forwards and backwards of so many cycles [count]."""
    return _done_of_chunk(forwards, chunk_index, round_size) - _done_of_chunk(
        backwards, virtual_stages - 1 - chunk_index, round_size
    )


def _done_of_chunk(done: tuple[Column, Column], place: Column, round_size: Column) -> Column:
    """Return how many of a rank's first passes belong to the chunk at this place of the cycle."""
    cycles, begun = done
    in_chunk = minimum(maximum(begun - place * round_size, 0), round_size)
    return cycles * round_size + in_chunk


def at_once_peak_backward_count(microbatch_count: Column) -> Column:
    """Return the backwards done when a rank of one chunk holds most: none [count].

    Examples
    --------
    >>> at_once_peak_backward_count(8)
    0
    """
    return 0 * microbatch_count


def interleaved_peak_backward_count(
    chunk_activation_bytes: Axis,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the backwards done when a rank holds most under interleaved 1F1B, the first time [count].

    Examples
    --------
    >>> interleaved_peak_backward_count([10, 1], 2, 2, 2, 0)
    0
    """
    moments = _interleaved_moments(
        chunk_activation_bytes,
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )
    return first_of_largest([done for done, _ in moments], [held for _, held in moments])


def gpipe_chunk_in_flight_count(microbatch_count: Column, chunk_exists: Column) -> Column:
    """Return the microbatches of a chunk that a rank holds at its peak under GPipe [count]."""
    return microbatch_count * chunk_exists


def one_f_one_b_chunk_in_flight_count(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    stage_index: Column,
    chunk_exists: Column,
) -> Column:
    """Return the microbatches of a chunk that a rank holds at its peak under 1F1B [count]."""
    return minimum(pipeline_parallel_size - stage_index, microbatch_count) * chunk_exists


def interleaved_chunk_in_flight_count(
    peak_backward_count: Column,
    chunk_index: Column,
    chunk_exists: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the microbatches of a chunk that a rank holds at its peak, interleaved [count].

    Examples
    --------
    >>> [interleaved_chunk_in_flight_count(0, chunk, 1, 2, 2, 2, 0) for chunk in (0, 1)]
    [2, 2]
    """
    round_size = microbatches_per_round(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    warmup_count = interleaved_warmup_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )
    forward_count = minimum(
        warmup_count + 1 + peak_backward_count, virtual_stages * microbatch_count
    )
    cycle_size = virtual_stages * round_size
    held = _held_of_chunk(
        _in_cycles(forward_count, cycle_size),
        _in_cycles(peak_backward_count, cycle_size),
        chunk_index,
        virtual_stages,
        round_size,
    )
    return held * chunk_exists
