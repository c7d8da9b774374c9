"""Times of exchanges of rows between experts."""

from costmodels.collectives import all_to_all_s, ring_pass_s
from costmodels.columns import Column, minimum
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_EXCHANGE = "Hockney 1994, doi:10.1016/S0167-8191(06)80021-9, for each tier, all parts at once"
_CHUNK = (STAGE, CHUNK)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="minimum(expert_parallel_size - 1, 1) * all_to_all_s(expert_exchange_bytes,"
    " network_fraction=expert_network_fraction,"
    " inside_bytes_per_s=inside_bytes_per_s, network_bytes_per_s=nic_bytes_per_s,"
    " latency_s=expert_latency_s)",
    source=_EXCHANGE,
)
def expert_exchange_s(
    expert_parallel_size: Column,
    expert_exchange_bytes: Column,
    expert_network_fraction: Column,
    inside_bytes_per_s: Column,
    nic_bytes_per_s: Column,
    expert_latency_s: Column,
) -> Column:
    """Return the time of one exchange of rows between a layer's experts [s]."""
    exchange_s = all_to_all_s(
        expert_exchange_bytes,
        network_fraction=expert_network_fraction,
        inside_bytes_per_s=inside_bytes_per_s,
        network_bytes_per_s=nic_bytes_per_s,
        latency_s=expert_latency_s,
    )
    return minimum(expert_parallel_size - 1, 1) * exchange_s


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_pass_s(expert_rows_bytes, group_size=expert_stride,"
    " bandwidth_bytes_per_s=expert_tensor_bandwidth_bytes_per_s,"
    " latency_s=expert_tensor_latency_s)",
    source=_RING,
)
def expert_rows_s(
    expert_rows_bytes: Column,
    expert_stride: Column,
    expert_tensor_bandwidth_bytes_per_s: Column,
    expert_tensor_latency_s: Column,
) -> Column:
    """Return the time to gather rows over the ranks that split an expert, or to scatter them [s]."""
    return ring_pass_s(
        expert_rows_bytes,
        group_size=expert_stride,
        bandwidth_bytes_per_s=expert_tensor_bandwidth_bytes_per_s,
        latency_s=expert_tensor_latency_s,
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="2 * chunk_mixture_layers * (expert_exchange_s + expert_rows_s)",
    source="Rajbhandari et al. 2022, arXiv:2201.05596: nothing to hide behind",
)
def chunk_forward_expert_s(
    chunk_mixture_layers: Column, expert_exchange_s: Column, expert_rows_s: Column
) -> Column:
    """Return the exchanges with experts that a chunk's forward waits for, for one microbatch [s]."""
    return 2 * chunk_mixture_layers * (expert_exchange_s + expert_rows_s)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_expert_s + 2 * chunk_repeated_mixture_layers"
    " * (expert_exchange_s + expert_rows_s)",
    source="Rajbhandari et al. 2022, arXiv:2201.05596: nothing to hide behind",
)
def chunk_backward_expert_s(
    chunk_forward_expert_s: Column,
    chunk_repeated_mixture_layers: Column,
    expert_exchange_s: Column,
    expert_rows_s: Column,
) -> Column:
    """Return the exchanges with experts that a chunk's backward waits for, for one microbatch [s]."""
    again = 2 * chunk_repeated_mixture_layers * (expert_exchange_s + expert_rows_s)
    return chunk_forward_expert_s + again
