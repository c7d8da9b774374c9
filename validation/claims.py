"""Claims of the notes on large models: what they say, what holds, and the cases that decide it."""

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import msgspec

from validation.running import Outcome, ValidationRun

VERDICTS = ("right", "wrong", "depends", "out of date", "cannot be checked")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and what is known of it.

    Attributes
    ----------
    id : str
        Short name, by which cases refer to it.
    notes_say : str
        The claim.
    verdict : str
        One of `VERDICTS`.
    truth : str
        What holds, in a sentence or two.
    page : str
        Page of the documentation on the subject.
    """

    id: str
    notes_say: str
    verdict: str
    truth: str
    page: str


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with what a run found on it.

    Attributes
    ----------
    claim : Claim
        The claim.
    status : str
        ``shown`` if cases ran and all passed, ``case failed``, ``no case ran``, or ``cannot be
        checked`` where no case could decide.
    measured : str
        The first of its cases with its measurement; empty without any.
    cases : tuple of str
        Names of the cases that ran.
    """

    claim: Claim
    status: str
    measured: str
    cases: tuple[str, ...]


@cache
def known_claims() -> Mapping[str, Claim]:
    """Return every claim by its short name, in the order of the notes' subjects."""
    file = resources.files("validation") / "data" / "notes_claims.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    claims = (msgspec.convert(row, Claim) for row in rows)
    return MappingProxyType({claim.id: claim for claim in claims})


def claim_rows(run: ValidationRun) -> list[ClaimRow]:
    """Return every claim with the cases of a run that decide it."""
    outcomes: dict[str, list[Outcome]] = {}
    for suite in run.suites:
        for outcome in suite.outcomes:
            for name in outcome.case.claims:
                outcomes.setdefault(name, []).append(outcome)
    return [_row(claim, outcomes.get(claim.id, [])) for claim in known_claims().values()]


def counted(rows: Iterable[ClaimRow]) -> dict[str, int]:
    """Return how many claims have each status, the shown ones first."""
    counts = dict.fromkeys(("shown", "case failed", "no case ran", "cannot be checked"), 0)
    for row in rows:
        counts[row.status] += 1
    return counts


def _row(claim: Claim, outcomes: list[Outcome]) -> ClaimRow:
    return ClaimRow(
        claim=claim,
        status=_status(claim, outcomes),
        measured=_measured(outcomes[0]) if outcomes else "",
        cases=tuple(outcome.case.name for outcome in outcomes),
    )


def _status(claim: Claim, outcomes: list[Outcome]) -> str:
    if not outcomes:
        return "cannot be checked" if claim.verdict == "cannot be checked" else "no case ran"
    return "shown" if all(outcome.passed for outcome in outcomes) else "case failed"


def _measured(outcome: Outcome) -> str:
    case = outcome.case
    return f"{case.name}: {case.measurement:.6g} {case.unit}"
