"""Recomputation of groups of layers, and of the first layers of each chunk, counted layer by layer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from tests.costmodels.witnesses import witness

LAYERS = 32


def found(*names: str, **plan: Any) -> list[Any]:
    """Return quantities of every stage and chunk of Llama 3.1 8B with full recomputation."""
    changes = {f"plan__{name}": value for name, value in plan.items()}
    scenario = witness("small", **{"plan__recompute": "full", **changes})
    values = evaluate(compile_columns(scenario), names)
    return [_plain(values[name]) for name in names]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return value.reshape(-1)[0].item()


LAYER = ("layer_input_bytes", "layer_activation_bytes", "embedding_saved_bytes", "head_saved_bytes")


@given(
    groups=st.integers(1, 40),
    stages=st.sampled_from([1, 2, 4]),
    method=st.sampled_from(["uniform", "block"]),
)
def test_a_chunk_keeps_inputs_of_groups_or_all_of_the_rest(
    groups: int, stages: int, method: str
) -> None:
    plan = {
        "pipeline_parallel_size": stages,
        "layers_per_stage": None if stages == 1 else [LAYERS // stages] * stages,
        "recompute_method": method,
        "recompute_num_layers": groups,
    }
    kept, layers, *sizes = found("chunk_activation_bytes", "chunk_layers", *LAYER, **plan)
    entering, (whole,), embedding, head = sizes
    for stage, (chunk,) in enumerate(kept):
        held = 0
        for layer in range(layers[stage][0]):
            if method == "block":
                held += entering if layer < groups else whole
            elif layer % groups == 0:
                held += entering
        held += embedding * (stage == 0) + head * (stage == stages - 1)
        assert chunk == held


def test_a_group_is_computed_again_at_once() -> None:
    (one,), (four,), (_, (whole,), *_) = (
        *found("layer_transient_bytes"),
        *found("layer_transient_bytes", recompute_num_layers=4),
        found(*LAYER),
    )
    assert four - one == 3 * whole


def test_work_and_time_are_those_of_the_layers_that_are_repeated() -> None:
    names = ("stage_recompute_flop", "chunk_recompute_s", "chunk_backward_flop")
    (all_flop,), ((all_s,),), _ = found(*names)
    block = {"recompute_method": "block", "recompute_num_layers": 8}
    (some_flop,), ((some_s,),), ((some_backward,),) = found(*names, **block)
    assert some_flop == all_flop / 4
    assert some_s == pytest.approx(all_s / 4, rel=1e-12)
    _, _, ((none_backward,),) = found(*names, recompute="none")
    _, _, ((all_backward,),) = found(*names)
    assert all_backward - none_backward == 4 * (some_backward - none_backward)
    grouped = found(*names, recompute_num_layers=4)
    assert grouped == found(*names)


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_tensor_parallel_ranks_reduce_again_for_repeated_layers_only(
    sequence_parallel: bool,
) -> None:
    plan = {"tensor_parallel_size": 4, "sequence_parallel": sequence_parallel}
    name = "backward_ring_passes" if sequence_parallel else "backward_all_reduces"
    ((none,),) = found(name, recompute="none", **plan)[0]
    ((full,),) = found(name, **plan)[0]
    ((some,),) = found(name, recompute_method="block", recompute_num_layers=5, **plan)[0]
    repeated = 2 * (2 if sequence_parallel else 1)
    assert full - none == repeated * LAYERS
    assert some - none == repeated * 5


def test_components_add_up_where_some_layers_are_repeated() -> None:
    from simulator.accounting import memory_account

    scenario = witness(
        "small",
        plan__recompute="full",
        plan__recompute_method="block",
        plan__recompute_num_layers=3,
        plan__pipeline_parallel_size=2,
    )
    account = memory_account(scenario)
    for stage, total in enumerate(account.stage_bytes):
        assert sum(entry.stage_bytes[stage] for entry in account.components) == total
    assert account.component("layer_input_activations_bytes").stage_bytes[1] > 0
    assert account.component("ffn_activations_bytes").stage_bytes[1] > 0


def test_first_layers_are_counted_by_their_kind() -> None:
    """The dense layer comes first, so that block recomputation of one layer leaves the experts."""
    scenario = witness(
        "mixture",
        plan={"recompute": "full", "recompute_method": "block", "recompute_num_layers": 1},
        model__mixture__dense_layers=[0],
    )
    values = evaluate(compile_columns(scenario), ["kind_kept_layers", "chunk_layer_count"])
    ((dense, routed),) = values["kind_kept_layers"][0]
    assert (int(dense[0]), int(routed[0])) == (0, 31)
