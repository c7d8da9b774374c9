"""Where the ranks of a parallel group sit, and which links join them.

Ranks are laid out axis by axis, the innermost axis on neighbouring accelerators, and nodes are
filled in that order. A group of g ranks with stride s takes blocks of g s ranks: it stays inside
a node where whole blocks fill a node; else it crosses nodes, with q of its members in each.

A ring across nodes runs as q rings, one from each member's own NIC, as NCCL does it [1]_: the
group's bandwidth is then that of q NICs, at most that of the links inside the node.

References
----------
.. [1] NVIDIA, "NCCL user guide", NCCL_CROSS_NIC and channels: a ring per NIC of a node.
   https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
"""

from costmodels.columns import Column, ceil_div, maximum, minimum, where
from costmodels.quantities import Basis, Scope, quantity

_BLOCKS = "by construction: blocks of size x stride ranks in nodes of equal size"
_NCCL = "NVIDIA, NCCL user guide, channels: a ring from each NIC of a node"


@quantity(
    "rank",
    Scope.PLAN,
    formula="where(context_position < tensor_position, context_parallel_size, 1)"
    " * where(data_position < tensor_position, data_parallel_size, 1)"
    " * where(pipeline_position < tensor_position, pipeline_parallel_size, 1)",
    source="by construction: axes inside this one in the rank order",
)
def tensor_stride(
    tensor_position: Column,
    context_position: Column,
    data_position: Column,
    pipeline_position: Column,
    context_parallel_size: Column,
    data_parallel_size: Column,
    pipeline_parallel_size: Column,
) -> Column:
    """Return the distance in ranks between neighbours of a tensor-parallel group [rank]."""
    return (
        where(context_position < tensor_position, context_parallel_size, 1)
        * where(data_position < tensor_position, data_parallel_size, 1)
        * where(pipeline_position < tensor_position, pipeline_parallel_size, 1)
    )


@quantity(
    "count",
    Scope.PLAN,
    formula="where(accelerators_per_node % (tensor_parallel_size * tensor_stride) == 0, tensor_parallel_size,"
    " where(accelerator_count <= accelerators_per_node, tensor_parallel_size,"
    " minimum(maximum(accelerators_per_node // tensor_stride, 1),"
    " ceil_div(tensor_parallel_size, 2))))",
    source=_BLOCKS,
)
def tensor_node_members(
    tensor_parallel_size: Column,
    tensor_stride: Column,
    accelerators_per_node: Column,
    accelerator_count: Column,
) -> Column:
    """Return the members of a tensor-parallel group that share a node, in the group most spread out [count]."""
    return _node_members(
        tensor_parallel_size, tensor_stride, accelerators_per_node, accelerator_count
    )


