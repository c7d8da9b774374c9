"""Each rule refuses by name: the field, its value and what would be valid."""

from typing import Any

import numpy as np
import pytest

from costmodels import rules
from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError, SpecError
from costmodels.quantities import Rule
from tests.costmodels.witnesses import WITNESSES, witness

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "groups_divide": (
        "small",
        {"model__num_attention_heads": 12},
        r"model.num_attention_heads \(12\): must be a multiple of model.num_key_value_heads \(8\)",
    ),
    "experts_suffice": (
        "mixture",
        {"model__mixture__experts_per_token": 9},
        r"model.mixture.experts_per_token \(9\): must be at most model.mixture.expert_count \(8\)",
    ),
    "counts_fit": (
        "small",
        {"workload__sequence_length": 2**30},
        r"workload.sequence_length \(1073741824\): counts for one GPU and microbatch must stay",
    ),
    "step_counts_fit": (
        "small",
        {"workload__global_batch_size": 2**40},
        r"workload.global_batch_size \(1099511627776\): tokens of a step, and bytes of the",
    ),
    "residuals_in_series": (
        "small",
        {"model__parallel_residual": True},
        r"model.parallel_residual \(True\): .* side by side are not modelled yet",
    ),
    "norms_are_placed": (
        "small",
        {"model__norms_per_layer": 3},
        r"model.norms_per_layer \(3\): only 2 .* and 4 .* are modelled",
    ),
    "predicts_one_token": (
        "small",
        {"model__multi_token_prediction_layers": 1},
        r"model.multi_token_prediction_layers \(1\): .* use 0 for the model without them",
    ),
    "shared_experts_divide": (
        "mixture",
        {
            "model__mixture__shared_intermediate_size": 1001,
            "plan__tensor_parallel_size": 2,
        },
        r"model.mixture.shared_intermediate_size \(1001\): must be a multiple of "
        r"plan.tensor_parallel_size \(2\)",
    ),
    "is_training": (
        "small",
        {"workload__kind": "decode"},
        r"workload.kind \(decode\): is not modelled yet; use training",
    ),
    "context_parallel_off": (
        "small",
        {"plan__context_parallel_size": 2},
        r"plan.context_parallel_size \(2\): context parallelism is not modelled yet; use 1",
    ),
    "expert_parallel_off": (
        "mixture",
        {"plan__expert_parallel_size": 8},
        r"plan.expert_parallel_size \(8\): expert parallelism is not modelled yet; use 1",
    ),
    "ranks_fill_cluster": (
        "small",
        {"plan__pipeline_parallel_size": 3},
        r"cluster.accelerator_count \(8\): must be a multiple of .*plan.pipeline_parallel_size \(3\) x ",
    ),
    "replicas_match": (
        "small",
        {"plan__data_parallel_size": 4},
        r"plan.data_parallel_size \(4\): must be 8 = cluster.accelerator_count / ",
    ),
    "layers_match": (
        "cpu",
        {"plan__layers_per_stage": [20, 11]},
        r"plan.layers_per_stage \(\[20, 11\]\): must have .* members that sum to "
        r"model.num_hidden_layers \(32\)",
    ),
    "heads_divide": (
        "small",
        {"plan__tensor_parallel_size": 5, "cluster__accelerator_count": 5},
        r"model.num_attention_heads \(32\): must be a multiple of "
        r"plan.tensor_parallel_size \(5\)",
    ),
    "key_value_heads_divide": (
        "small",
        {"plan__tensor_parallel_size": 16, "cluster__accelerator_count": 16},
        r"model.num_key_value_heads \(8\): must be a multiple of plan.tensor_parallel_size \(16\)",
    ),
    "ffn_divides": (
        "small",
        {"model__intermediate_size": 14337, "plan__tensor_parallel_size": 2},
        r"model.intermediate_size \(14337\): must be a multiple of "
        r"plan.tensor_parallel_size \(2\)",
    ),
    "sequence_parallel_has_group": (
        "small",
        {"plan__sequence_parallel": True},
        r"plan.sequence_parallel.*plan.tensor_parallel_size \(1\) must be at least 2",
    ),
    "sequence_divides": (
        "small",
        {
            "plan__sequence_parallel": True,
            "plan__tensor_parallel_size": 8,
            "workload__sequence_length": 1025,
        },
        r"workload.sequence_length \(1025\): must be a multiple of plan.tensor_parallel_size \(8\)",
    ),
    "positions_suffice": (
        "tied",
        {"workload__sequence_length": 2049},
        r"workload.sequence_length \(2049\): must be at most "
        r"model.max_position_embeddings \(2048\)",
    ),
    "batch_divides": (
        "small",
        {"workload__global_batch_size": 20},
        r"workload.global_batch_size \(20\): must be a multiple of plan.micro_batch_size \(1\) x "
        r"the 8 replicas that cluster.accelerator_count and the other parallel sizes leave",
    ),
    "stages_have_layers": (
        "small",
        {"plan__pipeline_parallel_size": 35, "cluster__accelerator_count": 35},
        r"plan.pipeline_parallel_size \(35\): times plan.virtual_stages \(1\) must be at most "
        r"model.num_hidden_layers \(32\)",
    ),
}


