"""Work between matrix products, operator by operator, and what autograd keeps."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_OF_OUTPUT = frozenset(
    {"add", "sub", "rsub", "mul", "div", "exp", "log", "elu", "sigmoid", "neg", "pow", "rsqrt"}
)
_OF_INPUT = MappingProxyType({"sum": 1, "amax": 1, "cumsum": 1, "_softmax": 5, "logsumexp": 4})


class ElementwiseCounter(TorchDispatchMode):
    """Counts elements of what arithmetic operators write, and of what sums and softmaxes read.

    A softmax is five of each element: maximum, difference, exponential, sum, quotient. A logsumexp
    is four, and two of each result. Copies, masks and comparisons count for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flop = 0
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.removesuffix("_") or "_"
        self.seen.add(name)
        if isinstance(out, torch.Tensor) and out.is_floating_point():
            self.flop += self._of(name, args, out)
        return out

    def _of(self, name: str, args: tuple[Any, ...], out: torch.Tensor) -> int:
        if name in _OF_OUTPUT:
            return out.numel()
        if name in _OF_INPUT:
            given: int = args[0].numel() * _OF_INPUT[name]
            return given + (2 * out.numel() if name == "logsumexp" else 0)
        return 0


def elementwise_flop(run: Callable[[], torch.Tensor]) -> int:
    """Return the work of a program between its matrix products [FLOP]."""
    counter = ElementwiseCounter()
    with torch.no_grad(), counter:
        run()
    return counter.flop


def saved_bytes(run: Callable[[], torch.Tensor]) -> int:
    """Return the bytes that autograd keeps for a program, each storage once, masks aside [byte]."""
    storages: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point():
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
