"""Predicted peaks of memory against those that steps of small decoders reach."""

from statistics import median

import pytest

from validation.cases import error_fraction, passed
from validation.peak_memory import RUNS, drawn_steps, peak_cases

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


def test_a_step_holds_what_is_said() -> None:
    cases = peak_cases(seed=0, device="cpu")
    assert len(cases) == RUNS
    assert [case.name for case in cases if not passed(case)] == []
    assert median(abs(error_fraction(case)) for case in cases) < 0.015


def test_storages_are_counted_once_and_gone_when_freed() -> None:
    from validation.torch_programs.peaks import LiveStorages

    held = torch.zeros(10)
    with LiveStorages([held, held[:5]]) as storages:
        assert storages.peak_bytes == 40
        first = torch.zeros(100)
        view = first[:50] + 0
        del first
        second = torch.zeros(25)
    assert (view.numel(), second.numel()) == (50, 25)
    assert storages.peak_bytes == 40 + 400 + 200


def test_another_seed_draws_other_steps() -> None:
    assert drawn_steps(0) == drawn_steps(0)
    assert drawn_steps(0) != drawn_steps(1)
