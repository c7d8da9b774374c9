"""Scenarios as files: written and read without loss, human units, and one clear error."""

import copy
import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import PresetNotFoundError, ShardwiseError, SpecError
from costmodels.presets import FOLDERS, preset_names
from costmodels.scenario import (
    Scenario,
    field_paths,
    scenario_from_table,
    scenario_from_toml,
    scenario_hash,
    scenario_to_table,
    scenario_to_toml,
)
from tests.costmodels.witnesses import SMALL, WITNESSES, witness

# Reading and writing


@pytest.mark.parametrize("name", WITNESSES)
def test_a_file_loses_nothing(name: str) -> None:
    scenario = witness(name)
    text = scenario_to_toml(scenario)
    again = scenario_from_toml(text)
    assert again == scenario
    assert scenario_to_toml(again) == text
    assert scenario_hash(again) == scenario_hash(scenario)


@given(
    count=st.integers(1, 64),
    micro=st.integers(1, 4),
    overlap=st.booleans(),
    recompute=st.sampled_from(["none", "selective", "full"]),
    bandwidth=st.floats(1.0, 1e20),
    latency=st.floats(0.0, 1.0),
    tokens=st.none() | st.integers(1, 10**18),
    name=st.text(min_size=1, max_size=30),
)
def test_any_scenario_survives_a_file(
    count: int,
    micro: int,
    overlap: bool,
    recompute: str,
    bandwidth: float,
    latency: float,
    tokens: int | None,
    name: str,
) -> None:
    scenario = witness(
        "small",
        model__name=name,
        cluster__accelerator_count=count,
        cluster__network__bandwidth_bytes_per_s=bandwidth,
        cluster__network__latency_s=latency,
        plan__micro_batch_size=micro,
        plan__overlap_gradient_reduction=overlap,
        plan__recompute=recompute,
        workload__global_batch_size=count * micro,
        workload__total_tokens=tokens,
    )
    assert scenario_from_toml(scenario_to_toml(scenario)) == scenario


def test_sources_of_values_are_kept() -> None:
    scenario = witness("small")
    link = scenario.cluster.network
    assert link.sources["bandwidth_bytes_per_s"].basis == "datasheet"
    assert "peak_flop_per_s.bf16" in scenario.cluster.accelerator.sources
    again = scenario_from_toml(scenario_to_toml(scenario))
    assert again.cluster.network.sources == link.sources


@pytest.mark.parametrize(("path", "value"), [("plan.zero_stage", 1), ("workload.optimizer", "sgd")])
def test_the_hash_moves_with_a_field(path: str, value: object) -> None:
    assert scenario_hash(scenario_from_table(SMALL, {path: value})) != scenario_hash(
        witness("small")
    )


def test_equal_inputs_have_equal_hashes_however_they_are_stated() -> None:
    stated = scenario_from_toml(
        """
        cluster = "h100-sxm"
        [model]
        preset = "llama-3.1-8b"
        [plan]
        zero_stage = 0
        [workload]
        sequence_length = "1k"
        global_batch_size = 16
        total_tokens = "1T"
        """,
        {"cluster.accelerator_count": "8"},
    )
    assert stated == witness("small")
    assert scenario_hash(stated) == scenario_hash(witness("small"))


def test_the_table_that_is_read_stays_as_it_is() -> None:
    table = copy.deepcopy(dict(SMALL))
    scenario_from_table(table, {"cluster.accelerator.power_w": 1, "model.mixture": None})
    assert table == SMALL


