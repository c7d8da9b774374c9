"""Dense attention: how many pairs of query and key it has, and how many are computed."""

from costmodels.columns import Column, where


def attended_pairs(sequence_length: Column, causal: Column) -> Column:
    """Return the pairs of query and key that are not masked, for one head and sequence [pair].

    Examples
    --------
    >>> attended_pairs(4, causal=1), attended_pairs(4, causal=0)
    (10, 16)
    """
    square = sequence_length * sequence_length
    return where(causal, (square + sequence_length) // 2, square)


def executed_pairs(
    sequence_length: Column, causal: Column, attention_kernel_is_flash: Column
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair].

    Notes
    -----
    A naive kernel computes the whole square and masks it. A flash kernel skips blocks that are
    masked whole; the masked part of the blocks on the diagonal (a share of the order of block
    size over sequence length) is left out.

    Examples
    --------
    >>> executed_pairs(4, causal=1, attention_kernel_is_flash=0)
    16
    """
    return where(
        attention_kernel_is_flash,
        attended_pairs(sequence_length, causal),
        sequence_length * sequence_length,
    )
