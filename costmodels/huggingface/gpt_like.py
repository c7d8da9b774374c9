"""Families with LayerNorm: GPT, and those with attention and network side by side."""

from costmodels.huggingface.decoders import (
    Fields,
    decoder_fields,
    everywhere,
    sliding_but_every,
    sliding_layout,
)
from costmodels.huggingface.reader import Reader
from costmodels.specs.model import Norm, Positions, QueryKeyNorm

_GPT2_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def gpt2(keys: Reader) -> Fields:
    """Read GPT-2: learned positions."""
    fields = decoder_fields(
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


def _inner(keys: Reader) -> int:
    """Return the width of the feed-forward network: four times hidden_size unless stated."""
    hidden = keys.integer("n_embd", most=2**20)
    return int(keys.integer("n_inner", default=4 * hidden, most=2**22))


def gptj(keys: Reader) -> Fields:
    """Read GPT-J: one norm, no biases of attention, a bias of the head."""
    keys.require("rotary", only=(True,), reason="other positions of this family are not known here")
    fields = decoder_fields(
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
    fields = decoder_fields(
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
    fields = decoder_fields(
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
    fields = decoder_fields(
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
    fields = decoder_fields(
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


def phi(keys: Reader) -> Fields:
    """Read Phi-1 to Phi-2: biases everywhere, attention and feed-forward network side by side."""
    fields = decoder_fields(keys, gated=False, norm=Norm.LAYERNORM, bias=True, ffn_bias=True)
    normed = keys.flag("qk_layernorm", default=False)
    return fields | {
        "parallel_residual": True,
        "norms_per_layer": 1,
        "head_bias": True,
        "query_key_norm": QueryKeyNorm.HEAD if normed else QueryKeyNorm.NONE,
    }


def starcoder2(keys: Reader) -> Fields:
    """Read StarCoder2: LayerNorm and biases, sliding where a window is given."""
    keys.require("mlp_type", only=("default",), reason="another network is not modelled")
    keys.require("norm_type", only=("layer_norm",), reason="another norm is not modelled")
    bias = keys.flag("use_bias", default=True)
    fields = decoder_fields(
        keys, gated=False, norm=Norm.LAYERNORM, bias=bias, ffn_bias=bias, tied=True
    )
    return fields | {"layouts": everywhere(sliding_layout(keys))}


def stablelm(keys: Reader) -> Fields:
    """Read StableLM: LayerNorm, gated."""
    keys.require("qk_layernorm", only=(False,), reason="a norm for each head is not modelled")
    bias = keys.flag("use_qkv_bias", default=False)
    fields = decoder_fields(keys, norm=Norm.LAYERNORM, bias=bias, output_bias=False)
    split = fields["hidden_size"] // fields["num_attention_heads"]
    keys.require("head_dim", only=(split,), reason=f"heads of this family have width {split}")
    parallel = keys.flag("use_parallel_residual", default=False)
    return fields | {"parallel_residual": parallel, "norms_per_layer": 1 if parallel else 2}


def _side_by_side(keys: Reader) -> Fields:
    fields = decoder_fields(
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
    return fields | {"layouts": sliding_but_every(cycle, keys, fields)}
