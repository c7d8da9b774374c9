"""Small models of every kind of layer, which programs run whole, and scenarios of them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table

_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "name": "small",
        "num_hidden_layers": 2,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_size": 6,
        "intermediate_size": 40,
        "gated": False,
        "vocabulary_size": 51,
        "tied_embeddings": False,
        "norm": "rmsnorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "ffn_bias": False,
        "positions": "rotary",
        "max_position_embeddings": 32,
    }
)
_BIASES = {"attention_bias": True, "attention_output_bias": True, "ffn_bias": True}
_EXPERTS = {"expert_count": 5, "experts_per_token": 2, "expert_intermediate_size": 14}
_LATENT = {
    "type": "latent",
    "query_rank": 10,
    "key_value_rank": 7,
    "unrotated_size": 5,
    "rotated_size": 4,
    "value_size": 3,
}


def model_table(**changes: Any) -> dict[str, Any]:
    """Return the table of a small model, some of its fields changed."""
    return dict(_BASE) | changes


MODELS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "dense": model_table(
            norm="layernorm", positions="learned", tied_embeddings=True, **_BIASES
        ),
        "dense without a mask": model_table(layouts=[{"type": "dense", "causal": False}]),
        "gated": model_table(gated=True),
        "grouped queries": model_table(gated=True, num_key_value_heads=2, attention_bias=True),
        "one key head": model_table(num_key_value_heads=1, norm="layernorm-no-bias"),
        "heads wider than the stream": model_table(head_size=11, gated=True),
        "normalized queries": model_table(query_key_norm="head", attention_output_gate=True),
        "normalized over heads": model_table(
            query_key_norm="full", attention_sinks=True, norm="layernorm"
        ),
        "four norms": model_table(norms_per_layer=4, gated=True, embedding_norm=True),
        "bias of the head": model_table(
            head_bias=True, positions="learned", reserved_positions=2, tied_embeddings=True
        ),
        "mixture": model_table(mixture=_EXPERTS | {"router_bias": True}, gated=True, ffn_bias=True),
        "shared experts": model_table(
            num_hidden_layers=3,
            gated=True,
            mixture=_EXPERTS
            | {"shared_intermediate_size": 9, "shared_gate": True, "dense_layers": [0]},
        ),
        "latent": model_table(layouts=[_LATENT], gated=True),
        "latent without compressed queries": model_table(
            layouts=[_LATENT | {"query_rank": 0}], attention_bias=True
        ),
        "latent mixture": model_table(
            num_hidden_layers=3,
            layouts=[_LATENT],
            gated=True,
            mixture=_EXPERTS | {"shared_intermediate_size": 14, "dense_layers": [0]},
        ),
        "side by side, one norm": model_table(parallel_residual=True, norms_per_layer=1, **_BIASES),
        "side by side, two norms": model_table(
            parallel_residual=True, norm="layernorm", gated=True, attention_bias=True
        ),
        "mixture beside attention": model_table(
            parallel_residual=True, norms_per_layer=1, mixture=_EXPERTS
        ),
        "one further token": model_table(multi_token_prediction_layers=1, gated=True),
        "two further tokens": model_table(
            multi_token_prediction_layers=2, norm="layernorm", tied_embeddings=True, **_BIASES
        ),
        "further token of a latent mixture": model_table(
            layouts=[_LATENT],
            gated=True,
            mixture=_EXPERTS | {"shared_intermediate_size": 14, "dense_layers": [0]},
            multi_token_prediction_layers=1,
        ),
    }
)
"""Models by what is special about their layers."""

CAST_RECIPE: Mapping[str, str] = MappingProxyType(
    {"preset": "fp32", "weights": "bf16", "main_weights": "fp32"}
)
"""Weights of 16 bits made of main weights as they are gathered; all else in fp32."""


def scenario_of(
    model: Mapping[str, Any],
    *,
    replicas: int = 1,
    plan: Mapping[str, Any] | None = None,
    workload: Mapping[str, Any] | None = None,
    cluster: Mapping[str, Any] | None = None,
) -> Scenario:
    """Return the scenario of a small model in fp32 on processes of a CPU.

    Parameters
    ----------
    model : mapping
        Table of the model.
    replicas : int
        Processes, each with a replica of one microbatch [count].
    plan, workload, cluster : mapping, optional
        Fields that differ: two sequences of eight tokens a microbatch, a naive kernel.

    Returns
    -------
    Scenario
        The program's own sizes, formats and plan.
    """
    planned: dict[str, Any] = {"micro_batch_size": 2, "attention_kernel": "naive"} | dict(
        plan or {}
    )
    batch = replicas * planned["micro_batch_size"]
    return scenario_from_table(
        {
            "model": dict(model),
            "cluster": {"preset": f"cpu:{replicas}"} | dict(cluster or {}),
            "precision": dict(CAST_RECIPE) if planned.get("cast_on_gather") else "fp32",
            "plan": planned,
            "workload": {"global_batch_size": batch, "sequence_length": 8} | dict(workload or {}),
        }
    )


def predicted(scenario: Scenario, names: Iterable[str]) -> dict[str, Any]:
    """Return quantities of a scenario as integers, nested along their axes.

    Parameters
    ----------
    scenario : Scenario
        The program's.
    names : iterable of str
        Quantities of the catalogue.
    """
    values = evaluate(compile_columns(scenario), names)
    return {name: _integers(value) for name, value in values.items()}


def _integers(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_integers(member) for member in value)
    return int(np.asarray(value).item())
