"""`shardwise schedules`: the comparison and orders on the command line."""

from pathlib import Path

import msgspec
import pytest

from costmodels.pipelining.csv_orders import checked_csv
from docs.generate import run_command

SCENARIO = """
model = "llama-3.1-8b"
cluster = "h100-sxm:32"
plan = { tensor_parallel_size = 8, pipeline_parallel_size = 4, recompute = "selective" }
workload = { global_batch_size = 8, sequence_length = 8192 }
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(SCENARIO, encoding="utf-8")
    return "run.toml"


@pytest.mark.slow
def test_schedules_are_compared(scenario: str) -> None:
    answer = msgspec.json.decode(run_command(f"shardwise schedules {scenario} --json"))
    choices = answer["choices"]
    assert {choice["schedule"] for choice in choices} >= {"gpipe", "1f1b", "zb-h1", "zb-v"}
    times = [choice["step_s"] for choice in choices]
    assert times == sorted(times)
    front = [choice["peak_bytes"] for choice in choices if choice["on_front"]]
    assert front == sorted(front, reverse=True)
    assert front[-1] == min(choice["peak_bytes"] for choice in choices)
    for choice in choices:
        idle = choice["idle_fraction"]
        assert choice["idle_over_work_ratio"] == pytest.approx(idle / (1 - idle))
    copies = {choice["schedule"]: choice["parameter_copies"] for choice in choices}
    assert (copies["dualpipe"], copies["dualpipe-v"]) == (2, 1)
    assert "zb-h1" in run_command(f"shardwise schedules {scenario} --equal memory")
    told = run_command(f"shardwise schedules {scenario} --equal copies")
    assert "dualpipe: it keeps 2 copies of the layers" in told


def test_an_order_is_shown_and_written(tmp_path: Path) -> None:
    assert run_command("shardwise schedules --show zb-h1 -p 2 -m 2").split("\n")[:2] == [
        "0  0F0 0F1 0I0 0W0 0I1 0W1",
        "1  1F0 1I0 1F1 1I1 1W0 1W1",
    ]
    file = tmp_path / "order.csv"
    run_command(f"shardwise schedules --show dualpipe-v -p 2 -m 8 --csv {file}")
    rows, placement = checked_csv(file.read_text(encoding="utf-8"))
    assert placement.ranks == (0, 1, 1, 0)
    assert rows[0].overlapped


def test_an_asynchronous_order_tells_its_versions() -> None:
    told = run_command("shardwise schedules --show pipedream -p 3 -m 8")
    assert "Versions of weights kept, by rank: 3, 2, 1;" in told
    assert "forward and its backward: 2, 1, 0." in told


def test_an_order_is_searched_for(tmp_path: Path) -> None:
    """Two ranks of equal times: a third microbatch at once leaves nothing to wait for."""
    arguments = "shardwise schedules --search 1,1,1 -p 2 -m 4"
    assert "a bubble of 7.69 %; ranks hold at most 2 microbatches" in run_command(arguments)
    assert "a bubble of 0.00 %" in run_command(f"{arguments} --held-limit 3")
    file = tmp_path / "order.csv"
    run_command(f"{arguments} --csv {file}")
    assert checked_csv(file.read_text(encoding="utf-8"))[1].ranks == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--show zb-h3", "unknown schedule 'zb-h3'"),
        ("--show dualpipe -p 3", "even pipeline_parallel_size"),
        ("", "give one of a scenario"),
        ("--search 1,1,1 --show zb-h1", "give one of a scenario"),
        ("--search 1,1", "expected F,I,W or F,I,W,HOP"),
        ("--search 1,nan,1", "expected F,I,W or F,I,W,HOP"),
        ("--search 1,1,1 -v 2", "one chunk on each rank"),
        ("--show zb-h1 --held-limit 2", "--held-limit needs --search"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments: str, message: str) -> None:
    assert message in run_command(f"shardwise schedules {arguments}")
