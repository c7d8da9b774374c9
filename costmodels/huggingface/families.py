"""What a `config.json` of each family of models says, key by key.

A family is a function from the keys to the fields of a `Model`. Defaults are those of the family's
configuration in transformers; sizes without which there is no model must be stated.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from costmodels.huggingface.reader import Reader, shown
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
    equal_heads: bool = False,
    head_size: int | None = None,
    width: int | None = None,
) -> Fields:
    """Return the fields that all families have, read from the usual keys.

    `equal_heads` is for families that split hidden_size by the heads whatever else a file says;
    `head_size` and `width` are for those that have them from other keys.
    """
    hidden_size = keys.integer(hidden, most=2**20)
    head_count = keys.integer(heads, most=2**16)
    if head_size is None:
        head_size = _head_size(keys, hidden_size, head_count, equal=equal_heads)
    if width is None:
        width = keys.integer("intermediate_size", most=2**22)
    return {
        "num_hidden_layers": keys.integer(layers, most=_LAYERS),
        "hidden_size": hidden_size,
        "num_attention_heads": head_count,
        "num_key_value_heads": _shared_heads(keys, head_count, equal=equal_heads),
        "head_size": head_size,
        "intermediate_size": width,
        "gated": gated,
        "vocabulary_size": keys.integer("vocab_size", most=2**26),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=tied),
        "norm": norm,
        "attention_bias": bias,
        "attention_output_bias": bias if output_bias is None else output_bias,
        "ffn_bias": ffn_bias,
        "positions": Positions.ROTARY,
        "max_position_embeddings": keys.size(positions, otherwise=2048, most=2**40),
        "dropout": max(map(keys.number, _DROPOUTS)) > 0,
    }


def _shared_heads(keys: Reader, head_count: int, *, equal: bool) -> int:
    """Return the key and value heads: as many as query heads where the file says none."""
    if equal:
        keys.require(
            "num_key_value_heads",
            only=(head_count,),
            reason=f"each of the {head_count} heads of this family has keys and values of its own",
        )
        return head_count
    return keys.size("num_key_value_heads", otherwise=head_count, most=2**16)


def _head_size(keys: Reader, hidden_size: int, head_count: int, *, equal: bool) -> int:
    """Return the width of a head: an equal part of hidden_size where the file says nothing."""
    quotient, rest = divmod(hidden_size, head_count)
    if equal:
        keys.require(
            "head_dim",
            only=(quotient,),
            reason=f"heads of this family have hidden_size / num_attention_heads ({quotient})",
        )
    size = quotient if equal else keys.size("head_dim", otherwise=0, most=2**16)
    if size and (not rest or size != quotient):
        return size
    if rest:
        raise keys.error(
            "num_attention_heads",
            f"must divide hidden_size ({hidden_size}), since head_dim is not given",
        )
    return quotient


def shortest_cycle(layers: list[Layout]) -> tuple[Layout, ...]:
    """Return the shortest list that gives all layers when it repeats.

    Examples
    --------
    >>> a, b = Dense(), Sliding(window=4)
    >>> shortest_cycle([a, b, a, b, a]) == (a, b)
    True
    """
    # The longest proper prefix that is also a suffix, for each prefix (Knuth, Morris, Pratt): in
    # linear time, since a file may name tens of thousands of layers.
    overlap = [0] * len(layers)
    for index in range(1, len(layers)):
        length = overlap[index - 1]
        while length and layers[index] != layers[length]:
            length = overlap[length - 1]
        overlap[index] = length + (layers[index] == layers[length])
    return tuple(layers[: len(layers) - overlap[-1]])


def _mixed(
    keys: Reader,
    fields: Fields,
    kinds: Mapping[str, Layout | None],
    default: Callable[[int], str],
) -> tuple[Layout, ...]:
    """Return the layouts by `layer_types`, or by the family's rule where that is absent.

    A kind that is None is one that the family has, and whose size the file does not give.
    """
    count = fields["num_hidden_layers"]
    words = keys.by_layer("layer_types", count, tuple(kinds))
    if words is None:
        words = [default(index) for index in range(count)]
    known = {word: layout for word, layout in kinds.items() if layout is not None}
    for word in set(words) - set(known):
        key = "use_sliding_window" if keys.false("use_sliding_window") else "sliding_window"
        raise keys.error(key, f"layers of {word} need the length of a window")
    return shortest_cycle([known[word] for word in words])


def _window(keys: Reader) -> Sliding | None:
    """Return sliding attention, None where no window is given."""
    window = keys.size("sliding_window", otherwise=0, least=0)
    return Sliding(window=window) if window else None


def _window_in_use(keys: Reader) -> Sliding | None:
    """Return sliding attention where `use_sliding_window` says so, else None."""
    if keys.flag("use_sliding_window", default=False):
        return _window(keys)
    keys.skip("sliding_window", "max_window_layers")
    return None


def _everywhere(layout: Layout | None) -> tuple[Layout, ...]:
    return (layout or Dense(),)


# --- dense families -------------------------------------------------------------------------------


def llama(keys: Reader) -> Fields:
    """Read Llama and what is built like it."""
    bias = keys.flag("attention_bias", default=False)
    return _decoder(keys, bias=bias, ffn_bias=keys.flag("mlp_bias", default=False))


def smollm3(keys: Reader) -> Fields:
    """Read SmolLM3: Llama with layers whose attention may slide."""
    fields = llama(keys) | {"tied_embeddings": keys.flag("tie_word_embeddings", default=True)}
    window = _window_in_use(keys)
    rotates = _rotating(keys, fields["num_hidden_layers"])
    layouts = _mixed(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: FULL if rotates[index] or window is None else SLIDING,
    )
    return fields | {"layouts": layouts}


def _rotating(keys: Reader, layers: int) -> list[int]:
    """Return for each layer whether it rotates positions: by default all but every fourth."""
    interval = keys.integer("no_rope_layer_interval", default=4)
    stated = keys.integers("no_rope_layers")
    if stated and len(stated) != layers:
        raise keys.error("no_rope_layers", f"expected a 0 or 1 for each of {layers} layers")
    return stated or [int((index + 1) % interval != 0) for index in range(layers)]


def mistral(keys: Reader) -> Fields:
    """Read Mistral and Phi-3: all layers slide where a window is given."""
    return _decoder(keys) | {"layouts": _everywhere(_window(keys))}


def ministral(keys: Reader) -> Fields:
    """Read Ministral: layers that slide, and others."""
    fields = _decoder(keys)
    window = _window(keys)
    kinds = {FULL: Dense(), SLIDING: window}
    default = FULL if window is None else SLIDING
    return fields | {"layouts": _mixed(keys, fields, kinds, lambda _: default)}


def seed_oss(keys: Reader) -> Fields:
    """Read Seed-OSS: Llama with biases of its own."""
    bias = keys.flag("attention_bias", default=True)
    out = keys.flag("attention_out_bias", default=False)
    ffn_bias = keys.flag("mlp_bias", default=False)
    fields = _decoder(keys, bias=bias, output_bias=out, ffn_bias=ffn_bias)
    dropouts = ("attention_dropout", "residual_dropout")
    return fields | {"dropout": max(keys.number(key, default=0.1) for key in dropouts) > 0}


def ernie(keys: Reader) -> Fields:
    """Read Ernie 4.5: Llama whose projections all have biases, or none."""
    bias = keys.flag("use_bias", default=False)
    return _decoder(keys, bias=bias, ffn_bias=bias, tied=True)


def starcoder2(keys: Reader) -> Fields:
    """Read StarCoder2: LayerNorm and biases, sliding where a window is given."""
    keys.require("mlp_type", only=("default",), reason="another network is not modelled")
    keys.require("norm_type", only=("layer_norm",), reason="another norm is not modelled")
    bias = keys.flag("use_bias", default=True)
    fields = _decoder(keys, gated=False, norm=Norm.LAYERNORM, bias=bias, ffn_bias=bias, tied=True)
    return fields | {"layouts": _everywhere(_window(keys))}


def stablelm(keys: Reader) -> Fields:
    """Read StableLM: LayerNorm, gated."""
    keys.require("qk_layernorm", only=(False,), reason="a norm for each head is not modelled")
    bias = keys.flag("use_qkv_bias", default=False)
    fields = _decoder(keys, norm=Norm.LAYERNORM, bias=bias, output_bias=False)
    split = fields["hidden_size"] // fields["num_attention_heads"]
    keys.require("head_dim", only=(split,), reason=f"heads of this family have width {split}")
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
    window = _window_in_use(keys)
    first = keys.integer("max_window_layers", default=28, least=0, most=2**40)
    layouts = _mixed(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: SLIDING if window is not None and index >= first else FULL,
    )
    return fields | {"layouts": layouts}


def gemma(keys: Reader) -> Fields:
    """Read Gemma."""
    return _decoder(keys, bias=keys.flag("attention_bias", default=False), tied=True)


def gemma2(keys: Reader) -> Fields:
    """Read Gemma 2: norms before and after each half, every other layer slides."""
    fields = gemma(keys) | {"norms_per_layer": 4}
    window = keys.value("sliding_window")
    keys.require(
        "sliding_window_size", only=(window,), reason=f"contradicts sliding_window {shown(window)}"
    )
    kinds = {FULL: Dense(), SLIDING: _window(keys)}
    layouts = _mixed(keys, fields, kinds, lambda index: FULL if index % 2 else SLIDING)
    return fields | {"layouts": layouts}


def gemma3(keys: Reader) -> Fields:
    """Read Gemma 3: published files leave out what equals the defaults of the family."""
    fields = {
        "num_hidden_layers": keys.integer("num_hidden_layers", most=_LAYERS),
        "hidden_size": keys.integer("hidden_size", most=2**20),
        "intermediate_size": keys.integer("intermediate_size", most=2**22),
        "num_attention_heads": keys.size("num_attention_heads", most=2**16),
        "num_key_value_heads": keys.size("num_key_value_heads", most=2**16),
        "head_size": keys.size("head_dim", most=2**16),
        "vocabulary_size": keys.size("vocab_size", most=2**26),
        "max_position_embeddings": keys.size("max_position_embeddings", most=2**40),
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
    cycle = keys.integer("sliding_window_pattern", default=6)
    keys.skip("_sliding_window_pattern")
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


def _side_by_side(keys: Reader) -> Fields:
    fields = _decoder(
        keys,
        norm=Norm.LAYERNORM_NO_BIAS,
        bias=keys.flag("attention_bias", default=False),
        tied=True,
    )
    return fields | {"parallel_residual": True, "norms_per_layer": 1}


def cohere(keys: Reader) -> Fields:
    """Read Command R: attention and feed-forward network side by side behind one norm."""
    fields = _side_by_side(keys)
    normed = keys.flag("use_qk_norm", default=False)
    return fields | {"query_key_norm": QueryKeyNorm.FULL if normed else QueryKeyNorm.NONE}


def cohere2(keys: Reader) -> Fields:
    """Read Command R7B and A: Command R in which three layers of four slide."""
    fields = _side_by_side(keys)
    cycle = keys.integer("sliding_window_pattern", default=4)
    keys.skip("_sliding_window_pattern")
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


def _inner(keys: Reader) -> int:
    """Return the width of the feed-forward network: four times hidden_size unless stated."""
    hidden = keys.integer("n_embd", most=2**20)
    return int(keys.integer("n_inner", default=4 * hidden, most=2**22))


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
        equal_heads=True,
        width=_inner(keys),
    )
    keys.skip("n_ctx")
    return fields | {
        "positions": Positions.LEARNED,
        # Its rates of dropout are not zero where the file is silent.
        "dropout": max(keys.number(key, default=0.1) for key in _GPT2_DROPOUTS) > 0,
    }


def gptj(keys: Reader) -> Fields:
    """Read GPT-J: one norm, no biases of attention, a bias of the head."""
    keys.require("rotary", only=(True,), reason="other positions of this family are not known here")
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        ffn_bias=True,
        layers="n_layer",
        hidden="n_embd",
        heads="n_head",
        positions="n_positions",
        equal_heads=True,
        width=_inner(keys),
    )
    return fields | {
        "parallel_residual": True,
        "norms_per_layer": 1,
        "head_bias": True,
    }


def gpt_neox(keys: Reader) -> Fields:
    """Read GPT-NeoX and Pythia."""
    bias = keys.flag("attention_bias", default=True)
    fields = _decoder(
        keys, gated=False, norm=Norm.LAYERNORM, bias=bias, ffn_bias=True, equal_heads=True
    )
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
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        tied=True,
        bias=bias,
        ffn_bias=bias,
        equal_heads=True,
        width=keys.integer("ffn_dim", most=2**22),
    )
    hidden = fields["hidden_size"]
    projected = keys.integer("word_embed_proj_dim", default=hidden)
    if projected != hidden:
        raise keys.error(
            "word_embed_proj_dim",
            f"an embedding narrower than hidden_size ({hidden}) is not modelled",
        )
    return fields | {
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
        equal_heads=True,
        width=4 * keys.integer(hidden, most=2**20),
    )
    keys.skip(
        *("hidden_size", "n_embed", "n_head", "num_attention_heads", "n_layer"),
        *("num_hidden_layers", "offset_alibi", "attention_softmax_in_fp32", "skip_bias_add"),
        *("skip_bias_add_qkv", "masked_softmax_fusion", "bias_dropout_fusion", "n_inner"),
        "unk_token_id",
    )
    return fields | {
        "positions": Positions.ALIBI,
        "embedding_norm": True,
    }


def falcon(keys: Reader) -> Fields:
    """Read Falcon: one key and value head, or groups of them in its new architecture."""
    old = keys.has("n_head")
    bias = keys.flag("bias", default=False)
    inner = 4 * keys.integer("hidden_size", most=2**20)
    fields = _decoder(
        keys,
        gated=False,
        norm=Norm.LAYERNORM,
        tied=True,
        bias=bias,
        ffn_bias=bias,
        equal_heads=True,
        width=keys.integer("ffn_hidden_size", default=inner, most=2**22),
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
    alibi = keys.flag("alibi", default=False)
    return fields | {
        "num_key_value_heads": 1 if alone else groups if new else heads,
        "positions": Positions.ALIBI if alibi else Positions.ROTARY,
        "parallel_residual": parallel or new,
        "norms_per_layer": norms if parallel else 2,
    }


# --- mixtures of experts --------------------------------------------------------------------------


def _experts(keys: Reader, *names: str) -> dict[str, Any]:
    count = keys.integer(*names, least=2, most=2**16)
    chosen = keys.integer(
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token", most=2**16
    )
    if chosen > count:
        raise keys.error("num_experts_per_tok", f"must be at most the {count} experts")
    return {"expert_count": count, "experts_per_token": chosen}


def mixtral(keys: Reader) -> Fields:
    """Read Mixtral: experts in every layer."""
    fields = _decoder(keys) | {"layouts": _everywhere(_window(keys))}
    return fields | {"mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts"))}


def _sparse_layers(keys: Reader, layers: int) -> tuple[int, ...]:
    """Return the layers without experts by Qwen's keys."""
    step = keys.integer("decoder_sparse_step", default=1, most=2**40)
    without = set(keys.integers("mlp_only_layers") or ())
    return tuple(index for index in range(layers) if index in without or (index + 1) % step != 0)


