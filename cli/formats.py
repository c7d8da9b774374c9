"""A number in number formats, for people and programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.inputs import read_text
from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError, not_found_message
from costmodels.number_formats.encoding import ROUNDINGS, Rounding
from costmodels.number_formats.explaining import Explained, exactly, explain
from costmodels.number_formats.scalars import (
    GENERIC,
    ScalarFormat,
    scalar_formats,
    scalars_of_text,
)

_MOST_FORMATS, _BRIEF = 100, 16


def explained(
    number: str,
    names: str,
    *,
    library: str | None = None,
    rounding: str | None = None,
    draw: float | None = None,
    file: Path | None = None,
) -> tuple[Explained, ...]:
    """Return what becomes of a number in each of some formats.

    Parameters
    ----------
    number : str
        The number as typed.
    names : str
        Names of formats with commas between.
    library : str or None
        Library whose casts are meant; None for each format's specification.
    rounding : str or None
        How to round, to the nearest if None.
    draw : float or None
        For stochastic rounding, the number from 0 to below 1 that decides.
    file : Path or None
        TOML file with further formats.

    Raises
    ------
    SpecError
        If there is no such number, format, library or rounding.
    """
    how = _rounding(rounding or ROUNDINGS[0])
    if draw is not None and not 0 <= draw < 1:
        raise SpecError(f"--draw ({draw:g}): must be at least 0 and below 1")
    if (how == "stochastic") != (draw is not None):
        raise SpecError("--draw: needed with --rounding stochastic, and only there")
    known = known_formats(file)
    chosen = [name.strip() for name in names.split(",")]
    if len(chosen) > _MOST_FORMATS:
        raise SpecError(f"--as: names {len(chosen)} formats, more than {_MOST_FORMATS}")
    value = _number(number)
    return tuple(
        explain(
            value,
            _format(name, known),
            semantics=library or GENERIC,
            rounding=how,
            draw=draw,
        )
        for name in chosen
    )


def known_formats(file: Path | None) -> Mapping[str, ScalarFormat]:
    """Return the formats of single numbers that there are, with those of a file.

    Parameters
    ----------
    file : Path or None
        TOML file with a table for each further format.

    Raises
    ------
    SpecError
        If the file cannot be read, is no description, or takes a known name.
    """
    known = dict(scalar_formats())
    if file is None:
        return known
    own = scalars_of_text(read_text(file), where=str(file))
    taken = sorted(set(own) & set(known))
    if taken:
        raise SpecError(f"{file}: {taken[0]} is the name of a known format; choose another")
    return known | own


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(
            f"'{text[:60]}': expected a number, such as 3.14, 1e-8, inf or nan"
        ) from None


def _format(name: str, known: Mapping[str, ScalarFormat]) -> ScalarFormat:
    if name not in known:
        raise SpecError(not_found_message(what="number format", name=name[:60], known=known))
    return known[name]


def _rounding(name: str) -> Rounding:
    for rounding in ROUNDINGS:
        if rounding == name:
            return rounding
    raise SpecError(not_found_message(what="--rounding", name=name[:60], known=ROUNDINGS))


def show_formats(found: Sequence[Explained], *, steps: bool) -> None:
    """Print a number in formats: bits and error, then range, then the steps if asked for."""
    out = console()
    numbers = {entry.number for entry in found}
    rounding = found[0].rounding
    semantics = found[0].semantics
    for number in sorted(numbers):
        held = "" if len(numbers) > 1 else " (what fp32 holds of it, unless a format is wider)"
        out.print(f"number {exactly(number)}{held}; rounding {rounding}; semantics: {semantics}")
    bits = table_of(
        "Bits",
        *("format", "sign", "exponent", "mantissa", "code", "value"),
        *("error", "relative", "below", "above"),
    )
    ranges = table_of(
        "Range of each format",
        *("format", "largest", "smallest normal", "smallest subnormal", "epsilon", "digits"),
    )
    for entry in found:
        bits.add_row(
            entry.format,
            entry.sign or "-",
            entry.exponent,
            entry.mantissa or "-",
            entry.hexadecimal,
            _brief(entry.value),
            "-" if entry.error is None else f"{entry.error:.6g}",
            "-" if entry.relative_error is None else f"{100 * entry.relative_error:.4g} %",
            _or_none(entry.below),
            _or_none(entry.above),
        )
        ranges.add_row(
            entry.format,
            f"{entry.largest:.9g}",
            f"{entry.smallest_normal:.9g}",
            "-" if entry.smallest_subnormal is None else f"{entry.smallest_subnormal:.9g}",
            f"{entry.epsilon:.9g}",
            f"{entry.decimal_digits:.2f}",
        )
    print_table(out, bits)
    print_table(out, ranges)
    if steps:
        for entry in found:
            out.print(f"{entry.format}, step by step")
            for index, step in enumerate(entry.steps, start=1):
                out.print(f"  {index}. {step}", soft_wrap=True)


def _or_none(value: float | None) -> str:
    return "none" if value is None else _brief(value)


def _brief(value: float) -> str:
    text = exactly(value)
    return text if len(text) <= _BRIEF else f"{value:.9g}"