# Human input


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"workload.sequence_length": "8k"}, "workload.sequence_length", 8192),
        ({"workload.total_tokens": "15.6T"}, "workload.total_tokens", 15_600_000_000_000),
        ({"workload.global_batch_size": "1M-tokens"}, "workload.global_batch_size", 1024),
        (
            {"workload.global_batch_size": "16M-tokens", "workload.sequence_length": "8k"},
            "workload.global_batch_size",
            2048,
        ),
        (
            {"cluster.accelerator.memory_bytes": "80 GB"},
            "cluster.accelerator.memory_bytes",
            8 * 10**10,
        ),
        ({"cluster.network.latency_s": "5 us"}, "cluster.network.latency_s", 5e-6),
        ({"plan.zero_stage": "2"}, "plan.zero_stage", 2),
        ({"plan.overlap_parameter_gather": "no"}, "plan.overlap_parameter_gather", False),
        ({"plan.layers_per_stage": "[32]"}, "plan.layers_per_stage", (32,)),
        ({"plan.layers_per_stage": "none"}, "plan.layers_per_stage", None),
        ({"model.mixture": "none"}, "model.mixture", None),
    ],
)
def test_text_is_read_as_people_write_it(changes: dict[str, Any], path: str, value: object) -> None:
    found: Any = scenario_from_table(SMALL, changes)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_a_cluster_is_named_with_its_size() -> None:
    scenario = scenario_from_table({**SMALL, "cluster": "a100-80gb-sxm:16"})
    assert scenario.cluster.accelerator_count == 16


CPU = "one core of a generic x86-64 CPU"


@pytest.mark.parametrize(
    "cluster",
    [
        {"preset": "h100-sxm:8", "accelerator": "cpu"},
        {"preset": "h100-sxm", "accelerator_count": 8, "accelerator": {"preset": "cpu"}},
    ],
)
def test_a_cluster_may_name_another_accelerator(cluster: dict[str, Any]) -> None:
    """Nothing of the accelerator that it replaces stays, neither peaks nor sources."""
    scenario = scenario_from_table({**SMALL, "cluster": cluster, "precision": "fp32"})
    whole = scenario_from_table({**SMALL, "cluster": "cpu:8", "precision": "fp32"})
    assert scenario.cluster.accelerator == whole.cluster.accelerator
    assert scenario.cluster.network == witness("small").cluster.network
    assert scenario_from_toml(scenario_to_toml(scenario)) == scenario


def test_a_cluster_without_a_preset_may_name_its_accelerator() -> None:
    table = scenario_to_table(witness("small"))["cluster"]
    scenario = scenario_from_table({**SMALL, "cluster": {**table, "accelerator": "a100-80gb-sxm"}})
    expected = witness("small", cluster="a100-80gb-sxm:8").cluster.accelerator
    assert scenario.cluster.accelerator == expected


def test_an_accelerator_is_changed_field_by_field() -> None:
    cluster = {"preset": "h100-sxm:8", "accelerator": {"preset": "a100-80gb-sxm", "power_w": 300}}
    found = scenario_from_table({**SMALL, "cluster": cluster}).cluster.accelerator
    expected = witness("small", cluster="a100-80gb-sxm:8").cluster.accelerator
    assert found.power_w == 300
    assert "power_w" not in found.sources
    assert found.peak_flop_per_s == expected.peak_flop_per_s
    assert found.sources.items() <= expected.sources.items()
    fields = {"cluster": {"preset": "h100-sxm:8", "accelerator": {"power_w": 300}}}
    kept = scenario_from_table({**SMALL, **fields}).cluster.accelerator
    assert kept.name == witness("small").cluster.accelerator.name
    assert kept.power_w == 300


@pytest.mark.parametrize("field_first", [False, True])
def test_a_change_names_an_accelerator_and_fields_apply_after(field_first: bool) -> None:
    changes = {"cluster.accelerator": "cpu", "cluster.accelerator.power_w": "3 W"}
    if field_first:
        changes = dict(reversed(changes.items()))
    found = scenario_from_table(SMALL, {**changes, "precision": "fp32"}).cluster.accelerator
    assert (found.name, found.power_w) == (CPU, 3.0)
    assert found.peak_flop_per_s.keys() == {"fp32"}


def test_a_description_is_changed_as_a_whole_before_its_fields() -> None:
    mixture = {"expert_count": 16, "experts_per_token": 2}
    for changes in (
        {"model.mixture": mixture, "model.mixture.experts_per_token": 4},
        {"model.mixture.experts_per_token": 4, "model.mixture": mixture},
    ):
        found = scenario_from_table(SMALL, changes).model.mixture
        assert found is not None
        assert (found.expert_count, found.experts_per_token) == (16, 4)