def qwen2_moe(keys: Reader) -> Fields:
    """Read Qwen2-MoE: a gated shared expert beside the chosen ones."""
    fields = _decoder(keys, bias=keys.flag("qkv_bias", default=True), output_bias=False)
    window = _window_in_use(keys)
    last = keys.integer("max_window_layers", default=28, least=0, most=2**40)
    layouts = _mixed(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: SLIDING if window and index % 2 == 0 and index < last else FULL,
    )
    fields |= {"layouts": layouts}
    return fields | {"mixture": _qwen_mixture(keys, fields, shared=True)}


def qwen3_moe(keys: Reader) -> Fields:
    """Read Qwen3-MoE."""
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False))
    layouts = _everywhere(_window_in_use(keys))
    keys.skip("max_window_layers")
    fields |= {"query_key_norm": QueryKeyNorm.HEAD, "layouts": layouts}
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
    return _gated_hybrid(keys)


def _gated_hybrid(keys: Reader, width: int | None = None) -> Fields:
    fields = _decoder(keys, bias=keys.flag("attention_bias", default=False), width=width)
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
    fields = _gated_hybrid(keys, width)
    keys.skip("intermediate_size")
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
    other = keys.integer("num_shared_experts", default=0, least=0, most=2**10)
    shared = keys.size("n_shared_experts", otherwise=other, least=0, most=2**10)
    first = keys.size("first_k_dense_replace", otherwise=0, least=0, most=_LAYERS)
    return Mixture(
        **_experts(keys, "n_routed_experts", "num_local_experts", "num_experts"),
        expert_intermediate_size=width,
        shared_intermediate_size=shared * width,
        dense_layers=tuple(range(min(first, fields["num_hidden_layers"]))),
    )


