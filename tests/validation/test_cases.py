"""A case can pass, fail, and says which."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import SpecError
from validation.cases import Case, error_fraction, passed


def case(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "suite": "suite",
        "name": "name",
        "claim": "the step takes 2 s",
        "prediction": 2.0,
        "measurement": 2.0,
        "unit": "s",
        "tolerance_fraction": 0.1,
        "tolerance_reason": "the paper prints one digit",
        "method": "read from a table",
        "source": "arXiv:2407.21783, Table 4",
    }
    return Case(**(fields | changes))


@pytest.mark.parametrize(
    ("prediction", "error", "verdict"),
    [(2.0, 0.0, True), (2.2, 0.1, True), (1.8, -0.1, True), (2.3, 0.15, False), (1.0, -0.5, False)],
)
def test_the_error_is_signed_and_the_verdict_is_not(
    prediction: float, error: float, verdict: bool
) -> None:
    tried = case(prediction=prediction, tolerance_fraction=0.1 + 1e-12)
    assert error_fraction(tried) == pytest.approx(error)
    assert passed(tried) is verdict


@given(st.integers(-(10**20), 10**20), st.integers(1, 100))
def test_without_tolerance_one_unit_fails(count: int, off: int) -> None:
    assert passed(case(prediction=count, measurement=count, tolerance_fraction=0))
    assert not passed(case(prediction=count + off, measurement=count, tolerance_fraction=0))


def test_a_missed_zero_and_no_number_fail() -> None:
    assert error_fraction(case(prediction=1, measurement=0)) == math.inf
    assert error_fraction(case(prediction=-1, measurement=0)) == -math.inf
    assert passed(case(prediction=0, measurement=0))
    for prediction in (math.nan, math.inf, -math.inf):
        assert not passed(case(prediction=prediction))


@pytest.mark.parametrize(
    "name", [n for n in Case.__struct_fields__ if isinstance(getattr(case(), n), str)]
)
def test_every_text_is_needed(name: str) -> None:
    with pytest.raises(SpecError, match=f"{name}: is empty"):
        case(**{name: " "})


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, math.inf, math.nan])
def test_a_case_must_be_able_to_fail(tolerance: float) -> None:
    with pytest.raises(SpecError, match="tolerance_fraction"):
        case(tolerance_fraction=tolerance)


def test_a_case_is_frozen_and_can_be_written() -> None:
    with pytest.raises(AttributeError):
        case().prediction = 3  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(case()), type=Case) == case()
