"""Record every collective and every message between ranks that a program makes.

All of torch's communication goes through operators of two namespaces of its dispatcher, whatever
calls it: `c10d` (torch.distributed, the reducer of DistributedDataParallel in C++, FSDP2, pipeline
schedules) and `_c10d_functional` (functional collectives, DTensor). A dispatch mode sees them in
the forward and, on a CPU, in the backward, which runs in the same thread. What the backend itself
counts (`backend_calls`) tells whether a call was missed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from validation.torch_programs.records import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    BROADCAST,
    RECEIVE,
    REDUCE_SCATTER,
    SEND,
    Call,
)

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "c10d.allreduce_": ALL_REDUCE,
        "c10d.allreduce_coalesced_": ALL_REDUCE,
        "c10d._allgather_base_": ALL_GATHER,
        "c10d.allgather_": ALL_GATHER,
        "c10d.allgather_into_tensor_coalesced_": ALL_GATHER,
        "c10d._reduce_scatter_base_": REDUCE_SCATTER,
        "c10d.reduce_scatter_": REDUCE_SCATTER,
        "c10d.reduce_scatter_tensor_coalesced_": REDUCE_SCATTER,
        "c10d.alltoall_": ALL_TO_ALL,
        "c10d.alltoall_base_": ALL_TO_ALL,
        "c10d.broadcast_": BROADCAST,
        "c10d.send": SEND,
        "c10d.recv_": RECEIVE,
        "_c10d_functional.all_reduce": ALL_REDUCE,
        "_c10d_functional.all_gather_into_tensor": ALL_GATHER,
        "_c10d_functional.reduce_scatter_tensor": REDUCE_SCATTER,
        "_c10d_functional.all_to_all_single": ALL_TO_ALL,
        "_c10d_functional.broadcast": BROADCAST,
    }
)
_NO_MESSAGE = frozenset({"_c10d_functional.wait_tensor", "_c10d_functional._wrap_tensor_autograd"})
_NAMESPACES = frozenset({"c10d", "_c10d_functional", "_c10d_functional_autograd"})

_label: ContextVar[str] = ContextVar("_label", default="")


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Name the part of the program whose calls are recorded inside."""
    token = _label.set(label)
    try:
        yield
    finally:
        _label.reset(token)


def backend_calls() -> int:
    """Return the operations of all of this process's groups so far, as the backends count them."""
    groups: list[Any] = list(dist.distributed_c10d._world.pg_map)  # noqa: SLF001
    return sum(int(group._get_sequence_number_for_group()) for group in groups)  # noqa: SLF001


class Recorder(TorchDispatchMode):
    """Record all communication inside a ``with``.

    Attributes
    ----------
    calls : list of Call
        In the order of the program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator, and record it if it communicates."""
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # its shards come by again, each as a plain tensor
        result = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        if func.namespace in _NAMESPACES and name not in _NO_MESSAGE:
            self.calls.append(_call(func, name, args, kwargs or {}, result))
        return result


def _call(func: Any, name: str, args: Any, kwargs: Mapping[str, Any], result: Any) -> Call:
    """Return the record of one operator."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    outputs = [value for key, value in given.items() if key.startswith("output")]
    inputs = [value for key, value in given.items() if not key.startswith("output")]
    kind = _KINDS.get(name, name)
    handed = _tensors(inputs)
    gained = _tensors(outputs) or (_tensors(result) if func.namespace != "c10d" else handed)
    dtype = (handed or gained)[0].dtype
    group = _group(given)
    return Call(
        kind=kind,
        label=_label.get(),
        ranks=tuple(dist.get_process_group_ranks(group)),
        peer=_peer(group, given) if kind in {SEND, RECEIVE} else -1,
        dtype=str(dtype).removeprefix("torch."),
        element_bytes=dtype.itemsize,
        given_elements=0 if kind == RECEIVE else _elements(handed),
        gained_elements=0 if kind == SEND else _elements(gained),
    )


def _group(given: Mapping[str, Any]) -> dist.ProcessGroup:
    """Return the group of an operator: a boxed one, or one by its name."""
    if "process_group" in given:
        return dist.ProcessGroup.unbox(given["process_group"])
    return _resolve_process_group(given["group_name"])


def _peer(group: dist.ProcessGroup, given: Mapping[str, Any]) -> int:
    """Return the rank at the other end of a message, among all ranks."""
    inside = given["dst"] if "dst" in given else given["src"]
    return int(dist.get_global_rank(group, inside))


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested lists, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for entry in value for tensor in _tensors(entry)]
    return []


def _elements(tensors: list[torch.Tensor]) -> int:
    """Return the elements of some tensors together [count]."""
    return sum(tensor.numel() for tensor in tensors)
