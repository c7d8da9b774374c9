"""Training of adapters equal, to the unit, what programs with frozen projections do and keep."""

import pytest

from validation.adapter_counts import (
    adapter_cases,
    compared,
    full_size_compared,
    mixed_compared,
    settings,
)
from validation.cases import passed

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("model", "targets"),
    [("normalized queries", "output"), ("grouped queries", "all"), ("dense", "query and value")],
)
def test_a_step_of_adapters_does_and_keeps_what_is_said(model: str, targets: str) -> None:
    assert (model, targets) in settings()
    pairs = list(compared(model, targets))
    assert len(pairs) >= 14
    assert [pair for pair in pairs if pair.prediction != pair.measurement] == []
    assert all(pair.measurement > 0 for pair in pairs)


def test_adapters_keep_fewer_tensors_than_training_of_all_weights() -> None:
    """Inputs of frozen matrices are not kept: with adapters on the output alone, few are."""
    kept = {pair.name: pair.measurement for pair in compared("gated", "output")}
    every = {pair.name: pair.measurement for pair in compared("gated", "all")}
    assert kept["gated, output: kept of a layer"] < every["gated, all: kept of a layer"]


def test_an_adapter_in_another_format_keeps_a_copy_of_its_input() -> None:
    pair = mixed_compared()
    assert pair.prediction == pair.measurement


@pytest.mark.slow
def test_the_work_of_a_model_in_full_size() -> None:
    pairs = list(full_size_compared())
    assert len(pairs) == 4
    assert [pair for pair in pairs if pair.prediction != pair.measurement] == []


@pytest.mark.slow
def test_every_model_and_set_of_projections() -> None:
    cases = adapter_cases()
    assert len(cases) >= 500
    assert [case for case in cases if not passed(case)] == []