@quantity(
    "fraction",
    Scope.GPU,
    formula="where(tensor_node_members < tensor_parallel_size,"
    " ceil_div(tensor_parallel_size, tensor_node_members) / tensor_parallel_size, 0.0)",
    source=_BLOCKS,
)
def tensor_network_fraction(tensor_parallel_size: Column, tensor_node_members: Column) -> Column:
    """Return the share of a tensor-parallel ring's hops that cross nodes [fraction]."""
    crossing = ceil_div(tensor_parallel_size, tensor_node_members) / tensor_parallel_size
    return where(tensor_node_members < tensor_parallel_size, crossing, 0.0)


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(tensor_node_members < tensor_parallel_size, minimum(scale_up_bandwidth_bytes_per_s"
    " * scale_up_efficiency_fraction, tensor_node_members * network_bandwidth_bytes_per_s"
    " * network_efficiency_fraction),"
    " scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction)",
    source=_NCCL,
)
def tensor_bandwidth_bytes_per_s(
    tensor_node_members: Column,
    tensor_parallel_size: Column,
    scale_up_bandwidth_bytes_per_s: Column,
    scale_up_efficiency_fraction: Column,
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
) -> Column:
    """Return the bandwidth at which a GPU sends to its tensor-parallel neighbour [byte/s]."""
    inside = scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction
    nics = tensor_node_members * network_bandwidth_bytes_per_s * network_efficiency_fraction
    return where(tensor_node_members < tensor_parallel_size, minimum(inside, nics), inside)


@quantity(
    "s",
    Scope.GPU,
    formula="where(tensor_node_members < tensor_parallel_size, network_latency_s, scale_up_latency_s)",
    source="the slowest hop decides",
)
def tensor_latency_s(
    tensor_node_members: Column,
    tensor_parallel_size: Column,
    network_latency_s: Column,
    scale_up_latency_s: Column,
) -> Column:
    """Return the latency of a hop between tensor-parallel neighbours [s]."""
    crosses = tensor_node_members < tensor_parallel_size
    return where(crosses, network_latency_s, scale_up_latency_s)


@quantity(
    "rank",
    Scope.PLAN,
    formula="where(tensor_position < data_position, tensor_parallel_size, 1)"
    " * where(context_position < data_position, context_parallel_size, 1)"
    " * where(pipeline_position < data_position, pipeline_parallel_size, 1)",
    source="by construction: axes inside this one in the rank order",
)
def data_stride(
    data_position: Column,
    tensor_position: Column,
    context_position: Column,
    pipeline_position: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
    pipeline_parallel_size: Column,
) -> Column:
    """Return the distance in ranks between neighbours of a data-parallel group [rank]."""
    return (
        where(tensor_position < data_position, tensor_parallel_size, 1)
        * where(context_position < data_position, context_parallel_size, 1)
        * where(pipeline_position < data_position, pipeline_parallel_size, 1)
    )


@quantity(
    "count",
    Scope.PLAN,
    formula="where(accelerators_per_node % (data_parallel_size * data_stride) == 0, data_parallel_size,"
    " where(accelerator_count <= accelerators_per_node, data_parallel_size,"
    " minimum(maximum(accelerators_per_node // data_stride, 1),"
    " ceil_div(data_parallel_size, 2))))",
    source=_BLOCKS,
)
def data_node_members(
    data_parallel_size: Column,
    data_stride: Column,
    accelerators_per_node: Column,
    accelerator_count: Column,
) -> Column:
    """Return the members of a data-parallel group that share a node, in the group most spread out [count]."""
    return _node_members(data_parallel_size, data_stride, accelerators_per_node, accelerator_count)


@quantity(
    "fraction",
    Scope.GPU,
    formula="where(data_node_members < data_parallel_size,"
    " ceil_div(data_parallel_size, data_node_members) / data_parallel_size, 0.0)",
    source=_BLOCKS,
)
def data_network_fraction(data_parallel_size: Column, data_node_members: Column) -> Column:
    """Return the share of a data-parallel ring's hops that cross nodes [fraction]."""
    crossing = ceil_div(data_parallel_size, data_node_members) / data_parallel_size
    return where(data_node_members < data_parallel_size, crossing, 0.0)


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(data_node_members < data_parallel_size, minimum(scale_up_bandwidth_bytes_per_s"
    " * scale_up_efficiency_fraction, data_node_members * network_bandwidth_bytes_per_s"
    " * network_efficiency_fraction),"
    " scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction)",
    source=_NCCL,
)
def data_bandwidth_bytes_per_s(
    data_node_members: Column,
    data_parallel_size: Column,
    scale_up_bandwidth_bytes_per_s: Column,
    scale_up_efficiency_fraction: Column,
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
) -> Column:
    """Return the bandwidth at which a GPU sends to its data-parallel neighbour [byte/s]."""
    inside = scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction
    nics = data_node_members * network_bandwidth_bytes_per_s * network_efficiency_fraction
    return where(data_node_members < data_parallel_size, minimum(inside, nics), inside)


@quantity(
    "s",
    Scope.GPU,
    formula="where(data_node_members < data_parallel_size, network_latency_s, scale_up_latency_s)",
    source="the slowest hop decides",
)
def data_latency_s(
    data_node_members: Column,
    data_parallel_size: Column,
    network_latency_s: Column,
    scale_up_latency_s: Column,
) -> Column:
    """Return the latency of a hop between data-parallel neighbours [s]."""
    crosses = data_node_members < data_parallel_size
    return where(crosses, network_latency_s, scale_up_latency_s)


@quantity(
    "rank",
    Scope.PLAN,
    formula="where(tensor_position < pipeline_position, tensor_parallel_size, 1)"
    " * where(context_position < pipeline_position, context_parallel_size, 1)"
    " * where(data_position < pipeline_position, data_parallel_size, 1)",
    source="by construction: axes inside this one in the rank order",
)
def pipeline_stride(
    pipeline_position: Column,
    tensor_position: Column,
    context_position: Column,
    data_position: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
    data_parallel_size: Column,
) -> Column:
    """Return the distance in ranks between neighbours of a pipeline-parallel group [rank]."""
    return (
        where(tensor_position < pipeline_position, tensor_parallel_size, 1)
        * where(context_position < pipeline_position, context_parallel_size, 1)
        * where(data_position < pipeline_position, data_parallel_size, 1)
    )


@quantity(
    "count",
    Scope.PLAN,
    formula="where(accelerators_per_node % (pipeline_parallel_size * pipeline_stride) == 0, pipeline_parallel_size,"
    " where(accelerator_count <= accelerators_per_node, pipeline_parallel_size,"
    " minimum(maximum(accelerators_per_node // pipeline_stride, 1),"
    " ceil_div(pipeline_parallel_size, 2))))",
    source=_BLOCKS,
)
def pipeline_node_members(
    pipeline_parallel_size: Column,
    pipeline_stride: Column,
    accelerators_per_node: Column,
    accelerator_count: Column,
) -> Column:
    """Return the members of a pipeline-parallel group that share a node, in the group most spread out [count]."""
    return _node_members(
        pipeline_parallel_size, pipeline_stride, accelerators_per_node, accelerator_count
    )


@quantity(
    "fraction",
    Scope.GPU,
    formula="(ceil_div(pipeline_parallel_size, pipeline_node_members) - 1"
    " + (virtual_stages > 1) * (pipeline_node_members < pipeline_parallel_size))"
    " / maximum(pipeline_parallel_size - 1 + (virtual_stages > 1), 1)",
    source=_BLOCKS + "; chunks close the line of stages to a ring",
)
def pipeline_network_fraction(
    pipeline_parallel_size: Column, pipeline_node_members: Column, virtual_stages: Column
) -> Column:
    """Return the share of the hops between stages that cross nodes [fraction]."""
    closed = virtual_stages > 1
    crossing = (
        ceil_div(pipeline_parallel_size, pipeline_node_members)
        - 1
        + closed * (pipeline_node_members < pipeline_parallel_size)
    )
    return crossing / maximum(pipeline_parallel_size - 1 + closed, 1)


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_node_members < pipeline_parallel_size, minimum(scale_up_bandwidth_bytes_per_s"
    " * scale_up_efficiency_fraction, network_bandwidth_bytes_per_s"
    " * network_efficiency_fraction),"
    " scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction)",
    source="the slowest hop decides",
)
def pipeline_bandwidth_bytes_per_s(
    pipeline_node_members: Column,
    pipeline_parallel_size: Column,
    scale_up_bandwidth_bytes_per_s: Column,
    scale_up_efficiency_fraction: Column,
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
) -> Column:
    """Return the bandwidth at which a GPU sends to its pipeline-parallel neighbour [byte/s]."""
    inside = scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction
    nics = network_bandwidth_bytes_per_s * network_efficiency_fraction
    return where(pipeline_node_members < pipeline_parallel_size, minimum(inside, nics), inside)


@quantity(
    "s",
    Scope.GPU,
    formula="where(pipeline_node_members < pipeline_parallel_size, network_latency_s, scale_up_latency_s)",
    source="the slowest hop decides",
)
def pipeline_latency_s(
    pipeline_node_members: Column,
    pipeline_parallel_size: Column,
    network_latency_s: Column,
    scale_up_latency_s: Column,
) -> Column:
    """Return the latency of a hop between pipeline-parallel neighbours [s]."""
    crosses = pipeline_node_members < pipeline_parallel_size
    return where(crosses, network_latency_s, scale_up_latency_s)


def _node_members(
    group_size: Column, stride: Column, accelerators_per_node: Column, accelerator_count: Column
) -> Column:
    """Return the members that share a node; a group that straddles nodes counts as two halves."""
    aligned = accelerators_per_node % (group_size * stride) == 0
    spread = minimum(maximum(accelerators_per_node // stride, 1), ceil_div(group_size, 2))
    inside = where(accelerator_count <= accelerators_per_node, group_size, spread)
    return where(aligned, group_size, inside)
