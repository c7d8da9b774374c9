"""Parameter counts equal, to the unit, those of transformers' modules and published ones."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from costmodels.huggingface.families import DEFAULTS, FAMILIES
from costmodels.huggingface.importing import import_config
from costmodels.presets import preset_names
from costmodels.specs.layouts import Chunked, Dense, GatedDelta, Latent, Lightning, Sliding
from validation.cases import Case, error_fraction, passed
from validation.parameter_counts import (
    CONFIGURATIONS,
    built_cases,
    configuration,
    parameters_of_model,
    published_cases,
    published_files,
    rounding_step,
)


@pytest.mark.parametrize("case", published_cases(), ids=lambda case: case.name)
def test_published_counts_are_met_within_their_digits(case: Case) -> None:
    assert passed(case), (case.prediction, case.measurement)


def test_presets_are_compared() -> None:
    assert {*CONFIGURATIONS, "gpt-3-175b"} <= set(preset_names("model"))
    assert set(CONFIGURATIONS.values()) <= set(published_files())


def test_checkpoints_are_met_exactly() -> None:
    exact = [case for case in published_cases() if case.tolerance_fraction == 0]
    assert len(exact) >= 4
    assert all(case.prediction == case.measurement for case in exact)


@pytest.mark.parametrize(
    ("parameters", "stated", "step"), [(174_600_000_000, "", 10**8), (7, "", 1), (70, "1", 1)]
)
def test_a_published_count_is_rounded_to_its_last_digit(
    parameters: int, stated: str, step: int
) -> None:
    assert rounding_step(parameters, stated) == step


@pytest.fixture(scope="module")
def built() -> dict[str, Case]:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    pytest.importorskip("transformers", reason="transformers is not installed")
    return {case.name: case for case in built_cases()}


def names_of_cases() -> list[str]:
    models = [*CONFIGURATIONS, "gpt-3-175b"]
    models += [name for name in published_files() if name not in CONFIGURATIONS.values()]
    return models + [f"{family} by default" for family in FAMILIES]


@pytest.mark.torch
@pytest.mark.parametrize("name", names_of_cases())
def test_models_have_the_parameters_of_their_modules(built: dict[str, Case], name: str) -> None:
    cases = [case for case in built.values() if case.name.rpartition(" ")[0] == name]
    assert cases
    for case in cases:
        assert error_fraction(case) == 0, (case.name, case.prediction, case.measurement)
        assert passed(case)


@pytest.mark.torch
def test_all_cases_are_looked_at(built: dict[str, Case]) -> None:
    assert {name.rpartition(" ")[0] for name in built} == set(names_of_cases())
    assert built["llama-3.1-405b total"].measurement == 405_853_388_800
    mixtures = {name for name in built if name.endswith(" active")}
    assert {"mixtral-8x7b active", "deepseek-v3 active", "gpt-oss-120b active"} <= mixtures
    assert {"llama4 by default active", "qwen3_5_moe by default active"} <= mixtures


@pytest.mark.torch
def test_another_layer_would_be_noticed() -> None:
    torch_runtime = pytest.importorskip("validation.torch_runtime")
    table = {**configuration("llama-3.1-8b"), "num_hidden_layers": 31}
    assert torch_runtime.parameter_counts(table).total == 8_030_261_248 - 218_112_000


# --- every family, small and varied ---------------------------------------------------------------

SMALL: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(("num_hidden_layers", "n_layer"), 4),
        **dict.fromkeys(("hidden_size", "n_embd", "word_embed_proj_dim"), 64),
        **dict.fromkeys(("num_attention_heads", "n_head"), 4),
        **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
        **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 6),
        **dict.fromkeys(("max_position_embeddings", "n_positions"), 96),
        **dict.fromkeys(("intermediate_size", "ffn_dim"), 80),
        **dict.fromkeys(("n_group", "topk_group"), 1),
        "vocab_size": 320,
        "head_dim": 16,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "intermediate_size_mlp": 72,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "q_lora_rank": 20,
        "kv_lora_rank": 12,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 12,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 12,
        "rotary_dim": 8,
        "attention_chunk_size": 32,
    }
)
FOLLOWS = frozenset(
    {
        *("bos_token_id", "eos_token_id", "rope_parameters", "no_rope_layers", "moe_layers"),
        *("ffn_hidden_size", "qk_head_dim", "architectures", "id2label", "label2id"),
    }
)
"""Keys that hold what follows from others, or that small sizes do not allow."""

CHOICES: Mapping[str, Sequence[Any]] = MappingProxyType(
    {
        **dict.fromkeys(("num_hidden_layers", "n_layer"), (1, 2, 3, 5, 8)),
        **dict.fromkeys(("hidden_size",), (64, 128)),
        **dict.fromkeys(("num_attention_heads", "n_head"), (4, 8)),
        **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), (1, 2, 4, None)),
        **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), (2, 5, 8)),
        **dict.fromkeys(("max_position_embeddings", "n_positions"), (64, 100)),
        **dict.fromkeys(
            (
                *("tie_word_embeddings", "attention_bias", "use_bias", "use_qkv_bias", "qkv_bias"),
                *("mlp_bias", "attention_out_bias", "enable_bias", "use_qk_norm", "qk_layernorm"),
                *("use_parallel_residual", "new_decoder_architecture", "multi_query", "bias"),
                *("parallel_attn", "alibi", "use_sliding_window"),
            ),
            (False, True),
        ),
        "vocab_size": (320, 333),
        "intermediate_size": (80, 96),
        "n_inner": (None, 72),
        "head_dim": (8, 12, 32),
        "num_experts_per_tok": (1, 2),
        "moe_intermediate_size": (24, 36),
        "shared_expert_intermediate_size": (16, 40),
        "intermediate_size_mlp": (48, 72),
        "n_shared_experts": (1, 2),
        "first_k_dense_replace": (0, 1, 3),
        "decoder_sparse_step": (1, 2, 3),
        "mlp_only_layers": ([], [0], [0, 2]),
        "interleave_moe_layer_step": (1, 2),
        "moe_layers": (None, [], [0], [1, 3]),
        "q_lora_rank": (None, 20, 28),
        "v_head_dim": (8, 12),
        "linear_num_value_heads": (2, 4, 8),
        "linear_conv_kernel_dim": (2, 4),
        "num_ln_in_parallel_attn": (None, 1, 2),
        "max_window_layers": (0, 2, 28),
        "sliding_window": (16, 48),
    }
)
"""Values that matter, one or several of which a variation changes."""

REFUSED = {
    ("deepseek_v2", "mlp_bias"),
    ("deepseek_v3", "mlp_bias"),
    ("kimi_k2", "mlp_bias"),
    ("stablelm", "qk_layernorm"),
    ("minimax", "sliding_window"),
    ("minimax_m1", "sliding_window"),
    ("minimax_text_01", "sliding_window"),
}
"""What has no model: the import says so, see the tests of the import."""

LAYERS = {
    "full_attention": (Dense, Latent),
    "sliding_attention": (Sliding,),
    "chunked_attention": (Chunked,),
    "linear_attention": (GatedDelta, Lightning),
}
ALONE = [family for family in FAMILIES if family not in ("gemma3", "llama4", "qwen3_5")]


@cache
def small_configuration(family: str) -> Mapping[str, Any]:
    """Return a default configuration of a family made small, so that building takes no time."""
    from validation import torch_runtime

    table = torch_runtime.default_configuration(family)
    table = table.get("text_config", table)
    kept = {key: value for key, value in table.items() if key not in FOLLOWS}
    kept |= {key: SMALL[key] for key in kept.keys() & SMALL.keys()}
    if kept.get("pad_token_id") is not None:
        kept["pad_token_id"] = 0
    kinds = kept.pop("layer_types", None)
    if kinds and family.startswith("minimax"):
        kept["layer_types"] = kinds[: kept["num_hidden_layers"]]
    if family not in ("opt", "falcon", "bloom", "gpt2", "gpt_neox", "gptj"):
        return kept
    return {key: value for key, value in kept.items() if key != "head_dim"}


@st.composite
def variations(draw: st.DrawFn, family: str) -> dict[str, Any]:
    """Return a small configuration with some keys that matter changed, and some left out."""
    table = dict(small_configuration(family))
    open_keys = sorted(
        key
        for key in (table.keys() | {"moe_layers", "num_ln_in_parallel_attn"}) & CHOICES.keys()
        if (family, key) not in REFUSED and (key in table or family in _ALSO.get(key, ()))
    )
    for key in draw(st.lists(st.sampled_from(open_keys), max_size=6, unique=True)):
        known = DEFAULTS.get(family, {}).get(key)
        table[key] = draw(
            st.sampled_from([v for v in CHOICES[key] if v is not None or known is None])
        )
    left_out = sorted(DEFAULTS.get(family, {}).keys() - {"vocab_size", "num_attention_heads"})
    if left_out and draw(st.integers(0, 3)) == 0:
        table = without(family, table, draw(st.sampled_from(left_out)))
    layers = table.get("num_hidden_layers", 0)
    table.update(consistent(table, layers))
    return table


_ALSO = {"moe_layers": ("llama4_text",), "num_ln_in_parallel_attn": ("falcon",)}


def without(family: str, table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a configuration without a key, with heads that its default divides."""
    kept = {name: value for name, value in table.items() if name != key}
    if key == "num_key_value_heads":
        kept["num_attention_heads"] = max(4, DEFAULTS[family][key])
    return kept


