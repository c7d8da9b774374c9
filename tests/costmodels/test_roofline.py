"""Compute times of a layer, worked by hand from peaks and bandwidths."""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import scenario_from_table

PEAK = 1e15
BANDWIDTH = 1e12


def values(*names: str, **changes: Any) -> list[float]:
    """Return quantities of one layer of width 1,024 at a round peak and bandwidth."""
    scenario = scenario_from_table(
        {
            "model": {
                "preset": "llama-3.1-8b",
                "num_hidden_layers": 1,
                "hidden_size": 1024,
                "num_attention_heads": 8,
                "num_key_value_heads": 8,
                "intermediate_size": 4096,
                "vocabulary_size": 1000,
            },
            "cluster": {
                "preset": "h100-sxm",
                "accelerator_count": 1,
                "accelerator": {
                    "peak_flop_per_s": {"bf16": PEAK},
                    "memory_bandwidth_bytes_per_s": BANDWIDTH,
                    "matmul_efficiency_fraction": 0.5,
                    "attention_efficiency_fraction": 0.25,
                    "memory_efficiency_fraction": 0.8,
                },
            },
            "workload": {"global_batch_size": 1, "sequence_length": 4096},
        },
        {path.replace("__", "."): value for path, value in changes.items()},
    )
    found = evaluate(compile_columns(scenario), names)
    first = [value[0] if isinstance(value, tuple) else value for value in found.values()]
    return [float(value[0]) if hasattr(value, "shape") else float(value) for value in first]


def test_large_products_are_bound_by_work() -> None:
    """4,096 tokens through 4 x 1024^2 + 3 x 1024 x 4096 weights, two FLOP each, at 0.5 PFLOP/s."""
    weights = 4 * 1024**2 + 3 * 1024 * 4096
    (time_s,) = values("layer_matmul_s")
    assert time_s == pytest.approx(2 * 4096 * weights / 0.5e15, rel=1e-12)


def test_small_products_are_bound_by_reading_the_weights() -> None:
    """One token: 2 bytes of each weight and norm, and a few thousand of activations, at 0.8 TB/s."""
    weights = 4 * 1024**2 + 3 * 1024 * 4096
    (time_s,) = values("layer_matmul_s", workload__sequence_length=1)
    assert time_s == pytest.approx(2 * weights / 0.8e12, rel=0.01)
    assert time_s > 2 * weights / 0.8e12


def test_causal_flash_attention_takes_half_the_square() -> None:
    pairs = 4096 * 4097 / 2
    forward_s, flop, backward = values(
        "layer_attention_s", "layer_attention_flop", "layer_attention_backward_flop"
    )
    assert flop == 4 * pairs * 1024
    assert forward_s == pytest.approx(flop / 0.25e15, rel=1e-12)
    assert backward == 2.5 * flop


def test_naive_attention_writes_and_reads_its_scores() -> None:
    """The whole square at a quarter of the peak, and four passes of 2 bytes for each score."""
    (forward_s,) = values("layer_attention_s", plan__attention_kernel="naive")
    square = 4096**2
    expected = 4 * square * 1024 / 0.25e15 + 4 * 2 * 8 * square / 0.8e12
    assert forward_s == pytest.approx(expected, rel=1e-12)


def test_full_recomputation_adds_a_forward() -> None:
    none, forward = values("layer_recompute_s", "layer_forward_s")
    (full,) = values("layer_recompute_s", plan__recompute="full")
    assert none == 0
    assert full == pytest.approx(forward, rel=1e-12)


def test_the_optimizer_reads_and_writes_its_state() -> None:
    """bf16 mixed with Adam: 4 read, 2 x 4 main, 2 x 2 x 4 moments, 2 written: 30 bytes."""
    time_s, parameters = values("stage_optimizer_s", "stage_parameters")
    assert time_s == pytest.approx(30 * parameters / 0.8e12, rel=1e-12)
