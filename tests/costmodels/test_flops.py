"""Work, against counted matrix products and the equations of the papers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.attention.dense import attended_pairs, executed_pairs
from costmodels.compilation import compile_columns
from costmodels.flops import layer_attention_backward_flop, layer_recompute_flop
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import witness


def value(scenario: Scenario, name: str) -> float:
    return float(evaluate(compile_columns(scenario), [name])[name][0])


def product_flop(rows: int, inner: int, columns: int) -> int:
    """Return the FLOP of a matrix product: a multiplication and an addition for each term."""
    return 2 * rows * inner * columns


def narayanan_flop(layers: int, hidden: int, vocabulary: int, length: int, batch: int) -> int:
    """Return equation 3 of Narayanan et al. 2021 without recomputation (72 in place of 96).

    72 B s l h^2 (1 + s / (6 h) + V / (12 l h)), attention without a mask.
    """
    terms = 12 * layers * hidden**2 + 2 * layers * length * hidden + vocabulary * hidden
    return 6 * batch * length * terms


def test_gpt_3_is_the_equation_of_the_paper() -> None:
    scenario = witness(
        "tied", model__layouts=[{"type": "dense", "causal": False}], workload__sequence_length=2048
    )
    assert value(scenario, "model_flop") == narayanan_flop(96, 12288, 50257, 2048, 16)


def test_with_full_recomputation_it_is_the_equation_with_96() -> None:
    """96 B s l h^2 (1 + s / (6 h) + V / (16 l h)): the head is not computed again."""
    scenario = witness(
        "tied",
        model__layouts=[{"type": "dense", "causal": False}],
        workload__sequence_length=2048,
        plan__recompute="full",
    )
    layers, hidden, vocabulary, length, batch = 96, 12288, 50257, 2048, 16
    stated = (
        96 * batch * length * layers * hidden**2
        + 16 * batch * length**2 * layers * hidden
        + 6 * batch * length * vocabulary * hidden
    )
    assert value(scenario, "hardware_flop") == stated


def test_llama_405b_is_six_flop_a_parameter_and_token_and_attention() -> None:
    """Chowdhery et al. 2022, appendix B: 6 N + 12 L H Q T for each token, half of it if causal."""
    scenario = witness("example")
    length, tokens = 8192, 2048 * 8192
    model = scenario.model
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    embedding = model.vocabulary_size * model.hidden_size
    weights = 405_853_388_800 - norms - embedding
    pairs = length * (length + 1) // 2
    attention = 12 * model.num_hidden_layers * 128 * 128 * pairs * 2048
    assert value(scenario, "model_flop") == pytest.approx(
        6 * weights * tokens + attention, rel=1e-15
    )


def test_a_layer_is_the_sum_of_its_products() -> None:
    scenario = witness("small")
    length, hidden, inner = 1024, 4096, 14336
    products = [
        product_flop(length, hidden, 4096),
        product_flop(length, hidden, 1024),
        product_flop(length, hidden, 1024),
        product_flop(length, 4096, hidden),
        product_flop(length, hidden, inner),
        product_flop(length, hidden, inner),
        product_flop(length, inner, hidden),
    ]
    scores = sum(product_flop(1, 128, position + 1) for position in range(length)) * 32
    values = evaluate(compile_columns(scenario), ["layer_matmul_flop", "layer_attention_flop"])
    assert int(values["layer_matmul_flop"][0][0]) == sum(products)
    assert int(values["layer_attention_flop"][0][0]) == 2 * scores


@given(st.integers(1, 300), st.booleans())
def test_pairs_are_those_of_a_drawn_mask(length: int, causal: bool) -> None:
    drawn = sum(not causal or key <= query for query in range(length) for key in range(length))
    assert attended_pairs(length, int(causal)) == drawn
    assert executed_pairs(length, int(causal), 1) == drawn
    assert executed_pairs(length, int(causal), 0) == length**2


plans = st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 16), st.integers(1, 4))


@given(plans, st.sampled_from(["none", "selective", "full"]))
def test_hardware_work_does_not_depend_on_the_plan_but_for_padding(
    plan: tuple[int, int, int], recompute: str
) -> None:
    tensor, pipeline, data = plan
    alone = value(
        witness("small", cluster__accelerator_count=1, plan__recompute=recompute), "hardware_flop"
    )
    spread = value(
        witness(
            "small",
            workload__global_batch_size=16 * data,
            plan__recompute=recompute,
            plan__tensor_parallel_size=tensor,
            plan__pipeline_parallel_size=pipeline,
            cluster__accelerator_count=tensor * pipeline * data,
        ),
        "hardware_flop",
    )
    assert spread == pytest.approx(data * alone, rel=1e-14)


@given(st.sampled_from(["none", "selective", "full"]), st.sampled_from(["flash", "naive"]))
def test_hardware_work_is_at_least_what_the_model_needs(recompute: str, kernel: str) -> None:
    scenario = witness("small", plan__recompute=recompute, plan__attention_kernel=kernel)
    assert value(scenario, "hardware_flop") > value(scenario, "model_flop")


def test_without_recomputation_or_flash_or_mask_hardware_work_is_model_work() -> None:
    scenario = witness(
        "small",
        plan__attention_kernel="naive",
        model__layouts=[{"type": "dense", "causal": False}],
    )
    assert value(scenario, "hardware_flop") == value(scenario, "model_flop")


def test_a_mixture_works_for_its_active_experts_only() -> None:
    """All but embedding lookup and norms: 6 FLOP for each active weight and token, and attention."""
    scenario = witness("mixture")
    model, tokens = scenario.model, 16 * 1024
    active = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 2 * 3 * 4096 * 14336 + 4096 * 8)
    active += 32000 * 4096
    pairs = 16 * 1024 * 1025 // 2
    attention = 12 * model.num_hidden_layers * 32 * 128 * pairs
    assert value(scenario, "model_flop") == 6 * active * tokens + attention


def kinds_of(scenario: Scenario, name: str) -> list[int]:
    """Return a quantity of each kind of layer."""
    return [int(kind[0]) for kind in evaluate(compile_columns(scenario), [name])[name]]


@pytest.mark.parametrize("ranks", [1, 4])
def test_shared_experts_dense_layers_and_the_width_of_experts(ranks: int) -> None:
    """Products of a layer without experts, and of one with, of a rank for 1,024 tokens."""
    scenario = witness(
        "mixture",
        plan__tensor_parallel_size=ranks,
        plan__sequence_parallel=ranks > 1,
        model__mixture__dense_layers=[0],
        model__mixture__expert_intermediate_size=1408,
        model__mixture__shared_intermediate_size=2816,
        model__mixture__shared_gate=True,
    )
    tokens, hidden = 1024, 4096

    def network(width: int) -> int:
        return 2 * product_flop(tokens, hidden, width // ranks) + product_flop(
            tokens, width // ranks, hidden
        )

    attention = (
        product_flop(tokens, hidden, 4096 // ranks)
        + 2 * product_flop(tokens, hidden, 1024 // ranks)
        + product_flop(tokens, 4096 // ranks, hidden)
    )
    # Eight columns of the router and one of the gate, for the tokens that a rank holds outside.
    router = product_flop(tokens // ranks, hidden, 8 + 1)
    without = attention + network(14336)
    having = attention + 2 * network(1408) + network(2816) + router
    assert kinds_of(scenario, "layer_matmul_flop") == [without, having]


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_gate_of_the_output_is_one_more_projection_as_wide_as_queries(ranks: int) -> None:
    gated, plain = (
        kinds_of(
            witness("small", plan__tensor_parallel_size=ranks, model__attention_output_gate=gate),
            "layer_matmul_flop",
        )[0]
        for gate in (True, False)
    )
    assert gated - plain == product_flop(1024, 4096, 32 * 128 // ranks)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__query_key_norm": "head"},
        {"model__norms_per_layer": 4},
        {"model__attention_sinks": True},
        {"model__embedding_norm": True},
    ],
)
def test_norms_and_sinks_multiply_no_matrices(changes: dict[str, Any]) -> None:
    assert value(witness("small", **changes), "model_flop") == value(witness("small"), "model_flop")


def test_flash_backward_has_five_products_for_two() -> None:
    sizes = {
        "micro_batch_size": 1,
        "executed_pairs": 50,
        "num_attention_heads": 1,
        "attention_query_size": 1,
        "tensor_parallel_size": 1,
        "context_parallel_size": 1,
        "attention_state_spared_flop": 0,
    }
    assert layer_attention_backward_flop(200, 1, **sizes) == 500
    spared = sizes | {"attention_state_spared_flop": 30}
    assert layer_attention_backward_flop(200, 1, **spared) == 470
    assert layer_attention_backward_flop(200, 0, **sizes) == 400


def test_selective_recomputation_repeats_attention_only() -> None:
    work = {"layer_matmul_flop": 100, "layer_adapter_flop": 7, "layer_attention_flop": 10}
    work["layer_module_flop"] = 0
    assert layer_recompute_flop(recompute_is_full=0, core_is_repeated=0, **work) == 0
    assert layer_recompute_flop(recompute_is_full=0, core_is_repeated=1, **work) == 10
    assert layer_recompute_flop(recompute_is_full=1, core_is_repeated=0, **work) == 117
