"""Tensor and sequence parallelism after Megatron-LM, by hand.

References
----------
M. Shoeybi et al., "Megatron-LM," 2019, section 3, arXiv:1909.08053 (f and g, the embedding and the
loss split by vocabulary); V. Korthikanti et al., 2022, section 4.2.2, arXiv:2205.05198 (g and its
conjugate along the sequence, the input gathered again in the backward).
"""

from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch.autograd import Function

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import COPIED, REGATHER, REPLICATED, Observed
from validation.torch_programs.sizes import Sizes, Work

Group: TypeAlias = dist.ProcessGroup | None

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def _sum(tensor: torch.Tensor, group: Group) -> torch.Tensor:
    """Return the sum over a group."""
    total = tensor.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


def _gather(tensor: torch.Tensor, group: Group) -> torch.Tensor:
    """Return the parts of a sequence together."""
    whole = tensor.new_empty(tensor.shape[0] * dist.get_world_size(group), *tensor.shape[1:])
    _all_gather(whole, tensor.contiguous(), group=group)
    return whole


def _scatter(tensor: torch.Tensor, group: Group) -> torch.Tensor:
    """Return this rank's part of the sequence of the sum over a group."""
    part = tensor.new_empty(tensor.shape[0] // dist.get_world_size(group), *tensor.shape[1:])
    _reduce_scatter(part, tensor.contiguous(), group=group)
    return part


class _Enter(Function):
    """f: nothing in the forward, the gradient summed in the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _sum(gradient, ctx.group), None


class _Leave(Function):
    """g: the partial products summed in the forward, nothing in the backward."""

    @staticmethod
    def forward(_: Any, partial: torch.Tensor, group: Group) -> torch.Tensor:
        return _sum(partial, group)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class _LeaveToSequence(Function):
    """Partial products summed and scattered along the sequence, gradients gathered."""

    @staticmethod
    def forward(ctx: Any, partial: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return _scatter(partial, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _gather(gradient, ctx.group), None


class _ColumnsFromSequence(Function):
    """Product with a matrix split by outputs, of an input that is split along the sequence."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.group = group
        return _gather(hidden, group) @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        hidden, weight = ctx.saved_tensors
        with labelled(REGATHER):
            whole = _gather(hidden, ctx.group)
        weight_gradient = gradient.flatten(0, 1).T @ whole.flatten(0, 1)
        return _scatter(gradient @ weight, ctx.group), weight_gradient, None


class _GatherSequence(Function):
    """Parts of a sequence gathered; of their gradients a rank takes its part of the sum."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return _gather(hidden, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _scatter(gradient, ctx.group), None


class _GatherColumns(Function):
    """Columns of all ranks beside each other; of the gradient each takes its own."""

    @staticmethod
    def forward(ctx: Any, columns: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        parts = _gather(columns, group).chunk(dist.get_world_size(group))
        return torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        size, rank = dist.get_world_size(ctx.group), dist.get_rank(ctx.group)
        return gradient.chunk(size, dim=-1)[rank], None


class _SplitSequence(Function):
    """The rank's part of a sequence that every rank has; gradients are gathered."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return hidden.chunk(dist.get_world_size(group))[dist.get_rank(group)].clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _gather(gradient, ctx.group), None


class _VocabularyParallelLoss(Function):
    """Mean cross entropy of logits split by vocabulary: three sums of a number a token."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, group: Group
    ) -> torch.Tensor:
        rows = logits.shape[-1]
        local = targets - rows * dist.get_rank(group)
        mine = (local >= 0) & (local < rows)
        index = local.clamp(0, rows - 1).unsqueeze(-1)
        largest = logits.amax(-1)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        shifted = logits - largest.unsqueeze(-1)
        chosen = _sum(shifted.gather(-1, index).squeeze(-1) * mine, group)
        exponentials = shifted.exp()
        total = _sum(exponentials.sum(-1), group)
        ctx.save_for_backward(exponentials / total.unsqueeze(-1), index, mine)
        return (total.log() - chosen).mean()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        probabilities, index, mine = ctx.saved_tensors
        own = torch.zeros_like(probabilities).scatter_(-1, index, 1.0) * mine.unsqueeze(-1)
        return gradient * (probabilities - own) / mine.numel(), None, None


class TensorParallel(Whole):
    """Matrices split over a group, by default all ranks; activations between them are whole."""

    def __init__(self, group: Group = None) -> None:
        self.group = group
        self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)

    def embed(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, those of other ranks' rows summed in."""
        return self._leave(self._own_embeddings(tokens, weight))

    def _own_embeddings(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        local = tokens - weight.shape[0] * self.rank
        mine = (local >= 0) & (local < weight.shape[0])
        rows = super().embed(local.clamp(0, weight.shape[0] - 1), weight)
        return rows * mine.unsqueeze(-1)

    def _leave(self, partial: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(_Leave.apply(partial, self.group))

    def columns(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with this rank's columns; their input's gradient is summed."""
        return super().columns(torch.as_tensor(_Enter.apply(hidden, self.group)), weight)

    def gathered(self, columns: torch.Tensor) -> torch.Tensor:
        """Return all ranks' columns."""
        return torch.as_tensor(_GatherColumns.apply(columns, self.group))

    def shared(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what all heads read; the gradients of all ranks' heads are summed."""
        return torch.as_tensor(_Enter.apply(hidden, self.group))

    def rows(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with all ranks' rows."""
        return self._leave(super().rows(hidden, weight))

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of logits that are split by vocabulary."""
        return torch.as_tensor(_VocabularyParallelLoss.apply(logits, targets, self.group))


class SequenceParallel(TensorParallel):
    """As tensor parallelism; activations between matrices are split along the sequence."""

    def _leave(self, partial: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(_LeaveToSequence.apply(partial, self.group))

    def columns(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product of the whole sequence with this rank's columns."""
        return torch.as_tensor(_ColumnsFromSequence.apply(hidden, weight, self.group))

    def shared(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return what all heads read, for the whole sequence."""
        return torch.as_tensor(_GatherSequence.apply(hidden, self.group))

    def gathered(self, columns: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of the sequence of all ranks' columns."""
        return torch.as_tensor(_SplitSequence.apply(super().gathered(columns), self.group))


def reduce_copies(model: Decoder, sizes: Sizes, group: Group) -> None:
    """Sum the gradients of the key and value head that this rank shares, of all layers in one call."""
    parts = []
    for name, weight in model.named_parameters():
        if name.endswith("query_key_value"):
            assert weight.grad is not None  # noqa: S101 - every one takes part
            parts.append(weight.grad[-2 * sizes.head_size :])
    whole = torch.stack(parts)
    with labelled(COPIED):
        dist.all_reduce(whole, group=group)
    for part, summed in zip(parts, whole, strict=True):
        part.copy_(summed)


def _ranks_that_share(sizes: Sizes) -> Group:
    """Return the group of ranks with the same key and value head, None where each has its own."""
    ranks = dist.get_world_size()
    copies = ranks // sizes.num_key_value_heads
    if copies <= 1:
        return None
    groups = [
        dist.new_group(list(range(first, first + copies))) for first in range(0, ranks, copies)
    ]
    own: Group = groups[dist.get_rank() // copies]
    return own


def reduce_replicated(model: Decoder, group: Group = None) -> None:
    """Sum gradients of norms and of what compresses: every rank has seen its part of the sequence.

    As Megatron-LM does: all of them in one call.
    """
    whole_weights = [
        weight for name, weight in model.named_parameters() if "norm" in name or "compress" in name
    ]
    gradients = [weight.grad for weight in whole_weights if weight.grad is not None]
    assert len(gradients) == len(whole_weights)  # noqa: S101 - every one takes part
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    with labelled(REPLICATED):
        dist.all_reduce(whole, group=group)
    pieces = whole.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def train(sizes: Sizes, work: Work, *, sequence_parallel: bool, recompute: str) -> Observed:
    """Train with tensor parallelism over all ranks, and return what this rank saw."""
    split = SequenceParallel() if sequence_parallel else TensorParallel()
    model = Decoder(sizes, split, recompute=recompute)
    sharing = _ranks_that_share(sizes)

    def run_step(step: int) -> float:
        losses = [
            training.backpropagate(model, split, tokens, targets)
            for tokens, targets in training.microbatches(sizes, work, step=step)
        ]
        if sequence_parallel:
            reduce_replicated(model)
        if sharing is not None:
            reduce_copies(model, sizes, sharing)
        training.descend(list(model.parameters()), microbatch_count=len(losses))
        return sum(losses) / len(losses)

    return training.observed(run_step)
