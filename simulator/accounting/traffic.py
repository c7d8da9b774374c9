"""What one GPU of each stage sends over a step, collective by collective."""

from collections.abc import Sequence

import msgspec

from costmodels.analysis import CATALOGUE
from costmodels.quantities import CHUNK
from costmodels.scenario import Scenario
from simulator.accounting.collectives import COLLECTIVES, Collective
from simulator.accounting.table import Table, identity
from simulator.serving import require_training


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One collective of one GPU over a step; lists are by stage.

    Attributes
    ----------
    name : str
        What is sent.
    axis : str
        Axis of parallelism: tensor, sequence, context, expert, pipeline, tied embedding or data.
    collective : str
        all-reduce, all-gather, reduce-scatter, all-to-all or send.
    algorithm : str
        How it is done.
    group : str
        Ranks that take part: those of an axis, or the copies of a tied embedding.
    group_size : int
        Ranks that take part [count].
    tier : str
        The links of the group: inside the node, across nodes, or both.
    chunk_index : int or None
        Chunk whose weights or gradients they are; None where all chunks are taken together.
    calls : list of float
        Calls in a step [count].
    payload_bytes : list of float
        The whole tensor that one call works on; of buckets, of which the last may be smaller, the
        mean [byte].
    call_sent_bytes : list of float
        What a rank sends in one call, of buckets the mean [byte].
    sent_bytes, network_bytes, scale_up_bytes : list of float
        What it sends in all calls, and of it across nodes and inside the node [byte].
    """

    name: str
    axis: str
    collective: str
    algorithm: str
    group: str
    group_size: int
    tier: str
    chunk_index: int | None
    calls: list[float]
    payload_bytes: list[float]
    call_sent_bytes: list[float]
    sent_bytes: list[float]
    network_bytes: list[float]
    scale_up_bytes: list[float]


class TrafficAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What one GPU of every stage sends over a step, collective by collective.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    messages : tuple of Message
        Collectives that take place in some stage.
    network_bytes, scale_up_bytes, stage_sent_bytes : list of float
        What a GPU of each stage sends across nodes, inside the node and together [byte].
    busiest_stage_index : int
        Stage whose GPUs send most [index].
    sent_bytes, received_bytes : float
        What all GPUs send, and receive [byte].
    device_to_host_bytes, host_to_device_bytes : list of float
        What a GPU of each stage sends to the memory of its host, and takes back [byte].
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    messages: tuple[Message, ...]
    network_bytes: list[float]
    scale_up_bytes: list[float]
    stage_sent_bytes: list[float]
    busiest_stage_index: int
    sent_bytes: float
    received_bytes: float
    device_to_host_bytes: list[float]
    host_to_device_bytes: list[float]


_SIZES = {
    "tensor": "tensor_parallel_size",
    "copies": "key_value_copies_size",
    "context": "context_parallel_size",
    "pipeline": "pipeline_parallel_size",
    "expert": "expert_parallel_size",
    "expert_tensor": "expert_stride",
    "expert_sharding": "expert_sharding_size",
    "sharding": "sharding_size",
    "replication": "replication_size",
}
"""Quantity or input that says how many ranks a group has."""

_COPIES = 2
"""Ranks that hold a copy of a tied embedding, or of the same layers."""

_TRAFFIC = (
    "network_bytes",
    "scale_up_bytes",
    "busiest_stage_index",
    "sent_bytes",
    "received_bytes",
    "device_to_host_bytes",
    "host_to_device_bytes",
)
_ALGORITHMS = {"send": "point to point", "all-to-all": "in pairs"}


def traffic_account(scenario: Scenario) -> TrafficAccount:
    """Return what one GPU of every stage sends over a step, collective by collective."""
    require_training(scenario)
    names = [name for kind in COLLECTIVES for name in (*kind.numbers, kind.passes) if name]
    sizes = list(_SIZES.values())
    fractions = [_fraction(kind) for kind in COLLECTIVES]
    table = Table(scenario, names, sizes, fractions, _TRAFFIC, ("sequence_parallel",))
    messages = [entry for kind in COLLECTIVES for entry in _messages(kind, table)]
    network, inside = table.stages("network_bytes"), table.stages("scale_up_bytes")
    return TrafficAccount(
        **identity(scenario),
        messages=tuple(entry for entry in messages if any(entry.calls)),
        network_bytes=network,
        scale_up_bytes=inside,
        stage_sent_bytes=[first + second for first, second in zip(network, inside, strict=True)],
        busiest_stage_index=table.one("busiest_stage_index"),
        sent_bytes=float(table.one("sent_bytes")),
        received_bytes=float(table.one("received_bytes")),
        device_to_host_bytes=table.numbers("device_to_host_bytes"),
        host_to_device_bytes=table.numbers("host_to_device_bytes"),
    )


def _fraction(kind: Collective) -> str:
    if (kind.group, kind.operation) == ("context", "all-to-all"):
        return "context_exchange_fraction"
    group = "tensor" if kind.group == "copies" else kind.group
    return f"{group or 'tied'}_network_fraction"


def _messages(kind: Collective, table: Table) -> list[Message]:
    """Return the rows of a collective: one, or one for each chunk that has its own."""
    calls, payload, call, sent, network = kind.numbers
    share = table.one(_fraction(kind))
    tier = "across nodes" if share == 1 else "both" if share else "inside the node"
    size = table.one(_SIZES[kind.group]) if kind.group in _SIZES else _COPIES
    by_chunk = CHUNK in CATALOGUE[calls].axes
    found = []
    for chunk in range(table.columns.sizes[CHUNK]) if by_chunk else (None,):
        numbers = {name: table.numbers(name, chunk) for name in (calls, payload, call, sent)}
        if kind.passes:
            passes = table.one(kind.passes)
            for name in (payload, call):
                numbers[name] = _means(numbers[name], passes, numbers[calls])
        crossing = table.numbers(network, chunk)
        found.append(
            Message(
                name=kind.name,
                axis=kind.axis or ("sequence" if table.one("sequence_parallel") else "tensor"),
                collective=kind.operation,
                algorithm=_ALGORITHMS.get(kind.operation, "ring"),
                group=kind.group or "tied embedding",
                group_size=size,
                tier=tier,
                chunk_index=chunk,
                calls=numbers[calls],
                payload_bytes=numbers[payload],
                call_sent_bytes=numbers[call],
                sent_bytes=numbers[sent],
                network_bytes=crossing,
                scale_up_bytes=[
                    whole - outside for whole, outside in zip(numbers[sent], crossing, strict=True)
                ],
            )
        )
    return found


def _means(whole: Sequence[float], passes: float, calls: Sequence[float]) -> list[float]:
    """Return what one call carries on average, of what its passes carry; nothing without calls."""
    return [
        size * passes / count if count else 0.0 for size, count in zip(whole, calls, strict=True)
    ]
