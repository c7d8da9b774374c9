"""What a `config.json` of each family of models says, key by key.

A family is a function from the keys to the fields of a `Model`. Defaults are those of the family's
configuration in transformers; sizes without which there is no model must be stated.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from costmodels.huggingface.reader import Reader
from costmodels.specs.layouts import (
    Chunked,
    Dense,
    GatedDelta,
    Latent,
    Layout,
    Lightning,
    Sliding,
)
from costmodels.specs.model import Mixture, Norm, Positions, QueryKeyNorm

Fields = dict[str, Any]

FULL, SLIDING, CHUNKED, LINEAR = (
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
)
_LAYERS = 2**16
_DROPOUTS = (
    *("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout"),
    *("residual_dropout", "embedding_dropout", "resid_dropout", "embed_dropout"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
)


def _decoder(
    keys: Reader,
    *,
    gated: bool = True,
    norm: Norm = Norm.RMSNORM,
    tied: bool = False,
    bias: bool = False,
    output_bias: bool | None = None,
    ffn_bias: bool = False,
    layers: str = "num_hidden_layers",
    hidden: str = "hidden_size",
    heads: str = "num_attention_heads",
    positions: str = "max_position_embeddings",
) -> Fields:
    """Return the fields that all families have, read from the usual keys."""
    hidden_size = keys.integer(hidden, most=2**20)
    head_count = keys.integer(heads, most=2**16)
    return {
        "num_hidden_layers": keys.integer(layers, most=_LAYERS),
        "hidden_size": hidden_size,
        "num_attention_heads": head_count,
        "num_key_value_heads": keys.integer("num_key_value_heads", default=head_count, most=2**16),
        "head_size": _head_size(keys, hidden_size, head_count),
        "intermediate_size": keys.integer("intermediate_size", default=4 * hidden_size, most=2**22),
        "gated": gated,
        "vocabulary_size": keys.integer("vocab_size", most=2**26),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=tied),
        "norm": norm,
        "attention_bias": bias,
        "attention_output_bias": bias if output_bias is None else output_bias,
        "ffn_bias": ffn_bias,
        "positions": Positions.ROTARY,
        "max_position_embeddings": keys.integer(positions, default=2048, most=2**40),
        "dropout": max(map(keys.number, _DROPOUTS)) > 0,
    }


def _head_size(keys: Reader, hidden_size: int, head_count: int) -> int:
    if keys.has("head_dim"):
        return int(keys.integer("head_dim", most=2**16))
    keys.skip("head_dim")
    if hidden_size % head_count:
        raise keys.error(
            "num_attention_heads",
            f"must divide hidden_size ({hidden_size}), since head_dim is not given",
        )
    return hidden_size // head_count


def shortest_cycle(layers: list[Layout]) -> tuple[Layout, ...]:
    """Return the shortest list that gives all layers when it repeats.

    Examples
    --------
    >>> a, b = Dense(), Sliding(window=4)
    >>> shortest_cycle([a, b, a, b, a]) == (a, b)
    True
    """
    for length in range(1, len(layers) + 1):
        if all(layer == layers[index % length] for index, layer in enumerate(layers)):
            return tuple(layers[:length])
    return tuple(layers)


def _mixed(
    keys: Reader, fields: Fields, kinds: Mapping[str, Layout], default: Callable[[int], str]
) -> tuple[Layout, ...]:
    """Return the layouts by `layer_types`, or by the family's rule where that is absent."""
    count = fields["num_hidden_layers"]
    words = keys.by_layer("layer_types", count, tuple(kinds))
    if words is None:
        words = [default(index) for index in range(count)]
    return shortest_cycle([kinds[word] for word in words])


def _window(keys: Reader) -> Layout:
    """Return sliding attention, dense where no window is given."""
    window = keys.integer("sliding_window", default=0, least=0)
    return Sliding(window=window) if window else Dense()


# --- dense families -------------------------------------------------------------------------------


def llama(keys: Reader) -> Fields:
    """Read Llama and what is built like it."""
    bias = keys.flag("attention_bias", default=False)
    return _decoder(keys, bias=bias, ffn_bias=keys.flag("mlp_bias", default=False))


