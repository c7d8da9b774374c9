"""Bad input ends with one sentence on stderr, exit code 2, and never a traceback."""

import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.inputs import FIELD_FLAGS
from costmodels.scenario import field_paths
from tests.cli.running import Result, run
from tests.simulator.witnesses import FILES

FILE = str(FILES["one-gpu"])
PIPELINE = str(FILES["cpu-fp32"])
HUGE = "1" + "0" * 400

BASE = shlex.split("--model llama-3.1-8b --cluster h100-sxm:8 --global-batch 16 --seq-len 1k")


def flags(*more: str) -> tuple[str, ...]:
    return ("estimate", *BASE, *more)


CASES: dict[str, tuple[tuple[str, ...], str]] = {
    # Names.
    "model": (flags("--model", "lama-3.1-8b"), "did you mean 'llama-3.1-8b'"),
    "cluster": (flags("--cluster", "h100:8"), "unknown cluster 'h100': did you mean 'h100-sxm'"),
    "precision": (flags("--precision", "bf16-mix"), "did you mean 'bf16-mixed'"),
    "schedule": (flags("--schedule", "1f1"), "plan.schedule '1f1': did you mean '1f1b'"),
    "recompute": (flags("--recompute", "all"), "plan.recompute"),
    "format": (flags("--set", "precision.weights=fp8"), "precision.weights: unknown number"),
    "field": (flags("--set", "plan.zero=1"), "unknown field 'plan.zero': did you mean"),
    "section": (flags("--set", "pln.zero_stage=1"), "did you mean 'plan.zero_stage'"),
    "no-section": (flags("--set", "zero_stage=1"), "unknown field 'zero_stage'"),
    "no-equals": (flags("--set", "plan.zero_stage"), "expected field=value"),
    "quantity": (("explain", FILE, "time.steps"), "did you mean 'time.step_s'"),
    "list": (("list", "model"), "did you mean 'models'"),
    "case": (("what-if", FILE, "--case", "plan.tensor_size=2"), "case 'plan.tensor_size=2'"),
    # Usage.
    "option": (flags("--tpp", "8"), "No such option: --tpp"),
    "option-value": (("estimate", "--model"), "requires an argument"),
    "command": (("estimat",), "No such command 'estimat'"),
    "no-argument": (("explain", FILE), "Missing argument"),
    "no-case": (("what-if", FILE), "Missing option '--case'"),
    "depth": (("explain", FILE, "step_s", "--depth", "-1"), "--depth"),
    "extra-argument": (("schema", "now"), "unexpected extra argument"),
    # What is missing.
    "nothing": (("estimate",), "model: is missing"),
    "no-batch": (("estimate", *BASE[:4], *BASE[6:]), "workload.global_batch_size: is missing"),
    "no-count": (flags("--cluster", "h100-sxm"), "cluster.accelerator_count: is missing"),
    "no-tokens-length": (
        ("estimate", *BASE[:4], "--global-batch", "1M-tokens"),
        "workload.sequence_length: is needed",
    ),
    # Numbers.
    "zero": (flags("--tp", "0"), "plan.tensor_parallel_size (0)"),
    "negative": (flags("--global-batch=-8"), "workload.global_batch_size (-8)"),
    "fraction": (flags("--tp", "1.5"), "plan.tensor_parallel_size (1.5)"),
    "word": (flags("--tp", "eight"), "plan.tensor_parallel_size: cannot read 'eight'"),
    "nan": (flags("--set", "cluster.network.latency_s=nan"), "cluster.network.latency_s"),
    "infinite": (flags("--set", "cluster.accelerator.power_w=inf"), "cluster.accelerator.power_w"),
    "huge": (flags("--seq-len", HUGE), "workload.sequence_length"),
    "huge-exponent": (flags("--seq-len", "1e400"), "workload.sequence_length"),
    "wrong-unit": (flags("--seq-len", "8 GB"), "workload.sequence_length: cannot read '8 GB'"),
    "too-many-tokens": (flags("--seq-len", "1T"), "workload.sequence_length"),
    "above-one": (
        flags("--set", "cluster.accelerator.matmul_efficiency_fraction=1.1"),
        "cluster.accelerator.matmul_efficiency_fraction (1.1)",
    ),
    "zero-stage": (flags("--zero-stage", "4"), "plan.zero_stage (4): expected"),
    "batch-in-tokens": (flags("--global-batch", "1000-tokens"), "workload.global_batch_size"),
    "count": (flags("--cluster", "h100-sxm:many"), "cluster.accelerator_count: cannot read"),
    "truth": (flags("--set", "plan.sequence_parallel=maybe"), "plan.sequence_parallel ('maybe')"),
    "list-of-numbers": (flags("--layers-per-stage", "1,x"), "plan.layers_per_stage"),
    "table": (flags("--set", "cluster.network=3"), "cluster.network ('3'): expected a table"),
    "layout": (flags("--set", "model.layouts=full"), "model.layouts"),
    # What does not go together.
    "heads": (flags("--tp", "3", "--cluster", "h100-sxm:3"), "model.num_attention_heads (32)"),
    "ranks": (flags("--tp", "8", "--pp", "3"), "cluster.accelerator_count (8)"),
    "replicas": (flags("--dp", "3"), "plan.data_parallel_size (3): must be 8"),
    "batch": (flags("--micro-batch", "3"), "workload.global_batch_size (16)"),
    "sequence-parallel": (flags("--sequence-parallel"), "plan.sequence_parallel"),
    "stages": (flags("--pp", "8", "--virtual-stages", "8"), "plan.pipeline_parallel_size (8)"),
    "layers": (flags("--pp", "2", "--layers-per-stage", "1,2"), "plan.layers_per_stage ([1, 2])"),
    "interleaved-alone": (flags("--schedule", "interleaved-1f1b"), "plan.schedule (interleaved"),
    "chunks-of-1f1b": (flags("--pp", "2", "--vpp", "2"), "plan.schedule (1f1b)"),
    "order": (flags("--set", "plan.rank_order=tensor,data"), "plan.rank_order"),
    "no-peak": (("estimate", PIPELINE, "--precision", "bf16"), "precision.compute (bf16)"),
    "mixture": (flags("--set", "model.mixture.expert_count=4"), "model.mixture.experts_per_token"),
    "context": (flags("--cp", "8", "--seq-len", "1000"), "workload.sequence_length (1000)"),
    "experts": (flags("--ep", "2"), "plan.expert_parallel_size"),
    # What has no model yet.
    "prefill": (flags("--set", "workload.kind=prefill"), "workload.kind"),
    # Files.
    "missing": (("estimate", "missing.toml"), "cannot read missing.toml: No such file"),
    "directory": (("simulate", "."), "cannot read .: Is a directory"),
    "unwritable": (
        ("simulate", FILE, "--trace", "missing/trace.json"),
        "cannot write missing/trace.json",
    ),
    "broken-text": (flags("--set", "model.name=\udcff"), "not a UTF-8 text"),
}


