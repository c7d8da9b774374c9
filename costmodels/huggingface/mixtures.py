"""Families with experts."""

from typing import Any

from costmodels.huggingface.decoders import (
    CHUNKED,
    FULL,
    LAYERS,
    LINEAR,
    SLIDING,
    Fields,
    decoder_fields,
    everywhere,
    mixed_layouts,
    rotating,
    shortest_cycle,
    sliding_layout,
    sliding_layout_in_use,
)
from costmodels.huggingface.llama_like import gated_hybrid, qwen3_5
from costmodels.huggingface.reader import Reader
from costmodels.specs.layouts import Chunked, Dense, Latent, Layout, Lightning
from costmodels.specs.model import Mixture, QueryKeyNorm


def mixtral(keys: Reader) -> Fields:
    """Read Mixtral: experts in every layer."""
    fields = decoder_fields(keys) | {"layouts": everywhere(sliding_layout(keys))}
    return fields | {"mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts"))}


def _experts(keys: Reader, *names: str) -> dict[str, Any]:
    count = keys.integer(*names, least=2, most=2**16)
    chosen = keys.integer(
        "num_experts_per_tok", "num_experts_per_token", "experts_per_token", most=2**16
    )
    if chosen > count:
        raise keys.error("num_experts_per_tok", f"must be at most the {count} experts")
    return {"expert_count": count, "experts_per_token": chosen}


def qwen2_moe(keys: Reader) -> Fields:
    """Read Qwen2-MoE: a gated shared expert beside the chosen ones."""
    fields = decoder_fields(keys, bias=keys.flag("qkv_bias", default=True), output_bias=False)
    window = sliding_layout_in_use(keys)
    last = keys.integer("max_window_layers", default=28, least=0, most=2**40)
    layouts = mixed_layouts(
        keys,
        fields,
        {FULL: Dense(), SLIDING: window},
        lambda index: SLIDING if window and index % 2 == 0 and index < last else FULL,
    )
    fields |= {"layouts": layouts}
    return fields | {"mixture": _qwen_mixture(keys, fields, shared=True)}


def qwen3_moe(keys: Reader) -> Fields:
    """Read Qwen3-MoE."""
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=False))
    layouts = everywhere(sliding_layout_in_use(keys))
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


def _sparse_layers(keys: Reader, layers: int) -> tuple[int, ...]:
    """Return the layers without experts by Qwen's keys."""
    step = keys.integer("decoder_sparse_step", default=1, most=2**40)
    without = set(keys.integers("mlp_only_layers") or ())
    return tuple(index for index in range(layers) if index in without or (index + 1) % step != 0)


def qwen3_5_moe(keys: Reader) -> Fields:
    """Read Qwen3.5-MoE: Qwen3.5 with experts in every layer."""
    width = keys.integer("moe_intermediate_size", most=2**22)
    fields = gated_hybrid(keys, width)
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


def deepseek(keys: Reader) -> Fields:
    """Read DeepSeek-V2 and V3 and Kimi K2: latent attention, shared and routed experts."""
    bias = keys.flag("attention_bias", default=False)
    value_size = keys.integer("v_head_dim", most=2**16)
    fields = decoder_fields(keys, bias=bias, head_size=value_size)
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
    fields = decoder_fields(keys, bias=bias, output_bias=False)
    normed = keys.flag("use_qk_norm", default=False)
    return fields | {
        "query_key_norm": QueryKeyNorm.HEAD if normed else QueryKeyNorm.NONE,
        "mixture": _routed(keys, fields),
        "multi_token_prediction_layers": _predicted_layers(keys),
    }


def _routed(keys: Reader, fields: Fields) -> Mixture:
    """Return the experts by DeepSeek's keys: shared ones, and dense layers first."""
    keys.require(
        "moe_layer_freq", only=(1,), reason="experts in some of the layers are not modelled here"
    )
    width = keys.integer("moe_intermediate_size", most=2**22)
    other = keys.integer("num_shared_experts", default=0, least=0, most=2**10)
    shared = keys.size("n_shared_experts", otherwise=other, least=0, most=2**10)
    first = keys.size("first_k_dense_replace", otherwise=0, least=0, most=LAYERS)
    return Mixture(
        **_experts(keys, "n_routed_experts", "num_local_experts", "num_experts"),
        expert_intermediate_size=width,
        shared_intermediate_size=shared * width,
        dense_layers=tuple(range(min(first, fields["num_hidden_layers"]))),
    )


def _predicted_layers(keys: Reader) -> int:
    return int(
        keys.integer("num_nextn_predict_layers", "num_mtp_layers", default=0, least=0, most=2**10)
    )


def gpt_oss(keys: Reader) -> Fields:
    """Read gpt-oss: sinks, biases everywhere, every other layer slides."""
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=True), ffn_bias=True)
    kinds = {FULL: Dense(), SLIDING: sliding_layout(keys)}
    layouts = mixed_layouts(keys, fields, kinds, lambda index: FULL if index % 2 else SLIDING)
    return fields | {
        "layouts": layouts,
        "attention_sinks": True,
        "mixture": Mixture(**_experts(keys, "num_local_experts", "num_experts"), router_bias=True),
    }


def minimax(keys: Reader) -> Fields:
    """Read MiniMax-01 and M1: lightning attention, and one layer of softmax among several."""
    fields = decoder_fields(keys)
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
    layouts = mixed_layouts(keys, fields, kinds, lambda index: LINEAR if index % 2 else FULL)
    if stated is not None:
        if len(stated) != fields["num_hidden_layers"] or set(stated) - {0, 1}:
            raise keys.error("attn_type_list", "expected a 0 or 1 for each layer")
        layouts = shortest_cycle([kinds[FULL if full else LINEAR] for full in stated])
    mixture = Mixture(**_experts(keys, "num_local_experts", "num_experts"))
    return fields | {"layouts": layouts, "mixture": mixture}


def minimax_m2(keys: Reader) -> Fields:
    """Read MiniMax-M2: softmax attention with norms of all queries and all keys."""
    fields = decoder_fields(keys)
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
    fields = decoder_fields(keys, bias=keys.flag("attention_bias", default=False))
    layers = fields["num_hidden_layers"]
    chunk = keys.size("attention_chunk_size", otherwise=0)
    chunked: Layout = Chunked(chunk_length=chunk) if chunk else Dense()
    rotates = rotating(keys, layers)
    layouts = mixed_layouts(
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
