"""Activations equal, to the byte, what autograd keeps of real modules."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.validation.shapes import KINDS, tables
from validation.cases import passed
from validation.saved_tensors import compared, saved_cases
from validation.small_models import MODELS, model_table

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", MODELS)
def test_autograd_keeps_what_is_said(name: str) -> None:
    cases = saved_cases({name: MODELS[name]})
    assert len(cases) >= 7
    assert all(case.tolerance_fraction == 0 for case in cases)
    assert [case for case in cases if not passed(case)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_any_shape_keep_what_is_said(kind: str) -> None:
    @settings(max_examples=12)
    @given(tables(kind), st.integers(1, 3), st.integers(1, 12))
    def compare(table: dict[str, Any], batch: int, length: int) -> None:
        for pair in compared(table, batch=batch, length=length):
            assert pair.prediction == pair.measurement, pair.name

    compare()


def test_recomputation_keeps_less_and_less() -> None:
    kept = {pair.name: pair.measurement for pair in compared(MODELS["gated"])}
    whole, inside, inputs = (
        kept[f"layer 0, recompute {recompute}"] for recompute in ("none", "selective", "full")
    )
    assert whole > inside > inputs == 2 * 8 * 24 * 4


def test_another_width_would_be_noticed() -> None:
    (one, *_), (other, *_) = (list(compared(model_table(intermediate_size=w))) for w in (40, 41))
    assert one.prediction == one.measurement
    assert other.measurement - one.prediction == 2 * 2 * 8 * 4


def test_a_storage_counts_once_and_a_parameter_never() -> None:
    from validation.torch_programs.saving import Saved

    weight = torch.nn.Parameter(torch.randn(4, 3))
    hidden = torch.randn(5, 3, requires_grad=True)
    saved = Saved(iter([weight]))
    with saved.seen():
        out = hidden @ weight.T + hidden[1:3].relu().sum()
    assert saved.total == (5 * 3 + 2 * 3) * 4
    assert out.shape == (5, 4)
