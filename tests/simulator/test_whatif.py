"""The one entry of every face: estimate, what-if, explain and simulate."""

import ast
import json
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.inputs import read_scenario
from costmodels.analysis import CATALOGUE
from costmodels.compilation import compile_columns, compile_model
from costmodels.errors import NoReferenceDataError, PresetNotFoundError, SpecError
from costmodels.quantities import ALGORITHM, Basis, weakest
from costmodels.scenario import (
    scenario_from_table,
    scenario_from_toml,
    scenario_hash,
    scenario_to_toml,
)
from costmodels.specs.layouts import Latent, Sliding
from simulator import gaps, whatif
from simulator.answer import GROUPS, Answer, Derivation, Difference
from simulator.derivation import kind_labels, published_names
from simulator.publishing import reached
from simulator.training import PROGRAM_INPUTS, SIMULATED
from tests.costmodels.formula_language import value_of
from tests.simulator.witnesses import EXAMPLE, FILES, witness

TIGHT = {"cluster.accelerator.memory_bytes": "20 GB"}
"""A change after which the example does not fit."""


def tight() -> Any:
    return scenario_from_toml(FILES[EXAMPLE].read_text(encoding="utf-8"), TIGHT)


def from_step(group: str, name: str) -> bool:
    """Return whether a number says how long a step takes, or follows from that."""
    if name in {entry.name for entry in SIMULATED}:
        return True
    return group == "time" or "step_s" in reached(name, "1f1b")


# -------------------------------------------------------------------------------- estimate


@pytest.mark.parametrize("name", FILES)
def test_a_witness_fits_and_gets_every_group(name: str) -> None:
    answer = whatif.estimate(witness(name))
    assert answer.fits
    for group in GROUPS:
        for quantity, value in getattr(answer, group).items():
            assert value is not None, (group, quantity)


@pytest.mark.parametrize("name", FILES)
def test_an_answer_is_json_without_loss(name: str) -> None:
    answer = whatif.estimate(witness(name))
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Answer) == answer


@pytest.mark.parametrize("name", FILES)
def test_the_basis_of_times_is_assumed(name: str) -> None:
    answer = whatif.estimate(witness(name))
    assert answer.time["basis"] == "assumed"
    assert answer.parameters["basis"] == "exact"
    assert any("not been validated" in note for note in answer.notes)


def test_a_plan_that_does_not_fit_gets_a_verdict_and_no_times() -> None:
    answer = whatif.estimate(tight())
    assert not answer.fits
    assert answer.memory["headroom_bytes"] < 0
    worst = answer.memory["worst_stage_index"]
    assert answer.memory["stage_bytes"][worst] == answer.memory["worst_stage_bytes"]
    for group in GROUPS:
        for name, value in getattr(answer, group).items():
            assert (value is None) == (name != "basis" and from_step(group, name)), (group, name)
    assert answer.cost["run_steps"] == 929_833
    assert "the plan does not fit: times, throughput and costs are withheld" in answer.notes


def test_times_asked_for_in_spite_of_memory_are_given_with_a_warning() -> None:
    answer = whatif.estimate(tight(), ignore_memory=True)
    fitting = whatif.estimate(witness(EXAMPLE))
    assert not answer.fits
    assert answer.time["step_s"] == fitting.time["step_s"]
    assert answer.time["simulated_step_s"] == fitting.time["simulated_step_s"]
    assert any("does not fit" in note and "as asked" in note for note in answer.notes)


def test_ignoring_memory_says_nothing_of_a_plan_that_fits() -> None:
    assert whatif.estimate(witness(EXAMPLE), ignore_memory=True) == whatif.estimate(
        witness(EXAMPLE)
    )


