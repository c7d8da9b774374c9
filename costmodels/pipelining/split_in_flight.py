"""What a rank holds at most under schedules that came after interleaved 1F1B, in closed form.

Counted in (microbatch, chunk) activations, kept from the start of a forward to the end of its whole
backward, or of the gradient of the weights where that is a half of its own. Proved against the
replayed lists for p up to 16, v up to 4 and m up to 64.
"""

from costmodels.columns import Axis, Column, minimum
from costmodels.pipelining.interleaving import microbatches_per_round


def looped_bfs_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under looped breadth-first: v m [count].

    Examples
    --------
    >>> looped_bfs_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=0
    ... )
    16
    """
    return virtual_stages * microbatch_count


def zb_h1_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under ZB-H1: min(p, m), on every rank [count].

    Notes
    -----
    p - rank forwards before the first input gradient, and `rank` weight gradients that lag [1]_.

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, section 2.3.
       arXiv:2401.10241.

    Examples
    --------
    >>> zb_h1_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=3
    ... )
    4
    """
    return minimum(pipeline_parallel_size, microbatch_count)


def zb_h2_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under ZB-H2: min(2 p - 1, m), on every rank [count].

    Examples
    --------
    >>> zb_h2_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=1, microbatch_count=8, stage_index=3
    ... )
    7
    """
    return minimum(2 * pipeline_parallel_size - 1, microbatch_count)


def interleaved_zb_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under interleaved zero-bubble [count].

    Returns
    -------
    Column
        min((v - 1) r + p, v m), with r microbatches in a round, on every rank [count].

    Examples
    --------
    >>> interleaved_zb_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=3
    ... )
    8
    """
    size = microbatches_per_round(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    return minimum(
        (virtual_stages - 1) * size + pipeline_parallel_size, virtual_stages * microbatch_count
    )


def zb_v_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under ZB-V: min(2 p, 2 m, m + rank + 1) [count].

    Examples
    --------
    >>> zb_v_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=3
    ... )
    8
    """
    few = minimum(2 * microbatch_count, microbatch_count + stage_index + 1)
    return minimum(2 * pipeline_parallel_size, few)


def dual_pipe_v_in_flight_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return what a rank holds at most under DualPipe-V: min(2 p + 1, 2 m) halves of a rank [count].

    Examples
    --------
    >>> dual_pipe_v_in_flight_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=3
    ... )
    9
    """
    return minimum(2 * pipeline_parallel_size + 1, 2 * microbatch_count)


def zb_h1_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the activation bytes that a rank holds at most under ZB-H1 [byte]."""
    return chunk_activation_bytes[0] * zb_h1_in_flight_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )


def zb_h2_peak_activation_bytes(
    chunk_activation_bytes: Axis,
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the activation bytes that a rank holds at most under ZB-H2 [byte]."""
    return chunk_activation_bytes[0] * zb_h2_in_flight_count(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
        stage_index=stage_index,
    )


def zb_h1_chunk_in_flight_count(
    pipeline_parallel_size: Column, microbatch_count: Column, chunk_exists: Column
) -> Column:
    """Return the microbatches of a chunk that a rank holds at its peak under ZB-H1 [count]."""
    return minimum(pipeline_parallel_size, microbatch_count) * chunk_exists


def zb_h2_chunk_in_flight_count(
    pipeline_parallel_size: Column, microbatch_count: Column, chunk_exists: Column
) -> Column:
    """Return the microbatches of a chunk that a rank holds at its peak under ZB-H2 [count]."""
    return minimum(2 * pipeline_parallel_size - 1, microbatch_count) * chunk_exists