def smollm3(keys: Reader) -> Fields:
    """Read SmolLM3: Llama with layers whose attention may slide."""
    fields = llama(keys) | {"tied_embeddings": keys.flag("tie_word_embeddings", default=True)}
    slides = keys.flag("use_sliding_window", default=False)
    kinds = {FULL: Dense(), SLIDING: _window(keys) if slides else Dense()}
    keys.skip("sliding_window")
    return fields | {"layouts": _mixed(keys, fields, kinds, lambda _: FULL)}


def mistral(keys: Reader) -> Fields:
    """Read Mistral and Phi-3: all layers slide where a window is given."""
    return _decoder(keys) | {"layouts": (_window(keys),)}


def ministral(keys: Reader) -> Fields:
    """Read Ministral: layers that slide, and others."""
    fields = _decoder(keys)
    window = _window(keys)
    kinds = {FULL: Dense(), SLIDING: window}
    default = FULL if isinstance(window, Dense) else SLIDING
    return fields | {"layouts": _mixed(keys, fields, kinds, lambda _: default)}


def seed_oss(keys: Reader) -> Fields:
    """Read Seed-OSS: Llama with biases of its own."""
    bias = keys.flag("attention_bias", default=True)
    out = keys.flag("attention_out_bias", default=False)
    return _decoder(keys, bias=bias, output_bias=out, ffn_bias=keys.flag("mlp_bias", default=False))


def ernie(keys: Reader) -> Fields:
    """Read Ernie 4.5: Llama whose projections all have biases, or none."""
    bias = keys.flag("use_bias", default=False)
    return _decoder(keys, bias=bias, ffn_bias=bias, tied=True)


def starcoder2(keys: Reader) -> Fields:
    """Read StarCoder2: LayerNorm and biases, sliding where a window is given."""
    bias = keys.flag("use_bias", default=True)
    fields = _decoder(keys, gated=False, norm=Norm.LAYERNORM, bias=bias, ffn_bias=bias, tied=True)
    return fields | {"layouts": (_window(keys),)}


def stablelm(keys: Reader) -> Fields:
    """Read StableLM: LayerNorm, gated."""
    keys.require("qk_layernorm", only=(False,), reason="a norm for each head is not modelled")
    bias = keys.flag("use_qkv_bias", default=False)
    fields = _decoder(keys, norm=Norm.LAYERNORM, bias=bias, output_bias=False)
    parallel = keys.flag("use_parallel_residual", default=False)
    return fields | {"parallel_residual": parallel, "norms_per_layer": 1 if parallel else 2}


def qwen2(keys: Reader) -> Fields:
    """Read Qwen2: biases of queries, keys and values; the last layers may slide."""
    return _qwen_sliding(keys, _decoder(keys, bias=True, output_bias=False))


def qwen3(keys: Reader) -> Fields:
    """Read Qwen3: norms of queries and keys; the last layers may slide."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    return _qwen_sliding(keys, fields) | {"query_key_norm": QueryKeyNorm.HEAD}


def _qwen_sliding(keys: Reader, fields: Fields) -> Fields:
    slides = keys.flag("use_sliding_window", default=False)
    window = _window(keys) if slides else Dense()
    keys.skip("sliding_window")
    first = keys.integer("max_window_layers", default=28, least=0, most=2**40)
    kinds = {FULL: Dense(), SLIDING: window}
    layouts = _mixed(keys, fields, kinds, lambda index: SLIDING if index >= first else FULL)
    return fields | {"layouts": layouts}


def gemma(keys: Reader) -> Fields:
    """Read Gemma."""
    return _decoder(keys, bias=keys.flag("attention_bias", default=False), tied=True)


def gemma2(keys: Reader) -> Fields:
    """Read Gemma 2: norms before and after each half, every other layer slides."""
    fields = gemma(keys) | {"norms_per_layer": 4}
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: FULL if index % 2 else SLIDING)
    return fields | {"layouts": layouts}


def gemma3(keys: Reader) -> Fields:
    """Read Gemma 3: published files leave out what equals the defaults of the family."""
    fields = {
        "num_hidden_layers": keys.integer("num_hidden_layers", most=_LAYERS),
        "hidden_size": keys.integer("hidden_size", most=2**20),
        "intermediate_size": keys.integer("intermediate_size", most=2**22),
        "num_attention_heads": keys.family_default("num_attention_heads", 8, 2**16),
        "num_key_value_heads": keys.family_default("num_key_value_heads", 4, 2**16),
        "head_size": keys.family_default("head_dim", 256, 2**16),
        "vocabulary_size": keys.family_default("vocab_size", 262_208, 2**26),
        "max_position_embeddings": keys.family_default("max_position_embeddings", 131_072),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=True),
        "dropout": keys.number("attention_dropout") > 0,
        "gated": True,
        "norm": Norm.RMSNORM,
        "ffn_bias": False,
        "positions": Positions.ROTARY,
        "norms_per_layer": 4,
        "query_key_norm": QueryKeyNorm.HEAD,
    }
    bias = keys.flag("attention_bias", default=False)
    cycle = keys.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: SLIDING if (index + 1) % cycle else FULL)
    return fields | {"attention_bias": bias, "attention_output_bias": bias, "layouts": layouts}


def olmo(keys: Reader) -> Fields:
    """Read OLMo 2: norms behind each half, and of all queries and all keys."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    return fields | {"query_key_norm": QueryKeyNorm.FULL}


