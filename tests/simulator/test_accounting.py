"""Accounts are the estimate's numbers in parts: they add up, and nothing is left over."""

from typing import Any

import msgspec
import pytest

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_columns
from costmodels.pipelining.actions import ActionKind
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.scenario import Scenario, scenario_from_table
from costmodels.specs.plan import Recompute
from simulator import whatif
from simulator.accounting import (
    MemoryAccount,
    memory_account,
    memory_components,
    traffic_account,
    work_account,
)
from simulator.accounting.table import Table
from simulator.derivation import derive
from tests.costmodels.witnesses import WITNESSES
from tests.costmodels.witnesses import witness as table_witness
from tests.simulator.witnesses import FILES, witness


def _scenarios() -> list[Any]:
    """Return every witness, with each way to recompute and each stage of sharding."""
    bases = {name: witness(name) for name in FILES} | {
        f"table-{name}": table_witness(name) for name in WITNESSES
    }
    found = []
    for name, base in bases.items():
        for recompute in Recompute:
            for zero in range(4):
                if zero == 0 and base.plan.sharding_group_size:
                    continue
                if zero == 3 and base.precision.stored_weights:
                    continue
                plan = msgspec.structs.replace(base.plan, recompute=recompute, zero_stage=zero)
                scenario = msgspec.structs.replace(base, plan=plan)
                found.append(pytest.param(scenario, id=f"{name}-{recompute.value}-{zero}"))
    return found


def _scheduled() -> list[Any]:
    """Return a dense model and one of experts that predicts further, under every schedule."""
    found = []
    for name, schedule in SCHEDULES.items():
        sizes = {"pipeline_parallel_size": 4, "microbatch_count": 16}
        chunks = next(v for v in (1, 2) if schedule.legal(virtual_stages=v, **sizes))
        for model, zero in (("llama-3.1-8b", 0), ("deepseek-v3", 1)):
            plan = {
                "pipeline_parallel_size": 4,
                "virtual_stages": chunks,
                "schedule": name.value,
                "zero_stage": zero,
                "expert_parallel_size": 1 + zero,
                "tensor_parallel_size": 2 - zero,
                "scatter_gather_handovers": not zero,
                "recompute": "full" if zero else "none",
            }
            table = {
                "model": model,
                "cluster": "h100-sxm:8",
                "precision": "bf16-mixed",
                "plan": plan,
                "workload": {"global_batch_size": 32, "sequence_length": 1024},
            }
            scenario = scenario_from_table(table)
            found.append(pytest.param(scenario, id=f"{name.value}-{model}"))
    return found


SCENARIOS = _scenarios() + _scheduled()
EVERY = pytest.mark.parametrize("scenario", SCENARIOS)


@EVERY
def test_components_add_up_to_each_stages_memory_exactly(scenario: Scenario) -> None:
    account = memory_account(scenario)
    for stage, size_bytes in enumerate(account.stage_bytes):
        assert sum(entry.stage_bytes[stage] for entry in account.components) == size_bytes
    assert all(size >= 0 for entry in account.components for size in entry.stage_bytes)


@EVERY
def test_parts_add_up_to_each_part_of_the_estimate(scenario: Scenario) -> None:
    account = memory_account(scenario)
    answer = whatif.estimate(scenario, ignore_memory=True)
    for part in {entry.part_of for entry in account.components}:
        stated = answer.memory[part]
        for stage in range(len(account.stage_bytes)):
            own = sum(e.stage_bytes[stage] for e in account.components if e.part_of == part)
            assert own == (stated[stage] if isinstance(stated, list) else stated), part
    assert account.stage_bytes == answer.memory["stage_bytes"]
    assert account.headroom_bytes == answer.memory["headroom_bytes"]
    assert account.worst_stage_index == answer.memory["worst_stage_index"]
    assert account.fits == answer.fits
    worst = account.worst_stage_index
    assert account.headroom_bytes == account.accelerator_memory_bytes - account.stage_bytes[worst]
    largest = account.component(account.worst_component).stage_bytes[worst]
    assert largest == max(entry.stage_bytes[worst] for entry in account.components)


@EVERY
def test_messages_add_up_to_what_the_estimate_says_of_each_axis(scenario: Scenario) -> None:
    account = traffic_account(scenario)
    traffic = whatif.estimate(scenario, ignore_memory=True).communication
    axes = {
        "tensor_bytes": ("tensor",),
        "sequence_bytes": ("sequence",),
        "context_bytes": ("context",),
        "expert_bytes": ("expert",),
        "pipeline_bytes": ("pipeline", "tied embedding"),
        "data_bytes": ("data",),
        "network_bytes": None,
        "scale_up_bytes": None,
    }
    for name, own in axes.items():
        for stage, stated in enumerate(traffic[name]):
            rows = [m for m in account.messages if own is None or m.axis in own]
            field = "sent_bytes" if own else name
            added = sum(getattr(message, field)[stage] for message in rows)
            assert added == pytest.approx(stated, rel=1e-12, abs=1e-3), (name, stage)
    assert account.sent_bytes == traffic["sent_bytes"]
    assert account.received_bytes == pytest.approx(account.sent_bytes, rel=1e-12)
    assert account.busiest_stage_index == traffic["busiest_stage_index"]
    for name in ("device_to_host_bytes", "host_to_device_bytes"):
        assert getattr(account, name) == traffic[name]


