"""What a compressive memory gives back of the values it stored."""

import torch
from torch.nn import functional

from validation.torch_programs.counting import one_thread
from validation.torch_programs.memory_layouts import mapped, retrieved, updated

SEED = 1


def recall_error(
    key_size: int, stored: int, *, is_delta: bool, segment: int, orthogonal: bool = False
) -> float:
    """Return the mean relative error of stored values read back by their own keys.

    Parameters
    ----------
    key_size : int
        Width of keys and values [element].
    stored : int
        Keys and values of a normal distribution that were added [count].
    is_delta : bool
        By the delta rule.
    segment : int
        Of how many at once [count].
    orthogonal : bool
        Whether features are unit vectors of a random direction in place of ELU + 1 of a key, and a
        read has no normalizer: the memory of a linear associative network.

    Returns
    -------
    float
        Norm of the difference over the norm of the value [1].
    """
    with one_thread():
        return _error(key_size, stored, segment, is_delta=is_delta, orthogonal=orthogonal)


def _error(key_size: int, stored: int, segment: int, *, is_delta: bool, orthogonal: bool) -> float:
    generator = torch.Generator().manual_seed(SEED)
    size = (1, 1, stored, key_size)
    keys = torch.randn(size, dtype=torch.float64, generator=generator)
    values = torch.randn(size, dtype=torch.float64, generator=generator)
    if orthogonal:
        read = plain_memory(functional.normalize(keys, dim=-1), values, segment, is_delta=is_delta)
    else:
        state = None
        for start in range(0, stored, segment):
            own = slice(start, start + segment)
            state = updated(state, keys[:, :, own], values[:, :, own], is_delta=is_delta)
        assert state is not None  # noqa: S101 - tells the type checker
        read = retrieved(mapped(keys), state)
    return float(((read - values).norm(dim=-1) / values.norm(dim=-1)).mean())


def plain_memory(
    keys: torch.Tensor, values: torch.Tensor, segment: int, *, is_delta: bool
) -> torch.Tensor:
    """Return what (batch, heads, n, width) keys of length one read back, without a map."""
    matrix = keys.new_zeros(1, 1, keys.shape[-1], values.shape[-1])
    for start in range(0, keys.shape[2], segment):
        own = slice(start, start + segment)
        added = values[:, :, own]
        if is_delta:
            added = added - keys[:, :, own] @ matrix
        matrix = matrix + keys[:, :, own].transpose(-1, -2) @ added
    return keys @ matrix