def olmo3(keys: Reader) -> Fields:
    """Read OLMo 3: OLMo 2 in which three layers of four slide."""
    fields = olmo(keys)
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: SLIDING if (index + 1) % 4 else FULL)
    return fields | {"layouts": layouts}


def glm(keys: Reader) -> Fields:
    """Read GLM: biases of queries, keys and values."""
    bias = keys.flag("attention_bias", default=True)
    return _decoder(keys, bias=bias, output_bias=False)


def glm4(keys: Reader) -> Fields:
    """Read GLM-4-0414: GLM with norms before and after each half."""
    return glm(keys) | {"norms_per_layer": 4}


def cohere(keys: Reader) -> Fields:
    """Read Command R: attention and feed-forward network side by side behind one norm."""
    fields = _decoder(
        keys,
        norm=Norm.LAYERNORM_NO_BIAS,
        bias=keys.flag("attention_bias", default=False),
        tied=True,
    )
    normed = keys.flag("use_qk_norm", default=False)
    return fields | {
        "parallel_residual": True,
        "norms_per_layer": 1,
        "query_key_norm": QueryKeyNorm.FULL if normed else QueryKeyNorm.NONE,
    }


def cohere2(keys: Reader) -> Fields:
    """Read Command R7B and A: Command R in which three layers of four slide."""
    fields = cohere(keys)
    cycle = keys.integer("sliding_window_pattern", "_sliding_window_pattern", default=4)
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: SLIDING if (index + 1) % cycle else FULL)
    return fields | {"layouts": layouts}


def phi(keys: Reader) -> Fields:
    """Read Phi-1 to Phi-2: biases everywhere, attention and feed-forward network side by side."""
    fields = _decoder(keys, gated=False, norm=Norm.LAYERNORM, bias=True, ffn_bias=True)
    normed = keys.flag("qk_layernorm", default=False)
    return fields | {
        "parallel_residual": True,
        "norms_per_layer": 1,
        "head_bias": True,
        "query_key_norm": QueryKeyNorm.HEAD if normed else QueryKeyNorm.NONE,
    }


_GPT2_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def gpt2(keys: Reader) -> Fields:
    """Read GPT-2: learned positions."""
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        tied=True,
        bias=True,
        ffn_bias=True,
        layers="n_layer",
        hidden="n_embd",
        heads="n_head",
        positions="n_positions",
    )
    keys.skip("n_ctx")
    inner = keys.integer("n_inner", default=4 * fields["hidden_size"], most=2**22)
    return fields | {
        "intermediate_size": inner,
        "positions": Positions.LEARNED,
        # Its rates of dropout are not zero where the file is silent.
        "dropout": max(keys.number(key, default=0.1) for key in _GPT2_DROPOUTS) > 0,
    }


def gptj(keys: Reader) -> Fields:
    """Read GPT-J: one norm, no biases of attention, a bias of the head."""
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        ffn_bias=True,
        layers="n_layer",
        hidden="n_embd",
        heads="n_head",
        positions="n_positions",
    )
    inner = keys.integer("n_inner", default=4 * fields["hidden_size"], most=2**22)
    return fields | {
        "intermediate_size": inner,
        "parallel_residual": True,
        "norms_per_layer": 1,
        "head_bias": True,
    }


