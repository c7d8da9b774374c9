"""A report says the same in all its forms, opens without a network, and can be compared."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from costmodels.errors import SpecError
from tests.validation.validation_runs import BAD, GOOD, STOPPED, TROUBLED, played
from validation.report.comparison import differences, load, load_all
from validation.report.figures import (
    errors_by_suite,
    failures_over_time,
    predicted_against_measured,
)
from validation.report.junit import junit
from validation.report.markdown import markdown
from validation.report.page import page
from validation.report.summary import number, percent, sentence, summaries
from validation.report.writing import write_report
from validation.running import ValidationRun


@pytest.fixture(scope="module")
def run() -> ValidationRun:
    return played(GOOD, BAD, TROUBLED)


@pytest.fixture(scope="module")
def html(run: ValidationRun) -> str:
    return page(run)


def test_the_page_holds_every_case_with_all_that_it_states(run: ValidationRun, html: str) -> None:
    assert html.count('<tr class="case"') == run.case_count
    for suite in run.suites:
        for outcome in suite.outcomes:
            assert outcome.case.name in html
            assert outcome.case.claim in html
    assert "nowhere &amp; &lt;everywhere&gt;" in html
    assert "<everywhere>" not in html
    assert "shardwise validate bad --job &#39;wrong&#39;" in html
    assert "no GPU on this machine" in html


def test_claims_are_shown_only_where_a_case_decides_one(run: ValidationRun, html: str) -> None:
    assert "Claims of a reader" not in html
    suite = run.suites[0]
    outcome = suite.outcomes[0]
    tagged = msgspec.structs.replace(
        outcome, case=msgspec.structs.replace(outcome.case, claims=("TP-1",))
    )
    changed = msgspec.structs.replace(suite, outcomes=(tagged, *suite.outcomes[1:]))
    text = page(msgspec.structs.replace(run, suites=(changed, *run.suites[1:])))
    assert "Claims of a reader" in text
    assert text.count("no case ran") == 128


def test_the_page_loads_nothing(html: str) -> None:
    own = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!#)[^\"']*[\"']", own)
    assert not re.search(r"<script[^>]*\ssrc=", html)
    assert "@import" not in own


def test_verdicts_of_suites(run: ValidationRun) -> None:
    assert [row.verdict for row in summaries(run)] == ["passed", "failed", "could not run"]
    assert [row.verdict for row in summaries(played(GOOD, STOPPED, BAD))] == [
        "passed",
        "not finished",
        "not finished",
    ]


def test_errors_are_those_of_cases_that_do_not_ask_for_equality(run: ValidationRun) -> None:
    good, bad, _ = summaries(run)
    assert (good.exact_count, good.bias_fraction, good.worst_fraction) == (1, 0.01, 0.01)
    assert (bad.exact_count, bad.mean_absolute_fraction) == (3, None)


def test_the_sentence_counts_what_passed_and_what_could_not_run(run: ValidationRun) -> None:
    assert sentence(run) == ("5 of 7 cases passed; 6 of them ask for equality; 2 could not run.")
    assert "stopped before the end" in sentence(played(STOPPED))


def test_markdown_lists_what_failed(run: ValidationRun) -> None:
    text = markdown(run)
    assert "| bad | 3 | 3 | 2 | - | - | failed |" in text
    assert "| bad | a \\| zero | 1 | 0 | byte | - | 0 |" in text
    assert "| troubled | unavailable | no GPU on this machine |" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"}
    assert widths == {8, 9, 4}


def test_junit_counts_cases_failures_and_errors(run: ValidationRun) -> None:
    root = ET.fromstring(junit(run))  # noqa: S314 - our own text
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("9", "2", "2")
    assert len(root.findall(".//testcase")) == 9
    assert len(root.findall(".//failure")) == 2
    assert [entry.get("message") for entry in root.findall(".//error")] == [
        "ValueError: no such thing",
        "no GPU on this machine",
    ]


def test_figures_show_every_case_that_has_a_place(run: ValidationRun) -> None:
    scatter = predicted_against_measured(run)
    points = [trace for trace in scatter.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in points) == run.case_count - 1
    assert "1 of zero or below" in scatter.layout.title.text
    assert list(points[1].marker.symbol) == ["x", "circle"]
    (box,) = errors_by_suite(run).data  # type: ignore[union-attr]
    assert list(box.x) == [1.0]
    assert errors_by_suite(played(BAD)) is None
    assert [list(bar.y) for bar in failures_over_time([run, run]).data] == [[5, 5], [2, 2]]


def test_a_report_is_read_back_as_it_was_written(run: ValidationRun, tmp_path: Path) -> None:
    files = write_report(run, tmp_path / "new" / "report")
    assert {file.name for file in files} == {"report.json", "report.md", "junit.xml", "report.html"}
    assert load(tmp_path / "new" / "report") == run
    assert load(files[0]) == run
    later = msgspec.structs.replace(run, started="2999-01-01T00:00:00+00:00")
    write_report(later, tmp_path / "old")
    assert load_all(tmp_path) == [run, later]


def test_what_is_no_report_is_refused(tmp_path: Path, run: ValidationRun) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(SpecError, match=r"holds no report\.json"):
        load_all(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(SpecError, match="no record of a validation"):
        load(tmp_path)
    other = msgspec.structs.replace(run, schema_version=99)
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(other))
    with pytest.raises(SpecError, match="format 99"):
        load(tmp_path)


def test_differences_between_runs() -> None:
    before = played(GOOD, BAD)
    (good, bad) = before.suites
    first, second = good.outcomes
    moved = msgspec.structs.replace(
        first, case=msgspec.structs.replace(first.case, prediction=4), passed=False
    )
    measured = msgspec.structs.replace(
        second, case=msgspec.structs.replace(second.case, measurement=99)
    )
    changed = msgspec.structs.replace(good, outcomes=(moved, measured))
    after = msgspec.structs.replace(
        before, suites=(changed, msgspec.structs.replace(bad, outcomes=bad.outcomes[:2]))
    )
    assert differences(before, before) == []
    assert [(entry.case, entry.change) for entry in differences(before, after)] == [
        ("equal: a", "now fails"),
        ("equal: b", "measurement moved"),
        ("right: d", "gone"),
    ]
    assert [entry.change for entry in differences(after, before)] == [
        "now passes",
        "measurement moved",
        "new",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(1234567, "1,234,567"), (2.0, "2"), (0.1234567, "0.123457")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_percent() -> None:
    assert [percent(value) for value in (None, 0.0, 0.0123, -1.5)] == [
        "-",
        "0",
        "+1.23 %",
        "-150 %",
    ]
