"""Scenarios that tests of several modules start from."""

from collections.abc import Mapping
from typing import Any

from costmodels.scenario import Scenario, scenario_from_table

EXAMPLE: Mapping[str, Any] = {
    "model": "llama-3.1-405b",
    "cluster": "h100-sxm:16384",
    "plan": {
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 16,
        "sequence_parallel": True,
        "zero_stage": 1,
        "recompute": "full",
    },
    "workload": {
        "global_batch_size": 2048,
        "sequence_length": 8192,
        "total_tokens": 15_600_000_000_000,
    },
}

SMALL: Mapping[str, Any] = {
    "model": "llama-3.1-8b",
    "cluster": "h100-sxm:8",
    "workload": {"global_batch_size": 16, "sequence_length": 1024, "total_tokens": 10**12},
}

INTERLEAVED = {
    **SMALL,
    "plan": {
        "pipeline_parallel_size": 2,
        "virtual_stages": 2,
        "schedule": "interleaved-1f1b",
    },
}

MIXTURE = {**SMALL, "model": "mixtral-8x7b", "plan": {"schedule": "gpipe"}}

TIED = {**SMALL, "model": "gpt-3-175b", "plan": {"attention_kernel": "naive"}}

CPU = {
    **SMALL,
    "cluster": "cpu:8",
    "precision": "fp32",
    "plan": {"layers_per_stage": [20, 12], "pipeline_parallel_size": 2},
}

WITNESSES: Mapping[str, Mapping[str, Any]] = {
    "example": EXAMPLE,
    "small": SMALL,
    "interleaved": INTERLEAVED,
    "mixture": MIXTURE,
    "tied": TIED,
    "cpu": CPU,
}


def witness(name: str, **changes: Any) -> Scenario:
    """Return a witness with sections or fields changed; two underscores stand for a path's dot."""
    sections = {key: value for key, value in changes.items() if "__" not in key}
    paths = {key.replace("__", "."): value for key, value in changes.items() if "__" in key}
    return scenario_from_table({**WITNESSES[name], **sections}, paths)