def gpt_neox(keys: Reader) -> Fields:
    """Read GPT-NeoX and Pythia."""
    bias = keys.flag("attention_bias", default=True)
    fields = _decoder(keys, gated=False, norm=Norm.LAYERNORM, bias=bias, ffn_bias=True)
    return fields | {"parallel_residual": keys.flag("use_parallel_residual", default=True)}


def opt(keys: Reader) -> Fields:
    """Read OPT: learned positions, of which two are reserved."""
    keys.require(
        "do_layer_norm_before",
        only=(True,),
        reason="norms behind each half (OPT-350m) are not modelled",
    )
    keys.require(
        "layer_norm_elementwise_affine",
        only=(True,),
        reason="norms without weights are not modelled",
    )
    keys.require("_remove_final_layer_norm", only=(False,), reason="is not modelled")
    bias = keys.flag("enable_bias", default=True)
    fields = _decoder(keys, gated=False, norm=Norm.LAYERNORM, tied=True, bias=bias, ffn_bias=bias)
    hidden = fields["hidden_size"]
    projected = keys.integer("word_embed_proj_dim", default=hidden)
    if projected != hidden:
        raise keys.error(
            "word_embed_proj_dim",
            f"an embedding narrower than hidden_size ({hidden}) is not modelled",
        )
    return fields | {
        "intermediate_size": keys.integer("ffn_dim", most=2**22),
        "positions": Positions.LEARNED,
        "reserved_positions": 2,
        "dropout": keys.number("dropout", default=0.1) > 0 or fields["dropout"],
    }


def bloom(keys: Reader) -> Fields:
    """Read BLOOM: a bias of the scores by distance, a norm behind the embedding."""
    hidden = "hidden_size" if keys.has("hidden_size") else "n_embed"
    heads = "n_head" if keys.has("n_head") else "num_attention_heads"
    layers = "n_layer" if keys.has("n_layer") else "num_hidden_layers"
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        tied=True,
        bias=True,
        ffn_bias=True,
        layers=layers,
        hidden=hidden,
        heads=heads,
        positions="seq_length",
    )
    keys.skip(
        *("hidden_size", "n_embed", "n_head", "num_attention_heads", "n_layer"),
        *("num_hidden_layers", "offset_alibi", "attention_softmax_in_fp32", "skip_bias_add"),
        *("skip_bias_add_qkv", "masked_softmax_fusion", "bias_dropout_fusion", "n_inner"),
        "unk_token_id",
    )
    return fields | {
        "intermediate_size": 4 * fields["hidden_size"],
        "positions": Positions.ALIBI,
        "embedding_norm": True,
    }


def falcon(keys: Reader) -> Fields:
    """Read Falcon: one key and value head, or groups of them in its new architecture."""
    old = keys.has("n_head")
    bias = keys.flag("bias", default=False)
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        tied=True,
        bias=bias,
        ffn_bias=bias,
        heads="n_head" if old else "num_attention_heads",
        layers="n_layer" if keys.has("n_layer") else "num_hidden_layers",
    )
    keys.skip("apply_residual_connection_post_layernorm")
    heads = fields["num_attention_heads"]
    groups = keys.integer("num_kv_heads", "n_head_kv", default=heads, most=2**16)
    new = keys.flag("new_decoder_architecture", default=False)
    alone = keys.flag("multi_query", default=True) and not new
    parallel = keys.flag("parallel_attn", default=True)
    norms = keys.integer("num_ln_in_parallel_attn", default=2 if new else 1, most=2)
    inner = keys.integer("ffn_hidden_size", default=4 * fields["hidden_size"], most=2**22)
    alibi = keys.flag("alibi", default=False)
    return fields | {
        "num_key_value_heads": 1 if alone else groups if new else heads,
        "intermediate_size": inner,
        "positions": Positions.ALIBI if alibi else Positions.ROTARY,
        "parallel_residual": parallel or new,
        "norms_per_layer": norms if parallel else 2,
    }


# --- mixtures of experts --------------------------------------------------------------------------


def _experts(keys: Reader, *names: str) -> dict[str, Any]:
    count = keys.integer(*names, least=2, most=2**16)
    chosen = keys.integer("num_experts_per_tok", "num_experts_per_token", most=2**16)
    if chosen > count:
        raise keys.error("num_experts_per_tok", f"must be at most the {count} experts")
    return {"expert_count": count, "experts_per_token": chosen}


