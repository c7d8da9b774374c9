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
from collections.abc import Callable, Mapping

from costmodels.columns import Column, ceil_div, maximum, minimum, where
from costmodels.quantities import Basis, Quantity, Scope, quantity, renamed

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


def line_network_fraction(
    size: Column, node_members: Column, virtual_stages: Column, schedule_loops: Column
) -> Column:
    """Return the share of the hops between stages that cross nodes [fraction].

    Chunks that go round the ranks hand over from the last to the first too, once for each chunk but
    the last.

    Examples
    --------
    Four stages on two nodes: one of three hops; with two chunks on each, three of seven.

    >>> line_network_fraction(4, 2, 1, 1), line_network_fraction(4, 2, 2, 1)
    (0.3333333333333333, 0.42857142857142855)
    """
    around = (virtual_stages - 1) * schedule_loops
    lines = virtual_stages * (ceil_div(size, node_members) - 1)
    crossing = lines + around * (node_members < size)
    return crossing / maximum(virtual_stages * (size - 1) + around, 1)


_LINE_FRACTION = (
    "(virtual_stages * (ceil_div(size, node_members) - 1)"
    " + (virtual_stages - 1) * schedule_loops * (node_members < size))"
    " / maximum(virtual_stages * (size - 1) + (virtual_stages - 1) * schedule_loops, 1)"
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


def exchange_network_fraction(size: Column, node_members: Column) -> Column:
    """Return the share of an all-to-all's bytes that goes to ranks in other nodes [fraction].

    Examples
    --------
    >>> exchange_network_fraction(16, 8), exchange_network_fraction(8, 8)
    (0.5333333333333333, 0.0)
    """
    return (size - node_members) / maximum(size - 1, 1)


_EXCHANGE_FRACTION = "(size - node_members) / maximum(size - 1, 1)"


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
    return (
        _entry(
            axis,
            names,
            "stride",
            group_stride,
            _STRIDE,
            unit="rank",
            scope=Scope.PLAN,
            definition="Distance in ranks between neighbours",
            source="by construction: the product of the axes inside this one in the rank order",
        ),
        _entry(
            axis,
            names,
            "node_members",
            group_node_members,
            _NODE_MEMBERS,
            unit="count",
            scope=Scope.PLAN,
            definition="Members that share a node, in the one most spread out,",
        ),
        *_links(axis, names, is_line=axis == "pipeline"),
    )


def _links(group: str, names: Mapping[str, str], *, is_line: bool = False) -> tuple[Quantity, ...]:
    """Return share of hops, bandwidth and latency of a group, a line of ranks or a ring."""
    return (
        _entry(
            group,
            names,
            "network_fraction",
            line_network_fraction if is_line else ring_network_fraction,
            _LINE_FRACTION if is_line else _RING_FRACTION,
            unit="fraction",
            definition="Share of the hops that cross nodes, between neighbours",
        ),
        _entry(
            group,
            names,
            "bandwidth_bytes_per_s",
            line_bandwidth_bytes_per_s if is_line else ring_bandwidth_bytes_per_s,
            _LINE_BANDWIDTH if is_line else _RING_BANDWIDTH,
            unit="byte/s",
            definition="Bandwidth at which a GPU sends to its neighbour",
            source="the slowest hop decides" if is_line else _NCCL,
            basis=Basis.ASSUMED,
        ),
        _latency(group, names),
    )


def _latency(group: str, names: Mapping[str, str]) -> Quantity:
    return _entry(
        group,
        names,
        "latency_s",
        group_latency_s,
        _LATENCY,
        unit="s",
        definition="Latency of a hop between neighbours",
        source="the slowest hop decides",
    )


def _exchange(group: str, names: Mapping[str, str], name: str = "network_fraction") -> Quantity:
    return _entry(
        group,
        names,
        name,
        exchange_network_fraction,
        _EXCHANGE_FRACTION,
        unit="fraction",
        definition="Share of an all-to-all's bytes that goes to other nodes",
        source="parts of equal size, one for each member",
    )


def _entry(
    group: str,
    names: Mapping[str, str],
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
    """Return a quantity of a group, its formula and function in the group's names."""
    own = f"{group}_{name}"
    return Quantity(
        name=own,
        unit=unit,
        scope=scope,
        definition=f"{definition} of a {_LABELS.get(group, group + '-parallel')} group.",
        formula=re.sub(r"\w+", lambda match: names.get(match[0], match[0]), formula),
        source=source,
        basis=basis,
        function=renamed(function, own, dict(names)),
    )


_LABELS = {
    "sharding": "sharding",
    "replication": "replicating",
    "expert": "expert-parallel",
    "expert_tensor": "expert tensor-parallel",
    "expert_sharding": "expert sharding",
}
"""What groups are called that are no axis."""


TENSOR: tuple[Quantity, ...] = axis_quantities("tensor")
DATA: tuple[Quantity, ...] = axis_quantities("data")
PIPELINE: tuple[Quantity, ...] = axis_quantities("pipeline")
CONTEXT: tuple[Quantity, ...] = (
    *axis_quantities("context"),
    _exchange("context", axis_names("context"), "exchange_fraction"),
)


def _node_members_formula(size: str, stride: str, node: str, count: str) -> str:
    """Return the expression of `group_node_members` over other names."""
    names = {
        "size": size,
        "stride": stride,
        "accelerators_per_node": node,
        "accelerator_count": count,
    }
    return re.sub(r"\w+", lambda match: names.get(match[0], match[0]), _NODE_MEMBERS)


_COPIES = (
    "by construction: data- and context-parallel ranks hold the same weights; neighbouring ones "
    "shard, as in Zhao et al. 2023, arXiv:2304.11277, section 3.2.2"
)
_FOLDED = (
    "Liu et al. 2025, arXiv:2504.14960, section 3: the ranks of a stage, those that split an expert "
    "innermost, then those that share experts, then replicas of them"
)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="data_parallel_size * context_parallel_size",
    source=_COPIES,
)
def reduction_size(data_parallel_size: Column, context_parallel_size: Column) -> Column:
    """Return the ranks that hold the same part of the weights [count]."""
    return data_parallel_size * context_parallel_size


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(stated_sharding_group_size > 0, stated_sharding_group_size, reduction_size)",
    source=_COPIES,
)
def sharding_size(stated_sharding_group_size: Column, reduction_size: Column) -> Column:
    """Return the ranks over which states are sharded [count]."""
    return where(stated_sharding_group_size > 0, stated_sharding_group_size, reduction_size)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="maximum(reduction_size // sharding_size, 1)",
    source=_COPIES,
)
def replication_size(reduction_size: Column, sharding_size: Column) -> Column:
    """Return the groups of ranks that hold the same shards [count]."""
    return maximum(reduction_size // sharding_size, 1)


@quantity(
    "rank",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(experts_apart, expert_tensor_size, 1)",
    source=_FOLDED,
)
def expert_stride(experts_apart: Column, expert_tensor_size: Column) -> Column:
    """Return the ranks that split an expert, one where experts have no groups of their own [rank]."""
    return where(experts_apart, expert_tensor_size, 1)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(experts_apart, maximum(sharding_size * tensor_parallel_size //"
    " (expert_tensor_size * expert_parallel_size), 1), 1)",
    source=_FOLDED,
)
def expert_sharding_size(
    experts_apart: Column,
    sharding_size: Column,
    tensor_parallel_size: Column,
    expert_tensor_size: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return the ranks over which states of experts are sharded, one without groups of their own [count].

    Examples
    --------
    >>> int(expert_sharding_size(1, 16, 8, 2, 16)), int(expert_sharding_size(0, 16, 8, 8, 1))
    (4, 1)
    """
    ranks = expert_tensor_size * expert_parallel_size
    own = maximum(sharding_size * tensor_parallel_size // ranks, 1)
    return where(experts_apart, own, 1)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="minimum(pipeline_stride, accelerators_per_node) * maximum(accelerators_per_node"
    " // (pipeline_stride * pipeline_parallel_size), 1)",
    source=_BLOCKS,
)
def stage_node_size(
    pipeline_stride: Column, accelerators_per_node: Column, pipeline_parallel_size: Column
) -> Column:
    """Return the GPUs of a stage that share a node [count].

    Examples
    --------
    >>> stage_node_size(128, 8, 16), stage_node_size(2, 8, 2), stage_node_size(1, 8, 4)
    (8, 4, 2)
    """
    inside = minimum(pipeline_stride, accelerators_per_node)
    blocks = accelerators_per_node // (pipeline_stride * pipeline_parallel_size)
    return inside * maximum(blocks, 1)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="context_node_members * data_node_members",
    source=_BLOCKS,
)
def reduction_node_members(context_node_members: Column, data_node_members: Column) -> Column:
    """Return the ranks with the same part of the weights that share a node [count]."""
    return context_node_members * data_node_members


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=_node_members_formula("sharding_size", "1", "reduction_node_members", "reduction_size"),
    source=_COPIES,
)
def sharding_node_members(
    sharding_size: Column, reduction_node_members: Column, reduction_size: Column
) -> Column:
    """Return the members of a sharding group that share a node [count]."""
    return group_node_members(sharding_size, 1, reduction_node_members, reduction_size)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=_node_members_formula(
        "replication_size", "sharding_size", "reduction_node_members", "reduction_size"
    ),
    source=_COPIES,
)
def replication_node_members(
    replication_size: Column,
    sharding_size: Column,
    reduction_node_members: Column,
    reduction_size: Column,
) -> Column:
    """Return the members of a replicating group that share a node [count]."""
    return group_node_members(
        replication_size, sharding_size, reduction_node_members, reduction_size
    )


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=_node_members_formula("expert_stride", "1", "stage_node_size", "stage_gpu_count"),
    source=_FOLDED,
)
def expert_tensor_node_members(
    expert_stride: Column, stage_node_size: Column, stage_gpu_count: Column
) -> Column:
    """Return the members of an expert tensor-parallel group that share a node [count]."""
    return group_node_members(expert_stride, 1, stage_node_size, stage_gpu_count)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=_node_members_formula(
        "expert_parallel_size", "expert_stride", "stage_node_size", "stage_gpu_count"
    ),
    source=_FOLDED,
)
def expert_node_members(
    expert_parallel_size: Column,
    expert_stride: Column,
    stage_node_size: Column,
    stage_gpu_count: Column,
) -> Column:
    """Return the members of an expert-parallel group that share a node [count]."""
    return group_node_members(expert_parallel_size, expert_stride, stage_node_size, stage_gpu_count)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=_node_members_formula(
        "expert_sharding_size",
        "(expert_stride * expert_parallel_size)",
        "stage_node_size",
        "stage_gpu_count",
    ),
    source=_FOLDED,
)
def expert_sharding_node_members(
    expert_sharding_size: Column,
    expert_stride: Column,
    expert_parallel_size: Column,
    stage_node_size: Column,
    stage_gpu_count: Column,
) -> Column:
    """Return the members of an expert sharding group that share a node [count]."""
    return group_node_members(
        expert_sharding_size,
        (expert_stride * expert_parallel_size),
        stage_node_size,
        stage_gpu_count,
    )


def _group_names(group: str, size: str) -> dict[str, str]:
    return {"size": size, "node_members": f"{group}_node_members"}


GROUPS: tuple[Quantity, ...] = (
    *_links("sharding", _group_names("sharding", "sharding_size")),
    *_links("replication", _group_names("replication", "replication_size")),
    *_links("expert_tensor", _group_names("expert_tensor", "expert_stride")),
    *_links("expert_sharding", _group_names("expert_sharding", "expert_sharding_size")),
    _exchange("expert", _group_names("expert", "expert_parallel_size")),
    _latency("expert", _group_names("expert", "expert_parallel_size")),
)
"""Links of the groups that are no axis: that shard, replicate, split and exchange experts."""


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction",
    source="attained share of the stated bandwidth",
)
def inside_bytes_per_s(
    scale_up_bandwidth_bytes_per_s: Column, scale_up_efficiency_fraction: Column
) -> Column:
    """Return the attained bandwidth of a GPU inside its node [byte/s]."""
    return scale_up_bandwidth_bytes_per_s * scale_up_efficiency_fraction


@quantity(
    "byte/s",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="network_bandwidth_bytes_per_s * network_efficiency_fraction /"
    " network_oversubscription_ratio",
    source="attained share of the stated bandwidth, of one NIC for each GPU",
)
def nic_bytes_per_s(
    network_bandwidth_bytes_per_s: Column,
    network_efficiency_fraction: Column,
    network_oversubscription_ratio: Column,
) -> Column:
    """Return the attained bandwidth of a GPU across nodes [byte/s]."""
    nic = network_bandwidth_bytes_per_s * network_efficiency_fraction
    return nic / network_oversubscription_ratio