@EVERY
def test_a_call_sends_what_its_algorithm_says(scenario: Scenario) -> None:
    for message in traffic_account(scenario).messages:
        size = message.group_size
        assert size >= 2
        passes = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1}
        for stage, calls in enumerate(message.calls):
            assert calls == int(calls)
            own = passes.get(message.collective)
            payload = message.payload_bytes[stage]
            share = payload if own is None else own * (size - 1) * payload / size
            sent = message.call_sent_bytes[stage]
            # Each shard is rounded up to a whole element, of eight bytes at most; of buckets of
            # unlike sizes both are means, which are no whole numbers.
            padded = sent - share
            assert -1e-12 * share <= padded < 8 * (own or 0) * (size - 1) + 1
            assert message.sent_bytes[stage] == pytest.approx(calls * sent, rel=1e-15)


@EVERY
def test_work_adds_up(scenario: Scenario) -> None:
    account = work_account(scenario)
    compute = whatif.estimate(scenario, ignore_memory=True).compute
    model = hardware = 0.0
    for entry in account.components:
        model += sum(entry.model_forward_flop) + sum(entry.model_backward_flop)
        hardware += sum(entry.hardware_forward_flop) + sum(entry.hardware_backward_flop)
        # Weights beside adapters are frozen: no product for their gradients.
        frozen = scenario.precision.adapters and entry.name not in ("scores", "adapter")
        gradients = 1 if frozen else 2
        assert entry.model_backward_flop == [gradients * flop for flop in entry.model_forward_flop]
    hardware += sum(account.recompute_flop)
    assert account.model_flop == compute["model_flop"] == pytest.approx(model, rel=1e-12)
    assert account.hardware_flop == compute["hardware_flop"] == pytest.approx(hardware, rel=1e-12)
    ratios = {entry.name: entry.model_ratio for entry in account.conventions}
    assert ratios["model_flop"] == 1.0


@pytest.mark.parametrize("name", FILES)
def test_work_of_networks_is_that_of_their_weights(name: str) -> None:
    names = (
        "layer_ffn_flop",
        "layer_model_ffn_flop",
        "microbatch_tokens",
        "sequence_length",
        "tensor_parallel_size",
        "shared_matrix_parameters",
        "experts_per_token",
        "expert_matrix_parameters",
    )
    found = evaluate(compile_columns(witness(name)), names)
    filled = witness(name).plan.expert_capacity_factor or 1
    one = {key: int(found[key][0]) for key in names[2:5]}
    for kind, executed in enumerate(found["layer_ffn_flop"]):
        shared = int(found["shared_matrix_parameters"][kind][0])
        routed = int(found["experts_per_token"][kind]) * int(
            found["expert_matrix_parameters"][kind][0]
        )
        share = one["tensor_parallel_size"]
        weights = shared + filled * routed
        assert int(executed[0]) == 2 * one["microbatch_tokens"] * weights // share
        needed = int(found["layer_model_ffn_flop"][kind][0])
        assert needed == 2 * one["sequence_length"] * (shared + routed)


def _chunk_bytes(scenario: Scenario) -> list[list[int]]:
    """Return what a microbatch keeps, by stage and chunk."""
    sizes: list[list[int]] = Table(scenario, ("chunk_activation_bytes",)).stages(
        "chunk_activation_bytes"
    )
    return sizes


