"""Where the ranks of a parallel group sit, and which links join them.

Ranks are laid out axis by axis, the innermost axis on neighbouring accelerators, and nodes are
filled in that order. A group of g ranks with stride s takes blocks of g s ranks: it stays inside
a node where whole blocks fill a node; else it crosses nodes, with q of its members in each.

A ring across nodes runs as q rings, one from each member's own NIC, as NCCL does it [1]_: the
group's bandwidth is then that of q NICs, at most that of the links inside the node.

Each formula stands once, for a group; `axis_quantities` gives it the names of an axis.

References
----------
.. [1] NVIDIA, "NCCL user guide", NCCL_CROSS_NIC and channels: a ring per NIC of a node.
   https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
"""

import re
from collections.abc import Callable

from costmodels.columns import Column, ceil_div, maximum, minimum, where
from costmodels.quantities import Basis, Quantity, Scope, renamed

_BLOCKS = "by construction: blocks of size x stride ranks in nodes of equal size"
_NCCL = "NVIDIA, NCCL user guide, channels: a ring from each NIC of a node"
_AXES = ("tensor", "context", "data", "pipeline")


def group_stride(
    position: Column,
    first_position: Column,
    first_size: Column,
    second_position: Column,
    second_size: Column,
    third_position: Column,
    third_size: Column,
) -> Column:
    """Return the distance in ranks between neighbours of a group [rank].

    Examples
    --------
    >>> group_stride(2, 0, 8, 1, 1, 3, 16)
    8
    """
    return (
        where(first_position < position, first_size, 1)
        * where(second_position < position, second_size, 1)
        * where(third_position < position, third_size, 1)
    )


_STRIDE = (
    "where(first_position < position, first_size, 1)"
    " * where(second_position < position, second_size, 1)"
    " * where(third_position < position, third_size, 1)"
)


