"""Training steps whose weights, gradients and optimizer states are weighed as they lie in memory.

One process with torch's optimizers; and replicas that shard what they keep: ZeRO stages 1 and 2
over one flat, padded vector, written here; torch's FSDP2; torch's ZeroRedundancyOptimizer.

References
----------
S. Rajbhandari et al., "ZeRO," 2020, section 5, arXiv:1910.02054; Y. Zhao et al., 2023,
arXiv:2304.11277, for stage 3.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.func import functional_call
from torch.nn import functional
from torch.optim import SGD, Adafactor, Adam, AdamW, Muon, Optimizer

from costmodels.specs.model import Model, Norm
from validation.torch_programs.blocks import Decoder, Experts
from validation.torch_programs.counting import one_thread
from validation.torch_programs.sharded import cast_policy

STEPS = 2
_BATCH, _LENGTH = 2, 8

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


class Kept(NamedTuple):
    """What one process keeps between a backward and the update that follows.

    Attributes
    ----------
    weights, gradients, moments : int
        Memory of the tensors, padding included, one that others are parts of counted once [byte].
    steps : int
        Memory of the optimizer's counts of its updates [byte].
    losses : tuple of float
        Loss of this process's batch at each step.
    """

    weights: int
    gradients: int
    moments: int
    steps: int
    losses: tuple[float, ...]


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this process holds."""
    held: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return held


def stored_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the memory that some tensors lie in, what several share counted once [byte]."""
    storages = (_local(tensor).untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _gradients(parameters: Iterable[nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _states(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Return every tensor that an optimizer keeps."""
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))


def _kept(
    weights: Iterable[torch.Tensor],
    gradients: Iterable[torch.Tensor],
    optimizers: Iterable[Optimizer],
    losses: list[float],
) -> Kept:
    states = [state for optimizer in optimizers for state in _states(optimizer)]
    return Kept(
        stored_bytes(weights),
        stored_bytes(gradients),
        stored_bytes(state for state in states if state.ndim > 0),
        stored_bytes(state for state in states if state.ndim == 0),
        tuple(losses),
    )