def test_assumptions_come_weakest_first_and_name_fields() -> None:
    answer = whatif.estimate(witness(EXAMPLE))
    weaknesses = [entry.basis.weakness for entry in answer.assumptions]
    assert weaknesses == sorted(weaknesses, reverse=True)
    assert all(entry.basis is not Basis.EXACT for entry in answer.assumptions)
    assert all(entry.field.startswith("cluster.") for entry in answer.assumptions)
    assert "cluster.accelerator.peak_flop_per_s.bf16" in {e.field for e in answer.assumptions}


def test_a_value_without_a_source_is_an_assumption() -> None:
    changed = scenario_from_toml(
        FILES[EXAMPLE].read_text(encoding="utf-8"), {"cluster.network.latency_s": "7 us"}
    )
    found = {entry.field: entry for entry in whatif.estimate(changed).assumptions}
    assert found["cluster.network.latency_s"].basis is Basis.ASSUMED
    assert "without a source" in found["cluster.network.latency_s"].source


def test_a_step_of_too_many_actions_is_not_simulated() -> None:
    changes = {"workload.global_batch_size": 16384 * 256, "plan.micro_batch_size": 1}
    scenario = scenario_from_toml(FILES[EXAMPLE].read_text(encoding="utf-8"), changes)
    with mock.patch.object(whatif, "PATH_ACTION_LIMIT", 1_000_000):
        answer = whatif.estimate(scenario)
        with pytest.raises(SpecError, match="1,048,576 actions"):
            whatif.explain(scenario, "time.simulated_step_s")
    assert answer.time["step_s"] > 0
    assert answer.time["simulated_step_s"] is None
    assert answer.pipeline["simulated_idle_fraction"] is None
    assert any(
        note == "not simulated: a step has 1,048,576 actions, more than 1,000,000"
        for note in answer.notes
    )
    with pytest.raises(SpecError, match=r"workload.global_batch_size \(4194304\): makes 1,048,576"):
        whatif.simulate(scenario)


# ------------------------------------------------------------------------- equal inputs


