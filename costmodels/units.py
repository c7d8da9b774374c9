"""Quantities as people write them, to and from the base units used inside.

Inside the program every number is in bytes, FLOP, seconds, watts, joules or US dollars, or in a
quotient of these. Scaling happens here and nowhere else.
"""

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from costmodels.errors import UnitError

_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BINARY = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SMALL = {"m": Fraction(1, 10**3), "u": Fraction(1, 10**6), "n": Fraction(1, 10**9)}
_TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400}

# A count of tokens or sequences: 8k is a power of two where it sizes a sequence or a batch.
_LENGTH = {"": 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30, "B": 2**30} | _BINARY
_COUNT = _DECIMAL | {"B": 10**9} | _BINARY

_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*(.*?)\s*")
_LONGEST = 80

SECONDS_PER_DAY = 86400
SECONDS_PER_HOUR = 3600


def _scaled_units(base: str, *, binary: bool = False) -> dict[str, Fraction]:
    prefixes = _DECIMAL | (_BINARY if binary else {})
    return {prefix + base: Fraction(factor) for prefix, factor in prefixes.items()}


_SECOND = {unit: Fraction(factor) for unit, factor in _TIMES.items()} | {
    prefix + "s": factor for prefix, factor in _SMALL.items()
}
_BYTE = _scaled_units("B", binary=True)
_BYTE_RATE = {unit + "/s": factor for unit, factor in _BYTE.items()} | {
    unit: factor / 8 for unit, factor in _scaled_units("b/s").items()
}

UNITS = MappingProxyType(
    {
        "bytes": _BYTE,
        "bytes_per_s": _BYTE_RATE,
        "flop": _scaled_units("FLOP"),
        "flop_per_s": _scaled_units("FLOP/s") | _scaled_units("FLOPS"),
        "s": _SECOND,
        "w": _scaled_units("W"),
        "j": _scaled_units("J") | {"kWh": Fraction(3_600_000)},
        "usd": {"USD": Fraction(1)},
        "usd_per_s": {"USD/h": Fraction(1, 3600), "USD/s": Fraction(1)},
        "fraction": {"": Fraction(1), "%": Fraction(1, 100)},
        "length": {unit: Fraction(factor) for unit, factor in _LENGTH.items()},
        "count": {unit: Fraction(factor) for unit, factor in _COUNT.items()},
    }
)
"""For each kind of quantity, its units and their size in the base unit."""

_SUFFIXES = ("bytes_per_s", "flop_per_s", "usd_per_s", "bytes", "flop", "fraction", "s", "w", "j")
_LENGTHS = ("sequence_length", "global_batch_size", "micro_batch_size", "max_position_embeddings")


def unit_of_field(name: str) -> str:
    """Return the kind of quantity that a field holds, by the ending of its name.

    Examples
    --------
    >>> unit_of_field("memory_bandwidth_bytes_per_s"), unit_of_field("sequence_length")
    ('bytes_per_s', 'length')
    """
    if name in _LENGTHS:
        return "length"
    for suffix in (*_SUFFIXES, "usd"):
        if name.endswith("_" + suffix):
            return suffix
    return "count"


def parse_quantity(text: str, unit: str) -> int | float:
    """Return the quantity that `text` states, in the base unit.

    Parameters
    ----------
    text : str
        A number and a unit, such as ``3.35 TB/s``, ``8k`` or ``2.99 USD/h``.
    unit : str
        Kind of quantity, a key of `UNITS`.

    Returns
    -------
    int or float
        An integer where the quantity is a whole number, else the nearest float.

    Raises
    ------
    UnitError
        If `text` is no number followed by one of the units of this kind.

    Notes
    -----
    Lengths of sequences and sizes of batches come in powers of two: ``8k`` is 8,192 there.
    Counts (``15.6T`` tokens of a run) are decimal.

    Examples
    --------
    >>> parse_quantity("80 GB", "bytes"), parse_quantity("8k", "length")
    (80000000000, 8192)
    >>> parse_quantity("15.6T", "count"), parse_quantity("50 %", "fraction")
    (15600000000000, 0.5)
    """
    known = {"": Fraction(1)} | UNITS[unit]
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or match[2] not in known:
        shown = ", ".join(name or "no unit" for name in known)
        raise UnitError(f"cannot read {text[:_LONGEST]!r}: expected a number and one of: {shown}")
    value = Fraction(match[1].replace(",", "").replace("_", "")) * known[match[2]]
    if value.denominator == 1:
        return value.numerator
    try:
        return float(value)
    except OverflowError as error:  # pragma: no cover - a denominator this large cannot be typed
        raise UnitError(f"cannot read {text!r}: the number is too large") from error


def _format_scaled(value: float, *, base: float, prefixes: tuple[str, ...], unit: str) -> str:
    size = abs(value)
    index = 0
    while size >= base * 0.99995 and index < len(prefixes) - 1:
        size /= base
        value /= base
        index += 1
    return (
        f"{value:,.4g} {prefixes[index]}{unit}"
        if size < 1000
        else f"{value:,.0f} {prefixes[index]}{unit}"
    )


def format_bytes(value: float) -> str:
    """Return an amount of memory with a binary prefix.

    Examples
    --------
    >>> format_bytes(80 * 2**30)
    '80 GiB'
    """
    return _format_scaled(value, base=1024, prefixes=("", "Ki", "Mi", "Gi", "Ti", "Pi"), unit="B")


