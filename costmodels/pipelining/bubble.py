"""The share of a pipeline's time in which its ranks have nothing to do, in closed form."""

from costmodels.columns import Column, maximum


def bubble_fraction(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return the idle share of the ranks' time between the first forward and the last backward.

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    virtual_stages : Column
        Chunks of a rank, v; one for GPipe and 1F1B [count].
    microbatch_count : Column
        Microbatches in a step, m [count].

    Returns
    -------
    Column
        (p - 1) / (v m + p - 1) of the ranks' whole time; with fewer microbatches than ranks
        (v p + m - 1 - v m) / (v p + m - 1) [fraction].

    Notes
    -----
    Stages take equal time and hand-overs take none. The last rank can start only after p - 1
    forwards of one chunk, and the first ends p - 1 backwards of one chunk after it; the ranks are
    busy for the v m chunks of their own. It is the same for GPipe [1]_, 1F1B and interleaved
    1F1B [2]_. The second source divides by the ideal time instead, which gives (p - 1) / (v m),
    and leaves out m < p: there the first rank waits for its second chunk's input, which needs p
    forwards while it has m to do, and v p + m - 1 slots are the longer of the two.

    References
    ----------
    .. [1] Y. Huang et al., "GPipe: Efficient training of giant neural networks using pipeline
       parallelism," NeurIPS, 2019, section 2.3. arXiv:1811.06965.
    .. [2] D. Narayanan et al., "Efficient large-scale language model training on GPU clusters
       using Megatron-LM," SC, 2021, section 2.2. arXiv:2104.04473.

    Examples
    --------
    Four ranks and four microbatches: three of seven slots are idle. With one microbatch, one rank
    works at a time.

    >>> bubble_fraction(pipeline_parallel_size=4, virtual_stages=1, microbatch_count=4) == 3 / 7
    True
    >>> bubble_fraction(pipeline_parallel_size=4, virtual_stages=1, microbatch_count=1)
    0.75
    >>> bubble_fraction(pipeline_parallel_size=4, virtual_stages=2, microbatch_count=2) == 5 / 9
    True
    """
    p, v, m = pipeline_parallel_size, virtual_stages, microbatch_count
    slot_count = maximum(v * m + p - 1, v * p + m - 1)
    return (slot_count - v * m) / slot_count