def _most_held(scenario: Scenario, stage: int, sizes: list[int]) -> int:
    """Return the most bytes that a rank holds while its order is played."""
    plan = scenario.plan
    found = evaluate(compile_columns(scenario), ("microbatch_count",))
    order = SCHEDULES[plan.schedule].order(
        pipeline_parallel_size=plan.pipeline_parallel_size,
        virtual_stages=plan.virtual_stages,
        microbatch_count=int(found["microbatch_count"][0]),
    )
    held = most = 0
    for action in order[stage]:
        size = sizes[action.stage // plan.pipeline_parallel_size]
        held += size if action.kind is ActionKind.FORWARD else -size
        most = max(most, held)
    return most


@pytest.mark.parametrize("name", FILES)
def test_chunks_in_flight_are_those_of_the_schedule_played(name: str) -> None:
    scenario = witness(name)
    account = memory_account(scenario)
    sizes = _chunk_bytes(scenario)
    for stage, counts in enumerate(account.chunk_in_flight_count):
        held = sum(count * size for count, size in zip(counts, sizes[stage], strict=True))
        assert held == _most_held(scenario, stage, sizes[stage])
        assert sum(counts) <= account.in_flight_count[stage]


def test_one_chunk_in_flight_is_min_of_depth_and_microbatches() -> None:
    account = memory_account(witness("llama-405b-example"))
    assert [counts[0] for counts in account.chunk_in_flight_count] == list(range(16, 0, -1))
    assert account.in_flight_count == list(range(16, 0, -1))


def test_every_component_and_message_can_be_derived() -> None:
    scenario = witness("interleaved")
    columns = compile_columns(scenario)
    names = [name for name, _ in memory_components() if name in CATALOGUE]
    names += ["hidden_all_reduce_sent_bytes", "stage_ffn_forward_flop", "palm_flop"]
    for name in names:
        assert derive(scenario, columns, name).value is not None


def _gpt() -> Scenario:
    return scenario_from_table(
        {
            "model": "gpt-3-175b",
            "cluster": "a100-80gb-sxm:64",
            "plan": {"tensor_parallel_size": 8, "pipeline_parallel_size": 8},
            "workload": {"global_batch_size": 1536, "sequence_length": 2048},
        }
    )


def test_published_conventions_of_gpt() -> None:
    scenario = _gpt()
    flop = {entry.name: entry.flop for entry in work_account(scenario).conventions}
    batch, s, layers, h = 1536, 2048, 96, 12288
    v = scenario.model.vocabulary_size
    n = whatif.estimate(scenario, ignore_memory=True).parameters["total_parameters"]
    ours = 72 * batch * layers * s * h**2 * (1 + s / (6 * h) + v / (12 * h * layers))
    theirs = 96 * batch * s * layers * h**2 * (1 + s / (6 * h) + v / (16 * layers * h))
    assert flop["megatron_flop"] == pytest.approx(ours, rel=1e-12)
    assert flop["megatron_recompute_flop"] == pytest.approx(theirs, rel=1e-12)
    assert flop["six_nd_flop"] == pytest.approx(6 * n * batch * s, rel=1e-12)
    palm = (6 * n + 12 * layers * 96 * 128 * s) * batch * s
    assert flop["palm_flop"] == pytest.approx(palm, rel=1e-12)
    causal = (6 * n + 6 * layers * 96 * 128 * s) * batch * s
    assert flop["palm_causal_flop"] == pytest.approx(causal, rel=1e-12)
    # Megatron counts every pair and the head once: our count without a mask.
    assert flop["full_attention_flop"] == pytest.approx(flop["megatron_flop"], rel=1e-12)


def test_active_parameters_count_in_a_mixture() -> None:
    scenario = witness("mixtral-nodes")
    parameters = whatif.estimate(scenario).parameters
    flop = {entry.name: entry.flop for entry in work_account(scenario).conventions}
    ratio = parameters["total_parameters"] / parameters["active_parameters"]
    assert flop["six_nd_flop"] / flop["six_active_nd_flop"] == pytest.approx(ratio)


def test_accounts_are_plain_json() -> None:
    account = memory_account(witness("interleaved"))
    text = msgspec.json.encode(account)
    assert msgspec.json.decode(text, type=MemoryAccount) == account


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 2.0])
def test_model_flop_are_without_the_assignments_that_a_capacity_cuts(factor: float) -> None:
    # Equal shares of 4096 x 2 rows on 8 experts: the factors cut whole rows.
    table: dict[str, Any] = {
        "model": "mixtral-8x7b",
        "cluster": "h100-sxm:32",
        "plan": {"expert_parallel_size": 8, "zero_stage": 1, "micro_batch_size": 2},
        "workload": {"global_batch_size": 1024, "sequence_length": 4096},
    }
    names = ("layer_model_ffn_flop", "model_flop", "hardware_flop")
    whole = evaluate(compile_columns(scenario_from_table(table)), names)
    bounded = scenario_from_table(table, {"plan.expert_capacity_factor": factor})
    found = evaluate(compile_columns(bounded), names)
    kept = min(1, factor)
    for ours, needed in zip(found[names[0]], whole[names[0]], strict=True):
        assert int(ours[0]) == kept * int(needed[0])
    assert float(found["model_flop"][0]) <= float(found["hardware_flop"][0])
    said = [note for note in whatif.estimate(bounded, ignore_memory=True).notes if "cuts" in note]
    assert [f"cuts {1 - kept:g} of the assignments" in note for note in said] == [True] * (kept < 1)
