"""Exchanges of expert and context parallelism: tokens to experts and back, keys and values.

References
----------
S. Rajbhandari et al., "DeepSpeed-MoE," 2022, arXiv:2201.05596 (all-to-all before and after the
experts); D. Liu et al., "MoE Parallel Folding," 2025, arXiv:2504.14960 (experts split over some
ranks and shared by others); H. Liu et al., "Ring Attention with Blockwise Transformers," 2023,
arXiv:2310.01889; Llama Team, 2024, arXiv:2407.21783, section 3.3.2 (keys and values gathered);
S. A. Jacobs et al., "DeepSpeed Ulysses," 2023, arXiv:2309.14509 (heads exchanged for tokens).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch.autograd import Function

from validation.torch_programs.interception import Recorder, labelled
from validation.torch_programs.records import BACKWARD, FORWARD, Call
from validation.torch_programs.wire import passed_on, replayed_by_label

Group: TypeAlias = dist.ProcessGroup | None

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


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


def _exchanged(rows: torch.Tensor, group: Group) -> torch.Tensor:
    received = torch.empty_like(rows)
    dist.all_to_all_single(received, rows.contiguous(), group=group)
    return received


def _gathered(part: torch.Tensor, group: Group) -> torch.Tensor:
    """Return the parts of all ranks, rank first."""
    whole = part.new_empty(dist.get_world_size(group), *part.shape)
    _all_gather(whole.flatten(0, 1), part.contiguous(), group=group)
    return whole


def _scattered(whole: torch.Tensor, group: Group) -> torch.Tensor:
    """Return this rank's part of the sum of what all ranks have, rank first."""
    part = whole.new_empty(whole.shape[1:])
    _reduce_scatter(part, whole.contiguous().flatten(0, 1), group=group)
    return part


class AllToAll(Function):
    """Equal parts to all ranks; the backward sends the gradients the same way back."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, group: Group) -> torch.Tensor:
        """Return a part from each rank."""
        ctx.group = group
        return _exchanged(rows, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradients from each rank."""
        return _exchanged(gradient, ctx.group), None


