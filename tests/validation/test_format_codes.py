"""Codes of every format are those of torch and ml_dtypes, bit for bit."""

import pytest

from costmodels.number_formats.scalars import LIBRARIES, scalar_formats
from validation import format_codes
from validation.cases import passed

pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: the validation extra")
pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_codes_are_those_of_the_libraries() -> None:
    cases = format_codes.code_cases()
    assert [case.name for case in cases if not passed(case)] == []
    names = {case.name for case in cases}
    assert len(names) == len(cases)
    for target in scalar_formats().values():
        for library in LIBRARIES:
            cast = f"{target.name}, {library}"
            assert (f"{cast}, to codes" in names) == (getattr(target, library) is not None)
            both_ways = getattr(target, library) is not None and target.bits <= 16
            assert (f"{cast}, from codes" in names) == both_ways
    assert {"bf16, torch, from codes", "fp8_e4m3fn, ml_dtypes, to codes"} <= names


def test_a_wrong_format_is_found_out() -> None:
    from costmodels.number_formats.encoding import encode

    target = scalar_formats()["fp8_e4m3fn"]
    numbers = format_codes.sample(target)
    wrong = encode(numbers, target)
    theirs = format_codes._library_codes(numbers, "torch", "float8_e4m3fn")
    assert (wrong != theirs).sum() > 1000
