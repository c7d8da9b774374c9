"""Casts of torch between number formats, as codes."""

import numpy as np
import torch
from numpy.typing import NDArray

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def codes_of_cast(numbers: NDArray[np.float32], dtype: str) -> NDArray[np.uint64]:
    """Return the codes that a cast to a type of torch gives.

    Parameters
    ----------
    numbers : ndarray of float32
        Numbers.
    dtype : str
        Name of the type, such as ``float8_e4m3fn``.
    """
    cast = torch.from_numpy(numbers.copy()).to(getattr(torch, dtype))
    size = cast.element_size()
    raw = cast.view(_INTEGERS[size]).numpy()
    return raw.view(f"u{size}").astype(np.uint64)


def numbers_of_codes(codes: NDArray[np.uint64], dtype: str) -> NDArray[np.float64]:
    """Return the numbers that codes of a type of torch stand for (arguments as `codes_of_cast`)."""
    kind: torch.dtype = getattr(torch, dtype)
    size = kind.itemsize
    raw = torch.from_numpy(codes.astype(f"u{size}").view(f"i{size}" if size > 1 else "u1"))
    numbers: NDArray[np.float64] = raw.view(kind).to(torch.float64).numpy()
    return numbers