def test_there_is_a_case_for_every_rule() -> None:
    assert [
        rule.function.__name__ for rule in rules.RULES if rule.function.__name__ not in REFUSED
    ] == []
    assert len(REFUSED) == len(rules.RULES)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.function.__name__)
def test_a_rule_names_field_value_and_what_is_valid(rule: Rule) -> None:
    base, changes, message = REFUSED[rule.function.__name__]
    error = SpecError if rule.modelled else NotModelledError
    with pytest.raises(error, match="^" + message) as caught:
        witness(base, **changes)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(rule.field)


@pytest.mark.parametrize("name", WITNESSES)
def test_witnesses_obey_every_rule(name: str) -> None:
    scenario = witness(name)
    rules.check(scenario)
    assert bool(np.all(rules.valid(compile_columns(scenario))))


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (
            "small",
            {"plan__data_parallel_size": 4},
            r"plan.data_parallel_size \(4\): must be 8 = cluster.accelerator_count / ",
        ),
        (
            "interleaved",
            {"plan__virtual_stages": 1},
            r"plan.schedule \(interleaved-1f1b\): requires at least 2 virtual stages per rank",
        ),
        (
            "small",
            {"plan__virtual_stages": 2},
            r"plan.schedule \(1f1b\): requires one virtual stage per rank; .*virtual_stages 2",
        ),
        (
            "cpu",
            {"plan__layers_per_stage": [20, 11]},
            r"plan.layers_per_stage \(\[20, 11\]\): must have .* \(1\) members that sum to "
            r"model.num_hidden_layers \(32\)",
        ),
        (
            "cpu",
            {"plan__layers_per_stage": [10, 10, 12]},
            r"plan.layers_per_stage \(\[10, 10, 12\]\): must have .* \(1\) members",
        ),
        (
            "small",
            {"plan__rank_order": ["tensor", "data"]},
            r"plan.rank_order \(\['tensor', 'data'\]\): must name each of tensor, context, data "
            "and pipeline once",
        ),
        (
            "small",
            {"plan__rank_order": []},
            r"plan.rank_order \(\[\]\): must name each of tensor, context, data and pipeline once",
        ),
        (
            "small",
            {"plan__rank_order": ["tensor", "tensor", "data", "pipeline"]},
            r"plan.rank_order .*: must name each of tensor, context, data and pipeline once",
        ),
        (
            "small",
            {"model__layouts": [{"type": "dense"}] * 33},
            r"model.layouts \(33 members\): must be at most model.num_hidden_layers \(32\)",
        ),
    ],
)
def test_what_is_checked_beside_the_rules(base: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match="^" + message):
        witness(base, **changes)


def test_rows_with_layers_or_replicas_that_do_not_match_are_masked() -> None:
    stages = {"plan.pipeline_parallel_size": [2, 1, 4], "cluster.accelerator_count": [2, 1, 4]}
    assert rules.valid(compile_columns(witness("cpu"), stages)).tolist() == [True, False, False]
    stated = witness("small", plan__data_parallel_size=8)
    columns = compile_columns(stated, {"plan.tensor_parallel_size": [1, 2]})
    assert rules.valid(columns).tolist() == [True, False]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("plan.tensor_parallel_size", [1, 0]),
        ("plan.zero_stage", [0, 4]),
        ("cluster.network.latency_s", [1e-6, -1.0]),
        ("cluster.network.latency_s", [1e-6, float("nan")]),
        ("cluster.accelerator.matmul_efficiency_fraction", [0.5, 1.5]),
        ("plan.recompute", ["full", "fulll"]),
        ("plan.sequence_parallel", ["true", "false"]),
    ],
)
def test_rows_outside_the_bounds_of_a_field_are_refused(path: str, values: list[Any]) -> None:
    with pytest.raises(SpecError, match=path):
        compile_columns(witness("small"), {path: values})


def test_one_valid_row_counts_for_all_rows_it_stands_for() -> None:
    columns = compile_columns(witness("small"), {"cluster.network.latency_s": [1e-6, 2e-6, 3e-6]})
    assert rules.valid(columns).tolist() == [True, True, True]


def test_a_stated_data_parallel_size_that_is_right_is_accepted() -> None:
    assert witness("small", plan__data_parallel_size=8).plan.data_parallel_size == 8


def test_a_cluster_too_small_for_one_replica_divides_by_no_zero() -> None:
    columns = compile_columns(
        witness("small"),
        {"plan.tensor_parallel_size": [8, 16], "cluster.accelerator_count": [8, 8]},
    )
    assert rules.valid(columns).tolist() == [True, False]
    assert evaluate(columns, ["data_parallel_size"])["data_parallel_size"].tolist() == [1, 1]
