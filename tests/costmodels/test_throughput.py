"""Rates that follow from the time of a step, with round numbers."""

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.throughput import (
    hfu_fraction,
    mfu_fraction,
    model_flop_per_s_per_gpu,
    tokens_per_s,
    tokens_per_s_per_gpu,
)
from tests.costmodels.witnesses import WITNESSES, witness


def test_tokens_of_a_batch_in_the_time_of_a_step() -> None:
    """2,048 sequences of 8,192 tokens in 16 s: 128 x 8,192 a second, and a 64th of them a GPU."""
    assert tokens_per_s(global_batch_size=2048, sequence_length=8192, step_s=16.0) == 1_048_576
    assert tokens_per_s_per_gpu(tokens_per_s=1_048_576.0, accelerator_count=64) == 16_384


def test_utilization_of_four_gpus() -> None:
    """2.4e15 FLOP in 3 s on four GPUs of 1e15 FLOP/s: 2e14 each, a fifth; a half more executed."""
    rate = model_flop_per_s_per_gpu(model_flop=2.4e15, step_s=3.0, accelerator_count=4)
    assert rate == pytest.approx(2e14, rel=1e-15)
    assert mfu_fraction(model_flop_per_s_per_gpu=2e14, peak_flop_per_s=1e15) == 0.2
    executed = hfu_fraction(
        hardware_flop=3.6e15, step_s=3.0, accelerator_count=4, peak_flop_per_s=1e15
    )
    assert executed == pytest.approx(0.3, rel=1e-15)


@pytest.mark.parametrize("name", WITNESSES)
def test_all_tokens_are_counted_once(name: str) -> None:
    scenario = witness(name)
    names = ("tokens_per_s", "tokens_per_s_per_gpu", "step_s", "mfu_fraction", "hfu_fraction")
    found = evaluate(compile_columns(scenario), names)
    rate, gpu_rate, step_s, used, executed = (float(np.ravel(found[key])[0]) for key in names)
    tokens = scenario.workload.global_batch_size * scenario.workload.sequence_length
    assert rate * step_s == pytest.approx(tokens, rel=1e-12)
    assert gpu_rate * scenario.cluster.accelerator_count == pytest.approx(rate, rel=1e-12)
    assert 0 < used < 1
    assert 0 < executed < 1


def test_recomputation_of_everything_executes_a_third_more_matrix_products() -> None:
    """Three passes of products become four, so HFU over MFU grows by less than 4 / 3 and more than
    the head, which is not repeated, leaves of it."""

    def ratio(recompute: str) -> float:
        columns = compile_columns(witness("small", plan__recompute=recompute))
        found = evaluate(columns, ["mfu_fraction", "hfu_fraction"])
        return float(found["hfu_fraction"][0] / found["mfu_fraction"][0])

    assert 1.2 < ratio("full") / ratio("none") < 4 / 3
