"""Low-rank adapters on a decoder's frozen projections, as peft puts them there, and what a step keeps.

Beside each projection stand two matrices without biases, `down` of (rank, inputs) and `up` of
(outputs, rank); up begins at zero. All else is frozen. The output of the embedding is made to have a
gradient, as recomputation needs it and as transformers' ``enable_input_require_grads`` does.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute
from costmodels.specs.precision import Adapters, Projection
from validation.torch_programs.attention_modules import Attention
from validation.torch_programs.blocks import Block, Decoder, FeedForward
from validation.torch_programs.counting import Passes, elements, one_thread, passes
from validation.torch_programs.saving import Saved
from validation.torch_programs.states import optimizer_of, stored_bytes

_OF_ATTENTION = (Projection.QUERY, Projection.KEY, Projection.VALUE, Projection.OUTPUT)


class Adapted(nn.Module):
    """A frozen projection and its adapter.

    Parameters
    ----------
    frozen : Linear
        The projection.
    rank : int
        Rank of the adapter [count].
    """

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen, self.scale = frozen, 2.0
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (..., inputs)."""
        out: torch.Tensor = self.frozen(hidden)
        added: torch.Tensor = self.up(self.down(hidden)) * self.scale
        return out + added


def _adapt(block: Block, adapters: Adapters) -> None:
    """Put adapters on the projections of a layer."""
    for target in adapters.targets:
        holder = block.attention if target in _OF_ATTENTION else block.ffn
        assert isinstance(holder, Attention | FeedForward)  # noqa: S101 - tells the type checker
        frozen = holder.get_submodule(target.value)
        assert isinstance(frozen, nn.Linear)  # noqa: S101 - tells the type checker
        setattr(holder, target.value, Adapted(frozen, adapters.rank))


def adapted_block(
    model: Model, layer: int, adapters: Adapters, recompute: Recompute = Recompute.NONE
) -> Block:
    """Return a frozen layer with adapters.

    Parameters
    ----------
    model : Model
        Description of the model: dense attention, no experts.
    layer : int
        Which of its layers [index].
    adapters : Adapters
        Rank and projections.
    recompute : Recompute
        What the backward computes again.
    """
    block = Block(model, layer, recompute)
    block.requires_grad_(requires_grad=False)
    _adapt(block, adapters)
    return block


def adapted_decoder(
    model: Model, adapters: Adapters, recompute: Recompute = Recompute.NONE
) -> Decoder:
    """Return a frozen decoder with adapters in every layer (arguments as `adapted_block`)."""
    decoder = Decoder(model, recompute)
    adapt_decoder(decoder, adapters)
    return decoder


def adapt_decoder(decoder: Decoder, adapters: Adapters) -> None:
    """Freeze a decoder and put adapters in every layer; its embedding's output takes a gradient."""
    decoder.requires_grad_(requires_grad=False)
    for layer in list(decoder.modules()):
        if isinstance(layer, Block):
            _adapt(layer, adapters)
    decoder.embedding.register_forward_hook(
        lambda _module, _inputs, out: out.requires_grad_(requires_grad=True)
    )


def _trained(module: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


class Step(NamedTuple):
    """What a training step of adapters has and keeps.

    Attributes
    ----------
    parameters, trained : int
        Elements of all parameters, and of those with gradients [parameter].
    weights, gradients, moments : int
        Memory of the tensors [byte].
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    moments: int


def step(model: Model, adapters: Adapters, optimizer: str, batch: int, length: int) -> Step:
    """Return what a step of a decoder with adapters keeps.

    Parameters
    ----------
    model : Model
        Description of the model.
    adapters : Adapters
        Rank and projections.
    optimizer : str
        One of `states.optimizer_of`.
    batch, length : int
        Sequences, and tokens of each [count].
    """
    torch.manual_seed(0)
    decoder = adapted_decoder(model, adapters)
    updates = optimizer_of(optimizer, _trained(decoder))
    tokens, targets = (torch.randint(model.vocabulary_size, (batch, length)) for _ in range(2))
    with one_thread():
        torch.autograd.backward(decoder(tokens, targets))
        updates.step()
    states = [
        value
        for state in updates.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim > 0
    ]
    gradients = [tensor.grad for tensor in decoder.parameters() if tensor.grad is not None]
    return Step(
        elements(decoder),
        sum(parameter.numel() for parameter in _trained(decoder)),
        stored_bytes(decoder.parameters()),
        stored_bytes(gradients),
        stored_bytes(states),
    )


def decoder_passes(
    model: Model,
    adapters: Adapters,
    batch: int,
    length: int,
    recompute: Recompute = Recompute.NONE,
    *,
    device: str = "cpu",
) -> Passes:
    """Return the work of a decoder with adapters and its loss [FLOP].

    Parameters
    ----------
    model : Model
        Description of the model.
    adapters : Adapters
        Rank and projections.
    batch, length : int
        Sequences, and tokens of each [count].
    recompute : Recompute
        What the backward computes again.
    device : str
        Where it runs.
    """
    with torch.device(device):
        decoder = adapted_decoder(model, adapters, recompute)
        tokens = torch.zeros(batch, length, dtype=torch.int64)
    return passes(lambda: decoder(tokens, tokens))


def layer_bytes(model: Model, adapters: Adapters, batch: int, length: int) -> int:
    """Return what autograd keeps of the first layer, its input included [byte].

    Parameters
    ----------
    model : Model
        Description of the model.
    adapters : Adapters
        Rank and projections.
    batch, length : int
        Sequences, and tokens of each [count].
    """
    block = adapted_block(model, 0, adapters)
    hidden = torch.randn(batch, length, model.hidden_size, requires_grad=True)
    saved = Saved(block.parameters())
    with one_thread(), saved.seen():
        out = block(hidden)
    del out
    return saved.total


def decoder_bytes(
    model: Model, adapters: Adapters, batch: int, length: int, recompute: Recompute
) -> int:
    """Return what autograd keeps of a whole decoder with its loss [byte].

    Parameters
    ----------
    model : Model
        Description of the model.
    adapters : Adapters
        Rank and projections.
    batch, length : int
        Sequences, and tokens of each [count].
    recompute : Recompute
        What the backward computes again.
    """
    decoder = adapted_decoder(model, adapters, recompute)
    tokens, targets = (torch.randint(model.vocabulary_size, (batch, length)) for _ in range(2))
    saved = Saved(decoder.parameters())
    with one_thread(), saved.seen():
        out = decoder(tokens, targets)
    del out
    return saved.total


def mixed_input_bytes(rows: int, inputs: int, outputs: int, rank: int) -> int:
    """Return what autograd keeps of a projection in bf16 whose adapter is in fp32 [byte].

    Parameters
    ----------
    rows, inputs, outputs, rank : int
        Tokens, widths of the projection and rank of the adapter [count].

    Notes
    -----
    As peft's ``Linear.forward`` does, the input is converted to the adapter's format, and the sum to
    that of the projection.
    """
    frozen = nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16)
    frozen.requires_grad_(requires_grad=False)
    down, up = torch.randn(rank, inputs), torch.randn(outputs, rank)
    down.requires_grad_()
    up.requires_grad_()
    hidden = torch.randn(rows, inputs, dtype=torch.bfloat16, requires_grad=True)
    saved = Saved(iter((frozen.weight, down, up)))
    with one_thread(), saved.seen():
        own = frozen(hidden)
        added = functional.linear(functional.linear(hidden.to(down.dtype), down), up)
        out = (own + added * 2.0).to(own.dtype)
    del out
    return saved.total
