"""What the collectives inside a replica send over the links of their groups, as an action goes on.

Alone, each kind takes what its closed form says. What the closed form hides behind computing is sent
meanwhile; the rest, after it. Latency is what the closed form takes beside its bytes at the
bandwidth of the group.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from simulator.contention import LayerTraffic
from simulator.publishing import scalar
from simulator.topology import Topology, Way
from simulator.training import Place, chunk_value

LAYER_TRAFFIC_INPUTS = (
    *(
        f"chunk_{direction}_{axis}_{unit}"
        for direction in ("forward", "backward")
        for axis in ("tensor", "sequence", "context", "expert")
        for unit in ("s", "bytes")
    ),
    *(
        f"{group}_{name}"
        for group in ("tensor", "context", "expert_tensor")
        for name in ("node_members", "bandwidth_bytes_per_s")
    ),
    "chunk_backward_replicated_bytes",
    "sequence_parallel",
    "tensor_parallel_size",
    "context_parallel_size",
    "context_parallel_method_is_ulysses",
    "context_exchange_fraction",
    "expert_stride",
    "expert_network_fraction",
    "expert_exchange_s",
    "expert_exchange_bytes",
    "expert_rows_s",
    "expert_rows_bytes",
    "chunk_mixture_layers",
    "chunk_repeated_mixture_layers",
    "inside_bytes_per_s",
    "nic_bytes_per_s",
)
"""Quantities that the traffic of an action is made of."""


class _Kind(NamedTuple):
    """Collectives of one kind: what is waited for and sent, over what, and how fast alone."""

    axis: str
    waited_s: float
    sent_bytes: int
    uses: Mapping[str, float]
    alone_bytes_per_s: float


def layer_traffic(
    direction: str, values: Mapping[str, Any], place: Place, rank: int, topology: Topology
) -> list[LayerTraffic]:
    """Return the collectives inside a replica of a forward or a backward of a virtual stage.

    Parameters
    ----------
    direction : str
        ``forward`` or ``backward``.
    values : mapping of str to value
        `LAYER_TRAFFIC_INPUTS`, evaluated.
    place : Place
        Where the values of the virtual stage are.
    rank : int
        Its pipeline rank.
    topology : Topology
        The links.

    Returns
    -------
    list of LayerTraffic
        Those that send anything.
    """

    def of_plan(name: str) -> Any:
        return scalar(values[name])

    def of_chunk(name: str) -> Any:
        return chunk_value(values, name, place)

    kinds = [
        *_tensor(direction, of_plan, of_chunk, rank, topology),
        _context(direction, of_plan, of_chunk, rank, topology),
        *_expert(direction, of_plan, of_chunk, rank, topology),
    ]
    return [_traffic(kind) for kind in kinds if kind.waited_s or kind.sent_bytes]


_Values = Callable[[str], Any]


def _tensor(
    direction: str, of_plan: _Values, of_chunk: _Values, rank: int, topology: Topology
) -> Iterator[_Kind]:
    """Yield the collectives of tensor and of sequence parallelism, in rings of one group."""
    size, members = int(of_plan("tensor_parallel_size")), int(of_plan("tensor_node_members"))
    uses = topology.ring_uses(rank, size=size, members=members)
    summed = "sequence" if of_plan("sequence_parallel") else "tensor"
    for axis in ("tensor", "sequence"):
        sent_bytes = int(of_chunk(f"chunk_{direction}_{axis}_bytes"))
        if direction == "backward" and axis == summed:
            sent_bytes += int(of_chunk("chunk_backward_replicated_bytes"))
        waited_s = of_chunk(f"chunk_{direction}_{axis}_s")
        yield _Kind(axis, waited_s, sent_bytes, uses, of_plan("tensor_bandwidth_bytes_per_s"))


def _context(
    direction: str, of_plan: _Values, of_chunk: _Values, rank: int, topology: Topology
) -> _Kind:
    """Return the passes of keys and values around a ring, or the exchanges of heads."""
    if of_plan("context_parallel_method_is_ulysses"):
        uses, rate = _exchange(of_plan, "context_exchange_fraction", rank, topology)
    else:
        size, members = int(of_plan("context_parallel_size")), int(of_plan("context_node_members"))
        uses = topology.ring_uses(rank, size=size, members=members)
        rate = of_plan("context_bandwidth_bytes_per_s")
    sent_bytes = int(of_chunk(f"chunk_{direction}_context_bytes"))
    return _Kind("context", of_chunk(f"chunk_{direction}_context_s"), sent_bytes, uses, rate)


def _expert(
    direction: str, of_plan: _Values, of_chunk: _Values, rank: int, topology: Topology
) -> Iterator[_Kind]:
    """Yield the exchanges of rows with experts, and their passes between ranks that split one."""
    count = 2 * int(of_chunk("chunk_mixture_layers"))
    if direction == "backward":
        count += 2 * int(of_chunk("chunk_repeated_mixture_layers"))
    size, members = int(of_plan("expert_stride")), int(of_plan("expert_tensor_node_members"))
    ring = topology.ring_uses(rank, size=size, members=members)
    ways = {
        "exchange": _exchange(of_plan, "expert_network_fraction", rank, topology),
        "rows": (ring, of_plan("expert_tensor_bandwidth_bytes_per_s")),
    }
    for name, (uses, rate) in ways.items():
        waited_s = count * of_plan(f"expert_{name}_s")
        yield _Kind("expert", waited_s, count * int(of_plan(f"expert_{name}_bytes")), uses, rate)


def _exchange(
    of_plan: _Values, fraction_name: str, rank: int, topology: Topology
) -> tuple[Mapping[str, float], float]:
    """Return what an all-to-all crosses, and its rate alone: the slower tier decides."""
    fraction = of_plan(fraction_name)
    across_s, inside_s = fraction / of_plan("nic_bytes_per_s"), 1 / of_plan("inside_bytes_per_s")
    uses = topology.exchange_uses(rank, network_fraction=fraction)
    return uses, 1 / max(across_s, (1 - fraction) * inside_s)


def _traffic(kind: _Kind) -> LayerTraffic:
    """Return bytes waited for, bytes hidden, and latency, so that alone the time is that waited."""
    whole_s = kind.sent_bytes / kind.alone_bytes_per_s
    visible_bytes = kind.sent_bytes
    if kind.waited_s < whole_s:
        visible_bytes = int(kind.waited_s * kind.alone_bytes_per_s)
    latency_s = max(kind.waited_s - visible_bytes / kind.alone_bytes_per_s, 0.0)
    return LayerTraffic(
        axis=kind.axis,
        size_bytes=visible_bytes,
        hidden_bytes=kind.sent_bytes - visible_bytes,
        way=Way(kind.uses, latency_s),
    )
