"""Suites run to their end whatever fails, and say what could not run."""

import pytest

from costmodels.errors import SpecError
from tests.validation.validation_runs import BAD, GOOD, MISSING, STOPPED, TROUBLED, played
from validation.jobs import Settings
from validation.running import Progress, run_suites
from validation.suites import chosen_suites, known_suites


def names(run: object, place: int = 0) -> list[str]:
    return [outcome.case.name for outcome in run.suites[place].outcomes]  # type: ignore[attr-defined]


def test_cases_within_their_tolerance_pass() -> None:
    run = played(GOOD)
    assert (run.case_count, run.failure_count, run.trouble_count) == (2, 0, 0)
    assert [outcome.error_fraction for outcome in run.suites[0].outcomes] == [0.0, 0.01]
    assert run.suites[0].complete
    assert not run.interrupted


def test_a_case_that_fails_does_not_stop_the_rest() -> None:
    run = played(BAD, GOOD)
    assert names(run) == ["c", "a | zero", "d"]
    assert [outcome.case.name for outcome in run.suites[0].failures] == ["c", "a | zero"]
    assert run.suites[0].outcomes[1].error_fraction is None
    assert names(run, 1) == ["a", "b"]


def test_a_job_that_cannot_run_keeps_its_cases_and_lets_the_others_run() -> None:
    run = played(TROUBLED)
    assert names(run) == ["before the trouble", "e"]
    assert [(trouble.job, trouble.reason) for trouble in run.suites[0].troubles] == [
        ("raises", "ValueError: no such thing"),
        ("unavailable", "no GPU on this machine"),
    ]


def test_an_interruption_keeps_what_is_done_and_runs_nothing_more() -> None:
    run = played(GOOD, STOPPED, BAD)
    assert run.interrupted
    assert names(run) == ["a", "b"]
    assert names(run, 1) == ["before the interruption"]
    assert not run.suites[1].complete
    assert names(run, 2) == []
    assert not run.suites[2].complete


def test_a_suite_without_what_it_needs_says_so() -> None:
    run = played(MISSING)
    (trouble,) = run.suites[0].troubles
    assert "no_such_module_anywhere" in trouble.reason
    assert run.case_count == 0


def test_jobs_are_chosen_by_name() -> None:
    run = run_suites([BAD, GOOD], Settings(), only=["right"])
    assert [suite.name for suite in run.suites] == ["bad"]
    assert names(run) == ["d"]
    with pytest.raises(SpecError, match=r"rigth.*right"):
        run_suites([BAD, GOOD], Settings(), only=["rigth"])


def test_progress_is_told_before_each_job() -> None:
    told: list[Progress] = []
    run_suites([BAD, TROUBLED], Settings(), report=told.append)
    assert [(entry.job, entry.done, entry.cases, entry.failures) for entry in told] == [
        ("wrong", 0, 0, 0),
        ("right", 1, 2, 2),
        ("raises", 2, 3, 2),
        ("unavailable", 3, 4, 2),
        ("goes on", 4, 4, 2),
    ]
    assert {entry.total for entry in told} == {5}


def test_a_case_says_how_to_run_it_again() -> None:
    run = run_suites([GOOD], Settings(seed=3, device="cuda"))
    command = run.suites[0].outcomes[0].command
    assert command == "shardwise validate good --job 'equal' --seed 3 --device cuda"


def test_every_suite_is_found_under_its_own_name_with_jobs_that_differ() -> None:
    assert {"parameters", "flops", "memory", "communication"} <= known_suites().keys()
    for name, suite in known_suites().items():
        assert suite.name == name
        jobs = [job.name for job in suite.jobs(Settings())]
        quick = [job.name for job in suite.jobs(Settings(quick=True))]
        assert len(set(jobs)) == len(jobs)
        assert len(set(quick)) == len(quick)


def test_an_unknown_suite_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SpecError, match="flops"):
        chosen_suites(["flop"])
    assert [suite.name for suite in chosen_suites(["flops", "parameters"])] == [
        "parameters",
        "flops",
    ]
