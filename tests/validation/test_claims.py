"""Every claim has a verdict and a page; none counts as shown unless a case of it ran and passed."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from docs.generate import ROOT
from tests.validation.validation_runs import GOOD, played
from validation.cases import Case, passed
from validation.claims import VERDICTS, claim_rows, counted, known_claims
from validation.jobs import Settings
from validation.running import ValidationRun
from validation.suites import known_suites
from validation.suites.claims import SUITE


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case for job in SUITE.jobs(Settings()) for case in job.run()]


def run_with(claims: tuple[str, ...], *, good: bool) -> ValidationRun:
    run = played(GOOD)
    (suite,) = run.suites
    first, second = suite.outcomes
    tagged = msgspec.structs.replace(
        first, case=msgspec.structs.replace(first.case, claims=claims), passed=good
    )
    replaced = msgspec.structs.replace(suite, outcomes=(tagged, second))
    return msgspec.structs.replace(run, suites=(replaced,))


def test_every_claim_is_told_once_with_a_verdict() -> None:
    claims = known_claims()
    assert len(claims) == 132
    assert all(claim.verdict in VERDICTS and claim.truth for claim in claims.values())
    assert Counter(claim.verdict for claim in claims.values()) == {
        "right": 45,
        "depends": 41,
        "wrong": 38,
        "out of date": 4,
        "cannot be checked": 4,
    }


def test_nothing_is_shown_without_a_case_that_passed() -> None:
    assert counted(claim_rows(played(GOOD))) == {
        "shown": 0,
        "case failed": 0,
        "no case ran": 128,
        "cannot be checked": 4,
    }
    rows = {row.claim.id: row for row in claim_rows(run_with(("TP-1", "PP-1"), good=True))}
    assert (rows["TP-1"].status, rows["TP-1"].cases) == ("shown", ("a",))
    assert rows["TP-1"].measured == "a: 3 byte"
    rows = {row.claim.id: row for row in claim_rows(run_with(("TP-1",), good=False))}
    assert rows["TP-1"].status == "case failed"
    assert rows["PP-1"].status == "no case ran"


@pytest.mark.torch
def test_every_case_of_the_claims_passes_and_decides_a_known_claim(cases: list[Case]) -> None:
    assert [case.name for case in cases if not passed(case)] == []
    decided = {name for case in cases for name in case.claims}
    assert decided <= known_claims().keys()
    assert all(case.claims for case in cases)
    parallel = {name for name in known_claims() if name[:2] in ("TP", "SP", "PP", "3D")}
    assert parallel <= decided
    assert {f"INF-{number}" for number in (2, 9, 12, 13, 14, 15, 16)} <= decided
    assert {name for name in known_claims() if name.startswith("FLT")} <= decided
    assert {f"INT8-{number}" for number in range(1, 10)} <= decided
    assert {"PTQ-1", "PTQ-2", "QAT-2", "LOR-1", "LOR-2", "LOR-3", "LOR-5"} <= decided
    assert {"MOE-1", "MOE-2", "MOE-3"} <= decided


@pytest.mark.torch
def test_names_of_cases_differ(cases: list[Case]) -> None:
    assert [name for name, count in Counter(c.name for c in cases).items() if count > 1] == []


def test_pages_exist() -> None:
    pages = {suite.page for suite in known_suites().values()}
    assert [page for page in pages if not (ROOT / "docs" / page).exists()] == []
    assert Path(ROOT / "docs" / "notes-claims.md").exists()
