"""A decoder, or some of its layers, whose matrices may be split over tensor-parallel ranks.

Activations have the shape (sequence, microbatch, hidden), as in Megatron-LM. Weights follow from
their place in the model, so that every rank makes its own part of the same model.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from validation.torch_programs.sizes import Sizes


class Whole:
    """Matrices on one rank; the subclasses of `tensor_parallel` split them."""

    size = 1
    rank = 0

    def part(self, weight: torch.Tensor, dim: int) -> nn.Parameter:
        """Return this rank's part of a weight."""
        return nn.Parameter(weight.chunk(self.size, dim)[self.rank].clone())

    def embed(self, tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of tokens."""
        return functional.embedding(tokens, weight)

    def columns(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with a matrix that is split by its outputs."""
        return functional.linear(hidden, weight)

    def gathered(self, columns: torch.Tensor) -> torch.Tensor:
        """Return all ranks' columns of a product with a matrix that is split by its outputs."""
        return columns

    def shared(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return, for all tokens, what every rank's heads read."""
        return hidden

    def rows(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the product with a matrix that is split by its inputs."""
        return functional.linear(hidden, weight)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of logits that are split by vocabulary."""
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def _weight(place: int, *shape: int) -> torch.Tensor:
    """Return the weight at a place of the model, the same on every rank."""
    generator = torch.Generator().manual_seed(place)
    return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])


def _norm(hidden_size: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(hidden_size))


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def _attend_flat(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return attention in the layout that a fused kernel takes: one dimension of heads."""
    parts = [part.expand(*query.shape[:3], *part.shape[3:]).flatten(1, 2) for part in (key, value)]
    flat = _attend(query.flatten(1, 2), *parts)
    return flat.view(*query.shape[:3], *flat.shape[2:])


class Embedding(nn.Module):
    """The input embedding, split by vocabulary."""

    def __init__(self, sizes: Sizes, split: Whole) -> None:
        super().__init__()
        self.split = split
        self.weight = split.part(_weight(1, sizes.vocabulary_size, sizes.hidden_size), 0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of (microbatch, sequence) tokens, sequence first."""
        return self.split.embed(tokens.T, self.weight)


class Head(nn.Module):
    """The final norm and the language-model head, split by vocabulary."""

    def __init__(self, sizes: Sizes, split: Whole) -> None:
        super().__init__()
        self.split = split
        place = 1 if sizes.tied_embeddings else 2
        self.norm = _norm(sizes.hidden_size)
        self.weight = split.part(_weight(place, sizes.vocabulary_size, sizes.hidden_size), 0)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        normed = functional.rms_norm(hidden, self.norm.shape, self.norm)
        return self.split.columns(normed, self.weight)


class Layer(nn.Module):
    """A layer: attention and feed-forward network, each behind a norm, or side by side.

    Side by side both add to the stream in one sum over ranks. Behind one norm their first matrices
    are one, whose input has one gradient.
    """

    def __init__(
        self,
        sizes: Sizes,
        split: Whole,
        place: int,
        *,
        selective: bool,
        network: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.split, self.sizes, self.selective = split, sizes, selective
        self.fused = fused
        self.repeats_network = network
        hidden, head = sizes.hidden_size, sizes.head_size
        group = sizes.num_attention_heads // sizes.num_key_value_heads
        first = 1000 + 10 * place
        # Rows in the order of key and value heads: queries of the group, key, value.
        heads = _weight(first, sizes.num_key_value_heads * (group + 2) * head, hidden)
        self.group = group // max(split.size // sizes.num_key_value_heads, 1)
        self.attention_norm = _norm(hidden)
        self.query_key_value = self._own_heads(heads)
        width = sizes.num_attention_heads * head
        self.output = split.part(_weight(first + 1, hidden, width), 1)
        self.ffn_norm = _norm(hidden) if sizes.norms_per_layer > 1 else self.attention_norm
        matrices = 1 + sizes.gated
        self.up = split.part(_weight(first + 2, matrices * sizes.intermediate_size, hidden), 0)
        self.down = split.part(_weight(first + 3, hidden, sizes.intermediate_size), 1)

    def _own_heads(self, weight: torch.Tensor) -> nn.Parameter:
        """Return this rank's rows; ranks that share a key and value head have a copy of it each."""
        split, count = self.split, self.sizes.num_key_value_heads
        if split.size <= count:
            return split.part(weight, 0)
        ranks = split.size // count
        group = weight.unflatten(0, (count, -1, self.sizes.head_size))[split.rank // ranks]
        first = split.rank % ranks * self.group
        own = torch.cat((group[first : first + self.group], group[-2:]))
        return nn.Parameter(own.flatten(0, 1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        normed = functional.rms_norm(hidden, self.attention_norm.shape, self.attention_norm)
        if self.sizes.parallel_residual:
            return hidden + self._beside(hidden, normed)
        hidden = hidden + self.split.rows(self._attended(normed), self.output)
        normed = functional.rms_norm(hidden, self.ffn_norm.shape, self.ffn_norm)
        network: Any = (
            checkpoint(self._network, normed, use_reentrant=True)
            if self.repeats_network
            else self._network(normed)
        )
        return hidden + torch.as_tensor(network)

    def _attended(self, normed: torch.Tensor) -> torch.Tensor:
        """Return what this rank's heads give."""
        return self._attend(self.split.columns(normed, self.query_key_value))

    def _network(self, normed: torch.Tensor) -> torch.Tensor:
        """Return what the feed-forward network adds."""
        return self.split.rows(self._activate(self.split.columns(normed, self.up)), self.down)

    def _beside(self, hidden: torch.Tensor, normed: torch.Tensor) -> torch.Tensor:
        """Return what attention and network add, both reading the same stream."""
        if self.sizes.norms_per_layer == 1:
            widths = [self.query_key_value.shape[0], self.up.shape[0]]
            matrices = torch.cat((self.query_key_value, self.up))
            projected, wide = self.split.columns(normed, matrices).split(widths, dim=-1)
        else:
            projected = self.split.columns(normed, self.query_key_value)
            normed = functional.rms_norm(hidden, self.ffn_norm.shape, self.ffn_norm)
            wide = self.split.columns(normed, self.up)
        both = torch.cat((self._attend(projected), self._activate(wide)), dim=-1)
        return self.split.rows(both, torch.cat((self.output, self.down), dim=-1))

    def _attend(self, projected: torch.Tensor) -> torch.Tensor:
        """Return attention of this rank's heads, from queries, keys and values."""
        heads = projected.unflatten(-1, (-1, self.group + 2, self.sizes.head_size))
        query, key, value = heads.split((self.group, 1, 1), dim=-2)
        # (sequence, microbatch, groups, heads of a group, head) to heads before the sequence
        parts = [part.permute(1, 2, 3, 0, 4) for part in (query, key, value)]
        if self.selective:
            attended = checkpoint(_attend, *parts, use_reentrant=False)
        else:
            attended = (_attend_flat if self.fused else _attend)(*parts)
        return torch.as_tensor(attended.permute(3, 0, 1, 2, 4).flatten(2))

    def _activate(self, wide: torch.Tensor) -> torch.Tensor:
        """Return what goes into the network's last matrix."""
        if self.sizes.gated:
            # A rank's part has the same columns of both; fused code has them side by side.
            pairs = wide.unflatten(-1, (2, -1) if self.fused else (-1, 2))
            gate, wide = pairs.unbind(-2 if self.fused else -1)
            return functional.silu(gate) * wide
        return functional.gelu(wide)


class LatentLayer(Layer):
    """A layer with latent attention: what compresses is whole on every rank, heads are split.

    DeepSeek-AI 2024, arXiv:2405.04434, section 2.1, without the rotation, which sends nothing.
    """

    def __init__(self, sizes: Sizes, split: Whole, place: int, **options: bool) -> None:
        super().__init__(sizes, split, place, **options)
        del self.query_key_value
        hidden, heads, head = sizes.hidden_size, sizes.num_attention_heads, sizes.head_size
        rank, first = sizes.query_rank, 1000 + 10 * place
        if rank:
            self.compress_query = nn.Parameter(_weight(first + 4, rank, hidden))
            self.query_norm = _norm(rank)
        widths = sizes.key_value_rank + sizes.rotated_size
        self.compress_key_value = nn.Parameter(_weight(first + 5, widths, hidden))
        self.key_value_norm = _norm(sizes.key_value_rank)
        self.query = split.part(
            _weight(first + 6, heads * (head + sizes.rotated_size), rank or hidden), 0
        )
        self.key_value = split.part(_weight(first + 7, heads * 2 * head, sizes.key_value_rank), 0)

    def _attended(self, normed: torch.Tensor) -> torch.Tensor:
        sizes, head = self.sizes, self.sizes.head_size
        queries = normed
        if sizes.query_rank:
            queries = functional.linear(normed, self.compress_query)
            queries = functional.rms_norm(queries, self.query_norm.shape, self.query_norm)
        both = functional.linear(normed, self.compress_key_value)
        compressed, rotated = both.split((sizes.key_value_rank, sizes.rotated_size), dim=-1)
        compressed = functional.rms_norm(compressed, self.key_value_norm.shape, self.key_value_norm)
        query = self.split.columns(queries, self.query).unflatten(
            -1, (-1, head + rotated.shape[-1])
        )
        key, value = (
            self.split.columns(compressed, self.key_value).unflatten(-1, (-1, 2, head)).unbind(-2)
        )
        same = self.split.shared(rotated).unsqueeze(-2).expand(*key.shape[:-1], -1)
        key = torch.cat((key, same), dim=-1)
        # (sequence, microbatch, heads, head) to heads before the sequence
        attended = _attend(*(part.permute(1, 2, 0, 3) for part in (query, key, value)))
        return attended.permute(2, 0, 1, 3).flatten(2)


class Further(nn.Module):
    """One depth of multi-token prediction before the head, as Megatron-LM splits it.

    The projection is split by its outputs, which are gathered.
    """

    def __init__(self, sizes: Sizes, split: Whole, place: int, *, selective: bool) -> None:
        super().__init__()
        hidden = sizes.hidden_size
        self.split = split
        self.hidden_norm, self.embedding_norm = _norm(hidden), _norm(hidden)
        self.projection = split.part(_weight(1005 + 10 * place, hidden, 2 * hidden), 0)
        self.layer = Layer(sizes, split, place, selective=selective)
        self.out_norm = _norm(hidden)

    def forward(self, hidden: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        hidden = functional.rms_norm(hidden, self.hidden_norm.shape, self.hidden_norm)
        embedded = functional.rms_norm(embedded, self.embedding_norm.shape, self.embedding_norm)
        both = torch.cat((embedded, hidden), dim=-1)
        projected = self.split.gathered(self.split.columns(both, self.projection))
        return torch.as_tensor(self.layer(projected))


class Decoder(nn.Module):
    """A decoder, or the part of it that a chunk of a pipeline holds.

    Parameters
    ----------
    sizes : Sizes
        Of the whole model.
    split : Whole
        How matrices are split.
    layers : sequence of int, optional
        Layers that it holds; None for all [index].
    holds_embedding, holds_head : bool
        Whether it holds the ends. A tied head is one matrix where it holds both.
    recompute : str
        ``none``; ``selective``: the inside of attention is computed again; ``mlp``: the network of
        each layer is, behind its norm; ``full``: each layer is,
        as a whole; ``full-early-stop``: until the last tensor that the backward needs, which is
        torch's default.
    fused : bool
        Whether attention is laid out for torch's fused kernel, which operators are not counted in,
        and gate and values lie side by side. Weights mean something else then: for times only.
    """

    def __init__(
        self,
        sizes: Sizes,
        split: Whole,
        *,
        layers: Sequence[int] | None = None,
        holds_embedding: bool = True,
        holds_head: bool = True,
        recompute: str = "none",
        fused: bool = False,
    ) -> None:
        super().__init__()
        held = range(sizes.num_hidden_layers) if layers is None else layers
        self.split, self.recompute = split, recompute
        self.embedding = Embedding(sizes, split) if holds_embedding else None
        selective, network = recompute == "selective", recompute == "mlp"
        layer = LatentLayer if sizes.key_value_rank else Layer
        self.layers = nn.ModuleList(
            layer(sizes, split, index, selective=selective, network=network, fused=fused)
            for index in held
        )
        self.head = Head(sizes, split) if holds_head else None
        depths = range(sizes.multi_token_prediction_layers if holds_head else 0)
        self.further = nn.ModuleList(
            Further(sizes, split, sizes.num_hidden_layers + depth, selective=selective)
            for depth in depths
        )
        if self.head and self.embedding and sizes.tied_embeddings:
            self.head.weight = self.embedding.weight

    def all_logits(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of the next token and of each further one, of a whole decoder."""
        assert self.embedding is not None  # noqa: S101 - tells the type checker
        assert self.head is not None  # noqa: S101 - tells the type checker
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = self._through(layer, hidden)
        normed = functional.rms_norm(hidden, self.head.norm.shape, self.head.norm)
        logits = [self.split.columns(normed, self.head.weight)]
        for depth, further in enumerate(self.further, 1):
            embedded = self.embedding(tokens.roll(-depth, dims=1))
            hidden = self._through(further, normed, embedded)
            out_norm = further.get_parameter("out_norm")
            normed = functional.rms_norm(hidden, out_norm.shape, out_norm)
            logits.append(self.split.columns(normed, self.head.weight))
        return logits

    def forward(self, entering: torch.Tensor) -> torch.Tensor:
        """Return logits, or the activation for the next chunk."""
        hidden: Any = entering if self.embedding is None else self.embedding(entering)
        for layer in self.layers:
            hidden = self._through(layer, hidden)
        if self.head is not None:
            hidden = self.head(hidden)
        return torch.as_tensor(hidden)

    def _through(self, layer: nn.Module, *entering: torch.Tensor) -> Any:
        if not self.recompute.startswith("full"):
            return layer(*entering)
        return checkpoint(layer, *entering, use_reentrant=self.recompute == "full")