def group_node_members(
    size: Column, stride: Column, accelerators_per_node: Column, accelerator_count: Column
) -> Column:
    """Return the members of a group that share a node, in the group most spread out [count].

    A group that straddles nodes without filling them counts as two halves.

    Examples
    --------
    >>> group_node_members(8, 1, 8, 1024), group_node_members(16, 1, 8, 1024)
    (8, 8)
    >>> group_node_members(128, 8, 8, 1024), group_node_members(3, 1, 8, 1024)
    (1, 2)
    """
    aligned = accelerators_per_node % (size * stride) == 0
    spread = minimum(maximum(accelerators_per_node // stride, 1), ceil_div(size, 2))
    inside = where(accelerator_count <= accelerators_per_node, size, spread)
    return where(aligned, size, inside)


_NODE_MEMBERS = (
    "where(accelerators_per_node % (size * stride) == 0, size,"
    " where(accelerator_count <= accelerators_per_node, size,"
    " minimum(maximum(accelerators_per_node // stride, 1), ceil_div(size, 2))))"
)


def ring_network_fraction(size: Column, node_members: Column) -> Column:
    """Return the share of a ring's hops that cross nodes [fraction].

    Examples
    --------
    >>> ring_network_fraction(16, 8), ring_network_fraction(8, 8)
    (0.125, 0.0)
    """
    return where(node_members < size, ceil_div(size, node_members) / size, 0.0)


_RING_FRACTION = "where(node_members < size, ceil_div(size, node_members) / size, 0.0)"


def line_network_fraction(size: Column, node_members: Column, virtual_stages: Column) -> Column:
    """Return the share of the hops between stages that cross nodes [fraction].

    Several chunks on each rank close the line of stages to a ring.

    Examples
    --------
    >>> line_network_fraction(4, 2, 1), line_network_fraction(4, 2, 2)
    (0.3333333333333333, 0.5)
    """
    closed = virtual_stages > 1
    crossing = ceil_div(size, node_members) - 1 + closed * (node_members < size)
    return crossing / maximum(size - 1 + closed, 1)


_LINE_FRACTION = (
    "(ceil_div(size, node_members) - 1 + (virtual_stages > 1) * (node_members < size))"
    " / maximum(size - 1 + (virtual_stages > 1), 1)"
)


def ring_bandwidth_bytes_per_s(
    node_members: Column,
    size: Column,
    scale_up_bandwidth_bytes_per_s: Column,
    scale_up_efficiency_fraction: Column,
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
    network_oversubscription_ratio: Column,
) -> Column:
    """Return the bandwidth at which a GPU sends around a ring [byte/s].

    Examples
    --------
    >>> ring_bandwidth_bytes_per_s(8, 16, 450e9, 1.0, 50e9, 1.0, 2.0)
    200000000000.0
    """
    inside = scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction
    nic = network_bandwidth_bytes_per_s * network_efficiency_fraction
    nics = node_members * nic / network_oversubscription_ratio
    return where(node_members < size, minimum(inside, nics), inside)


_RING_BANDWIDTH = (
    "where(node_members < size, minimum(scale_up_bandwidth_bytes_per_s"
    " * scale_up_efficiency_fraction, node_members * network_bandwidth_bytes_per_s"
    " * network_efficiency_fraction / network_oversubscription_ratio),"
    " scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction)"
)


def line_bandwidth_bytes_per_s(
    node_members: Column,
    size: Column,
    scale_up_bandwidth_bytes_per_s: Column,
    scale_up_efficiency_fraction: Column,
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
    network_oversubscription_ratio: Column,
) -> Column:
    """Return the bandwidth at which a GPU sends to the next stage, by the slowest hop [byte/s]."""
    inside = scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction
    nic = network_bandwidth_bytes_per_s * network_efficiency_fraction
    shared = nic / network_oversubscription_ratio
    return where(node_members < size, minimum(inside, shared), inside)


_LINE_BANDWIDTH = _RING_BANDWIDTH.replace("node_members * network", "network")


def group_latency_s(
    node_members: Column, size: Column, network_latency_s: Column, scale_up_latency_s: Column
) -> Column:
    """Return the latency of a hop between neighbours, by the slowest hop [s]."""
    return where(node_members < size, network_latency_s, scale_up_latency_s)


_LATENCY = "where(node_members < size, network_latency_s, scale_up_latency_s)"


def axis_names(axis: str) -> dict[str, str]:
    """Return what the parameters of a group's formulas are called on an axis.

    Examples
    --------
    >>> axis_names("data")["size"], axis_names("data")["first_position"]
    ('data_parallel_size', 'tensor_position')
    """
    names = {
        "size": f"{axis}_parallel_size",
        "position": f"{axis}_position",
        "stride": f"{axis}_stride",
        "node_members": f"{axis}_node_members",
    }
    others = [other for other in _AXES if other != axis]
    for place, other in zip(("first", "second", "third"), others, strict=True):
        names[f"{place}_position"] = f"{other}_position"
        names[f"{place}_size"] = f"{other}_parallel_size"
    return names


def axis_quantities(axis: str) -> tuple[Quantity, ...]:
    """Return the placement of an axis: stride, members of a node, share of hops, links.

    Parameters
    ----------
    axis : str
        ``tensor``, ``data`` or ``pipeline``; the last is a line of stages, not a ring.

    Returns
    -------
    tuple of Quantity
        Named after the axis.
    """
    names = axis_names(axis)
    is_line = axis == "pipeline"
    fraction = line_network_fraction if is_line else ring_network_fraction
    bandwidth = line_bandwidth_bytes_per_s if is_line else ring_bandwidth_bytes_per_s

    def on_axis(formula: str) -> str:
        return re.sub(r"\w+", lambda match: names.get(match[0], match[0]), formula)

    def entry(
        name: str,
        function: Callable[..., Column],
        formula: str,
        *,
        unit: str,
        definition: str,
        scope: Scope = Scope.GPU,
        source: str = _BLOCKS,
        basis: Basis = Basis.EXACT,
    ) -> Quantity:
        return Quantity(
            name=f"{axis}_{name}",
            unit=unit,
            scope=scope,
            definition=f"{definition} of a {axis}-parallel group.",
            formula=on_axis(formula),
            source=source,
            basis=basis,
            function=renamed(function, f"{axis}_{name}", names),
        )

    return (
        entry(
            "stride",
            group_stride,
            _STRIDE,
            unit="rank",
            scope=Scope.PLAN,
            definition="Distance in ranks between neighbours",
            source="by construction: the product of the axes inside this one in the rank order",
        ),
        entry(
            "node_members",
            group_node_members,
            _NODE_MEMBERS,
            unit="count",
            scope=Scope.PLAN,
            definition="Members that share a node, in the one most spread out,",
        ),
        entry(
            "network_fraction",
            fraction,
            _LINE_FRACTION if is_line else _RING_FRACTION,
            unit="fraction",
            definition="Share of the hops that cross nodes, between neighbours",
        ),
        entry(
            "bandwidth_bytes_per_s",
            bandwidth,
            _LINE_BANDWIDTH if is_line else _RING_BANDWIDTH,
            unit="byte/s",
            definition="Bandwidth at which a GPU sends to its neighbour",
            source="the slowest hop decides" if is_line else _NCCL,
            basis=Basis.ASSUMED,
        ),
        entry(
            "latency_s",
            group_latency_s,
            _LATENCY,
            unit="s",
            definition="Latency of a hop between neighbours",
            source="the slowest hop decides",
        ),
    )


TENSOR: tuple[Quantity, ...] = axis_quantities("tensor")
DATA: tuple[Quantity, ...] = axis_quantities("data")
PIPELINE: tuple[Quantity, ...] = axis_quantities("pipeline")
