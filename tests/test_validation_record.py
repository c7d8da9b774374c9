"""The page on accuracy says what a run found, failures included."""

from pathlib import Path

import pytest

from docs import validation_record
from docs.generate import ROOT, TABLES
from tests.validation.validation_runs import BAD, GOOD, TROUBLED, played
from validation.jobs import Settings
from validation.report.writing import write_report
from validation.suites import known_suites


def test_a_kept_run_gives_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_record, "RECORD", tmp_path / "record.json")
    write_report(played(GOOD, BAD, TROUBLED), tmp_path / "report")
    assert validation_record.main([str(tmp_path / "report")]) == 0
    assert "| bad | What bad compares. | 3 | 3 | 2 | - | - | failed |" in TABLES["validation run"]()
    assert "128 no case ran" in TABLES["validation run"]()
    assert TABLES["validation errors"]().splitlines()[2:] == [
        "| good | equal | 1 | 1 % | +1 % | b |"
    ]
    assert TABLES["validation failures"]().splitlines()[2:] == [
        "| bad | c | +25 % | 0 |",
        "| bad | a \\| zero | - | 0 |",
    ]


def test_without_failures_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_record, "RECORD", tmp_path / "record.json")
    write_report(played(GOOD), tmp_path / "report")
    validation_record.main([str(tmp_path / "report")])
    assert TABLES["validation failures"]() == "No case failed."


def test_the_page_shows_every_suite_as_it_is_described_now() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    in_quick_runs = [suite for suite in known_suites().values() if suite.jobs(Settings(quick=True))]
    assert len(in_quick_runs) >= 10
    for suite in in_quick_runs:
        assert f"| {suite.name} | {suite.description} |" in page
