"""One linear layer Y = X W + b that several ranks share: by columns of W, or by rows.

By columns every rank has the whole input and some outputs: outputs are concatenated in the
forward, and gradients of the input added in the backward. By rows every rank has some inputs and
adds to all outputs: outputs are added in the forward, and gradients of the input concatenated in
the backward [1]_. Concatenating is an all-gather, adding an all-reduce.

A dimension is dealt out as `torch.chunk` and DTensor's ``Shard`` do it: in parts of ceil(D / p),
the last one smaller, none left for ranks beyond it [2]_.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM," 2019, section 3. arXiv:1909.08053.
.. [2] PyTorch documentation, torch.chunk and torch.distributed.tensor.Shard: uneven sharding.
"""

from costmodels.collectives import ring_all_gather_bytes, ring_all_reduce_bytes
from costmodels.columns import Column, ceil_div, maximum, minimum


def shard_size(dimension_size: Column, rank_count: Column, rank: Column) -> Column:
    """Return a rank's part of a dimension [count].

    Parameters
    ----------
    dimension_size : Column
        What is dealt out, D [count].
    rank_count, rank : Column
        Ranks that share it, p, and one of them, counted from zero [count].

    Returns
    -------
    Column
        ceil(D / p), less on the last rank that has something, zero beyond [count].

    Examples
    --------
    >>> [shard_size(11008, 3, rank) for rank in range(3)]
    [3670, 3670, 3668]
    >>> [shard_size(4, 6, rank) for rank in range(6)]
    [1, 1, 1, 1, 0, 0]
    """
    part = ceil_div(dimension_size, rank_count)
    return minimum(maximum(dimension_size - rank * part, 0), part)


def idle_rank_count(dimension_size: Column, rank_count: Column) -> Column:
    """Return the ranks that get nothing of a dimension [count].

    Examples
    --------
    >>> idle_rank_count(4, 6), idle_rank_count(11008, 3), idle_rank_count(9, 8)
    (2, 0, 3)
    """
    return rank_count - ceil_div(dimension_size, ceil_div(dimension_size, rank_count))


def load_ratio(dimension_size: Column, rank_count: Column) -> Column:
    """Return the largest part over an equal one: how much longer the slowest rank works [ratio].

    Examples
    --------
    >>> load_ratio(12, 8), load_ratio(16, 8)
    (1.3333333333333333, 1.0)
    """
    return ceil_div(dimension_size, rank_count) * rank_count / dimension_size


def product_flop(token_count: Column, input_size: Column, output_size: Column) -> Column:
    """Return the work of one product with a matrix, two FLOP a multiply-add [FLOP].

    The backward takes two as large: gradients of the input and of the weights.

    Examples
    --------
    >>> product_flop(2048, 4096, 3670)
    61572382720
    """
    return 2 * token_count * input_size * output_size


def concatenated_elements(
    token_count: Column, dimension_size: Column, rank_count: Column
) -> Column:
    """Return the elements of a gathered tensor, every part padded to the largest [count].

    Examples
    --------
    >>> concatenated_elements(2, 11008, 3)
    22020
    """
    return token_count * ceil_div(dimension_size, rank_count) * rank_count


def concatenating_bytes(
    token_count: Column, dimension_size: Column, rank_count: Column, element_bytes: Column
) -> Column:
    """Return what a rank sends to concatenate parts of a dimension on all ranks [byte].

    Parameters
    ----------
    token_count, dimension_size : Column
        Shape of the whole tensor, of which each rank has some columns [count].
    rank_count : Column
        Ranks of the group [count].
    element_bytes : Column
        Size of an element [byte].

    Returns
    -------
    Column
        (p - 1) padded parts: a ring's all-gather [byte].

    References
    ----------
    Thakur et al. 2005, section 4.1, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> concatenating_bytes(8192, 16384, 8, 2)
    234881024
    """
    elements = concatenated_elements(token_count, dimension_size, rank_count)
    return element_bytes * ring_all_gather_bytes(elements, rank_count)


def adding_bytes(
    token_count: Column, dimension_size: Column, rank_count: Column, element_bytes: Column
) -> Column:
    """Return what a rank sends to add whole tensors over all ranks [byte].

    Parameters, errors: as `concatenating_bytes`.

    Returns
    -------
    Column
        2 (p - 1) shards of whole elements: a ring's all-reduce [byte].

    References
    ----------
    Thakur et al. 2005, section 4.4, doi:10.1177/1094342005051521.

    Examples
    --------
    >>> adding_bytes(8192, 16384, 8, 2)
    469762048
    """
    return element_bytes * ring_all_reduce_bytes(token_count * dimension_size, rank_count)
