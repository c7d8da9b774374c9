"""Cost and energy of a step and a run, worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.pricing import (
    million_tokens_usd,
    run_energy_j,
    run_gpu_s,
    run_s,
    run_steps,
    run_usd,
    step_energy_j,
    step_usd,
)

KWH_J = 3_600_000


def test_eight_gpus_at_full_power_for_an_hour() -> None:
    """8 x (700 + 575) W for an hour is 10.2 kWh, at PUE 1.5 it is 15.3."""
    assert step_energy_j(3600.0, 8, 700.0, 575.0, 1.5) / KWH_J == pytest.approx(15.3, rel=1e-12)


def test_eight_gpus_at_two_dollars_an_hour() -> None:
    assert step_usd(1800.0, 8, 2.0 / 3600) == pytest.approx(8.0, rel=1e-12)


def test_a_million_tokens_cost_their_share_of_the_step() -> None:
    """A step of 4 sequences of 1,000 tokens for $2: $500 for a million."""
    assert million_tokens_usd(2.0, 4, 1000) == pytest.approx(500.0, rel=1e-12)


def test_the_last_step_of_a_run_may_be_short() -> None:
    assert run_steps(10_001, 10, 100) == 11
    assert run_steps(10_000, 10, 100) == 10


@given(st.integers(1, 10**7), st.floats(1e-3, 1e3), st.integers(1, 10**5))
def test_a_run_is_its_steps(steps: int, step: float, gpus: int) -> None:
    assert run_s(steps, step) == pytest.approx(steps * step, rel=1e-12)
    assert run_gpu_s(run_s(steps, step), gpus) == pytest.approx(steps * step * gpus, rel=1e-12)
    assert run_usd(steps, 3.0) == pytest.approx(3.0 * steps, rel=1e-12)
    assert run_energy_j(steps, 5.0) == pytest.approx(5.0 * steps, rel=1e-12)
