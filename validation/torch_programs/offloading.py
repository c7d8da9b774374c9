"""A decoder that moves what autograd keeps of its first layers to a host, and takes it back.

Saved-tensor hooks note what a layer saves; when its forward ends, each storage is copied to the host
once and given up, as TransformerEngine does; the first tensor that the backward asks for brings its
storage back. Parameters stay where they are. Everything is on one CPU: the host is a second copy, and
a storage has left the device when nothing refers to it any more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute, RecomputeModule
from costmodels.specs.precision import Adapters
from validation.torch_programs.adapters import adapt_decoder
from validation.torch_programs.blocks import Decoder
from validation.torch_programs.counting import one_thread
from validation.torch_programs.saving import Saved, storage_identity

_USUAL = (RecomputeModule.CORE_ATTN,)


class _Part(NamedTuple):
    """A tensor as a view of a storage that may have moved."""

    place: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class Group:
    """What autograd keeps of one layer: on the device until the layer ends, then on the host.

    Parameters
    ----------
    parameters : set of int
        Identities of storages that stay.
    """

    def __init__(self, parameters: set[int]) -> None:
        self._parameters = parameters
        self._device: dict[int, torch.Tensor] = {}
        self._host: dict[int, torch.Tensor] = {}
        self._back: dict[int, torch.UntypedStorage] = {}
        self._left: list[tuple[StorageWeakRef, int]] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Note what is saved; at the end it leaves."""
        with saved_tensors_hooks(self._pack, self._unpack):
            yield
        self._leave()

    def _pack(self, tensor: torch.Tensor) -> _Part | torch.Tensor:
        place = storage_identity(tensor)
        if place in self._parameters:
            return tensor
        self._device.setdefault(place, tensor)
        return _Part(
            place, tensor.dtype, tensor.size(), tensor.stride(), int(tensor.storage_offset())
        )

    def _leave(self) -> None:
        """Copy every storage to the host and give it up; those emptied meanwhile stay, to be filled."""
        for place, tensor in list(self._device.items()):
            storage = tensor.untyped_storage()
            if not storage.nbytes():
                continue
            raw = torch.empty(0, dtype=torch.uint8).set_(storage)
            self._host[place] = raw.clone()
            self._left.append((StorageWeakRef(storage), storage.nbytes()))
            del self._device[place], raw, storage, tensor

    def _unpack(self, part: _Part | torch.Tensor) -> torch.Tensor:
        if isinstance(part, torch.Tensor):
            return part
        if part.place in self._device:
            storage = self._device[part.place].untyped_storage()
        else:
            if part.place not in self._back:
                self._back[part.place] = self._host[part.place].clone().untyped_storage()
            storage = self._back[part.place]
        view = torch.empty(0, dtype=part.dtype)
        return view.set_(storage, part.offset, part.size, part.stride)

    @property
    def host_bytes(self) -> int:
        """Return what went to the host [byte]."""
        return sum(raw.nbytes for raw in self._host.values())

    @property
    def returned_bytes(self) -> int:
        """Return what came back [byte]."""
        return sum(storage.nbytes() for storage in self._back.values())

    @property
    def remaining_bytes(self) -> int:
        """Return what went to the host and is still on the device, because others hold it [byte]."""
        return sum(size for reference, size in self._left if not reference.expired())


class Repeated(NamedTuple):
    """What is computed again in the backward.

    Attributes
    ----------
    recompute : Recompute
        Nothing, modules or layers.
    modules : tuple of RecomputeModule
        Which modules, of selective recomputation.
    first_layers : int or None
        Of layers, how many are computed again; None for all [count].
    group_size : int
        Of these, how many at once [count].
    """

    recompute: Recompute
    modules: tuple[RecomputeModule, ...] = _USUAL
    first_layers: int | None = None
    group_size: int = 1


class _Place(NamedTuple):
    """Where a part of a decoder begins, and whether it is computed again."""

    first_layer: int
    is_repeated: bool


