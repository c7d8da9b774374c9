"""Blocks of GGUF, byte by byte: those whose codes follow from a formula.

Layouts are those of ggml-common.h in llama.cpp; rounding is that of its reference quantizers
(`quantize_row_*_ref` in ggml-quants.c), in fp32.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import SpecError, not_found_message
from costmodels.number_formats.encoding import encode
from costmodels.number_formats.layouts import stored_formats
from costmodels.number_formats.scalars import scalar_formats

Numbers = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_FP32 = np.float32


def block_bytes(matrix: Numbers, name: str) -> Bytes:
    """Return a matrix as bytes of a GGUF file.

    Parameters
    ----------
    matrix : ndarray of float32, shape (N, K)
        Rows of whole blocks.
    name : str
        Such as ``q4_0``.

    Returns
    -------
    ndarray of uint8, shape (N, bytes of a row)
        The blocks.

    Raises
    ------
    SpecError
        If the blocks are not known, are found by search, or do not divide a row.
    """
    if name not in _PACKERS:
        raise SpecError(
            not_found_message(what="GGUF block with a formula", name=name, known=_PACKERS)
        )
    size = stored_formats()[f"gguf_{name}"].multiple_of
    rows, columns = matrix.shape
    if columns % size:
        raise SpecError(f"a row of {columns:,} weights is no whole number of blocks of {size}")
    blocks = np.ascontiguousarray(matrix, dtype=_FP32).reshape(-1, size)
    return _PACKERS[name](blocks).reshape(rows, -1)


def _inverse(scales: Numbers) -> Numbers:
    return np.divide(_FP32(1), scales, out=np.zeros_like(scales), where=scales != 0)


def _half(values: Numbers) -> Bytes:
    with np.errstate(over="ignore"):  # a scale beyond fp16 is infinite in the file too
        return values.astype(np.float16).view(np.uint8)


def _nibbles(codes: Bytes) -> Bytes:
    """Return two codes a byte: the first half of a block low, the second half high."""
    middle = codes.shape[1] // 2
    return codes[:, :middle] & np.uint8(15) | codes[:, middle:] << np.uint8(4)


def _fifth_bits(codes: Bytes) -> Bytes:
    return np.packbits(codes >> np.uint8(4), axis=1, bitorder="little")


def _whole(numbers: Numbers, most: int) -> Bytes:
    return np.clip(np.trunc(numbers), 0, most).astype(np.uint8)


def _signed(blocks: Numbers, half: int) -> tuple[Numbers, Bytes]:
    place = np.abs(blocks).argmax(axis=1)[:, None]
    scales = np.take_along_axis(blocks, place, axis=1) / _FP32(-half)
    return scales, _whole(blocks * _inverse(scales) + _FP32(half + 0.5), 2 * half - 1)


def _ranged(blocks: Numbers, steps: int) -> tuple[Numbers, Numbers, Bytes]:
    low = blocks.min(axis=1, keepdims=True)
    scales = (blocks.max(axis=1, keepdims=True) - low) / _FP32(steps)
    return scales, low, _whole((blocks - low) * _inverse(scales) + _FP32(0.5), steps)


def _away_from_zero(numbers: Numbers) -> Numbers:
    """Round to the nearest whole number, halves away from zero, as C's `roundf`."""
    size = np.abs(numbers)
    floor = np.floor(size)
    up = np.floor(2 * (size - floor))
    return np.asarray(np.sign(numbers) * (floor + up), dtype=_FP32)


def _q4_0(blocks: Numbers) -> Bytes:
    scales, codes = _signed(blocks, 8)
    return np.hstack([_half(scales), _nibbles(codes)])


def _q4_1(blocks: Numbers) -> Bytes:
    scales, low, codes = _ranged(blocks, 15)
    return np.hstack([_half(scales), _half(low), _nibbles(codes)])


def _q5_0(blocks: Numbers) -> Bytes:
    scales, codes = _signed(blocks, 16)
    return np.hstack([_half(scales), _fifth_bits(codes), _nibbles(codes)])


