"""Recipes with formats of eight bits: peaks, bytes of a parameter, roles that they may fill."""

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NoReferenceDataError, SpecError
from costmodels.presets import preset_names
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
