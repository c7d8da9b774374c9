"""Each rule refuses by name: the field, its value and what would be valid."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import msgspec
import numpy as np
import pytest

from costmodels import rules
from costmodels.analysis import evaluate
from costmodels.attention.layouts import LAYOUTS as MODELLED_LAYOUTS
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError, SpecError
from costmodels.rules.declaration import Rule
from costmodels.specs.layouts import LAYOUTS, Dense
from tests.costmodels.witnesses import WITNESSES, witness

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "state_heads_divide": (
        "small",
        {
            "model__layouts": [
                {
                    "type": "gated-delta",
                    "key_heads": 3,
                    "value_heads": 6,
                    "key_head_size": 64,
                    "value_head_size": 64,
                    "convolution_width": 4,
                }
            ],
            "plan__tensor_parallel_size": 2,
        },
        r"model.layouts \(.*\): key_heads and value_heads .* plan.tensor_parallel_size \(2\)",
    ),
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
    "serving_is_in_series": (
        "small",
        {"model__parallel_residual": True, "workload__kind": "prefill"},
        r"model.parallel_residual \(True\): .* side by side are not modelled in inference yet",
    ),
    "norms_are_placed": (
        "small",
        {"model__norms_per_layer": 1},
        r"model.norms_per_layer \(1\): must be 2 .* or 1 \(for both halves, model.parallel_residual",
    ),
    "predictions_embed_tokens_alone": (
        "small",
        {"model__multi_token_prediction_layers": 1, "model__embedding_norm": True},
        r"model.multi_token_prediction_layers \(1\): .* set model.multi_token_prediction_layers=0",
    ),
    "predictions_are_repeated_alone": (
        "small",
        {
            "model__multi_token_prediction_layers": 1,
            "plan__recompute": "full",
            "plan__recompute_num_layers": 4,
        },
        r"plan.recompute_num_layers \(4\): groups of layers must be of 1 where further tokens",
    ),
    "mlp_has_layers": (
        "mixture",
        {"plan__recompute": "selective", "plan__recompute_modules": ["mlp"]},
        r"plan.recompute_modules \(\['mlp'\]\): mlp is the network of a layer without experts",
    ),
    "repeated_experts_have_layers": (
        "small",
        {"plan__recompute": "selective", "plan__recompute_modules": ["moe_act"]},
        r"plan.recompute_modules \(\[.*\]\): moe and moe_act are of layers with experts",
    ),
    "experts_are_repeated_once": (
        "mixture",
        {"plan__recompute": "selective", "plan__recompute_modules": ["moe", "moe_act"]},
        r"plan.recompute_modules \(\[.*\]\): moe computes .* too: leave out moe_act",
    ),
    "repeated_shared_experts_have_layers": (
        "mixture",
        {"plan__recompute": "selective", "plan__recompute_modules": ["shared_experts"]},
        r"plan.recompute_modules \(\[.*\]\): shared_experts are .*, and no layer has any",
    ),
    "shared_experts_are_repeated_once": (
        "small",
        {
            "model": "deepseek-v3",
            "plan__recompute": "selective",
            "plan__recompute_modules": ["moe", "shared_experts"],
        },
        r"plan.recompute_modules \(\[.*\]\): moe computes .* too: leave out shared_experts",
    ),
    "repeated_shared_experts_reduce_alone": (
        "small",
        {
            "model": "deepseek-v3",
            "plan__tensor_parallel_size": 2,
            "plan__recompute": "selective",
            "plan__recompute_modules": ["shared_experts"],
        },
        r"plan.recompute_modules \(\[.*\]\): shared_experts are not modelled yet .* \(2\) above 1",
    ),
    "up_projection_has_layers": (
        "small",
        {"plan__recompute": "selective", "plan__recompute_modules": ["mla_up_proj"]},
        r"plan.recompute_modules \(\[.*\]\): mla_up_proj is of latent attention, which no layer",
    ),
    "up_projection_is_whole": (
        "small",
        {
            "model": "deepseek-v3",
            "plan__tensor_parallel_size": 2,
            "plan__sequence_parallel": True,
            "plan__recompute": "selective",
            "plan__recompute_modules": ["mla_up_proj"],
        },
        r"plan.recompute_modules \(\[.*\]\): mla_up_proj is not modelled yet with plan.sequence",
    ),
    "repeated_norms_are_apart": (
        "small",
        {
            "plan__saved_tensors": "transformer-engine",
            "plan__recompute": "selective",
            "plan__recompute_modules": ["layernorm"],
        },
        r"plan.recompute_modules \(\[.*\]\): layernorm: .* the model has neither",
    ),
    "repeated_networks_reduce_alone": (
        "small",
        {
            "model__parallel_residual": True,
            "plan__tensor_parallel_size": 2,
            "plan__recompute": "selective",
            "plan__recompute_modules": ["mlp"],
        },
        r"plan.recompute_modules \(\[.*\]\): mlp, moe and shared_experts are not .* \(2\) above 1",
    ),
    "repeated_modules_are_trained": (
        "small",
        {
            "precision__adapters": {"rank": 8, "targets": ["query"]},
            "plan__recompute": "selective",
            "plan__recompute_modules": ["layernorm"],
        },
        r"plan.recompute_modules \(\[.*\]\): modules beside core_attn are not modelled yet with",
    ),
    "copied_heads_have_own_norms": (
        "small",
        {"model__query_key_norm": "full", "plan__tensor_parallel_size": 16}
        | {"cluster__accelerator_count": 16},
        r"model.query_key_norm \(full\): .* share key and value heads \(8\)",
    ),
    "predictions_divide": (
        "small",
        {
            "model__multi_token_prediction_layers": 1,
            "model__hidden_size": 1001,
            "plan__tensor_parallel_size": 2,
        },
        r"model.hidden_size \(1001\): must be a multiple of plan.tensor_parallel_size \(2\) where",
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
    "context_blocks_are_equal": (
        "small",
        {
            "plan__context_parallel_size": 2,
            "model__layouts": [
                {"type": "dense"},
                {
                    "type": "latent",
                    "query_rank": 8,
                    "key_value_rank": 8,
                    "unrotated_size": 8,
                    "rotated_size": 8,
                    "value_size": 8,
                },
            ],
        },
        r"plan.context_parallel_size \(2\): layers whose queries, keys or values differ in size",
    ),
    "context_divides": (
        "small",
        {"plan__context_parallel_size": 8, "workload__sequence_length": 1000},
        r"workload.sequence_length \(1000\): must be a multiple of 2 x "
        r"plan.context_parallel_size \(8\)",
    ),
    "context_heads_divide": (
        "small",
        {
            "plan__context_parallel_size": 4,
            "plan__tensor_parallel_size": 4,
            "plan__context_parallel_method": "ulysses",
            "cluster": "h100-sxm:16",
        },
        r"plan.context_parallel_size \(4\): exchanges heads .* must divide "
        r"model.num_attention_heads \(32\) and model.num_key_value_heads \(8\)",
    ),
    "experts_share_ranks": (
        "mixture",
        {"plan__expert_parallel_size": 3},
        r"plan.expert_parallel_size \(3\): must divide model.mixture.expert_count \(8\)",
    ),
    "expert_split_has_experts": (
        "small",
        {"plan__expert_tensor_parallel_size": 2},
        r"plan.expert_tensor_parallel_size \(2\): splits experts: the model needs a mixture",
    ),
    "capacity_has_experts": (
        "small",
        {"plan__expert_capacity_factor": 1.5},
        r"plan.expert_capacity_factor \(1.5\): bounds the tokens of experts",
    ),
    "expert_width_divides": (
        "mixture",
        {"plan__expert_tensor_parallel_size": 3},
        r"plan.expert_tensor_parallel_size \(3\): must divide model.mixture.expert_intermediate_size",
    ),
    "experts_apart_split_tokens": (
        "mixture",
        {"plan__expert_parallel_size": 2, "plan__tensor_parallel_size": 2},
        r"plan.expert_parallel_size \(2\): .* it needs plan.sequence_parallel=true",
    ),
    "sharding_group_shards": (
        "small",
        {"plan__sharding_group_size": 2, "plan__zero_stage": 0},
        r"plan.sharding_group_size \(2\): shards nothing with plan.zero_stage=0",
    ),
    "sharding_group_divides": (
        "small",
        {"plan__sharding_group_size": 3, "plan__zero_stage": 1},
        r"plan.sharding_group_size \(3\): must divide the 8 data- and context-parallel ranks",
    ),
    "ddp_shards_nothing": (
        "small",
        {"plan__gradient_buckets": "torch-ddp", "plan__zero_stage": 1},
        r"plan.gradient_buckets \(torch-ddp\): reduces whole gradients: set plan.zero_stage \(1\) to 0",
    ),
    "ddp_order_is_known": (
        "mixture",
        {"plan__gradient_buckets": "torch-ddp"},
        r"plan.gradient_buckets \(torch-ddp\): knows the order of gradients of layers with four",
    ),
    "ddp_backwards_are_whole": (
        "small",
        {
            "plan__gradient_buckets": "torch-ddp",
            "plan__pipeline_parallel_size": 2,
            "plan__schedule": "zb-h1",
        },
        r"plan.gradient_buckets \(torch-ddp\): needs gradients in the order of a whole backward",
    ),
    "fsdp_units_are_sharded": (
        "small",
        {"plan__gradient_buckets": "fsdp-units", "plan__zero_stage": 2},
        r"plan.gradient_buckets \(fsdp-units\): are units whose weights are sharded: set "
        r"plan.zero_stage \(2\) to 3",
    ),
    "fsdp_units_have_own_sizes": (
        "small",
        {
            "plan__gradient_buckets": "fsdp-units",
            "plan__zero_stage": 3,
            "plan__gradient_bucket_parameters": 10**6,
        },
        r"plan.gradient_bucket_parameters \(1,?000,?000\): must be 0 with plan.gradient_buckets=fsdp-units",
    ),
    "expert_ranks_fit": (
        "mixture",
        {
            "plan__expert_parallel_size": 8,
            "plan__sharding_group_size": 4,
            "plan__zero_stage": 1,
        },
        r"plan.expert_parallel_size \(8\): times plan.expert_tensor_parallel_size \(1\) must",
    ),
    "serving_keeps_weights_whole": (
        "small",
        {"workload__kind": "decode", "plan__zero_stage": 3},
        r"plan.zero_stage \(3\): inference with sharded weights is not modelled; use 0",
    ),
    "serving_has_one_chunk": (
        "interleaved",
        {"workload__kind": "prefill"},
        r"plan.virtual_stages \(2\): inference with several chunks .* use 1",
    ),
    "serving_keeps_sequences_whole": (
        "small",
        {
            "workload__kind": "prefill",
            "plan__tensor_parallel_size": 8,
            "plan__sequence_parallel": True,
        },
        r"plan.sequence_parallel \(True\): inference with sequence parallelism is not modelled",
    ),
    "serving_keeps_contexts_whole": (
        "small",
        {"workload__kind": "decode", "plan__context_parallel_size": 2},
        r"plan.context_parallel_size \(2\): inference with shared sequences is not modelled yet",
    ),
    "serving_keeps_experts_whole": (
        "mixture",
        {"workload__kind": "decode", "plan__expert_parallel_size": 2},
        r"plan.expert_parallel_size \(2\): inference with experts apart",
    ),
    "serving_drops_no_token": (
        "mixture",
        {"workload__kind": "decode", "plan__expert_capacity_factor": 1.5},
        r"plan.expert_capacity_factor \(1.5\): inference with a capacity of experts",
    ),
    "serving_is_fused": (
        "small",
        {"workload__kind": "decode", "plan__attention_kernel": "naive"},
        r"plan.attention_kernel \(naive\): inference is modelled with a fused kernel only",
    ),
    "cast_has_shards": (
        "small",
        {"plan__cast_on_gather": True, "plan__zero_stage": 2},
        r"plan.cast_on_gather \(True\): .* needs plan.zero_stage=3 \(not 2\) and "
        r"precision.main_weights",
    ),
    "cast_is_on_accelerator": (
        "small",
        {
            "plan__cast_on_gather": True,
            "plan__zero_stage": 3,
            "plan__offload_optimizer": True,
            "cluster__host_bandwidth_bytes_per_s": 5e10,
        },
        r"plan.cast_on_gather \(True\): .* host with plan.offload_optimizer=true",
    ),
    "offload_has_link": (
        "small",
        {"plan__offload_optimizer": True, "cluster": "l40s:8"},
        r"plan.offload_optimizer \(True\): needs the bandwidth .* set cluster.host_bandwidth",
    ),
    "offloaded_activations_have_link": (
        "small",
        {"plan__offload_activations_num_layers": 4, "cluster": "l40s:8"},
        r"plan.offload_activations_num_layers \(4\): needs the bandwidth .* set "
        r"cluster.host_bandwidth",
    ),
    "offloaded_activations_come_back_once": (
        "small",
        {
            "plan__offload_activations_num_layers": 4,
            "cluster__host_bandwidth_bytes_per_s": 5e10,
            "plan__schedule": "zb-h1",
        },
        r"plan.offload_activations_num_layers \(4\): .* plan.schedule that splits backwards",
    ),
    "saved_tensors_have_kernel": (
        "small",
        {"plan__saved_tensors": "torch-eager-cpu"},
        r"plan.saved_tensors \(torch-eager-cpu\): .* keeps the scores of "
        r"plan.attention_kernel=naive",
    ),
    "saved_tensors_have_format": (
        "small",
        {"plan__saved_tensors": "torch-eager-cpu", "plan__attention_kernel": "naive"},
        r"plan.saved_tensors \(torch-eager-cpu\): .* 4 bytes only \(not 2\)",
    ),
    "saved_tensors_have_dropout": (
        "small",
        {"plan__saved_tensors": "torch-cuda", "model__dropout": True},
        r"plan.saved_tensors \(torch-cuda\): masks of model.dropout are modelled for megatron",
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
        {
            "model__num_attention_heads": 48,
            "model__num_key_value_heads": 6,
            "plan__tensor_parallel_size": 16,
            "cluster__accelerator_count": 16,
        },
        r"model.num_key_value_heads \(6\): must be a multiple of plan.tensor_parallel_size \(16\)",
    ),
    "ffn_divides": (
        "small",
        {"model__intermediate_size": 14337, "plan__tensor_parallel_size": 2},
        r"model.intermediate_size \(14337\): must be a multiple of "
        r"plan.tensor_parallel_size \(2\)",
    ),
    "memories_are_split": (
        "small",
        {
            "model__layouts": [{"type": "infini", "segment_length": 512}],
            "plan__tensor_parallel_size": 16,
            "cluster__accelerator_count": 16,
        },
        r"plan.tensor_parallel_size \(16\).*model.num_key_value_heads \(8\) with Infini",
    ),
    "handovers_have_parts": (
        "small",
        {"plan__scatter_gather_handovers": True, "plan__tensor_parallel_size": 2},
        r"plan.scatter_gather_handovers.*plan.pipeline_parallel_size \(1\) and",
    ),
    "handovers_are_whole": (
        "small",
        {
            "plan__scatter_gather_handovers": True,
            "plan__tensor_parallel_size": 2,
            "plan__pipeline_parallel_size": 2,
            "plan__sequence_parallel": True,
        },
        r"plan.scatter_gather_handovers.*changes nothing with plan.sequence_parallel=true",
    ),
    "handovers_divide": (
        "small",
        {
            "plan__scatter_gather_handovers": True,
            "plan__tensor_parallel_size": 2,
            "plan__pipeline_parallel_size": 2,
            "model__hidden_size": 4095,
            "workload__sequence_length": 1023,
        },
        r"plan.scatter_gather_handovers.*\(1023\) x model.hidden_size \(4095\)",
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


def test_every_rule_has_its_place_in_the_order() -> None:
    declared = {
        name
        for module in iter_modules(rules.__path__)
        for name, value in vars(import_module(f"{rules.__name__}.{module.name}")).items()
        if callable(value) and hasattr(value, "rule")
    }
    assert sorted(declared) == sorted(rule.function.__name__ for rule in rules.RULES)


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
            {"plan__schedule": "dualpipe", "plan__layers_per_stage": [16, 16]},
            r"plan.schedule \(dualpipe\): requires exactly 2 virtual stages per rank",
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
        (
            "small",
            {
                "model__layouts": [
                    {"type": "dilated", "segment_lengths": [4, 8], "dilation_rates": [1]}
                ]
            },
            r"model.layouts \(dilated, 2 segment_lengths\): must have as many dilation_rates \(1\)",
        ),
        (
            "mixture",
            {"model__mixture__dense_layers": [0, 32]},
            r"model.mixture.dense_layers \(32\): must be below model.num_hidden_layers \(32\)",
        ),
        (
            "mixture",
            {"model__mixture__dense_layers": [1, 1]},
            r"model.mixture.dense_layers \(2 members\): must name each layer once",
        ),
        (
            "mixture",
            {"model__mixture__dense_layers": list(range(32))},
            r"model.mixture.dense_layers \(32 members\): must .* leave some to experts",
        ),
        (
            "mixture",
            {"model__mixture__shared_gate": True},
            r"model.mixture.shared_gate \(True\): .* model.mixture.shared_intermediate_size \(0\)",
        ),
    ],
)
def test_what_is_checked_beside_the_rules(base: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match="^" + message):
        witness(base, **changes)


OTHER_LAYOUTS: dict[str, dict[str, Any]] = {
    "sliding": {"window": 4096},
    "chunked": {"chunk_length": 8192},
    "dilated": {"segment_lengths": [2048, 4096], "dilation_rates": [1, 2]},
    "dilated-heads": {"dilation_rates": [1, 8], "keys_per_query": 512},
    "infini": {"segment_length": 2048},
    "linear": {},
    "compressive": {
        "segment_length": 512,
        "memory_tokens": 512,
        "compressed_tokens": 128,
        "compression_rate": 4,
    },
    "latent": {"key_value_rank": 512, "unrotated_size": 128, "rotated_size": 64, "value_size": 128},
    "gated-delta": {
        "key_heads": 16,
        "value_heads": 32,
        "key_head_size": 128,
        "value_head_size": 128,
        "convolution_width": 4,
    },
    "lightning": {"block_length": 256},
}


def test_there_is_an_example_of_every_layout() -> None:
    assert OTHER_LAYOUTS.keys() | {"dense"} == LAYOUTS.keys()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_is_modelled_wherever_it_stands(name: str) -> None:
    assert name in MODELLED_LAYOUTS
    other = {"type": name, **OTHER_LAYOUTS.get(name, {})}
    for layouts in ([other], [{"type": "dense"}, other]):
        scenario = witness("small", model__layouts=layouts)
        wanted = ("layer_attention_flop", "layer_model_flop", "layer_activation_bytes", "step_s")
        found = evaluate(compile_columns(scenario), wanted)
        assert all(int(np.asarray(value)[0]) > 0 for value in found["layer_attention_flop"])
        assert all(int(np.asarray(value)[0]) > 0 for value in found["layer_activation_bytes"])
        assert float(found["step_s"][0]) > 0


@pytest.mark.parametrize("name", sorted(LAYOUTS.keys() - {"dense", "latent"}))
def test_sequences_of_other_layouts_are_not_spread_over_ranks(name: str) -> None:
    layouts = [{"type": name, **OTHER_LAYOUTS[name]}]
    message = rf"plan.context_parallel_size \(2\): {name} attention over shared sequences"
    with pytest.raises(NotModelledError, match="^" + message):
        witness("small", model__layouts=layouts, plan__context_parallel_size=2)


@pytest.mark.parametrize(
    ("layout", "error", "message"),
    [
        ({"type": "dilated-heads", "dilation_rates": [1, 2]}, SpecError, "at least 1 without"),
        (
            {"type": "dilated-heads", "dilation_rates": [1], "segment_lengths": [8, 8]},
            SpecError,
            "as many dilation_rates",
        ),
        (
            {
                "type": "dilated-heads",
                "dilation_rates": [1],
                "segment_lengths": [8],
                "keys_per_query": 2,
            },
            SpecError,
            "leave one of them out",
        ),
        (
            {
                "type": "dilated-heads",
                "dilation_rates": [1],
                "keys_per_query": 2,
                "every_residue": True,
            },
            SpecError,
            "needs segment_lengths",
        ),
        (
            {"type": "dilated-heads", "dilation_rates": [1, 2, 4], "keys_per_query": 2},
            NotModelledError,
            r"model.num_attention_heads \(32\) must be a multiple",
        ),
        (
            {"type": "compressive", **OTHER_LAYOUTS["compressive"], "compression_rate": 3},
            SpecError,
            r"must divide segment_length \(512\)",
        ),
        (
            {"type": "compressive", **OTHER_LAYOUTS["compressive"], "memory_tokens": 700},
            SpecError,
            r"memory_tokens 700\): must be a multiple",
        ),
    ],
)
def test_sizes_of_a_layout_agree(
    layout: dict[str, Any], error: type[SpecError], message: str
) -> None:
    with pytest.raises(error, match=rf"^model.layouts \({layout['type']}, .*{message}"):
        witness("small", model__layouts=[layout])


@pytest.mark.parametrize("optimizer", ["adafactor", "muon", "adam-8bit"])
def test_states_by_shape_of_a_compressor_are_refused(optimizer: str) -> None:
    layouts = [{"type": "compressive", **OTHER_LAYOUTS["compressive"]}]
    with pytest.raises(NotModelledError, match=rf"^workload.optimizer \({optimizer}\)"):
        witness("small", model__layouts=layouts, workload__optimizer=optimizer)


def test_a_model_alone_may_predict_tokens_and_have_parallel_residuals() -> None:
    model = witness("mixture").model
    changes = {"multi_token_prediction_layers": 1, "parallel_residual": True, "norms_per_layer": 1}
    rules.check_model(msgspec.structs.replace(model, **changes))
    with pytest.raises(SpecError, match=r"^model.layouts \(2 members\)"):
        rules.check_model(
            msgspec.structs.replace(model, num_hidden_layers=1, layouts=(Dense(), Dense()))
        )


def test_the_model_of_a_width_is_split_where_some_layer_has_it() -> None:
    """With experts of their own width in every layer, nothing is as wide as the model says."""
    tensor = {"plan__tensor_parallel_size": 2, "model__intermediate_size": 14337}
    own = {**tensor, "model__mixture__expert_intermediate_size": 1408}
    assert witness("mixture", **own).model.intermediate_size == 14337
    with pytest.raises(SpecError, match=r"^model.intermediate_size \(14337\)"):
        witness("mixture", **own, model__mixture__dense_layers=[0])


def test_quantized_weights_are_refused_as_a_whole() -> None:
    table = {
        "method": "gptq",
        "weight_format": "int4",
        "group_rows": 1,
        "group_columns": 128,
        "scale_format": "fp16",
    }
    message = r"precision.quantization \(int4\): training on quantized weights is not modelled yet"
    with pytest.raises(NotModelledError, match="^" + message):
        witness("small", precision__quantization=table)
    assert witness("small", precision__quantization="none").precision.quantization is None


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
