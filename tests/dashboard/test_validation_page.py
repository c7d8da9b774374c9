"""The page of validation shows what reports hold, and never loads torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboard.app import create_app
from dashboard.figures.validation import predictions
from dashboard.reports import reports
from tests.dashboard.asking import texts
from tests.dashboard.test_app import ask
from tests.validation.validation_runs import BAD, GOOD, TROUBLED, played
from validation.report.comparison import RECORD
from validation.report.summary import sentence

PATH = "/validation"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, suites in (("first", (GOOD,)), ("second", (GOOD, BAD, TROUBLED))):
        (tmp_path / name).mkdir()
        record = msgspec.structs.replace(played(*suites), started=f"2026-01-01 {name}")
        (tmp_path / name / RECORD).write_bytes(msgspec.json.encode(record))
    return tmp_path


def shown(folder: Path | None, view: dict[str, str]) -> dict[str, Any]:
    return ask(create_app(None, None, folder), {}, pathname=PATH, view=view)


def test_the_newest_run_is_shown_with_its_troubles(folder: Path) -> None:
    text = texts(shown(folder, {})["result"]["children"])
    found, refused = reports(folder)
    assert [report.name for report in found] == ["first", "second"]
    assert refused == []
    assert sentence(found[-1].run) in text
    assert "could not run troubled, unavailable: no GPU on this machine" in text


def test_a_case_is_opened_and_what_failed_comes_first(folder: Path) -> None:
    found = shown(folder, {"suite": "bad", "case": "1"})
    text = texts(found["result"]["children"])
    assert "a | zero is what it says" in text
    assert "shardwise validate bad --job 'wrong'" in text
    assert text.index("nowhere & <everywhere>") < text.index("Cases of bad")


def test_points_are_drawn_without_the_code_that_pages_forbid() -> None:
    drawn = predictions(played(GOOD, BAD))
    assert {trace.type for trace in drawn.data} == {"scatter"}


def test_another_run_is_chosen_and_an_unknown_one_refused(folder: Path) -> None:
    assert "3 cases" not in texts(shown(folder, {"run": "first"})["result"]["children"])
    assert "run 'third'" in texts(shown(folder, {"run": "third"})["banner"]["children"])


def test_what_is_no_report_is_said_without_its_place(folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / RECORD).write_text("{}", encoding="utf-8")
    text = texts(shown(folder, {})["result"]["children"])
    assert f"broken/{RECORD}" in text
    assert str(folder) not in text


@pytest.mark.parametrize("known", [True, False])
def test_without_reports_the_page_says_how_to_make_one(tmp_path: Path, known: bool) -> None:
    text = texts(shown(tmp_path if known else None, {})["result"]["children"])
    assert "shardwise validate --quick" in text


@pytest.mark.slow
def test_the_server_never_loads_torch() -> None:
    program = "import sys, dashboard.app as d; d.create_app(); print('torch' in sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said.strip() == "False"
