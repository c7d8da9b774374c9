"""What unequal stages add to the ideal bubble, in closed form for each schedule.

The ideal bubble is that of stages that all take the mean. What unequal stages add depends on
the schedule and on where the slow ones are; it can be negative, where they fill the bubble.
"""

from costmodels.columns import Axis, Column, largest, maximum, minimum, total, weighted_total


def gpipe_imbalance_s(
    microbatch_count: Column, chunk_forward_s: Axis, chunk_backward_s: Axis, mean_stage_s: Column
) -> Column:
    """Return what GPipe waits for its slowest forward and its slowest backward [s].

    Notes
    -----
    Forwards and backwards are two flow shops of the same order: each takes the sum over stages
    for the first microbatch, and its slowest stage for every further one.

    Examples
    --------
    >>> gpipe_imbalance_s(3, [[1.0], [2.0]], [[2.0], [4.0]], 4.5)
    3.0
    """
    slowest = largest([chunks[0] for chunks in chunk_forward_s]) + largest(
        [chunks[0] for chunks in chunk_backward_s]
    )
    return (microbatch_count - 1) * (slowest - mean_stage_s)


def one_f_one_b_imbalance_s(
    microbatch_count: Column,
    pipeline_parallel_size: Column,
    class_stage_count: Axis,
    stage_index: Axis,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
    mean_stage_s: Column,
) -> Column:
    """Return what 1F1B waits for slow stages, wherever they are [s].

    Notes
    -----
    A stage that never waits in between decides: it starts after the forwards of the stages
    before it, works m microbatches, and waits twice. First for the gradient of microbatch 0,
    which takes the work S of all later stages, less what the K forwards of its warm-up fill; and
    last while it does its last K backwards, whose gradients come no faster than the slowest later
    stage makes them, and the last of which comes S after its last forward. The longest of these
    over all stages is the time; it equals the simulated one wherever a single slow stage, the
    head or equal stages decide, and is a few percent off at worst for random ones.

    Stages of a class are neighbours and equal; the last of them decides for all.

    Examples
    --------
    The last of two stages takes twice as long: every microbatch but the first waits for it.

    >>> one_f_one_b_imbalance_s(3, 2, [1, 1], [0, 1], [[1.0], [2.0]], [[2.0], [4.0]], 4.5)
    3.0
    """
    p, m = pipeline_parallel_size, microbatch_count
    forward = [chunks[0] for chunks in chunk_forward_s]
    backward = [chunks[0] for chunks in chunk_backward_s]
    work = [f + b for f, b in zip(forward, backward, strict=True)]
    whole = p * mean_stage_s
    spacing = _spacing_after(p, m, class_stage_count, stage_index, forward, backward)
    done: Column = 0.0
    longest: Column = 0.0
    members = zip(class_stage_count, stage_index, forward, backward, work, spacing, strict=True)
    for count, first, f, b, w, pace in members:
        done = done + count * w
        later = whole - done
        warmup = minimum(p - first - count + 1, m) - 1
        waits = maximum(later - warmup * f, 0.0) + minimum(
            maximum(later - warmup * b, 0.0), warmup * maximum(pace - b, 0.0)
        )
        longest = maximum(longest, minimum(count, 1) * (done + (m - 1) * w + waits))
    return longest - (m + p - 1) * mean_stage_s


def _spacing_after(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    class_stage_count: Axis,
    stage_index: Axis,
    forward: Axis,
    backward: Axis,
) -> list[Column]:
    """Return for each class the pace at which the stages after it return gradients."""
    after: list[Column] = [0.0]
    members = list(zip(class_stage_count, stage_index, forward, backward, strict=True))
    for count, first, f, b in reversed(members[1:]):
        # A rank with fewer microbatches than its warm-up does all forwards before any backward.
        alternates = pipeline_parallel_size - first - count + 1 < microbatch_count
        pace = minimum(count, 1) * (maximum(f, b) + alternates * minimum(f, b))
        after.append(maximum(after[-1], pace))
    return after[::-1]


def interleaved_imbalance_s(
    microbatch_count: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    class_stage_count: Axis,
    chunk_forward_s: Axis,
    chunk_backward_s: Axis,
    stage_microbatch_s: Axis,
    slowest_stage_s: Column,
    mean_stage_s: Column,
) -> Column:
    """Return what interleaved 1F1B waits for slow chunks and slow ranks [s].

    Notes
    -----
    The last rank starts after the first chunk's forwards of all others, and they end their first
    chunk's backwards after it. In between, ranks do the same chunk at about the same time while
    the pipeline fills and drains, so that the first p microbatches wait for the slowest rank in
    every chunk; later ones mix chunks and wait for the slowest rank only. About half the error of
    waiting for the slowest rank alone, on the schedule's own orders; not exact.

    Examples
    --------
    >>> interleaved_imbalance_s(4, 2, 2, [2], [[1.0, 1.0]], [[2.0, 2.0]], [6.0], 6.0, 6.0)
    0.0
    """
    p, m, v = pipeline_parallel_size, microbatch_count, virtual_stages
    chunks = [
        [forward + backward for forward, backward in zip(*both, strict=True)]
        for both in zip(chunk_forward_s, chunk_backward_s, strict=True)
    ]
    first = [of_stage[0] for of_stage in chunks]
    ends = weighted_total(class_stage_count, first) - first[-1]
    paced = total([largest(of_chunk) for of_chunk in zip(*chunks, strict=True)])
    filling = minimum(m, p)
    whole = ends + stage_microbatch_s[-1]
    whole = whole + (filling - 1) * paced + (m - filling) * slowest_stage_s
    return whole - (m + (p - 1) / v) * mean_stage_s