def test_flags_file_and_python_give_the_same_answer(tmp_path: Any) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(scenario_to_toml(witness(EXAMPLE)), encoding="utf-8")
    flags = {
        "model": "llama-3.1-405b",
        "cluster": "h100-sxm:16384",
        "tensor_parallel_size": "8",
        "pipeline_parallel_size": "16",
        "data_parallel_size": "128",
        "sequence_parallel": True,
        "zero_stage": "1",
        "recompute": "full",
        "global_batch_size": "2k",
        "micro_batch_size": "1",
        "sequence_length": "8k",
        "total_tokens": "15.6T",
    }
    python = scenario_from_table(
        {
            "model": "llama-3.1-405b",
            "cluster": "h100-sxm:16384",
            "plan": {
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 16,
                "data_parallel_size": 128,
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
    )
    scenarios = [
        witness(EXAMPLE),
        python,
        read_scenario(None, flags),
        read_scenario(file, {}),
    ]
    answers = {json.dumps(msgspec.to_builtins(whatif.estimate(entry))) for entry in scenarios}
    assert len(answers) == 1
    assert len({scenario_hash(entry) for entry in scenarios}) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_scenario_written_and_read_has_the_same_hash(name: str) -> None:
    again = scenario_from_toml(scenario_to_toml(witness(name)))
    assert again == witness(name)
    assert scenario_hash(again) == scenario_hash(witness(name))


def test_the_hash_tells_scenarios_apart() -> None:
    assert len({scenario_hash(witness(name)) for name in FILES}) == len(FILES)


def test_the_documented_python_example() -> None:
    from simulator.whatif import estimate

    scenario = scenario_from_table(
        {
            "model": "llama-3.1-8b",
            "cluster": "h100-sxm:16",
            "plan": {"tensor_parallel_size": 8, "zero_stage": 1},
            "workload": {"global_batch_size": 64, "sequence_length": 8192},
        }
    )
    answer = estimate(scenario)
    assert answer.fits
    assert answer.parameters["total_parameters"] == 8_030_261_248
    assert 0 < answer.compute["mfu_fraction"] < 1


# -------------------------------------------------------------------------------- what-if

CASES = (
    {"plan.tensor_parallel_size": 4, "plan.data_parallel_size": 256},
    {"plan.zero_stage": 3},
    {"plan.recompute": "none"},
    {"plan.micro_batch_size": 2},
    {"cluster.network.bandwidth_bytes_per_s": "100 Gb/s"},
    {"cluster.accelerator_count": 32768, "plan.data_parallel_size": "none"},
    {"plan.schedule": "gpipe"},
    {"precision.compute": "fp32"},
)


def _ulps(difference: Difference) -> float:
    assert difference.before is not None
    assert difference.after is not None
    largest = max(abs(difference.before), abs(difference.after))
    return abs(difference.remainder) / math.ulp(largest)


@pytest.mark.parametrize("changes", CASES)
def test_terms_sum_to_the_difference(changes: dict[str, Any]) -> None:
    comparison = whatif.what_if(witness(EXAMPLE), [changes], ignore_memory=True)
    (case,) = comparison.cases
    for entry in case.differences:
        assert entry.before is not None
        assert entry.after is not None
        assert entry.difference == entry.after - entry.before
        if entry.terms:
            explained = sum(term.difference for term in entry.terms)
            assert explained + entry.remainder == pytest.approx(entry.difference, rel=1e-12)
            # Each of the nine terms is rounded when it is added, before and after.
            assert _ulps(entry) <= 20
    named = {entry.name for entry in case.differences if entry.terms}
    assert named == {"time.step_s", "memory.worst_stage_bytes"}


@given(st.sampled_from(sorted(FILES)), st.sampled_from(["none", "selective", "full"]))
@settings(max_examples=20)
def test_a_case_is_the_answer_to_the_changed_scenario(name: str, recompute: str) -> None:
    changes = {"plan.recompute": recompute}
    case = whatif.what_if(witness(name), [changes], ignore_memory=True).cases[0]
    alone = scenario_from_toml(FILES[name].read_text(encoding="utf-8"), changes)
    assert case.answer == whatif.estimate(alone, ignore_memory=True)


def test_a_case_that_changes_nothing_differs_in_nothing() -> None:
    (case,) = whatif.what_if(witness(EXAMPLE), [{}]).cases
    assert {entry.difference for entry in case.differences} == {0}
    assert case.answer == whatif.estimate(witness(EXAMPLE))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"plan.tensor_parallel_size": 7}, "case 'plan.tensor_parallel_size=7': "),
        ({"plan.tensor_size": 4}, "case 'plan.tensor_size=4': unknown field .*did you mean"),
        ({"cluster.accelerator_count": "many"}, "case 'cluster.accelerator_count=many': "),
        ({"precision.compute": "fp8"}, "case 'precision.compute=fp8': "),
    ],
)
def test_a_wrong_case_is_named(changes: dict[str, Any], match: str) -> None:
    with pytest.raises((SpecError, PresetNotFoundError), match=match):
        whatif.what_if(witness(EXAMPLE), [{"plan.micro_batch_size": 2}, changes])


def test_a_case_without_a_peak_for_its_format_is_named() -> None:
    with pytest.raises(
        NoReferenceDataError, match=r"case 'precision.compute=bf16': .*no sourced peak"
    ):
        whatif.what_if(witness("cpu-fp32"), [{"precision.compute": "bf16"}])


def test_a_case_that_does_not_fit_has_no_difference_of_times() -> None:
    (case,) = whatif.what_if(witness(EXAMPLE), [TIGHT]).cases
    by_name = {entry.name: entry for entry in case.differences}
    assert not case.answer.fits
    assert by_name["time.step_s"].after is None
    assert by_name["time.step_s"].difference is None
    assert by_name["memory.headroom_bytes"].difference is not None


# -------------------------------------------------------------------------------- explain