def consistent(table: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return what has to change with other keys for transformers to build the model."""
    changes: dict[str, Any] = {}
    if "layer_types" in table:
        kinds = table["layer_types"]
        changes["layer_types"] = [kinds[index % len(kinds)] for index in range(layers)]
    if table.get("use_sliding_window") and not table.get("sliding_window", 1):
        changes["sliding_window"] = 16
    if table.get("moe_layers"):
        changes["moe_layers"] = [layer for layer in table["moe_layers"] if layer < layers]
    if "word_embed_proj_dim" in table:
        changes["word_embed_proj_dim"] = table["hidden_size"]
    return changes


def agrees(family: str, table: Mapping[str, Any]) -> None:
    """Assert that modules and closed form count the same, and see the same kinds of layers."""
    from validation import torch_runtime

    counts = torch_runtime.parameter_counts(table)
    model = import_config(json.dumps(table), name=family).model
    assert parameters_of_model(model) == {"total": counts.total, "active": counts.active}, table
    kinds = torch_runtime.kinds_of_layers(table)
    for index, kind in enumerate(kinds or ()):
        assert isinstance(model.layouts[index % len(model.layouts)], LAYERS[kind]), (index, kinds)


@pytest.mark.torch
@pytest.mark.parametrize("family", ALONE)
def test_a_small_model_of_every_family_has_the_parameters_of_its_modules(family: str) -> None:
    pytest.importorskip("validation.torch_runtime")
    agrees(family, small_configuration(family))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("family", "key"),
    [(family, key) for family in ALONE for key in DEFAULTS.get(family, {})],
)
def test_what_a_file_leaves_out_is_the_default_of_its_family(family: str, key: str) -> None:
    pytest.importorskip("validation.torch_runtime")
    table = without(family, small_configuration(family), key)
    agrees(family, table)
    model = import_config(json.dumps(table), name=family).model
    if key in small_configuration(family) and table.get("use_sliding_window") is not False:
        assert any(note.startswith(f"key {key} of config.json is absent") for note in model.notes)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("family", ALONE)
@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_variations_of_every_family_have_the_parameters_of_their_modules(
    family: str, data: st.DataObject
) -> None:
    pytest.importorskip("validation.torch_runtime")
    agrees(family, data.draw(variations(family)))
