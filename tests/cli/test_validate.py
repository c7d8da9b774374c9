"""The command that validates: suites by name, reports, exit codes, comparisons."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli import validating
from cli.main import main
from costmodels.errors import SpecError
from tests.validation.validation_runs import BAD, GOOD, STOPPED, TROUBLED
from validation.jobs import Suite


def run_main(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, suites: Sequence[Suite] = (GOOD,)
) -> int:
    monkeypatch.setattr("sys.argv", ["shardwise", "validate", *arguments])
    monkeypatch.setattr(validating, "chosen_suites", lambda _: list(suites))
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("suites", "code"), [([GOOD], 0), ([GOOD, BAD, TROUBLED], 1), ([TROUBLED], 4), ([STOPPED], 130)]
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suites: list[Suite],
    code: int,
) -> None:
    assert run_main(monkeypatch, suites=suites) == code
    assert suites[0].name in capsys.readouterr().out


def test_what_failed_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, suites=[BAD, TROUBLED])
    out = capsys.readouterr().out
    assert "2 of 3" not in out
    assert "3 of 5 cases passed" in out
    assert "a | zero" in out
    assert "could not run troubled, unavailable: no GPU on this machine" in out


def test_reports_are_written_compared_and_followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run_main(monkeypatch, "--out", str(one), suites=[GOOD])
    run_main(monkeypatch, "--out", str(two), suites=[GOOD, BAD])
    assert "report.html" in capsys.readouterr().out
    assert run_main(monkeypatch, "diff", str(one), str(two)) == 0
    out = capsys.readouterr().out
    assert "3 cases changed" in out
    assert "bad: right: d" in out
    run_main(monkeypatch, "diff", str(one), str(two), "--json")
    assert [entry["change"] for entry in json.loads(capsys.readouterr().out)] == ["new"] * 3
    run_main(monkeypatch, "history", str(tmp_path))
    assert "2 runs" in capsys.readouterr().out


def test_json_is_the_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, "--json", "--seed", "5", "--device", "cpu")
    record = json.loads(capsys.readouterr().out)
    assert record["seed"] == 5
    assert [case["case"]["name"] for case in record["suites"][0]["outcomes"]] == ["a", "b"]


def test_progress_is_told_to_programs_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = run_main(
        monkeypatch, "--progress-json", "--out", str(tmp_path / "report"), suites=[GOOD, BAD]
    )
    *before, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 1
    assert [line["done"] for line in before] == list(range(before[0]["total"]))
    assert before[0] == {
        "suite": GOOD.name,
        "job": "equal",
        "done": 0,
        "total": len(before),
        "cases": 0,
        "failures": 0,
    }
    assert last["failures"] >= before[-1]["failures"]
    assert (last["report"], last["interrupted"]) == (str(tmp_path / "report"), False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--progress-json", "--json"], "--progress-json is for runs of suites, without --json"),
        (["list", "--progress-json"], "--progress-json is for runs of suites, without --json"),
        (["--device", "tpu"], "auto, cpu, cuda"),
        (["--seed", "-1"], "--seed (-1): must be at least 0"),
        (["--job", "equl"], "equl"),
        (["diff", "one"], "validate diff BEFORE AFTER"),
        (["diff", "nowhere", "nowhere"], "cannot be read"),
        (["history"], "validate history FOLDER"),
    ],
)
def test_bad_input_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert run_main(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_report_is_not_written_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(SpecError, match="is a file"):
        validating.validated([], validating.settings_of(quick=True, device="cpu", seed=0),
                             jobs=(), out=file)  # fmt: skip
    assert file.read_text() == "precious"


def test_suites_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "list") == 0
    assert "communication" in capsys.readouterr().out