# Errors


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**SMALL, "modle": {}}, "unknown section of a scenario 'modle': did you mean 'model'"),
        ({"model": "llama-3.1-8b"}, "cluster: is missing; a scenario needs the sections"),
        (
            {**SMALL, "plan": {"tensor_paralel_size": 2}},
            "unknown field of plan 'tensor_paralel_size': did you mean 'tensor_parallel_size'",
        ),
        (
            {**SMALL, "cluster": {"preset": "h100-sxm:8", "network": {"latency": 1}}},
            "unknown field of cluster.network 'latency': did you mean 'latency_s'",
        ),
        ({**SMALL, "workload": {"sequence_length": 8}}, "workload.global_batch_size: is missing"),
        ({**SMALL, "cluster": "h100-sxm"}, "cluster.accelerator_count: is missing"),
        ({**SMALL, "cluster": "h100-sxm:many"}, "cluster.accelerator_count: cannot read 'many'"),
        ({**SMALL, "model": 5}, r"model \('5'\): expected a table of fields"),
        ({**SMALL, "plan": [1]}, r"plan \('\[1\]'\): expected a table of fields"),
        ({**SMALL, "model": {"preset": 5}}, r"model \('5'\): expected a table of fields"),
    ],
)
def test_a_wrong_table_is_refused_by_name(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match="^" + message):
        scenario_from_table(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"plan.tensor_paralell_size": 2},
            "unknown field 'plan.tensor_paralell_size': did you mean ",
        ),
        ({"tensor_parallel_size": 2}, "unknown field 'tensor_parallel_size': did you mean"),
        ({"workload": {}}, "unknown field 'workload'"),
        ({"": 1}, "unknown field ''"),
        (
            {"workload.global_batch_size": "1000-tokens"},
            r"workload.global_batch_size \(1000-tokens\): 1,000 tokens are no whole number of "
            "sequences of 1,024 tokens",
        ),
        (
            {"workload.global_batch_size": "many-tokens"},
            "workload.global_batch_size: cannot read 'many'",
        ),
        (
            {"workload.global_batch_size": "1M-tokens", "workload.sequence_length": 0},
            "workload.sequence_length: is needed to read a batch stated in tokens",
        ),
        ({"plan.zero_stage": 4}, r"plan.zero_stage \(4\): expected a whole number, at least 0, at"),
        ({"plan.zero_stage": True}, r"plan.zero_stage \(True\): expected a whole number"),
        ({"plan.micro_batch_size": 1.5}, r"plan.micro_batch_size \(1.5\): expected a whole number"),
        ({"plan.sequence_parallel": 1}, r"plan.sequence_parallel \(1\): expected true or false"),
        ({"plan.schedule": "1f1"}, "unknown plan.schedule '1f1': did you mean '1f1b'"),
        ({"precision.weights": "bf17"}, "precision.weights: unknown number format 'bf17': did you"),
        (
            {"precision.weights": "tf32"},
            r"precision.weights \(tf32\): tensors are not kept in tf32",
        ),
        ({"cluster.host_power_w": "5 horses"}, "cluster.host_power_w: cannot read '5 horses'"),
        (
            {"cluster.host_power_w": float("nan")},
            r"cluster.host_power_w \(nan\): expected a number",
        ),
        ({"model.layouts": [{"type": "dense", "window": 1}]}, "model.layouts"),
        ({"model.layouts": [{"type": "block"}]}, "model.layouts"),
        ({"cluster.accelerator": 5}, r"cluster.accelerator \('5'\): expected a table of fields"),
        ({"cluster.accelerator": {"preset": 5}}, "unknown field of cluster.accelerator 'preset'"),
        (
            {"cluster.accelerator.peak_flop_per_s": {"bf17": 1e12}},
            "unknown cluster.accelerator.peak_flop_per_s 'bf17': did you mean 'bf16'",
        ),
        (
            {"cluster.network.oversubscription_ratio": 0.5},
            r"cluster.network.oversubscription_ratio \(0.5\): expected a number, at least 1",
        ),
        ({"model.layouts": []}, "model.layouts"),
    ],
)
def test_a_wrong_change_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match="^" + message) as caught:
        scenario_from_table(SMALL, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", FOLDERS)
def test_an_unknown_preset_suggests_the_nearest(section: str) -> None:
    nearest = preset_names(section)[0]
    with pytest.raises(PresetNotFoundError, match=f"did you mean '{nearest}'"):
        scenario_from_table({**SMALL, section: nearest + "_"})


@pytest.mark.parametrize(
    ("cluster", "changes"),
    [
        ("h100-sxm:8", {"cluster.accelerator": "h100-sxn"}),
        ({"preset": "h100-sxm:8", "accelerator": "h100-sxn"}, {}),
        ({"preset": "h100-sxm:8", "accelerator": {"preset": "h100-sxn"}}, {}),
    ],
)
def test_an_unknown_accelerator_suggests_the_nearest(cluster: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(PresetNotFoundError, match="accelerator 'h100-sxn': did you mean 'h100-sxm"):
        scenario_from_table({**SMALL, "cluster": cluster}, changes)


@pytest.mark.parametrize("text", ["model = ", "[model", "\x00", "a = 1\na = 2", "x = [" * 5000])
def test_a_text_that_is_no_toml_is_one_error(text: str) -> None:
    with pytest.raises(SpecError, match=r"^scenario: not a valid TOML file"):
        scenario_from_toml(text)


# Hostile input

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["8k", "none", "true", "1e999", "80 GB", "-1", "1,2", "[]", "x" * 500])
    | st.datetimes()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["value", "basis", "source", "type", "preset", "name", "bf16"]), inner
        )
    ),
    max_leaves=4,
)
paths = st.sampled_from(field_paths()) | st.text(max_size=20) | st.sampled_from(sorted(SMALL))


