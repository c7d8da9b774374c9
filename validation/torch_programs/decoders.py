"""Decoders of every layout: one token after the other, keeping no more than later tokens need."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch

from costmodels.attention.dilated import Branches
from costmodels.attention.infini import Memory
from costmodels.attention.memories import Compression
from costmodels.attention.per_head import Dilations
from validation.torch_programs.layouts import dense, expanded, latent_absorbed
from validation.torch_programs.memory_layouts import (
    Compressor,
    LinearState,
    mapped,
    retrieved,
    updated,
)


class Decoder(Protocol):
    """A layer that takes the tokens of whole sequences one by one."""

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token, of (batch, heads, sequence, width) tensors."""

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept."""


class Decoded(NamedTuple):
    """A decoded sequence.

    Attributes
    ----------
    output : tensor
        Of all tokens.
    state_bytes : list of int
        What the decoder kept while each token was processed [byte].
    """

    output: torch.Tensor
    state_bytes: list[int]


def decoded(
    decoder: Decoder, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> Decoded:
    """Return what a decoder makes of whole sequences, given token by token."""
    outputs, sizes = [], []
    for at in range(query.shape[2]):
        outputs.append(decoder.step(query, key, value, at))
        sizes.append(sum(each.numel() * each.element_size() for each in decoder.tensors()))
    return Decoded(torch.cat(outputs, dim=2), sizes)


class Cache:
    """Keys and values of all heads at some places.

    Parameters
    ----------
    kept : callable
        Whether the keys and values of a place are still needed for a token, its own or a later one.
    seen : callable
        Whether a token's query sees the key of a place.
    """

    def __init__(
        self, kept: Callable[[int, int], bool], seen: Callable[[int, int], bool] | None = None
    ) -> None:
        self.kept, self.seen = kept, seen or (lambda place, at: place <= at)
        self.places: list[int] = []
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token."""
        own = slice(at, at + 1)
        if self.keys is None or self.values is None:
            self.keys, self.values = key[:, :, :0], value[:, :, :0]
        self.keys = torch.cat((self.keys, key[:, :, own]), dim=2)
        self.values = torch.cat((self.values, value[:, :, own]), dim=2)
        self.places.append(at)
        still = [self.kept(place, at) for place in self.places]
        chosen = torch.tensor(still)
        self.keys, self.values = self.keys[:, :, chosen], self.values[:, :, chosen]
        self.places = [place for place, keep in zip(self.places, still, strict=True) if keep]
        now = torch.tensor([self.seen(place, at) for place in self.places], dtype=torch.bool)
        if not now.any():
            return value.new_zeros(*query.shape[:2], 1, value.shape[-1])
        return dense(query[:, :, own], self.keys[:, :, now], self.values[:, :, now], causal=False)

    def tensors(self) -> list[torch.Tensor]:
        """Return keys and values."""
        return [each for each in (self.keys, self.values) if each is not None]


def _one(head: int) -> slice:
    return slice(head, head + 1)


