"""Which links the GPUs of a simulated replica share, from the description of the cluster.

One GPU of each pipeline stage is simulated; the others of its tensor-parallel group and of the
other replicas do the same at the same time. A link that several GPUs share is divided among those
that do the same, and what is left of it is shared by the stages that it serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from costmodels.errors import SpecError
from costmodels.specs.cluster import Cluster


class Way(NamedTuple):
    """How a message gets from one GPU to another, or around a ring.

    Attributes
    ----------
    uses : mapping of str to float
        What a byte of it takes of each resource [ratio].
    latency_s : float
        From its last byte to its arrival [s].
    """

    uses: Mapping[str, float]
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What the cluster's description leaves open about its nodes.

    Attributes
    ----------
    nics_per_node : int or None
        Network cards of a node, which its GPUs share evenly; None for one for each GPU. The
        bandwidth of the node stays: fewer cards are faster ones [count].
    pcie_bytes_per_s : float or None
        Bandwidth between a GPU and its network card, in one direction; None where it never limits
        [byte/s].
    """

    nics_per_node: int | None = None
    pcie_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        if self.nics_per_node is not None and self.nics_per_node < 1:
            raise SpecError(f"nics_per_node ({self.nics_per_node}) must be at least 1")
        if self.pcie_bytes_per_s is not None and not self.pcie_bytes_per_s > 0:
            raise SpecError(f"pcie_bytes_per_s ({self.pcie_bytes_per_s}) must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the GPUs of a plan are.

    Attributes
    ----------
    rank_count : int
        Pipeline ranks, p [count].
    stride : int
        Accelerators from one stage to the next [rank].
    """

    rank_count: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The resources of a simulated replica and the ways over them.

    Attributes
    ----------
    capacities : mapping of str to float
        What each resource carries [byte/s].
    hops : mapping of (int, int) to Way
        Between pipeline ranks.
    out_of_node : sequence of sequence of str
        By pipeline rank, what its messages to and from other nodes cross.
    """

    capacities: Mapping[str, float]
    hops: Mapping[tuple[int, int], Way]
    out_of_node: Sequence[Sequence[str]] = ()

    def ring_uses(self, rank: int, *, size: int, members: int) -> Mapping[str, float]:
        """Return what a byte around a ring of a stage's GPUs takes of each resource.

        Parameters
        ----------
        rank : int
            The stage [index].
        size, members : int
            GPUs of the ring, and how many of them share a node [count].
        """
        uses: dict[str, float] = {}
        if members < size:
            # A ring of its own from each member of a node: every card carries its part.
            uses |= dict.fromkeys(self.out_of_node[rank], 1 / members)
        if members > 1:
            uses |= dict.fromkeys(_inside_node(rank), 1.0)
        return uses

    def exchange_uses(self, rank: int, *, network_fraction: float) -> Mapping[str, float]:
        """Return what a byte of an all-to-all of a stage's GPUs takes of each resource.

        Parameters
        ----------
        rank : int
            The stage [index].
        network_fraction : float
            Share of the bytes that goes to other nodes [fraction].
        """
        uses = dict.fromkeys(self.out_of_node[rank], network_fraction)
        uses |= dict.fromkeys(_inside_node(rank), 1 - network_fraction)
        return {name: amount for name, amount in uses.items() if amount > 0}


def topology_of(cluster: Cluster, layout: Layout, sharing: Sharing) -> Topology:
    """Return the resources of one replica's pipeline.

    Parameters
    ----------
    cluster : Cluster
        Nodes and links.
    layout : Layout
        Where the plan puts its GPUs.
    sharing : Sharing
        What GPUs of a node share.

    Returns
    -------
    Topology
        Resources in and out of each GPU: scale-up links, PCIe where it is given, network cards,
        and each node's share of the fabric where it is oversubscribed.

    Raises
    ------
    SpecError
        If the accelerators of a node cannot share its network cards evenly.
    """
    refuse_uneven_sharing(cluster, sharing)
    per_node = cluster.accelerators_per_node
    scale_up = cluster.scale_up
    inside = scale_up.bandwidth_bytes_per_s * scale_up.efficiency_fraction
    ranks = range(layout.rank_count)
    out_of_node = [_out_of_node(cluster, layout, sharing, rank) for rank in ranks]
    capacities = {
        f"{name} {way} of {whose}": bytes_per_s
        for resources in out_of_node
        for (name, whose), bytes_per_s in resources.items()
        for way in _WAYS
    }
    for rank in ranks:
        capacities |= dict.fromkeys(_inside_node(rank), inside)

    def crossed(way: str, rank: int) -> list[str]:
        return [f"{name} {way} of {whose}" for name, whose in out_of_node[rank]]

    def hop(source: int, destination: int) -> Way:
        nodes = [rank * layout.stride // per_node for rank in (source, destination)]
        if nodes[0] == nodes[1]:
            names = [f"scale-up out of stage {source}", f"scale-up in of stage {destination}"]
            return Way(dict.fromkeys(names, 1.0), scale_up.latency_s)
        names = [*crossed("out", source), *crossed("in", destination)]
        return Way(dict.fromkeys(names, 1.0), cluster.network.latency_s)

    return Topology(
        capacities=capacities,
        hops={(one, two): hop(one, two) for one in ranks for two in ranks if one != two},
        out_of_node=[[name for way in _WAYS for name in crossed(way, rank)] for rank in ranks],
    )


_WAYS = ("out", "in")


def _inside_node(rank: int) -> list[str]:
    return [f"scale-up {way} of stage {rank}" for way in _WAYS]


def refuse_uneven_sharing(cluster: Cluster, sharing: Sharing) -> None:
    """Raise unless as many accelerators of a node share each of its network cards.

    Raises
    ------
    SpecError
        If the number of cards is more than the number of accelerators, or does not divide it.
    """
    per_node = cluster.accelerators_per_node
    nics = sharing.nics_per_node or per_node
    if nics > per_node:
        raise SpecError(
            f"nics_per_node ({nics}) is more than cluster.accelerators_per_node ({per_node})"
        )
    if per_node % nics:
        raise SpecError(
            f"nics_per_node ({nics}) must divide cluster.accelerators_per_node ({per_node}): "
            "accelerators share network cards evenly"
        )


def _out_of_node(
    cluster: Cluster, layout: Layout, sharing: Sharing, rank: int
) -> dict[tuple[str, str], float]:
    """Return what lies between a stage's GPU and other nodes: name, whose it is, and capacity."""
    network, per_node = cluster.network, cluster.accelerators_per_node
    nic = network.bandwidth_bytes_per_s * network.efficiency_fraction
    size = per_node // (sharing.nics_per_node or per_node)
    of_nic, of_node = (_group(cluster, layout, rank, gpus) for gpus in (size, per_node))
    found = {("NIC", of_nic.label): nic * size / of_nic.copies}
    if sharing.pcie_bytes_per_s:
        found["PCIe", f"stage {rank}"] = sharing.pcie_bytes_per_s
    if network.oversubscription_ratio > 1:
        uplink = nic * of_node.gpus / network.oversubscription_ratio
        found["fabric", of_node.label] = uplink / of_node.copies
    return found


class _Group(NamedTuple):
    """GPUs that share a link: how many, how many alike of each stage, and which stages."""

    gpus: int
    copies: float
    label: str


def _group(cluster: Cluster, layout: Layout, rank: int, size: int) -> _Group:
    """Return the group of neighbours, of equal size in each node, that a stage's first GPU is in."""
    gpu, per_node = rank * layout.stride, cluster.accelerators_per_node
    first = gpu - (gpu % per_node) % size
    members = range(first, min(first + size, cluster.accelerator_count))
    stages = sorted({member // layout.stride % layout.rank_count for member in members})
    shown = f"{stages[0]}" if len(stages) == 1 else f"{stages[0]} to {stages[-1]}"
    label = f"stage {shown}" if len(stages) == 1 else f"stages {shown}"
    return _Group(len(members), len(members) / len(stages), label)
