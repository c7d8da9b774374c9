"""Caches of inference, against what transformers keeps after a forward of small real models.

Between two steps transformers keeps of a sliding layer one token fewer than its window, since the
token of the next step fills it; the closed form counts that token too, and the case says so.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.huggingface.importing import import_config
from costmodels.presets import preset_table
from costmodels.specs.cluster import Cluster
from costmodels.specs.plan import Plan
from costmodels.specs.precision import Precision
from costmodels.specs.tables import build
from costmodels.specs.workload import Workload, WorkloadKind
from costmodels.stages import layer_kinds
from validation.cases import Case

SUITE = "cache-bytes"

_BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
    "max_position_embeddings": 256,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 24,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    **_EXPERTS,
}
MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama, one key head a query head": {"model_type": "llama", "num_key_value_heads": 4},
        "llama, grouped queries": {"model_type": "llama"},
        "qwen3, explicit head size": {"model_type": "qwen3", "head_dim": 24},
        "deepseek_v3, latent": {"model_type": "deepseek_v3", **_LATENT},
        "gpt_oss, sliding and full in turn": {
            "model_type": "gpt_oss",
            "head_dim": 16,
            "sliding_window": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "qwen3_next, gated delta and full in turn": {
            "model_type": "qwen3_next",
            "head_dim": 16,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "num_experts": 4,
            "shared_expert_intermediate_size": 32,
            "layer_types": ["linear_attention", "full_attention"],
            **_EXPERTS,
        },
    }
)
"""Keys of small models that differ from a common base."""

WORK = ((1, 7), (3, 20))
"""Sequences and tokens of each; 7 are fewer than a window, 20 more [count]."""


class _Cache(NamedTuple):
    """The closed form of one layer: layout, tokens kept, bytes of all sequences."""

    layout: str
    tokens: int
    cache_bytes: int
    token_bytes: int


def predicted(configuration: Mapping[str, Any], batch: int, length: int) -> list[_Cache]:
    """Return what each layer of a model keeps by the closed forms, in bf16 on one GPU."""
    model = import_config(json.dumps(configuration), name="small", where="small").model
    cluster = preset_table("cluster", "h100-sxm") | {"accelerator_count": 1}
    # No scenario: its rules ask for more than a cache needs.
    sections = SimpleNamespace(
        model=model,
        cluster=build(Cluster, cluster, "cluster"),
        plan=Plan(),
        precision=build(Precision, preset_table("precision", "bf16"), "precision"),
        workload=Workload(
            kind=WorkloadKind.DECODE, global_batch_size=batch, sequence_length=length
        ),
    )
    names = ("cached_tokens", "cache_elements", "layer_cache_bytes")
    columns = compile_columns(sections)
    values = evaluate(columns, names)
    kinds, _ = layer_kinds(model)
    found = []
    for kind in kinds:
        tokens, elements, cache_bytes = (int(_first(values[name][kind])) for name in names)
        found.append(_Cache(columns.layouts[kind], tokens, cache_bytes, 2 * elements))
    return found


def _first(value: Any) -> Any:
    return value if isinstance(value, int) else value[0]


def cache_cases() -> list[Case]:
    """Return the cache of every layer of every model. Needs torch and transformers."""
    from validation.torch_programs.caches import kept_by_layer

    cases = []
    for name, changes in MODELS.items():
        configuration = {**_BASE, **changes}
        for batch, length in WORK:
            measured = kept_by_layer(configuration, batch, length)
            layers = predicted(configuration, batch, length)
            for index, (layer, kept) in enumerate(zip(layers, measured, strict=True)):
                # The window's last place is for the token of the next step.
                own = int(layer.layout == "sliding" and layer.tokens < length)
                claim = f"a layer of {layer.layout} attention keeps so much of all sequences"
                cases.append(
                    Case(
                        suite=SUITE,
                        name=f"{name}, layer {index}, {batch} x {length} tokens",
                        claim=claim + own * ", one token less than its window between steps",
                        prediction=layer.cache_bytes - own * batch * layer.token_bytes,
                        measurement=kept.cache_bytes,
                        unit="byte",
                        tolerance_fraction=0,
                        tolerance_reason="both count the same bytes",
                        method="tensors of transformers' DynamicCache after a forward on a CPU",
                        source="validation/torch_programs/caches.py",
                    )
                )
    return cases
