"""What a backward holds for a moment: which moment is the peak, and which tensors it has."""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.transients import ffn_shape_parameters, transient_bytes
from tests.costmodels.witnesses import witness

TOKENS, HIDDEN, INNER, VOCABULARY = 1024, 4096, 14336, 128256


def by_stage(name: str, **changes: Any) -> list[int]:
    values = evaluate(compile_columns(witness("small", **changes)), [name])[name]
    return [int(value[0]) for value in values]


def test_a_gated_network_holds_three_gradients_of_its_width() -> None:
    layer = TOKENS * (HIDDEN + 3 * INNER) * 2
    assert by_stage("layer_transient_bytes") == [layer]
    plain = TOKENS * (HIDDEN + 2 * INNER) * 2
    assert by_stage("layer_transient_bytes", model__gated=False) == [plain]


def test_a_naive_kernel_holds_gradients_of_scores() -> None:
    heads = TOKENS * (HIDDEN + (32 + 8) * 2 * 128) * 2
    scores = 2 * 32 * TOKENS * TOKENS * 2
    narrow = {"model__intermediate_size": 2048, "plan__attention_kernel": "naive"}
    (held,) = by_stage("layer_transient_bytes", **narrow)
    scenario = compile_columns(witness("small", **narrow))
    kept = evaluate(scenario, ["ffn_saved_bytes"])["ffn_saved_bytes"]
    assert held == heads + scores - int(kept[0][0])
    beside = {**narrow, "model__parallel_residual": True}
    assert by_stage("layer_transient_bytes", **beside) == [heads + scores]


def test_torch_holds_a_gradient_of_weights_until_it_is_added() -> None:
    """Two microbatches at least, and a network so wide that its matrix is the largest."""
    plain = {"plan__saved_tensors": "torch-cuda", "workload__global_batch_size": 8}
    again = {**plain, "workload__global_batch_size": 16}
    wide = {"workload__sequence_length": 128}
    inner = 128 * (HIDDEN + INNER) * 2
    assert by_stage("layer_transient_bytes", **plain, **wide) == [128 * (HIDDEN + 3 * INNER) * 2]
    assert by_stage("layer_transient_bytes", **again, **wide) == [inner + HIDDEN * INNER * 2]
    sharded = compile_columns(witness("small", **again, plan__zero_stage=2))
    assert evaluate(sharded, ["summand_element_bytes"])["summand_element_bytes"][0] == 0


def test_the_head_s_backward_is_the_peak_where_logits_are_wide() -> None:
    """In fp32, converted to bf16; in bf16, in place: only the gradient of the head's input."""
    converted = TOKENS * (HIDDEN * 2 + VOCABULARY * 2)
    assert by_stage("transient_bytes") == [converted]
    in_place = by_stage("transient_bytes", precision__logits="bf16")
    assert in_place == [TOKENS * HIDDEN * 2]


def test_logits_are_gone_when_layers_go_backward() -> None:
    narrow = {"model__vocabulary_size": 1000}
    layer = TOKENS * (HIDDEN + 3 * INNER) * 2
    assert by_stage("transient_bytes", **narrow) == [layer - TOKENS * 1000 * 4]
    stages = by_stage("transient_bytes", plan__pipeline_parallel_size=2, **narrow)
    assert stages == [layer, layer - TOKENS * 1000 * 4]


@pytest.mark.parametrize(("holds", "expected"), [([0, 1], 50), ([0, 0], 60), ([1, 0], 50)])
def test_the_larger_moment_counts(holds: list[int], expected: int) -> None:
    assert transient_bytes(holds, 50, 55, 5, 20, [0, 0], 100, 1, 2, 9, 9, 4) == expected


def test_projections_to_further_tokens_are_computed_again_with_their_layer() -> None:
    """A layer of 60, 5 before it; logits of 20 are gone."""
    assert transient_bytes([0, 1], 30, 60, 0, 20, [0, 2], 5, 0, 1, 9, 9, 4) == 60 - 20 + 5


def test_full_recomputation_holds_the_layer_and_its_gradients() -> None:
    plain, full = (
        by_stage("layer_transient_bytes", plan__recompute=recompute)[0]
        for recompute in ("none", "full")
    )
    layer = evaluate(
        compile_columns(witness("small")), ["layer_activation_bytes", "layer_input_bytes"]
    )
    kept = int(layer["layer_activation_bytes"][0][0]) - int(layer["layer_input_bytes"][0])
    assert full - plain == kept


def test_transformer_engine_keeps_a_dummy_for_each_shape() -> None:
    engine = {"plan__saved_tensors": "transformer-engine"}
    attention = 2 * HIDDEN * 4096 + 2 * HIDDEN * 1024
    elements = attention + 3 * HIDDEN * INNER
    assert by_stage("dummy_gradient_bytes", **engine) == [2 * (elements + HIDDEN * VOCABULARY)]
    split = by_stage("dummy_gradient_bytes", plan__pipeline_parallel_size=2, **engine)
    assert split == [2 * elements, 2 * (elements + HIDDEN * VOCABULARY)]
    assert by_stage("dummy_gradient_bytes") == [0]


def test_shared_experts_as_wide_as_the_others_have_their_shapes() -> None:
    assert ffn_shape_parameters(1, 10, 4, 1, 4, 1) == ffn_shape_parameters(1, 10, 4, 1, 0, 1) == 120
    assert ffn_shape_parameters(1, 10, 4, 1, 6, 2) == 3 * 10 * (4 + 3)
