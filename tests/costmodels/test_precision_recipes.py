"""Recipes with formats of eight bits: peaks, bytes of a parameter, roles that they may fill."""

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NoReferenceDataError, NotModelledError, SpecError
from costmodels.presets import preset_names
from costmodels.scenario import scenario_from_table
from tests.costmodels.witnesses import witness


def values(precision: str, *names: str) -> list[float]:
    scenario = witness("small", cluster="h100-sxm:8", precision=precision)
    found = evaluate(compile_columns(scenario), list(names))
    return [
        float(entry[0][0]) if isinstance(entry, tuple) else float(entry[0])
        for entry in (found[name] for name in names)
    ]


@pytest.mark.parametrize(
    ("name", "parameter_bytes"),
    [("bf16-mixed", 18), ("fp8-mixed", 18), ("fp8-primary", 17), ("fp8-deepseek", 13), ("bf16", 8)],
)
def test_bytes_of_a_parameter(name: str, parameter_bytes: int) -> None:
    parameters, *parts = values(
        name, "stage_parameters", "weights_bytes", "gradients_bytes", "optimizer_bytes"
    )
    assert sum(parts) == parameter_bytes * parameters


def test_products_in_fp8_have_its_peak_and_attention_and_head_do_not() -> None:
    rates = ("matmul_flop_per_s", "wide_matmul_flop_per_s", "attention_flop_per_s")
    wide, narrow = values("bf16-mixed", *rates), values("fp8-mixed", *rates)
    assert narrow[0] == pytest.approx(2 * wide[0], rel=1e-3)
    assert narrow[1:] == wide[1:]
    assert wide[0] == wide[1]


def test_an_accelerator_without_fp8_is_refused() -> None:
    with pytest.raises(
        NoReferenceDataError, match=r"precision.compute \(fp8_e4m3fn\): NVIDIA A100"
    ):
        witness("small", cluster="a100-80gb-sxm:8", precision="fp8-mixed")


@pytest.mark.parametrize(
    ("role", "name"),
    [("gradients", "fp8_e4m3fn"), ("moments", "int8"), ("weights", "fp8_e5m2"), ("logits", "tf32")],
)
def test_a_role_says_which_formats_it_may_have(role: str, name: str) -> None:
    with pytest.raises(SpecError, match=rf"precision.{role} \({name}\): tensors are not kept"):
        witness("small", **{f"precision__{role}": name})


def test_recipes_of_inference_are_there() -> None:
    assert len([name for name in preset_names("precision") if name.startswith("serve-")]) >= 10


@pytest.mark.parametrize(
    ("name", "weight_bytes"), [("fp8-te", 2.0), ("mxfp8", 2.0625), ("nvfp4", 1.125)]
)
def test_kept_casts_are_of_the_matrices_of_layers(name: str, weight_bytes: float) -> None:
    """Llama 3.1 8B: all but norms, embedding and head."""
    matrices = 32 * (4096 * 128 * (2 * 32 + 2 * 8) + 3 * 4096 * 14336)
    assert kept_casts(name) == weight_bytes * matrices
    assert kept_casts(name, plan__zero_stage=3) == weight_bytes * matrices / 32
    split = kept_casts(name, plan__tensor_parallel_size=8)
    assert split == weight_bytes * matrices / 8


def kept_casts(name: str, **changes: object) -> float:
    scenario = witness("small", cluster="b200-sxm:8", precision=name, **changes)
    found = evaluate(compile_columns(scenario), ["cast_weights_bytes"])["cast_weights_bytes"]
    return float(found[0][0])


def test_casts_of_experts_are_those_that_a_gpu_holds() -> None:
    scenario = witness(
        "mixture", cluster="b200-sxm:8", precision="fp8-te", plan__expert_parallel_size=4
    )
    found = evaluate(compile_columns(scenario), ["cast_weights_bytes"])["cast_weights_bytes"]
    attention, expert = 4096 * 128 * (2 * 32 + 2 * 8), 3 * 4096 * 14336
    assert int(found[0][0]) == 2 * 32 * (attention + 2 * expert)


def test_products_in_blocks_have_the_peaks_of_their_units() -> None:
    def rate(name: str) -> float:
        scenario = witness("small", cluster="b200-sxm:8", precision=name)
        found = evaluate(compile_columns(scenario), ["matmul_flop_per_s", "attention_flop_per_s"])
        assert float(found["attention_flop_per_s"][0]) == pytest.approx(0.5 * 2250e12, rel=0.3)
        return float(found["matmul_flop_per_s"][0])

    wide = rate("bf16-mixed")
    assert rate("mxfp8") == pytest.approx(2 * wide, rel=1e-3)
    assert rate("nvfp4") == pytest.approx(4 * wide, rel=1e-3)


@pytest.mark.parametrize("name", ["mxfp8", "nvfp4"])
def test_products_in_blocks_are_refused_where_there_are_no_units_for_them(name: str) -> None:
    with pytest.raises(NotModelledError, match=rf"precision.compute \({name}\): NVIDIA H100"):
        witness("small", precision=name)


def test_int8_products_are_refused_where_there_is_no_peak_for_them() -> None:
    with pytest.raises(
        NoReferenceDataError, match=r"precision.compute \(int8\): NVIDIA Tesla V100"
    ):
        witness("small", cluster="v100-sxm:8", precision="serve-w8a8", workload__kind="decode")


def test_matrices_that_compress_are_cast_too() -> None:
    """DeepSeek-V3, two layers on two ranks, one dense: all is split but what compresses."""
    model = {"preset": "deepseek-v3", "num_hidden_layers": 2, "multi_token_prediction_layers": 0}
    table = {
        "model": model | {"mixture": {"dense_layers": [0]}},
        "cluster": "h100-sxm:2",
        "precision": "fp8-te",
        "plan": {"tensor_parallel_size": 2},
        "workload": {"global_batch_size": 1, "sequence_length": 128},
    }
    columns = compile_columns(scenario_from_table(table))
    found = evaluate(columns, ["cast_weights_bytes"])["cast_weights_bytes"]
    heads = 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
    compressing = 7168 * (1536 + 512 + 64)
    networks = 3 * 7168 * (18432 + (256 + 1) * 2048)
    assert found[0][0] == 2 * ((2 * heads + networks) // 2 + 2 * compressing)