class _Lists(ast.NodeTransformer):
    """Puts a name in place of every list of a formula."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def visit_List(self, node: ast.List) -> ast.Name:
        name = f"members_{len(self.found)}"
        self.found[name] = ast.literal_eval(node)
        return ast.Name(name, ast.Load())


def value_of_numbers(text: str) -> Any:
    """Return the value of a formula with numbers, and lists of them, put in."""
    lists = _Lists()
    tree = lists.visit(ast.parse(text, mode="eval"))
    return value_of(ast.unparse(tree), lists.found)


def first_member(value: Any) -> Any:
    return first_member(next(iter(value.values()))) if isinstance(value, dict) else value


def published(name: str) -> Iterator[tuple[str, str, Any]]:
    answer = whatif.estimate(witness(name), ignore_memory=True)
    for group in GROUPS:
        for quantity, value in getattr(answer, group).items():
            if quantity != "basis":
                yield group, quantity, value


def leaves_of(derivation: Derivation) -> Iterator[Derivation]:
    if derivation.scope == "input":
        yield derivation
    for entry in derivation.inputs:
        yield from leaves_of(entry)


def derivations_of(derivation: Derivation) -> Iterator[Derivation]:
    yield derivation
    for entry in derivation.inputs:
        yield from derivations_of(entry)


def check_derivation(derivation: Derivation, formula_bases: dict[str, Basis]) -> None:
    for entry in derivations_of(derivation):
        assert entry.value is not None
        assert entry.source or entry.basis is Basis.ASSUMED, entry.name
        is_algorithm = entry.formula in ("", ALGORITHM)
        assert bool(entry.substituted) == (not is_algorithm), entry.name
        if entry.substituted and "..." not in entry.substituted:
            # The formula's text may group a sum otherwise than its function.
            expected = pytest.approx(first_member(entry.value), rel=1e-12)
            assert value_of_numbers(entry.substituted) == expected, entry.name
    formulas = [
        formula_bases[entry.name]
        for entry in derivations_of(derivation)
        if entry.name in formula_bases
    ]
    inputs = [leaf.basis for leaf in leaves_of(derivation)]
    assert inputs
    assert derivation.basis is weakest([*formulas, *inputs])


UNLIKE = ("one-gpu", "interleaved", "mixtral-zero-3", "qlora", "offloaded-activations")
"""Scenarios that between them have most kinds of numbers; the others are of the slow tests."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in UNLIKE else pytest.mark.slow) for name in FILES],
)
def test_every_published_number_is_explained_down_to_the_inputs(name: str) -> None:
    scenario = witness(name)
    formula_bases = {entry.name: entry.basis for entry in CATALOGUE.values()}
    simulated = {entry.name for entry in SIMULATED}
    for group, quantity, value in published(name):
        derivation = whatif.explain(scenario, f"{group}.{quantity}")
        if quantity in simulated or not isinstance(value, list):
            assert derivation.value == value
        check_derivation(derivation, formula_bases)


def test_a_simulated_number_comes_from_what_its_program_is_made_of() -> None:
    derivation = whatif.explain(witness("interleaved"), "time.simulated_step_s")
    assert tuple(entry.name.split(" = ")[0] for entry in derivation.inputs) == PROGRAM_INPUTS
    assert any("peak_flop_per_s" in leaf.name for leaf in leaves_of(derivation))


def test_what_is_substituted_says_for_which_member() -> None:
    (found,) = (
        entry
        for entry in derivations_of(whatif.explain(witness("interleaved"), "chunk_forward_s"))
        if entry.name == "chunk_forward_s"
    )
    assert found.substituted_for == "stage 0, chunk 0"
    total = whatif.explain(witness("one-gpu"), "memory.worst_stage_bytes")
    assert total.substituted.startswith("largest([")


def test_a_derived_input_does_not_claim_to_be_stated() -> None:
    sources = {
        leaf.name.partition(" = ")[0]: leaf.source
        for leaf in leaves_of(whatif.explain(witness("interleaved"), "time.step_s"))
    }
    assert sources["chunk_layer_count"].startswith("derived: layers balanced")
    assert sources["expert_count"] == "no mixture: one expert"
    assert sources["global_batch_size"] == "stated in the scenario"


