"""Numbers to codes and back, and the conversion worked by hand."""

import math
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.number_formats.encoding import (
    ROUNDINGS,
    decode,
    encode,
    finite_numbers,
    round_to,
)
from costmodels.number_formats.explaining import explain
from costmodels.number_formats.scalars import ScalarFormat, scalar_formats, scalars_of_text

FORMATS = scalar_formats()
SMALL = sorted(name for name, entry in FORMATS.items() if entry.bits <= 16)
NUMBERS = {name: finite_numbers(FORMATS[name]) for name in SMALL}
REALS = st.floats(allow_nan=False, allow_infinity=False)


def code(number: float, name: str, **options: Any) -> int:
    return int(encode(number, FORMATS[name], **options))


def test_the_fp32_codec_is_that_of_the_machine() -> None:
    for number in (3.14, 420.89938, -0.0, 1e-45, 3.4028235e38, math.inf):
        assert code(number, "fp32") == struct.unpack("<I", struct.pack("<f", number))[0]


def test_3_14_as_written_in_notes_and_as_it_is() -> None:
    assert f"{code(3.14, 'fp32'):032b}".endswith("0011")
    single = float(np.float32(3.14))
    assert code(single, "bf16", rounding="truncate") == 0x4048
    assert code(single, "bf16") == 0x4049
    assert f"{code(single, 'bf16', rounding='truncate'):016b}"[9:] == "1001000"
    assert f"{code(single, 'bf16'):016b}"[9:] == "1001001"
    assert decode(0x4048, FORMATS["bf16"]) == 3.125
    assert decode(0x4049, FORMATS["bf16"]) == 3.140625
    assert code(single, "fp16") == 0x4248 == int("0100001001001000", 2)
    assert decode(0x4247, FORMATS["fp16"]) == 3.138671875


def test_420_fits_and_its_fraction_does_not() -> None:
    assert code(420.0, "fp32") == 0x43D20000
    assert round_to(420.0, FORMATS["fp16"]) == 420.0
    single = float(np.float32(420.89938))
    assert single == 420.899383544921875
    assert code(single, "fp32") == 0x43D2731F
    assert (code(single, "bf16"), code(single, "fp16")) == (0x43D2, 0x5E94)
    assert round_to(single, FORMATS["bf16"]) == 420.0
    assert round_to(single, FORMATS["fp16"]) == 421.0


def test_8_43535_cannot_tell_fp16_from_bf16_but_8_43_can() -> None:
    both = [float(round_to(8.43535, FORMATS[name])) for name in ("fp16", "bf16")]
    assert both == [8.4375, 8.4375]
    apart = [float(round_to(8.43, FORMATS[name])) for name in ("fp16", "bf16")]
    assert apart == [8.4296875, 8.4375]


def test_ranges_are_those_of_the_fields_that_are_not_reserved() -> None:
    half, brain, single = (FORMATS[name] for name in ("fp16", "bf16", "fp32"))
    assert (half.smallest_normal, half.largest) == (2.0**-14, 65504.0)
    assert math.frexp(half.largest)[1] - 1 == 15
    assert math.frexp(brain.largest)[1] - 1 == 127
    assert brain.smallest_normal == single.smallest_normal == 2.0**-126
    assert single.largest == float(np.finfo(np.float32).max)
    assert [float(round_to(number, half)) for number in (65519.0, 65520.0)] == [65504.0, math.inf]
    assert float(round_to(float(np.float32(3.4e38)), brain)) == math.inf