def refused(result: Result) -> str:
    """Return the one sentence with which a command refused its input."""
    assert result.code == 2, result
    assert result.err.startswith("error: "), result.err
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n")
    assert "Traceback" not in result.err
    return result.err


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_in_one_sentence(name: str) -> None:
    arguments, words = CASES[name]
    result = run(*arguments)
    assert words in refused(result)
    if name != "unwritable":
        assert result.out == ""


def test_a_path_through_a_field_that_is_no_table_is_refused() -> None:
    assert "model.name" in refused(run(*flags("--set", "model.name.first=3")))


TEXTS = {
    "empty": ("", "model: is missing"),
    "broken": ("[plan\n", "not a valid TOML file"),
    "twice": ("[plan]\n[plan]\n", "not a valid TOML file"),
    "deep": ("a = " + "[" * 5000 + "]" * 5000, "not a valid TOML file"),
    "deep-table": (".".join(["plan"] + ["a"] * 400) + " = 1", "is missing"),
    "section": ("[plans]\n", "unknown section of a scenario 'plans': did you mean 'plan'"),
    "list": ("plan = [1]\n", "is missing"),
    "date": ("model = 1979-05-27\n", "is missing"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    text, words = TEXTS[name]
    file = tmp_path / "scenario.toml"
    file.write_text(text, encoding="utf-8")
    assert words in refused(run("estimate", str(file)))
    assert words in refused(run("estimate", "-", stdin=text))
    if words == "not a valid TOML file":
        assert str(file) in refused(run("estimate", str(file)))
    # Presets are put into the file's table before it is read.
    refused(run("estimate", str(file), "--precision", "bf16", "--model", "llama-3.1-8b"))


WRONG = {
    "plan = [1]": "plan ('[1]'): expected a table",
    "plan = 3": "plan ('3'): expected a table",
    "plan = {zero_stage = true}": "plan.zero_stage (True)",
    "plan = {zero_stage = []}": "plan.zero_stage ([])",
    "plan = {layers_per_stage = [[1]]}": "plan.layers_per_stage ([[1]])",
    "plan = {schedule = 3}": "plan.schedule (3)",
    "plan = {rank_order = []}": "plan.rank_order",
    "plan = {zero_stages = 1}": "unknown field of plan 'zero_stages': did you mean 'zero_stage'",
    "plan = {zero_stage = nan}": "plan.zero_stage (nan)",
    "precision = {preset = 3}": "precision",
    "precision = {weights = 'bf16'}": "precision.name: is missing",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_in_a_file_is_named(line: str) -> None:
    text = FILES["one-gpu"].read_text(encoding="utf-8").replace('[plan]\nrecompute = "full"\n', "")
    assert WRONG[line] in refused(run("estimate", "-", stdin=f"{line}\n{text}"))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_bytes(bytes(range(256)))
    assert "not a UTF-8 text" in refused(run("estimate", str(file)))


_FLAGS = [f"--{name.replace('_', '-')}" for name in FIELD_FLAGS if name != "sequence_parallel"]
_NUMBERS = st.one_of(st.integers(-3, 70).map(str), st.floats().map(str), st.integers().map(str))
_WORDS = st.sampled_from(["none", "full", "gpipe", "sgd", "8k", "1M-tokens", "1,2", "", "[]", "h"])
_VALUES = st.one_of(_NUMBERS, _WORDS, st.text(max_size=8))
_PATHS = st.sampled_from(field_paths())


@given(
    st.lists(st.tuples(st.sampled_from([*_FLAGS, "--model", "--cluster"]), _VALUES), max_size=3),
    st.lists(st.tuples(_PATHS, _VALUES), max_size=2),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_no_value_of_an_argument_gives_a_traceback(
    options: list[tuple[str, str]], fields: list[tuple[str, str]]
) -> None:
    given_options = [f"{flag}={value}" for flag, value in options]
    given_fields = [f"--set={path}={value}" for path, value in fields]
    result = run("estimate", PIPELINE, *given_options, *given_fields, "--json")
    assert result.code in (0, 2)
    if result.code == 2:
        refused(result)


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_no_text_of_a_file_gives_a_traceback(text: str) -> None:
    refused(run("estimate", "-", stdin=text))
