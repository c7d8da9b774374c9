"""A step of inference: its work and traffic are those of one layer's account, its time a roofline."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.attention import dense, latent
from costmodels.attention.accounts import Account, Heads
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError
from costmodels.scenario import Scenario
from costmodels.serving_time import serving_weight_bytes
from simulator.inference import inference_step
from simulator.publishing import scalar
from tests.costmodels.test_serving import HEADS, KEPT, serving

LAYOUTS: dict[str, tuple[dict[str, Any], Account]] = {
    "dense": ({}, dense.account(8192, HEADS)),
    "latent": (
        {"key_value_rank": 512, "unrotated_size": 128, "rotated_size": 64, "value_size": 128},
        latent.account(
            8192,
            Heads(1, 32, 32, 192, 128),
            compressed=latent.Compressed(512, 128, 64),
            absorbed=True,
        ),
    ),
    **{name: case for name, case in KEPT.items() if name not in ("chunked", "dilated")},
}


def numbers(scenario: Scenario, *names: str) -> list[Any]:
    """Return quantities of the one kind of layer, or without axes."""
    values = evaluate(compile_columns(scenario), names)
    return [scalar(v[0] if isinstance(v, tuple) else v) for v in values.values()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_of_a_layer_is_that_of_its_account(layout: str) -> None:
    fields, account = LAYOUTS[layout]
    scenario = serving(model__layouts=[{"type": layout, **fields}])
    flop, read = numbers(scenario, "attention_step_flop", "attention_step_bytes")
    # Absorbed products with the expanding matrix are counted with the layer's weights.
    expanding = 2 * 512 * 32 * (128 + 128) if layout == "latent" else 0
    assert flop + expanding == account.decode_flop
    # Of query heads that share keys, an account of dilations reads them once each.
    shared = 4 if layout == "dilated-heads" else 1
    assert read * shared == account.decode_traffic_bytes


@pytest.mark.parametrize("layout", ["chunked", "dilated"])
def test_a_step_at_the_end_of_a_segment_is_the_costliest(layout: str) -> None:
    fields, account = KEPT[layout]
    flop, read, kept = numbers(
        serving(model__layouts=[{"type": layout, **fields}]),
        "attention_step_flop",
        "attention_step_bytes",
        "layer_cache_bytes",
    )
    assert flop >= account.decode_flop
    assert 0 < read <= kept


def test_a_step_of_a_dense_model_by_hand() -> None:
    """Llama 3.1 8B in bf16: 2 FLOP for each weight and token, weights and cache read once."""
    step = inference_step(serving(workload__global_batch_size=4))
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    (entry,) = step.layers
    assert entry.matmul_flop == 2 * 4 * layer
    assert entry.attention_flop == 4 * 4 * 32 * 128 * 8192
    assert entry.weight_bytes == 2 * (layer + 2 * 4096)
    assert entry.state_bytes == 4 * 8192 * 2 * 8 * 128 * 2
    assert entry.bound_by == "weights"
    rate = 4.8e12 * numbers(serving(), "accelerator_memory_efficiency_fraction")[0]
    least = (32 * (entry.weight_bytes + entry.state_bytes) + 2 * 4096 * 128256) / rate
    assert least < step.step_s < 1.05 * least
    assert step.tokens_per_s == pytest.approx(4 / step.step_s)


def test_a_prompt_has_the_work_of_a_forward() -> None:
    scenario = serving(workload__kind="prefill", workload__sequence_length=2048)
    found = numbers(scenario, "serving_matmul_flop", "serving_attention_flop")
    forward = numbers(scenario, "layer_matmul_flop", "layer_attention_flop")
    assert found == forward
    assert inference_step(scenario).layers[0].bound_by == "work of weights"


def test_experts_are_read_where_a_token_visits() -> None:
    sizes = (100, 0, 1, 0, 100, 1, 8, 2)
    assert serving_weight_bytes(*sizes, 1) == pytest.approx(100 * 2 / 8)
    assert serving_weight_bytes(*sizes, 2) == pytest.approx(100 * (1 - (6 / 8) ** 2))
    assert serving_weight_bytes(*sizes, 1000) == pytest.approx(100)


@settings(max_examples=15)
@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(1, 10**9),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
)
def test_a_longer_context_is_never_faster(layout: str, length: int, batch: int, ranks: int) -> None:
    fields = {"type": layout, **LAYOUTS[layout][0]}
    changes: dict[str, Any] = {
        "model__layouts": [fields],
        "model__max_position_embeddings": 2**40,
        "workload__global_batch_size": batch,
        "plan__tensor_parallel_size": ranks,
    }
    steps = [
        numbers(serving(gpus=ranks, workload__sequence_length=size, **changes), "serving_step_s")[0]
        for size in (length, length + 1, 2 * length)
    ]
    assert 0 < steps[0] <= steps[1] <= steps[2]


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"cluster__accelerator__memory_bandwidth_bytes_per_s": 2.4e12}, 1),
        ({"plan__tensor_parallel_size": 2}, -1),
        ({"precision__kv_cache": "fp8_e4m3fn"}, -1),
        ({"precision__stored_weights": "int8"}, -1),
        ({"workload__global_batch_size": 64}, 1),
    ],
)
def test_inputs_of_a_step_move_its_time(changes: dict[str, Any], factor: int) -> None:
    gpus = changes.get("plan__tensor_parallel_size", 1)
    plain, moved = inference_step(serving()).step_s, inference_step(serving(gpus=gpus, **changes))
    assert (moved.step_s - plain) * factor > 0


def test_stages_and_training_are_refused() -> None:
    with pytest.raises(NotModelledError, match=r"^plan.pipeline_parallel_size \(2\)"):
        inference_step(serving(gpus=2, plan__pipeline_parallel_size=2))
    with pytest.raises(NotModelledError, match=r"^workload.kind \(training\)"):
        inference_step(serving(workload__kind="training"))
