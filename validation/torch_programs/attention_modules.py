"""Attention of every layout as modules of torch, built from our description of a model.

Attention is written as products and a softmax, so that a counter of work sees each of them. The bias
of scores of ALiBi is left out: it is neither a product nor a parameter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from costmodels.attention import patterns
from costmodels.attention.dilated import Branches
from costmodels.attention.in_layers import DELTA_CHUNK_LENGTH
from costmodels.attention.infini import Memory
from costmodels.attention.linear import Scan
from costmodels.attention.memories import Compression
from costmodels.attention.per_head import Dilations
from costmodels.specs.layouts import (
    Chunked,
    Compressive,
    Dense,
    Dilated,
    DilatedHeads,
    GatedDelta,
    Infini,
    Latent,
    Layout,
    Lightning,
    Linear,
    Sliding,
)
from costmodels.specs.model import Model, Norm, Positions, QueryKeyNorm
from validation.torch_programs import layouts, memory_layouts
from validation.torch_programs.repeating import Discarded

_MASKED = float("-inf")


def norm(kind: Norm, size: int) -> nn.Module:
    """Return a normalization of vectors of one size."""
    if kind is Norm.RMSNORM:
        return nn.RMSNorm(size)
    return nn.LayerNorm(size, bias=kind is Norm.LAYERNORM)


def rotated(heads: torch.Tensor) -> torch.Tensor:
    """Return (..., sequence, width) queries or keys, rotated by their positions; an odd rest stays."""
    half = heads.shape[-1] // 2
    frequencies = 10_000.0 ** -(torch.arange(half, device=heads.device) / max(half, 1))
    angles = torch.arange(heads.shape[-2], device=heads.device)[:, None] * frequencies
    first, second, rest = heads.split((half, half, heads.shape[-1] - 2 * half), dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    turned = (first * cosine - second * sine, second * cosine + first * sine, rest)
    return torch.cat(turned, dim=-1)


def attention_core(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    sinks: torch.Tensor | None,
    *,
    causal: bool,
) -> torch.Tensor:
    """Return attention of (batch, heads, sequence, width), with its matrix of scores in memory."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if causal:
        future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, _MASKED)
    if sinks is not None:
        column = sinks[:, None, None].expand(*scores.shape[:-1], 1)
        scores = torch.cat((scores, column), dim=-1)
    probabilities = scores.softmax(dim=-1)[..., : key.shape[-2]]
    return torch.matmul(probabilities, value)


