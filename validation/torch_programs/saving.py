"""What torch's autograd keeps of real modules between forward and backward, storage by storage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute, RecomputeModule
from validation.torch_programs.blocks import Block, Decoder, Head
from validation.torch_programs.counting import one_thread


def storage_identity(tensor: torch.Tensor) -> int:
    """Return what tells a storage from others even after its memory is given up."""
    return int(StorageWeakRef(tensor.untyped_storage()).cdata)


class Saved:
    """Storages that autograd keeps while this is open; those of given tensors do not count.

    Parameters
    ----------
    others : iterator of Tensor
        Parameters, which are there anyway.
    """

    def __init__(self, others: Iterator[torch.Tensor]) -> None:
        self._others = {storage_identity(tensor) for tensor in others}
        # Tensors themselves are kept, so that no storage ends and another has its identity.
        self._kept: dict[int, torch.Tensor] = {}

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Note every tensor that autograd saves."""
        with saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        place = storage_identity(tensor)
        if place not in self._others:
            self._kept.setdefault(place, tensor)
        return tensor

    @property
    def total(self) -> int:
        """Return the memory of the storages, each counted once [byte]."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())


def _saved(module: nn.Module, forward: Callable[[], Any]) -> int:
    """Return what autograd keeps of a forward; its output is alive until then [byte]."""
    saved = Saved(module.parameters())
    with one_thread(), saved.seen():
        out = forward()
    del out
    return saved.total


_USUAL = (RecomputeModule.CORE_ATTN,)


def block_bytes(
    model: Model,
    layer: int,
    batch: int,
    length: int,
    recompute: Recompute,
    modules: tuple[RecomputeModule, ...] = _USUAL,
) -> int:
    """Return what autograd keeps of one layer, its input included [byte].

    Parameters
    ----------
    model : Model
        Description of the model.
    layer : int
        Which of its layers [index].
    batch, length : int
        Sequences, and tokens of each [count].
    recompute : Recompute
        What is computed again.
    modules : tuple of RecomputeModule
        Of selective recomputation.
    """
    block = Block(model, layer, recompute, modules)
    hidden = torch.randn(batch, length, model.hidden_size, requires_grad=True)
    if recompute is Recompute.FULL:
        return _saved(block, lambda: checkpoint(block, hidden, use_reentrant=False))
    return _saved(block, lambda: block(hidden))


def head_bytes(model: Model, batch: int, length: int) -> int:
    """Return what autograd keeps of the final norm, the head and the loss [byte]."""
    head = Head(model)
    hidden = torch.randn(batch, length, model.hidden_size, requires_grad=True)
    targets = torch.randint(model.vocabulary_size, (batch * length,))
    return _saved(head, lambda: functional.cross_entropy(head(hidden).flatten(0, 1), targets))


def decoder_bytes(
    model: Model,
    batch: int,
    length: int,
    recompute: Recompute,
    modules: tuple[RecomputeModule, ...] = _USUAL,
) -> int:
    """Return what autograd keeps of a whole decoder with its loss [byte]."""
    decoder = Decoder(model, recompute, modules=modules)
    tokens, targets = (torch.randint(model.vocabulary_size, (batch, length)) for _ in range(2))
    return _saved(decoder, lambda: decoder(tokens, targets))
