"""Import of `config.json` files: real ones, all that is broken, and what is refused."""

import json
import string
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import NotModelledError, ShardwiseError, SpecError
from costmodels.huggingface.decoders import shortest_cycle
from costmodels.huggingface.families import DEFAULTS, FAMILIES
from costmodels.huggingface.importing import Imported, import_config
from costmodels.huggingface.keys import HARMLESS, STRUCTURAL
from costmodels.specs.layouts import Chunked, Dense, GatedDelta, Latent, Layout, Lightning, Sliding
from costmodels.specs.model import Model, QueryKeyNorm
from costmodels.specs.precision import Precision, Quantization
from costmodels.specs.tables import build, to_table

FOLDER = Path(__file__).resolve().parents[2] / "validation" / "data" / "huggingface"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
LONGEST_MESSAGE = 700


@cache
def text_of(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def table_of(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(text_of(name))
    return table


def imported(table: dict[str, Any], **options: Any) -> Imported:
    return import_config(json.dumps(table), name="model", **options)


def check_outcome(text: str) -> Imported | None:
    """Import, or see one printable sentence; anything else that is raised is a defect."""
    try:
        return import_config(text, name="model")
    except ShardwiseError as error:
        message = str(error)
        assert message.isprintable(), ascii(message)
        assert message.startswith("config.json"), message
        assert len(message) < LONGEST_MESSAGE, message
        return None


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_understood_to_its_last_key(name: str) -> None:
    found = import_config(text_of(name), name="label", where="folder/config.json", strict=True)
    assert found.model.name == "label"
    assert found.unknown_keys == ()
    wrapped = "text_config" in table_of(name)
    assert len(found.model.notes) == wrapped
    assert (found.precision is not None) == ("quantization_config" in text_of(name))
    assert str(found.model.source).startswith("folder/config.json, a config.json of model_type ")


@pytest.mark.parametrize("name", FILES)
def test_what_is_imported_can_be_written_and_read(name: str) -> None:
    found = import_config(text_of(name), name="label")
    again = tomllib.loads(tomli_w.dumps(to_table(found.model)))
    assert build(Model, again, "model") == found.model
    if found.precision is not None:
        again = tomllib.loads(tomli_w.dumps(to_table(found.precision)))
        assert build(Precision, again, "precision") == found.precision


@pytest.mark.parametrize("name", FILES)
@given(key=st.text(string.ascii_lowercase + "_", min_size=3).map(lambda text: f"zz_{text}"))
@settings(max_examples=5)
def test_an_unknown_key_is_named_once(name: str, key: str) -> None:
    before = import_config(text_of(name), name="model")
    table = table_of(name) | {key: 7}
    after = imported(table)
    assert after.unknown_keys == (key,)
    assert set(after.model.notes) - set(before.model.notes) == {
        f"key {key} of config.json is unknown and was not used"
    }
    assert len(after.model.notes) == len(before.model.notes) + 1
    with pytest.raises(SpecError, match=f"key {key} is unknown"):
        imported(table, strict=True)


def test_thousands_of_unknown_keys_make_a_bounded_number_of_notes() -> None:
    table = table_of("Llama-3.1-8B") | {f"zz{index}": index for index in range(5000)}
    found = imported(table)
    assert len(found.unknown_keys) == 5000
    assert len(found.model.notes) == 101
    assert found.model.notes[-1].startswith("4900 more keys")
    with pytest.raises(SpecError, match=r"key zz0 .* \(and 4999 more\)"):
        imported(table, strict=True)


NOT_READ = {
    "llama": ("sliding_window", "num_experts", "q_lora_rank", "use_qk_norm", "attn_type_list"),
    "mixtral": ("attention_bias", "mlp_bias", "n_shared_experts", "moe_layers", "layer_types"),
    "qwen3": ("mlp_bias", "use_qk_norm", "num_local_experts", "hc_mult", "kv_lora_rank"),
    "gpt_oss": ("mlp_bias", "moe_intermediate_size", "add_cross_attention", "index_topk"),
    "deepseek_v3": ("sliding_window", "use_qk_norm", "mlp_only_layers", "num_kv_shared_layers"),
}
A_FILE = {
    "llama": "Llama-3.1-8B",
    "mixtral": "Mixtral-8x7B-v0.1",
    "qwen3": "Qwen3-8B",
    "gpt_oss": "gpt-oss-20b",
    "deepseek_v3": "DeepSeek-V3",
}


@pytest.mark.parametrize(
    ("family", "key"), [(family, key) for family, keys in NOT_READ.items() for key in keys]
)
def test_a_key_that_changes_an_architecture_is_refused_where_it_is_not_modelled(
    family: str, key: str
) -> None:
    table = table_of(A_FILE[family])
    with pytest.raises(NotModelledError, match=rf"config\.json: {key} \(.*\): changes the arch"):
        imported(table | {key: ["sliding_attention"] if key == "layer_types" else 3})
    for neutral in (*STRUCTURAL[key], None):
        assert imported(table | {key: neutral}).model.notes == ()


def test_no_key_is_both_harmless_and_structural() -> None:
    assert not HARMLESS & STRUCTURAL.keys()


@pytest.mark.parametrize("family", ["lama", "mamba2", "x" * 10_000, "\u202e\n", "", "gemma3n"])
def test_an_unknown_family_is_refused_with_those_that_are_known(family: str) -> None:
    table = table_of("Llama-3.1-8B") | {"model_type": family}
    with pytest.raises(ShardwiseError) as caught:
        imported(table)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < LONGEST_MESSAGE
    assert all(f" {known}" in message for known in FAMILIES)
    if family == "lama":
        assert "did you mean 'llama'?" in message


# --- what is broken -------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.sampled_from(
        [
            *("null", "true", "false", "[]", "{}", '""', "0", "-1", "-0.0", "0.5", "1e999", "-7"),
            *("NaN", "Infinity", "-Infinity", "1" + "0" * 30, "1" + "0" * 5000, "1000000000"),
            *('"text"', '"\\u0000\\n\\u202e"', '"\\ud800"', "[1, 2]", '{"a": {"b": []}}'),
            *("[[[[[[]]]]]]", "[null]", "[true]", '[{"a": 1}]', "[1e999]"),
        ]
    ),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.text(max_size=20).map(json.dumps),
    st.lists(st.integers(-2, 100), max_size=80).map(json.dumps),
)


