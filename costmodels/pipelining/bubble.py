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


_SLOTS = (
    "(maximum(virtual_stages * microbatch_count + pipeline_parallel_size,"
    " virtual_stages * pipeline_parallel_size + microbatch_count) - 1)"
)
SLOT_FORMULAS = {
    "ideal_bubble_s": f"({_SLOTS} - virtual_stages * microbatch_count)"
    " * mean_stage_s / virtual_stages",
    "ideal_idle_fraction": f"({_SLOTS} - virtual_stages * microbatch_count) / {_SLOTS}",
}
"""What schedules that do whole backwards wait, as expressions."""


def slots_bubble_s(
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    mean_stage_s: Column,
    virtual_stages: Column,
) -> Column:
    """Return the time in which a pipeline of equal stages fills and drains [s].

    Of schedules that do whole backwards, in slots of a chunk's forward and backward.

    Examples
    --------
    >>> slots_bubble_s(4, 8, 3.0, 1), slots_bubble_s(4, 2, 3.0, 2)
    (9.0, 7.5)
    """
    p, m, v = pipeline_parallel_size, microbatch_count, virtual_stages
    slot_count = maximum(v * m + p, v * p + m) - 1
    return (slot_count - v * m) * mean_stage_s / v


def slots_idle_fraction(
    pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return the share of that time in the whole of the pipeline's [fraction]."""
    return bubble_fraction(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )


def zb_h1_bubble_s(
    pipeline_parallel_size: Column,
    forward_s: Column,
    input_gradient_s: Column,
    weight_gradient_s: Column,
    hop_s: Column,
) -> Column:
    """Return what the longest-working rank waits under ZB-H1 [s].

    Parameters
    ----------
    pipeline_parallel_size : Column
        Ranks of the pipeline, p [count].
    forward_s, input_gradient_s, weight_gradient_s : Column
        Times of a stage, or of a chunk of interleaved zero-bubble with free links, F, I, W, with
        W at most F and I [s].
    hop_s : Column
        One hand-over, c, short against F, I and W [s].

    Returns
    -------
    Column
        (p - 1) (F + I - W + 4 c), for m of at least p [s].

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, table 1. arXiv:2401.10241.

    Examples
    --------
    >>> zb_h1_bubble_s(4, 1.0, 1.0, 1.0, 0.0)
    3.0
    """
    work = forward_s + input_gradient_s - weight_gradient_s
    return (pipeline_parallel_size - 1) * (work + 4 * hop_s)


def zb_h2_bubble_s(
    pipeline_parallel_size: Column,
    forward_s: Column,
    input_gradient_s: Column,
    weight_gradient_s: Column,
    hop_s: Column,
) -> Column:
    """Return what the longest-working rank waits under ZB-H2 [s].

    Parameters
    ----------
    pipeline_parallel_size, forward_s, input_gradient_s, weight_gradient_s, hop_s : Column
        As in `zb_h1_bubble_s`.

    Returns
    -------
    Column
        (p - 1) (F + I - 2 W + 2 c), for m of at least 2 p - 1. From the start of the first rank to
        the end of the last it is (p - 1) (F + max(I - 2 W, 0)) with free links: ranks start one
        after the other [s].

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, table 1. arXiv:2401.10241.

    Examples
    --------
    >>> zb_h2_bubble_s(4, 1.0, 1.0, 1.0, 0.0)
    0.0
    """
    work = forward_s + input_gradient_s - 2 * weight_gradient_s
    return (pipeline_parallel_size - 1) * (work + 2 * hop_s)


def dual_pipe_bubble_s(
    half_ranks: Column,
    forward_s: Column,
    input_gradient_s: Column,
    weight_gradient_s: Column,
) -> Column:
    """Return the bubble of DualPipe and DualPipe-V, whose pairs start and end together [s].

    Parameters
    ----------
    half_ranks : Column
        Half of DualPipe's ranks; all ranks of DualPipe-V [count].
    forward_s, input_gradient_s, weight_gradient_s : Column
        Times of a chunk, F, I, W: of DualPipe a stage, of DualPipe-V half of one, equal [s].

    Returns
    -------
    Column
        (half_ranks - 1) (F&B + B - 3 W), with B = I + W and a pair F&B that takes F + B [s].

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 technical report," 2024, table 2. arXiv:2412.19437.

    Examples
    --------
    >>> dual_pipe_bubble_s(4, 0.5, 0.5, 0.5)
    3.0
    """
    backward_s = input_gradient_s + weight_gradient_s
    pair_s = forward_s + backward_s
    return (half_ranks - 1) * (pair_s + backward_s - 3 * weight_gradient_s)