_LARGE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def format_traffic(value: float) -> str:
    """Return an amount of bytes sent, with a decimal prefix as bandwidths have.

    Examples
    --------
    >>> format_traffic(406e9)
    '406 GB'
    """
    return _format_scaled(value, base=1000, prefixes=_LARGE, unit="B")


def format_flop(value: float) -> str:
    """Return an amount of work with a decimal prefix.

    Examples
    --------
    >>> format_flop(4e19)
    '40 EFLOP'
    """
    return _format_scaled(value, base=1000, prefixes=_LARGE, unit="FLOP")


def format_rate(value: float, unit: str) -> str:
    """Return a rate, such as bytes or FLOP per second, with a decimal prefix.

    Examples
    --------
    >>> format_rate(989.4e12, "FLOP/s")
    '989.4 TFLOP/s'
    """
    return _format_scaled(value, base=1000, prefixes=_LARGE, unit=unit)


def format_seconds(value: float) -> str:
    """Return a duration in the unit that reads best.

    Examples
    --------
    >>> format_seconds(0.0123), format_seconds(5.5), format_seconds(86400 * 3)
    ('12.3 ms', '5.5 s', '3 days')
    """
    for limit, size, unit in ((1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (600.0, 1.0, "s")):
        if abs(value) < limit:
            return f"{value / size:.4g} {unit}"
    if abs(value) < 2 * SECONDS_PER_DAY:
        return f"{value / SECONDS_PER_HOUR:.4g} h"
    return f"{value / SECONDS_PER_DAY:,.4g} days"


def format_energy(value: float) -> str:
    """Return an energy in watt-hours with a decimal prefix.

    Examples
    --------
    >>> format_energy(3.6e9)
    '1 MWh'
    """
    return _format_scaled(value / SECONDS_PER_HOUR, base=1000, prefixes=_LARGE, unit="Wh")


def format_usd(value: float) -> str:
    """Return an amount of US dollars.

    Examples
    --------
    >>> format_usd(1234567.8), format_usd(0.123)
    ('$1,234,568', '$0.123')
    """
    return f"${value:,.0f}" if abs(value) >= 100 else f"${value:.4g}"


def format_count(value: float) -> str:
    """Return a number of things, whole and with separators.

    Examples
    --------
    >>> format_count(405853388800)
    '405,853,388,800'
    """
    return f"{value:,.0f}"


def format_short_count(value: int) -> str:
    """Return a number of things as short as it can be read again: 15.6T, else with separators.

    Examples
    --------
    >>> format_short_count(15_600_000_000_000), format_short_count(128_256)
    ('15.6T', '128,256')
    """
    for prefix, size in reversed(_DECIMAL.items()):
        if size >= _DECIMAL["M"] and value >= size and value * 100 % size == 0:
            return f"{value / size:g}{prefix}"
    return f"{value:,}"


def format_number(value: float) -> str:
    """Return a number without unit, whole or to six digits.

    Examples
    --------
    >>> format_number(8), format_number(1.44)
    ('8', '1.44')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def format_fraction(value: float) -> str:
    """Return a fraction in percent.

    Examples
    --------
    >>> format_fraction(3 / 7)
    '42.86 %'
    """
    return f"{100 * value:.2f} %"


_SENT_ENDINGS = ("sent_bytes", "network_bytes", "scale_up_bytes", "traffic_bytes")
"""How names of bytes that are sent, not held, end."""


def format_named(name: str, value: Any) -> str:
    """Return a number with the unit that its name ends with; a text or a truth as it is.

    Examples
    --------
    >>> format_named("stage_bytes", 2**30), format_named("mfu_fraction", 0.4)
    ('1 GiB', '40.00 %')
    >>> format_named("step_s", None), format_named("fits", True)
    ('-', 'true')

    Memory has binary prefixes, what is sent decimal ones, as the bandwidths that it is divided by:

    >>> format_named("scale_up_bytes", 10**9), format_named("weights_bytes", 2**30)
    ('1 GB', '1 GiB')
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith(_SENT_ENDINGS):
        return format_traffic(value)
    if "tokens_per_s" in name:
        return f"{value:,.1f} tokens/s"
    return _FORMS.get(unit_of_field(name.removesuffix("_per_gpu")), format_number)(value)


def format_signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, no sign of minus before what rounds to zero.

    Examples
    --------
    >>> format_signed(-0.001), format_signed(-0.1), format_signed(2.0, 1)
    ('+0.00', '-0.10', '+2.0')
    """
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def format_change(name: str, value: float) -> str:
    """Return a difference with its sign and the unit that its name ends with.

    Examples
    --------
    >>> format_change("step_s", -2.5), format_change("mfu_fraction", 0.01)
    ('-2.5 s', '+1.00 points')
    """
    if name.endswith("_fraction"):
        return f"{format_signed(100 * value)} points"
    sign = "-" if value < 0 else "+" if value > 0 else ""
    return sign + format_named(name, abs(value))


_FORMS: Mapping[str, Callable[[float], str]] = {
    "bytes": format_bytes,
    "bytes_per_s": lambda value: format_rate(value, "B/s"),
    "flop": format_flop,
    "flop_per_s": lambda value: format_rate(value, "FLOP/s"),
    "s": format_seconds,
    "w": lambda value: f"{value:,.4g} W",
    "j": format_energy,
    "usd": format_usd,
    "usd_per_s": lambda value: f"{format_usd(value * SECONDS_PER_HOUR)}/h",
    "fraction": format_fraction,
}
