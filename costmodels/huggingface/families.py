"""Families of models by the `model_type` of their `config.json`, and their defaults.

A family is a function from the keys to the fields of a `Model`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from costmodels.huggingface.decoders import Fields
from costmodels.huggingface.gpt_like import (
    bloom,
    cohere,
    cohere2,
    falcon,
    gpt2,
    gpt_neox,
    gptj,
    opt,
    phi,
    stablelm,
    starcoder2,
)
from costmodels.huggingface.llama_like import (
    ernie,
    gemma,
    gemma2,
    gemma3,
    glm,
    glm4,
    llama,
    ministral,
    mistral,
    olmo,
    olmo3,
    qwen2,
    qwen3,
    qwen3_5,
    seed_oss,
    smollm3,
)
from costmodels.huggingface.mixtures import (
    deepseek,
    glm4_moe,
    gpt_oss,
    llama4,
    minimax,
    minimax_m2,
    mixtral,
    qwen2_moe,
    qwen3_5_moe,
    qwen3_moe,
    qwen3_next,
)
from costmodels.huggingface.reader import Reader


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
