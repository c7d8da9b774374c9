"""What becomes of one number in a format: its bits, its neighbours, its error, worked by hand."""

import math
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from costmodels.number_formats.encoding import Rounding, decode, encode
from costmodels.number_formats.scalars import GENERIC, ScalarFormat, scalar_formats

_MOST_DIGITS = 25


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A number in a format.

    Attributes
    ----------
    format : str
        Name of the format.
    semantics : str
        Library whose cast it is, or ``specification``.
    rounding : str
        How it was rounded.
    number : float
        What was converted: the number as fp32 holds it, for formats up to 32 bits.
    sign, exponent, mantissa : str
        Fields of the code, as binary digits.
    code : int
        The code.
    hexadecimal : str
        The code in hexadecimal, with all its digits.
    value : float
        What the code stands for.
    kind : str
        ``normal``, ``subnormal``, ``zero``, ``infinite`` or ``nan``.
    error : float or None
        Value less number; None where either is not finite.
    relative_error : float or None
        Error over the number's magnitude; None also for zero.
    below, above : float or None
        The next smaller and larger numbers of the format, None where there is none.
    largest, smallest_normal, smallest_subnormal, epsilon : float or None
        Range of the format, and the distance from 1 to the next number.
    decimal_digits : float
        Decimal digits of a mantissa.
    steps : tuple of str
        The conversion worked by hand.
    """

    format: str
    semantics: str
    rounding: str
    number: float
    sign: str
    exponent: str
    mantissa: str
    code: int
    hexadecimal: str
    value: float
    kind: str
    error: float | None
    relative_error: float | None
    below: float | None
    above: float | None
    largest: float
    smallest_normal: float
    smallest_subnormal: float | None
    epsilon: float
    decimal_digits: float
    steps: tuple[str, ...]


def explain(
    number: float,
    target: ScalarFormat,
    *,
    semantics: str = GENERIC,
    rounding: Rounding = "nearest-even",
    draw: float | None = None,
) -> Explained:
    """Return what becomes of a number in a format.

    Parameters
    ----------
    number : float
        The number. Formats of up to 32 bits get what fp32 holds of it, as a tensor library casts;
        wider ones get it as it is.
    target : ScalarFormat
        The format.
    semantics : str
        Library whose cast it is, or `GENERIC`.
    rounding : str
        One of `costmodels.number_formats.encoding.ROUNDINGS`.
    draw : float or None
        For stochastic rounding, a number from 0 to below 1.

    Raises
    ------
    SpecError
        If the library has no such type.
    """
    cast = target.as_of(semantics)
    single = scalar_formats()["fp32"]
    given = number if cast.bits > single.bits else _one(decode(encode(number, single), single))
    draws = None if draw is None else np.array(draw)
    code = int(encode(given, cast, rounding=rounding, draws=draws))
    value = _one(decode(code, cast))
    digits = f"{code:0{cast.bits}b}"
    error = value - given if math.isfinite(value) and math.isfinite(given) else None
    below, above = _neighbours(code, cast)
    return Explained(
        format=cast.name,
        semantics=semantics,
        rounding=rounding,
        number=given,
        sign=digits[: cast.sign_bits],
        exponent=digits[cast.sign_bits : cast.sign_bits + cast.exponent_bits],
        mantissa=digits[cast.sign_bits + cast.exponent_bits :],
        code=code,
        hexadecimal=f"0x{code:0{-(-cast.bits // 4)}x}",
        value=value,
        kind=_kind(code, value, cast),
        error=error,
        relative_error=None if error is None or given == 0 else error / abs(given),
        below=below,
        above=above,
        largest=cast.largest,
        smallest_normal=cast.smallest_normal,
        smallest_subnormal=cast.smallest_subnormal,
        epsilon=cast.epsilon,
        decimal_digits=cast.decimal_digits,
        steps=_steps(number, given, code, value, cast, rounding),
    )


def _one(value: Any) -> float:
    return float(value)


def _kind(code: int, value: float, source: ScalarFormat) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "infinite"
    if value == 0:
        return "zero"
    field = (code >> source.mantissa_bits) & ((1 << source.exponent_bits) - 1)
    return "subnormal" if field == 0 and source.zero else "normal"


def _neighbours(code: int, source: ScalarFormat) -> tuple[float | None, float | None]:
    """Return the numbers next to a code's, in order of value."""
    width = source.exponent_bits + source.mantissa_bits
    magnitude, negative = code & ((1 << width) - 1), bool(code >> width)
    if math.isnan(_one(decode(code, source))):
        return None, None
    largest = source.largest_code
    if magnitude > largest:
        nearest = source.largest if not negative else -source.largest
        return (None, nearest) if negative else (nearest, None)
    smaller = source.magnitude(magnitude - 1) if magnitude else None
    if magnitude == largest:
        larger = math.inf if source.infinity else None
    else:
        larger = source.magnitude(magnitude + 1)
    if smaller is None:
        return (-source.magnitude(1) if source.sign_bits else None), larger
    if negative:
        return (None if larger is None else -larger), -smaller
    return smaller, larger


