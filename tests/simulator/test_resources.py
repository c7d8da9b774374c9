"""Links: one transfer after the other, then the latency; nobody waits but the receiver."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpy import Environment
from simpy.events import ProcessGenerator

from costmodels.errors import SpecError
from simulator.resources import FREE_LINK, Arrival, Link, LinkSpec

Transfer = tuple[float, int]
"""When to send, and how many bytes."""


def play(spec: LinkSpec, transfers: list[Transfer]) -> list[tuple[float, float]]:
    """Return for each transfer its start and arrival."""
    link = Link(spec)
    now_s: float = 0
    times = []
    for pause_s, size_bytes in transfers:
        now_s += pause_s
        times.append(link.send(now_s, size_bytes))
    return times


def test_transfers_wait_for_the_link_but_not_for_the_latency() -> None:
    spec = LinkSpec(latency_s=3, bandwidth_bytes_per_s=10)
    assert play(spec, [(0, 50), (1, 20), (20, 10)]) == [(0, 8), (5, 10), (21, 25)]


def test_a_free_link_keeps_integers() -> None:
    times = play(FREE_LINK, [(2, 1000), (0, 1000)])
    assert times == [(2, 2), (2, 2)]
    assert all(type(time_s) is int for transfer in times for time_s in transfer)


@given(
    st.floats(0, 1e-3),
    st.floats(1e6, 1e12),
    st.lists(st.tuples(st.floats(0, 1.0), st.integers(0, 10**9)), min_size=1, max_size=8),
)
def test_messages_keep_their_order_and_occupy_the_link(
    latency_s: float, bandwidth_bytes_per_s: float, transfers: list[Transfer]
) -> None:
    spec = LinkSpec(latency_s=latency_s, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    played = play(spec, transfers)
    latest_s = 0.0
    for start_s, end_s in played:
        assert latest_s <= end_s
        assert start_s <= end_s
        latest_s = end_s
    occupied_s = sum(size_bytes / bandwidth_bytes_per_s for _, size_bytes in transfers)
    assert latest_s >= occupied_s * (1 - 1e-12)


def test_an_arrival_happens_when_it_is_said_to() -> None:
    env = Environment()
    arrival = Arrival(env)
    heard = []

    def receiver() -> ProcessGenerator:
        yield arrival
        heard.append(env.now)

    env.process(receiver())
    arrival.succeed_after(3)
    env.run()
    assert heard == [3]


@pytest.mark.parametrize("latency_s", [-1, math.inf, math.nan])
def test_a_latency_is_finite_and_not_negative(latency_s: float) -> None:
    with pytest.raises(SpecError, match="latency_s"):
        LinkSpec(latency_s=latency_s, bandwidth_bytes_per_s=1)


@pytest.mark.parametrize("bandwidth_bytes_per_s", [0, -1, math.nan])
def test_a_bandwidth_is_positive(bandwidth_bytes_per_s: float) -> None:
    with pytest.raises(SpecError, match="bandwidth_bytes_per_s"):
        LinkSpec(latency_s=0, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
