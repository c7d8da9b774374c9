"""Low-rank adapters: by hand, by their properties, and what is refused with them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import NotModelledError, SpecError
from costmodels.scenario import Scenario
from costmodels.specs.precision import Projection
from simulator.whatif import estimate
from tests.costmodels.witnesses import witness
from validation.small_models import predicted

QUERY_VALUE = {"preset": "lora"}
ALL = [target.value for target in Projection]


def adapted(targets: list[str], rank: int = 16, **changes: Any) -> Scenario:
    precision = {"preset": "lora", "adapters": {"rank": rank, "targets": targets}}
    return witness("small", precision=precision, **changes)


def test_rank_16_on_queries_and_values_of_llama_3_1_8b() -> None:
    """peft prints 6,815,744 trainable parameters."""
    by_hand = 32 * 16 * ((4096 + 4096) + (4096 + 1024))
    assert by_hand == 6_815_744
    said = predicted(witness("small", precision=QUERY_VALUE), ("trained_parameters",))
    assert said["trained_parameters"] == by_hand


def test_rank_64_on_every_linear_layer_of_llama_3_1_8b() -> None:
    """peft prints 167,772,160 trainable parameters."""
    queries, shared, ffn = 4096 + 4096, 4096 + 1024, 4096 + 14336
    by_hand = 32 * 64 * (2 * queries + 2 * shared + 3 * ffn)
    assert by_hand == 167_772_160
    assert predicted(adapted(ALL, 64), ("trained_parameters",))["trained_parameters"] == by_hand


def test_states_are_16_bytes_for_each_parameter_of_adapters() -> None:
    names = ("trained_parameters", "weights_bytes", "gradients_bytes", "optimizer_bytes")
    said = predicted(adapted(ALL), names)
    own, frozen = said["trained_parameters"], 2 * 8_030_261_248
    parts = [said[name][0] for name in names[1:]]
    assert parts == [frozen + 4 * own, 4 * own, 8 * own]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_states_of_adapters_are_sharded(stage: int) -> None:
    names = ("trained_parameters", "stage_parameters", "weights_bytes", "optimizer_bytes")
    said = predicted(adapted(ALL, plan__zero_stage=stage), names)
    own, shard = said["trained_parameters"], said["trained_parameters"] // 8
    assert said["optimizer_bytes"][0] == 8 * shard
    whole = said["stage_parameters"][0]
    held = (whole // 8, shard) if stage == 3 else (whole, own)
    assert said["weights_bytes"][0] == 2 * held[0] + 4 * held[1]


def test_replicas_send_gradients_of_adapters_alone() -> None:
    names = ("trained_parameters", "reduction_bytes", "chunk_gather_bytes")
    said = predicted(adapted(ALL), names)
    assert said["reduction_bytes"][0] == 2 * 4 * 7 * said["trained_parameters"] // 8
    gathered = predicted(adapted(ALL, plan__zero_stage=1), names)
    assert gathered["chunk_gather_bytes"][0][0] == 4 * 7 * said["trained_parameters"] // 8


def test_products_of_frozen_weights_are_two_thirds_of_training() -> None:
    """Without pairs: 4 N in place of 6 N, and 6 n for the adapters."""
    names = ("layer_matmul_flop", "layer_adapter_flop", "chunk_forward_flop", "chunk_backward_flop")
    whole, frozen = (
        predicted(scenario, (*names, "head_flop", "layer_attention_backward_flop"))
        for scenario in (witness("small"), adapted(ALL))
    )
    base = 32 * whole["layer_matmul_flop"][0] + whole["head_flop"]
    adapters = 32 * frozen["layer_adapter_flop"][0]
    forward = frozen["chunk_forward_flop"][0][0] - whole["chunk_forward_flop"][0][0]
    backward = frozen["chunk_backward_flop"][0][0] - whole["chunk_backward_flop"][0][0]
    assert forward == adapters
    assert backward == 2 * adapters - base


@given(
    st.integers(1, 256),
    st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    st.sampled_from(ALL),
)
def test_more_adapters_are_more_of_everything(rank: int, targets: list[str], more: str) -> None:
    names = ("trained_parameters", "chunk_backward_flop", "layer_activation_bytes", "stage_bytes")
    fewer = predicted(adapted(targets, rank), names)
    all_of_them = predicted(adapted(sorted({*targets, more}), rank + 1), names)
    assert fewer["trained_parameters"] < all_of_them["trained_parameters"]
    assert fewer["chunk_backward_flop"] < all_of_them["chunk_backward_flop"]
    assert fewer["layer_activation_bytes"] < all_of_them["layer_activation_bytes"]
    assert fewer["stage_bytes"] < all_of_them["stage_bytes"]


def test_weights_in_few_bits_beside_adapters() -> None:
    """NF4 with double quantization: 4.127 bits for matrices, 4 bytes for embedding and head."""
    names = ("trained_parameters", "weights_bytes", "dequantized_bytes")
    said = predicted(witness("small", precision="qlora"), names)
    matrices, ends = 32 * (4096 * 128 * (2 * 32 + 2 * 8) + 3 * 4096 * 14336), 2 * 128_256 * 4096
    norms = 65 * 4096
    expected = 4.12695 / 8 * matrices + 4 * (ends + norms + said["trained_parameters"])
    assert said["weights_bytes"][0] == pytest.approx(expected, rel=1e-5)
    assert said["dequantized_bytes"] == 2 * 4096 * 14336


def test_the_answer_says_what_is_trained() -> None:
    answer = estimate(witness("small", precision="lora"))
    assert answer.parameters["trained_parameters"] == 6_815_744
    assert any("6,815,744 parameters are trained" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"plan__tensor_parallel_size": 2}, "plan.tensor_parallel_size (2)"),
        ({"model": "mixtral-8x7b"}, "model.mixture"),
        ({"model": "deepseek-v3"}, "model.layouts (latent)"),
        ({"plan__saved_tensors": "transformer-engine"}, "plan.saved_tensors (transformer-engine)"),
    ],
)
def test_what_has_no_model_with_adapters_is_refused_by_name(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(NotModelledError) as refused:
        witness("small", precision=QUERY_VALUE, **changes)
    assert named in str(refused.value)


def test_sharded_weights_in_few_bits_are_refused() -> None:
    with pytest.raises(NotModelledError, match=r"plan.zero_stage \(3\)"):
        witness("small", precision="qlora", plan__zero_stage=3)


def test_weights_in_few_bits_are_not_trained_themselves() -> None:
    with pytest.raises(NotModelledError, match=r"state precision.adapters"):
        witness("small", precision={"preset": "bf16", "stored_weights": "nf4"})


@pytest.mark.parametrize(
    ("targets", "said"),
    [([], "at least one"), (["up", "up"], "each once"), (["mouth"], "unknown|one of")],
)
def test_targets_are_projections_each_once(targets: list[str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        adapted(targets)


def test_a_network_without_a_gate_has_no_adapter_on_it() -> None:
    with pytest.raises(SpecError, match=r"has no gate"):
        adapted(["gate"], model="gpt-3-175b")


def test_frozen_ends_and_copies_of_layers_exchange_no_gradients() -> None:
    """A tied embedding has no gradient; of two copies of a layer only adapters have."""
    tied = adapted(["query"], model="gpt2-xl", plan__pipeline_parallel_size=2)
    names = ["tied_all_reduce_calls", "tied_embedding_bytes"]
    assert predicted(tied, names) == dict.fromkeys(names, (0, 0))
    plan = {"schedule": "dualpipe", "pipeline_parallel_size": 2, "virtual_stages": 2}
    copies = adapted(["query", "value"], plan=plan)
    names = ["mirror_message_bytes", "stage_trained_parameters"]
    said = predicted(copies, names)
    # Each of both ranks holds both halves of the model: adapters of 32 layers.
    assert said == {names[0]: (4 * 32 * 212_992,) * 2, names[1]: (32 * 212_992,) * 2}


def test_buckets_hold_gradients_of_adapters_in_their_format() -> None:
    plan = {"gradient_bucket_parameters": 1000, "zero_stage": 1}
    said = predicted(adapted(["query"], plan=plan), ["bucket_buffer_bytes"])
    assert said == {"bucket_buffer_bytes": (1000 * 4,)}
