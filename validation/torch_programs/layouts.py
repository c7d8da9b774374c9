"""Attention of every layout with a softmax, as products that torch's counter sees, and its definition.

All take (batch, heads, sequence, width); keys and values may have fewer heads than queries.
"""

from collections.abc import Callable

import numpy as np
import torch

from costmodels.attention.dilated import Branches
from costmodels.attention.per_head import Dilations

_MASKED = float("-inf")


def expanded(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Return grouped keys or values once for each query head."""
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1)


def by_definition(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: Callable[[int], np.ndarray],
) -> torch.Tensor:
    """Return attention by one softmax a query, each key as often as a head's pattern says.

    A query that sees no key has an output of zero.
    """
    heads = query.shape[1]
    key, value = expanded(key, heads), expanded(value, heads)
    times = torch.stack([torch.from_numpy(pattern(head)) for head in range(heads)])
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores + times.to(scores.dtype).log()
    weights = scores.softmax(dim=-1).nan_to_num(0.0)
    out: torch.Tensor = weights @ value
    return out


def _attended(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seen: torch.Tensor,
    width: int | None = None,
) -> torch.Tensor:
    """Return attention of (..., queries, width), `seen` true where a query sees a key."""
    scores = query @ key.transpose(-1, -2) * (width or query.shape[-1]) ** -0.5
    scores = scores.masked_fill(~seen.to(scores.device), _MASKED)
    out: torch.Tensor = scores.softmax(dim=-1) @ value
    return out


def masked(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """Return attention that computes all pairs and masks those that are not seen."""
    heads = query.shape[1]
    return _attended(query, expanded(key, heads), expanded(value, heads), seen)


def _past(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def dense(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = True,
    width: int | None = None,
) -> torch.Tensor:
    """Return dense attention; fewer queries than keys are the last ones.

    Scores are divided by the root of a width, the queries' own where none is given.
    """
    heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
    places = torch.arange(keys - queries, keys)[:, None]
    seen = (torch.arange(keys) <= places) | (not causal)
    return _attended(query, expanded(key, heads), expanded(value, heads), seen, width)


def sliding(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int,
    *,
    chunk_length: int,
    sink_tokens: int = 0,
) -> torch.Tensor:
    """Return sliding-window attention, queries in chunks, each with the keys that one of them sees."""
    heads, length = query.shape[1], query.shape[2]
    key, value = expanded(key, heads), expanded(value, heads)
    out = []
    for start in range(0, length, chunk_length):
        end = min(start + chunk_length, length)
        first = max(0, start - window + 1)
        places = torch.cat((torch.arange(min(sink_tokens, first)), torch.arange(first, end)))
        own = torch.arange(start, end)[:, None]
        seen = (places <= own) & ((own - places < window) | (places < sink_tokens))
        out.append(_attended(query[:, :, start:end], key[:, :, places], value[:, :, places], seen))
    return torch.cat(out, dim=2)


def chunked(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, chunk_length: int
) -> torch.Tensor:
    """Return causal attention inside chunks."""
    heads, length = query.shape[1], query.shape[2]
    key, value = expanded(key, heads), expanded(value, heads)
    out = []
    for start in range(0, length, chunk_length):
        own = slice(start, min(start + chunk_length, length))
        past = _past(own.stop - start)
        out.append(_attended(query[:, :, own], key[:, :, own], value[:, :, own], past))
    return torch.cat(out, dim=2)


def _every(start: int, end: int, step: int) -> torch.Tensor:
    """Return places, none where the start is behind the end."""
    return torch.tensor(range(start, end, step), dtype=torch.int64)


def _offset(head: int, heads: int, rate: int, *, grouped: bool) -> int:
    return head // -(-heads // rate) if grouped else head % rate


def dilated(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    branches: Branches,
    *,
    causal: bool = True,
    padded: bool = False,
) -> torch.Tensor:
    """Return dilated attention: all branches of each head, mixed by the sums of their softmax."""
    heads = query.shape[1]
    key, value = expanded(key, heads), expanded(value, heads)
    outputs, sums = [], []
    for length, rate in zip(branches.segment_lengths, branches.dilation_rates, strict=True):
        output, logsumexp = _branch(
            (query, key, value),
            min(length, query.shape[2]),
            rate,
            grouped=bool(branches.grouped_offsets),
            causal=causal,
            padded=padded,
        )
        outputs.append(output)
        sums.append(logsumexp)
    logs = torch.stack(sums)
    unseen = (logs == _MASKED).all(dim=0)
    weights = logs.masked_fill(unseen, 0.0).softmax(dim=0)
    return (weights.unsqueeze(-1) * torch.stack(outputs)).sum(dim=0)


def _branch(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    segment: int,
    rate: int,
    *,
    grouped: bool,
    causal: bool,
    padded: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return outputs, and the logarithm of each query's sum of exponentials, of one branch."""
    query, _, value = tensors
    batch, heads, length, _ = query.shape
    output = query.new_zeros(batch, heads, length, value.shape[-1])
    sums = query.new_full((batch, heads, length), _MASKED)
    offsets = [_offset(head, heads, rate, grouped=grouped) for head in range(heads)]
    for offset in dict.fromkeys(offsets):
        members = [head for head in range(heads) if offsets[head] == offset]
        for start, end in _cuts(length, segment, padded=padded):
            # (segments, rows) of places, those behind the end or the segment not held.
            step = -(-segment // rate) * rate if padded else segment
            rows = _every(offset, step if padded else min(segment, end - start), rate)
            if len(rows) == 0:
                continue
            firsts = torch.arange(start, end, segment)[:, None]
            places = firsts + rows
            held = (rows < segment) & (places < length)
            part = [tensor[:, members][:, :, places.clamp(max=length - 1)] for tensor in tensors]
            attended, log = _with_sum(part, held, causal=causal)
            where = places[held]
            for number, head in enumerate(members):
                output[:, head, where] = attended[:, number][:, held]
                sums[:, head, where] = log[:, number][:, held]
    return output, sums


def _cuts(length: int, segment: int, *, padded: bool) -> list[tuple[int, int]]:
    """Return runs of equal segments: whole ones and the short last one, or all alike if padded."""
    whole = length // segment * segment
    if padded:
        return [(0, length)]
    return [cut for cut in ((0, whole), (whole, length)) if cut[1] > cut[0]]


def _with_sum(
    part: list[torch.Tensor], held: torch.Tensor, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    query, key, value = part
    rows = query.shape[-2]
    past = _past(rows) if causal else torch.ones(rows, rows, dtype=torch.bool)
    # A place that is not held sees itself, so that its softmax is defined; it is dropped after.
    seen = (past & held[:, None, :]) | torch.eye(rows, dtype=torch.bool)
    seen = seen.to(query.device)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen, _MASKED)
    return scores.softmax(dim=-1) @ value, scores.logsumexp(dim=-1)


def per_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dilations: Dilations
) -> torch.Tensor:
    """Return attention with a dilation for each head."""
    heads = query.shape[1]
    key, value = expanded(key, heads), expanded(value, heads)
    out = []
    for head in range(heads):
        place = head * len(dilations.rates) // heads
        own = (query[:, head], key[:, head], value[:, head])
        rate = dilations.rates[place]
        if not dilations.segment_lengths:
            out.append(_gathered(own, rate, dilations.keys))
            continue
        residues = range(rate) if dilations.every_residue else (head % rate,)
        out.append(_in_segments(own, dilations.segment_lengths[place], rate, residues))
    return torch.stack(out, dim=1)


_Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _gathered(own: _Three, rate: int, keys: int) -> torch.Tensor:
    """Return attention of one head over every rate-th token, the keys of each query gathered."""
    query, key, value = own
    places = torch.arange(query.shape[1])[:, None] - rate * torch.arange(keys)
    seen = (places >= 0)[:, None, :]
    places = places.clamp(min=0)
    return _attended(query[:, :, None], key[:, places], value[:, places], seen).squeeze(2)


def _in_segments(
    own: _Three, segment: int, rate: int, residues: range | tuple[int]
) -> torch.Tensor:
    query, key, value = own
    length = query.shape[1]
    out = value.new_zeros(query.shape[0], length, value.shape[-1])
    for start in range(0, length, segment):
        for residue in residues:
            rows = _every(start + residue, min(start + segment, length), rate)
            if len(rows):
                out[:, rows] = _attended(
                    query[:, rows], key[:, rows], value[:, rows], _past(len(rows))
                )
    return out


def latent_decompressed(
    queries: tuple[torch.Tensor, torch.Tensor],
    compressed: torch.Tensor,
    rotated: torch.Tensor,
    expanding: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Return latent attention whose keys and values are expanded first.

    Parameters
    ----------
    queries : tuple of tensor
        Unrotated and rotated parts, (batch, heads, queries, width); the last of the sequence.
    compressed, rotated : tensor
        (batch, sequence, rank) and (batch, sequence, rotated width), for all heads.
    expanding : tuple of tensor
        (heads, rank, unrotated width) to keys, (heads, rank, value width) to values.
    """
    plain, turned = queries
    heads = plain.shape[1]
    key, value = (_of_heads(compressed, matrix) for matrix in expanding)
    shared = rotated[:, None].expand(-1, heads, -1, -1)
    return dense(torch.cat((plain, turned), dim=-1), torch.cat((key, shared), dim=-1), value)


def _of_heads(compressed: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return (batch, heads, sequence, width) of (batch, sequence, rank), one product for all heads."""
    weights = matrix.transpose(0, 1).flatten(1)
    heads: torch.Tensor = (compressed @ weights).unflatten(-1, (len(matrix), -1)).transpose(1, 2)
    return heads


def _by_head(tensor: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return (batch, heads, sequence, width) times a matrix of each head, sequences side by side."""
    batch = len(tensor)
    product = torch.bmm(tensor.transpose(0, 1).flatten(1, 2), matrix)
    out: torch.Tensor = product.unflatten(1, (batch, -1)).transpose(0, 1)
    return out


def latent_absorbed(
    queries: tuple[torch.Tensor, torch.Tensor],
    compressed: torch.Tensor,
    rotated: torch.Tensor,
    expanding: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Return the same with queries and outputs turned instead, and nothing expanded."""
    plain, turned = queries
    heads = plain.shape[1]
    narrow = torch.cat((_by_head(plain, expanding[0].transpose(-1, -2)), turned), dim=-1)
    key = torch.cat((compressed, rotated), dim=-1)[:, None].expand(-1, heads, -1, -1)
    value = compressed[:, None].expand(-1, heads, -1, -1)
    width = plain.shape[-1] + turned.shape[-1]
    return _by_head(dense(narrow, key, value, width=width), expanding[1])
