"""Ranks that share sequences."""

from costmodels.columns import Axis, Column, largest, total, where
from costmodels.errors import NotModelledError
from costmodels.leaves import Sections
from costmodels.rules.declaration import rule
from costmodels.specs.layouts import type_of


@rule(
    "workload.sequence_length",
    "must be a multiple of 2 x plan.context_parallel_size "
    "({context_parallel_size}), of it alone with plan.context_parallel_method=ulysses",
)
def context_divides(
    sequence_length: Column,
    context_parallel_size: Column,
    context_parallel_method_is_ulysses: Column,
) -> Column:
    """Return whether every context-parallel rank has as many tokens, and as many pairs of them.

    With a causal mask a rank takes two of 2 c parts, one from each end of the sequence; where heads
    are exchanged, one part.
    """
    parts = where(context_parallel_method_is_ulysses, 1, 2) * context_parallel_size
    return (context_parallel_size == 1) + (sequence_length % parts == 0) > 0


@rule(
    "plan.context_parallel_size",
    "exchanges heads (plan.context_parallel_method=ulysses): times "
    "plan.tensor_parallel_size ({tensor_parallel_size}) it must divide "
    "model.num_attention_heads ({num_attention_heads}) and model.num_key_value_heads "
    "({num_key_value_heads})",
)
def context_heads_divide(
    num_attention_heads: Axis,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
    context_parallel_method_is_ulysses: Column,
) -> Column:
    """Return whether ranks that exchange heads for tokens get as many heads."""
    ranks = tensor_parallel_size * context_parallel_size
    left = total([heads % ranks for heads in (*num_attention_heads, *num_key_value_heads)])
    return (context_parallel_method_is_ulysses == 0) + (context_parallel_size == 1) + (
        left == 0
    ) > 0


@rule(
    "plan.context_parallel_size",
    "layers whose queries, keys or values differ in size are not modelled yet with "
    "context parallelism; use 1",
    modelled=False,
)
def context_blocks_are_equal(
    context_parallel_size: Column,
    num_attention_heads: Axis,
    num_key_value_heads: Axis,
    attention_query_size: Axis,
    attention_value_size: Axis,
) -> Column:
    """Return whether all layers have queries, keys and values of one size, where they are sent."""
    widths = [
        [heads * size for heads, size in zip(counts, sizes, strict=True)]
        for counts in (num_attention_heads, num_key_value_heads)
        for sizes in (attention_query_size, attention_value_size)
    ]
    uneven = total([largest(kinds) - kind for kinds in widths for kind in kinds])
    return (context_parallel_size == 1) + (uneven == 0) > 0


def check_shared_sequences(sections: Sections) -> None:
    """Raise unless attention over shared sequences is modelled for every layout.

    Raises
    ------
    NotModelledError
        Naming the layouts that are not.
    """
    size = sections.plan.context_parallel_size
    others = {type_of(layout) for layout in sections.model.layouts} - {"dense", "latent"}
    if size > 1 and others:
        raise NotModelledError(
            f"plan.context_parallel_size ({size}): {', '.join(sorted(others))} attention over "
            "shared sequences is not modelled yet; use 1"
        )