class OffloadedDecoder(Decoder):
    """A decoder whose first layers send what autograd keeps of them to the host.

    Parameters
    ----------
    model : Model
        Description of the model.
    repeated : Repeated
        What is computed again.
    """

    def __init__(self, model: Model, repeated: Repeated) -> None:
        super().__init__(model, repeated.recompute, modules=repeated.modules)
        self.offloaded_layers = 0
        self.groups: list[Group] = []
        self._repeats = self.recompute_layers
        blocks, size = list(self.layers), repeated.group_size
        count = len(blocks) if repeated.first_layers is None else repeated.first_layers
        # Layers that are computed again at once are one part, the others one each.
        starts = [*range(0, count, size if self._repeats else 1), *range(count, len(blocks))]
        ends = [*starts[1:], len(blocks)]
        self.layers = nn.ModuleList(
            nn.Sequential(*blocks[start:end]) for start, end in zip(starts, ends, strict=True)
        )
        self._parts = {
            part: _Place(start, self._repeats and start < count)
            for part, start in zip(self.layers, starts, strict=True)
        }

    def _through(self, layer: nn.Module, *entering: torch.Tensor) -> torch.Tensor:
        stays = _Place(self.offloaded_layers, self._repeats)
        place = self._parts.get(layer, stays)
        self.recompute_layers = place.is_repeated
        if place.first_layer >= self.offloaded_layers:
            return super()._through(layer, *entering)
        group = Group({storage_identity(weight) for weight in self.parameters()})
        self.groups.append(group)
        with group.open():
            return super()._through(layer, *entering)


class Offloaded(NamedTuple):
    """What a step of an offloaded decoder moved.

    Attributes
    ----------
    host_bytes : int
        What lay on the host between forward and backward [byte].
    device_bytes : int
        What autograd kept on the device then [byte].
    returned_bytes : int
        What came back in the backward [byte].
    """

    host_bytes: int
    device_bytes: int
    returned_bytes: int


def offloaded_step(
    model: Model,
    layers: int,
    batch: int,
    length: int,
    repeated: Repeated,
    adapters: Adapters | None = None,
) -> Offloaded:
    """Return what a step moves whose first layers keep their tensors on the host.

    Parameters
    ----------
    model : Model
        Description of the model.
    layers : int
        How many of its layers [count].
    batch, length : int
        Sequences, and tokens of each [count].
    repeated : Repeated
        What is computed again.
    adapters : Adapters, optional
        What is trained in place of the weights.

    Raises
    ------
    ArithmeticError
        If a gradient has other bits than that of the same step without offload.
    """
    decoder = OffloadedDecoder(model, repeated)
    if adapters is not None:
        adapt_decoder(decoder, adapters)
    given = [torch.randint(model.vocabulary_size, (batch, length)) for _ in range(2)]
    with one_thread():
        decoder(*given).backward()
        expected = _gradients(decoder)
        decoder.zero_grad()
        decoder.offloaded_layers = layers
        saved = Saved(decoder.parameters())
        with saved.seen():
            loss = decoder(*given)
        host = sum(group.host_bytes for group in decoder.groups)
        remaining = sum(group.remaining_bytes for group in decoder.groups)
        kept = saved.total + remaining
        loss.backward()
    if not all(map(torch.equal, expected, _gradients(decoder))):
        raise ArithmeticError("gradients are others than those of a step without offload")
    return Offloaded(
        host_bytes=host,
        device_bytes=kept,
        returned_bytes=sum(group.returned_bytes for group in decoder.groups),
    )


def _gradients(module: nn.Module) -> list[torch.Tensor]:
    return [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]


class Copied(NamedTuple):
    """What `torch.autograd.graph.save_on_cpu` would copy of a layer's forward.

    Attributes
    ----------
    weights_bytes : int
        Of weights, which stay on the device too [byte].
    activations_bytes : int
        Of all else, a tensor as often as it is saved [byte].
    """

    weights_bytes: int
    activations_bytes: int


def copied_by_save_on_cpu(block: nn.Module, hidden: torch.Tensor) -> Copied:
    """Return what `save_on_cpu` copies of a forward: the tensors that it is handed, one by one."""
    weights = {storage_identity(weight) for weight in block.parameters()}
    sizes: dict[bool, int] = {True: 0, False: 0}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[storage_identity(tensor) in weights] += tensor.nbytes
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    with one_thread(), saved_tensors_hooks(pack, unpack):
        block(hidden)
    return Copied(weights_bytes=sizes[True], activations_bytes=sizes[False])
