"""Collectives as algorithms over links: rounds of messages between the members of a group.

Alone, each takes what its closed form says: rounds times latency, and bytes over bandwidth. What
else crosses the links slows it down, message by message.

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations
   in MPICH," Int. J. High Perform. Comput. Appl. 19(1), 2005, section 4.
   doi:10.1177/1094342005051521.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from simpy import Environment
from simpy.events import ProcessGenerator

from simulator.fluid import Flow, Network


class Message(NamedTuple):
    """What one member sends to another in a round.

    Attributes
    ----------
    source, destination : int
        Members [index].
    size_bytes : int
        How much [byte].
    """

    source: int
    destination: int
    size_bytes: int


Round: TypeAlias = Sequence[Message]
"""Messages that are sent at the same time; the next round waits for all of them."""

Path: TypeAlias = Callable[[int, int], tuple[Mapping[str, float], float]]
"""Return the resources between two members, and the latency [s]."""


def ring_all_gather(members: Sequence[int], gathered_bytes: int) -> Iterator[Round]:
    """Yield the p - 1 rounds of a ring all-gather or reduce-scatter [1]_."""
    count = len(members)
    shard_bytes = -(-gathered_bytes // count)
    for _ in range(count - 1):
        yield [
            Message(member, members[(place + 1) % count], shard_bytes)
            for place, member in enumerate(members)
        ]


def ring_all_reduce(members: Sequence[int], message_bytes: int) -> Iterator[Round]:
    """Yield the rounds of a ring all-reduce: a reduce-scatter, and an all-gather [1]_."""
    yield from ring_all_gather(members, message_bytes)
    yield from ring_all_gather(members, message_bytes)


def tree_all_reduce(members: Sequence[int], message_bytes: int) -> Iterator[Round]:
    """Yield the rounds of a binomial tree: sums go up to the first member, the result down [1]_."""
    up: list[Round] = []
    stride = 1
    while stride < len(members):
        up.append(
            [
                Message(members[place], members[place - stride], message_bytes)
                for place in range(stride, len(members), 2 * stride)
            ]
        )
        stride *= 2
    yield from up
    for messages in reversed(up):
        yield [Message(to, source, size_bytes) for source, to, size_bytes in messages]


def hierarchical_all_reduce(nodes: Sequence[Sequence[int]], message_bytes: int) -> Iterator[Round]:
    """Yield the rounds of a reduce-scatter in each node, rings across nodes, and an all-gather.

    Each member of a node has a ring of its own with its like in the other nodes, for its shard.
    """
    inside = [list(ring_all_gather(node, message_bytes)) for node in nodes]
    shard_bytes = -(-message_bytes // len(nodes[0]))
    across = [list(ring_all_reduce(ring, shard_bytes)) for ring in zip(*nodes, strict=True)]
    for rounds in (inside, across, inside):
        for at_once in zip(*rounds, strict=True):
            yield [message for messages in at_once for message in messages]


def pairwise_all_to_all(members: Sequence[int], sent_bytes: int) -> Iterator[Round]:
    """Yield the p - 1 rounds in which each member sends another its part of `sent_bytes`.

    `sent_bytes` is what a member has for all members, itself included.
    """
    count = len(members)
    part_bytes = -(-sent_bytes // count)
    for distance in range(1, count):
        yield [
            Message(member, members[(place + distance) % count], part_bytes)
            for place, member in enumerate(members)
        ]


def play_rounds(
    env: Environment, network: Network, rounds: Iterator[Round], path: Path, *, axis: str
) -> ProcessGenerator:
    """Play a collective on a network.

    Yields
    ------
    Event
        The end of each round.
    """
    for messages in rounds:
        arrivals = []
        for source, destination, size_bytes in messages:
            uses, latency_s = path(source, destination)
            flow = Flow(axis=axis, size_bytes=size_bytes, uses=uses, latency_s=latency_s)
            arrivals.append(network.start(flow))
        yield env.all_of(arrivals)
