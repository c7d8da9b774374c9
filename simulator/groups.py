"""Ranks laid on nodes, and the groups that they make: who is in each, and which links it crosses.

Ranks are numbered in the plan's rank order, the innermost axis on neighbours, and fill nodes in
that order. A new kind of group is one entry of `GROUPS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec
import numpy as np
import numpy.typing as npt

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError
from costmodels.scenario import Scenario, scenario_hash
from costmodels.specs.plan import RankAxis
from costmodels.version import VERSION
from simulator.answer import SCHEMA_VERSION
from simulator.publishing import scalar
from simulator.serving import require_training

Ranks = npt.NDArray[np.int64]

INSIDE, ACROSS = "inside the node", "across nodes"
TIED = "tied embedding"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where every rank of a plan is.

    Attributes
    ----------
    sizes : dict of str to int
        Size of each axis, from the innermost [count].
    accelerators_per_node : int
        Ranks of a node, the last one perhaps less full [count].
    expert_stride, expert_parallel_size : int
        Ranks that split an expert; ranks that share experts [count].
    """

    sizes: dict[str, int]
    accelerators_per_node: int
    expert_stride: int = 1
    expert_parallel_size: int = 1

    @property
    def rank_count(self) -> int:
        """Return the ranks of all axes [count]."""
        return int(np.prod(list(self.sizes.values())))

    @property
    def nodes(self) -> Ranks:
        """Return the node of each rank [index]."""
        return np.arange(self.rank_count, dtype=np.int64) // self.accelerators_per_node

    def stride(self, axis: str) -> int:
        """Return the distance in ranks between neighbours on an axis [rank]."""
        names = list(self.sizes)
        return int(np.prod([self.sizes[name] for name in names[: names.index(axis)]], dtype=int))

    def place(self, axis: str) -> Ranks:
        """Return the place of each rank on an axis [index]."""
        ranks = np.arange(self.rank_count, dtype=np.int64)
        return ranks // self.stride(axis) % self.sizes[axis]

    def members(self, axis: str) -> Ranks:
        """Return the ranks of every group of an axis, one group a row, in the axis's order."""
        # All axes as dimensions, the outermost first; this one moved last.
        grid = np.arange(self.rank_count, dtype=np.int64).reshape(list(self.sizes.values())[::-1])
        dimension = len(self.sizes) - 1 - list(self.sizes).index(axis)
        return np.moveaxis(grid, dimension, -1).reshape(-1, self.sizes[axis])

    def alike(self, *axes: str) -> Ranks:
        """Return the ranks that have the same place on some axes, in their order, one set a row."""
        key = np.zeros(self.rank_count, dtype=np.int64)
        for axis in axes:
            key = key * self.sizes[axis] + self.place(axis)
        order = np.argsort(key, kind="stable")
        return order.reshape(int(np.prod([self.sizes[axis] for axis in axes], dtype=int)), -1)


def layout_of(scenario: Scenario) -> Layout:
    """Return where every rank of a plan is."""
    names = [axis.value for axis in scenario.plan.rank_order]
    wanted = [f"{name}_parallel_size" for name in names]
    strides = [name for name in ("expert_stride",) if name in CATALOGUE]
    values = evaluate(compile_columns(scenario), [*wanted, *strides])
    return Layout(
        sizes={name: int(scalar(values[f"{name}_parallel_size"])) for name in names},
        accelerators_per_node=scenario.cluster.accelerators_per_node,
        expert_parallel_size=scenario.plan.expert_parallel_size,
        **{name: int(scalar(values[name])) for name in strides},
    )


def _tied(layout: Layout, size: int) -> Ranks:
    """Return the first and the last stage of every pipeline."""
    del size
    return layout.members(RankAxis.PIPELINE)[:, [0, -1]]


def _mirror(layout: Layout, size: int) -> Ranks:
    """Return the ranks of every pipeline that hold copies of the same layers, from both ends."""
    members = layout.members(RankAxis.PIPELINE)
    half = members.shape[1] // size
    return np.stack([members[:, :half], members[:, ::-1][:, :half]], axis=-1).reshape(-1, size)


def _along(axis: RankAxis) -> Callable[[Layout, int], Ranks]:
    return lambda layout, _: layout.members(axis.value)


def _neighbours(members: Ranks, size: int, stride: int = 1) -> Ranks:
    """Return groups of every stride-th of the members of a row, in blocks of size x stride."""
    return members.reshape(-1, size, stride).swapaxes(1, 2).reshape(-1, size)


def _sharding(layout: Layout, size: int) -> Ranks:
    """Return ranks that hold the same weights, neighbours together."""
    return _neighbours(layout.alike("tensor", "pipeline"), size)


