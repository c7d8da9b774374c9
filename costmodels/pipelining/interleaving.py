"""The rounds of an interleaved schedule, and how many forwards warm a rank up."""

from costmodels.columns import Column, maximum, minimum


def round_count(*, pipeline_parallel_size: Column, microbatch_count: Column) -> Column:
    """Return the rounds in which an interleaved schedule feeds its microbatches.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    microbatch_count : Column
        Microbatches in a step, m [count].

    Returns
    -------
    Column
        max(1, m // p) [count].

    Notes
    -----
    The rule of torch 2.13, whose rounds need not have exactly p microbatches [1]_. The schedule
    exists where m is a multiple of it.

    References
    ----------
    .. [1] PyTorch 2.13, torch.distributed.pipelining.ScheduleInterleaved1F1B.

    Examples
    --------
    >>> round_count(pipeline_parallel_size=4, microbatch_count=10)
    2
    """
    return maximum(1, microbatch_count // pipeline_parallel_size)


def microbatches_per_round(*, pipeline_parallel_size: Column, microbatch_count: Column) -> Column:
    """Return how many microbatches an interleaved schedule feeds to a chunk before the next chunk.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    microbatch_count : Column
        Microbatches in a step, m [count].

    Returns
    -------
    Column
        m divided by the number of rounds, which is p where p divides m [count].

    Examples
    --------
    >>> microbatches_per_round(pipeline_parallel_size=4, microbatch_count=10)
    5
    """
    return microbatch_count // round_count(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )


def interleaved_warmup_count(
    *,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    stage_index: Column,
) -> Column:
    """Return the forwards that a rank does before it alternates forward and backward.

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
        min((v - 1) r + 2 (p - 1 - rank), v m), with r microbatches in a round [count].

    Notes
    -----
    The first backward belongs to the last chunk, so a round of every other chunk comes first;
    each hop from the last rank adds one forward on the way there and one on the way back [1]_.

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient large-scale language model training on GPU clusters
       using Megatron-LM," SC, 2021, section 2.2. arXiv:2104.04473.

    Examples
    --------
    >>> interleaved_warmup_count(
    ...     pipeline_parallel_size=4, virtual_stages=2, microbatch_count=8, stage_index=0
    ... )
    10
    """
    round_size = microbatches_per_round(
        pipeline_parallel_size=pipeline_parallel_size, microbatch_count=microbatch_count
    )
    hop_count = pipeline_parallel_size - 1 - stage_index
    return minimum(
        (virtual_stages - 1) * round_size + 2 * hop_count, virtual_stages * microbatch_count
    )
