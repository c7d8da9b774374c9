"""Activations on the host equal, to the byte, what a decoder moves."""

import pytest

from costmodels.scenario import scenario_from_table, scenario_to_table
from costmodels.specs.plan import Recompute
from validation import adapter_counts
from validation.cases import passed
from validation.offloaded_tensors import DEEP, NAMES, Setting, offloaded_cases, offloaded_scenario
from validation.small_models import MODELS, model_table, predicted, scenario_of

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ["grouped queries", "shared experts"])
def test_layers_leave_stay_and_come_back_as_is_said(name: str) -> None:
    cases = offloaded_cases({name: MODELS[name]})
    assert len(cases) == 4 * 2 * 3
    assert [case for case in cases if not passed(case)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"grouped queries", "shared experts"}))
def test_layers_of_every_model_leave_as_is_said(name: str) -> None:
    cases = offloaded_cases({name: MODELS[name]})
    assert [case for case in cases if not passed(case)] == []


@pytest.mark.slow
def test_groups_of_layers_leave_as_is_said() -> None:
    cases = offloaded_cases({DEEP: model_table(gated=True, num_hidden_layers=5)})
    assert len(cases) == (4 * 2 + 2 * 5) * 3
    assert [case for case in cases if not passed(case)] == []


@pytest.mark.slow
@pytest.mark.parametrize("recompute", Recompute)
def test_layers_with_adapters_leave_and_the_first_input_stays(recompute: Recompute) -> None:
    """The output of a frozen embedding is a leaf: it stays, unless a table of positions is added."""
    from validation.torch_programs.offloading import Repeated, offloaded_step

    link = {"cluster.host_bandwidth_bytes_per_s": 1e10}
    for name, chosen in adapter_counts.settings():
        table, targets = MODELS[name], adapter_counts.TARGETS[chosen]
        base = scenario_to_table(adapter_counts.scenario(table, targets, recompute=recompute))
        for layers in (1, 2):
            described = scenario_from_table(
                base, {"plan.offload_activations_num_layers": layers, **link}
            )
            said = predicted(described, ("chunk_offloaded_bytes", "chunk_activation_bytes"))
            moved = offloaded_step(
                described.model,
                layers,
                described.plan.micro_batch_size,
                described.workload.sequence_length,
                Repeated(recompute),
                described.precision.adapters,
            )
            left, kept = (value[0][0] for value in said.values())
            assert moved == (left, kept, left), (name, chosen, layers)


def test_what_a_stage_received_stays_for_its_gradient() -> None:
    """A schedule hands the gradient of what it received back: one input of a layer is there twice."""
    from validation.torch_programs.blocks import Block
    from validation.torch_programs.offloading import Group
    from validation.torch_programs.saving import storage_identity

    table = {**MODELS["gated"], "num_hidden_layers": 4}
    scenario = scenario_of(
        table,
        replicas=2,
        plan={
            "saved_tensors": "torch-eager-cpu",
            "pipeline_parallel_size": 2,
            "offload_activations_num_layers": 1,
        },
        cluster={"host_bandwidth_bytes_per_s": 1e10},
    )
    block = Block(scenario.model, 2)
    received = torch.randn(2, 8, 24, requires_grad=True)
    group = Group(set(map(storage_identity, block.parameters())))
    with group.open():
        out = block(received)
    said = predicted(scenario, ("chunk_offloaded_bytes", "chunk_retained_input_bytes"))
    assert group.host_bytes == said["chunk_offloaded_bytes"][1][0]
    assert group.remaining_bytes == said["chunk_retained_input_bytes"][1][0] == received.nbytes
    assert said["chunk_retained_input_bytes"][0][0] == 0
    out.sum().backward()
    assert received.grad is not None


def test_the_suite_has_every_kind_of_layer() -> None:
    assert set(NAMES) <= MODELS.keys()


def test_what_save_on_cpu_copies_is_more() -> None:
    """It is handed weights too, and a tensor once for each operation that saves it."""
    from validation.torch_programs.blocks import Block
    from validation.torch_programs.offloading import copied_by_save_on_cpu

    scenario = offloaded_scenario(MODELS["gated"], Setting(1))
    block = Block(scenario.model, 0)
    copied = copied_by_save_on_cpu(block, torch.randn(2, 8, 24, requires_grad=True))
    assert copied.weights_bytes == sum(weight.nbytes for weight in block.parameters())
    (said,) = predicted(scenario, ("layer_activation_bytes",))["layer_activation_bytes"]
    # At the least what the norms give, which three matrices save, and then two.
    assert copied.activations_bytes >= said + 3 * 2 * 8 * 24 * 4


def test_a_storage_that_others_hold_has_not_left() -> None:
    from validation.torch_programs.offloading import Group
    from validation.torch_programs.saving import storage_identity

    weight = torch.nn.Parameter(torch.randn(3, 3))
    hidden = torch.randn(5, 3, requires_grad=True)
    group = Group({storage_identity(weight)})
    with group.open():
        out = (hidden @ weight).relu()
    assert (group.host_bytes, group.returned_bytes) == (2 * 5 * 3 * 4, 0)
    assert group.remaining_bytes == 2 * 5 * 3 * 4  # by `hidden` and `out`
    out.sum().backward()
    assert group.returned_bytes == group.host_bytes
    assert torch.equal(weight.grad, hidden.T @ (out > 0).to(out.dtype))
