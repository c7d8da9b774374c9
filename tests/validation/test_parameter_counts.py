"""Parameter counts equal, to the unit, those of transformers' modules and published ones."""

import pytest

from costmodels.presets import preset_names
from validation.cases import Case, error_fraction, passed
from validation.parameter_counts import (
    CONFIGURATIONS,
    built_cases,
    configuration,
    published_cases,
    rounding_step,
)


@pytest.mark.parametrize("case", published_cases(), ids=lambda case: case.name)
def test_published_counts_are_met_within_their_digits(case: Case) -> None:
    assert passed(case), (case.prediction, case.measurement)


def test_every_preset_is_compared() -> None:
    assert {case.name.split()[0] for case in published_cases()} == set(preset_names("model"))
    assert {*CONFIGURATIONS, "gpt-3-175b"} == set(preset_names("model"))


def test_checkpoints_are_met_exactly() -> None:
    exact = [case for case in published_cases() if case.tolerance_fraction == 0]
    assert len(exact) == 4
    assert all(case.prediction == case.measurement for case in exact)


@pytest.mark.parametrize(
    ("parameters", "stated", "step"), [(174_600_000_000, "", 10**8), (7, "", 1), (70, "1", 1)]
)
def test_a_published_count_is_rounded_to_its_last_digit(
    parameters: int, stated: str, step: int
) -> None:
    assert rounding_step(parameters, stated) == step


@pytest.fixture(scope="module")
def built() -> dict[str, Case]:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    pytest.importorskip("transformers", reason="transformers is not installed")
    return {case.name: case for case in built_cases()}


NAMES = [f"{model} total" for model in preset_names("model")] + ["mixtral-8x7b active"]


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_presets_have_the_parameters_of_their_modules(built: dict[str, Case], name: str) -> None:
    case = built[name]
    assert error_fraction(case) == 0
    assert passed(case)


@pytest.mark.torch
def test_all_cases_are_looked_at(built: dict[str, Case]) -> None:
    assert set(built) == set(NAMES)
    assert built["llama-3.1-405b total"].measurement == 405_853_388_800


@pytest.mark.torch
def test_another_layer_would_be_noticed() -> None:
    torch_runtime = pytest.importorskip("validation.torch_runtime")
    table = {**configuration("llama-3.1-8b"), "num_hidden_layers": 31}
    assert torch_runtime.parameter_counts(table).total == 8_030_261_248 - 218_112_000
