"""Hand-overs between stages that a schedule cannot hide, in closed form.

Each is counted on the schedule's own order, and equals what playing it gives where stages are
equal and a hop takes no longer than a chunk.
"""

from costmodels.columns import Column, maximum, minimum


def gpipe_hops_s(hop_s: Column, pipeline_parallel_size: Column) -> Column:
    """Return the hand-overs that GPipe waits for: once down the stages and once back [s].

    Examples
    --------
    >>> gpipe_hops_s(1.0, 4)
    6.0
    """
    return 2 * (pipeline_parallel_size - 1) * hop_s


def one_f_one_b_hops_s(
    hop_s: Column,
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    mean_stage_s: Column,
    slowest_stage_s: Column,
) -> Column:
    """Return the hand-overs that 1F1B waits for [s].

    Notes
    -----
    A rank holds few microbatches, so that the forward of microbatch i + p on the first stage waits
    for the backward of microbatch i: a trip down and back for every p microbatches, and two hops
    for each further one but the first. Counted on the schedule's orders, where it is exact for
    equal stages; what waits for the slowest stage anyhow hides these hops.

    Examples
    --------
    >>> one_f_one_b_hops_s(1.0, 4, 4, 30.0, 30.0), one_f_one_b_hops_s(1.0, 4, 8, 30.0, 30.0)
    (10.0, 16.0)
    """
    trip = 2 * (pipeline_parallel_size - 1) * hop_s
    later = microbatch_count - 1
    steady = (later // pipeline_parallel_size) * trip + minimum(
        pipeline_parallel_size - 1, 1
    ) * 2 * maximum(later % pipeline_parallel_size - 1, 0) * hop_s
    return trip + maximum(steady - later * (slowest_stage_s - mean_stage_s), 0.0)


def interleaved_hops_s(
    hop_s: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    mean_chunk_forward_s: Column,
    mean_chunk_backward_s: Column,
) -> Column:
    """Return the hand-overs and missing microbatches that interleaved 1F1B waits for [s].

    Notes
    -----
    Microbatches go in R rounds of r. Between two chunks a microbatch travels once around the p
    ranks, which takes p (f + c) where the first rank has r f of other work while the pipeline
    fills, and r (f + b) later; so for the backward. Exact for equal stages while a hop c takes no
    longer than a chunk.

    Examples
    --------
    >>> interleaved_hops_s(1.0, 4, 2, 8, 10.0, 20.0)
    14.0
    """
    p, v = pipeline_parallel_size, virtual_stages
    rounds = maximum(microbatch_count // p, 1)
    around = microbatch_count // rounds
    forward, backward = mean_chunk_forward_s, mean_chunk_backward_s
    down, back = p * (forward + hop_s), p * (backward + hop_s)
    filling = maximum(down - around * forward, 0.0) + maximum(back - around * backward, 0.0)
    both = around * (forward + backward)
    steady = maximum(down - both, 0.0) + maximum(back - both, 0.0)
    return 2 * (p - 1) * hop_s + (v - 1) * (filling + (rounds - 1) * steady)
