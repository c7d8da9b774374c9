"""Memory between steps by the closed forms, against golden values of Megatron-LM's own tests.

Megatron-LM logs allocated bytes after a step, on its last rank. What is said of it are the terms of
`validation.megatron_tests`, each from the closed forms or from code, and one more for each
accelerator, measured: the median of what is left on one half of the tests, by the hash of their
names (batches, results of a step, and what the allocator does not split off a block). It is scored on
the other half.

Models are small (most have 12 layers of 512), so that workspaces of libraries are a tenth of them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from statistics import median
from typing import NamedTuple, TypeAlias

from validation.cases import Case
from validation.megatron_tests import Row, not_described, terms_of
from validation.published_memory import SUITE, rows_of

WITHIN_FRACTION = 0.02
"""Error up to which a test counts as met [fraction]."""

_MODULES = {"transformer_engine": "TransformerEngine", "local": "own modules"}

Group: TypeAlias = tuple[str, str, str]


class Golden(NamedTuple):
    """One test, what is said of it, and what was logged.

    Attributes
    ----------
    test, environment : str
        Name of the test, and where it ran.
    group : tuple of str
        Accelerator, setting of cuBLAS, and whose modules.
    terms : mapping of str to float
        What is allocated by the closed forms and by code [byte].
    logged_bytes : int
        What was logged [byte].
    fits, seen : bool
        Whether it is of the half on which the rest is measured; whether it was in sight while terms
        were chosen.
    """

    test: str
    environment: str
    group: Group
    terms: Mapping[str, float]
    logged_bytes: int
    fits: bool
    seen: bool

    @property
    def accelerator(self) -> str:
        """Return the accelerator."""
        return self.group[0]

    @property
    def left_bytes(self) -> float:
        """Return what is left beside the terms [byte]."""
        return self.logged_bytes - sum(self.terms.values())


def is_fit(test: str) -> bool:
    """Return whether a test is of the half on which the rest is measured, by its name."""
    return sha256(test.encode()).digest()[0] % 2 == 0


@cache
def golden_tests() -> tuple[tuple[Golden, ...], Mapping[str, int]]:
    """Return the tests that can be described, and how many others there are for which reason."""
    found, left_out = [], defaultdict[str, int](int)
    for row in rows_of("megatron2025/golden_memory.csv"):
        reason = not_described(row)
        if reason:
            left_out[reason] += 1
        else:
            found.append(_golden(row))
    return tuple(found), dict(left_out)


def _golden(row: Row) -> Golden:
    setting = "fixed cuBLAS workspace" if row["cublas_workspace"] else "default"
    return Golden(
        test=row["test"],
        environment=row["environment"],
        group=(row["accelerator"], setting, _MODULES[row["implementation"]]),
        terms=terms_of(row),
        logged_bytes=int(row["allocated_bytes"]),
        fits=is_fit(row["test"]),
        seen=row["split"] == "test",
    )


def rests(tests: Iterable[Golden]) -> dict[str, float]:
    """Return what is left on each accelerator, of the tests that measure it [byte]."""
    left: dict[str, list[float]] = defaultdict(list)
    for test in tests:
        if test.fits:
            left[test.accelerator].append(test.left_bytes)
    return {accelerator: median(sizes) for accelerator, sizes in left.items()}


def contradicted(tests: Sequence[Golden]) -> set[tuple[str, str]]:
    """Return test and environment of values that other values of the same test contradict.

    A value is contradicted if it is further than `WITHIN_FRACTION` from the median of the same test on
    the same accelerator, second runs included: no statement of the test meets both.
    """
    values: dict[tuple[str, str], list[int]] = defaultdict(list)
    for test in tests:
        values[test.test, test.accelerator].append(test.logged_bytes)
    return {
        (test.test, test.environment)
        for test in tests
        if abs(test.logged_bytes / median(values[test.test, test.accelerator]) - 1)
        > WITHIN_FRACTION
    }


class Score(NamedTuple):
    """How well scored tests of a group are met.

    Attributes
    ----------
    group : str
        What they share.
    scored, within : int
        Scored tests, and those whose error is at most `WITHIN_FRACTION` [count].
    median_fraction, worst_fraction : float
        Median and worst of the errors, each with its sign [fraction].
    worst_test : str
        Where.
    """

    group: str
    scored: int
    within: int
    median_fraction: float
    worst_fraction: float
    worst_test: str


def error_fractions() -> list[tuple[Golden, float]]:
    """Return the error of each test of the scored half, with its sign [fraction]."""
    tests, _ = golden_tests()
    left = rests(tests)
    return [
        (test, (sum(test.terms.values()) + left[test.accelerator]) / test.logged_bytes - 1)
        for test in tests
        if not test.fits
    ]


def scores(group_of: Callable[[Golden], str | None]) -> list[Score]:
    """Return how well the scored half is met, by group; tests of none are left out."""
    groups: dict[str, list[tuple[Golden, float]]] = defaultdict(list)
    for test, error in error_fractions():
        group = group_of(test)
        if group is not None:
            groups[group].append((test, error))
    return [_score(group, members) for group, members in sorted(groups.items())]


def _score(group: str, members: Sequence[tuple[Golden, float]]) -> Score:
    worst, error = max(members, key=lambda entry: abs(entry[1]))
    return Score(
        group,
        len(members),
        sum(abs(error) <= WITHIN_FRACTION for _, error in members),
        median(error for _, error in members),
        error,
        re.sub("^(gpt|moe)/", "", worst.test),
    )


def golden_cases() -> list[Case]:
    """Return the median error of each accelerator, setting and modules."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for score in scores(lambda test: ", ".join(test.group)):
        yield Case(
            suite=SUITE,
            name=f"Megatron-LM's tests: {score.group}, {score.scored} scored",
            claim="states of the last stage, buffers and workspaces are the allocated bytes, in the "
            "median",
            prediction=1 + score.median_fraction,
            measurement=1,
            unit="ratio",
            tolerance_fraction=WITHIN_FRACTION,
            tolerance_reason="batches and results of a step, some MiB, are not counted",
            method="allocated bytes on the last rank after a step, as logged; what is left beside "
            "the terms measured on the other half of the tests",
            source="github.com/NVIDIA/Megatron-LM@d98e8a64dd, tests/functional_tests/test_cases",
        )
