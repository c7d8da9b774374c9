"""Collectives on messages between ranks, and recorded calls run again as such.

The bytes that a rank sends are counted on its messages. A ring splits a message into as many
shards as it has ranks, padded to be equal.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist

from validation.torch_programs.interception import Recorder, labelled
from validation.torch_programs.records import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    RECEIVE,
    REDUCE_SCATTER,
    SEND,
    Call,
)


def passed_on(shard: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Send a shard to the next rank of the ring, and return what the one before sends."""
    place = ranks.index(dist.get_rank())
    return _swapped(shard, ranks[(place + 1) % len(ranks)], ranks[place - 1])


def _swapped(message: torch.Tensor, target: int, source: int) -> torch.Tensor:
    """Send a message to one rank, and return as large a one from another."""
    received = torch.empty_like(message)
    sending = dist.isend(message, target)
    dist.recv(received, source)
    if sending is not None:
        sending.wait()
    return received


def ring_all_gather(shard: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Return the shards of all ranks of a ring, in their order."""
    place, size = ranks.index(dist.get_rank()), len(ranks)
    shards = [torch.empty_like(shard) for _ in ranks]
    shards[place] = shard
    for step in range(size - 1):
        shards[(place - step - 1) % size] = passed_on(shards[(place - step) % size], ranks)
    return torch.cat(shards)


def ring_reduce_scatter(message: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Return this rank's shard of the sum over a ring, the last shard padded with zeros."""
    place, size = ranks.index(dist.get_rank()), len(ranks)
    missing = -message.numel() % size
    shards: list[torch.Tensor] = list(
        torch.nn.functional.pad(message, (0, missing)).reshape(size, -1)
    )
    for step in range(size - 1):
        arrived = passed_on(shards[(place - step - 1) % size], ranks)
        shards[(place - step - 2) % size] = shards[(place - step - 2) % size] + arrived
    return shards[place]


def ring_all_reduce(message: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Return the sum over a ring: scattered, and gathered again."""
    gathered = ring_all_gather(ring_reduce_scatter(message, ranks), ranks)
    return gathered[: message.numel()]


def exchange(message: torch.Tensor, ranks: Sequence[int]) -> torch.Tensor:
    """Return the parts that all ranks hold for this one, its own part included.

    In step i a rank sends to the i-th rank after it, and receives from the i-th before it.
    """
    place, size = ranks.index(dist.get_rank()), len(ranks)
    parts = [part.contiguous() for part in message.chunk(size)]
    arrived = list(parts)
    for step in range(1, size):
        source = (place - step) % size
        arrived[source] = _swapped(
            parts[(place + step) % size], ranks[(place + step) % size], ranks[source]
        )
    return torch.cat(arrived)


def ring_bytes(messages: Sequence[tuple[str, int, str]]) -> list[int]:
    """Return the bytes that this rank sends in rings over all ranks [byte].

    Parameters
    ----------
    messages : sequence of tuple
        Of each: ``all-reduce``, ``all-gather`` or ``reduce-scatter``; elements of the whole
        message [count]; format of an element by torch's name.

    Raises
    ------
    ValueError
        If a ring's result is not that of torch's own collective.
    """
    return [_ring_bytes(*message) for message in messages]


def _ring_bytes(kind: str, elements: int, dtype: str) -> int:
    ranks, rank = range(dist.get_world_size()), dist.get_rank()
    size = len(ranks)
    message = (torch.arange(elements) % 5 + rank).to(getattr(torch, dtype))
    own = torch.nn.functional.pad(message, (0, -elements % size)).chunk(size)[rank]
    summed = message.clone()
    dist.all_reduce(summed)
    with Recorder() as recorder:
        if kind == ALL_GATHER:
            result = ring_all_gather(own, ranks)
        else:
            result = (ring_all_reduce if kind == ALL_REDUCE else ring_reduce_scatter)(
                message, ranks
            )
    pieces = [torch.empty_like(own) for _ in ranks]
    dist.all_gather(pieces, own)
    wanted = {
        ALL_REDUCE: summed,
        ALL_GATHER: torch.cat(pieces),
        REDUCE_SCATTER: torch.nn.functional.pad(summed, (0, -elements % size)).chunk(size)[rank],
    }
    if not torch.equal(result, wanted[kind]):
        raise ValueError(f"{kind} of {elements} {dtype}: the ring's result is not torch's")
    return _sent(recorder.calls)


def replayed_by_label(calls: Sequence[Call]) -> dict[str, int]:
    """Return the bytes that this rank sends when recorded calls run again on messages, by label.

    Parameters
    ----------
    calls : sequence of Call
        Of this rank; every rank of their groups runs its own again at the same time. Equal calls
        run once and count as often as they were made. Messages count as they were sent.

    Returns
    -------
    dict of str to int
        For each label [byte].

    Raises
    ------
    ValueError
        If a call has no such form.
    """
    sent = dict.fromkeys((call.label for call in calls), 0)
    for message, count in _replayed(calls):
        sent[message.label] += count * message.given_bytes
    return sent


def replayed_by_target(calls: Sequence[Call]) -> dict[int, int]:
    """Return the bytes that this rank sends to each other when recorded calls run again.

    Parameters, errors: as `replayed_by_label`.

    Returns
    -------
    dict of int to int
        For each rank that is sent something [byte].
    """
    sent: Counter[int] = Counter()
    for message, count in _replayed(calls):
        sent[message.peer] += count * message.given_bytes
    return {rank: size_bytes for rank, size_bytes in sorted(sent.items()) if size_bytes}


def _replayed(calls: Sequence[Call]) -> Iterator[tuple[Call, int]]:
    """Run recorded calls again, and return every message sent and how often it was."""
    for call, count in Counter(calls).items():
        if call.kind == RECEIVE:
            continue
        if call.kind == SEND:
            yield call, count
            continue
        with Recorder() as recorder, labelled(call.label):
            _replay(call)
        yield from ((sent, count) for sent in recorder.calls if sent.kind == SEND)


def _replay(call: Call) -> None:
    """Run one collective again on messages: as a ring, an all-to-all in pairs."""
    dtype = getattr(torch, call.dtype)
    if call.kind == ALL_REDUCE:
        ring_all_reduce(torch.zeros(call.given_elements, dtype=dtype), call.ranks)
    elif call.kind == ALL_GATHER:
        ring_all_gather(torch.zeros(call.given_elements, dtype=dtype), call.ranks)
    elif call.kind == REDUCE_SCATTER:
        ring_reduce_scatter(torch.zeros(call.given_elements, dtype=dtype), call.ranks)
    elif call.kind == ALL_TO_ALL:
        exchange(torch.zeros(call.given_elements, dtype=dtype), call.ranks)
    else:
        raise ValueError(f"{call.kind}: has no form on messages here")


def _sent(calls: Sequence[Call]) -> int:
    """Return the bytes of the messages that were sent [byte]."""
    return sum(call.given_bytes for call in calls if call.kind == SEND)
