"""Latent attention: how many pairs of query and key it has; the future is always masked."""

from costmodels.attention import dense
from costmodels.columns import Column


def attended_pairs(sequence_length: Column) -> Column:
    """Return the pairs of query and key that are not masked, for one head and sequence [pair].

    Examples
    --------
    >>> attended_pairs(4)
    10
    """
    return dense.attended_pairs(sequence_length, 1)


def executed_pairs(sequence_length: Column, attention_kernel_is_flash: Column) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair]."""
    return dense.executed_pairs(sequence_length, 1, attention_kernel_is_flash)
