"""The tensors of a model, and what they take in every storage."""

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_model
from costmodels.errors import SpecError
from costmodels.gguf_files import FILE_TYPES, gguf_blocks
from costmodels.model_tensors import Role, model_tensors
from costmodels.number_formats.layouts import formats_of_text, stored_format
from costmodels.presets import model_preset, preset_names, preset_table
from costmodels.specs.model import Model
from costmodels.specs.tables import build
from costmodels.weight_storage import (
    bits_per_weight,
    bytes_by_role,
    stored_tensors,
    weight_recipe,
    weight_recipes,
)
from validation.small_models import MODELS

LLAMA = model_preset("llama-3.1-8b")


def total_of(model: Model) -> int:
    return int(evaluate(compile_model(model), ["total_parameters"])["total_parameters"][0])


@pytest.mark.parametrize("name", preset_names("model"))
def test_elements_are_the_parameters(name: str) -> None:
    model = model_preset(name)
    tensors = model_tensors(model)
    assert sum(tensor.elements_count for tensor in tensors) == total_of(model)
    assert all(tensor.elements_count > 0 for tensor in tensors)


@pytest.mark.parametrize("name", MODELS)
def test_elements_of_small_models_are_the_parameters(name: str) -> None:
    model = build(Model, dict(MODELS[name]), "model")
    assert sum(tensor.elements_count for tensor in model_tensors(model)) == total_of(model)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "gpt2", "mixtral-8x7b"])
def test_bf16_takes_two_bytes_a_parameter(name: str) -> None:
    model = model_preset(name)
    tensors = stored_tensors(model, weight_recipe("bf16"))
    assert sum(entry.stored_bytes for entry in tensors) == 2 * total_of(model)
    assert bits_per_weight(tensors) == 16
    roles = bytes_by_role(tensors)
    assert sum(roles.values()) == 2 * total_of(model)
    assert roles[Role.EMBEDDING] > 0


def test_gpt_oss_is_published_with_experts_in_four_bits() -> None:
    """60.8 GiB of checkpoint: OpenAI, gpt-oss Model Card, arXiv:2508.10925, table 1."""
    tensors = stored_tensors(model_preset("gpt-oss-120b"), weight_recipe("mxfp4-experts"))
    size = sum(entry.stored_bytes for entry in tensors)
    assert size / 2**30 == pytest.approx(60.8, abs=0.15)


@pytest.mark.parametrize("name", weight_recipes())
def test_every_recipe_stores_every_kind_of_model(name: str) -> None:
    recipe = weight_recipe(name)
    assert recipe.description
    assert recipe.source
    for model in ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt2"):
        bits = bits_per_weight(stored_tensors(model_preset(model), recipe))
        assert 1 < bits <= 32


def test_any_format_is_a_storage_of_matrices() -> None:
    tensors = stored_tensors(LLAMA, weight_recipe("int4_sym_g32"))
    stored = {entry.tensor.role: entry.stored.name for entry in tensors}
    assert stored[Role.ATTENTION] == "int4_sym_g32"
    assert stored[Role.HEAD] == "bf16"
    with pytest.raises(SpecError, match="unknown storage of weights 'int4-awq'"):
        weight_recipe("int4-awq")
    with pytest.raises(SpecError, match="tensors are not kept in it"):
        stored_tensors(LLAMA, weight_recipe("tf32"))
    own = formats_of_text(
        "[mine]\nlibrary = 'x'\nsource = 'x'\nmultiple_of = 1000\n"
        "parts = [{ name = 'all', bits = 3 }]",
        where_from="own.toml",
    )
    with pytest.raises(SpecError, match="needs rows of a multiple of 1000"):
        stored_tensors(LLAMA, weight_recipe("mine", own), own)


def blocks(model: Model, file_type: str, *, importance: bool = False) -> dict[str, list[str]]:
    tensors = model_tensors(model)
    found: dict[str, list[str]] = {}
    for tensor, name in zip(
        tensors, gguf_blocks(model, tensors, file_type, importance=importance), strict=True
    ):
        found.setdefault(tensor.name, []).append(name.removeprefix("gguf_"))
    return found


def test_q4_k_m_gives_some_layers_more() -> None:
    found = blocks(LLAMA, "Q4_K_M")
    assert set(found["query"]) == {"q4_k"}
    assert found["head"] == ["q6_k"]
    assert found["embedding"] == ["q4_k"]
    assert found["down"][:6] == ["q6_k"] * 4 + ["q4_k"] * 2
    assert found["down"].count("q6_k") == found["value"].count("q6_k") == 16
    assert set(found["norms"]) == {"f32"}


def test_an_importance_matrix_changes_choices() -> None:
    with_it, without = blocks(LLAMA, "IQ3_XXS", importance=True), blocks(LLAMA, "IQ3_XXS")
    assert set(with_it["down"]) == {"iq3_xxs"}
    assert set(without["down"]) == {"q4_k", "q3_k"}
    assert "q4_1" in blocks(LLAMA, "Q4_0", importance=True)["down"]
    assert set(blocks(LLAMA, "Q4_0")["down"]) == {"q4_0"}


def test_a_mixture_of_eight_keeps_keys_and_values() -> None:
    found = blocks(model_preset("mixtral-8x7b"), "Q4_K_M")
    assert set(found["value"]) == set(found["key"]) == {"q8_0"}
    assert set(found["output"]) == {"q5_k"}
    assert set(found["router"]) == {"f32"}
    assert found["down"].count("q6_k") == 16
    experts = blocks(model_preset("gpt-oss-20b"), "MXFP4_MOE")
    assert set(experts["down"]) == {"mxfp4"}
    assert set(experts["query"]) == {"q8_0"}


def test_a_tied_embedding_is_stored_as_a_head() -> None:
    tied = build(Model, preset_table("model", "llama-3.1-8b") | {"tied_embeddings": True}, "model")
    assert blocks(tied, "Q4_K_M")["embedding"] == ["q6_k"]
    assert blocks(tied, "IQ2_XS")["embedding"] == ["q5_k"]


def test_rows_that_do_not_divide_fall_back() -> None:
    odd = build(
        Model,
        preset_table("model", "llama-3.1-8b")
        | {"hidden_size": 2080, "intermediate_size": 1000, "num_hidden_layers": 2},
        "model",
    )
    found = blocks(odd, "Q4_K_S")
    assert set(found["query"]) == {"q5_0"}
    assert set(found["down"]) == {"f16"}
    assert blocks(odd, "Q6_K")["head"] == ["q8_0"]
    assert set(blocks(odd, "IQ2_XS")["up"]) == {"iq4_nl"}


def test_seventy_billion_has_richer_values() -> None:
    assert set(blocks(model_preset("llama-3.1-70b"), "Q3_K_S")["value"]) == {"q5_k"}


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_every_file_type_has_bytes(file_type: str) -> None:
    for name in set().union(*blocks(LLAMA, file_type).values()):
        assert stored_format(f"gguf_{name}").least_bits_per_weight > 0


def test_an_unknown_file_type_is_refused() -> None:
    with pytest.raises(SpecError, match="unknown GGUF file type 'Q4_K'"):
        gguf_blocks(LLAMA, model_tensors(LLAMA), "Q4_K")
