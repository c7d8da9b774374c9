"""Messages of ranks that share or split experts: rows of tokens."""

from costmodels.columns import Axis, Column, minimum, total
from costmodels.quantities import STAGE, Basis, Scope, quantity

_FOLDED = "Liu et al. 2025, arXiv:2504.14960, section 3; Rajbhandari et al. 2022, arXiv:2201.05596"
_STAGE = (STAGE,)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_parallel_size - 1, 1)",
    source=_FOLDED + ": to the experts and back, forward and backward",
)
def expert_all_to_all_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return the exchanges of rows between experts, over a step [count]."""
    layers = 4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_stride - 1, 1)",
    source=_FOLDED,
)
def expert_rows_all_gather_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_stride: Column,
) -> Column:
    """Return the all-gathers of rows over ranks that split an expert, over a step [count]."""
    layers = 2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_stride - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_stride - 1, 1)",
    source=_FOLDED,
)
def expert_rows_reduce_scatter_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_stride: Column,
) -> Column:
    """Return the reduce-scatters of rows over ranks that split an expert, over a step [count]."""
    layers = 2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_stride - 1, 1)