@pytest.mark.parametrize("name", SMALL)
def test_every_code_is_that_of_its_number(name: str) -> None:
    source = FORMATS[name]
    codes = np.arange(1 << source.bits, dtype=np.uint64)
    numbers = decode(codes, source)
    known = ~np.isnan(numbers)
    assert (encode(numbers[known], source) == codes[known]).all()


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=25)
@given(number=REALS)
def test_the_nearest_is_the_nearest(name: str, number: float) -> None:
    target = FORMATS[name]
    numbers = NUMBERS[name]
    if not target.sign_bits:
        number = abs(number) + target.smallest_normal
    number = math.copysign(min(abs(number), target.largest), number)
    found = float(round_to(number, target))
    assert abs(found - number) == np.abs(numbers - number).min()


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=25)
@given(number=REALS)
def test_truncation_keeps_the_upper_digits(name: str, number: float) -> None:
    target = FORMATS[name]
    if not target.sign_bits:
        number = abs(number) + target.smallest_normal
    found = float(round_to(number, target, rounding="truncate"))
    assert abs(found) <= abs(number)
    assert abs(found) <= target.largest
    if target.zero and target.smallest_normal <= abs(number) <= target.largest:
        assert abs(number) - abs(found) < abs(number) * target.epsilon


@settings(max_examples=25)
@given(number=st.floats(-400, 400), draw=st.floats(0, 1, exclude_max=True))
def test_stochastic_rounding_gives_a_neighbour(number: float, draw: float) -> None:
    target = FORMATS["fp8_e4m3fn"]
    found = float(round_to(number, target, rounding="stochastic", draws=np.array(draw)))
    numbers = finite_numbers(target)
    below, above = numbers[numbers <= number].max(), numbers[numbers >= number].min()
    assert found in (below, above)


def test_stochastic_rounding_is_right_on_average() -> None:
    draws = (np.arange(1000) + 0.5) / 1000
    target = FORMATS["fp8_e4m3fn"]
    for number in (3.1, -0.0005, 17.9):
        found = round_to(np.full(1000, number), target, rounding="stochastic", draws=draws)
        step = found.max() - found.min()
        assert found.mean() == pytest.approx(number, abs=step / 999)


@pytest.mark.parametrize(
    ("name", "library", "number", "expected"),
    [
        ("fp8_e4m3fn", "torch", 1000.0, 0x7E),
        ("fp8_e4m3fn", "torch", math.inf, 0x7E),
        ("fp8_e4m3fn", "ml_dtypes", 1000.0, 0x7F),
        ("fp8_e4m3fn", "ml_dtypes", 464.0, 0x7E),
        ("fp8_e5m2", "torch", 61440.0, 0x7C),
        ("fp8_e4m3fnuz", "torch", 248.0, 0x80),
        ("fp8_e4m3fnuz", "torch", -0.0, 0x00),
        ("fp8_e4m3fnuz", "torch", -1e-9, 0x00),
        ("e8m0", "torch", -2.0, 128),
        ("e8m0", "ml_dtypes", -2.0, 255),
        ("e8m0", "torch", 0.0, 0),
        ("e8m0", "ml_dtypes", 0.0, 255),
        ("fp4_e2m1", "ml_dtypes", 1e9, 0x7),
        ("fp6_e3m2", "ml_dtypes", -math.inf, 0x3F),
    ],
)
def test_libraries_differ_where_it_is_said(
    name: str, library: str, number: float, expected: int
) -> None:
    assert int(encode(number, FORMATS[name].as_of(library))) == expected


def test_a_library_without_the_type_is_refused() -> None:
    with pytest.raises(SpecError, match="torch has no type for fp6_e2m3"):
        FORMATS["fp6_e2m3"].as_of("torch")
    with pytest.raises(SpecError, match="unknown library 'jax'"):
        FORMATS["bf16"].as_of("jax")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nan": "all-ones"}, "infinity = true needs nan = 'ieee'"),
        ({"infinity": False}, "overflow = 'infinity' needs"),
        ({"infinity": False, "overflow": "nan", "nan": "none"}, "needs a code that is NaN"),
        ({"bias": -1000}, "out of reach of fp64"),
        ({"stored_bits": 15}, "less than its 16 bits"),
        ({"mantissa_bits": 0}, "needs a bit of mantissa"),
        ({"sign_bits": 0, "infinity": False, "overflow": "nan", "nan": "negative-zero"}, "a sign"),
        ({"exponent_bits": 11, "mantissa_bits": 52, "sign_bits": 1, "bias": 0}, "out of reach"),
    ],
)
def test_fields_that_make_no_format_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        msgspec.convert({**msgspec.to_builtins(FORMATS["bf16"]), **change}, ScalarFormat)