def mixtral(keys: Reader) -> Fields:
    """Read Mixtral: experts in every layer."""
    fields = _decoder(keys) | {"layouts": (_window(keys),)}
    return fields | {"mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts"))}


def _sparse_layers(keys: Reader, layers: int) -> tuple[int, ...]:
    """Return the layers without experts by Qwen's keys."""
    step = keys.integer("decoder_sparse_step", default=1, most=2**40)
    without = keys.integers("mlp_only_layers") or []
    return tuple(
        index for index in range(layers) if index in set(without) or (index + 1) % step != 0
    )


def qwen2_moe(keys: Reader) -> Fields:
    """Read Qwen2-MoE: a gated shared expert beside the chosen ones."""
    fields = _decoder(keys, bias=keys.flag("qkv_bias", default=True), output_bias=False)
    fields = _qwen_sliding(keys, fields)
    return fields | {"mixture": _qwen_mixture(keys, fields, shared=True)}


def qwen3_moe(keys: Reader) -> Fields:
    """Read Qwen3-MoE."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    slides = keys.flag("use_sliding_window", default=False)
    window = _window(keys) if slides else Dense()
    keys.skip("sliding_window", "max_window_layers")
    fields |= {"query_key_norm": QueryKeyNorm.HEAD, "layouts": (window,)}
    return fields | {"mixture": _qwen_mixture(keys, fields, shared=False)}


def _qwen_mixture(keys: Reader, fields: Fields, *, shared: bool) -> Mixture:
    width = keys.integer("shared_expert_intermediate_size", most=2**22) if shared else 0
    return Mixture(
        **_experts(keys, "num_experts", "num_local_experts"),
        expert_intermediate_size=keys.integer("moe_intermediate_size", most=2**22),
        shared_intermediate_size=width,
        shared_gate=shared,
        dense_layers=_sparse_layers(keys, fields["num_hidden_layers"]),
    )


def _gated_delta(keys: Reader) -> GatedDelta:
    return GatedDelta(
        key_heads=keys.integer("linear_num_key_heads", most=2**16),
        value_heads=keys.integer("linear_num_value_heads", most=2**16),
        key_head_size=keys.integer("linear_key_head_dim", most=2**16),
        value_head_size=keys.integer("linear_value_head_dim", most=2**16),
        convolution_width=keys.integer("linear_conv_kernel_dim", most=2**16),
    )


def qwen3_5(keys: Reader) -> Fields:
    """Read Qwen3.5: three layers of a gated delta rule, one of gated attention."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    keys.require(
        "attn_output_gate", only=(True,), reason="attention without its gate is not known here"
    )
    every = keys.integer("full_attention_interval", default=4)
    kinds: dict[str, Layout] = {FULL: Dense(), LINEAR: _gated_delta(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: LINEAR if (index + 1) % every else FULL)
    keys.require("mtp_use_dedicated_embeddings", only=(False,), reason="is not modelled")
    predicted = keys.integer("mtp_num_hidden_layers", default=0, least=0, most=2**10)
    return fields | {
        "layouts": layouts,
        "query_key_norm": QueryKeyNorm.HEAD,
        "attention_output_gate": True,
        "multi_token_prediction_layers": predicted,
    }


def qwen3_5_moe(keys: Reader) -> Fields:
    """Read Qwen3.5-MoE: Qwen3.5 with experts in every layer."""
    width = keys.integer("moe_intermediate_size", most=2**22)
    fields = qwen3_5(keys) | {"intermediate_size": width}
    mixture = Mixture(
        **_experts(keys, "num_experts", "num_local_experts"),
        expert_intermediate_size=width,
        shared_intermediate_size=keys.integer("shared_expert_intermediate_size", most=2**22),
        shared_gate=True,
    )
    return fields | {"mixture": mixture}


def qwen3_next(keys: Reader) -> Fields:
    """Read Qwen3-Next: Qwen3.5 with experts, and some layers without."""
    fields = qwen3_5(keys)
    return fields | {"mixture": _qwen_mixture(keys, fields, shared=True)}


def _predicted_layers(keys: Reader) -> int:
    return int(
        keys.integer("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0, most=2**10)
    )


def _routed(keys: Reader, fields: Fields) -> Mixture:
    """Return the experts by DeepSeek's keys: shared ones, and dense layers first."""
    keys.require(
        "moe_layer_freq", only=(1,), reason="experts in some of the layers are not modelled here"
    )
    width = keys.integer("moe_intermediate_size", most=2**22)
    shared = keys.integer("n_shared_experts", "num_shared_experts", default=0, least=0, most=2**10)
    first = keys.integer("first_k_dense_replace", default=0, least=0, most=_LAYERS)
    return Mixture(
        **_experts(keys, "n_routed_experts", "num_local_experts", "num_experts"),
        expert_intermediate_size=width,
        shared_intermediate_size=shared * width,
        dense_layers=tuple(range(min(first, fields["num_hidden_layers"]))),
    )


def deepseek(keys: Reader) -> Fields:
    """Read DeepSeek-V2 and V3 and Kimi K2: latent attention, shared and routed experts."""
    bias = keys.flag("attention_bias", default=False)
    fields = _decoder(keys, bias=bias)
    keys.require(
        "mlp_bias", only=(False,), reason="biases of shared experts alone are not modelled"
    )
    keys.skip("head_dim", "qk_head_dim", "num_key_value_heads")
    latent = Latent(
        query_rank=keys.integer("q_lora_rank", default=0, least=0, most=2**20),
        key_value_rank=keys.integer("kv_lora_rank", most=2**20),
        unrotated_size=keys.integer("qk_nope_head_dim", most=2**16),
        rotated_size=keys.integer("qk_rope_head_dim", most=2**16),
        value_size=keys.integer("v_head_dim", most=2**16),
    )
    return fields | {
        "num_key_value_heads": fields["num_attention_heads"],
        "head_size": latent.value_size,
        "layouts": (latent,),
        "mixture": _routed(keys, fields),
        "multi_token_prediction_layers": _predicted_layers(keys),
    }


def glm4_moe(keys: Reader) -> Fields:
    """Read GLM-4.5 and later: shared and routed experts, grouped attention."""
    bias = keys.flag("attention_bias", default=False)
    fields = _decoder(keys, bias=bias, output_bias=False)
    normed = keys.flag("use_qk_norm", default=False)
    return fields | {
        "query_key_norm": QueryKeyNorm.HEAD if normed else QueryKeyNorm.NONE,
        "mixture": _routed(keys, fields),
        "multi_token_prediction_layers": _predicted_layers(keys),
    }


def gpt_oss(keys: Reader) -> Fields:
    """Read gpt-oss: sinks, biases everywhere, every other layer slides."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=True), ffn_bias=True)
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: FULL if index % 2 else SLIDING)
    keys.skip("experts_per_token")
    return fields | {
        "layouts": layouts,
        "attention_sinks": True,
        "mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts"), router_bias=True),
    }


def minimax(keys: Reader) -> Fields:
    """Read MiniMax-01 and M1: lightning attention, and one layer of softmax among several."""
    fields = _decoder(keys)
    keys.require(
        "sliding_window", only=(0,), reason="sliding attention of this family is not modelled"
    )
    keys.require(
        "shared_intermediate_size",
        only=(
            0,
            [0],
        ),
        reason="shared experts are not modelled here",
    )
    keys.skip("shared_moe_mode", "num_shared_experts")
    kinds: dict[str, Layout] = {
        FULL: Dense(),
        LINEAR: Lightning(block_length=keys.integer("block_size", default=256)),
    }
    stated = keys.integers("attn_type_list")
    layouts = _mixed(keys, fields, kinds, lambda index: LINEAR if index % 2 else FULL)
    if stated is not None:
        if len(stated) != fields["num_hidden_layers"] or set(stated) - {0, 1}:
            raise keys.error("attn_type_list", "expected a 0 or 1 for each layer")
        layouts = shortest_cycle([kinds[FULL if full else LINEAR] for full in stated])
    mixture = Mixture(**_experts(keys, "num_local_experts", "num_experts"))
    return fields | {"layouts": layouts, "mixture": mixture}


def minimax_m2(keys: Reader) -> Fields:
    """Read MiniMax-M2: softmax attention with norms of all queries and all keys."""
    fields = _decoder(keys)
    keys.require(
        "use_qk_norm", only=(True,), reason="queries and keys without norms are not known here"
    )
    keys.require("qk_norm_type", only=("per_layer",), reason="expected per_layer")
    keys.require(
        "shared_intermediate_size", only=(0,), reason="shared experts are not modelled here"
    )
    kinds = keys.integers("attn_type_list")
    if kinds is not None and set(kinds) - {1}:
        raise keys.error("attn_type_list", "attention other than softmax is not known here")
    predicted = keys.integer("num_mtp_modules", default=0, least=0, most=2**10)
    keys.require("mtp_transformer_layers", only=(1,), reason="expected one layer for each module")
    if not keys.flag("use_mtp", default=predicted > 0):
        predicted = 0
    keys.skip("max_model_len", "num_key_value_groups")
    return fields | {
        "query_key_norm": QueryKeyNorm.FULL,
        "mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts")),
        "multi_token_prediction_layers": predicted,
    }


def llama4(keys: Reader) -> Fields:
    """Read Llama 4: attention in chunks, a shared expert, layers without experts among others."""
    width = keys.integer("intermediate_size", most=2**22)
    dense = keys.integer("intermediate_size_mlp", default=width, most=2**22)
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    layers = fields["num_hidden_layers"]
    chunk = keys.integer("attention_chunk_size", default=0, least=0)
    chunked: Layout = Chunked(chunk_length=chunk) if chunk else Dense()
    interval = keys.integer("no_rope_layer_interval", default=4)
    rotates = keys.integers("no_rope_layers") or [
        int((index + 1) % interval != 0) for index in range(layers)
    ]
    if len(rotates) != layers:
        raise keys.error("no_rope_layers", f"expected a 0 or 1 for each of {layers} layers")
    layouts = _mixed(
        keys,
        fields,
        {FULL: Dense(), CHUNKED: chunked},
        lambda index: CHUNKED if rotates[index] else FULL,
    )
    normed = keys.flag("use_qk_norm", default=True)
    step = keys.integer("interleave_moe_layer_step", default=1)
    with_experts = keys.integers("moe_layers")
    chosen = set(range(step - 1, layers, step) if with_experts is None else with_experts)
    mixture = Mixture(
        **_experts(keys, "num_local_experts", "num_experts"),
        expert_intermediate_size=width,
        shared_intermediate_size=width,
        dense_layers=tuple(index for index in range(layers) if index not in chosen),
    )
    keys.skip("for_llm_compressor", "max_seq_len")
    return fields | {
        "intermediate_size": dense,
        "layouts": layouts,
        "query_key_norm": QueryKeyNorm.UNSCALED if normed else QueryKeyNorm.NONE,
        "mixture": mixture,
    }


FAMILIES: Mapping[str, Callable[[Reader], Fields]] = MappingProxyType(
    {
        "bloom": bloom,
        "cohere": cohere,
        "cohere2": cohere2,
        "deepseek_v2": deepseek,
        "deepseek_v3": deepseek,
        "ernie4_5": ernie,
        "falcon": falcon,
        "gemma": gemma,
        "gemma2": gemma2,
        "gemma3": gemma3,
        "gemma3_text": gemma3,
        "glm": glm,
        "glm4": glm4,
        "glm4_moe": glm4_moe,
        "gpt2": gpt2,
        "gpt_neox": gpt_neox,
        "gpt_oss": gpt_oss,
        "gptj": gptj,
        "granite": llama,
        "kimi_k2": deepseek,
        "llama": llama,
        "llama4": llama4,
        "llama4_text": llama4,
        "minimax": minimax,
        "minimax_m1": minimax,
        "minimax_m2": minimax_m2,
        "minimax_text_01": minimax,
        "ministral": ministral,
        "mistral": mistral,
        "mixtral": mixtral,
        "olmo2": olmo,
        "olmo3": olmo3,
        "opt": opt,
        "phi": phi,
        "phi3": mistral,
        "qwen2": qwen2,
        "qwen2_moe": qwen2_moe,
        "qwen3": qwen3,
        "qwen3_5": qwen3_5,
        "qwen3_5_moe": qwen3_5_moe,
        "qwen3_5_moe_text": qwen3_5_moe,
        "qwen3_5_text": qwen3_5,
        "qwen3_moe": qwen3_moe,
        "qwen3_next": qwen3_next,
        "seed_oss": seed_oss,
        "smollm3": smollm3,
        "stablelm": stablelm,
        "starcoder2": starcoder2,
    }
)
"""Reader of each family, by the `model_type` of its files."""
