"""One linear layer on several ranks, by columns and by rows, with uneven and with empty parts."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.autograd import Function

from validation.torch_programs.counting import WorkCounter
from validation.torch_programs.interception import Recorder, labelled
from validation.torch_programs.records import BACKWARD, FORWARD, Call
from validation.torch_programs.wire import replayed_by_label


class Shared(NamedTuple):
    """What one rank saw of the layer.

    Attributes
    ----------
    calls : tuple of Call
        Of forward and backward.
    sent_bytes : dict of str to int
        Bytes that leave the rank when the calls run again as rings, by label [byte].
    forward_flop, backward_flop : int
        Work of its matrix products, by torch's counter [FLOP].
    weight_bytes, bias_bytes, input_bytes, output_bytes : int
        Of its tensors [byte].
    error : float
        Largest difference of output and gradients from the same layer on one rank.
    """

    calls: tuple[Call, ...]
    sent_bytes: dict[str, int]
    forward_flop: int
    backward_flop: int
    weight_bytes: int
    bias_bytes: int
    input_bytes: int
    output_bytes: int
    error: float


def part_of(tensor: torch.Tensor, dimension: int) -> torch.Tensor:
    """Return this rank's part of a dimension, dealt out by `torch.chunk`, empty beyond its parts."""
    parts = tensor.chunk(dist.get_world_size(), dimension)
    rank = dist.get_rank()
    return (parts[rank] if rank < len(parts) else tensor.narrow(dimension, 0, 0)).contiguous()


def _concatenated(part: torch.Tensor, width: int) -> torch.Tensor:
    """Return (tokens, width) of all ranks' columns; the parts are padded, for they may be uneven."""
    size = dist.get_world_size()
    padded = part.new_zeros(part.shape[0], -(-width // size))
    padded[:, : part.shape[1]] = part
    pieces = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(pieces, padded)
    return torch.cat(pieces, 1)[:, :width]


def _added(partial: torch.Tensor) -> torch.Tensor:
    """Return the sum over all ranks."""
    total = partial.contiguous().clone()
    dist.all_reduce(total)
    return total


class _Concatenate(Function):
    """Parts concatenated in the forward, this rank's part of the gradient in the backward."""

    @staticmethod
    def forward(_: Any, part: torch.Tensor, width: int) -> torch.Tensor:
        return _concatenated(part, width)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return part_of(gradient, 1), None


class _TakePart(Function):
    """The part of this rank in the forward, gradients of all parts concatenated in the backward."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor) -> torch.Tensor:
        ctx.width = whole.shape[1]
        return part_of(whole, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _concatenated(gradient, ctx.width)


class _Add(Function):
    """Sums over all ranks in the forward, nothing in the backward."""

    @staticmethod
    def forward(_: Any, partial: torch.Tensor) -> torch.Tensor:
        return _added(partial)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _AddGradients(Function):
    """Nothing in the forward, gradients added over all ranks in the backward."""

    @staticmethod
    def forward(_: Any, whole: torch.Tensor) -> torch.Tensor:
        return whole.view_as(whole)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _added(gradient)


def share_layer(
    input_size: int, output_size: int, tokens: int, *, by_column: bool, has_bias: bool
) -> Shared:
    """Run a linear layer forward and backward on all ranks, input and output whole on each.

    Parameters
    ----------
    input_size, output_size, tokens : int
        Of the whole layer [count].
    by_column : bool
        Whether outputs are split, else inputs.
    has_bias : bool
        Whether it has a bias.
    """
    generator = torch.Generator().manual_seed(3)
    # Small whole numbers: sums in any order are equal to the last bit.
    shapes = ((tokens, input_size), (input_size, output_size), (output_size,))
    hidden, weight, bias = (
        torch.randint(-3, 4, shape, generator=generator).double().requires_grad_()
        for shape in shapes
    )
    own_weight = part_of(weight.detach(), int(by_column)).requires_grad_()
    own_bias = (part_of(bias.detach(), 0) if by_column else bias.detach().clone()).requires_grad_()
    seen: dict[str, torch.Tensor] = {}
    with Recorder() as recorder:
        with labelled(FORWARD), WorkCounter() as forward:
            entering = _AddGradients if by_column else _TakePart
            seen["input"] = torch.as_tensor(entering.apply(hidden))
            seen["output"] = seen["input"] @ own_weight
            if by_column:
                part = seen["output"] + own_bias if has_bias else seen["output"]
                output = torch.as_tensor(_Concatenate.apply(part, output_size))
            else:
                output = torch.as_tensor(_Add.apply(seen["output"]))
                output = output + own_bias if has_bias else output
        with labelled(BACKWARD), WorkCounter() as backward:
            wanted = [hidden, own_weight, *([own_bias] if has_bias else [])]
            gradients = torch.autograd.grad(output.sum(), wanted)
    whole = hidden @ weight + (bias if has_bias else 0)
    truths = torch.autograd.grad(whole.sum(), [hidden, weight, *([bias] if has_bias else [])])
    parts = [truths[0], part_of(truths[1], int(by_column))]
    if has_bias:
        parts.append(part_of(truths[2], 0) if by_column else truths[2])
    pairs = zip((output, *gradients), (whole, *parts), strict=True)
    return Shared(
        calls=tuple(recorder.calls),
        sent_bytes=replayed_by_label(recorder.calls),
        forward_flop=forward.work.total,
        backward_flop=backward.work.total,
        weight_bytes=own_weight.nbytes,
        bias_bytes=own_bias.nbytes if has_bias else 0,
        input_bytes=seen["input"].nbytes,
        output_bytes=seen["output"].nbytes,
        error=max(_difference(found, truth) for found, truth in pairs),
    )


def _difference(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the largest difference of two tensors, zero where they are empty."""
    return float((found - truth).detach().abs().max()) if found.numel() else 0.0
