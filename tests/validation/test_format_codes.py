"""Codes of every format are those of torch and ml_dtypes, bit for bit."""

import pytest

from validation import format_codes
from validation.cases import passed

pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: the validation extra")
pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_codes_are_those_of_the_libraries() -> None:
    cases = format_codes.code_cases()
    assert [case.name for case in cases if not passed(case)] == []
    names = {case.name for case in cases}
    for name in ("bf16, torch", "fp8_e4m3fn, torch", "fp8_e4m3fn, ml_dtypes", "e8m0, torch"):
        assert {f"{name}, to codes", f"{name}, from codes"} <= names
    assert len(cases) == 2 * 19 - 2


def test_a_wrong_format_is_found_out() -> None:
    from costmodels.number_formats.encoding import encode
    from costmodels.number_formats.scalars import scalar_formats

    target = scalar_formats()["fp8_e4m3fn"]
    numbers = format_codes.sample(target)
    wrong = encode(numbers, target)
    theirs = format_codes._library_codes(numbers, "torch", "float8_e4m3fn")
    assert (wrong != theirs).sum() > 1000
