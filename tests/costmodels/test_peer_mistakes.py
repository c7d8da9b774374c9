"""Mistakes that planners have made in public, each with a test that it is not made here.

Each test names where it was reported.
"""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.presets import preset_names, preset_table
from costmodels.specs.cluster import Accelerator
from costmodels.specs.tables import build
from simulator.accounting import memory_account
from simulator.whatif import estimate
from tests.costmodels.witnesses import witness


def values(scenario: Any, *names: str) -> list[Any]:
    found = evaluate(compile_columns(scenario), names)
    return [found[name] for name in names]


def number(value: Any) -> int:
    """Return the one number of a column, along whatever axes of length one."""
    while isinstance(value, tuple):
        (value,) = value
    return int(value) if isinstance(value, int) else int(value[0])


def test_experts_are_divided_once_by_the_ranks_that_split_them() -> None:
    """NVIDIA Megatron-Bridge pull request 3744: experts divided by the wrong group."""
    whole = witness("mixture")
    split = witness("mixture", plan__tensor_parallel_size=4)
    expert = 3 * 4096 * 14336
    for scenario, ranks in ((whole, 1), (split, 4)):
        sharded, held = values(scenario, "layer_sharded_parameters", "layer_gpu_parameters")
        attention = 4096 * (32 + 2 * 8 + 32) * 128
        assert number(sharded) == attention + 8 * expert
        replicated = 4096 * 8 + 2 * 4096
        assert number(held) == (attention + 8 * expert) // ranks + replicated


