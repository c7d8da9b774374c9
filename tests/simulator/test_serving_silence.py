"""No input of inference is silent: it moves the memory, is refused by name, or noted as inert."""

from typing import Any

import pytest

from costmodels.errors import ShardwiseError
from costmodels.leaves import field_value
from costmodels.scenario import Scenario, scenario_from_table, scenario_to_table
from simulator.accounting import MemoryAccount, memory_account
from tests.simulator.mutations import (
    QUANTIZATION,
    QUANTIZED,
    Remark,
    all_paths,
    candidates,
    remarks,
)

BASE: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "cluster": "h200-sxm:8",
    "plan": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "micro_batch_size": 2},
    "workload": {
        "kind": "decode",
        "global_batch_size": 16,
        "sequence_length": 1000,
        "total_tokens": 10**9,
    },
}
BLOCKS = {
    "method": "fp8",
    "weight_format": "fp8-e4m3",
    "group_rows": 128,
    "group_columns": 128,
    "scale_format": "fp32",
    "activation_format": "fp8-e4m3",
}
SCENARIOS = {
    "dense": BASE,
    "latent": {**BASE, "model": "deepseek-v3"},
    "sliding": {**BASE, "model": "gpt-oss-20b"},
    "memories": {
        **BASE,
        "model": {
            "preset": "llama-3.1-8b",
            "layouts": [
                {"type": "infini", "segment_length": 300, "delta_rule": True},
                {
                    "type": "compressive",
                    "segment_length": 128,
                    "memory_tokens": 128,
                    "compressed_tokens": 64,
                    "compression_rate": 2,
                },
            ],
        },
    },
    "states alone": {
        **BASE,
        "model": {"preset": "llama-3.1-8b", "layouts": [{"type": "linear"}]},
    },
    "dilations": {
        **BASE,
        "model": {
            "preset": "llama-3.1-8b",
            "layouts": [
                {"type": "dilated-heads", "dilation_rates": [1, 8], "keys_per_query": 64},
                {"type": "dilated", "segment_lengths": [64, 256], "dilation_rates": [1, 2]},
            ],
        },
    },
    "prefill": {**BASE, "workload": {**BASE["workload"], "kind": "prefill"}},
    "one rank": {**BASE, "plan": {}},
    "stored": {**BASE, "precision": "serve-nf4"},
    "cache in groups": {**BASE, "precision": "serve-bf16-kv-int4"},
    "stored on one rank": {**BASE, "precision": "serve-fp8", "plan": {}},
}
CHECKPOINTS = {
    "groups": {**BASE, "precision": {"preset": "bf16-mixed", "quantization": QUANTIZED}},
    "blocks": {
        **BASE,
        "precision": {"preset": "bf16-mixed", "quantization": BLOCKS},
        "plan": {},
    },
}


def numbers(account: MemoryAccount) -> Any:
    return (
        account.stage_bytes,
        account.accelerator_memory_bytes,
        [entry.stage_bytes for entry in account.components],
    )


def complaint(
    path: str, value: Any, base: Scenario, account: MemoryAccount, about: list[Remark]
) -> str:
    inside = path.startswith(QUANTIZATION + ".") and base.precision.quantization is None
    holder = {QUANTIZATION: QUANTIZED} if inside else {}
    try:
        changed = scenario_from_table(scenario_to_table(base), {**holder, path: value})
    except ShardwiseError as error:
        named = QUANTIZATION if path.startswith(QUANTIZATION) else path
        return "" if named in str(error) else f"{path} = {value}: refused without its name: {error}"
    moved = numbers(memory_account(changed)) != numbers(account)
    old: Any = base
    for part in path.split("."):
        old = old.get(part) if isinstance(old, dict) else getattr(old, part, None)
    noted = any(remark.covers(value, old, base) for remark in about)
    if moved == noted:
        return f"{path} = {value}: {'moves, but a note denies it' if moved else 'is silent'}"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_field_moves_memory_or_is_refused_or_noted(name: str) -> None:
    base = scenario_from_table(SCENARIOS[name])
    account = memory_account(base)
    said = remarks(account)
    complaints = [
        complaint(path, value, base, account, [entry for entry in said if entry.names(path)])
        for path in all_paths()
        # What training refuses of these models has tests of its own.
        if path != "workload.kind"
        for value in candidates(base, path)
    ]
    assert len(complaints) > len(all_paths())
    assert [entry for entry in complaints if entry] == []


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_field_of_a_quantization_moves_memory_or_is_refused_or_noted(name: str) -> None:
    base = scenario_from_table(CHECKPOINTS[name])
    account = memory_account(base)
    said = remarks(account)
    complaints = [
        complaint(path, value, base, account, [entry for entry in said if entry.names(path)])
        for path in all_paths()
        if path.startswith(("precision.quantization.", "precision.stored", "precision.weights"))
        for value in candidates(base, path)
        if value != field_value(base, path)
    ]
    assert len(complaints) > 15
    assert [entry for entry in complaints if entry] == []


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_fields_of_training_and_time_are_noted_and_not_refused(kind: str) -> None:
    table = {**BASE, "workload": {**BASE["workload"], "kind": kind}}
    fields = {
        "plan.offload_optimizer": True,
        "plan.offload_activations_num_layers": 2,
        "plan.recompute_modules": ["mlp"],
        "plan.recompute_method": "block",
        "plan.recompute_num_layers": 1,
        "plan.context_parallel_method": "ulysses",
        "cluster.host_bandwidth_bytes_per_s": 5e10,
    }
    base = memory_account(scenario_from_table(table))
    for path, value in fields.items():
        account = memory_account(scenario_from_table(table, {path: value}))
        assert numbers(account) == numbers(base)
        assert any(remark.names(path) for remark in remarks(account)), path
