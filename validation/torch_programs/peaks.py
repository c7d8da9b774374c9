"""The most memory that a training step holds at once.

On a CUDA device its allocator tells. A CPU has none that does: there a dispatch mode sees the result
of every operator, and adds the storages that are alive after each.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from validation.torch_programs.counting import one_thread
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.sizes import Sizes, Work
from validation.torch_programs.training import microbatches


class _Storage(NamedTuple):
    alive: StorageWeakRef
    size_bytes: int


class LiveStorages(TorchDispatchMode):
    """Add the storages that are alive after every operator inside a ``with``.

    Parameters
    ----------
    held : iterable of tensor
        What is alive already.

    Attributes
    ----------
    peak_bytes : int
        The largest sum [byte].
    """

    def __init__(self, held: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self._storages: dict[int, _Storage] = {}
        self.peak_bytes = 0
        self._add(held)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator, and look at what is alive behind it."""
        result = func(*args, **(kwargs or {}))
        self._add(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return result

    def _add(self, tensors: Iterable[torch.Tensor]) -> None:
        self._storages = {
            place: storage
            for place, storage in self._storages.items()
            if not storage.alive.expired()
        }
        for tensor in tensors:
            storage = tensor.untyped_storage()
            entry = _Storage(StorageWeakRef(storage), storage.nbytes())
            self._storages.setdefault(storage._cdata, entry)  # noqa: SLF001
        held_bytes = sum(storage.size_bytes for storage in self._storages.values())
        self.peak_bytes = max(self.peak_bytes, held_bytes)


def step_peak_bytes(sizes: Sizes, work: Work, device: str = "cpu") -> int:
    """Return the most that a step holds, weights and optimizer states included [byte].

    Parameters
    ----------
    sizes, work : Sizes, Work
        The decoder, in fp32 under AdamW, and its step.
    device : str
        ``cpu`` or ``cuda``.

    Notes
    -----
    The second step is measured: the first makes the optimizer's states.
    """
    with one_thread():
        decoder = Decoder(sizes, Whole()).to(device)
        adam = torch.optim.AdamW(decoder.parameters(), fused=True)
        pairs = [
            (tokens.to(device), targets.to(device))
            for tokens, targets in microbatches(sizes, work, step=0)
        ]

        def step() -> None:
            for tokens, targets in pairs:
                Whole().loss(decoder(tokens), targets.T).backward()
            adam.step()
            adam.zero_grad(set_to_none=True)

        step()
        if device == "cuda":
            return _allocated_peak_bytes(step)
        states = (each for state in adam.state.values() for each in state.values())
        with LiveStorages([*decoder.parameters(), *states]) as storages:
            step()
        return int(storages.peak_bytes)


def _allocated_peak_bytes(step: Callable[[], None]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())