def test_experts_on_ranks_of_their_own_are_not_divided_by_the_tensor_parallel_size() -> None:
    """The same pull request: 8 experts over 4 ranks, whole; 8-way tensor parallelism left aside."""
    scenario = witness(
        "mixture",
        cluster="h100-sxm:32",
        plan__tensor_parallel_size=8,
        plan__sequence_parallel=True,
        plan__expert_parallel_size=4,
        plan__expert_tensor_parallel_size=1,
    )
    experts, held = values(scenario, "layer_expert_parameters", "layer_gpu_parameters")
    assert number(experts) == 2 * 3 * 4096 * 14336
    attention = 4096 * (32 + 2 * 8 + 32) * 128
    assert number(held) == attention // 8 + 4096 * 8 + 2 * 4096 + number(experts)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_states_of_experts_are_sharded_over_their_own_replicas(stage: int) -> None:
    """Sharding of experts divided by all replicas would count their ranks twice."""
    scenario = witness(
        "mixture",
        cluster="h100-sxm:32",
        plan__expert_parallel_size=8,
        plan__zero_stage=stage,
        plan__sharding_group_size=16,
        workload__global_batch_size=32,
    )
    names = ("stage_parameters", "stage_expert_parameters", "optimizer_bytes", "weights_bytes")
    whole, experts, optimizer, weights = (int(value[0][0]) for value in values(scenario, *names))
    assert experts == 32 * 3 * 4096 * 14336
    # 16 ranks shard; of them 8 hold different experts, so that 2 hold the same.
    shard = -(-(whole - experts) // 16) + experts // 2
    assert optimizer == 12 * shard
    assert weights == 2 * (shard if stage == 3 else whole)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_states_are_sharded_once(stage: int) -> None:
    """DeepSpeed issue 6796: sharding divided twice."""
    scenario = witness("small", plan__zero_stage=stage)
    names = ("stage_parameters", "weights_bytes", "gradients_bytes", "optimizer_bytes")
    parameters, *states = (int(value[0][0]) for value in values(scenario, *names))
    shards = [8 if stage >= least else 1 for least in (3, 2, 1)]
    element_bytes = (2, 4, 12)
    for state, count, size in zip(states, shards, element_bytes, strict=True):
        assert state == -(-parameters // count) * size


def test_the_heaviest_stage_is_reported_not_the_mean() -> None:
    """NVIDIA Megatron-Bridge pull request 5077: uneven stages under-reported by a third."""
    plan = {
        "plan__pipeline_parallel_size": 4,
        "plan__layers_per_stage": [5, 8, 9, 10],
        "plan__schedule": "gpipe",
    }
    answer = estimate(witness("small", **plan), ignore_memory=True)
    stages = answer.memory["stage_bytes"]
    assert answer.memory["worst_stage_bytes"] == max(stages)
    assert answer.memory["worst_stage_bytes"] > 1.1 * sum(stages) / len(stages)
    assert stages.index(max(stages)) == answer.memory["worst_stage_index"]


def test_the_stage_with_the_head_carries_its_work_and_parameters() -> None:
    """aiconfigurator pull request 1459: pipelines as an ideal speedup, the head forgotten."""
    plan = {"plan__pipeline_parallel_size": 4, "plan__layers_per_stage": [8, 8, 8, 8]}
    scenario = witness("small", **plan)
    parameters, forward = values(scenario, "stage_parameters", "chunk_forward_flop")
    head = 128_256 * 4096
    assert int(parameters[-1][0]) - int(parameters[1][0]) == head + 4096
    assert int(forward[-1][0][0]) - int(forward[1][0][0]) == 2 * 1024 * head


SPARSE_BF16_TFLOPS = {
    "a100-80gb-sxm": 624,
    "h100-sxm": 1978.9,
    "h200-sxm": 1979,
    "l40s": 733,
    "b200-sxm": 4500,
    "mi300x": 2614.9,
}


@pytest.mark.parametrize("name", SPARSE_BF16_TFLOPS)
def test_peaks_are_dense(name: str) -> None:
    """inference-sim issue 815: a peak 'fixed' to the datasheet's number with sparsity."""
    entry = build(Accelerator, preset_table("accelerator", name), "accelerator")
    sparse = SPARSE_BF16_TFLOPS[name]
    assert entry.peak_flop_per_s["bf16"] == pytest.approx(sparse * 1e12 / 2, rel=0.02)


def test_narrower_formats_are_twice_as_fast_where_both_are_tensor_core_peaks() -> None:
    """A sparse number beside dense ones would stand out by a factor of two."""
    for name in preset_names("accelerator"):
        peaks = build(Accelerator, preset_table("accelerator", name), "accelerator").peak_flop_per_s
        if "bf16" in peaks and "fp8" in peaks:
            ratio = peaks["fp8"] / peaks["bf16"]
            # TPU v5p and Gaudi 3 compute FP8 at the rate of bf16.
            assert ratio == pytest.approx(2, rel=0.02) or ratio == pytest.approx(1, rel=0.02), name


def test_selective_recomputation_saves_nothing_that_flash_attention_has_not_saved() -> None:
    """Megatron-LM issue 1225: 30 % expected, 25.5 to 24.9 GB measured."""
    bytes_of = {
        (kernel, recompute): number(
            *values(
                witness("small", plan__attention_kernel=kernel, plan__recompute=recompute),
                "layer_stored_bytes",
            )
        )
        for kernel in ("flash", "naive")
        for recompute in ("none", "selective")
    }
    logsumexp = 4 * 32 * 1024
    scores = 2 * 32 * 1024**2
    assert bytes_of["flash", "none"] - bytes_of["flash", "selective"] == logsumexp
    assert bytes_of["naive", "none"] - bytes_of["naive", "selective"] == scores
    assert bytes_of["flash", "selective"] == bytes_of["naive", "selective"]


def test_a_plan_that_does_not_fit_gets_no_throughput_unasked() -> None:
    """Primus' example projects 582.8 GB for a plan on a 288 GB GPU, beside a measured speed."""
    scenario = witness("small", cluster__accelerator__memory_bytes=2**30)
    answer = estimate(scenario)
    assert not answer.fits
    assert not {key for key, value in answer.time.items() if value} - {"basis"}
    assert estimate(scenario, ignore_memory=True).time["step_s"] > 0


def test_each_layer_caches_what_its_own_layout_needs() -> None:
    """Unsloth pull request 4757: one formula for all layers, +682 % to -81 % off."""

    def cached(model: str, length: int) -> tuple[int, int]:
        """Return what is cached of a sequence, and what 2 x layers x heads x size would be."""
        scenario = witness(
            "small",
            model=model,
            workload__kind="decode",
            workload__global_batch_size=8,
            workload__sequence_length=length,
        )
        account = memory_account(scenario)
        described = scenario.model
        width = described.hidden_size // described.num_attention_heads
        uniform = 2 * described.num_key_value_heads * width * described.num_hidden_layers
        return account.component("kv_cache_bytes").stage_bytes[0], 2 * uniform * length

    # A window of 128 in every other layer.
    kept, uniform = cached("gpt-oss-120b", 131_072)
    assert uniform / kept == pytest.approx(2 * (2880 // 64) / 64, rel=0.002)
    # One compressed vector for 128 heads.
    kept, uniform = cached("deepseek-v3", 8192)
    assert kept == 61 * 576 * 2 * 8192
    assert uniform > 24 * kept
    # Heads of an explicit size, twice the hidden size over the heads: 50 % too little.
    kept, uniform = cached("qwen3-235b-a22b", 8192)
    assert 2 * uniform == kept


def test_training_of_adapters_is_not_counted_as_training_of_all_weights() -> None:
    """RahulSChand gpu_poor issue 1: QLoRA of 7B as 177 GB, more than LoRA, as if all were trained."""
    names = ("gradients_bytes", "optimizer_bytes", "weights_bytes", "chunk_backward_flop")
    whole, lora, qlora = (
        values(witness("small", precision=recipe), *names)
        for recipe in ("bf16-mixed", "lora", "qlora")
    )
    trained = 32 * 16 * (4096 + 4096 + 4096 + 1024)
    assert number(lora[0]) == 4 * trained
    assert number(lora[1]) == 8 * trained
    assert number(whole[1]) == 12 * 8_030_261_248
    assert number(qlora[2]) < 0.55 * number(lora[2])
    assert number(lora[3]) < 0.55 * number(whole[3])
    total = estimate(witness("small", precision="qlora", plan__recompute="full"))
    assert total.memory["worst_stage_bytes"] < 48e9
