"""Modules of layers that selective recomputation is for: bytes, work, messages, time, and refusals."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from tests.costmodels.witnesses import witness

DENSE = ("core_attn", "mlp", "layernorm")
LATENT = (*DENSE, "moe", "shared_experts", "moe_act", "mla_up_proj")
TWICE = ("moe_act", "shared_experts")


def scenario(*modules: str, base: str = "small", **changes: Any) -> Any:
    again = {"plan__recompute": "selective", "plan__recompute_modules": list(modules)}
    return witness(base, **{**(again if modules else {}), **changes})


def found(name: str, *modules: str, **changes: Any) -> list[Any]:
    """Return a quantity of each kind of layer, or stage."""
    value = evaluate(compile_columns(scenario(*modules, **changes)), [name])[name]
    members = value if isinstance(value, tuple) else (value,)
    return [_plain(member) for member in members]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return value.reshape(-1)[0].item()


def test_a_dense_network_keeps_its_input_alone() -> None:
    """Llama 3.1 8B, 1024 tokens in 16 bits: three tensors of 14336, norms' outputs of 4096."""
    (whole,) = found("layer_stored_bytes")
    (without_network,) = found("layer_stored_bytes", "mlp")
    (without_norms,) = found("layer_stored_bytes", "layernorm")
    assert whole - without_network == 1024 * 3 * 14336 * 2
    assert whole - without_norms == 1024 * 2 * 4096 * 2
    (work,) = found("layer_recompute_flop", "mlp")
    assert work == 2 * 1024 * 3 * 4096 * 14336
    assert found("layer_recompute_flop", "layernorm") == [0]


def test_latent_heads_and_experts() -> None:
    """DeepSeek-V3: 61 layers, the first three without experts."""
    changes: dict[str, Any] = {"model": "deepseek-v3"}
    whole = found("layer_stored_bytes", **changes)
    heads = found("layer_stored_bytes", "mla_up_proj", **changes)
    saved = 1024 * 128 * (2 * 192 + 128 + 128) * 2
    assert [a - b for a, b in zip(whole, heads, strict=True)] == [saved, saved]
    functions = found("layer_stored_bytes", "moe_act", **changes)
    assert [a - b for a, b in zip(whole, functions, strict=True)] == [0, 1024 * 8 * 2048 * 2]
    products = 128 * (1536 * 192 + 512 * 256)
    assert found("layer_recompute_flop", "mla_up_proj", **changes) == [2 * 1024 * products] * 2
    network = found("layer_recompute_flop", "moe", **changes)
    rows = 2 * 1024 * (9 * 3 * 7168 * 2048 + 7168 * 256)
    assert network == [0, rows]
    shared = found("layer_stored_bytes", "shared_experts", **changes)
    assert [a - b for a, b in zip(whole, shared, strict=True)] == [0, 1024 * 3 * 2048 * 2]
    work = found("layer_recompute_flop", "shared_experts", **changes)
    assert work == [0, 2 * 1024 * 3 * 7168 * 2048]


@settings(max_examples=30)
@given(st.sets(st.sampled_from(LATENT), min_size=1))
def test_modules_add_up(chosen: set[str]) -> None:
    """Together they save, repeat and take what each does alone."""
    if "moe" in chosen:
        chosen = chosen.difference(TWICE)
    for name in ("layer_repeated_bytes", "layer_recompute_flop", "layer_recompute_s"):
        together = found(name, *sorted(chosen), model="deepseek-v3")
        each = [found(name, module, model="deepseek-v3") for module in sorted(chosen)]
        assert together == pytest.approx([sum(kinds) for kinds in zip(*each, strict=True)])


