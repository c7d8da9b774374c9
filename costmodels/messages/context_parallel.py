"""Messages of ranks that share sequences: keys and values, or heads."""

from costmodels.columns import Axis, Column, as_float, minimum, total
from costmodels.quantities import STAGE, Basis, Scope, quantity

_CONTEXT = "Liu et al. 2023, arXiv:2310.01889, section 3; Jacobs et al. 2023, arXiv:2309.14509"
_STAGE = (STAGE,)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ring * (total(chunk_layers) * (3"
    " * (context_parallel_size - 1) + minimum(context_parallel_size - 1, 1))"
    " + total(chunk_attention_repeated_layers) * (context_parallel_size - 1))",
    source=_CONTEXT,
)
def context_send_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ring: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the blocks of keys and values, and of their gradients, sent around rings over a step [count]."""
    passes = 3 * (context_parallel_size - 1) + minimum(context_parallel_size - 1, 1)
    again = total(chunk_attention_repeated_layers) * (context_parallel_size - 1)
    rings = as_float(chunk_microbatch_count) * context_parallel_method_is_ring
    return rings * (total(chunk_layers) * passes + again)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_all_gather *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_all_gather_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_all_gather: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the all-gathers of keys and values, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_all_gather
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_all_gather *"
    " total(chunk_layers) * minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_reduce_scatter_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_all_gather: Column,
    chunk_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the reduce-scatters of the gradients of keys and values, over a step [count]."""
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_all_gather
    return layers * total(chunk_layers) * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ulysses *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_input_all_to_all_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ulysses: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the exchanges of queries, keys and values by heads, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_ulysses
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ulysses *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_output_all_to_all_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ulysses: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the exchanges of the output of heads by heads, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_ulysses
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)