def test_a_format_of_ones_own() -> None:
    text = (
        "[fp5_e2m2]\nexponent_bits = 2\nmantissa_bits = 2\nbias = 1\n"
        "nan = 'none'\ninfinity = false\noverflow = 'saturate'\nsource = 'mine'\n"
    )
    own = scalars_of_text(text, where="own.toml")["fp5_e2m2"]
    assert (own.bits, own.element_bits, own.largest, own.smallest_subnormal) == (5, 5, 7.0, 0.25)
    for broken in ("[", "x = 1", "[a]\nbits = 3", "[a]\nexponent_bits = 99"):
        with pytest.raises(SpecError, match=r"^own.toml"):
            scalars_of_text(broken, where="own.toml")


def test_steps_can_be_followed_by_hand() -> None:
    steps = " / ".join(explain(3.14, FORMATS["fp16"]).steps)
    assert "0 | 10000000 | 10010001111010111000011 = 0x4048f5c3" in steps
    assert "1 + 15 = 16" in steps
    assert "1001000111 | 1010111000011: more than half" in steps
    assert "0 | 10000 | 1001001000 = 0x4248" in steps
    assert "(1 + 584/1024) x 2^1 = 3.140625" in steps
    assert "10 places to the right" in " ".join(explain(1e-7, FORMATS["fp16"]).steps)
    assert "exactly half" in " ".join(explain(1 + 2.0**-11, FORMATS["fp16"]).steps)
    assert "beyond the largest number, 65504" in " ".join(explain(7e4, FORMATS["fp16"]).steps)


@pytest.mark.parametrize("name", SMALL)
def test_steps_show_the_digits_that_are_kept(name: str) -> None:
    target = FORMATS[name]
    for number in (0.3, 1.0, 5.7, 2.0**-7, 0.001):
        found = explain(number, target, rounding="truncate")
        kept = found.steps[2].removeprefix("mantissa: ").split(" | ")[0]
        finite = found.kind in ("normal", "subnormal") and abs(found.number) <= target.largest
        if finite and target.mantissa_bits:
            assert kept == found.mantissa


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=15)
@given(number=REALS, rounding=st.sampled_from(ROUNDINGS[:2]))
def test_neighbours_are_the_next_numbers(name: str, number: float, rounding: Any) -> None:
    target = FORMATS[name]
    found = explain(number, target, rounding=rounding)
    numbers = NUMBERS[name]
    if not math.isfinite(found.value):
        return
    smaller, larger = numbers[numbers < found.value], numbers[numbers > found.value]
    assert found.below == (
        smaller.max() if smaller.size else -math.inf if target.infinity else None
    )
    assert found.above == (larger.min() if larger.size else math.inf if target.infinity else None)


def test_numbers_that_are_none_are_explained() -> None:
    assert explain(math.nan, FORMATS["bf16"]).kind == "nan"
    found = explain(math.inf, FORMATS["bf16"])
    assert (found.kind, found.below, found.above) == ("infinite", FORMATS["bf16"].largest, None)
    assert explain(-math.inf, FORMATS["bf16"]).above == -FORMATS["bf16"].largest
    assert explain(0.1, FORMATS["fp64"]).number == 0.1
    assert explain(0.1, FORMATS["fp32"]).number != 0.1


def test_stochastic_rounding_needs_draws_and_nothing_else_does() -> None:
    with pytest.raises(SpecError, match="draws"):
        encode(1.0, FORMATS["bf16"], rounding="stochastic")
    with pytest.raises(SpecError, match="draws"):
        encode(1.0, FORMATS["bf16"], draws=np.array(0.5))
    with pytest.raises(SpecError, match="too many to list"):
        finite_numbers(FORMATS["fp32"])
