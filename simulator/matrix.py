"""What each GPU sends to each other in a step: the account of traffic, laid on ranks.

Every message of the account goes where its algorithm sends it: a ring to the next member, in the
order of ranks; an all-to-all to every other member alike; hand-overs to the stages that come next
and before. Nothing is computed anew: a rank's row adds up to what the account says that it sends.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from costmodels.errors import SpecError
from costmodels.pipelining.placements import Placement
from costmodels.scenario import Scenario, scenario_hash
from costmodels.specs.plan import RankAxis
from costmodels.version import VERSION
from simulator.accounting import Message, TrafficAccount, traffic_account
from simulator.answer import SCHEMA_VERSION
from simulator.groups import Layout, Ranks, group_members, layout_of
from simulator.training import placement_of

_Bytes = npt.NDArray[np.float64]

GPU, NODE = "gpu", "node"


class Sent(NamedTuple):
    """Bytes from ranks to ranks, of one message.

    Attributes
    ----------
    source, target : array of int
        Ranks [index].
    sent_bytes : array of float
        What the one sends to the other [byte].
    """

    source: Ranks
    target: Ranks
    sent_bytes: _Bytes


class TrafficMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a step from each sender to each receiver; pairs that exchange nothing are left out.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    by : str
        What rows and columns are: gpu, or node, whose GPUs are taken together.
    size : int
        Rows, and columns [count].
    accelerators_per_node : int
        GPUs of a node [count].
    source, target : list of int
        Sender and receiver of each pair, in the order of senders [index].
    sent_bytes : list of float
        What the one sends to the other [byte].
    scale_up_bytes, network_bytes : float
        What all GPUs send inside nodes, and across [byte].
    account_network_bytes : float
        What the account of traffic takes for the latter, with a mean share of hops [byte].
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    by: str
    size: int
    accelerators_per_node: int
    source: list[int]
    target: list[int]
    sent_bytes: list[float]
    scale_up_bytes: float
    network_bytes: float
    account_network_bytes: float

    def sums(self, *, received: bool = False) -> list[float]:
        """Return what each GPU or node sends, or receives [byte]."""
        ends = self.target if received else self.source
        found: list[float] = np.bincount(
            np.asarray(ends, dtype=np.int64), weights=self.sent_bytes, minlength=self.size
        ).tolist()
        return found


def traffic_matrix(scenario: Scenario, by: str = GPU) -> TrafficMatrix:
    """Return what each GPU, or node, sends to each other in a step.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    by : str
        ``gpu`` or ``node``.

    Raises
    ------
    SpecError
        If `by` is another word.
    NotModelledError
        If it is not known where the ranks of a group are.
    """
    if by not in (GPU, NODE):
        raise SpecError(f"by ({by}): must be gpu or node")
    account, layout = traffic_account(scenario), layout_of(scenario)
    placement = placement_of(scenario)
    parts = [part for message in account.messages for part in _sent(message, layout, placement)]
    source, target, sent = _added(parts, layout.rank_count)
    crosses = layout.nodes[source] != layout.nodes[target]
    size = layout.rank_count
    if by == NODE:
        size = int(layout.nodes[-1]) + 1
        nodes = Sent(layout.nodes[source], layout.nodes[target], sent)
        source, target, sent_of = _added([nodes], size)
    else:
        sent_of = sent
    return TrafficMatrix(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        by=by,
        size=size,
        accelerators_per_node=layout.accelerators_per_node,
        source=source.tolist(),
        target=target.tolist(),
        sent_bytes=sent_of.tolist(),
        scale_up_bytes=float(sent[~crosses].sum()),
        network_bytes=float(sent[crosses].sum()),
        account_network_bytes=_network(account, layout),
    )


def _network(account: TrafficAccount, layout: Layout) -> float:
    """Return what all GPUs send across nodes by the account [byte]."""
    ranks_of_stage = layout.rank_count // len(account.network_bytes)
    return ranks_of_stage * sum(account.network_bytes)


def _added(parts: list[Sent], size: int) -> Sent:
    """Return all parts as one, each pair once, senders in order."""
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Sent(empty, empty, np.zeros(0))
    source = np.concatenate([part.source for part in parts])
    target = np.concatenate([part.target for part in parts])
    weights = np.concatenate([part.sent_bytes for part in parts])
    pairs, inverse = np.unique(source * size + target, return_inverse=True)
    sums = np.bincount(inverse, weights=weights).astype(np.float64)
    return Sent(pairs // size, pairs % size, sums)


def _sent(message: Message, layout: Layout, placement: Placement) -> Iterator[Sent]:
    """Return where the bytes of a message go, from every rank that sends some."""
    stage = layout.place(RankAxis.PIPELINE)
    sent = np.asarray(message.sent_bytes)[stage]
    if message.group == RankAxis.PIPELINE:
        yield from _handed_over(message, layout, placement)
        return
    members = group_members(layout, message.group, message.group_size)
    others = range(1, members.shape[1])
    # A ring, and blocks that are passed on, go to the next member; an all-to-all the same share to every other.
    steps = others if message.collective == "all-to-all" else others[:1]
    for step in steps:
        target = np.roll(members, -step, axis=1).ravel()
        yield _positive(Sent(members.ravel(), target, sent[members.ravel()] / len(steps)))


def _handed_over(message: Message, layout: Layout, placement: Placement) -> Iterator[Sent]:
    """Return the activations that stages send on, and the gradients that they send back."""
    members = layout.members(RankAxis.PIPELINE)
    stages = members.shape[1]
    hops = [
        (placement.ranks[stage], placement.ranks[following])
        for stage, following in enumerate(placement.following)
        if following is not None and placement.ranks[stage] != placement.ranks[following]
    ]
    both = [*hops, *((after, before) for before, after in hops)]
    for sender in range(stages):
        own = [receiver for source, receiver in both if source == sender]
        for receiver in own:
            share = message.sent_bytes[sender] / len(own)
            yield _positive(
                Sent(members[:, sender], members[:, receiver], np.full(len(members), share))
            )


def _positive(sent: Sent) -> Sent:
    """Return the pairs that exchange something."""
    keep: Any = sent.sent_bytes > 0
    return Sent(sent.source[keep], sent.target[keep], sent.sent_bytes[keep])
