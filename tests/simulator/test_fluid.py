"""Shared links: max-min fair rates, and collectives that take their closed forms when alone."""

import math
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpy import Environment
from simpy.events import ProcessGenerator

from costmodels.collectives import ring_all_reduce_bytes, ring_all_reduce_s, ring_pass_s
from costmodels.errors import SpecError
from simulator.collectives import (
    Round,
    hierarchical_all_reduce,
    pairwise_all_to_all,
    play_rounds,
    ring_all_gather,
    ring_all_reduce,
    tree_all_reduce,
)
from simulator.fluid import Flow, Loss, Network, max_min_shares


def play(
    capacities: Mapping[str, float], *flows: tuple[float, int, str], latency_s: float = 0
) -> tuple[list[float], Network]:
    """Return when flows arrive that start at a time, with bytes, over links named by letters."""
    env = Environment()
    network = Network(env=env, capacities=capacities)
    made = []

    def sender(start_s: float, flow: Flow) -> ProcessGenerator:
        yield env.timeout(start_s)
        yield network.start(flow)
        assert env.now == flow.end_s

    for start_s, size_bytes, names in flows:
        uses = dict.fromkeys(names, 1.0)
        flow = Flow(axis=f"to {names}", size_bytes=size_bytes, uses=uses, latency_s=latency_s)
        made.append(flow)
        env.process(sender(start_s, flow))
    env.run()
    return [flow.end_s for flow in made], network


def test_a_flow_alone_takes_bytes_over_bandwidth() -> None:
    assert play({"n": 3e9}, (0, 10**9, "n"))[0] == [10**9 / 3e9]
    assert play({"n": 3e9}, (0, 10**9, "n"), latency_s=1)[0] == [10**9 / 3e9 + 1]


@pytest.mark.parametrize("bandwidth", [1.0, 3e9, 46.7e9])
def test_two_equal_flows_take_exactly_twice_as_long(bandwidth: float) -> None:
    (alone,), _ = play({"n": bandwidth}, (0, 123_456_789, "n"))
    both, _ = play({"n": bandwidth}, (0, 123_456_789, "n"), (0, 123_456_789, "n"))
    assert both == [2 * alone, 2 * alone]


def test_three_flows_by_hand() -> None:
    """Links of 10 and 4 bytes a second; 20 bytes over both, 48 over the wide, 4 over the narrow.

    Until 2 s the narrow link gives its two flows 2 each, and the wide one's own flow gets 8. Then
    the narrow flow has ended: the flow over both gets 4, its own the other 6. At 6 s, 2 + 4 x 4 =
    20 bytes have crossed both, and 16 + 4 x 6 = 40 the wide link alone; its last 8 take 0.8 s.
    """
    ends, network = play({"a": 10, "b": 4}, (0, 20, "ab"), (0, 48, "a"), (0, 4, "b"))
    assert ends == [6, 6.8, 2]
    # Alone they take 5, 4.8 and 1 s: what was lost is known by its reason.
    assert network.losses == pytest.approx(
        {
            Loss("to ab", "b", ("to b",)): 1,
            Loss("to b", "b", ("to ab",)): 1,
            Loss("to a", "a", ("to ab",)): 2 * 0.2 + 4 * 0.4,
        }
    )
    assert network.carried_bytes == {"a": 68, "b": 24}


def test_a_late_flow_takes_half_of_what_is_left() -> None:
    ends, _ = play({"n": 10}, (0, 100, "n"), (5, 100, "n"))
    assert ends == [15, 20]


