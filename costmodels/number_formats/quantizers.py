"""Matrices as a format holds them: scales found from the numbers, codes rounded, numbers back.

Arithmetic is in fp32, as in the libraries. Formats whose codes are found by search (the K- and
I-quants of GGUF, HQQ) have no function here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import NotModelledError
from costmodels.number_formats.elements import largest_exponent, levels
from costmodels.number_formats.encoding import round_to
from costmodels.number_formats.layouts import StoredFormat, integer_bits
from costmodels.number_formats.scalars import scalar_formats

Numbers = NDArray[np.float32]

_FP32 = np.float32


def quantized(matrix: Numbers, stored: StoredFormat) -> Numbers:
    """Return a matrix as a format holds it.

    Parameters
    ----------
    matrix : ndarray of float32, shape (N, K)
        Outputs by inputs; finite numbers.
    stored : StoredFormat
        The format.

    Returns
    -------
    ndarray of float32, shape (N, K)
        The numbers after storing and reading.

    Raises
    ------
    NotModelledError
        If the format's codes are found by search, or it holds no numbers of its own.
    """
    element = str(stored.element)
    if stored.scaling == "none" and element in scalar_formats():
        return round_to(matrix, scalar_formats()[element]).astype(_FP32)
    if stored.scaling not in _ROUNDERS or stored.element is None:
        raise NotModelledError(
            f"{stored.name}: its codes are found by search; only measured errors are known"
        )
    blocks, shape = _blocks(matrix, stored)
    held = _ROUNDERS[stored.scaling](blocks, stored, float(np.abs(matrix).max(initial=0)))
    return _back(held, shape, matrix.shape)


def is_quantizable(stored: StoredFormat) -> bool:
    """Return whether `quantized` knows what a format does."""
    scalar = stored.scaling == "none" and stored.element in scalar_formats()
    return scalar or (stored.scaling in _ROUNDERS and stored.element is not None)


def _blocks(matrix: Numbers, stored: StoredFormat) -> tuple[Numbers, tuple[int, ...]]:
    """Return a matrix as one block a row, partial blocks filled up with their last number."""
    if stored.flat:
        matrix = matrix.reshape(1, -1)
    rows, columns = matrix.shape
    size = (1, stored.flat) if stored.flat else stored.block
    height, width = size[0] or rows, size[1] or columns
    padded = np.pad(matrix, ((0, -rows % height), (0, -columns % width)), mode="edge")
    down, across = padded.shape[0] // height, padded.shape[1] // width
    parts = padded.reshape(down, height, across, width).swapaxes(1, 2)
    return parts.reshape(down * across, height * width), (down, across, height, width)


def _back(blocks: Numbers, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Numbers:
    down, across, height, width = shape
    parts = blocks.reshape(down, across, height, width).swapaxes(1, 2)
    flat = parts.reshape(down * height, across * width)
    if flat.shape[0] == 1 and wanted[0] != 1:
        return flat[0, : wanted[0] * wanted[1]].reshape(wanted)
    return flat[: wanted[0], : wanted[1]]


def _held(scales: Numbers, stored: StoredFormat) -> Numbers:
    """Return scales as they are stored."""
    if stored.scale_format == "fp32":
        return scales
    return round_to(scales, scalar_formats()[stored.scale_format]).astype(_FP32)


def _nearest(numbers: Numbers, element: str) -> Numbers:
    """Return the nearest numbers of an element; of ties, what its casts give."""
    if element in scalar_formats():
        entry = scalar_formats()[element]
        largest = _FP32(entry.largest)
        return round_to(np.clip(numbers, -largest, largest), entry).astype(_FP32)
    known = levels(element)
    if known.size > 2 and np.all(np.diff(known) == 1):
        return np.clip(np.round(numbers), known[0], known[-1]).astype(_FP32)
    middles = ((known[1:] + known[:-1]) / 2).astype(_FP32)
    return known.astype(_FP32)[np.searchsorted(middles, numbers)]


def _divided(numbers: Numbers, scales: Numbers) -> Numbers:
    quotient: Numbers = np.divide(numbers, scales, out=np.zeros_like(numbers), where=scales != 0)
    return quotient


def _by_largest(blocks: Numbers, stored: StoredFormat, _: float) -> Numbers:
    element = str(stored.element)
    most = np.abs(blocks).max(axis=1, keepdims=True)
    scales = most / _FP32(levels(element).max())
    return _nearest(_divided(blocks, scales), element) * _held(scales, stored)


def _by_range(blocks: Numbers, stored: StoredFormat, _: float) -> Numbers:
    low = blocks.min(axis=1, keepdims=True)
    steps = (1 << integer_bits(str(stored.element))) - 1
    scales = (blocks.max(axis=1, keepdims=True) - low) / _FP32(steps)
    codes = np.clip(np.round(_divided(blocks - low, scales)), 0, steps)
    return codes.astype(_FP32) * _held(scales, stored) + _held(low, stored)


def _by_signed_largest(blocks: Numbers, stored: StoredFormat, _: float) -> Numbers:
    half = 1 << (integer_bits(str(stored.element)) - 1)
    place = np.abs(blocks).argmax(axis=1)[:, None]
    scales = np.take_along_axis(blocks, place, axis=1) / _FP32(-half)
    codes = np.clip(np.floor(_divided(blocks, scales) + _FP32(half + 0.5)), 0, 2 * half - 1)
    shifted: Numbers = (codes - _FP32(half)).astype(_FP32)
    return shifted * _held(scales, stored)


def _by_power_of_two(blocks: Numbers, stored: StoredFormat, _: float) -> Numbers:
    element = str(stored.element)
    most = np.abs(blocks).max(axis=1, keepdims=True)
    exponents = np.frexp(most)[1] - 1 - largest_exponent(element)
    scales: Numbers = np.ldexp(_FP32(1), np.clip(exponents, -126, 127)).astype(_FP32)
    return _nearest(blocks / scales, element) * scales


def _by_two_scales(blocks: Numbers, stored: StoredFormat, most: float) -> Numbers:
    scale, element = scalar_formats()[stored.scale_format], str(stored.element)
    largest = _FP32(levels(element).max())
    whole = _FP32(most) / _FP32(scale.largest * float(largest))
    wanted = _divided(np.abs(blocks).max(axis=1, keepdims=True) / largest, np.full((1, 1), whole))
    limited = np.clip(wanted, _FP32(scale.epsilon), _FP32(scale.largest))
    scales = round_to(limited, scale).astype(_FP32) * whole
    return _nearest(_divided(blocks, scales), element) * scales


def _by_mean(blocks: Numbers, stored: StoredFormat, _: float) -> Numbers:
    scales = np.abs(blocks).mean(axis=1, keepdims=True, dtype=np.float64).astype(_FP32)
    return _nearest(_divided(blocks, scales), str(stored.element)) * _held(scales, stored)


_Rounder = Callable[[Numbers, StoredFormat, float], Numbers]

_ROUNDERS: Mapping[str, _Rounder] = MappingProxyType(
    {
        "absmax": _by_largest,
        "affine": _by_range,
        "signed-max": _by_signed_largest,
        "power-of-two": _by_power_of_two,
        "nvfp4": _by_two_scales,
        "absmean": _by_mean,
    }
)


def sqnr_db(matrix: Numbers, held: Numbers) -> float:
    """Return the power of a matrix over that of its error, infinite for none [dB].

    Parameters
    ----------
    matrix, held : ndarray
        Before and after.
    """
    signal = float(np.sum(np.square(matrix, dtype=np.float64)))
    noise = float(np.sum(np.square(np.subtract(matrix, held, dtype=np.float64))))
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")
