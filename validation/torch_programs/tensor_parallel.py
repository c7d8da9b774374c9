"""Tensor and sequence parallelism after Megatron-LM, by hand.

References
----------
M. Shoeybi et al., "Megatron-LM," 2019, section 3, arXiv:1909.08053 (f and g, the embedding and the
loss split by vocabulary); V. Korthikanti et al., 2022, section 4.2.2, arXiv:2205.05198 (g and its
conjugate along the sequence, the input gathered again in the backward).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import Function

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import REGATHER, REPLICATED, Observed
from validation.torch_programs.sizes import Sizes, Work

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum over all ranks."""
    total = tensor.contiguous().clone()
    dist.all_reduce(total)
    return total


def _gather(tensor: torch.Tensor) -> torch.Tensor:
    """Return the parts of a sequence together."""
    whole = tensor.new_empty(tensor.shape[0] * dist.get_world_size(), *tensor.shape[1:])
    _all_gather(whole, tensor.contiguous())
    return whole


def _scatter(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of the sequence of the sum over all ranks."""
    part = tensor.new_empty(tensor.shape[0] // dist.get_world_size(), *tensor.shape[1:])
    _reduce_scatter(part, tensor.contiguous())
    return part


class _Enter(Function):
    """f: nothing in the forward, the gradient summed in the backward."""

    @staticmethod
    def forward(_: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.view_as(hidden)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _sum(gradient)


class _Leave(Function):
    """g: the partial products summed in the forward, nothing in the backward."""

    @staticmethod
    def forward(_: Any, partial: torch.Tensor) -> torch.Tensor:
        return _sum(partial)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _LeaveToSequence(Function):
    """Partial products summed and scattered along the sequence, gradients gathered."""

    @staticmethod
    def forward(_: Any, partial: torch.Tensor) -> torch.Tensor:
        return _scatter(partial)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _gather(gradient)


class _ColumnsFromSequence(Function):
    """Product with a matrix split by outputs, of an input that is split along the sequence."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        return _gather(hidden) @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, weight = ctx.saved_tensors
        with labelled(REGATHER):
            whole = _gather(hidden)
        weight_gradient = gradient.flatten(0, 1).T @ whole.flatten(0, 1)
        return _scatter(gradient @ weight), weight_gradient


class _VocabularyParallelLoss(Function):
    """Mean cross entropy of logits split by vocabulary: three sums of a number a token."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = logits.shape[-1]
        local = targets - rows * dist.get_rank()
        mine = (local >= 0) & (local < rows)
        index = local.clamp(0, rows - 1).unsqueeze(-1)
        largest = logits.amax(-1)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        shifted = logits - largest.unsqueeze(-1)
        chosen = _sum(shifted.gather(-1, index).squeeze(-1) * mine)
        exponentials = shifted.exp()
        total = _sum(exponentials.sum(-1))
        ctx.save_for_backward(exponentials / total.unsqueeze(-1), index, mine)
        return (total.log() - chosen).mean()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        probabilities, index, mine = ctx.saved_tensors
        own = torch.zeros_like(probabilities).scatter_(-1, index, 1.0) * mine.unsqueeze(-1)
        return gradient * (probabilities - own) / mine.numel(), None


class TensorParallel(Whole):
    """Matrices split over all ranks; activations between them whole on every rank."""

    def __init__(self) -> None:
        self.size, self.rank = dist.get_world_size(), dist.get_rank()

    def embed(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, those of other ranks' rows summed in."""
        return self._leave(self._own_embeddings(tokens, weight))

    def _own_embeddings(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        local = tokens - weight.shape[0] * self.rank
        mine = (local >= 0) & (local < weight.shape[0])
        rows = super().embed(local.clamp(0, weight.shape[0] - 1), weight)
        return rows * mine.unsqueeze(-1)

    def _leave(self, partial: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(_Leave.apply(partial))

    def columns(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with this rank's columns; their input's gradient is summed."""
        return super().columns(torch.as_tensor(_Enter.apply(hidden)), weight)

    def rows(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with all ranks' rows."""
        return self._leave(super().rows(hidden, weight))

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of logits that are split by vocabulary."""
        return torch.as_tensor(_VocabularyParallelLoss.apply(logits, targets))


class SequenceParallel(TensorParallel):
    """As tensor parallelism; activations between matrices are split along the sequence."""

    def _leave(self, partial: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(_LeaveToSequence.apply(partial))

    def columns(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product of the whole sequence with this rank's columns."""
        return torch.as_tensor(_ColumnsFromSequence.apply(hidden, weight))


def _reduce_replicated(model: Decoder) -> None:
    """Sum the gradients of the norms, of which every rank has seen its part of the sequence."""
    with labelled(REPLICATED):
        for name, parameter in model.named_parameters():
            if "norm" in name:
                assert parameter.grad is not None  # noqa: S101 - every parameter takes part
                dist.all_reduce(parameter.grad)


def train(sizes: Sizes, work: Work, *, sequence_parallel: bool, recompute: str) -> Observed:
    """Train with tensor parallelism over all ranks, and return what this rank saw."""
    split = SequenceParallel() if sequence_parallel else TensorParallel()
    model = Decoder(sizes, split, recompute=recompute)

    def run_step(step: int) -> float:
        losses = [
            training.backpropagate(model, split, tokens, targets)
            for tokens, targets in training.microbatches(sizes, work, step=step)
        ]
        if sequence_parallel:
            _reduce_replicated(model)
        training.descend(list(model.parameters()), microbatch_count=len(losses))
        return sum(losses) / len(losses)

    return training.observed(run_step)
