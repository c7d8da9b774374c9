"""Families with RMSNorm and a gated network, without experts: Llama and what is built like it."""

from costmodels.huggingface.decoders import (
    FULL,
    LINEAR,
    SLIDING,
    Fields,
    decoder_fields,
    everywhere,
    mixed_layouts,
    rotating,
    sliding_but_every,
    sliding_layout,
    sliding_layout_in_use,
)
from costmodels.huggingface.reader import Reader, shown
from costmodels.specs.layouts import Dense, GatedDelta, Layout
from costmodels.specs.model import QueryKeyNorm


def llama(keys: Reader) -> Fields:
    """Read Llama and what is built like it."""
    bias = keys.flag("attention_bias", default=False)
    return decoder_fields(keys, bias=bias, ffn_bias=keys.flag("mlp_bias", default=False))


def smollm3(keys: Reader) -> Fields:
    """Read SmolLM3: Llama with layers whose attention may slide."""
    fields = llama(keys) | {"tied_embeddings": keys.flag("tie_word_embeddings", default=True)}
    window = sliding_layout_in_use(keys)
    rotates = rotating(keys, fields["num_hidden_layers"])
    layouts = mixed_layouts(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: FULL if rotates[index] or window is None else SLIDING,
    )
    return fields | {"layouts": layouts}


def mistral(keys: Reader) -> Fields:
    """Read Mistral and Phi-3: all layers slide where a window is given."""
    return decoder_fields(keys) | {"layouts": everywhere(sliding_layout(keys))}


def ministral(keys: Reader) -> Fields:
    """Read Ministral: layers that slide, and others."""
    fields = decoder_fields(keys)
    window = sliding_layout(keys)
    kinds = {FULL: Dense(), SLIDING: window}
    default = FULL if window is None else SLIDING
    return fields | {"layouts": mixed_layouts(keys, fields, kinds, lambda _: default)}


def seed_oss(keys: Reader) -> Fields:
    """Read Seed-OSS: Llama with biases of its own."""
    bias = keys.flag("attention_bias", default=True)
    out = keys.flag("attention_out_bias", default=False)
    ffn_bias = keys.flag("mlp_bias", default=False)
    fields = decoder_fields(keys, bias=bias, output_bias=out, ffn_bias=ffn_bias)
    dropouts = ("attention_dropout", "residual_dropout")
    return fields | {"dropout": max(keys.number(key, default=0.1) for key in dropouts) > 0}


def ernie(keys: Reader) -> Fields:
    """Read Ernie 4.5: Llama whose projections all have biases, or none."""
    bias = keys.flag("use_bias", default=False)
    return decoder_fields(keys, bias=bias, ffn_bias=bias, tied=True)


def qwen2(keys: Reader) -> Fields:
    """Read Qwen2: biases of queries, keys and values; the last layers may slide."""
    return _qwen_sliding(keys, decoder_fields(keys, bias=True, output_bias=False))


def qwen3(keys: Reader) -> Fields:
    """Read Qwen3: norms of queries and keys; the last layers may slide."""
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=False))
    return _qwen_sliding(keys, fields) | {"query_key_norm": QueryKeyNorm.HEAD}


def _qwen_sliding(keys: Reader, fields: Fields) -> Fields:
    window = sliding_layout_in_use(keys)
    first = keys.integer("max_window_layers", default=28, least=0, most=2**40)
    layouts = mixed_layouts(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: SLIDING if window is not None and index >= first else FULL,
    )
    return fields | {"layouts": layouts}


def qwen3_5(keys: Reader) -> Fields:
    """Read Qwen3.5: three layers of a gated delta rule, one of gated attention."""
    return gated_hybrid(keys)


def gated_hybrid(keys: Reader, width: int | None = None) -> Fields:
    """Return the fields of layers of a gated delta rule, and of gated attention among them."""
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=False), width=width)
    keys.require(
        "attn_output_gate", only=(True,), reason="attention without its gate is not known here"
    )
    every = keys.integer("full_attention_interval", default=4)
    kinds: dict[str, Layout] = {FULL: Dense(), LINEAR: _gated_delta(keys)}
    layouts = mixed_layouts(
        keys, fields, kinds, lambda index: LINEAR if (index + 1) % every else FULL
    )
    keys.require("mtp_use_dedicated_embeddings", only=(False,), reason="is not modelled")
    predicted = keys.integer("mtp_num_hidden_layers", default=0, least=0, most=2**10)
    return fields | {
        "layouts": layouts,
        "query_key_norm": QueryKeyNorm.HEAD,
        "attention_output_gate": True,
        "multi_token_prediction_layers": predicted,
    }


def _gated_delta(keys: Reader) -> GatedDelta:
    return GatedDelta(
        key_heads=keys.integer("linear_num_key_heads", most=2**16),
        value_heads=keys.integer("linear_num_value_heads", most=2**16),
        key_head_size=keys.integer("linear_key_head_dim", most=2**16),
        value_head_size=keys.integer("linear_value_head_dim", most=2**16),
        convolution_width=keys.integer("linear_conv_kernel_dim", most=2**16),
    )


def gemma(keys: Reader) -> Fields:
    """Read Gemma."""
    return decoder_fields(keys, bias=keys.flag("attention_bias", default=False), tied=True)


def gemma2(keys: Reader) -> Fields:
    """Read Gemma 2: norms before and after each half, every other layer slides."""
    fields = gemma(keys) | {"norms_per_layer": 4}
    window = keys.value("sliding_window")
    keys.require(
        "sliding_window_size", only=(window,), reason=f"contradicts sliding_window {shown(window)}"
    )
    kinds = {FULL: Dense(), SLIDING: sliding_layout(keys)}
    layouts = mixed_layouts(keys, fields, kinds, lambda index: FULL if index % 2 else SLIDING)
    return fields | {"layouts": layouts}


def gemma3(keys: Reader) -> Fields:
    """Read Gemma 3: Gemma 2 with norms of queries and keys, five layers of six slide.

    Published files leave out what equals the defaults of the family.
    """
    fields = decoder_fields(
        keys,
        bias=keys.flag("attention_bias", default=False),
        tied=True,
        head_size=keys.size("head_dim", most=2**16),
    )
    cycle = keys.integer("sliding_window_pattern", default=6)
    keys.skip("_sliding_window_pattern")
    return fields | {
        "norms_per_layer": 4,
        "query_key_norm": QueryKeyNorm.HEAD,
        "layouts": sliding_but_every(cycle, keys, fields),
    }


def olmo(keys: Reader) -> Fields:
    """Read OLMo 2: norms behind each half, and of all queries and all keys."""
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=False))
    return fields | {"query_key_norm": QueryKeyNorm.FULL}


def olmo3(keys: Reader) -> Fields:
    """Read OLMo 3: OLMo 2 in which three layers of four slide."""
    fields = olmo(keys)
    return fields | {"layouts": sliding_but_every(4, keys, fields)}


def glm(keys: Reader) -> Fields:
    """Read GLM: biases of queries, keys and values."""
    bias = keys.flag("attention_bias", default=True)
    return decoder_fields(keys, bias=bias, output_bias=False)


def glm4(keys: Reader) -> Fields:
    """Read GLM-4-0414: GLM with norms before and after each half."""
    return glm(keys) | {"norms_per_layer": 4}