def test_an_input_that_a_mixture_leaves_out_says_what_stands_for_it() -> None:
    sources = {
        leaf.name.partition(" = ")[0]: leaf.source
        for leaf in leaves_of(whatif.explain(witness("mixtral-nodes"), "total_parameters"))
    }
    assert sources["expert_intermediate_size"].startswith("not stated: experts are as wide as")
    assert sources["expert_count"].startswith("config.json of mistralai/Mixtral-8x7B-v0.1")


def labels(**changes: Any) -> list[str]:
    """Return what the kinds of layer of a mixture of four layers are called."""
    paths = {f"model.{name}": value for name, value in changes.items()}
    scenario = scenario_from_toml(
        FILES["one-gpu"].read_text(encoding="utf-8"),
        {
            "model.num_hidden_layers": 4,
            "model.mixture": {"expert_count": 4, "experts_per_token": 1},
            **paths,
        },
    )
    return kind_labels(compile_columns(scenario))


def test_kinds_of_layer_are_called_by_what_they_differ_in() -> None:
    causal, open_ = ({"type": "dense", "causal": causal} for causal in (True, False))
    assert labels() == ["dense layers (0)"]
    assert labels(layouts=[causal, open_]) == [
        "dense layers causal (0)",
        "dense layers not causal (1)",
    ]
    dense_first = {"mixture.dense_layers": [0]}
    assert labels(**dense_first) == [
        "dense layers without experts (0)",
        "dense layers with experts (1)",
    ]
    assert labels(layouts=[causal, open_], **dense_first) == [
        "dense layers without experts causal (0)",
        "dense layers with experts not causal (1)",
        "dense layers with experts causal (2)",
    ]


def test_kinds_of_other_layouts_are_called_by_their_sizes() -> None:
    sizes = {"key_value_rank": 512, "unrotated_size": 128, "rotated_size": 64, "value_size": 128}
    layouts = (Latent(**sizes), Latent(**sizes, query_rank=1536), Sliding(window=8))
    model = msgspec.structs.replace(witness("one-gpu").model, layouts=layouts)
    assert kind_labels(compile_model(model)) == [
        "latent layers of query_rank 0 (0)",
        "latent layers of query_rank 1,536 (1)",
        "sliding layers (2)",
    ]


def test_values_and_formulas_are_told_apart_by_kind() -> None:
    derivation = whatif.explain(witness("shared-experts"), "layer_parameters")
    assert derivation.substituted_for == "dense layers without experts (0)"
    assert list(derivation.value) == [
        "dense layers without experts (0)",
        "dense layers with experts (1)",
    ]


def test_a_derivation_shows_the_inputs_of_the_layouts_that_there_are() -> None:
    derivation = whatif.explain(witness("one-gpu"), "attention_matrix_parameters")
    names = {leaf.name.partition(" = ")[0] for leaf in leaves_of(derivation)}
    assert "num_attention_heads" in names
    assert names.isdisjoint({"query_rank", "key_heads", "value_head_size"})


def test_notes_of_a_model_come_first_in_every_answer() -> None:
    notes = ("first: it was never trained", "second")
    for scenario in (tight(), witness("shared-experts"), witness("one-gpu")):
        model = msgspec.structs.replace(scenario.model, notes=notes)
        noted = whatif.estimate(msgspec.structs.replace(scenario, model=model))
        plain = whatif.estimate(scenario)
        assert noted.notes[:2] == notes
        assert noted.notes[2:] == plain.notes[len(scenario.model.notes) :]
        assert noted.time == plain.time