def _q5_1(blocks: Numbers) -> Bytes:
    scales, low, codes = _ranged(blocks, 31)
    return np.hstack([_half(scales), _half(low), _fifth_bits(codes), _nibbles(codes)])


def _q8_0(blocks: Numbers) -> Bytes:
    scales = np.abs(blocks).max(axis=1, keepdims=True) / _FP32(127)
    codes = _away_from_zero(blocks * _inverse(scales)).astype(np.int8).view(np.uint8)
    return np.hstack([_half(scales), codes])


def _trits(blocks: Numbers) -> tuple[Numbers, Bytes]:
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    codes = _away_from_zero(blocks * _inverse(scales)).astype(np.int8) + np.int8(1)
    return scales, codes.astype(np.uint8)


def _tq1_0(blocks: Numbers) -> Bytes:
    scales, trits = _trits(blocks)
    parts = []
    # 160 weights five to a byte 32 apart, 80 five to a byte 16 apart, the last 16 four to a byte.
    for start, stride, digits in ((0, 32, 5), (160, 16, 5), (240, 4, 4)):
        group = trits[:, start : start + stride * digits].reshape(-1, digits, stride)
        worth = np.array([81, 27, 9, 3, 1][:digits], dtype=np.uint16)[:, None]
        parts.append((group * worth).sum(axis=1, dtype=np.uint16))
    numbers = np.hstack(parts)
    # A byte holds the fraction number / 243 of 256, rounded up, so that a product by 3 gives a digit.
    fractions = (numbers.astype(np.uint32) * 256 + 242) // 243
    return np.hstack([fractions.astype(np.uint8), _half(scales)])


def _tq2_0(blocks: Numbers) -> Bytes:
    scales, trits = _trits(blocks)
    groups = trits.reshape(len(trits), -1, 4, 32) << np.array([0, 2, 4, 6], np.uint8)[:, None]
    packed = np.bitwise_or.reduce(groups, axis=2).reshape(len(trits), -1)
    return np.hstack([packed, _half(scales)])


def _mxfp4(blocks: Numbers) -> Bytes:
    most = np.abs(blocks).max(axis=1, keepdims=True)
    exponents = np.where(most > 0, np.frexp(most)[1] - 1 - 2 + 127, 0)
    scales = np.ldexp(1.0, np.maximum(exponents, 0) - 127)
    element = scalar_formats()["fp4_e2m1"]
    # Of two equally near numbers ggml takes the smaller magnitude, and zero has no sign.
    signs = np.signbit(blocks) & (blocks != 0)
    numbers = np.array([element.magnitude(code) for code in range(8)])
    middles = (numbers[1:] + numbers[:-1]) / 2
    codes = np.searchsorted(middles, np.abs(blocks) / scales, side="left").astype(np.uint8)
    codes = np.where(signs & (codes > 0), codes | np.uint8(8), codes).astype(np.uint8)
    return np.hstack([exponents.astype(np.uint8), _nibbles(codes)])


def _float(name: str) -> Callable[[Numbers], Bytes]:
    width = scalar_formats()[name].bits // 8

    def packed(blocks: Numbers) -> Bytes:
        codes = encode(blocks, scalar_formats()[name]).astype(f"<u{width}")
        return np.ascontiguousarray(codes).view(np.uint8)

    return packed


_PACKERS: Mapping[str, Callable[[Numbers], Bytes]] = MappingProxyType(
    {
        "f32": _float("fp32"),
        "f16": _float("fp16"),
        "bf16": _float("bf16"),
        "q4_0": _q4_0,
        "q4_1": _q4_1,
        "q5_0": _q5_0,
        "q5_1": _q5_1,
        "q8_0": _q8_0,
        "tq1_0": _tq1_0,
        "tq2_0": _tq2_0,
        "mxfp4": _mxfp4,
    }
)

BLOCKS_WITH_A_FORMULA = tuple(_PACKERS)
"""Blocks that `block_bytes` can write."""
