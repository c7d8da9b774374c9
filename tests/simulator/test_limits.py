"""Inverse questions against brute force: every value tried, one scenario at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodels.errors import PresetNotFoundError, ShardwiseError, SpecError
from costmodels.leaves import field_value
from costmodels.scenario import Scenario, scenario_from_table, scenario_to_table
from simulator.limits import QUESTIONS, Limit, limit
from simulator.whatif import verdict
from tests.simulator.witnesses import FILES, witness

EXAMPLES = 12


def headroom(scenario: Scenario, field: str, value: int) -> int | None:
    """Return the headroom of a value by the verdict of a whole scenario, None where it is refused."""
    table = scenario_to_table(scenario)
    table["plan"].pop("data_parallel_size", None)
    try:
        return verdict(scenario_from_table(table, {field: value})).headroom_bytes
    except ShardwiseError:
        return None


def check(scenario: Scenario, found: Limit, values: Sequence[int]) -> None:
    """Compare an answer with every one of some values, ascending."""
    tried = {value: headroom(scenario, found.field, value) for value in values}
    legal = {value: left for value, left in tried.items() if left is not None}
    fitting = [value for value, left in legal.items() if left >= 0]
    largest = found.sense == "largest"
    if not fitting:
        assert found.found is None
        assert found.next is None
        assert found.closest is not None
        assert legal[found.closest.value] == max(legal.values())
        assert found.closest.memory.headroom_bytes == max(legal.values())
        return
    assert found.closest is None
    assert found.found is not None
    expected = fitting[-1] if largest else fitting[0]
    assert found.found.value == expected
    assert found.found.memory.headroom_bytes == legal[expected]
    beyond = [v for v in legal if (v > expected if largest else v < expected)]
    if beyond:
        following = min(beyond) if largest else max(beyond)
        assert found.next is not None
        assert found.next.value == following
        assert found.next.memory.headroom_bytes == legal[following] < 0
        assert found.growing_component in {e.name for e in found.next.memory.components}
    elif found.next is not None:
        assert found.next.value > max(values)
        assert headroom(scenario, found.field, found.next.value) == (
            found.next.memory.headroom_bytes
        )


SHAPES: Sequence[Mapping[str, Any]] = (
    {},
    {"num_key_value_heads": 8, "intermediate_size": 1024},
    {
        "mixture": {
            "expert_count": 8,
            "experts_per_token": 2,
            "expert_intermediate_size": 64,
            "dense_layers": [0],
        }
    },
    {
        "mixture": {
            "expert_count": 16,
            "experts_per_token": 2,
            "dense_layers": [1, 3],
            "shared_intermediate_size": 128,
        }
    },
    {
        "mixture": {
            "expert_count": 4,
            "experts_per_token": 1,
            "expert_intermediate_size": 16,
            "dense_layers": [0, 1, 2, 5],
        }
    },
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a small model on few accelerators, its memory close to what some plan needs."""
    tensor = draw(st.sampled_from([1, 2, 4]))
    pipeline = draw(st.sampled_from([1, 2, 3, 4]))
    data = draw(st.sampled_from([1, 2, 3, 4]))
    micro = draw(st.sampled_from([1, 2, 3]))
    schedule = draw(st.sampled_from(["1f1b", "gpipe", "interleaved-1f1b"]))
    interleaved = schedule == "interleaved-1f1b"
    rounds = draw(st.integers(1, 4)) * (pipeline if interleaved else 1)
    layers = draw(st.integers(6, 14))
    table: dict[str, Any] = {
        "model": {
            "preset": "gpt-3-175b",
            "num_hidden_layers": layers,
            "hidden_size": 256,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_size": 32,
            "intermediate_size": 512,
            "vocabulary_size": draw(st.sampled_from([128, 1000])),
            "max_position_embeddings": 96,
            **draw(st.sampled_from(SHAPES)),
        },
        "cluster": {
            "preset": f"h100-sxm:{tensor * pipeline * data}",
            "accelerator": {
                "context_bytes": 0,
                "allocator_reserve_bytes": draw(st.sampled_from([0, 1000])),
            },
        },
        "plan": {
            "tensor_parallel_size": tensor,
            "pipeline_parallel_size": pipeline,
            "virtual_stages": 2 if interleaved and pipeline > 1 else 1,
            "schedule": schedule,
            "micro_batch_size": micro,
            "zero_stage": draw(st.integers(0, 3)),
            "recompute": draw(st.sampled_from(["none", "selective", "full"])),
            "sequence_parallel": tensor > 1 and draw(st.booleans()),
            "attention_kernel": draw(st.sampled_from(["flash", "naive"])),
        },
        "workload": {
            "global_batch_size": data * micro * rounds,
            "sequence_length": 8 * draw(st.integers(1, 12)),
        },
    }
    if draw(st.booleans()):
        table["plan"]["data_parallel_size"] = data
    try:
        base = scenario_from_table(table)
    except SpecError:
        assume(False)
    needed = base.cluster.accelerator.memory_bytes - verdict(base).headroom_bytes
    capacity = int(needed * draw(st.floats(0.3, 2.5)))
    path = "cluster.accelerator.memory_bytes"
    return scenario_from_table(scenario_to_table(base), {path: max(capacity, 1)})


@settings(max_examples=EXAMPLES)
@given(scenarios())
def test_micro_batch(scenario: Scenario) -> None:
    found = limit(scenario, "largest", "micro-batch")
    check(scenario, found, range(1, scenario.workload.global_batch_size + 1))


@settings(max_examples=EXAMPLES)
@given(scenarios())
def test_sequence_length(scenario: Scenario) -> None:
    check(scenario, limit(scenario, "largest", "sequence-length"), range(1, 98))


@settings(max_examples=EXAMPLES)
@given(scenarios())
def test_layers(scenario: Scenario) -> None:
    found = limit(scenario, "largest", "layers")
    most = max(60, 2 * found.found.value if found.found else 0)
    check(scenario, found, range(1, most + 1))


@settings(max_examples=EXAMPLES)
@given(scenarios())
def test_gpus(scenario: Scenario) -> None:
    found = limit(scenario, "smallest", "gpus")
    check(scenario, found, range(1, 16 * scenario.workload.global_batch_size + 1))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("sense", "quantity"), [(sense, name) for sense, known in QUESTIONS.items() for name in known]
)
def test_the_next_value_of_a_witness_does_not_fit(name: str, sense: str, quantity: str) -> None:
    scenario = witness(name)
    if quantity == "batch":
        with pytest.raises(SpecError, match="ask for the largest micro-batch"):
            limit(scenario, sense, quantity)
        return
    found = limit(scenario, sense, quantity)
    assert found.stated_value == field_value(scenario, found.field)
    if found.found is not None:
        assert headroom(scenario, found.field, found.found.value) == (
            found.found.memory.headroom_bytes
        )
        assert found.found.memory.fits
    if found.next is not None:
        assert not found.next.memory.fits


def test_layers_that_are_stated_by_stage_do_not_vary() -> None:
    found = limit(witness("zero-2-gpipe"), "largest", "layers")
    assert witness("zero-2-gpipe").plan.layers_per_stage is not None
    assert found.found is not None
    assert (found.found.value, found.next) == (32, None)


@pytest.mark.parametrize(("sense", "name"), [("largest", "gpus"), ("smallest", "layers")])
def test_other_questions_are_refused(sense: str, name: str) -> None:
    with pytest.raises((SpecError, PresetNotFoundError), match=f"unknown {sense} value '{name}'"):
        limit(witness("one-gpu"), sense, name)
