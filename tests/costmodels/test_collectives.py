"""Rings, against an algorithm that moves the shards itself."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_all_reduce_s,
    ring_pass_s,
    ring_reduce_scatter_bytes,
    send_s,
)

groups = st.integers(1, 12)
messages = st.integers(0, 200)


def shards(message: Sequence[int], group_size: int) -> list[list[int]]:
    """Return a message cut into as many shards of equal length, the last ones padded."""
    length = -(-len(message) // group_size)
    padded = [*message, *[0] * (length * group_size - len(message))]
    return [padded[start * length : (start + 1) * length] for start in range(group_size)]


def play_reduce_scatter(ranks: list[list[list[int]]]) -> list[int]:
    """Reduce each shard around the ring in place; return what each rank sent."""
    size = len(ranks)
    sent = [0] * size
    for step in range(size - 1):
        moving = [ranks[rank][(rank - step) % size] for rank in range(size)]
        for rank, shard in enumerate(moving):
            neighbour = (rank + 1) % size
            place = (rank - step) % size
            own = ranks[neighbour][place]
            ranks[neighbour][place] = [a + b for a, b in zip(own, shard, strict=True)]
            sent[rank] += len(shard)
    return sent


def play_all_gather(ranks: list[list[list[int]]]) -> list[int]:
    """Pass each rank's finished shard around the ring in place; return what each rank sent."""
    size = len(ranks)
    sent = [0] * size
    for step in range(size - 1):
        moving = [ranks[rank][(rank + 1 - step) % size] for rank in range(size)]
        for rank, shard in enumerate(moving):
            ranks[(rank + 1) % size][(rank + 1 - step) % size] = shard
            sent[rank] += len(shard)
    return sent


@given(messages, groups)
def test_a_played_ring_sends_these_bytes_and_gives_the_sum(length: int, size: int) -> None:
    parts = [[rank + 3 * index for index in range(length)] for rank in range(size)]
    ranks = [shards(part, size) for part in parts]
    scattered = play_reduce_scatter(ranks)
    gathered = play_all_gather(ranks)
    result = [sum(column) for column in zip(*parts, strict=True)]
    assert all(state == shards(result, size) for state in ranks)
    assert set(scattered) == {ring_reduce_scatter_bytes(length, size)}
    assert set(gathered) == {ring_all_gather_bytes(length, size)}
    assert scattered[0] + gathered[0] == ring_all_reduce_bytes(length, size)


@given(st.integers(0, 10**12))
def test_one_rank_sends_nothing(message: int) -> None:
    assert ring_all_gather_bytes(message, 1) == 0
    assert ring_reduce_scatter_bytes(message, 1) == 0
    assert ring_all_reduce_bytes(message, 1) == 0


@given(st.integers(0, 10**12), st.integers(2, 10**4))
def test_an_all_reduce_sends_less_than_twice_the_message_and_its_padding(
    message: int, size: int
) -> None:
    sent = ring_all_reduce_bytes(message, size)
    exact = 2 * message * (size - 1) / size
    assert exact * (1 - 1e-15) <= sent <= exact + 2 * size


@given(st.integers(0, 10**12), st.integers(1, 10**4))
def test_both_halves_make_an_all_reduce(message: int, size: int) -> None:
    halves = ring_reduce_scatter_bytes(message, size) + ring_all_gather_bytes(message, size)
    assert ring_all_reduce_bytes(message, size) == halves


links = st.floats(1e6, 1e12), st.floats(0, 1e-3)


@given(st.integers(0, 10**10), st.integers(1, 1000), *links)
def test_an_all_reduce_takes_as_long_as_two_passes(
    sent: int, size: int, bandwidth: float, latency: float
) -> None:
    link = {"bandwidth_bytes_per_s": bandwidth, "latency_s": latency}
    halves = 2 * ring_pass_s(sent, group_size=size, **link)
    assert ring_all_reduce_s(2 * sent, group_size=size, **link) == pytest.approx(halves, rel=1e-12)


@given(st.integers(0, 10**10), *links)
def test_a_ring_of_two_is_a_send(sent: int, bandwidth: float, latency: float) -> None:
    link = {"bandwidth_bytes_per_s": bandwidth, "latency_s": latency}
    assert ring_pass_s(sent, group_size=2, **link) == send_s(sent, **link)
    assert ring_pass_s(0, group_size=1, **link) == 0


def test_by_hand() -> None:
    """Four ranks and a megabyte at 1 GB/s: six steps of 250 kB, 250 us each, and 1 us of latency."""
    assert ring_all_reduce_bytes(1_000_000, 4) == 6 * 250_000
    took = ring_all_reduce_s(1_500_000, group_size=4, bandwidth_bytes_per_s=1e9, latency_s=1e-6)
    assert took == pytest.approx(6 * 251e-6, rel=1e-12)
