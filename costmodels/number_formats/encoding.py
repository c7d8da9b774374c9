"""Numbers to codes and back, bit by bit, for every format of single numbers.

The arithmetic is on the integer significand of an fp64 number, so each conversion rounds once.
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodels.errors import SpecError
from costmodels.number_formats.scalars import ScalarFormat

Rounding: TypeAlias = Literal["nearest-even", "truncate", "stochastic"]

ROUNDINGS: tuple[Rounding, ...] = ("nearest-even", "truncate", "stochastic")
"""Ties to the even code; toward zero (the upper bits); up with the probability of the remainder."""

_MANTISSA, _EXPONENT_OF_ONE = 52, 1023
_DEEPEST = 62
"""Bits below which a significand of 53 bits is less than half a unit."""


def encode(
    numbers: ArrayLike,
    target: ScalarFormat,
    *,
    rounding: Rounding = "nearest-even",
    draws: NDArray[np.float64] | None = None,
) -> NDArray[np.uint64]:
    """Return the codes of numbers in a format.

    Parameters
    ----------
    numbers : array_like
        Numbers of any shape, taken as fp64; an fp32 number is one exactly.
    target : ScalarFormat
        The format, with the semantics of `ScalarFormat.as_of`.
    rounding : str
        One of `ROUNDINGS`.
    draws : ndarray or None
        For stochastic rounding, numbers from 0 to below 1, one for each number.

    Returns
    -------
    ndarray of uint64
        Codes, in the shape of `numbers`.

    Raises
    ------
    SpecError
        If stochastic rounding gets no draws, or another rounding gets some.

    Notes
    -----
    A significand of 53 bits is shifted to the mantissa of the format. What falls off rounds;
    a carry runs into the exponent by itself, as the codes of a sign are in order. Truncation never
    leaves the finite numbers; others overflow if the rounded code lies above the largest.
    """
    if (rounding == "stochastic") != (draws is not None):
        raise SpecError("draws: stochastic rounding needs them, and no other takes them")
    with np.errstate(invalid="ignore"):  # a signalling NaN of fp32 stays a NaN
        values = np.asarray(numbers, dtype=np.float64)
    raw = np.ascontiguousarray(values).reshape(values.shape).view(np.uint64)
    negative = (raw >> np.uint64(63)).astype(bool)
    codes = _magnitudes(raw, target, rounding, draws)
    codes = _beyond(codes, np.isinf(values), target, rounding)
    is_nan = np.isnan(values)
    if target.sign_bits:
        signed = negative
        if target.nan == "negative-zero":
            signed = negative & (codes != 0)
        sign = np.uint64(1 << (target.exponent_bits + target.mantissa_bits))
        codes = np.where(signed, codes | sign, codes)
    else:
        if target.negative_input == "nan":
            is_nan = is_nan | negative
        if not target.zero and target.negative_input == "nan":
            is_nan = is_nan | (values == 0)
    result: NDArray[np.uint64] = np.where(is_nan, np.uint64(target.nan_code), codes)
    return result


def _magnitudes(
    raw: NDArray[np.uint64],
    target: ScalarFormat,
    rounding: Rounding,
    draws: NDArray[np.float64] | None,
) -> NDArray[np.uint64]:
    """Return rounded codes without sign, not limited to those that exist."""
    field = ((raw >> np.uint64(_MANTISSA)) & np.uint64(0x7FF)).astype(np.int64)
    significand = raw & np.uint64((1 << _MANTISSA) - 1)
    significand = np.where(field > 0, significand | np.uint64(1 << _MANTISSA), significand)
    exponent = np.maximum(field, 1) - _EXPONENT_OF_ONE
    least = target.least_exponent
    kept = np.maximum(exponent, least)
    shift = np.minimum(_MANTISSA - target.mantissa_bits + kept - exponent, _DEEPEST)
    places = shift.astype(np.uint64)
    floor = significand >> places
    rest = significand - (floor << places)
    floor = floor + _rounds_up(floor, rest, places, rounding, draws).astype(np.uint64)
    base = (kept - least).astype(np.uint64) << np.uint64(target.mantissa_bits)
    if target.zero:
        return np.asarray(base + floor)
    # Without zero the smallest code is a power of two, whose leading one is not stored.
    one = np.uint64(1 << target.mantissa_bits)
    codes: NDArray[np.uint64] = np.where(
        floor >= one, base + np.maximum(floor, one) - one, np.uint64(0)
    )
    if target.lowest_gap == "up" and rounding == "nearest-even":
        # Both libraries take what lies above the smallest power of two for the next one.
        lowest_gap = (exponent == least) & (rest > 0)
        codes = np.where(lowest_gap, np.uint64(1), codes)
    return codes


def _rounds_up(
    floor: NDArray[np.uint64],
    rest: NDArray[np.uint64],
    places: NDArray[np.uint64],
    rounding: Rounding,
    draws: NDArray[np.float64] | None,
) -> NDArray[np.bool_]:
    if rounding == "truncate":
        return np.zeros(floor.shape, dtype=bool)
    if draws is not None:
        share = np.ldexp(rest.astype(np.float64), -places.astype(np.int64))
        return np.asarray(draws < share)
    half = np.where(places > 0, np.uint64(1) << (np.maximum(places, 1) - np.uint64(1)), 0)
    odd = (floor & np.uint64(1)).astype(bool)
    return np.asarray((places > 0) & ((rest > half) | ((rest == half) & odd)))


def _beyond(
    codes: NDArray[np.uint64],
    infinite: NDArray[np.bool_],
    target: ScalarFormat,
    rounding: Rounding,
) -> NDArray[np.uint64]:
    """Return codes with those above the largest put where the format has them."""
    largest = np.uint64(target.largest_code)
    replaced = {
        "saturate": target.largest_code,
        "infinity": target.infinity_code,
        "nan": target.nan_code,
    }
    over = np.uint64(replaced[target.overflow])
    finite = largest if rounding == "truncate" else over
    limited: NDArray[np.uint64] = np.where(codes > largest, finite, codes)
    return np.where(infinite, over, limited)


def decode(codes: ArrayLike, source: ScalarFormat) -> NDArray[np.float64]:
    """Return the numbers of codes.

    Parameters
    ----------
    codes : array_like
        Codes of any shape; bits above the format's are ignored.
    source : ScalarFormat
        The format.

    Returns
    -------
    ndarray of float64
        Numbers, NaN and infinity where the code is none.
    """
    raw = np.asarray(codes).astype(np.uint64) & np.uint64((1 << source.bits) - 1)
    width = source.exponent_bits + source.mantissa_bits
    magnitude = raw & np.uint64((1 << width) - 1)
    negative = ((raw >> np.uint64(width)) & np.uint64(source.sign_bits)).astype(bool)
    field = (magnitude >> np.uint64(source.mantissa_bits)).astype(np.int64)
    mantissa = (magnitude & np.uint64((1 << source.mantissa_bits) - 1)).astype(np.float64)
    normal = (field > 0) | (not source.zero)
    significand = mantissa + np.where(normal, 2.0**source.mantissa_bits, 0.0)
    exponent = np.where(normal, field - source.bias, source.least_exponent)
    # The highest field of fp64 is no number; its power would overflow before it is replaced.
    exponent = np.minimum(exponent - source.mantissa_bits, 971)
    values = np.ldexp(significand, exponent)
    values = np.where(negative, -values, values)
    if source.infinity:
        infinite = magnitude == np.uint64(source.infinity_code)
        values = np.where(infinite, np.where(negative, -np.inf, np.inf), values)
    return np.where(is_nan_code(raw, source), np.nan, values)


def is_nan_code(codes: NDArray[np.uint64], source: ScalarFormat) -> NDArray[np.bool_]:
    """Return which codes are no number.

    Parameters
    ----------
    codes : ndarray of uint64
        Codes.
    source : ScalarFormat
        The format.
    """
    width = source.exponent_bits + source.mantissa_bits
    magnitude = codes & np.uint64((1 << width) - 1)
    if source.nan == "ieee":
        return np.asarray(magnitude > np.uint64(source.infinity_code))
    if source.nan == "all-ones":
        return np.asarray(magnitude == np.uint64(source.nan_code))
    if source.nan == "negative-zero":
        return np.asarray(codes == np.uint64(source.nan_code))
    return np.zeros(codes.shape, dtype=bool)


def round_to(
    numbers: ArrayLike,
    target: ScalarFormat,
    *,
    rounding: Rounding = "nearest-even",
    draws: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return numbers as a format holds them (arguments as `encode`)."""
    return decode(encode(numbers, target, rounding=rounding, draws=draws), target)


def finite_numbers(source: ScalarFormat) -> NDArray[np.float64]:
    """Return the distinct finite numbers of a format of at most 16 bits, in order.

    Parameters
    ----------
    source : ScalarFormat
        The format.

    Raises
    ------
    SpecError
        If it has more than 16 bits.
    """
    if source.bits > 16:
        raise SpecError(f"{source.name}: has 2^{source.bits} codes, too many to list")
    numbers = decode(np.arange(1 << source.bits), source)
    return np.unique(numbers[np.isfinite(numbers)])