def optimizer_of(name: str, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return one of torch's optimizers.

    Parameters
    ----------
    name : str
        ``adam``, ``adamw``, ``adafactor``, ``sgd-momentum`` or ``sgd``.
    parameters : iterable of Parameter
        What it updates.
    """
    # A large epsilon, so that gradients that are zero but for rounding move nothing.
    match name:
        case "adam":
            return Adam(parameters, lr=0.01, eps=0.01)
        case "adamw":
            return AdamW(parameters, lr=0.01, eps=0.01)
        case "adafactor":
            return Adafactor(parameters, lr=0.01)
        case "sgd-momentum":
            return SGD(parameters, lr=0.1, momentum=0.9)
        case _:
            return SGD(parameters, lr=0.1)


def optimizers_of(name: str, decoder: Decoder) -> list[Optimizer]:
    """Return torch's optimizers of a decoder: two for ``muon``, one for any other name.

    Muon updates the matrices between the embeddings, AdamW the rest.
    """
    if name != "muon":
        return [optimizer_of(name, decoder.parameters())]
    ends = {id(decoder.embedding.weight), id(decoder.head.projection.weight)}
    if decoder.positions is not None:
        ends.add(id(decoder.positions.weight))
    hidden: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in decoder.parameters():
        is_hidden = parameter.ndim == 2 and id(parameter) not in ends
        (hidden if is_hidden else others).append(parameter)
    return [Muon(hidden, lr=0.01), optimizer_of("adamw", others)]


def _decoder(model: Model) -> Decoder:
    """Return the same decoder on every process."""
    torch.manual_seed(0)
    return Decoder(model)


class Stacked(nn.Module):
    """Experts of equal shapes, each matrix of all of them one parameter, as grouped products take.

    Parameters
    ----------
    experts : nn.ModuleList
        The experts, whose weights are taken.
    """

    def __init__(self, experts: nn.ModuleList) -> None:
        super().__init__()
        self._count = len(experts)
        # In a list, so that its own weights are none of this module's.
        self._template = [experts[0]]
        self._names = [name for name, _ in experts[0].named_parameters()]
        held = [dict(expert.named_parameters()) for expert in experts]
        for name in self._names:
            whole = torch.stack([weights[name].detach() for weights in held])
            self.register_parameter(name.replace(".", "_"), nn.Parameter(whole))

    def __len__(self) -> int:
        """Return how many experts there are."""
        return self._count

    def __iter__(self) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        """Return what each expert does."""
        wholes = {name: getattr(self, name.replace(".", "_")) for name in self._names}
        for number in range(self._count):
            weights = {name: whole[number] for name, whole in wholes.items()}
            yield partial(functional_call, self._template[0], weights)


def stack_experts(decoder: Decoder) -> Decoder:
    """Return a decoder whose experts are stacked, in place."""
    for module in list(decoder.modules()):
        if isinstance(module, Experts):
            stacked = Stacked(module.experts)
            del module.experts
            module.add_module("experts", stacked)
    return decoder


def _loss(decoder: nn.Module, model: Model, step: int, replica: int) -> torch.Tensor:
    """Return the loss of a replica's batch at a step."""
    generator = torch.Generator().manual_seed(1000 * step + replica)
    tokens = torch.randint(model.vocabulary_size, (_BATCH, _LENGTH), generator=generator)
    loss: torch.Tensor = decoder(tokens, tokens)
    return loss


def _backpropagated(decoder: nn.Module, model: Model, step: int, replica: int) -> float:
    loss = _loss(decoder, model, step, replica)
    torch.autograd.backward(loss)
    return float(loss.detach())


def whole(model: Model, optimizer_name: str, replicas: int = 1) -> list[Kept]:
    """Return what a process keeps that trains alone on the batches of some replicas.

    Parameters
    ----------
    model : Model
        Description of the model.
    optimizer_name : str
        As `optimizer_of` takes it.
    replicas : int
        Replicas whose batches it takes, one after the other [count].

    Returns
    -------
    list of Kept
        Once for each replica's batch: they differ in losses only.
    """
    decoder = _decoder(model)
    parameters = list(decoder.parameters())
    optimizers = optimizers_of(optimizer_name, decoder)
    losses: list[list[float]] = [[] for _ in range(replicas)]
    with one_thread():
        for step in range(STEPS):
            decoder.zero_grad()
            for replica, found in enumerate(losses):
                found.append(_backpropagated(decoder, model, step, replica))
            for gradient in _gradients(parameters):
                gradient.div_(replicas)
            for optimizer in optimizers:
                optimizer.step()
    return [_kept(parameters, _gradients(parameters), optimizers, own) for own in losses]


class FlatShards:
    """All weights as one padded vector, of which this process updates an equal part.

    Parameters
    ----------
    parameters : list of Parameter
        The weights, which become parts of the vector.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        ranks, rank = dist.get_world_size(), dist.get_rank()
        elements = sum(parameter.numel() for parameter in parameters)
        self.padding = -elements % ranks
        self.weights = self._flat([parameter.detach() for parameter in parameters])
        shard = len(self.weights) // ranks
        self.shard = nn.Parameter(self.weights[rank * shard : (rank + 1) * shard])
        start = 0
        for parameter in parameters:
            part = self.weights[start : start + parameter.numel()]
            parameter.data = part.view_as(parameter)
            start += parameter.numel()

    def _flat(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        return functional.pad(flat, (0, self.padding))

    def scatter(self) -> None:
        """Reduce the gradients of all processes, and add this process's part to its shard's."""
        reduced = torch.empty_like(self.shard)
        _reduce_scatter(reduced, self._flat(_gradients(self.parameters)))
        reduced /= dist.get_world_size()
        self.shard.grad = reduced if self.shard.grad is None else self.shard.grad + reduced

    def gather(self) -> None:
        """Fill the vector with the parts that all processes have updated."""
        _all_gather(self.weights, self.shard.detach().clone())


def flat_sharded(model: Model, zero_stage: int, optimizer_name: str = "adam") -> Kept:
    """Return what this process keeps under ZeRO stage 1 or 2, over one flat vector.

    Parameters
    ----------
    model : Model
        Description of the model.
    zero_stage : int
        1 keeps whole gradients until the update, 2 a shard of them after each backward.
    optimizer_name : str
        As `optimizer_of` takes it.
    """
    decoder = _decoder(model)
    shards = FlatShards(list(decoder.parameters()))
    optimizer = optimizer_of(optimizer_name, [shards.shard])
    losses: list[float] = []
    gradients = 0
    for step in range(STEPS):
        losses.append(_backpropagated(decoder, model, step, dist.get_rank()))
        if zero_stage == 2:
            shards.scatter()
            decoder.zero_grad()
        gradients = stored_bytes(_gradients([*shards.parameters, shards.shard]))
        if zero_stage == 1:
            shards.scatter()
            decoder.zero_grad()
        optimizer.step()
        optimizer.zero_grad()
        shards.gather()
    kept = _kept(shards.parameters, (), [optimizer], losses)
    return kept._replace(gradients=gradients)


def fully_sharded(
    model: Model,
    optimizer_name: str = "adam",
    *,
    cast_on_gather: bool = False,
    stacked: bool = False,
) -> Kept:
    """Return what this process keeps under torch's FSDP2, each layer a unit of its own.

    Parameters
    ----------
    model : Model
        What is trained.
    optimizer_name : str
        As `optimizer_of` takes it.
    cast_on_gather : bool
        Whether weights are gathered in bf16, gradients scattered in fp32.
    stacked : bool
        Whether each matrix of all experts of a layer is one parameter, whose rows are experts.
    """
    decoder = stack_experts(_decoder(model)) if stacked else _decoder(model)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    policy = cast_policy() if cast_on_gather else MixedPrecisionPolicy()
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(decoder, mesh=mesh, mp_policy=policy)
    parameters = list(decoder.parameters())
    optimizer = optimizer_of(optimizer_name, parameters)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        # Autocast brings what positions and softmax leave in fp32 back to the format of weights;
        # torch warns that norms are not fused where it does not.
        cast = torch.autocast("cpu", torch.bfloat16, enabled=cast_on_gather)
        with cast, warnings.catch_warnings(action="ignore", category=UserWarning):
            losses.append(_backpropagated(decoder, model, step, dist.get_rank()))
        optimizer.step()
    return _kept(parameters, _gradients(parameters), [optimizer], losses)


def dealt_out(model: Model) -> Kept:
    """Return what this process keeps where torch's ZeroRedundancyOptimizer deals out the states."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    decoder = _decoder(model)
    parameters = list(decoder.parameters())
    sharing: Any = ZeroRedundancyOptimizer(parameters, optimizer_class=Adam, lr=0.01, eps=0.01)
    losses = []
    for step in range(STEPS):
        sharing.zero_grad()
        losses.append(_backpropagated(decoder, model, step, dist.get_rank()))
        for gradient in _gradients(parameters):
            dist.all_reduce(gradient)
            gradient.div_(dist.get_world_size())
        sharing.step()
    return _kept(parameters, _gradients(parameters), [sharing.optim], losses)


PROGRAMS: dict[str, Callable[[Model], Kept]] = {
    "ZeRO-1": lambda model: flat_sharded(model, 1),
    "ZeRO-2": lambda model: flat_sharded(model, 2),
    "FSDP2": fully_sharded,
    "ZeroRedundancyOptimizer": dealt_out,
}
"""Programs of several replicas by name, with Adam."""


CAST = "FSDP2, cast"
"""FSDP2 that gathers in bf16, of models all of whose modules take that on a CPU."""


STACKED = "FSDP2, stacked experts"
"""FSDP2 of models with experts, each matrix of all of them one parameter."""


def _programs(model: Model) -> dict[str, Callable[[Model], Kept]]:
    if model.mixture is not None:
        return PROGRAMS | {STACKED: lambda model: fully_sharded(model, stacked=True)}
    if model.norm is not Norm.RMSNORM:
        return PROGRAMS
    return PROGRAMS | {CAST: lambda model: fully_sharded(model, cast_on_gather=True)}


def all_sharded(models: tuple[Model, ...]) -> list[dict[str, Kept]]:
    """Return what this process keeps of each model under each program that it can."""
    return [
        {name: program(model) for name, program in _programs(model).items()} for model in models
    ]


def parameter_shapes(model: Model, *, stacked: bool = False) -> list[tuple[int, ...]]:
    """Return the shapes of a model's parameters, a shared one once, experts stacked or not [count]."""
    with torch.device("meta"):
        decoder = stack_experts(Decoder(model)) if stacked else Decoder(model)
        return [tuple(parameter.shape) for parameter in decoder.parameters()]


def counted_tensors(model: Model, optimizer_name: str) -> int:
    """Return the tensors whose updates an optimizer counts in a tensor of its own [count]."""
    if optimizer_name.startswith("sgd"):
        return 0
    with torch.device("meta"):
        *_, last = optimizers_of(optimizer_name, Decoder(model))
    return sum(len(group["params"]) for group in last.param_groups)
