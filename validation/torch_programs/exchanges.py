"""Exchanges of expert and context parallelism: tokens to experts and back, keys and values in a ring.

References
----------
S. Rajbhandari et al., "DeepSpeed-MoE," 2022, arXiv:2201.05596 (all-to-all before and after the
experts); H. Liu et al., "Ring Attention with Blockwise Transformers," 2023, arXiv:2310.01889.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.autograd import Function

from validation.torch_programs.interception import Recorder, labelled
from validation.torch_programs.records import BACKWARD, FORWARD, Call
from validation.torch_programs.wire import passed_on, replayed_by_label


class Exchanged(NamedTuple):
    """What one rank saw of an exchange.

    Attributes
    ----------
    calls : tuple of Call
        Of forward and backward.
    sent_bytes : dict of str to int
        Bytes that leave the rank, by label [byte].
    error : float
        Largest difference of output and gradients from the same on one rank.
    """

    calls: tuple[Call, ...]
    sent_bytes: dict[str, int]
    error: float


class _AllToAll(Function):
    """Equal parts to all ranks; the backward sends the gradients the same way back."""

    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        received = torch.empty_like(rows)
        dist.all_to_all_single(received, rows.contiguous())
        return received

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        received = torch.empty_like(gradient)
        dist.all_to_all_single(received, gradient.contiguous())
        return received


def _routes(tokens: int, experts: int, chosen: int) -> torch.Tensor:
    """Return (tokens, chosen) experts, each chosen equally often by a rank's tokens."""
    return (torch.arange(tokens * chosen) % experts).reshape(tokens, chosen)


