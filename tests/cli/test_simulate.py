"""Options of `shardwise simulate`: drawings, contention, chance and sizes."""

import json
from pathlib import Path

import pytest

from costmodels.units import parse_quantity
from simulator.drawing import gantt_svg
from simulator.topology import Sharing
from simulator.variation import Variation
from simulator.whatif import contention, simulate
from tests.cli.running import Result, run
from tests.simulator.witnesses import FILES, witness

FILE = str(FILES["interleaved"])


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result == Result(0, result.out, "")
    return result.out


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    return result.err


def test_an_svg_is_the_drawing_of_the_trace(tmp_path: Path) -> None:
    file = tmp_path / "out.svg"
    done("simulate", FILE, "--gantt", str(file))
    assert file.read_text(encoding="utf-8") == gantt_svg(simulate(witness("interleaved")).trace)


def test_json_has_causes_links_and_peaks() -> None:
    found = json.loads(done("simulate", FILE, "--json"))
    played = simulate(witness("interleaved"))
    for idle_s, causes in zip(found["metrics"]["idle_s"], found["idle_causes"], strict=True):
        assert sum(causes.values()) == pytest.approx(idle_s)
    assert all(0 < link["fraction"] < 1 for link in found["link_utilisation"])
    peaks = [peak["held_bytes"] for peak in found["peaks"]]
    assert peaks == list(played.metrics.peak_bytes)
    assert "contention" not in found


def test_contention_is_told_with_its_cause() -> None:
    arguments = ("simulate", FILE, "--contention", "--pcie", "1 GB/s")
    out = done(*arguments)
    sharing = Sharing(pcie_bytes_per_s=parse_quantity("1 GB/s", "bytes_per_s"))
    found = contention(witness("interleaved"), sharing)
    printed = json.loads(done(*arguments, "--json"))["contention"]
    assert printed["cause"] == found.cause
    assert printed["metrics"]["makespan_s"] == found.metrics.makespan_s
    assert "on shared links: step" in out


def test_chance_and_sizes_change_what_is_played() -> None:
    arguments = ("--jitter", "0.1", "--seed", "3", "--straggler", "1=1.5")
    printed = json.loads(done("simulate", FILE, *arguments, "--json"))
    variation = Variation(jitter_fraction=0.1, seed=3, stragglers={1: 1.5})
    played = simulate(witness("interleaved"), variation)
    assert printed["metrics"]["makespan_s"] == played.metrics.makespan_s
    assert played.metrics.makespan_s > simulate(witness("interleaved")).metrics.makespan_s
    count = 1 + max(span.microbatch or 0 for span in played.trace.spans)
    sizes = ",".join(["0.5", "1.5"] * (count // 2))
    longer = json.loads(done("simulate", FILE, "--microbatch-sizes", sizes, "--json"))
    assert longer["peaks"] != printed["peaks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nics-per-node", "1"), "it needs --contention"),
        (("--pcie", "1 GB/s"), "it needs --contention"),
        (("--contention", "--nics-per-node", "99"), "nics_per_node (99) is more than"),
        (("--contention", "--nics-per-node", "3"), "nics_per_node (3) must divide"),
        (("--microbatch-sizes", "2,2"), "average 1, not 2; these proportions are 1,1"),
        (("--straggler", "one"), "expected RANK=FACTOR"),
        (("--straggler", "99=2"), "straggler 99 is none of the"),
        (("--microbatch-sizes", "1,x"), "expected a number"),
        (("--microbatch-sizes", "1"), "--microbatch-sizes has 1 entry for 16 microbatches"),
        (("--jitter", "3"), "must be from 0 to 1"),
        (("--gantt", "a.png"), "must end in .html or .svg"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("simulate", FILE, *arguments)


def test_an_order_of_a_file_is_played(tmp_path: Path) -> None:
    plan = witness("interleaved").plan
    sizes = ("-p", str(plan.pipeline_parallel_size), "-v", str(plan.virtual_stages))
    played = simulate(witness("interleaved"))
    count = 1 + max(span.microbatch or 0 for span in played.trace.spans)
    file = tmp_path / "mine.csv"
    show = ("schedules", "--show", "interleaved-1f1b", *sizes, "-m", str(count))
    done(*show, "--csv", str(file))
    found = json.loads(done("simulate", FILE, "--order", str(file), "--json"))
    assert found["order"] == "mine.csv"
    assert found["metrics"]["makespan_s"] == played.metrics.makespan_s
    told = done("simulate", FILE, "--order", str(file))
    assert "plan.schedule (interleaved-1f1b) is not used" in told
    file.write_text("0F0,0B0\n", encoding="utf-8")
    assert "the order of mine.csv has 1 rank" in refused("simulate", FILE, "--order", str(file))
    assert "--order needs a scenario" in refused(*show, "--order", str(file))


def test_options_are_checked_before_the_verdict_of_memory() -> None:
    large = ("--set", "model.vocabulary_size=67108864")
    assert run("simulate", FILE, *large, "--require-fit").code == 3
    assert "straggler 99 is none of the" in refused("simulate", FILE, *large, "--straggler", "99=2")


@pytest.mark.parametrize("command", [("simulate",), ("what-if", "--case", "plan.zero_stage=0")])
def test_flags_change_a_scenario_as_settings_do(command: tuple[str, ...]) -> None:
    name, *rest = command
    by_flags = done(name, FILE, *rest, "--zero-stage", "1", "--global-batch", "16", "--json")
    settings = ("--set", "plan.zero_stage=1", "--set", "workload.global_batch_size=16")
    assert by_flags == done(name, FILE, *rest, *settings, "--json")


def test_a_scenario_of_flags_is_one_to_compare_schedules_for() -> None:
    asked = ("--model", "llama-3.1-8b", "--cluster", "h100-sxm:1")
    expected = "give one of a scenario to compare schedules for"
    assert expected in refused("schedules", "--show", "1f1b", "--tp", "8")
    assert "workload.global_batch_size" in refused("schedules", *asked)
