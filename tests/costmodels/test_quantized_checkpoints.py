"""Checkpoints whose quantization is stated: the bytes of their tensors."""

from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from costmodels.errors import SpecError
from costmodels.model_tensors import Role
from costmodels.number_formats.layouts import stored_format
from costmodels.presets import model_preset
from costmodels.quantized_checkpoints import METHODS, checkpoint_format, checkpoint_tensors
from costmodels.scenario import scenario_from_table
from costmodels.specs.model import Model
from costmodels.specs.precision import Quantization
from costmodels.weight_storage import stored_tensors, weight_recipe
from simulator.accounting import memory_account

LLAMA = "llama-3.1-8b"


def quantization(method: str, form: str, group: tuple[int, int], scale: str, **own: Any) -> Any:
    return Quantization(
        method=method,
        weight_format=form,
        group_rows=group[0],
        group_columns=group[1],
        scale_format=scale,
        **own,
    )


SAME = {
    "fp8-block": quantization("fp8", "fp8-e4m3", (128, 128), "fp32"),
    "fp8": quantization("fbgemm_fp8", "fp8-e4m3", (1, 0), "fp32"),
    "gptq-int4": quantization("gptq", "int4", (1, 128), "fp16", zero_points=True),
    "awq-int4": quantization("awq", "int4", (1, 128), "fp16", zero_points=True),
    "w4a16": quantization("compressed-tensors", "int4", (1, 128), "bf16", excluded=("lm_head",)),
    "nvfp4": quantization("modelopt", "nvfp4", (1, 16), "fp8-e4m3", excluded=("lm_head*",)),
    "nf4": quantization("bitsandbytes", "nf4", (1, 64), "fp32"),
    "fp4-bnb": quantization("bitsandbytes", "fp4-e2m1", (1, 64), "fp32"),
    "llm-int8": quantization("bitsandbytes", "int8", (1, 0), "fp32"),
}


def size(model: Model, quantized: Quantization) -> int:
    return sum(entry.stored_bytes for entry in checkpoint_tensors(model, quantized, wide="bf16"))


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("model", [LLAMA, "deepseek-v3"])
def test_a_checkpoint_takes_what_the_recipe_of_its_library_takes(name: str, model: str) -> None:
    described = model_preset(model)
    recipe = stored_tensors(described, weight_recipe(name))
    assert size(described, SAME[name]) == sum(entry.stored_bytes for entry in recipe)


def test_mxfp4_is_of_experts() -> None:
    mxfp4 = quantization("mxfp4", "mxfp4", (1, 32), "e8m0")
    model = model_preset("gpt-oss-20b")
    recipe = stored_tensors(model, weight_recipe("mxfp4-experts"))
    assert size(model, mxfp4) == sum(entry.stored_bytes for entry in recipe)
    with pytest.raises(SpecError, match=r"method \(mxfp4\): quantizes no tensor"):
        size(model_preset(LLAMA), mxfp4)


def test_three_bits_and_mlx_are_packed_as_their_libraries_pack_them() -> None:
    three = checkpoint_format(quantization("gptq", "int3", (1, 128), "fp32", zero_points=True))
    known = stored_format("gptq_int3_g128_fp32")
    assert three.part_bytes(256, 1024) == known.part_bytes(256, 1024)
    mlx = checkpoint_format(quantization("mlx", "int4", (1, 64), "bf16", zero_points=True))
    assert mlx.bits_per_weight(64, 1024) == 4.5
    inputs = {"activation_format": "nvfp4"}
    scaled = checkpoint_format(quantization("modelopt", "nvfp4", (1, 16), "fp8-e4m3", **inputs))
    assert int(scaled.tensor_bytes(64, 64)) == 64 * 64 // 2 + 64 * 4 + 4 + 4


@pytest.mark.parametrize(
    ("excluded", "roles", "layers"),
    [
        ("lm_head", {Role.HEAD}, None),
        ("re:.*lm_head", {Role.HEAD}, None),
        ("*self_attn*", {Role.ATTENTION}, 32),
        ("self_attn", {Role.ATTENTION}, 32),
        ("model.layers.3.self_attn", {Role.ATTENTION}, 1),
        ("re:model\\.layers\\.[01]\\.mlp\\..*", {Role.FFN}, 2),
    ],
)
def test_modules_that_are_left_out_stay_wide(
    excluded: str, roles: set[Role], layers: int | None
) -> None:
    model = model_preset(LLAMA)
    whole = replace(SAME["w4a16"], excluded=())
    usual = checkpoint_tensors(model, whole, wide="bf16")
    left = checkpoint_tensors(model, replace(whole, excluded=(excluded,)), wide="bf16")
    moved = [
        new.tensor
        for old, new in zip(usual, left, strict=True)
        if old.stored_bytes != new.stored_bytes
    ]
    assert {tensor.role for tensor in moved} == roles
    found = {tensor.layer for tensor in moved}
    assert found == {None} if layers is None else len(found) == layers


def test_what_is_not_known_is_refused_by_name() -> None:
    model, gptq = model_preset(LLAMA), SAME["gptq-int4"]
    changes: dict[str, dict[str, Any]] = {
        r"precision.quantization.method 'quip'": {"method": "quip"},
        r"weight_format \(nf4\): gptq stores": {"weight_format": "nf4"},
        r"group_rows \(2\): zero points": {"group_rows": 2},
        r"excluded \(nothing.like\): names no module": {"excluded": ("nothing.like",)},
        r"excluded \(re:\(\): not a regular": {"excluded": ("re:(",)},
        r"zero_points \(true\): fp8 stores": {"method": "fp8", "weight_format": "fp8-e4m3"},
    }
    for said, change in changes.items():
        with pytest.raises(SpecError, match=said):
            size(model, replace(gptq, **change))
    norms = ("model.norm", "vision_tower", "model.layers.32.mlp")
    assert size(model, replace(gptq, excluded=norms)) == size(model, gptq)
    assert all(METHODS.values())


def test_a_gpu_holds_what_the_checkpoint_takes() -> None:
    table: dict[str, Any] = {
        "model": LLAMA,
        "cluster": "h200-sxm:1",
        "precision": {"preset": "bf16-mixed", "quantization": to_builtins(SAME["awq-int4"])},
        "workload": {"kind": "decode", "global_batch_size": 1, "sequence_length": 1024},
    }
    account = memory_account(scenario_from_table(table))
    held = account.component("served_weights_bytes").stage_bytes
    assert held == [size(model_preset(LLAMA), SAME["awq-int4"])]
    with pytest.raises(SpecError, match=r"precision.stored_weights \(nf4\): precision.quant"):
        scenario_from_table({**table, "precision": {**table["precision"], "stored_weights": "nf4"}})