def _expert_parallel(
    hidden: torch.Tensor, weights: torch.Tensor, routes: torch.Tensor
) -> torch.Tensor:
    """Return the mean of each token's experts, of which every rank holds an equal part."""
    size, experts = dist.get_world_size(), len(weights)
    order = routes.flatten().argsort(stable=True)
    copies = hidden.repeat_interleave(routes.shape[1], 0)[order]
    arrived = torch.as_tensor(_AllToAll.apply(copies))
    # From each rank the rows of each expert here, all equally many.
    by_rank = arrived.reshape(size, experts // size, -1, hidden.shape[-1])
    mine = weights[dist.get_rank() * experts // size :][: experts // size]
    done = torch.einsum("reth,ehk->retk", by_rank, mine).reshape_as(copies)
    returned = torch.as_tensor(_AllToAll.apply(done))
    unsorted = torch.empty_like(returned).index_copy(0, order, returned)
    return unsorted.reshape(*routes.shape, -1).mean(1)


def exchange_tokens(tokens: int, hidden_size: int, experts: int, chosen: int) -> Exchanged:
    """Run a mixture's experts over all ranks, forward and backward.

    Parameters
    ----------
    tokens, hidden_size : int
        Tokens of each rank, and their width [count].
    experts, chosen : int
        Experts of all ranks, and those that a token visits, balanced [count].
    """
    generator = torch.Generator().manual_seed(dist.get_rank())
    hidden = torch.randn(tokens, hidden_size, generator=generator, requires_grad=True)
    weights = torch.randn(
        experts, hidden_size, hidden_size, generator=torch.Generator().manual_seed(99)
    )
    routes = _routes(tokens, experts, chosen)
    with Recorder() as recorder:
        with labelled(FORWARD):
            output = _expert_parallel(hidden, weights, routes)
        with labelled(BACKWARD):
            (gradient,) = torch.autograd.grad(output.square().sum(), hidden)
    whole = torch.einsum("th,tkhj->tkj", hidden, weights[routes]).mean(1)
    (wanted,) = torch.autograd.grad(whole.square().sum(), hidden)
    error = _largest_error([(output, whole), (gradient, wanted)])
    return Exchanged(tuple(recorder.calls), replayed_by_label(recorder.calls), error)


def _largest_error(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the largest difference of a tensor from the one that it should be."""
    return max(float((found - wanted).detach().abs().max()) for found, wanted in pairs)


def _scores(query: torch.Tensor, key: torch.Tensor, place: int, source: int) -> torch.Tensor:
    """Return masked scores of (batch, groups, heads, tokens, size) queries with a rank's keys."""
    scores = query @ key.unsqueeze(2).transpose(-1, -2) / math.sqrt(query.shape[-1])
    tokens = query.shape[-2]
    first = torch.arange(tokens).unsqueeze(1) + place * tokens
    future = torch.arange(tokens) + source * tokens > first
    return scores.masked_fill(future, -math.inf)


class _RingAttention(Function):
    """Causal attention of queries that stay with keys and values that go round."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        ranks, place = range(dist.get_world_size()), dist.get_rank()
        block = torch.stack([key, value])
        largest = torch.full(query.shape[:-1], -math.inf).unsqueeze(-1)
        weight, output = torch.zeros_like(largest), torch.zeros_like(query)
        for step in ranks:
            block = passed_on(block, ranks) if step else block
            scores = _scores(query, block[0], place, (place - step) % len(ranks))
            higher = torch.maximum(largest, scores.amax(-1, keepdim=True))
            shrink, exponentials = (largest - higher).exp(), (scores - higher).exp()
            weight = weight * shrink + exponentials.sum(-1, keepdim=True)
            output = output * shrink + exponentials @ block[1].unsqueeze(2)
            largest = higher
        output = output / weight
        ctx.save_for_backward(query, key, value, output, largest + weight.log())
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, output, normalizer = ctx.saved_tensors
        ranks, place = range(dist.get_world_size()), dist.get_rank()
        block, travelling = torch.stack([key, value]), torch.zeros(0)
        query_gradient = torch.zeros_like(query)
        delta = (gradient * output).sum(-1, keepdim=True)
        for step in ranks:
            block = passed_on(block, ranks) if step else block
            scores = _scores(query, block[0], place, (place - step) % len(ranks))
            probabilities = (scores - normalizer).exp()
            inner = gradient @ block[1].unsqueeze(2).transpose(-1, -2) - delta
            inner = probabilities * inner / math.sqrt(query.shape[-1])
            query_gradient = query_gradient + inner @ block[0].unsqueeze(2)
            own = torch.stack(
                [
                    (inner.transpose(-1, -2) @ query).sum(2),
                    (probabilities.transpose(-1, -2) @ gradient).sum(2),
                ]
            )
            travelling = passed_on(travelling, ranks) + own if step else own
        home = passed_on(travelling, ranks)
        return query_gradient, home[0], home[1]


def pass_keys_and_values(
    tokens: int, batch: int, groups: int, heads_of_group: int, head_size: int
) -> Exchanged:
    """Run causal attention over a sequence that all ranks share, forward and backward.

    Parameters
    ----------
    tokens : int
        Of the whole sequence, which ranks hold in equal parts, in order [count].
    batch, groups, heads_of_group, head_size : int
        Sequences; key and value heads, query heads of each, width [count].

    Notes
    -----
    The forward passes keys and values on once less than there are ranks, and so does the backward.
    Gradients of keys and values travel with them and are passed on once more, to their owner.
    """
    generator = torch.Generator().manual_seed(5)
    shapes = [(batch, groups, heads, tokens, head_size) for heads in (heads_of_group, 1, 1)]
    wholes = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    size, rank = dist.get_world_size(), dist.get_rank()
    parts = [whole.detach().chunk(size, -2)[rank].clone().requires_grad_() for whole in wholes]
    query, key, value = parts
    with Recorder() as recorder:
        with labelled(FORWARD):
            output = torch.as_tensor(_RingAttention.apply(query, key.squeeze(2), value.squeeze(2)))
        with labelled(BACKWARD):
            gradients = torch.autograd.grad(output.square().sum(), parts)
    whole_query, whole_key, whole_value = wholes
    probabilities = _scores(whole_query, whole_key.squeeze(2), 0, 0).softmax(-1)
    wanted = probabilities @ whole_value
    wanted_gradients = torch.autograd.grad(wanted.square().sum(), wholes)
    pairs = [
        (found, whole.chunk(size, -2)[rank])
        for found, whole in zip((output, *gradients), (wanted, *wanted_gradients), strict=True)
    ]
    error = _largest_error(pairs)
    return Exchanged(tuple(recorder.calls), replayed_by_label(recorder.calls), error)