class Attention(nn.Module):
    """Softmax attention of grouped queries, every key or the past ones.

    Parameters
    ----------
    model : Model
        Sizes, biases, norms of queries and keys, sinks and output gate.
    layout : Dense
        Whether the future is masked.
    """

    def __init__(self, model: Model, layout: Dense) -> None:
        super().__init__()
        self.causal, self.head_size = layout.causal, model.head_size
        self.group = model.num_attention_heads // model.num_key_value_heads
        self.rotary = model.positions is Positions.ROTARY
        width = model.num_attention_heads * model.head_size
        shared_width = model.num_key_value_heads * model.head_size
        hidden, bias = model.hidden_size, model.attention_bias
        self.query = nn.Linear(hidden, width, bias=bias)
        self.key = nn.Linear(hidden, shared_width, bias=bias)
        self.value = nn.Linear(hidden, shared_width, bias=bias)
        self.gate = nn.Linear(hidden, width, bias=bias) if model.attention_output_gate else None
        self.output = nn.Linear(width, hidden, bias=model.attention_output_bias)
        self.query_key_norm = model.query_key_norm
        self.query_norm = self._norm(model, width)
        self.key_norm = self._norm(model, shared_width)
        self.sinks = (
            nn.Parameter(torch.zeros(model.num_attention_heads)) if model.attention_sinks else None
        )
        self.recompute_core = False

    @staticmethod
    def _norm(model: Model, width: int) -> nn.Module:
        match model.query_key_norm:
            case QueryKeyNorm.HEAD:
                return norm(model.norm, model.head_size)
            case QueryKeyNorm.FULL:
                return norm(model.norm, width)
            case QueryKeyNorm.UNSCALED:
                return nn.RMSNorm(model.head_size, elementwise_affine=False)
            case QueryKeyNorm.NONE:
                return nn.Identity()

    def _heads(self, projected: torch.Tensor, normalize: nn.Module | None = None) -> torch.Tensor:
        """Return (batch, heads, sequence, width) of a projection, normalized."""
        whole = self.query_key_norm is QueryKeyNorm.FULL
        if normalize is not None and whole:
            projected = normalize(projected)
        heads: torch.Tensor = projected.unflatten(-1, (-1, self.head_size)).transpose(1, 2)
        if normalize is not None and not whole:
            heads = normalize(heads)
        return heads

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        query = self._heads(self.query(hidden), self.query_norm)
        key = self._heads(self.key(hidden), self.key_norm)
        if self.rotary:
            query, key = rotated(query), rotated(key)
        attended = self._attended(query, key, self._heads(self.value(hidden)))
        attended = attended.transpose(1, 2).flatten(2)
        if self.gate is not None:
            attended = attended * self.gate(hidden).sigmoid()
        out: torch.Tensor = self.output(attended)
        return out

    def _attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Return attention of (batch, heads, sequence, width), keys and values perhaps shared."""
        key = key.repeat_interleave(self.group, dim=1)
        value = value.repeat_interleave(self.group, dim=1)
        core = (query, key, value, self.sinks)
        return _core(core, causal=self.causal, again=self.recompute_core)


class LaidOutAttention(Attention):
    """Attention of another layout than the dense one, with the same projections.

    Parameters
    ----------
    model : Model
        As of `Attention`, without sinks.
    layout : Sliding, Chunked, Dilated, DilatedHeads, Infini or Linear
        Which keys a query sees.

    Notes
    -----
    As naive kernels compute it: a window or chunk is masked in the whole square, segments and
    dilations are filled up, each segment of Infini-attention has its square, the keys of a dilation
    for each head are gathered for each query.
    """

    def __init__(
        self, model: Model, layout: Sliding | Chunked | Dilated | DilatedHeads | Infini | Linear
    ) -> None:
        super().__init__(model, Dense())
        self.layout = layout
        gated = isinstance(layout, Infini)
        self.share = nn.Parameter(torch.zeros(model.num_attention_heads)) if gated else None
        decayed = isinstance(layout, Infini) and layout.decayed
        self.decays = nn.Parameter(torch.ones(2, model.num_key_value_heads)) if decayed else None

    def _attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        if not self.recompute_core:
            return self._laid_out(query, key, value)
        out: torch.Tensor = checkpoint(self._laid_out, query, key, value, use_reentrant=False)
        return out

    def _laid_out(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        length = query.shape[2]
        match self.layout:
            case Sliding(window=window, sink_tokens=sinks):
                return layouts.sliding(
                    query, key, value, window, chunk_length=length, sink_tokens=sinks
                )
            case Chunked(chunk_length=chunk):
                seen = torch.from_numpy(patterns.chunked(length, chunk)).bool()
                return layouts.masked(query, key, value, seen.to(query.device))
            case Dilated(segment_lengths=lengths, dilation_rates=rates):
                branches = Branches(lengths, rates)
                return layouts.dilated(query, key, value, branches, padded=True)
            case DilatedHeads(dilation_rates=rates, keys_per_query=keys, segment_lengths=lengths):
                dilations = Dilations(rates, keys, lengths, int(self.layout.every_residue))
                return layouts.per_head(query, key, value, dilations)
            case Linear(scan_length=chunk, normalized=normalized):
                scan = Scan(chunk, int(normalized))
                return memory_layouts.linear(query, key, value, scan)
            case Infini() as layout:
                return self._with_memory(query, key, value, layout)

    def _with_memory(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Infini
    ) -> torch.Tensor:
        assert self.share is not None  # noqa: S101 - tells the type checker
        gate = self.share.sigmoid()[:, None, None]
        flags = (layout.delta_rule, layout.first_read, layout.last_update, layout.decayed)
        memory = Memory(layout.segment_length, *map(int, flags))
        decay = None
        if self.decays is not None:
            decay = memory_layouts.Decay(*self.decays[..., None, None].unbind(0))
        shares = (gate, 1 - gate)
        return memory_layouts.infini(query, key, value, memory, shares, decay)


class CompressiveAttention(Attention):
    """Attention of segments to their past and to memories, with the compressor of a layer.

    Parameters
    ----------
    model : Model
        As of `Attention`, without sinks.
    layout : Compressive
        Segment, memories and rate.

    Notes
    -----
    Hidden states of memories are detached, and projected to keys and values in each segment that
    sees them (Rae et al. 2019, arXiv:1911.05507, section 3). Positions of memories are left out.
    """

    def __init__(self, model: Model, layout: Compressive) -> None:
        super().__init__(model, Dense())
        self.sizes = Compression(
            layout.segment_length,
            layout.memory_tokens,
            layout.compressed_tokens,
            layout.compression_rate,
        )
        width = layout.compression_rate * model.hidden_size
        self.squeeze = nn.Linear(width, model.hidden_size)

    def _memories(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the states of memories that each segment but the first sees."""
        memory = memory_layouts.CompressiveMemory(self.sizes, weight.T, bias)
        found, segment = [], int(self.sizes.segment_length)
        for start in range(0, hidden.shape[1] - segment, segment):
            memory.add(hidden[:, start : start + segment])
            states = memory.states()
            found.append(torch.cat(states, dim=1) if states else hidden[:, :0])
        return found

    def _again(self, function: Callable[..., Any], *given: Any) -> Any:
        if not self.recompute_core:
            return function(*given)
        return checkpoint(function, *given, use_reentrant=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        segment = int(self.sizes.segment_length)
        squeezing = (hidden, self.squeeze.weight, self.squeeze.bias)
        query = self._heads(self.query(hidden), self.query_norm)
        seen: list[torch.Tensor | None] = [None, *self._again(self._memories, *squeezing)]
        out = []
        for states, start in zip(seen, range(0, hidden.shape[1], segment), strict=True):
            own = hidden[:, start : start + segment]
            entering = own if states is None else torch.cat((states, own), dim=1)
            key = self._heads(self.key(entering), self.key_norm)
            asked = query[:, :, start : start + segment]
            if self.rotary:
                asked, key = rotated(asked), rotated(key)
            value = self._heads(self.value(entering))
            out.append(self._again(layouts.dense, asked, key, value))
        attended = torch.cat(out, dim=2).transpose(1, 2).flatten(2)
        if self.gate is not None:
            attended = attended * self.gate(hidden).sigmoid()
        result: torch.Tensor = self.output(attended)
        return result


class GatedDeltaAttention(nn.Module):
    """Linear attention by a gated delta rule behind a short convolution, as in Qwen3-Next.

    Parameters
    ----------
    model : Model
        Width.
    layout : GatedDelta
        Heads, widths, convolution.

    Notes
    -----
    The convolution is written as shifted sums, so that a counter of products does not see it.
    """

    def __init__(self, model: Model, layout: GatedDelta) -> None:
        super().__init__()
        self.layout = layout
        keys = layout.key_heads * layout.key_head_size
        values = layout.value_heads * layout.value_head_size
        self.widths = (keys, keys, values)
        hidden, heads = model.hidden_size, layout.value_heads
        self.project = nn.Linear(hidden, 2 * keys + values, bias=False)
        self.gate = nn.Linear(hidden, values, bias=False)
        self.step = nn.Linear(hidden, heads, bias=False)
        self.decay = nn.Linear(hidden, heads, bias=False)
        self.kernel = nn.Parameter(torch.zeros(layout.convolution_width, 2 * keys + values))
        self.decay_scale = nn.Parameter(torch.zeros(heads))
        self.decay_bias = nn.Parameter(torch.zeros(heads))
        self.norm = nn.RMSNorm(layout.value_head_size)
        self.output = nn.Linear(values, hidden, bias=False)
        self.recompute_core = False

    def _convolved(self, projected: torch.Tensor) -> torch.Tensor:
        width, length = len(self.kernel), projected.shape[1]
        padded = functional.pad(projected, (0, 0, width - 1, 0))
        shifted = [padded[:, at : at + length] * self.kernel[at] for at in range(width)]
        return functional.silu(torch.stack(shifted).sum(dim=0))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        layout = self.layout
        parts = self._convolved(self.project(hidden)).split(self.widths, dim=-1)
        sizes = (layout.key_head_size, layout.key_head_size, layout.value_head_size)
        query, key, value = (
            part.unflatten(-1, (-1, size)).transpose(1, 2)
            for part, size in zip(parts, sizes, strict=True)
        )
        group = layout.value_heads // layout.key_heads
        query, key = (
            functional.normalize(each, dim=-1).repeat_interleave(group, dim=1)
            for each in (query, key)
        )
        steps = self.step(hidden).sigmoid().transpose(1, 2)
        rates = functional.softplus(self.decay(hidden) + self.decay_bias)
        logs = (-self.decay_scale.exp() * rates).transpose(1, 2)
        core = (query, key, value, steps, logs, DELTA_CHUNK_LENGTH)
        attended = (
            checkpoint(memory_layouts.gated_delta, *core, use_reentrant=False)
            if self.recompute_core
            else memory_layouts.gated_delta(*core)
        )
        normed = self.norm(attended).transpose(1, 2).flatten(2)
        out: torch.Tensor = self.output(normed * functional.silu(self.gate(hidden)))
        return out


class LightningAttention(nn.Module):
    """Linear attention in blocks, with an output gate and a norm, as in MiniMax-01.

    Parameters
    ----------
    model : Model
        Width and heads.
    layout : Lightning
        Tokens of a block.
    """

    def __init__(self, model: Model, layout: Lightning) -> None:
        super().__init__()
        self.scan, self.heads = Scan(layout.block_length, 0), model.num_attention_heads
        hidden, width = model.hidden_size, model.num_attention_heads * model.head_size
        self.project = nn.Linear(hidden, 3 * width, bias=False)
        self.gate = nn.Linear(hidden, width, bias=False)
        self.norm = nn.RMSNorm(width)
        self.output = nn.Linear(width, hidden, bias=False)
        self.recompute_core = False

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        projected = functional.silu(self.project(hidden)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        core = (query, key, value, self.scan)
        attended = (
            checkpoint(memory_layouts.linear, *core, use_reentrant=False)
            if self.recompute_core
            else memory_layouts.linear(*core)
        )
        normed = self.norm(attended.transpose(1, 2).flatten(2))
        out: torch.Tensor = self.output(normed * self.gate(hidden).sigmoid())
        return out


class LatentAttention(nn.Module):
    """Multi-head latent attention: queries, keys and values from small vectors, causal.

    Parameters
    ----------
    model : Model
        Width, heads and biases.
    layout : Latent
        Widths of the compressed vectors and of heads.

    Notes
    -----
    As DeepSeek-AI 2024, arXiv:2405.04434, section 2.1, and transformers' DeepSeek-V3 compute it:
    the compressed vectors pass an RMSNorm, all heads share the rotated part of their keys, and
    `attention_bias` gives the two compressing projections a bias.
    """

    def __init__(self, model: Model, layout: Latent) -> None:
        super().__init__()
        self.layout, self.heads = layout, model.num_attention_heads
        hidden, bias, heads = model.hidden_size, model.attention_bias, model.num_attention_heads
        query_width = heads * (layout.unrotated_size + layout.rotated_size)
        rank = layout.query_rank
        self.query_down = nn.Linear(hidden, rank, bias=bias) if rank else None
        self.query_norm = nn.RMSNorm(rank) if rank else None
        self.query = nn.Linear(rank or hidden, query_width, bias=False)
        shared = layout.key_value_rank
        self.key_value_down = nn.Linear(hidden, shared + layout.rotated_size, bias=bias)
        self.key_value_norm = nn.RMSNorm(shared)
        key_value_width = heads * (layout.unrotated_size + layout.value_size)
        self.key_value = nn.Linear(shared, key_value_width, bias=False)
        self.output = nn.Linear(heads * layout.value_size, hidden, bias=model.attention_output_bias)
        self.recompute_core = self.recompute_heads = False

    def _of_heads(self, projected: torch.Tensor, last: int) -> list[torch.Tensor]:
        """Return the unrotated part of (batch, heads, sequence, width), and the rest."""
        heads = projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return list(heads.split((self.layout.unrotated_size, last), dim=-1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output of (batch, sequence, hidden)."""
        layout = self.layout
        source = hidden
        if self.query_down is not None and self.query_norm is not None:
            source = self.query_norm(self.query_down(hidden))
        compressed, turned = self.key_value_down(hidden).split(
            (layout.key_value_rank, layout.rotated_size), dim=-1
        )
        entering = (source, self.key_value_norm(compressed), turned)
        discarded = Discarded(self._projected, *entering) if self.recompute_heads else None
        query, key, value = self._projected(*entering) if discarded is None else discarded.outputs
        attended = _core((query, key, value, None), causal=True, again=self.recompute_core)
        out: torch.Tensor = self.output(attended.transpose(1, 2).flatten(2))
        if discarded is not None:
            discarded.discard(attended)
        return out

    def _projected(
        self, source: torch.Tensor, compressed: torch.Tensor, turned: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return query, key and value of every head, rotated."""
        query, query_turned = self._of_heads(self.query(source), self.layout.rotated_size)
        key, value = self._of_heads(self.key_value(compressed), self.layout.value_size)
        shared = rotated(turned[:, None]).expand(-1, self.heads, -1, -1)
        query = torch.cat((query, rotated(query_turned)), dim=-1)
        return query, torch.cat((key, shared), dim=-1), value


_Core = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


def _core(tensors: _Core, *, causal: bool, again: bool) -> torch.Tensor:
    """Return the core of attention, computed again in the backward where asked."""
    if not again:
        return attention_core(*tensors, causal=causal)
    core: torch.Tensor = checkpoint(attention_core, *tensors, causal=causal, use_reentrant=False)
    return core


AnyAttention = Attention | LatentAttention | GatedDeltaAttention | LightningAttention


def attention_of(model: Model, layout: Layout) -> AnyAttention:
    """Return the attention of a layer of one layout."""
    match layout:
        case Dense():
            return Attention(model, layout)
        case Latent():
            return LatentAttention(model, layout)
        case Sliding() | Chunked() | Dilated() | DilatedHeads() | Infini() | Linear():
            return LaidOutAttention(model, layout)
        case Compressive():
            return CompressiveAttention(model, layout)
        case GatedDelta():
            return GatedDeltaAttention(model, layout)
        case Lightning():
            return LightningAttention(model, layout)