def exactly(value: float) -> str:
    """Return a number in decimal digits, all of them where they are few.

    Examples
    --------
    >>> exactly(3.140625), exactly(2.0**-149)
    ('3.140625', '1.401298464324817e-45')
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    text = format(Decimal(value), "f")
    return text if len(text.lstrip("-")) <= _MOST_DIGITS else repr(value)


def _steps(
    stated: float,
    given: float,
    code: int,
    value: float,
    target: ScalarFormat,
    rounding: Rounding,
) -> tuple[str, ...]:
    """Return the conversion in sentences, each of which can be checked by hand."""
    start = scalar_formats()["fp64" if target.bits > 32 else "fp32"]
    raw = int(encode(given, start))
    first = (
        f"{start.name}: {exactly(stated)} is {_fields(raw, start)} = 0x{raw:0{start.bits // 4}x}"
    )
    if given != stated:
        first += f", which is {exactly(given)}"
    end = f"decoded: {_decoded(code, value, target)}"
    if math.isfinite(given) and math.isfinite(value) and given:
        end += f"; error {value - given:.6g}, {abs(value - given) / abs(given):.3%} of the number"
    if not math.isfinite(given) or given == 0:
        fields = f"{target.name}: {exactly(given)} has the code {_fields(code, target)}"
        return (first, fields, end)
    return (first, *_rounding_steps(given, code, target, rounding), end)


def _rounding_steps(
    given: float, code: int, target: ScalarFormat, rounding: Rounding
) -> tuple[str, ...]:
    exponent = max(math.frexp(given)[1] - 1, -1022)
    least = target.least_exponent
    field = exponent + target.bias
    bits = f"{int(math.ldexp(abs(given), 52 - exponent)):053b}"
    lost = max(least - exponent, 0)
    scale = (
        f"exponent: |{exactly(given)}| = 1.m x 2^{exponent}; stored with bias {target.bias} that is "
        f"{exponent} + {target.bias} = {field}"
    )
    if lost and target.zero:
        scale += (
            f", less than 1: a subnormal number, its mantissa (with the leading 1) moves "
            f"{lost} places to the right and the field is 0"
        )
    digits = ("0" * lost + bits)[1 : 1 + 52 + lost] if not lost else ("0" * (lost - 1) + bits)
    kept, rest = digits[: target.mantissa_bits], digits[target.mantissa_bits :].rstrip("0")
    shown = rest if len(rest) <= _MOST_DIGITS else rest[:_MOST_DIGITS] + "..."
    mantissa = f"mantissa: {kept or 'no bits'} | {shown or '0'}: {_said(rest, kept or '1')}"
    outcome = f"{target.name}: {_fields(code, target)} = 0x{code:0{-(-target.bits // 4)}x}"
    magnitude = code & ((1 << (target.exponent_bits + target.mantissa_bits)) - 1)
    if abs(given) > target.largest and magnitude >= target.largest_code:
        outcome += f"; beyond the largest number, {exactly(target.largest)}"
    return (scale, f"{mantissa}; {_how(rounding, rest)}", outcome)


def _said(rest: str, kept: str) -> str:
    if not rest:
        return "nothing is cut off"
    if rest == "1":
        even = "odd, so up" if kept.endswith("1") else "even, so down"
        return f"exactly half a unit is cut off, and the kept digits are {even}"
    return f"{'more' if rest[0] == '1' else 'less'} than half a unit is cut off"


def _how(rounding: Rounding, rest: str) -> str:
    if not rest:
        return "nothing to round"
    return {
        "nearest-even": "round to the nearest, ties to even",
        "truncate": "cut off",
        "stochastic": "round up with the probability of what is cut off",
    }[rounding]


def _fields(code: int, source: ScalarFormat) -> str:
    digits = f"{code:0{source.bits}b}"
    ends = (0, source.sign_bits, source.sign_bits + source.exponent_bits, source.bits)
    parts = [digits[start:end] for start, end in pairwise(ends)]
    return " | ".join(part for part in parts if part)


def _decoded(code: int, value: float, source: ScalarFormat) -> str:
    kind = _kind(code, value, source)
    if kind not in ("normal", "subnormal"):
        return exactly(value)
    mantissa = code & ((1 << source.mantissa_bits) - 1)
    field = (code >> source.mantissa_bits) & ((1 << source.exponent_bits) - 1)
    sign = "-" if value < 0 else ""
    one, exponent = ("1", field - source.bias)
    if kind == "subnormal":
        one, exponent = "0", source.least_exponent
    share = f"{mantissa}/{1 << source.mantissa_bits}"
    return f"{sign}({one} + {share}) x 2^{exponent} = {exactly(value)}"
