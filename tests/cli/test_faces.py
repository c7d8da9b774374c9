"""What the commands say at their edges: narrow consoles, plans that do not fit, missing programs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from cli.tables import natural_width, signed, table_of
from costmodels.scenario import scenario_from_toml
from simulator import whatif
from simulator.inert_fields import counted
from tests.cli.running import run
from tests.simulator.witnesses import FILES, witness

FILE = str(FILES["interleaved"])
TIGHT = ("--set", "cluster.accelerator.memory_bytes=1 GB")
CASES = (
    "plan.recompute=none",
    "plan.zero_stage=0",
    "model=llama-3.1-70b",
    "precision=fp32",
    "cluster=a100-80gb-sxm:16",
)


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    return result.err


@pytest.mark.parametrize("width", [40, 80, 110, 150, 400])
def test_no_number_of_a_comparison_is_cut(width: int) -> None:
    with mock.patch("cli.tables.PIPED_WIDTH", width):
        out = run("what-if", FILE, *(part for case in CASES for part in ("--case", case))).out
    assert "…" not in out
    comparison = whatif.what_if(
        witness("interleaved"),
        [dict([case.split("=")]) for case in CASES],
    )
    tables = out.count("Before, after, and the terms")
    assert tables == {40: 5, 80: 5, 400: 1}.get(width, tables)
    for name in (entry.name for entry in comparison.cases[0].differences):
        assert len(re.findall(rf"^ *{re.escape(name)} ", out, flags=re.MULTILINE)) == tables
    for number in range(1, len(CASES) + 1):
        assert len(re.findall(rf"case {number}\b(?!:)", out)) == 1


def test_a_table_is_measured_whole() -> None:
    from rich.console import Console

    table = table_of("title", "name", "number")
    table.add_row("x" * 100, "1")
    assert natural_width(Console(width=20), table) > 100


@pytest.mark.parametrize(("command", "option"), [("estimate", "--plot"), ("simulate", "--gantt")])
def test_a_figure_without_plotly_or_of_another_kind_is_refused(
    command: str, option: str, tmp_path: Path
) -> None:
    with mock.patch.dict(sys.modules, {"plotly": None}):
        said = refused(command, FILE, option, str(tmp_path / "a.html"))
    assert "'dashboard'" in said
    assert "pip install plotly" in said
    assert ".html" in refused(command, FILE, option, str(tmp_path / "a.png"))


@pytest.mark.parametrize("count", [*range(1, 33), 48, 63, 64, 65, 96, 100, 127, 128, 1000, 16384])
@pytest.mark.parametrize("cluster", ["h100-sxm", "cpu"])
def test_init_divides_its_batch_among_any_number_of_replicas(cluster: str, count: int) -> None:
    result = run("init", "--cluster", f"{cluster}:{count}")
    assert result.err == ""
    scenario = scenario_from_toml(result.out)
    batch = scenario.workload.global_batch_size
    assert batch % count == 0
    assert abs(batch - 64) <= max(count / 2, count - 64)
    peaks = scenario.cluster.accelerator.peak_flop_per_s
    assert scenario.precision.compute in peaks


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--tp", "4", "--set", "plan.tensor_parallel_size=2"), "plan.tensor_parallel_size"),
        (("--set", "plan.zero_stage=1", "--set", "plan.zero_stage=2"), "plan.zero_stage"),
        (("--model", "llama-3.1-8b", "--set", "model=llama-3.1-70b"), "model"),
        (("--cluster", "cpu:8", "--set", "cluster.accelerator_count=4"), "accelerator_count"),
    ],
)
def test_two_values_of_one_field_are_refused(arguments: tuple[str, ...], field: str) -> None:
    said = refused("estimate", FILE, *arguments)
    assert f"{field}: is given twice" in said


def test_one_value_given_twice_is_no_contradiction() -> None:
    arguments = ("--seq-len", "4k", "--set", "workload.sequence_length=4096")
    assert run("estimate", FILE, *arguments).code == 0


def test_a_case_is_split_as_a_shell_would() -> None:
    case = "cluster.network.bandwidth_bytes_per_s='400 Gb/s' plan.zero_stage=1"
    printed = json.loads(run("what-if", FILE, "--case", case, "--json").out)
    assert printed["cases"][0]["changes"] == {
        "cluster.network.bandwidth_bytes_per_s": "400 Gb/s",
        "plan.zero_stage": "1",
    }
    assert "is empty" in refused("what-if", FILE, "--case", " ")
    assert "quotation mark" in refused("what-if", FILE, "--case", "model.name='a")
    twice = "plan.zero_stage=1 plan.zero_stage=2"
    assert "plan.zero_stage: is given twice" in refused("what-if", FILE, "--case", twice)


def test_a_cluster_without_a_count_is_told_what_to_write() -> None:
    assert "h100-sxm:64" in refused("estimate", FILE, "--cluster", "h100-sxm")


def test_a_simulation_of_a_plan_that_does_not_fit_is_withheld(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = run("simulate", FILE, *TIGHT, "--trace", str(trace), "--require-fit")
    assert result.code == 3
    assert result.out.startswith("does not fit: ")
    assert "step " not in result.out
    assert result.err == f"not written: {trace}, since the plan does not fit\n"
    assert not trace.exists()
    printed = json.loads(run("simulate", FILE, *TIGHT, "--json").out)
    assert (printed["fits"], printed["metrics"], printed["spans"]) == (False, None, [])
    assert printed["headroom_bytes"] < 0
    asked = run("simulate", FILE, *TIGHT, "--ignore-memory").out
    assert "as asked" in asked
    assert "One GPU of each stage" in asked


def test_a_simulation_is_one_object() -> None:
    printed = json.loads(run("simulate", FILE, "--json").out)
    assert list(printed) == [
        "schema_version",
        "shardwise_version",
        "scenario_hash",
        "fits",
        "headroom_bytes",
        "worst_stage_index",
        "basis",
        "metrics",
        "idle_causes",
        "link_utilisation",
        "peaks",
        "spans",
    ]
    assert printed["fits"]
    assert run("simulate", FILE).out.startswith("fits: ")


def test_explain_says_what_is_withheld() -> None:
    assert "withheld: the plan does not fit: " in run("explain", FILE, "step_s", *TIGHT).out
    asked = run("explain", FILE, "step_s", *TIGHT, "--ignore-memory").out
    assert "withheld" not in asked


def test_words_for_small_numbers() -> None:
    assert signed(-1e-9) == "+0.00"
    assert counted(1, "microbatch", "microbatches") == "1 microbatch"
    assert "standard input" in run("estimate", "--help").out


def test_a_figure_is_written_where_nobody_reads_the_table_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "sent.html"
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "comm", FILE, "--plot", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        program.stdout.close()
    assert file.stat().st_size > 0
