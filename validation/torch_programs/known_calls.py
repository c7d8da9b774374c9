"""A program that makes every kind of call a known number of times, through every door."""

from collections import Counter

import torch
import torch.distributed as dist
from torch.autograd import Function
from torch.distributed import _functional_collectives as functional
from torch.nn.parallel import DistributedDataParallel

from validation.torch_programs.interception import Recorder, backend_calls, labelled
from validation.torch_programs.records import Call

_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)

KNOWN = {
    ("all-reduce", "plain"): 3,
    ("all-reduce", "functional"): 1,
    ("all-reduce", "autograd"): 1,
    ("all-reduce", "ddp"): 2,
    ("all-gather", "plain"): 2,
    ("all-gather", "functional"): 1,
    ("reduce-scatter", "plain"): 1,
    ("reduce-scatter", "functional"): 1,
    ("all-to-all", "plain"): 1,
    ("broadcast", "plain"): 1,
    ("send", "plain"): 2,
    ("receive", "plain"): 2,
}
"""Calls of `make_calls` by kind and label [count]."""

ELEMENTS = 6
"""Elements of each rank's tensor; two ranks make the calls [count]."""


class _SummedGradient(Function):
    """An all-reduce in the backward only."""

    @staticmethod
    def forward(_: object, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.view_as(hidden)

    @staticmethod
    def backward(_: object, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _plain(own: torch.Tensor) -> None:
    rank, size = dist.get_rank(), dist.get_world_size()
    for _ in range(3):
        dist.all_reduce(own.clone())
    for _ in range(2):
        dist.all_gather([torch.empty_like(own) for _ in range(size)], own)
    _reduce_scatter(own.clone(), own.repeat(size))
    dist.all_to_all_single(torch.empty_like(own), own)
    dist.broadcast(own.clone(), 0)
    other = (rank + 1) % size
    sending = dist.isend(own, other)
    dist.recv(torch.empty_like(own), other)
    if sending is not None:
        sending.wait()
    pair = [
        dist.P2POp(dist.isend, own, other),
        dist.P2POp(dist.irecv, torch.empty_like(own), other),
    ]
    for work in dist.batch_isend_irecv(pair):
        work.wait()


def _functional(own: torch.Tensor) -> None:
    ranks = list(range(dist.get_world_size()))
    gather = getattr(functional, "all_gather_single", functional.all_gather_tensor)
    scatter = getattr(functional, "reduce_scatter_single", functional.reduce_scatter_tensor)
    for result in (
        functional.all_reduce(own, "sum", ranks),
        gather(own, 0, ranks),
        scatter(own, "sum", 0, ranks),
    ):
        functional.wait_tensor(result)


def make_calls() -> tuple[list[Call], int]:
    """Return the recorded calls, and the calls that the backend counted.

    Notes
    -----
    They are made in the forward, in the backward, in C++ by the reducer of
    DistributedDataParallel (two buckets), alone, in a batch, and as functional collectives.
    """
    own = torch.ones(ELEMENTS, requires_grad=True)
    layers = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
    model = DistributedDataParallel(layers, bucket_cap_mb=0.001)
    for _ in range(2):  # buckets are agreed on in the second step
        model(torch.ones(1, 32)).sum().backward()
    before = backend_calls()
    with Recorder() as recorder:
        with labelled("plain"):
            _plain(own.detach())
        with labelled("functional"):
            _functional(own.detach())
        with labelled("autograd"):
            torch.as_tensor(_SummedGradient.apply(own)).sum().backward()
        with labelled("ddp"):
            model(torch.ones(1, 32)).sum().backward()
    return recorder.calls, backend_calls() - before


def counted(calls: list[Call]) -> dict[tuple[str, str], int]:
    """Return how many calls there are of each kind and label."""
    return dict(Counter((call.kind, call.label) for call in calls))


def subgroup_calls() -> list[Call]:
    """Return the calls of a group of the first two ranks, of which the others make none."""
    group = dist.new_group([0, 1])
    recorder = Recorder()
    with recorder:
        if dist.get_rank() < 2:
            dist.all_reduce(torch.ones(ELEMENTS, dtype=torch.float64), group=group)
            if dist.get_rank() == 0:
                dist.send(torch.ones(ELEMENTS), 1, group=group)
            else:
                dist.recv(torch.empty(ELEMENTS), 0, group=group)
    return recorder.calls


def wait_forever() -> None:
    """Wait on the first rank for a message that the second never sends."""
    if dist.get_rank() == 0:
        dist.recv(torch.empty(1), 1)


def fail_on_last() -> int:
    """Return the rank; raise on the last one."""
    rank = int(dist.get_rank())
    if rank == dist.get_world_size() - 1:
        raise ValueError("the last rank gives up")
    return rank


def ranks_seen() -> tuple[int, int, int]:
    """Return the rank, the ranks, and the threads of this process."""
    return int(dist.get_rank()), int(dist.get_world_size()), torch.get_num_threads()
