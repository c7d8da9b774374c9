"""Every command, as a user types it."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from cli.listings import listing
from cli.tables import PIPED_WIDTH
from cli.templates import scenario_template
from costmodels.attention.layouts import LAYOUTS as MODELLED_LAYOUTS
from costmodels.presets import preset_table
from costmodels.scenario import (
    field_paths,
    scenario_from_table,
    scenario_from_toml,
    scenario_to_toml,
)
from costmodels.specs.base import Spec
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan
from costmodels.specs.tables import build
from costmodels.specs.workload import Workload
from simulator import whatif
from simulator.answer import GROUPS
from simulator.inert_fields import inert_fields, is_inert
from tests.cli.running import Result, run
from tests.simulator.witnesses import EXAMPLE, FILES, witness

MAIN_JOB = shlex.split(
    "estimate --model llama-3.1-405b --cluster h100-sxm:16384 --tp 8 --pp 16 --dp 128 "
    "--sequence-parallel --zero-stage 1 --recompute full --global-batch 2048 --micro-batch 1 "
    "--seq-len 8192"
)

FILE = str(FILES["one-gpu"])
"""A scenario file that answers fast."""


def done(*arguments: str, stdin: str = "") -> str:
    """Return what a command prints that must succeed without a word on stderr."""
    result = run(*arguments, stdin=stdin)
    assert result == Result(0, result.out, "")
    return result.out


def answer_of(*arguments: str, stdin: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(done("estimate", *arguments, "--json", stdin=stdin))
    return answer


# ------------------------------------------------------------------------------- estimate


def test_the_main_job_prints_what_a_reader_asks_first() -> None:
    out = done(*MAIN_JOB, "--total-tokens", "15.6T")
    for words in (
        "fits: ",
        "Memory per GPU, by stage",
        "405,853,388,800",
        "pipeline bubble",
        "tokens per second per GPU",
        "MFU",
        "run: dollars",
        "run: GPU-hours",
        "simulated",
        "assumed",
        "across nodes",
    ):
        assert words in out, words


def test_notes_on_fields_without_effect_are_one_unless_all_are_asked_for() -> None:
    notes = answer_of(FILE)["notes"]
    short, full = (done("estimate", FILE, *more) for more in ((), ("--all-notes",)))
    tail, whole = (text.partition("Notes\n")[2].count("\n  - ") + 1 for text in (short, full))
    silent = [note for note in notes if is_inert(note)]
    assert len(silent) > 5
    assert whole == len(notes)
    assert tail == len(notes) - len(silent) + 1
    flat = " ".join(short.split())
    assert all(name in flat for name in inert_fields(notes))


def test_what_is_piped_has_no_escape_codes_and_no_long_lines() -> None:
    out = done(*MAIN_JOB)
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= PIPED_WIDTH


def test_json_is_the_answer_to_the_last_digit() -> None:
    printed = answer_of(*MAIN_JOB[1:], "--total-tokens", "15.6T")
    answer = whatif.estimate(witness(EXAMPLE))
    assert printed == json.loads(msgspec.json.encode(answer))
    assert printed["time"]["step_s"] == answer.time["step_s"]
    assert printed["parameters"]["total_parameters"] == 405_853_388_800


def test_json_has_stable_names() -> None:
    printed = answer_of(FILE)
    assert list(printed) == [
        "schema_version",
        "shardwise_version",
        "scenario_hash",
        "scenario",
        "fits",
        *GROUPS,
        "assumptions",
        "notes",
    ]
    assert printed["schema_version"] == 1
    assert re.fullmatch("[0-9a-f]{64}", printed["scenario_hash"])


@pytest.mark.parametrize("name", FILES)
def test_every_witness_is_printed(name: str) -> None:
    assert re.search(r"^(fits|does not fit): ", done("estimate", str(FILES[name])), re.MULTILINE)


def test_flags_and_settings_change_a_file() -> None:
    changed = answer_of(FILE, "--micro-batch", "2", "--set", "workload.sequence_length=1k")
    assert changed["scenario"]["plan"]["micro_batch_size"] == 2
    assert changed["scenario"]["workload"]["sequence_length"] == 1024
    other = answer_of(FILE, "--model", "llama-3.1-8b", "--cluster", "h100-sxm:1", "--ignore-memory")
    assert other["scenario"]["model"]["num_hidden_layers"] == 32


def test_a_scenario_comes_from_standard_input() -> None:
    text = FILES["one-gpu"].read_text(encoding="utf-8")
    assert answer_of("-", stdin=text) == answer_of(FILE)


@pytest.mark.parametrize(
    ("arguments", "field", "expected"),
    [
        (("--seq-len", "8k"), "sequence_length", 8192),
        (("--seq-len", "4_096"), "sequence_length", 4096),
        (("--global-batch", "1k"), "global_batch_size", 1024),
        (("--seq-len", "8k", "--global-batch", "1M-tokens"), "global_batch_size", 128),
        (("--total-tokens", "15.6T"), "total_tokens", 15_600_000_000_000),
        (("--total-tokens", "1.5e9"), "total_tokens", 1_500_000_000),
    ],
)
def test_numbers_have_human_units(arguments: tuple[str, ...], field: str, expected: int) -> None:
    printed = answer_of(FILE, *arguments, "--ignore-memory")
    assert printed["scenario"]["workload"][field] == expected


def test_a_bandwidth_has_human_units() -> None:
    printed = answer_of(FILE, "--set", "cluster.network.bandwidth_bytes_per_s=400 Gb/s")
    assert printed["scenario"]["cluster"]["network"]["bandwidth_bytes_per_s"] == 5e10


SMALL_MEMORY = ("--set", "cluster.accelerator.memory_bytes=10 GB")


def test_a_plan_that_does_not_fit_is_an_answer() -> None:
    out = done("estimate", FILE, *SMALL_MEMORY)
    assert "does not fit: " in out
    assert "too much on the fullest GPUs (stage 0)" in out
    assert "tokens per second" not in out
    assert answer_of(FILE, *SMALL_MEMORY)["time"]["step_s"] is None


def test_a_plan_that_does_not_fit_gets_times_where_asked() -> None:
    out = done("estimate", FILE, *SMALL_MEMORY, "--ignore-memory")
    assert "does not fit: " in out
    assert "tokens per second" in out
    assert "given all the same" in out


@pytest.mark.parametrize(("extra", "code"), [((), 0), (SMALL_MEMORY, 3)])
def test_require_fit_speaks_through_the_exit_code(extra: tuple[str, ...], code: int) -> None:
    result = run("estimate", FILE, *extra, "--require-fit")
    assert result.code == code
    assert result.err == ""
    assert "fit" in result.out


# ------------------------------------------------------------------- simulate and what-if


def test_simulate_writes_a_chrome_trace(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    out = done("simulate", str(FILES["interleaved"]), "--trace", str(file))
    assert "One GPU of each stage" in out
    trace = json.loads(file.read_text(encoding="utf-8"))
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "s", "f", "C"}
    for event in events:
        assert isinstance(event["pid"], int)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["name"]
    played = whatif.simulate(witness("interleaved"))
    assert sum(event["ph"] == "X" for event in events) == len(played.trace.spans)


def test_simulate_prints_json() -> None:
    printed = json.loads(done("simulate", str(FILES["cpu-fp32"]), "--json"))
    played = whatif.simulate(witness("cpu-fp32"))
    assert printed["metrics"]["makespan_s"] == played.metrics.makespan_s
    assert len(printed["spans"]) == len(played.trace.spans)


def test_what_if_prints_each_case() -> None:
    arguments = (
        "what-if",
        str(FILES["interleaved"]),
        "--case",
        "plan.tensor_parallel_size=1 cluster.accelerator_count=8",
        "--case",
        "plan.recompute=none",
    )
    out = done(*arguments)
    for words in ("plan.tensor_parallel_size=1", "plan.recompute=none", "time.step_s", "bubble"):
        assert words in out, words
    printed = json.loads(done(*arguments, "--json"))
    assert [case["changes"] for case in printed["cases"]] == [
        {"plan.tensor_parallel_size": "1", "cluster.accelerator_count": "8"},
        {"plan.recompute": "none"},
    ]
    assert printed["base"] == answer_of(str(FILES["interleaved"]))


# --------------------------------------------------------------- explain, init and schema


def test_explain_prints_formula_values_and_sources_down_to_the_inputs() -> None:
    out = done("explain", FILE, "time.step_s")
    for words in ("formula: compute_s + ", "source: ", "peak_flop_per_s", "datasheet; input"):
        assert words in out, words
    shallow = done("explain", FILE, "time.step_s", "--depth", "1")
    assert len(shallow) < len(out)
    printed = json.loads(done("explain", FILE, "time.step_s", "--json"))
    assert printed["value"] == whatif.estimate(witness("one-gpu")).time["step_s"]


def test_init_prints_a_scenario_that_fits() -> None:
    text = done("init")
    assert answer_of("-", stdin=text)["fits"]
    assert text.count("\n# ") > len(Plan.__struct_fields__)


def test_init_states_the_defaults() -> None:
    scenario = scenario_from_toml(done("init"))
    stated = {"workload": {"global_batch_size", "sequence_length"}, "plan": {"zero_stage"}}
    stated["plan"].add("recompute")
    described: tuple[tuple[str, type[Spec]], ...] = (("workload", Workload), ("plan", Plan))
    for section, description in described:
        for field in msgspec.structs.fields(description):
            if field.name not in stated[section]:
                assert getattr(getattr(scenario, section), field.name) == field.default, field.name


@pytest.mark.parametrize("model", [row[0] for row in listing("models").rows])
@pytest.mark.parametrize("cluster", ["h100-sxm:8", "a100-80gb-sxm:64"])
def test_init_starts_from_any_preset(model: str, cluster: str) -> None:
    arguments = ("init", "--model", model, "--cluster", cluster)
    described = build(Model, preset_table("model", model), "model")
    tags = {type(layout).__struct_config__.tag for layout in described.layouts}
    if not tags <= MODELLED_LAYOUTS.keys():
        result = run(*arguments)
        assert result.code == 2
        assert "not modelled yet" in result.err
        return
    scenario = scenario_from_toml(done(*arguments))
    assert scenario.model.name == model
    assert scenario.model.multi_token_prediction_layers == 0
    assert scenario.cluster.accelerator_count == int(cluster.rpartition(":")[2])


def test_the_template_names_every_field_of_plan_and_workload() -> None:
    text = scenario_template(
        model="llama-3.1-8b", longest=131072, cluster="h100-sxm:8", precision="bf16-mixed"
    )
    for path in field_paths():
        if path.startswith(("plan.", "workload.")):
            assert re.search(rf"^(# )?{path.split('.')[1]} =", text, flags=re.MULTILINE), path


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(done("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", FILES)
def test_the_schema_accepts_what_the_program_writes(name: str, validator: Any) -> None:
    validator.validate(tomllib.loads(scenario_to_toml(witness(name))))


@pytest.mark.parametrize("name", FILES)
def test_the_schema_accepts_what_a_person_writes(name: str, validator: Any) -> None:
    validator.validate(tomllib.loads(FILES[name].read_text(encoding="utf-8")))


def test_the_schema_accepts_what_init_prints(validator: Any) -> None:
    validator.validate(tomllib.loads(done("init")))


@pytest.mark.parametrize("section", ["model", "cluster", "plan", "precision", "workload", ""])
def test_the_schema_refuses_an_unknown_key(section: str, validator: Any) -> None:
    table = tomllib.loads(scenario_to_toml(witness("one-gpu")))
    (table[section] if section else table)["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(table)


@pytest.mark.parametrize(
    "change",
    [
        {"plan": {"zero_stage": 4}},
        {"plan": {"schedule": "zigzag"}},
        {"workload": {"sequence_length": 0}},
        {"plan": {"sequence_parallel": 1}},
    ],
)
def test_the_schema_refuses_a_wrong_value(change: dict[str, Any], validator: Any) -> None:
    table = tomllib.loads(FILES["one-gpu"].read_text(encoding="utf-8"))
    for section, fields in change.items():
        table[section] |= fields
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(table)


# ------------------------------------------------------------------------------- list, help

KINDS = (
    "models",
    "accelerators",
    "clusters",
    "precisions",
    "formats",
    "storages",
    "schedules",
    "quantities",
)


@pytest.mark.parametrize("kind", KINDS)
def test_list_prints_every_kind(kind: str) -> None:
    rows = json.loads(done("list", kind, "--json"))
    assert rows
    out = done("list", kind)
    for row in rows:
        assert str(row[next(iter(row))])[:20] in out


def test_help_names_every_command() -> None:
    for arguments in ((), ("--help",)):
        out = done(*arguments)
        for command in ("estimate", "simulate", "what-if", "explain", "init", "schema", "list"):
            assert command in out
    assert "--tensor-parallel-size" in done("estimate", "--help")
    assert done("--version").startswith("shardwise ")


def test_the_program_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "cli.main", "estimate", "-", "--json"]
    root = Path(__file__).parents[2]
    text = FILES["one-gpu"].read_text(encoding="utf-8")
    played = subprocess.run(
        command, cwd=root, input=text, capture_output=True, text=True, check=True
    )
    assert json.loads(played.stdout) == answer_of(FILE)
    refused = subprocess.run(
        [*command, "--tp", "3"], cwd=root, input=text, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: cluster.accelerator_count (1)")
    assert refused.stderr.count("\n") == 1


def test_equal_flags_and_tables_make_equal_scenarios() -> None:
    table = {
        "model": "llama-3.1-8b",
        "cluster": "h100-sxm:8",
        "plan": {"zero_stage": 1},
        "workload": {"global_batch_size": 8, "sequence_length": 1024},
    }
    flags = ("--model", "llama-3.1-8b", "--cluster", "h100-sxm:8", "--zero-stage", "1")
    printed = answer_of(*flags, "--global-batch", "8", "--seq-len", "1k", "--ignore-memory")
    answer = whatif.estimate(scenario_from_table(table), ignore_memory=True)
    assert printed == json.loads(msgspec.json.encode(answer))
