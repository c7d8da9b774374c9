"""Programs of attention layouts with the tensors that they need beside queries, keys and values."""

from collections.abc import Callable, Sequence

import torch

from costmodels.attention.dilated import Branches
from costmodels.attention.infini import Memory
from costmodels.attention.latent import Compressed
from validation.torch_programs import layouts, memory_layouts
from validation.torch_programs.counting import WorkCounter
from validation.torch_programs.decoders import InfiniDecoder, decoded

_Run = Callable[[], torch.Tensor]


def drawn_heads(batch: int, length: int, sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """Return (batch, heads, length, width) tensors in float64, one for each size, from one seed."""
    torch.manual_seed(0)
    return [
        torch.randn(batch, heads, length, width, dtype=torch.float64, requires_grad=True)
        for heads, width in sizes
    ]


def infini(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, memory: Memory) -> _Run:
    """Return Infini-attention whose gates are halves and have no gradient."""
    half = torch.full((query.shape[1], 1, 1), 0.5, dtype=query.dtype)
    return lambda: memory_layouts.infini(query, key, value, memory, (half, half))


def gated_delta(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, chunk: int) -> _Run:
    """Return a gated delta rule with drawn steps and decays, keys of length one."""
    heads = query.shape[1]
    steps, rates = torch.rand(2, *query.shape[:3], dtype=query.dtype).requires_grad_()
    unit = torch.nn.functional.normalize(layouts.expanded(key, heads), dim=-1)
    keys, values = (
        each.detach().requires_grad_() for each in (unit, layouts.expanded(value, heads))
    )
    return lambda: memory_layouts.gated_delta(query, keys, values, steps, -rates, chunk)


def latent(query: torch.Tensor, _: torch.Tensor, value: torch.Tensor, widths: Compressed) -> _Run:
    """Return latent attention whose queries are given; compressed vectors and matrices are drawn."""
    batch, heads, length, width = query.shape

    def drawn(*size: int) -> torch.Tensor:
        return torch.randn(*size, dtype=query.dtype, requires_grad=True)

    rank, turned = int(widths.key_value_rank), int(widths.rotated_size)
    queries = (query, drawn(batch, heads, length, turned))
    compressed, rotated = drawn(batch, length, rank), drawn(batch, length, turned)
    expanding = (drawn(heads, rank, width), drawn(heads, rank, value.shape[-1]))
    return lambda: layouts.latent_decompressed(queries, compressed, rotated, expanding)


def dilated_flop(length: int, heads: int, width: int, branches: Branches) -> int:
    """Return the counted work of dilated attention on shapes alone [FLOP]."""
    states = torch.empty(1, heads, length, width, device="meta")
    with WorkCounter() as counter:
        layouts.dilated(states, states, states, branches)
    return counter.work.total


def infini_flop(length: int, heads: int, width: int, memory: Memory) -> int:
    """Return the counted work of Infini-attention on shapes alone [FLOP]."""
    states = torch.empty(1, heads, length, width, device="meta")
    share = torch.empty(heads, 1, 1, device="meta")
    with WorkCounter() as counter:
        memory_layouts.infini(states, states, states, memory, (share, share))
    return counter.work.total


def infini_state_bytes(length: int, heads: int, width: int, memory: Memory) -> list[int]:
    """Return what a decoder of Infini-attention keeps while each token is processed [byte]."""
    query, key, value = drawn_heads(1, length, ((heads, width),) * 3)
    half = torch.full((heads, 1, 1), 0.5, dtype=torch.float64)
    return decoded(InfiniDecoder(memory, (half, half)), query, key, value).state_bytes
