"""Attention of every layout with a memory, as products that torch's counter sees.

All take (batch, heads, sequence, width); keys and values may have fewer heads than queries.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

from costmodels.attention.infini import Memory
from costmodels.attention.linear import Scan
from costmodels.attention.memories import Compression
from validation.torch_programs.layouts import dense, expanded


def mapped(tensor: torch.Tensor) -> torch.Tensor:
    """Return the feature map ELU + 1, which is positive."""
    return functional.elu(tensor) + 1


class Decay(NamedTuple):
    """Factors of an update: of what is kept, and of what is added; numbers, or one for each head."""

    kept: float | torch.Tensor = 1.0
    added: float | torch.Tensor = 1.0


_State = tuple[torch.Tensor, torch.Tensor] | None


def retrieved(query: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return what (batch, heads, sequence, width) mapped queries read from memory (equation 7)."""
    matrix, keys = state
    heads = query.shape[1]
    return (query @ expanded(matrix, heads)) / (query @ expanded(keys, heads))


def updated(
    state: _State,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    is_delta: bool,
    decay: Decay | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the memory after a segment's keys and values (equations 8 and 9)."""
    features = mapped(key)
    if is_delta and state is not None:
        value = value - retrieved(features, state)
    matrix = features.transpose(-1, -2) @ value
    keys = features.sum(dim=-2).unsqueeze(-1)
    if decay is not None:
        matrix, keys = decay.added * matrix, decay.added * keys
    if state is None:
        return matrix, keys
    if decay is not None:
        state = decay.kept * state[0], decay.kept * state[1]
    return state[0] + matrix, state[1] + keys


def infini(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    memory: Memory,
    shares: tuple[torch.Tensor, torch.Tensor],
    decay: Decay | None = None,
) -> torch.Tensor:
    """Return Infini-attention.

    Parameters
    ----------
    query, key, value : tensor
        Of the whole sequence.
    memory : Memory
        Segment, rule, and which empty read and useless update to do.
    shares : tuple of tensor
        (heads, 1, 1) weights of memory and of segment: sigmoid of a gate, and the rest.
    decay : Decay, optional
        Factors of an update.
    """
    length, segment = query.shape[2], int(memory.segment_length)
    state: _State = None
    if memory.first_read:
        batch, heads, _, width = key.shape
        state = (
            key.new_zeros(batch, heads, width, value.shape[-1]),
            key.new_full((batch, heads, width, 1), 1 / width),
        )
    empty, out = True, []
    for start in range(0, length, segment):
        own = slice(start, min(start + segment, length))
        mixed = shares[1] * dense(query[:, :, own], key[:, :, own], value[:, :, own])
        if state is not None:
            mixed = shares[0] * retrieved(mapped(query[:, :, own]), state) + mixed
        out.append(mixed)
        if own.stop < length or memory.last_update:
            state = updated(
                None if empty else state,
                key[:, :, own],
                value[:, :, own],
                is_delta=bool(memory.is_delta),
                decay=decay,
            )
            empty = False
    return torch.cat(out, dim=2)


def linear_full(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return linear attention without a mask."""
    return retrieved(mapped(query), updated(None, key, value, is_delta=False))


def linear(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scan: Scan) -> torch.Tensor:
    """Return causal linear attention in chunks, or token by token with a chunk of zero."""
    if not scan.chunk_length:
        return _recurrent(query, key, value, scan)
    heads, length, chunk = query.shape[1], query.shape[2], int(scan.chunk_length)
    query, key = mapped(query), mapped(key)
    matrix = keys = None
    out = []
    for start in range(0, length, chunk):
        own = slice(start, min(start + chunk, length))
        inner, features = query[:, :, own], key[:, :, own]
        scores = inner @ expanded(features, heads).transpose(-1, -2)
        scores = scores * torch.ones_like(scores[0, 0]).tril()
        top = scores @ expanded(value[:, :, own], heads)
        bottom = scores.sum(dim=-1, keepdim=True) if scan.has_normalizer else None
        if matrix is not None:
            top = top + inner @ expanded(matrix, heads)
        if keys is not None and bottom is not None:
            bottom = bottom + inner @ expanded(keys, heads)
        out.append(top if bottom is None else top / bottom)
        if own.stop < length:
            added = features.transpose(-1, -2) @ value[:, :, own]
            matrix = added if matrix is None else matrix + added
        if own.stop < length and scan.has_normalizer:
            total = features.sum(dim=-2).unsqueeze(-1)
            keys = total if keys is None else keys + total
    return torch.cat(out, dim=2)


def _recurrent(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scan: Scan
) -> torch.Tensor:
    decoder = LinearState(normalizer=bool(scan.has_normalizer))
    steps = range(query.shape[2])
    return torch.cat([decoder.step(query, key, value, at) for at in steps], dim=2)


class LinearState:
    """Sums of keys times values, and of keys, to which tokens are added one by one.

    Parameters
    ----------
    normalizer : bool
        Whether outputs are divided by queries times the sum of keys.
    """

    def __init__(self, *, normalizer: bool) -> None:
        self.normalizer = normalizer
        self.matrix: torch.Tensor | None = None
        self.keys: torch.Tensor | None = None

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token of whole sequences."""
        own, heads = slice(at, at + 1), query.shape[1]
        inner, features = mapped(query[:, :, own]), mapped(key[:, :, own])
        added = features.transpose(-1, -2) @ value[:, :, own]
        self.matrix = added if self.matrix is None else self.matrix + added
        top = inner @ expanded(self.matrix, heads)
        if not self.normalizer:
            return top
        total = features.transpose(-1, -2)
        self.keys = total if self.keys is None else self.keys + total
        return top / (inner @ expanded(self.keys, heads))

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept for the next token."""
        return [each for each in (self.matrix, self.keys) if each is not None]


def gated_delta(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    steps: torch.Tensor,
    logs: torch.Tensor,
    chunk_length: int,
) -> torch.Tensor:
    """Return linear attention by a gated delta rule, in chunks.

    Parameters
    ----------
    query, key, value : tensor
        Queries and keys for each value head, keys of length one.
    steps, logs : tensor
        (batch, heads, sequence) step of each update, and logarithm of each decay.
    chunk_length : int
        Tokens of a chunk [token].
    """
    length = query.shape[2]
    state, out = None, []
    for start in range(0, length, chunk_length):
        own = slice(start, min(start + chunk_length, length))
        inner, features = query[:, :, own], key[:, :, own]
        step = steps[:, :, own, None]
        gate = logs[:, :, own].cumsum(dim=-1)[..., None]
        decay = (gate - gate.transpose(-1, -2)).tril().exp().tril()
        pseudo, held = value[:, :, own] * step, features * step * gate.exp()
        if inner.shape[2] > 1:
            joined = features * step @ features.transpose(-1, -2) * decay
            inverse = _unit_inverse(joined.tril(-1))
            pseudo = inverse @ pseudo
            held = held if state is None else inverse @ held
        if state is not None:
            pseudo = pseudo - held @ state
        scores = inner @ features.transpose(-1, -2) * decay
        output = scores @ pseudo
        if state is not None:
            output = output + (inner * gate.exp()) @ state
        out.append(output)
        if own.stop < length:
            last = gate[:, :, -1:]
            added = (features * (last - gate).exp()).transpose(-1, -2) @ pseudo
            state = added if state is None else state * last.exp() + added
    return torch.cat(out, dim=2)


def _unit_inverse(lower: torch.Tensor) -> torch.Tensor:
    """Return (I + L)^-1 of (..., n, n) strictly lower matrices, n above one, row by row."""
    size = lower.shape[-1]
    eye = torch.eye(size, dtype=lower.dtype, device=lower.device).expand_as(lower)
    second = torch.cat((-lower[..., 1:2, :1], eye[..., 1:2, 1:]), dim=-1)
    rows = [eye[..., :1, :], second]
    for row in range(2, size):
        above = torch.cat(rows, dim=-2)[..., :, :row]
        left = -(lower[..., row : row + 1, :row] @ above)
        rows.append(torch.cat((left, eye[..., row : row + 1, row:]), dim=-1))
    return torch.cat(rows, dim=-2)


class Compressor(NamedTuple):
    """Weights of a layer of a Compressive Transformer.

    Attributes
    ----------
    query, key, value : tensor
        (hidden, heads * width) projections.
    squeeze : tensor
        (rate * hidden, hidden): a convolution whose width is its stride.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    squeeze: torch.Tensor


class CompressiveMemory:
    """Hidden states of past segments: the last ones as they are, those before compressed.

    Parameters
    ----------
    compression : Compression
        Sizes.
    squeeze : tensor
        (rate * hidden, hidden).
    bias : tensor, optional
        (hidden).
    """

    def __init__(
        self, compression: Compression, squeeze: torch.Tensor, bias: torch.Tensor | None = None
    ) -> None:
        self.sizes, self.squeeze, self.bias = compression, squeeze, bias
        self.plain: torch.Tensor | None = None
        self.squeezed: torch.Tensor | None = None

    def _with_bias(self, grouped: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return compressed states, a product of activations to a counter that tells them apart."""
        weights = self.squeeze.expand(len(grouped), -1, -1)
        return torch.bmm(grouped, weights) + bias

    def states(self) -> list[torch.Tensor]:
        """Return compressed and plain hidden states, the older first."""
        return [each for each in (self.squeezed, self.plain) if each is not None]

    def add(self, hidden: torch.Tensor) -> None:
        """Take (batch, segment, hidden) states, and compress what falls out."""
        kept = hidden.detach()
        kept = kept if self.plain is None else torch.cat((self.plain, kept), dim=1)
        surplus = kept.shape[1] - self.sizes.memory_tokens
        self.plain = kept[:, max(surplus, 0) :] if self.sizes.memory_tokens else None
        if surplus <= 0:
            return
        grouped = kept[:, :surplus].unflatten(1, (-1, int(self.sizes.rate))).flatten(2)
        fresh = grouped @ self.squeeze if self.bias is None else self._with_bias(grouped, self.bias)
        older = fresh if self.squeezed is None else torch.cat((self.squeezed, fresh), dim=1)
        most = int(self.sizes.compressed_tokens)
        self.squeezed = older[:, -most:] if most else None


def compressive(
    hidden: torch.Tensor, heads: int, compression: Compression, weights: Compressor
) -> torch.Tensor:
    """Return attention of a Compressive Transformer of (batch, sequence, hidden), heads apart."""
    memory = CompressiveMemory(compression, weights.squeeze)
    segment, out = int(compression.segment_length), []
    for start in range(0, hidden.shape[1], segment):
        own = hidden[:, start : start + segment]
        seen = torch.cat((*memory.states(), own), dim=1)
        query, key, value = (
            (states @ weight).unflatten(-1, (heads, -1)).transpose(1, 2)
            for states, weight in (
                (own, weights.query),
                (seen, weights.key),
                (seen, weights.value),
            )
        )
        out.append(dense(query, key, value))
        if start + segment < hidden.shape[1]:
            memory.add(own)
    return torch.cat(out, dim=2)