def test_components_add_up_and_every_module_keeps_less() -> None:
    from simulator.accounting import memory_account

    base: dict[str, Any] = {
        "model": "deepseek-v3",
        "cluster": "h100-sxm:64",
        "plan": {"zero_stage": 3},
    }
    kept = {}
    for modules in ((), *((module,) for module in LATENT), *combinations(LATENT, 2)):
        if not modules or (modules[0] == "moe" and set(modules) & set(TWICE)):
            continue
        account = memory_account(scenario(*modules, **base, workload__global_batch_size=64))
        (total,) = account.stage_bytes
        assert sum(entry.stage_bytes[0] for entry in account.components) == total
        kept[modules] = found(
            "activations_bytes", *modules, **base, workload__global_batch_size=64
        )[0]
    for pair in combinations(LATENT, 2):
        if pair in kept:
            assert kept[pair] < min(kept[pair[:1]], kept[pair[1:]])


def test_networks_repeat_their_collectives_and_norms_do_not() -> None:
    for sequence_parallel, name in (
        (False, "backward_all_reduces"),
        (True, "backward_ring_passes"),
    ):
        changes = {"plan__tensor_parallel_size": 4, "plan__sequence_parallel": sequence_parallel}
        ((none,),) = found(name, **changes)
        ((network,),) = found(name, "mlp", **changes)
        assert network - none == 32 * (2 if sequence_parallel else 1)
        assert found(name, "layernorm", "core_attn", **changes) == [[none]]
    experts = {"base": "mixture", "plan__expert_parallel_size": 4, "plan__zero_stage": 1}
    ((sent,),) = found("chunk_backward_expert_bytes", **experts)
    ((again,),) = found("chunk_backward_expert_bytes", "moe", **experts)
    assert again == 2 * sent
    assert found("chunk_backward_expert_bytes", "moe_act", **experts) == [[sent]]


def test_shared_experts_repeat_their_own_collectives_and_no_exchange() -> None:
    """Shared ones gather and scatter among tensor ranks: in 58 layers and one that predicts further."""
    apart: dict[str, Any] = {
        "model": "deepseek-v3",
        "plan__tensor_parallel_size": 4,
        "plan__sequence_parallel": True,
        "plan__expert_parallel_size": 8,
        "plan__expert_tensor_parallel_size": 1,
        "plan__zero_stage": 1,
        "cluster": "h100-sxm:64",
        "workload__global_batch_size": 64,
    }
    ((none,),) = found("backward_ring_passes", **apart)
    ((again,),) = found("backward_ring_passes", "shared_experts", **apart)
    assert again - none == 2 * 59
    sent = found("chunk_backward_expert_bytes", **apart)
    assert found("chunk_backward_expert_bytes", "shared_experts", **apart) == sent


def test_the_peak_has_one_layer_computed_again() -> None:
    """Five times as many layers hold no more of what is computed again."""
    for modules in (("mlp",), ("core_attn", "layernorm", "mlp")):
        few, many = (
            found("layer_transient_bytes", *modules, model__num_hidden_layers=layers)
            for layers in (4, 20)
        )
        assert few == many
    (none,) = found("layer_transient_bytes")
    (network,) = found("layer_transient_bytes", "mlp")
    assert network - none == 3 * 1024 * 14336 * 2


def test_rows_of_columns_have_the_list_of_their_base() -> None:
    rows = {"plan.recompute": ["none", "selective", "full"]}
    base = scenario("mlp", "layernorm")
    names = ("layer_stored_bytes", "layer_recompute_flop", "layer_recompute_s")
    together = evaluate(compile_columns(base, rows), names)
    for row, policy in enumerate(rows["plan.recompute"]):
        alone = evaluate(
            compile_columns(scenario("mlp", "layernorm", plan__recompute=policy)), names
        )
        for name in names:
            assert np.broadcast_to(together[name][0], 3)[row] == alone[name][0][0]
    with pytest.raises(SpecError, match=r"plan\.recompute_modules: rows .* cannot vary in it"):
        compile_columns(base, {"plan.recompute_modules": ["mlp", "moe"]})


@pytest.mark.parametrize("modules", [[], ["mlp", "mlp"]])
def test_modules_are_named_once(modules: list[str]) -> None:
    with pytest.raises(SpecError, match=r"plan\.recompute_modules .*: must name some of core_attn"):
        witness("small", plan__recompute_modules=modules)