class ByHead:
    """A decoder for each query head, of its own keys and values.

    Parameters
    ----------
    decoders : list
        One for each head.
    """

    def __init__(self, decoders: list[Decoder]) -> None:
        self.decoders = decoders

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token."""
        heads = query.shape[1]
        key, value = expanded(key, heads), expanded(value, heads)
        parts = [
            decoder.step(query[:, own], key[:, own], value[:, own], at)
            for own, decoder in zip(map(_one, range(heads)), self.decoders, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def tensors(self) -> list[torch.Tensor]:
        """Return what all heads keep."""
        return [each for decoder in self.decoders for each in decoder.tensors()]


def dense_decoder() -> Decoder:
    """Return a decoder that keeps everything."""
    return Cache(lambda place, at: place <= at)


def sliding_decoder(window: int, sink_tokens: int = 0) -> Decoder:
    """Return a decoder that keeps a window and sinks."""
    return Cache(lambda place, at: at - place < window or place < sink_tokens)


def chunked_decoder(chunk_length: int) -> Decoder:
    """Return a decoder that keeps the open chunk."""
    return Cache(lambda place, at: place // chunk_length == at // chunk_length)


class DilatedHead:
    """The decoder of one head of dilated attention.

    Parameters
    ----------
    branches : Branches
        Of the layer.
    offsets : list of int
        Of this head in each branch.
    """

    def __init__(self, branches: Branches, offsets: list[int]) -> None:
        self.branches = list(
            zip(branches.segment_lengths, branches.dilation_rates, offsets, strict=True)
        )
        self.cache = Cache(self._kept)

    def _kept(self, place: int, at: int) -> bool:
        """Return whether this or a later token of a place's segment sees it, in some branch."""
        return any(
            place // length == at // length
            and place % length % rate == offset
            and any(
                later % length % rate == offset for later in range(at, (at // length + 1) * length)
            )
            for length, rate, offset in self.branches
        )

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token: one softmax, a key as often as branches see it."""
        self.cache.step(query, key, value, at)
        places = torch.tensor(self.cache.places, dtype=torch.int64)
        times = torch.zeros(len(places), dtype=torch.int64)
        for length, rate, offset in self.branches:
            if at % length % rate == offset:
                times += (places // length == at // length) & (places % length % rate == offset)
        if not times.any():
            return value.new_zeros(*query.shape[:2], 1, value.shape[-1])
        keys, values = self.cache.tensors()
        scores = query[:, :, at : at + 1] @ keys.transpose(-1, -2) / query.shape[-1] ** 0.5
        out: torch.Tensor = (scores + times.to(scores.dtype).log()).softmax(dim=-1) @ values
        return out

    def tensors(self) -> list[torch.Tensor]:
        """Return keys and values."""
        return self.cache.tensors()


def dilated_decoder(heads: int, branches: Branches) -> Decoder:
    """Return a decoder that keeps the least, each query head its own keys and values."""
    return ByHead(
        [
            DilatedHead(branches, [head % rate for rate in branches.dilation_rates])
            for head in range(heads)
        ]
    )


def per_head_decoder(heads: int, dilations: Dilations) -> Decoder:
    """Return a decoder of one dilation for each head, of as many key-value heads."""
    return ByHead([_own_dilation(head, heads, dilations) for head in range(heads)])


def _own_dilation(head: int, heads: int, dilations: Dilations) -> Decoder:
    number = head * len(dilations.rates) // heads
    rate = dilations.rates[number]
    if not dilations.segment_lengths:
        reach = (dilations.keys - 1) * rate
        return Cache(
            lambda place, at: at - place <= reach, lambda place, at: (at - place) % rate == 0
        )
    segment, offset = dilations.segment_lengths[number], head % rate

    def sees(place: int, at: int) -> bool:
        own = dilations.every_residue or at % segment % rate == offset
        return bool(own and (at - place) % rate == 0 and place // segment == at // segment)

    def keeps(place: int, at: int) -> bool:
        own = dilations.every_residue or place % segment % rate == offset
        return bool(own and place // segment == at // segment)

    return Cache(keeps, sees)


class InfiniDecoder:
    """The open segment's keys and values, and the memory of the segments before.

    Parameters
    ----------
    memory : Memory
        Segment and rule.
    shares : tuple of tensor
        (heads, 1, 1) weights of memory and of segment.
    """

    def __init__(self, memory: Memory, shares: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.memory, self.shares = memory, shares
        self.cache = dense_decoder()
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token; the first of a segment puts the last one into memory."""
        if at and at % int(self.memory.segment_length) == 0:
            keys, values = self.cache.tensors()
            self.state = updated(self.state, keys, values, is_delta=bool(self.memory.is_delta))
            self.cache = dense_decoder()
        out = self.shares[1] * self.cache.step(query, key, value, at)
        if self.state is None:
            return out
        read = retrieved(mapped(query[:, :, at : at + 1]), self.state)
        return self.shares[0] * read + out

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept."""
        return [*self.cache.tensors(), *(self.state or ())]


class DeltaDecoder:
    """The state of a gated delta rule.

    Parameters
    ----------
    steps, logs : tensor
        (batch, heads, sequence) step of each update, and logarithm of each decay.
    """

    def __init__(self, steps: torch.Tensor, logs: torch.Tensor) -> None:
        self.steps, self.logs = steps, logs
        self.state: torch.Tensor | None = None

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, at: int
    ) -> torch.Tensor:
        """Return the output of one token."""
        own = slice(at, at + 1)
        inner, features, step = key[:, :, own], value[:, :, own], self.steps[:, :, own, None]
        if self.state is None:
            self.state = key.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1])
        state = self.state * self.logs[:, :, own, None].exp()
        missing = (features - inner @ state) * step
        self.state = state + inner.transpose(-1, -2) @ missing
        return query[:, :, own] @ self.state

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept."""
        return [] if self.state is None else [self.state]


class LatentDecoder:
    """Compressed vectors and rotated keys of all tokens, queries absorbed.

    Parameters
    ----------
    expanding : tuple of tensor
        (heads, rank, unrotated width) to keys, (heads, rank, value width) to values.
    """

    def __init__(self, expanding: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.expanding = expanding
        self.kept: list[torch.Tensor] = []

    def step(
        self,
        queries: tuple[torch.Tensor, torch.Tensor],
        compressed: torch.Tensor,
        rotated: torch.Tensor,
        at: int,
    ) -> torch.Tensor:
        """Return the output of one token."""
        own = slice(at, at + 1)
        fresh = [compressed[:, own], rotated[:, own]]
        if self.kept:
            fresh = [torch.cat(pair, dim=1) for pair in zip(self.kept, fresh, strict=True)]
        self.kept = fresh
        plain, turned = queries
        own_queries = plain[:, :, own], turned[:, :, own]
        return latent_absorbed(own_queries, self.kept[0], self.kept[1], self.expanding)

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept."""
        return self.kept


class CompressiveDecoder:
    """A layer of a Compressive Transformer: keys, values, and states that will be compressed.

    Parameters
    ----------
    heads : int
        Heads of queries, keys and values [count].
    compression : Compression
        Segment, memories and rate.
    weights : Compressor
        Of the layer.

    Notes
    -----
    Keys and values are projected once, those of compressed states when they are made.
    """

    def __init__(self, heads: int, compression: Compression, weights: Compressor) -> None:
        self.heads, self.sizes, self.weights = heads, compression, weights
        self.hidden: list[torch.Tensor] = []
        self.plain: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.squeezed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _projected(self, state: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return (batch, heads, 1, width) of (batch, 1, hidden)."""
        heads: torch.Tensor = (state @ weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def _keys_and_values(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self._projected(state, self.weights.key),
            self._projected(state, self.weights.value),
        )

    def _compress(self) -> None:
        """Turn states that fall out of the plain memory into compressed ones."""
        rate, most = int(self.sizes.rate), int(self.sizes.compressed_tokens)
        for _ in range((len(self.hidden) - int(self.sizes.memory_tokens)) // rate):
            group = torch.cat(self.hidden[:rate], dim=1).flatten(1)[:, None]
            self.hidden, self.plain = self.hidden[rate:], self.plain[rate:]
            self.squeezed.append(self._keys_and_values(group @ self.weights.squeeze))
        self.squeezed = self.squeezed[-most:] if most else []

    def step(self, hidden: torch.Tensor, at: int) -> torch.Tensor:
        """Return attention of one token of (batch, sequence, hidden) states."""
        if at and at % int(self.sizes.segment_length) == 0:
            self._compress()
        state = hidden[:, at : at + 1]
        self.hidden.append(state)
        self.plain.append(self._keys_and_values(state))
        pairs = [*self.squeezed, *self.plain]
        key, value = (torch.cat([pair[which] for pair in pairs], dim=2) for which in (0, 1))
        return dense(self._projected(state, self.weights.query), key, value, causal=False)

    def tensors(self) -> list[torch.Tensor]:
        """Return what is kept."""
        pairs = [each for pair in (*self.squeezed, *self.plain) for each in pair]
        return [*self.hidden, *pairs]


def linear_decoder(*, normalizer: bool) -> Decoder:
    """Return a decoder of linear attention."""
    return LinearState(normalizer=normalizer)