def test_what_is_withheld_is_not_explained_unless_asked() -> None:
    for path in ("time.step_s", "cost.step_usd", "time.simulated_step_s"):
        found = whatif.explain(tight(), path)
        assert found.value is None
        assert found.withheld.startswith("the plan does not fit: ")
        given = whatif.explain(tight(), path, ignore_memory=True)
        assert given.value > 0
        assert given.withheld == ""
    assert whatif.explain(tight(), "memory.worst_stage_bytes").value > 0


def test_assumptions_of_what_is_withheld_are_left_out() -> None:
    fields = {entry.field for entry in whatif.estimate(tight()).assumptions}
    assert "cluster.accelerator.memory_bytes" in fields
    assert "cluster.accelerator.power_w" not in fields


def test_the_verdict_is_that_of_the_estimate() -> None:
    for scenario in (tight(), witness(EXAMPLE)):
        answer, found = whatif.estimate(scenario), whatif.verdict(scenario)
        assert (found.fits, found.scenario_hash) == (answer.fits, answer.scenario_hash)
        assert found.headroom_bytes == answer.memory["headroom_bytes"]
        assert found.worst_stage_index == answer.memory["worst_stage_index"]
        assert found.basis is Basis.ASSUMED


def test_presets_change_a_scenario_and_fields_apply_after() -> None:
    changes = {"model.num_hidden_layers": 16, "model": "llama-3.1-8b", "cluster": "h100-sxm:8"}
    changed = scenario_from_toml(FILES["one-gpu"].read_text(encoding="utf-8"), changes)
    assert (changed.model.name, changed.model.num_hidden_layers) == ("llama-3.1-8b", 16)
    (case,) = whatif.what_if(witness("one-gpu"), [{"precision": "fp32"}]).cases
    assert case.answer.scenario["precision"]["name"] == "fp32"


def test_the_cause_of_a_gap_is_not_searched_in_long_steps() -> None:
    played = whatif.simulate(witness("interleaved"))
    with mock.patch.object(gaps, "CAUSE_LIMIT", 10):
        note = gaps.gap_note(2 * played.metrics.makespan_s, played.program, played.metrics)
    assert "cause: not searched in a step of 256 actions, more than 10" in note


def test_names_without_their_group_and_intermediates_are_explained() -> None:
    scenario = witness(EXAMPLE)
    assert whatif.explain(scenario, "step_s") == whatif.explain(scenario, "time.step_s")
    assert whatif.explain(scenario, "hop_s").value > 0
    assert "time.step_s" in published_names()
    assert "hop_s" in published_names()


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("time.step", "unknown quantity 'time.step': did you mean 'time.step_s'"),
        ("memory.step_s", "unknown quantity 'memory.step_s'"),
        ("", "unknown quantity ''"),
        ("cost.run_s", "needs workload.total_tokens, which the scenario does not state"),
    ],
)
def test_what_cannot_be_explained_is_said(path: str, match: str) -> None:
    with pytest.raises(PresetNotFoundError, match=match):
        whatif.explain(witness("one-gpu"), path)


def test_dollars_without_a_price_are_not_explained() -> None:
    with pytest.raises(PresetNotFoundError, match="price_usd_per_s"):
        whatif.explain(witness("cpu-fp32"), "cost.step_usd")


# -------------------------------------------------------------------------------- simulate


def test_a_simulation_is_the_same_each_time() -> None:
    first, second = (whatif.simulate(witness("interleaved")) for _ in range(2))
    assert first.trace == second.trace
    assert first.metrics == second.metrics


@pytest.mark.parametrize("name", FILES)
def test_an_estimate_publishes_what_simulate_finds(name: str) -> None:
    answer, played = whatif.estimate(witness(name)), whatif.simulate(witness(name)).metrics
    # The two engines add in different orders.
    assert answer.time["simulated_step_s"] == pytest.approx(played.makespan_s, rel=1e-12)
    idle_fraction = pytest.approx(played.idle_fraction, rel=1e-9)
    assert answer.pipeline["simulated_idle_fraction"] == idle_fraction
    assert answer.memory["simulated_peak_bytes"] == list(played.peak_bytes)
