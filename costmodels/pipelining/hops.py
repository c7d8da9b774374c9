"""Hand-overs between stages that a schedule cannot hide, in closed form.

Each is counted on the schedule's own order, and equals what playing it gives where stages are
equal and a hop takes no longer than a chunk.
"""

from costmodels.columns import Axis, Column, largest, maximum, minimum, present


def gpipe_hops_s(
    hop_s: Column,
    hop_occupancy_s: Column,
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
) -> Column:
    """Return the hand-overs that GPipe waits for: once down the stages and once back [s].

    A link that a message occupies for longer than any stage works paces the microbatches.

    Examples
    --------
    >>> gpipe_hops_s(1.0, 0.5, 4, 8, [[10.0]], [[20.0]])
    6.0
    """
    forward = largest([chunks[0] for chunks in chunk_forward_s])
    backward = largest([chunks[0] for chunks in chunk_backward_s])
    queued = maximum(hop_occupancy_s - forward, 0.0) + maximum(hop_occupancy_s - backward, 0.0)
    trip = 2 * (pipeline_parallel_size - 1) * hop_s
    return trip + minimum(pipeline_parallel_size - 1, 1) * (microbatch_count - 1) * queued


def one_f_one_b_hops_s(
    hop_s: Column,
    hop_occupancy_s: Column,
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    run_stage_count: Axis,
    stage_microbatch_s: Axis,
    slowest_stage_s: Column,
) -> Column:
    """Return the hand-overs that 1F1B waits for [s].

    Notes
    -----
    A rank holds few microbatches, so that the forward of microbatch i + p on the first stage waits
    for the backward of microbatch i: a trip down and back for every p microbatches, and two hops
    for each further one but the first. Counted on the schedule's orders, where it is exact for
    equal stages.

    Any n neighbouring stages make such a loop, and take their mean work and 2 (n - 1) / n hops
    for a microbatch. What the slowest stage takes anyhow hides the rest: the loop that takes
    longest decides how much is left. It begins and ends with a run of equal stages: with some more
    of them, the mean moves towards theirs all the way.

    Examples
    --------
    >>> float(one_f_one_b_hops_s(1.0, 0.5, 4, 4, [4], [30.0], 30.0))
    10.0
    >>> float(one_f_one_b_hops_s(1.0, 0.5, 4, 8, [4], [30.0], 30.0))
    16.0
    """
    p, later = pipeline_parallel_size, microbatch_count - 1
    trip = 2 * (p - 1) * hop_s
    single = minimum(p - 1, 1)
    steady = (later // p) * trip + single * 2 * maximum(later % p - 1, 0) * hop_s
    loop = _slowest_loop_s(hop_s, run_stage_count, stage_microbatch_s)
    share = maximum(loop - slowest_stage_s, 0.0) / maximum(trip / p, SMALLEST_S)
    queued = later * maximum(hop_occupancy_s - slowest_stage_s, 0.0)
    return trip + maximum(steady * share, single * queued)


SMALLEST_S = 1e-30
"""In place of a time of zero below a fraction bar, where the numerator is zero too [s]."""


def _slowest_loop_s(hop_s: Column, run_stage_count: Axis, stage_microbatch_s: Axis) -> Column:
    """Return the time for a microbatch of the slowest loop through neighbouring stages [s]."""
    works: list[Column] = [0.0]
    counts: list[Column] = [0]
    for count, work in present(run_stage_count, stage_microbatch_s):
        works.append(works[-1] + count * (work + 2 * hop_s))
        counts.append(counts[-1] + count)
    longest: Column = 0.0
    for last in range(1, len(works)):
        for before in range(last):
            work = works[last] - (works[before] + 2 * hop_s)
            longest = maximum(longest, work / maximum(counts[last] - counts[before], 1))
    return longest


def interleaved_hops_s(
    hop_s: Column,
    hop_occupancy_s: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    mean_chunk_forward_s: Column,
    mean_chunk_backward_s: Column,
) -> Column:
    """Return the hand-overs that interleaved 1F1B waits for [s].

    Notes
    -----
    Microbatches go in R rounds of r. Between two chunks a microbatch travels once around the p
    ranks, which takes p (f + c) where the first rank has r f of other work while the pipeline
    fills, and r (f + b) later; so for the backward. Exact for equal stages while a hop c takes no
    longer than a chunk.

    Examples
    --------
    >>> interleaved_hops_s(1.0, 0.5, 4, 2, 8, 10.0, 20.0)
    14.0
    """
    p, v = pipeline_parallel_size, virtual_stages
    rounds = maximum(microbatch_count // p, 1)
    around = microbatch_count // rounds
    forward, backward = mean_chunk_forward_s, mean_chunk_backward_s
    down, back = p * (forward + hop_s), p * (backward + hop_s)
    filling = maximum(down - around * forward, 0.0) + maximum(back - around * backward, 0.0)
    # What missing microbatches leave idle with free links is part of the bubble.
    filling = filling - maximum(p - around, 0) * (forward + backward)
    both = around * (forward + backward)
    steady = maximum(down - both, 0.0) + maximum(back - both, 0.0)
    queued = (v * microbatch_count - 1) * maximum(hop_occupancy_s - forward - backward, 0.0)
    waits = (v - 1) * (filling + (rounds - 1) * steady)
    return 2 * (p - 1) * hop_s + maximum(waits, queued)
