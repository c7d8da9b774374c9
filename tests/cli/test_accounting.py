"""The commands that account for memory, messages and work, as a user types them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.accounts import _COMPONENTS, _CONVENTIONS, _MESSAGES, _WORK
from cli.tables import PIPED_WIDTH
from costmodels.errors import SpecError
from dashboard.figures import memory as memory_figures
from dashboard.figures import traffic as traffic_figures
from dashboard.figures import work as work_figures
from simulator import whatif
from simulator.accounting import (
    memory_account,
    memory_components,
    traffic_account,
    work_account,
)
from simulator.accounting.collectives import COLLECTIVES
from tests.architecture.test_imports import loaded_by
from tests.cli.running import Result, run
from tests.simulator.witnesses import FILES, witness

FILE = str(FILES["one-gpu"])
COMMANDS = ("memory", "comm", "flops")
TINY = ("--set", "cluster.accelerator.memory_bytes=1 GB")


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result == Result(0, result.out, "")
    return result.out


def printed(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(*arguments, "--json"))
    return found


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    return result.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES)
def test_every_witness_is_accounted_for(command: str, name: str) -> None:
    out = done(command, str(FILES[name]))
    assert max(map(len, out.splitlines())) <= PIPED_WIDTH
    assert "\x1b" not in out


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_are_those_of_estimate(command: str) -> None:
    def flags(name: str) -> set[str]:
        return set(re.findall(r"--[a-z-]+", done(name, "--help")))

    own = {"--all-notes", "--ignore-memory", "--require-fit"}
    assert flags("estimate") - own <= flags(command)
    arguments = ("--model", "llama-3.1-8b", "--cluster", "h100-sxm:8", "--tp", "8")
    work = ("--global-batch", "8", "--seq-len", "8k", "--set", "plan.recompute=full")
    from_flags = printed(command, *arguments, *work)
    estimated = json.loads(done("estimate", *arguments, *work, "--json"))
    assert from_flags["scenario_hash"] == estimated["scenario_hash"]


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input_is_one_sentence(command: str) -> None:
    assert "plan.zero_stage" in refused(command, FILE, "--zero-stage", "9")
    assert "cannot read" in refused(command, "missing.toml")
    assert ".html" in refused(command, FILE, "--plot", "a.png")
    assert "unknown" in refused(command, FILE, "--set", "plan.speed=1")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_numpy(command: str) -> None:
    program = (
        "import sys\nfrom cli.main import main\n"
        f"sys.argv = ['shardwise', '{command}', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )
    assert "numpy" not in loaded_by(program)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plot_is_a_page(command: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done(command, str(FILES["interleaved"]), "--plot", str(page))
    assert "plotly" in page.read_text(encoding="utf-8")


# --------------------------------------------------------------------------------- memory


def test_memory_prints_components_and_the_fullest() -> None:
    out = done("memory", str(FILES["interleaved"]))
    assert re.search(r"^fits: .* \(stage 3\)$", out, re.MULTILINE)
    assert "largest there: gradients" in out
    for words in ("microbatches in flight", "7+4", "optimizer: moments", "reserve: context"):
        assert words in out, words


def test_what_lies_on_the_host_and_passes_to_it_is_said() -> None:
    """Two microbatches of five layers in flight on the first stage, one on the second; of eight."""
    file = str(FILES["offloaded-activations"])
    layer_bytes = 5 * 4096 * (2 * (4 * 4096 + (2 * 4096 + 2 * 1024 + 3 * 14336) // 2) + 4 * 16)
    assert printed("memory", file)["host_bytes"] == [2 * layer_bytes, layer_bytes]
    out = done("memory", file)
    assert "a GPU of stage 0 has 3.284 GiB more in the memory of its host\n" in out
    for name in ("device_to_host_bytes", "host_to_device_bytes"):
        assert printed("comm", file)[name] == [8 * layer_bytes] * 2
    assert "sends 14.1 GB to its host in a step, and takes 14.1 GB back" in done("comm", file)
    assert "host" not in done("memory", FILE) + done("comm", FILE)
    out = done("estimate", file)
    assert re.search(r"total +on the host", out)
    assert re.search(r"to its host +14.1 GB", out)
    assert "its host " not in done("estimate", FILE)


def test_memory_as_json_has_stable_names() -> None:
    found = printed("memory", FILE)
    assert list(found) == [
        "schema_version",
        "shardwise_version",
        "scenario_hash",
        "kind",
        "fits",
        "accelerator_memory_bytes",
        "headroom_bytes",
        "worst_stage_index",
        "worst_component",
        "saved_tensors",
        "attention_kernel",
        "chunk_layers",
        "in_flight_count",
        "chunk_in_flight_count",
        "components",
        "stage_bytes",
        "host_bytes",
        "replica_sequence_count",
        "serving_tokens",
        "caches",
        "notes",
    ]
    assert list(found["components"][0]) == ["name", "part_of", "definition", "stage_bytes"]
    stage = sum(entry["stage_bytes"][0] for entry in found["components"])
    estimated = whatif.estimate(witness("one-gpu")).memory["stage_bytes"]
    assert [stage] == found["stage_bytes"] == estimated


def test_memory_of_inference_shows_what_layers_keep() -> None:
    flags = ("--model", "gpt-oss-20b", "--cluster", "h200-sxm:1", "--set", "workload.kind=decode")
    out = done("memory", *flags, "--global-batch", "4", "--seq-len", "8k")
    for words in ("decode: a replica keeps 4", "cache of keys and values", "sliding", "no effect"):
        assert words in out, words
    assert "in flight" not in out
    refused = run("comm", *flags, "--global-batch", "4", "--seq-len", "8k")
    assert refused.code == 2
    assert "ask shardwise memory" in refused.err


def test_require_fit_ends_with_three() -> None:
    assert run("memory", FILE, *TINY, "--require-fit").code == 3
    assert run("memory", FILE, *TINY).code == 0


def test_every_component_has_a_label() -> None:
    assert {name for name, _ in memory_components()} <= set(_COMPONENTS)
    assert {kind.name for kind in COLLECTIVES} <= set(_MESSAGES)
    account = work_account(witness("one-gpu"))
    assert {entry.name for entry in account.components} == set(_WORK)
    assert {entry.name for entry in account.conventions} == set(_CONVENTIONS)


# ----------------------------------------------------------------------- inverse questions


def test_the_largest_microbatch() -> None:
    file = str(FILES["mixtral-nodes"])
    out = done("memory", file, "--largest", "micro-batch")
    assert out.startswith("largest micro-batch (plan.micro_batch_size, stated 1): 2\n")
    assert "the next, 4: " in out
    assert "on stage 0, where the largest is gradients" in out
    assert "activations: FFN or experts grows most" in out
    found = printed("memory", file, "--largest", "micro-batch")
    assert (found["found"]["value"], found["next"]["value"]) == (2, 4)
    assert found["found"]["memory"]["fits"]
    assert not found["next"]["memory"]["fits"]
    for value, fits in (("2", True), ("4", False)):
        assert printed("memory", file, "--micro-batch", value)["fits"] is fits


def test_the_fewest_gpus_although_replicas_are_stated() -> None:
    file = str(FILES["mixtral-nodes"])
    out = done("memory", file, "--smallest", "gpus", "--dp", "4")
    assert "smallest gpus (cluster.accelerator_count, stated 32): 32\n" in out
    assert "the next, 16: " in out


def test_memory_that_does_not_bind_is_said() -> None:
    out = done("memory", str(FILES["gpt-3"]), "--largest", "sequence-length")
    assert "2,048\nno further value is legal: memory does not bind" in out


def test_nothing_that_fits_is_said_with_by_how_much() -> None:
    out = done("memory", FILE, *TINY, "--largest", "layers")
    assert ": nothing fits\nclosest, 1: " in out
    assert "does not fit: " in out
    found = printed("memory", FILE, *TINY, "--largest", "layers")
    assert (found["found"], found["next"], found["closest"]["value"]) == (None, None, 1)
    assert found["closest"]["memory"]["headroom_bytes"] < 0
    assert run("memory", FILE, *TINY, "--largest", "layers", "--require-fit").code == 3


def test_other_questions_are_refused() -> None:
    assert "layers, micro-batch, sequence-length" in refused("memory", FILE, "--largest", "gpus")
    assert "expected one of (gpus, tensor-parallel-size)" in refused(
        "memory", FILE, "--smallest", "layers"
    )
    both = ("--largest", "layers", "--smallest", "gpus")
    assert "one question at a time" in refused("memory", FILE, *both)


# --------------------------------------------------------------------------- comm and flops


def test_comm_has_payload_and_wire_in_columns() -> None:
    out = done("comm", str(FILES["llama-405b-example"]))
    for words in ("payload each", "sent each", "all-gather (ring)", "across nodes"):
        assert words in out, words
    assert "and receive" in out.splitlines()[0]
    found = printed("comm", str(FILES["llama-405b-example"]))
    assert found["sent_bytes"] == found["received_bytes"]
    gather = next(m for m in found["messages"] if m["name"] == "sequence_all_gather")
    tokens_bytes = 8192 * 16384 * 2
    assert gather["payload_bytes"][0] == tokens_bytes
    assert gather["call_sent_bytes"][0] == tokens_bytes * 7 / 8
    assert (gather["group_size"], gather["tier"]) == (8, "inside the node")
    # Seven layers and the embedding on stage 0, sixteen microbatches, everything recomputed.
    assert gather["calls"][0] == 16 * (8 * 7 + 1)


def test_one_gpu_sends_nothing() -> None:
    assert done("comm", FILE).startswith("all GPUs send 0 B in a step")
    assert printed("comm", FILE)["messages"] == []


def test_flops_shows_conventions_with_sources() -> None:
    out = done("flops", str(FILES["gpt-3"]))
    for words in ("6 N_active D", "PaLM", "Megatron", "arXiv:2104.04473", "recomputation"):
        assert words in out, words
    found = printed("flops", str(FILES["gpt-3"]))
    assert all("arXiv" in entry["source"] for entry in found["conventions"][3:])


# ------------------------------------------------------------------------------- figures


def test_figures_show_the_accounts_numbers() -> None:
    scenario = witness("interleaved")
    account = memory_account(scenario)
    bars = memory_figures.memory_by_component(account).data
    for stage, size_bytes in enumerate(account.stage_bytes):
        assert sum(bar.y[stage] for bar in bars) * 2**30 == size_bytes
    traffic = traffic_account(scenario)
    bars = traffic_figures.sent_by_stage(traffic).data
    for stage, sent in enumerate(traffic.stage_sent_bytes):
        assert sum(bar.y[stage] for bar in bars) == pytest.approx(sent)
    work = work_account(scenario)
    bars = work_figures.work_by_stage(work).data
    assert sum(sum(bar.y) for bar in bars) == pytest.approx(work.hardware_flop)


def test_one_question_needs_no_answer_without_a_flag() -> None:
    from cli.inputs import one_question

    assert one_question(None, None) is None
    assert one_question("layers", None) == ("largest", "layers")
    with pytest.raises(SpecError, match="one question"):
        one_question("layers", "gpus")


STEP = (
    *("inference", "--model", "gpt-oss-20b", "--cluster", "h200-sxm:1"),
    *("--global-batch", "4", "--seq-len", "8k"),
)


def test_a_step_of_inference_is_shown_by_layer() -> None:
    shown = run(*STEP, "--set", "workload.kind=decode")
    assert shown.code == 0
    assert shown.out.startswith("decode: ")
    assert "sliding" in shown.out
    assert "their error is not known" in shown.out
    step = json.loads(run(*STEP, "--set", "workload.kind=decode", "--json").out)
    assert step["basis"] == "assumed"
    assert [layer["layer_count"] for layer in step["layers"]] == [12, 12]
    assert step["tokens_per_s"] == pytest.approx(4 / step["step_s"])


def test_a_step_of_training_is_refused() -> None:
    refused = run(*STEP)
    assert refused.code == 2
    assert "workload.kind (training)" in refused.err