@given(
    st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=6),
    st.lists(st.integers(1, 20), min_size=4, max_size=4),
)
def test_shares_are_max_min_fair(paths: list[set[str]], sizes: list[int]) -> None:
    """Nothing is overfull, and each flow has a full link on which nobody has more."""
    capacities = dict(zip("abcd", map(float, sizes), strict=True))
    uses = [dict.fromkeys(path, 1.0) for path in paths]
    rates = [share.rate_bytes_per_s for share in max_min_shares(uses, capacities)]
    for name, capacity in capacities.items():
        on_it = [rate for rate, path in zip(rates, paths, strict=True) if name in path]
        assert sum(on_it) <= capacity * (1 + 1e-9)
    for rate, path in zip(rates, paths, strict=True):
        assert any(
            sum(r for r, p in zip(rates, paths, strict=True) if name in p)
            >= capacities[name] * (1 - 1e-9)
            and all(r <= rate * (1 + 1e-9) for r, p in zip(rates, paths, strict=True) if name in p)
            for name in path
        )


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=6))
def test_a_busy_link_carries_all_bytes_at_its_bandwidth(flows: list[tuple[float, int]]) -> None:
    ends, network = play({"n": 7}, *((start_s, size, "n") for start_s, size in flows))
    total = sum(size for _, size in flows)
    assert network.carried_bytes["n"] == total
    assert max(ends) >= total / 7 * (1 - 1e-12)
    for (start_s, size), end_s in zip(flows, ends, strict=True):
        assert end_s - start_s >= size / 7 * (1 - 1e-12)


def test_a_resource_carries_something() -> None:
    with pytest.raises(SpecError, match=r"capacity of nic \(0\) must be positive"):
        Network(env=Environment(), capacities={"nic": 0})


# ------------------------------------------------------------------- collectives when alone

BANDWIDTH, LATENCY_S = 1e9, 1e-6


def collective_s(rounds: Iterator[Round], members: int, *, fast: set[int] | None = None) -> float:
    """Return how long a collective takes alone; pairs inside a node of two are ten times faster."""
    env = Environment()
    names = [f"{way} {member}" for way in ("out", "in") for member in range(members)]
    capacities = dict.fromkeys(names, BANDWIDTH)
    if fast:
        capacities |= {f"fast {way}": 10 * BANDWIDTH for way in names}
    network = Network(env=env, capacities=capacities)

    def path(source: int, destination: int) -> tuple[Mapping[str, float], float]:
        inside = fast and source // 2 == destination // 2
        prefix = "fast " if inside else ""
        uses = {f"{prefix}out {source}": 1.0, f"{prefix}in {destination}": 1.0}
        return uses, LATENCY_S / 10 if inside else LATENCY_S

    env.process(play_rounds(env, network, rounds, path, axis="data"))
    env.run()
    return float(env.now)


@given(st.integers(1, 12), st.integers(1, 10**8))
def test_rings_take_their_closed_forms_alone(p: int, size_bytes: int) -> None:
    sent = ring_all_reduce_bytes(size_bytes, p)
    links = {"group_size": p, "bandwidth_bytes_per_s": BANDWIDTH, "latency_s": LATENCY_S}
    members = range(p)
    assert collective_s(ring_all_reduce(members, size_bytes), p) == pytest.approx(
        ring_all_reduce_s(sent, **links), rel=1e-12
    )
    assert collective_s(ring_all_gather(members, size_bytes), p) == pytest.approx(
        ring_pass_s(sent // 2, **links), rel=1e-12
    )
    part = -(-size_bytes // p)
    assert collective_s(pairwise_all_to_all(members, size_bytes), p) == pytest.approx(
        (p - 1) * (LATENCY_S + part / BANDWIDTH), rel=1e-12
    )


@given(st.integers(1, 20), st.integers(1, 10**8))
def test_a_tree_takes_its_closed_form_alone(p: int, size_bytes: int) -> None:
    depth = math.ceil(math.log2(p))
    assert collective_s(tree_all_reduce(range(p), size_bytes), p) == pytest.approx(
        2 * depth * (LATENCY_S + size_bytes / BANDWIDTH), rel=1e-12
    )


@given(st.integers(1, 5), st.integers(1, 10**6))
def test_a_hierarchy_takes_its_closed_form_alone(nodes: int, size_bytes: int) -> None:
    """Nodes of two: one fast round in, a ring of half the message across, one fast round out."""
    half = -(-size_bytes // 2)
    shard = -(-half // nodes)
    inside = LATENCY_S / 10 + half / (10 * BANDWIDTH)
    across = 2 * (nodes - 1) * (LATENCY_S + shard / BANDWIDTH)
    groups = [(2 * node, 2 * node + 1) for node in range(nodes)]
    rounds = hierarchical_all_reduce(groups, size_bytes)
    assert collective_s(rounds, 2 * nodes, fast={0}) == pytest.approx(
        2 * inside + across, rel=1e-12
    )
