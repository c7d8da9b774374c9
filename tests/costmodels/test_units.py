"""Quantities with units: what is written is read back, and what is unclear is refused."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import UnitError
from costmodels.leaves import leaves
from costmodels.scenario import field_paths
from costmodels.units import (
    UNITS,
    format_bytes,
    format_count,
    format_energy,
    format_flop,
    format_fraction,
    format_rate,
    format_seconds,
    format_traffic,
    format_usd,
    parse_quantity,
    unit_of_field,
)

kinds = st.sampled_from(sorted(UNITS))


@st.composite
def quantities(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw a decimal number, one of a kind's units, and the kind."""
    kind = draw(kinds)
    number = draw(st.decimals(-(10**12), 10**12, places=draw(st.integers(0, 6))))
    return f"{number:f}", draw(st.sampled_from(sorted(UNITS[kind]))), kind


@given(quantities(), st.sampled_from(["", " ", "\t "]))
def test_a_quantity_is_its_number_times_its_unit(
    quantity: tuple[str, str, str], space: str
) -> None:
    number, unit, kind = quantity
    read = parse_quantity(number + space + unit, kind)
    exact = Fraction(number) * UNITS[kind][unit]
    assert read == (exact if exact.denominator == 1 else float(exact))
    assert isinstance(read, int) == (exact.denominator == 1)


@given(kinds, st.text(max_size=20))
def test_any_other_text_is_one_clear_error(kind: str, text: str) -> None:
    try:
        value = parse_quantity(text, kind)
    except UnitError as error:
        assert repr(text) in str(error)
        assert "expected a number and one of" in str(error)
    else:
        assert isinstance(value, (int, float))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("80 GB", "bytes", 80 * 10**9),
        ("80GiB", "bytes", 80 * 2**30),
        ("3.35 TB/s", "bytes_per_s", 3_350_000_000_000),
        ("400 Gb/s", "bytes_per_s", 50 * 10**9),
        ("989.4 TFLOP/s", "flop_per_s", 989_400_000_000_000),
        ("8k", "length", 8192),
        ("16M", "length", 2**24),
        ("15.6T", "count", 15_600_000_000_000),
        ("16_384", "count", 16384),
        ("1,024", "count", 1024),
        ("2.9 us", "s", 2.9e-6),
        ("6.88 USD/h", "usd_per_s", 6.88 / 3600),
        ("78 %", "fraction", 0.78),
        ("1e3", "count", 1000),
    ],
)
def test_as_on_a_datasheet(text: str, kind: str, value: float) -> None:
    assert parse_quantity(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[("80 gb", "bytes"), ("8 k", "bytes"), ("", "count"), ("k", "length"), ("1..2", "count")],
        *[("nan", "s"), ("inf", "s"), ("1 2", "count"), ("0x10", "count"), ("5 %", "count")],
    ],
)
def test_refused(text: str, kind: str) -> None:
    with pytest.raises(UnitError, match="cannot read"):
        parse_quantity(text, kind)


def test_endless_digits_are_refused_or_read_but_nothing_else() -> None:
    for text in ("9" * 5000, "1e400", "1e999999999", "1e-999999999", "0." + "9" * 5000):
        for kind in ("count", "fraction"):
            try:
                parse_quantity(text, kind)
            except UnitError as error:
                assert "cannot read" in str(error)


@pytest.mark.parametrize("path", field_paths())
def test_every_field_has_a_unit_that_can_be_read(path: str) -> None:
    assert unit_of_field(path.rsplit(".", 1)[1]) in UNITS


def test_every_leaf_has_a_unit() -> None:
    assert all(leaf.unit for leaf in leaves().values())


binary = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
decimal = {prefix: 10 ** (3 * index) for index, prefix in enumerate(["", *"kMGTPEZY"])}


@given(st.integers(0, 2**59))
def test_bytes_are_shown_with_four_digits(amount: int) -> None:
    number, unit = format_bytes(amount).split()
    shown = float(number.replace(",", "")) * binary[unit]
    assert shown == pytest.approx(amount, rel=5.1e-4)


@given(st.integers(0, 10**26))
def test_decimal_amounts_are_shown_with_four_digits(amount: int) -> None:
    for text, unit in (
        (format_traffic(amount), "B"),
        (format_flop(amount), "FLOP"),
        (format_rate(amount, "B/s"), "B/s"),
    ):
        number, shown_unit = text.split()
        scale = decimal[shown_unit.removesuffix(unit)]
        assert float(number.replace(",", "")) * scale == pytest.approx(amount, rel=5.1e-4)


times = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "h": 3600.0, "days": 86400.0}


@given(st.floats(1e-9, 1e10))
def test_durations_are_shown_with_four_digits(seconds: float) -> None:
    number, unit = format_seconds(seconds).split()
    shown = float(number.replace(",", "")) * times[unit]
    assert shown == pytest.approx(seconds, rel=5.1e-4)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_energy(3.6e6), "1 kWh"),
        (format_usd(99.994), "$99.99"),
        (format_usd(-1234.5), "$-1,234"),
        (format_count(0), "0"),
        (format_fraction(1), "100.00 %"),
        (format_bytes(0), "0 B"),
        (format_seconds(0), "0 us"),
        (format_flop(999.96e9), "1 TFLOP"),
    ],
)
def test_shown_as(shown: str, expected: str) -> None:
    assert shown == expected