class _Gather(Function):
    """The parts of all ranks; the backward sums their gradients and scatters them."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return _gathered(part, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _scattered(gradient, ctx.group), None


class _Scatter(Function):
    """A rank's part of a sum; the backward gathers the gradients."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.group = group
        return _scattered(whole, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _gathered(gradient, ctx.group), None


class _Experts(NamedTuple):
    """The two matrices of every expert: (experts, inner, hidden) and (experts, hidden, inner)."""

    up: torch.Tensor
    down: torch.Tensor


def balanced_routes(tokens: int, experts: int, chosen: int) -> torch.Tensor:
    """Return (tokens, chosen) experts, each chosen equally often by a rank's tokens."""
    return (torch.arange(tokens * chosen) % experts).reshape(tokens, chosen)


def _slots(routes: torch.Tensor, experts: int, capacity: int) -> torch.Tensor:
    """Return (experts, capacity) places among all visits, one past the last for an empty slot."""
    visits = routes.flatten()
    slots = torch.full((experts, capacity), len(visits))
    for expert in range(experts):
        own = (visits == expert).nonzero().flatten()[:capacity]
        slots[expert, : len(own)] = own
    return slots


def _expert_parallel(
    hidden: torch.Tensor, experts: _Experts, slots: torch.Tensor, chosen: int, groups: list[Group]
) -> torch.Tensor:
    """Return the mean of what each token's experts make of it.

    Ranks of the first group share the experts, ranks of the second split each of them.
    """
    sharing, splitting = groups
    size, split = dist.get_world_size(sharing), dist.get_world_size(splitting)
    count, capacity = slots.shape
    visits = hidden.repeat_interleave(chosen, 0)
    filled = torch.cat([visits, visits.new_zeros(1, hidden.shape[-1])])
    rows = torch.as_tensor(AllToAll.apply(filled[slots.flatten()], sharing))
    # From each rank the rows of each expert here, all equally many.
    rows = rows.reshape(size, count // size, capacity, -1).unsqueeze(0)
    if split > 1:
        rows = torch.as_tensor(_Gather.apply(rows[0], splitting))
    place = slice(dist.get_rank(sharing) * count // size, None)
    up, down = (matrix[place][: count // size] for matrix in experts)
    up = up.chunk(split, 1)[dist.get_rank(splitting) if split > 1 else 0]
    down = down.chunk(split, 2)[dist.get_rank(splitting) if split > 1 else 0]
    inner = torch.einsum("srech,eih->sreci", rows, up).tanh()
    done = torch.einsum("sreci,ehi->srech", inner, down)
    part = torch.as_tensor(_Scatter.apply(done, splitting)) if split > 1 else done[0]
    returned = torch.as_tensor(AllToAll.apply(part.reshape(count * capacity, -1), sharing))
    kept = torch.zeros_like(filled).index_add(0, slots.flatten(), returned)
    return kept[:-1].reshape(len(hidden), chosen, -1).mean(1)


def _on_one_rank(
    hidden: torch.Tensor, experts: _Experts, routes: torch.Tensor, slots: torch.Tensor
) -> torch.Tensor:
    """Return the same, with whole experts and every rank's own tokens."""
    inner = torch.einsum("th,tkih->tki", hidden, experts.up[routes]).tanh()
    made = torch.einsum("tki,tkhi->tkh", inner, experts.down[routes])
    kept = torch.zeros(routes.numel() + 1).index_fill(0, slots.flatten(), 1.0)[:-1]
    return (made * kept.reshape(*routes.shape, 1)).mean(1)


def exchange_tokens(
    tokens: int,
    hidden_size: int,
    experts: int,
    chosen: int,
    *,
    split: int = 1,
    capacity: int | None = None,
) -> Exchanged:
    """Run a mixture's experts over all ranks, forward and backward.

    Parameters
    ----------
    tokens, hidden_size : int
        Tokens of each rank, and their width [count].
    experts, chosen : int
        Experts of all ranks, and those that a token visits, balanced [count].
    split : int
        Neighbouring ranks that split each expert; the others share the experts [count].
    capacity : int or None
        Rows of each expert from each rank, filled or cut; None drops nothing [count].
    """
    ranks, rank = dist.get_world_size(), dist.get_rank()
    sharing = [dist.new_group(list(range(place, ranks, split))) for place in range(split)]
    splitting = [
        dist.new_group(list(range(first, first + split))) for first in range(0, ranks, split)
    ]
    generator = torch.Generator().manual_seed(rank)
    hidden = torch.randn(tokens, hidden_size, generator=generator, requires_grad=True)
    generator = torch.Generator().manual_seed(99)
    inner_size = 2 * split
    weights = _Experts(
        torch.randn(experts, inner_size, hidden_size, generator=generator),
        torch.randn(experts, hidden_size, inner_size, generator=generator),
    )
    routes = balanced_routes(tokens, experts, chosen)
    slots = _slots(routes, experts, capacity or tokens * chosen // experts)
    groups = [sharing[rank % split], splitting[rank // split]]
    with Recorder() as recorder:
        with labelled(FORWARD):
            output = _expert_parallel(hidden, weights, slots, chosen, groups)
        with labelled(BACKWARD):
            (gradient,) = torch.autograd.grad(output.square().sum(), hidden)
    whole = _on_one_rank(hidden, weights, routes, slots)
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


def _run_attention(
    attend: Callable[..., Any], tokens: int, batch: int, heads: tuple[int, int, int]
) -> Exchanged:
    """Run causal attention over a sequence that all ranks share, and the same on one rank."""
    groups, heads_of_group, head_size = heads
    generator = torch.Generator().manual_seed(5)
    shapes = [(batch, groups, count, tokens, head_size) for count in (heads_of_group, 1, 1)]
    wholes = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    size, rank = dist.get_world_size(), dist.get_rank()
    parts = [whole.detach().chunk(size, -2)[rank].clone().requires_grad_() for whole in wholes]
    query, key, value = parts
    with Recorder() as recorder:
        with labelled(FORWARD):
            output = torch.as_tensor(attend(query, key.squeeze(2), value.squeeze(2)))
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
    return _run_attention(_RingAttention.apply, tokens, batch, (groups, heads_of_group, head_size))


class _GatheredAttention(Function):
    """Causal attention of queries that stay with the keys and values of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        output, _ = _attend_gathered(query, key, value)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value = ctx.saved_tensors
        # Only this rank's keys and values were kept: they are gathered again.
        with torch.enable_grad():
            own = query.detach().requires_grad_()
            output, block = _attend_gathered(own, key, value)
            query_gradient, whole = torch.autograd.grad(output, (own, block), gradient)
        mine = _scattered(whole.detach(), None)
        return query_gradient, mine[0], mine[1]


def _attend_gathered(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output of a rank's queries, and all keys and values, rank first."""
    block = _gathered(torch.stack([key, value]).detach(), None)
    block.requires_grad_(torch.is_grad_enabled())
    place, size = dist.get_rank(), dist.get_world_size()
    scores = torch.cat(
        [_scores(query, block[source, 0], place, source) for source in range(size)], -1
    )
    values = torch.cat([block[source, 1] for source in range(size)], -2)
    return scores.softmax(-1) @ values.unsqueeze(2), block


def gather_keys_and_values(
    tokens: int, batch: int, groups: int, heads_of_group: int, head_size: int
) -> Exchanged:
    """Run causal attention whose keys and values are gathered (parameters: as around a ring).

    Notes
    -----
    Keys and values are gathered in the forward and again in the backward, each time in one call;
    their gradients are summed and scattered.
    """
    return _run_attention(
        _GatheredAttention.apply, tokens, batch, (groups, heads_of_group, head_size)
    )


def _swap(parts: Sequence[torch.Tensor], *, heads_first: bool) -> list[torch.Tensor]:
    """Exchange heads for tokens, of (batch, heads, tokens, size) tensors, all in one call.

    Each rank gets all tokens for its part of the heads of each tensor, or the other way round.
    """
    size = dist.get_world_size()
    cut, joined = (1, 2) if heads_first else (2, 1)
    pieces = [part.chunk(size, cut) for part in parts]
    shapes = [piece[0].shape for piece in pieces]
    message = torch.cat([piece[r].flatten() for r in range(size) for piece in pieces])
    received = torch.as_tensor(AllToAll.apply(message, None)).chunk(size)
    sizes = [math.prod(shape) for shape in shapes]
    by_rank = [whole.split(sizes) for whole in received]
    return [
        torch.cat([by_rank[r][index].reshape(shape) for r in range(size)], joined)
        for index, shape in enumerate(shapes)
    ]


def _attend_by_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the output of a rank's queries, computed by the ranks of their heads."""
    group = query.shape[2]
    query, key, value = _swap([query.flatten(1, 2), key, value], heads_first=True)
    scores = _scores(query.unflatten(1, (-1, group)), key, 0, 0)
    output = scores.softmax(-1) @ value.unsqueeze(2)
    (mine,) = _swap([output.flatten(1, 2)], heads_first=False)
    return torch.as_tensor(mine.unflatten(1, (-1, group)))


def exchange_heads(
    tokens: int, batch: int, groups: int, heads_of_group: int, head_size: int
) -> Exchanged:
    """Run causal attention whose heads are exchanged for tokens (parameters: as around a ring).

    Notes
    -----
    Queries, keys and values go in one call, outputs in another; the backward sends gradients the
    same way.
    """
    return _run_attention(_attend_by_heads, tokens, batch, (groups, heads_of_group, head_size))