def places(table: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every value."""
    found = []
    for key, value in table.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += places(value, (*path, key))
    return found


def replaced(table: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, rest = path[0], path[1:]
    return table | {head: replaced(table[head], rest, value) if rest else value}


@given(name=st.sampled_from(FILES), data=st.data())
@settings(max_examples=400)
def test_any_value_may_be_replaced_by_any_other(name: str, data: st.DataObject) -> None:
    table = table_of(name)
    path = data.draw(st.sampled_from(places(table)))
    marked = json.dumps(replaced(table, path, "@@@@"))
    check_outcome(marked.replace('"@@@@"', data.draw(HOSTILE)))


@given(name=st.sampled_from(FILES), data=st.data())
@settings(max_examples=200)
def test_a_file_cut_anywhere_is_refused(name: str, data: st.DataObject) -> None:
    text = text_of(name).rstrip()
    assert check_outcome(text[: data.draw(st.integers(0, len(text) - 1))]) is None


@given(text=st.text(max_size=50))
def test_any_text_is_refused_in_one_sentence(text: str) -> None:
    assert check_outcome(text) is None


@given(
    key=st.text(max_size=100).filter(lambda key: key not in table_of("Llama-3.1-8B")),
    value=st.one_of(st.none(), st.integers(), st.text(max_size=9)),
)
def test_any_key_may_be_added(key: str, value: Any) -> None:
    found = check_outcome(json.dumps(table_of("Llama-3.1-8B") | {key: value}))
    assert found is None or all(note.isprintable() for note in found.model.notes)


LARGE = {
    "brackets": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "a wide list": json.dumps([0] * 1_000_000),
    "a long text": json.dumps("x" * 10_000_000),
    "half as deep as the limit": "[" * 450 + "]" * 450,
    "a digit too many": "9" * 4301,
    "as many digits as there may be": "9" * 4300,
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("key", ["num_hidden_layers", "model_type", "layer_types", "zz"])
def test_large_values_are_refused_or_named(key: str, value: str) -> None:
    marked = json.dumps(table_of("Qwen3-8B") | {key: "@@@@"})
    check_outcome(marked.replace('"@@@@"', value))


def test_a_document_too_large_is_refused() -> None:
    with pytest.raises(SpecError, match=r"has 16,777,\d+ characters; expected at most"):
        import_config(" " * (16 * 2**20 + 1), name="model")


@pytest.mark.parametrize("layers", [2**16, 2**16 + 1, 10**9, 10**30])
def test_layers_beyond_the_bound_allocate_nothing(layers: int) -> None:
    for name in ("Llama-3.1-8B", "Qwen3-30B-A3B", "DeepSeek-V3", "gpt-oss-20b"):
        table = {key: value for key, value in table_of(name).items() if key != "layer_types"}
        found = check_outcome(json.dumps(table | {"num_hidden_layers": layers}))
        assert (found is not None) == (layers <= 2**16)


def test_the_shortest_cycle_of_many_layers_takes_no_time() -> None:
    words = ["full_attention"] * 2**15 + ["sliding_attention"] * (2**15 - 1)
    table = table_of("gpt-oss-20b") | {"num_hidden_layers": len(words), "layer_types": words}
    found = check_outcome(json.dumps(table))
    assert found is not None
    assert len(found.model.layouts) == len(words)


@given(
    layers=st.lists(st.sampled_from([Dense(), Sliding(window=4)]), min_size=1, max_size=12),
    times=st.integers(1, 3),
)
def test_the_shortest_cycle_repeats_to_all_layers(layers: list[Layout], times: int) -> None:
    whole = layers * times
    cycle = shortest_cycle(whole)

    def repeats(length: int) -> bool:
        return all(layer == whole[index % length] for index, layer in enumerate(whole))

    assert cycle == tuple(whole[: len(cycle)])
    assert repeats(len(cycle))
    assert not any(repeats(length) for length in range(1, len(cycle)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a valid JSON file"),
        ("[]", "expected an object"),
        ('"text"', "expected an object"),
        ("{}", "model_type is missing"),
        ('{"model_type": 7}', r"model_type \(7\): expected a text"),
        ('{"model_type": "llama", "model_type": "llama"}', "'model_type' is given twice"),
        ('{"model_type": "llama", "hidden_size": NaN}', "holds NaN, which is no JSON number"),
        ('{"model_type": "llama"}', "hidden_size is missing"),
        ('{"model_type": "gemma3", "text_config": {}}', "text_config: .* is missing"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        import_config(text, name="model")


def test_a_key_given_twice_among_many_is_found_at_once() -> None:
    keys = ",".join(f'"k{index}":0' for index in range(200_000))
    with pytest.raises(SpecError, match="'k199999' is given twice"):
        import_config("{" + keys + ',"k199999":0}', name="model")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 0}, r"num_hidden_layers \(0\): expected a whole number from 1"),
        ({"num_hidden_layers": 32.0}, r"num_hidden_layers \(32\.0\): expected a whole number"),
        ({"num_hidden_layers": True}, r"num_hidden_layers \(True\): expected a whole number"),
        ({"num_attention_heads": 30}, r"num_attention_heads \(30\): must divide hidden_size"),
        ({"num_key_value_heads": 5}, r"num_attention_heads \(32\): must be a multiple"),
        ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings \('yes'\): expected true or false"),
        ({"attention_dropout": -1}, r"attention_dropout \(-1\): expected a number of at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=f"config.json: {said}"):
        imported(table_of("Llama-3.1-8B") | changes)


# --- families -------------------------------------------------------------------------------------

TINY = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}
MORE = {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 16}


def family(model_type: str, **keys: Any) -> Model:
    return imported({"model_type": model_type, **TINY, **MORE, **keys}).model


def test_attention_follows_the_words_of_a_file_or_the_rule_of_a_family() -> None:
    window = Sliding(window=16)
    slides = {"sliding_window": 16}
    assert family("mistral", **slides).layouts == (window,)
    assert family("mistral", sliding_window=None).layouts == (Dense(),)
    assert family("gemma2", **slides).layouts == (window, Dense())
    assert family("olmo3", **slides).layouts == (window, window, window, Dense())
    assert family("qwen2", use_sliding_window=False, **slides).layouts == (Dense(),)
    in_use = {"use_sliding_window": True, "max_window_layers": 3, **slides}
    assert family("qwen2", **in_use).layouts == (Dense(), Dense(), Dense(), window)
    words = ["full_attention", "sliding_attention"] * 2
    assert family("gemma2", layer_types=words, **slides).layouts == (Dense(), window)


def test_layers_that_slide_need_a_window() -> None:
    with pytest.raises(SpecError, match=r"sliding_window \(None\): layers of sliding_attention"):
        family("gemma2", sliding_window=None)
    words = ["sliding_attention"] * 4
    with pytest.raises(SpecError, match=r"use_sliding_window \(False\): layers of sliding"):
        family("qwen3", layer_types=words, use_sliding_window=False)


def test_a_list_that_says_full_attention_everywhere_changes_nothing() -> None:
    words = ["full_attention"] * 4
    assert family("llama", layer_types=words) == family("llama")
    with pytest.raises(NotModelledError, match="layer_types"):
        family("mistral", sliding_window=16, layer_types=words)


def test_a_size_that_is_left_out_is_noted() -> None:
    table = {"model_type": "mistral", **TINY, **MORE}
    del table["num_key_value_heads"]
    table |= {"num_attention_heads": 8, "sliding_window": None, "max_position_embeddings": 8}
    found = imported(table).model
    assert found.num_key_value_heads == DEFAULTS["mistral"]["num_key_value_heads"] == 8
    assert found.notes == (
        "key num_key_value_heads of config.json is absent: 8, the default of its family, is used",
    )
    assert imported(table | {"model_type": "llama"}).model.notes == ()


@pytest.mark.parametrize(
    ("key", "value"), [("head_dim", 12), ("num_key_value_heads", 2)], ids=("width", "shared")
)
@pytest.mark.parametrize("model_type", ["gpt_neox", "opt", "bloom", "falcon"])
def test_families_of_equal_heads_refuse_others(model_type: str, key: str, value: int) -> None:
    table = {"model_type": model_type, **TINY, "intermediate_size": 96, "ffn_dim": 96}
    with pytest.raises(SpecError, match=rf"{key} \({value}\)"):
        imported(table | {key: value})


def test_two_names_of_one_size_must_agree() -> None:
    table = table_of("gpt-oss-20b") | {"num_experts": 64}
    with pytest.raises(SpecError, match=r"num_experts \(64\): contradicts num_local_experts"):
        imported(table)


def test_a_mixture_without_layers_of_experts_is_dense() -> None:
    model = imported(table_of("DeepSeek-V3") | {"num_hidden_layers": 3}).model
    assert model.mixture is None
    assert model.intermediate_size == 18432


DEEPSEEK = {
    "kv_lora_rank": 12,
    "q_lora_rank": None,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "moe_intermediate_size": 24,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "aux_loss_alpha": 0.001,
    "seq_aux": True,
    "ep_size": 1,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rope_scaling": {"type": "yarn", "factor": 40},
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}

AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "deepseek_v2": DEEPSEEK,
    "kimi_k2": DEEPSEEK | {"q_lora_rank": 20, "num_nextn_predict_layers": 0},
    "gemma3": {
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "image_token_index": 262_144,
        "mm_tokens_per_image": 256,
        "eos_token_id": [1, 106],
        "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    },
    "glm4_moe": {
        **{key: DEEPSEEK[key] for key in DEEPSEEK if "rank" not in key and "_dim" not in key},
        "attention_bias": True,
        "head_dim": 16,
        "partial_rotary_factor": 0.5,
        "use_qk_norm": False,
        "num_nextn_predict_layers": 1,
    },
    "minimax_m1": {
        **MORE,
        **EXPERTS,
        "attn_type_list": [0, 0, 0, 1],
        "layernorm_full_attention_alpha": 3.5565588200778455,
        "layernorm_full_attention_beta": 1.0,
        "layernorm_linear_attention_alpha": 3.5565588200778455,
        "layernorm_linear_attention_beta": 1.0,
        "layernorm_mlp_alpha": 3.5565588200778455,
        "layernorm_mlp_beta": 1.0,
        "output_router_logits": False,
        "postnorm": True,
        "rotary_dim": 64,
        "router_jitter_noise": 0.0,
        "shared_intermediate_size": 0,
        "shared_moe_mode": "sigmoid",
        "sliding_window": None,
    },
    "minimax_m2": {
        **MORE,
        **EXPERTS,
        "attn_type_list": [1] * 4,
        "max_position_embeddings": 128,
        "mtp_transformer_layers": 1,
        "num_mtp_modules": 3,
        "qk_norm_type": "per_layer",
        "rotary_dim": 64,
        "scoring_func": "sigmoid",
        "shared_intermediate_size": 0,
        "use_mtp": True,
        "use_qk_norm": True,
        "use_routing_bias": True,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "float8_e4m3fn",
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
        },
    },
    "llama4_text": {
        **MORE,
        **EXPERTS,
        "attention_bias": False,
        "attention_chunk_size": 32,
        "attn_scale": 0.1,
        "attn_temperature_tuning": 4,
        "cache_implementation": "hybrid",
        "floor_scale": 8192,
        "for_llm_compressor": False,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 128,
        "max_position_embeddings": 1024,
        "moe_layers": [1, 3],
        "no_rope_layers": [1, 1, 1, 0],
        "use_qk_norm": True,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
    },
    "falcon": {
        "alibi": False,
        "apply_residual_connection_post_layernorm": False,
        "bias": False,
        "hidden_dropout": 0.0,
        "layer_norm_epsilon": 1e-05,
        "multi_query": True,
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "parallel_attn": True,
    },
    "bloom": {
        "apply_residual_connection_post_layernorm": False,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "masked_softmax_fusion": True,
        "n_inner": None,
        "n_layer": 4,
        "n_embed": 64,
        "offset_alibi": 100,
        "pretraining_tp": 4,
        "seq_length": 2048,
        "skip_bias_add": True,
        "skip_bias_add_qkv": False,
        "slow_but_exact": False,
        "unk_token_id": 0,
    },
    "opt": {
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "attention_dropout": 0.0,
        "do_layer_norm_before": True,
        "dropout": 0.1,
        "ffn_dim": 96,
        "init_std": 0.02,
        "layerdrop": 0.0,
        "max_position_embeddings": 128,
        "prefix": "</s>",
        "word_embed_proj_dim": 64,
    },
    "gpt_neox": {
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "attention_probs_dropout_prob": 0,
        "hidden_dropout_prob": 0,
        "layer_norm_eps": 1e-05,
    },
    "gpt2": {
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 4,
        "n_ctx": 96,
        "n_positions": 96,
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "layer_norm_epsilon": 1e-05,
        "activation_function": "gelu_new",
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "gptj": {
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 4,
        "n_inner": None,
        "n_positions": 96,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "layer_norm_epsilon": 1e-05,
        "activation_function": "gelu_new",
        "gradient_checkpointing": False,
        "rotary": True,
        "rotary_dim": 8,
        "scale_attn_weights": True,
        "tie_word_embeddings": False,
        "tokenizer_class": "GPT2Tokenizer",
    },
    "phi": {
        "embd_pdrop": 0.0,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "num_key_value_heads": None,
        "partial_rotary_factor": 0.4,
        "qk_layernorm": False,
        "resid_pdrop": 0.1,
    },
    "phi3": {
        "attention_bias": False,
        "embd_pdrop": 0.0,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "num_key_value_heads": 4,
        "original_max_position_embeddings": 128,
        "resid_pdrop": 0.0,
        "rope_scaling": None,
        "sliding_window": 2047,
    },
    "cohere": {
        "intermediate_size": 96,
        "layer_norm_eps": 1e-05,
        "logit_scale": 0.0625,
        "max_position_embeddings": 128,
        "num_key_value_heads": 4,
        "use_qk_norm": False,
    },
    "gemma2": {
        **MORE,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 128,
        "query_pre_attn_scalar": 144,
        "sliding_window": 16,
        "sliding_window_size": 16,
    },
    "qwen2_moe": {
        **MORE,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "max_position_embeddings": 128,
        "max_window_layers": 21,
        "moe_intermediate_size": 24,
        "output_router_logits": False,
        "qkv_bias": True,
        "shared_expert_intermediate_size": 40,
        "sliding_window": 32_768,
        "use_sliding_window": False,
        "norm_topk_prob": False,
    },
    "qwen3_next": {
        **MORE,
        **LINEAR,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "full_attention_interval": 4,
        "max_position_embeddings": 128,
        "mlp_only_layers": [],
        "moe_intermediate_size": 24,
        "partial_rotary_factor": 0.25,
        "shared_expert_intermediate_size": 40,
    },
}
"""Keys that published files of families have, with small sizes."""


@pytest.mark.parametrize("model_type", AS_PUBLISHED)
def test_files_of_other_families_say_nothing_that_is_unknown(model_type: str) -> None:
    keys = AS_PUBLISHED[model_type]
    sizes = {} if "text_config" in keys else TINY
    if "n_embd" in keys:
        sizes = {"vocab_size": 100}
    usual = {"hidden_act": "silu", "initializer_range": 0.02, "torch_dtype": "bfloat16"}
    found = imported({"model_type": model_type, **sizes, **usual, **keys})
    assert found.unknown_keys == ()
    if model_type != "gemma3":
        assert found.model.notes == ()
    else:
        assert len(found.model.notes) == 6
        assert found.model.vocabulary_size == 262_208


def test_layers_of_other_families_are_as_their_keys_say() -> None:
    def model(model_type: str) -> Model:
        return imported({"model_type": model_type, **TINY, **AS_PUBLISHED[model_type]}).model

    assert model("minimax_m1").layouts == (*[Lightning(block_length=256)] * 3, Dense())
    assert model("llama4_text").layouts == (*[Chunked(chunk_length=32)] * 3, Dense())
    assert model("llama4_text").query_key_norm is QueryKeyNorm.UNSCALED
    mixture = model("llama4_text").mixture
    assert mixture is not None
    assert mixture.dense_layers == (0, 2)
    assert isinstance(model("deepseek_v2").layouts[0], Latent)
    assert isinstance(model("qwen3_next").layouts[0], GatedDelta)
    assert model("minimax_m2").multi_token_prediction_layers == 3
    assert model("falcon").num_key_value_heads == 2


# --- quantization ---------------------------------------------------------------------------------


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None = None, **keys: Any) -> Any:
    group = {"weights": weights, "input_activations": inputs, "targets": ["Linear"]}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, **keys}


FP8_INPUTS = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
SECTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fp8 blocks": (
        {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"},
        {
            "weight_format": "fp8-e4m3",
            "group_rows": 128,
            "group_columns": 128,
            "scale_format": "fp32",
            "activation_format": "fp8-e4m3",
        },
    ),
    "fp8 rows": (
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
        {"weight_format": "fp8-e4m3", "group_rows": 1, "group_columns": 0},
    ),
    "mxfp4": (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head", "model.embed_tokens"]},
        {
            "weight_format": "mxfp4",
            "group_columns": 32,
            "scale_format": "e8m0",
            "activation_format": None,
            "excluded": ("lm_head", "model.embed_tokens"),
        },
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True, "sym": True},
        {"weight_format": "int4", "group_rows": 1, "group_columns": 0, "zero_points": True},
    ),
    "gptq groups": (
        {"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": False, "damp_percent": 0.1},
        {"weight_format": "int8", "group_rows": 1, "group_columns": 32, "scale_format": "fp16"},
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        {"weight_format": "int4", "group_columns": 128, "zero_points": True},
    ),
    "nf4": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"weight_format": "nf4", "group_columns": 64, "scale_format": "fp32"},
    ),
    "int8": (
        {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head"]},
        {
            "method": "bitsandbytes",
            "weight_format": "int8",
            "group_columns": 0,
            "activation_format": "int8",
            "excluded": ("lm_head",),
        },
    ),
    "compressed int4": (
        compressed({"num_bits": 4, "group_size": 32, "symmetric": True}, ignore=["lm_head"]),
        {
            "weight_format": "int4",
            "group_rows": 1,
            "group_columns": 32,
            "zero_points": False,
            "excluded": ("lm_head",),
        },
    ),
    "compressed fp8": (
        compressed({"num_bits": 8, "type": "float", "strategy": "channel"}, FP8_INPUTS),
        {
            "weight_format": "fp8-e4m3",
            "group_rows": 1,
            "group_columns": 0,
            "activation_format": "fp8-e4m3",
        },
    ),
    "compressed int4 with fp8 inputs": (
        compressed({"num_bits": 4, "strategy": "group", "group_size": 128}, FP8_INPUTS),
        {"weight_format": "int4", "activation_format": "fp8-e4m3"},
    ),
    "compressed nvfp4": (
        compressed(
            {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
            {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
            format="nvfp4-pack-quantized",
        ),
        {
            "weight_format": "nvfp4",
            "group_columns": 16,
            "scale_format": "fp8-e4m3",
            "activation_format": "nvfp4",
        },
    ),
    "modelopt": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", "*router*"]},
        {
            "weight_format": "nvfp4",
            "group_columns": 16,
            "activation_format": "nvfp4",
            "excluded": ("lm_head", "*router*"),
        },
    ),
}


def quantized(section: Any, **options: Any) -> Imported:
    return imported(table_of("Llama-3.1-8B") | {"quantization_config": section}, **options)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_says_how_weights_are_stored(name: str) -> None:
    section, expected = SECTIONS[name]
    found = quantized(section, strict=True).precision
    assert found is not None
    assert isinstance(found.quantization, Quantization)
    assert {key: getattr(found.quantization, key) for key in expected} == expected
    assert found.weights == "bf16"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"quant_method": "quip"}, r"quant_method \('quip'\) is not known; known: fp8,"),
        ({"bits": 4}, "quant_method is missing"),
        ("gptq", r" \('gptq'\): expected an object"),
        ({"quant_method": "gptq", "bits": 5}, r"bits \(5\): expected 2, 3, 4 or 8"),
        ({"quant_method": "fp8", "fmt": "e3m4"}, r"fmt \('e3m4'\): expected e4m3 or e5m2"),
        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, "expected two whole numbers"),
        ({"quant_method": "bitsandbytes"}, "to be true"),
        (compressed({"num_bits": 4, "strategy": "group"}), r"group_size \(None\): must be above"),
        (compressed({"num_bits": 8, "strategy": "block"}), r"block_structure \(None\)"),
        (compressed({"num_bits": 8, "strategy": "ring"}), r"strategy \('ring'\): expected one"),
        ({"quant_method": "modelopt", "quant_algo": "W9"}, r"quant_algo \('W9'\): expected"),
        ({"quant_method": "mxfp4", "ignored_layers": ["\n"]}, "printable names"),
        ({"quant_method": "mxfp4", "ignored_layers": "lm_head"}, "printable names"),
    ],
)
def test_a_section_that_is_not_understood_is_refused_by_name(section: Any, said: str) -> None:
    with pytest.raises(SpecError, match=f"config.json: quantization_config.*{said}"):
        quantized(section)


def test_an_unknown_key_of_a_section_is_named() -> None:
    section = {"quant_method": "mxfp4", "zz": 1}
    found = quantized(section)
    assert found.unknown_keys == ("quantization_config.zz",)
    assert len(found.model.notes) == 1
    with pytest.raises(SpecError, match="zz is unknown"):
        quantized(section, strict=True)


@given(name=st.sampled_from(sorted(SECTIONS)), data=st.data())
@settings(max_examples=200)
def test_any_value_of_a_section_may_be_replaced(name: str, data: st.DataObject) -> None:
    section = SECTIONS[name][0]
    path = data.draw(st.sampled_from(places(section)))
    table = table_of("Llama-3.1-8B")
    table["quantization_config"] = replaced(section, path, "@@@@")
    check_outcome(json.dumps(table).replace('"@@@@"', data.draw(HOSTILE)))