def assert_scenario_or_one_clear_error(make: Any) -> None:
    try:
        scenario = make()
    except ShardwiseError as error:
        assert 5 < len(str(error)) < 2000
    else:
        assert isinstance(scenario, Scenario)
        assert scenario_from_table(scenario_to_table(scenario)) == scenario


@given(st.dictionaries(paths, values, max_size=3))
@settings(max_examples=500)
def test_any_change_gives_a_scenario_or_one_clear_error(changes: dict[str, Any]) -> None:
    assert_scenario_or_one_clear_error(lambda: scenario_from_table(SMALL, changes))


@given(st.sampled_from(field_paths()), values)
@settings(max_examples=1000)
def test_any_value_of_a_field_gives_a_scenario_or_one_clear_error(path: str, value: Any) -> None:
    assert_scenario_or_one_clear_error(lambda: scenario_from_table(SMALL, {path: value}))


@given(st.dictionaries(st.sampled_from([*SMALL, "precision", "x"]), values, max_size=5))
@settings(max_examples=300)
def test_any_table_gives_a_scenario_or_one_clear_error(table: dict[str, Any]) -> None:
    assert_scenario_or_one_clear_error(lambda: scenario_from_table({**SMALL, **table}))


@given(st.text(max_size=200))
def test_any_text_gives_one_clear_error(text: str) -> None:
    with pytest.raises(ShardwiseError):
        scenario_from_toml(text)


def test_a_damaged_file_gives_a_scenario_or_one_clear_error() -> None:
    """Every line of a file left out, one at a time."""
    lines = scenario_to_toml(witness("mixture")).splitlines()
    for index in range(len(lines)):
        text = "\n".join(lines[:index] + lines[index + 1 :])
        assert_scenario_or_one_clear_error(lambda text=text: scenario_from_toml(text))


def test_files_are_the_toml_of_the_table() -> None:
    table = scenario_to_table(witness("cpu"))
    assert tomllib.loads(tomli_w.dumps(table)) == table
