"""Codes of numbers in every format, against the casts of torch and ml_dtypes, bit for bit."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from costmodels.number_formats.encoding import decode, encode, finite_numbers, is_nan_code
from costmodels.number_formats.scalars import LIBRARIES, ScalarFormat, scalar_formats
from validation.cases import Case

SUITE = "format-codes"

LOW_HALVES = (
    *(0x0000, 0x0001, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x3FFF),
    *(0x4000, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF),
)
"""Lower halves of fp32 codes: nothing, ties of fp16 and bf16, one unit to each side, all ones."""


class Compared(NamedTuple):
    """Codes of one format and library: how many were asked for, and how many agree."""

    format: str
    library: str
    way: str
    asked: int
    equal: int


def sample(target: ScalarFormat) -> NDArray[np.float32]:
    """Return fp32 numbers that meet every edge of a format.

    Parameters
    ----------
    target : ScalarFormat
        The format.

    Returns
    -------
    ndarray of float32
        All 65,536 upper halves with each of `LOW_HALVES`; all numbers of fp16; and for formats of
        up to 16 bits every midpoint of two neighbours, with one unit of fp32 to each side.
    """
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    parts = [(upper | np.uint32(low)).view(np.float32) for low in LOW_HALVES]
    parts.append(np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32))
    if target.bits <= 16:
        numbers = finite_numbers(target)
        middles = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
        ends = np.float32(np.inf)
        parts += [middles, np.nextafter(middles, ends), np.nextafter(middles, -ends)]
    return np.concatenate(parts)


def codes_compared() -> Iterator[Compared]:
    """Return for every format and library how many codes agree, there and back.

    A NaN agrees with every NaN; where a format has none, inputs that are NaN are left out.
    """
    for target in scalar_formats().values():
        numbers = sample(target)
        for library in LIBRARIES:
            described = getattr(target, library)
            if described is None:
                continue
            cast = target.as_of(library)
            chosen = numbers[~np.isnan(numbers)] if target.nan == "none" else numbers
            theirs = _library_codes(chosen, library, described.dtype)
            ours = encode(chosen, cast)
            nans = is_nan_code(theirs, cast) & is_nan_code(ours, cast)
            agreed = int(((theirs == ours) | nans).sum())
            yield Compared(target.name, library, "to codes", chosen.size, agreed)
            if target.bits <= 16:
                codes = np.arange(1 << target.bits, dtype=np.uint64)
                back = _library_numbers(codes, library, described.dtype)
                alike = _same_bits(back, decode(codes, cast))
                yield Compared(target.name, library, "from codes", codes.size, int(alike.sum()))


def _same_bits(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    both_nan = np.isnan(first) & np.isnan(second)
    return np.asarray((first.view(np.uint64) == second.view(np.uint64)) | both_nan)


def _library_codes(numbers: NDArray[np.float32], library: str, dtype: str) -> NDArray[np.uint64]:
    if library == "torch":
        from validation.torch_programs.casts import codes_of_cast

        return codes_of_cast(numbers, dtype)
    cast = _with_ml_dtypes(numbers, dtype)
    return cast.view(f"u{cast.itemsize}").astype(np.uint64)


def _library_numbers(codes: NDArray[np.uint64], library: str, dtype: str) -> NDArray[np.float64]:
    if library == "torch":
        from validation.torch_programs.casts import numbers_of_codes

        return numbers_of_codes(codes, dtype)
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype))
    raw = codes.astype(f"u{kind.itemsize}").view(kind)
    with np.errstate(invalid="ignore"):
        numbers: NDArray[np.float64] = raw.astype(np.float64)
    return numbers


def _with_ml_dtypes(numbers: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    import ml_dtypes

    with np.errstate(all="ignore"):
        return numbers.astype(getattr(ml_dtypes, dtype))


def code_cases() -> list[Case]:
    """Return a case for every format, library and direction. Needs torch and ml_dtypes."""
    return [
        Case(
            suite=SUITE,
            name=f"{pair.format}, {pair.library}, {pair.way}",
            claim=f"the codec of {pair.format} gives what {pair.library} gives, bit for bit",
            prediction=pair.asked,
            measurement=pair.equal,
            unit="code",
            tolerance_fraction=0.0,
            tolerance_reason="a code is equal or it is not; any NaN stands for any other",
            method="upper halves of fp32 with 14 lower halves, all of fp16, midpoints of neighbours",
            source=f"casts of {pair.library}, run",
        )
        for pair in codes_compared()
    ]