def deepseek(keys: Reader) -> Fields:
    """Read DeepSeek-V2 and V3 and Kimi K2: latent attention, shared and routed experts."""
    bias = keys.flag("attention_bias", default=False)
    value_size = keys.integer("v_head_dim", most=2**16)
    fields = _decoder(keys, bias=bias, head_size=value_size)
    keys.require(
        "mlp_bias", only=(False,), reason="biases of shared experts alone are not modelled"
    )
    keys.skip("head_dim", "qk_head_dim", "num_key_value_heads")
    latent = Latent(
        query_rank=keys.size("q_lora_rank", otherwise=0, most=2**20),
        key_value_rank=keys.integer("kv_lora_rank", most=2**20),
        unrotated_size=keys.integer("qk_nope_head_dim", most=2**16),
        rotated_size=keys.integer("qk_rope_head_dim", most=2**16),
        value_size=value_size,
    )
    return fields | {
        "num_key_value_heads": fields["num_attention_heads"],
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
    chunk = keys.size("attention_chunk_size", otherwise=0)
    chunked: Layout = Chunked(chunk_length=chunk) if chunk else Dense()
    rotates = _rotating(keys, layers)
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


def _sizes(**sizes: int) -> Mapping[str, int]:
    return MappingProxyType(sizes)


_GEMMA3 = _sizes(
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    vocab_size=262_208,
    sliding_window=4096,
    max_position_embeddings=131_072,
)
_GLM = _sizes(num_key_value_heads=2, head_dim=128, max_position_embeddings=131_072)
_LLAMA4 = _sizes(
    num_key_value_heads=8,
    head_dim=128,
    attention_chunk_size=8192,
    max_position_embeddings=131_072,
)
_MISTRAL = _sizes(num_key_value_heads=8, sliding_window=4096, max_position_embeddings=131_072)
_MIXTRAL = _sizes(num_key_value_heads=8, max_position_embeddings=131_072)
_DEEPSEEK_V3 = _sizes(
    num_key_value_heads=128,
    q_lora_rank=1536,
    n_shared_experts=1,
    first_k_dense_replace=3,
    max_position_embeddings=4096,
)
_QWEN3_5 = _sizes(num_key_value_heads=4, head_dim=256, max_position_embeddings=32_768)
_QWEN3_5_MOE = _sizes(num_key_value_heads=2, head_dim=256, max_position_embeddings=32_768)

DEFAULTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "cohere": _sizes(max_position_embeddings=8192),
        "cohere2": _sizes(sliding_window=4096, max_position_embeddings=8192),
        "deepseek_v2": _sizes(q_lora_rank=1536, n_shared_experts=2),
        "deepseek_v3": _DEEPSEEK_V3,
        "ernie4_5": _sizes(num_key_value_heads=2, head_dim=128, max_position_embeddings=131_072),
        "gemma": _sizes(num_key_value_heads=16, head_dim=256, max_position_embeddings=8192),
        "gemma2": _sizes(
            num_key_value_heads=4, head_dim=256, sliding_window=4096, max_position_embeddings=8192
        ),
        "gemma3": _GEMMA3,
        "gemma3_text": _GEMMA3,
        "glm": _GLM,
        "glm4": _GLM,
        "glm4_moe": _sizes(
            num_key_value_heads=8,
            n_shared_experts=1,
            first_k_dense_replace=1,
            max_position_embeddings=131_072,
        ),
        "gpt2": _sizes(n_positions=1024),
        "gpt_oss": _sizes(
            num_key_value_heads=8, head_dim=64, sliding_window=128, max_position_embeddings=131_072
        ),
        "kimi_k2": _DEEPSEEK_V3,
        "llama4": _LLAMA4,
        "llama4_text": _LLAMA4,
        "minimax": _MIXTRAL,
        "minimax_m2": _sizes(num_key_value_heads=8, head_dim=128, max_position_embeddings=196_608),
        "ministral": _MISTRAL,
        "mistral": _MISTRAL,
        "mixtral": _MIXTRAL,
        "olmo3": _sizes(sliding_window=4096),
        "phi3": _sizes(max_position_embeddings=4096),
        "qwen2": _sizes(
            num_key_value_heads=32, sliding_window=4096, max_position_embeddings=32_768
        ),
        "qwen2_moe": _sizes(
            num_key_value_heads=16, sliding_window=4096, max_position_embeddings=32_768
        ),
        "qwen3": _sizes(
            num_key_value_heads=32,
            head_dim=128,
            sliding_window=4096,
            max_position_embeddings=32_768,
        ),
        "qwen3_5": _QWEN3_5,
        "qwen3_5_moe": _QWEN3_5_MOE,
        "qwen3_5_moe_text": _QWEN3_5_MOE,
        "qwen3_5_text": _QWEN3_5,
        "qwen3_moe": _sizes(
            num_key_value_heads=4, sliding_window=4096, max_position_embeddings=32_768
        ),
        "qwen3_next": _QWEN3_5_MOE,
        "seed_oss": _sizes(num_key_value_heads=8, head_dim=128, max_position_embeddings=524_288),
        "smollm3": _sizes(num_key_value_heads=4, max_position_embeddings=32_768),
        "stablelm": _sizes(num_key_value_heads=32, max_position_embeddings=4096),
        "starcoder2": _sizes(num_key_value_heads=2, max_position_embeddings=4096),
    }
)
"""Sizes that a family's configuration in transformers has where a file leaves them out.

Elsewhere an absent size follows from others, or must be stated.
"""

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