def _replication(layout: Layout, size: int) -> Ranks:
    """Return ranks that hold the same shards of the same weights, one of each sharding group."""
    copies = layout.alike("tensor", "pipeline")
    return _neighbours(copies, size, copies.shape[1] // size)


def _expert_tensor(layout: Layout, size: int) -> Ranks:
    """Return ranks that split the same experts: neighbours among those of a stage."""
    return _neighbours(layout.alike("pipeline"), size)


def _expert(layout: Layout, size: int) -> Ranks:
    """Return ranks that share experts: every stride-th of a stage."""
    return _neighbours(layout.alike("pipeline"), size, layout.expert_stride)


def _expert_sharding(layout: Layout, size: int) -> Ranks:
    """Return ranks that hold the same part of the same experts, neighbours together."""
    stride = layout.expert_stride * layout.expert_parallel_size
    return _neighbours(layout.alike("pipeline"), size, stride)


def _key_value_copies(layout: Layout, size: int) -> Ranks:
    """Return the tensor-parallel ranks that have a copy of the same key and value heads."""
    return layout.members(RankAxis.TENSOR).reshape(-1, size)


GROUPS: Mapping[str, Callable[[Layout, int], Ranks]] = MappingProxyType(
    {axis.value: _along(axis) for axis in RankAxis}
    | {
        TIED: _tied,
        "copies": _key_value_copies,
        "mirror": _mirror,
        "sharding": _sharding,
        "replication": _replication,
        "expert_tensor": _expert_tensor,
        "expert": _expert,
        "expert_sharding": _expert_sharding,
    }
)
"""For each kind of group its members by its size, one group a row, in the order of its ring."""


def group_members(layout: Layout, kind: str, size: int) -> Ranks:
    """Return the ranks of every group of a kind and size, one group a row.

    Raises
    ------
    NotModelledError
        If it is not known where its ranks are.
    """
    if kind not in GROUPS:
        raise NotModelledError(
            f"groups of {kind}: where their ranks are is not modelled yet; "
            f"modelled: {', '.join(GROUPS)}"
        )
    return GROUPS[kind](layout, size)


class GroupsOfAxis(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of one axis, and the links that join them.

    Attributes
    ----------
    axis : str
        Axis of parallelism.
    group_size, group_count, stride : int
        Ranks of a group; groups; distance between neighbours [count].
    first_group : list of int
        Ranks of the first group [index].
    tier : str
        Slowest links that any of the groups crosses.
    crossing_group_count : int
        Groups that cross nodes [count].
    most_nodes : int
        Nodes of the group that is spread over most [count].
    least_node_members : int
        Fewest members of a group in a node that it is in [count].
    shares_nic_with : list of str
        Other axes whose groups send through the same NICs.
    link_bandwidth_bytes_per_s, latency_s : float
        Of one link of the slowest tier, as described [byte/s, s].
    """

    axis: str
    group_size: int
    group_count: int
    stride: int
    first_group: list[int]
    tier: str
    crossing_group_count: int
    most_nodes: int
    least_node_members: int
    shares_nic_with: list[str]
    link_bandwidth_bytes_per_s: float
    latency_s: float


class GroupsAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Ranks on nodes, and the groups of every axis.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    rank_order : list of str
        Axes from neighbouring ranks outwards.
    rank_count, node_count, accelerators_per_node : int
        Ranks, nodes, and ranks of a full one [count].
    axes : tuple of GroupsOfAxis
        From neighbouring ranks outwards.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    rank_order: list[str]
    rank_count: int
    node_count: int
    accelerators_per_node: int
    axes: tuple[GroupsOfAxis, ...]


def groups_account(scenario: Scenario) -> GroupsAccount:
    """Return the groups of every axis, each with the slowest links that it crosses."""
    require_training(scenario)
    layout = layout_of(scenario)
    crossing = [axis for axis in layout.sizes if _crossing(layout, axis).any()]
    return GroupsAccount(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        rank_order=list(layout.sizes),
        rank_count=layout.rank_count,
        node_count=int(layout.nodes[-1]) + 1,
        accelerators_per_node=layout.accelerators_per_node,
        axes=tuple(_axis(scenario, layout, axis, crossing) for axis in layout.sizes),
    )


def _crossing(layout: Layout, axis: str) -> npt.NDArray[np.bool_]:
    """Return for each group of an axis whether it crosses nodes."""
    nodes = layout.nodes[layout.members(axis)]
    return np.asarray((nodes != nodes[:, :1]).any(axis=1))


def _axis(scenario: Scenario, layout: Layout, axis: str, crossing: list[str]) -> GroupsOfAxis:
    members = layout.members(axis)
    nodes = layout.nodes[members]
    # A group's members in each of its nodes: counts of equal pairs of group and node.
    group = np.repeat(np.arange(len(nodes)), nodes.shape[1])
    pairs, counts = np.unique(
        group * (int(layout.nodes[-1]) + 1) + nodes.ravel(), return_counts=True
    )
    spread = np.unique(pairs // (int(layout.nodes[-1]) + 1), return_counts=True)[1]
    crosses = axis in crossing
    link = scenario.cluster.network if crosses else scenario.cluster.scale_up
    return GroupsOfAxis(
        axis=axis,
        group_size=members.shape[1],
        group_count=len(members),
        stride=layout.stride(axis),
        first_group=members[0].tolist(),
        tier=ACROSS if crosses else INSIDE,
        crossing_group_count=int(_crossing(layout, axis).sum()),
        most_nodes=int(spread.max()),
        least_node_members=int(counts.min()),
        shares_nic_with=[other for other in crossing if crosses and other != axis],
        link_bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
        latency_s=link.latency_s,
    )
