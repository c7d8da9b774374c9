"""Workers: what they do of a job, how they end it, and what happens when they or it are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("sqlalchemy")

from costmodels.errors import SpecError
from dashboard.figures.played import played_of, unpacked
from dashboard.jobs import kinds, worker
from dashboard.jobs.keeping import kept_worker
from dashboard.jobs.kinds import Kind, Told, ask_simulation, ask_validation
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.database import Database
from dashboard.store.jobs import Job, Jobs, JobState
from simulator.whatif import simulate
from validation.report.comparison import RECORD, load


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(Database(f"sqlite:///{tmp_path / 'store.sqlite'}"))


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let jobs of the kind "tried" be done by a program, which writes what is kept."""
    kind = Kind(
        lambda _, place: [sys.executable, "-c", program, str(place.folder / "result")],
        lambda line: Told(line["done"], line["total"], line["message"]),
        lambda place: (place.folder / "result").read_bytes(),
    )
    monkeypatch.setitem(kinds._KINDS, "tried", kind)


def does(jobs: Jobs, tmp_path: Path) -> worker.Worker:
    return worker.Worker(jobs, tmp_path / "reports", lambda _: None)


def waited(jobs: Jobs, job: Job, until: Callable[[Job], bool]) -> Job:
    for _ in range(400):
        found = jobs.get(job.id)
        if until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


_TELLS = """
import sys, time
print("for people")
print('{"done": 1, "total": 4, "message": "first"}', flush=True)
"""


def test_a_program_tells_how_far_it_is_and_leaves_a_result(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, _TELLS + "open(sys.argv[1], 'wb').write(b'found')")
    job = jobs.add("tried", "", "title", "{}")
    does(jobs, tmp_path).run(until_idle=True)
    assert jobs.get(job.id).state is JobState.DONE
    assert jobs.result(job.id) == b"found"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('error: field (3): must be 4')", "field (3): must be 4"),
        ("import sys; sys.exit(9)", "ended with code 9"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL; it may need more memory"),
    ],
)
def test_a_program_that_fails_says_why(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    runs(monkeypatch, program)
    job = jobs.add("tried", "", "title", "{}")
    unknown = jobs.add("nothing", "", "title", "{}")
    does(jobs, tmp_path).run(until_idle=True)
    failed = jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert reason in failed.reason
    assert "unknown kind of job 'nothing'" in jobs.get(unknown.id).reason


def test_progress_is_seen_and_a_job_is_cancelled(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, _TELLS + "time.sleep(60)")
    monkeypatch.setattr(worker, "BEAT_S", 0.05)
    job = jobs.add("tried", "", "title", "{}")
    thread = threading.Thread(target=does(jobs, tmp_path).run, kwargs={"until_idle": True})
    thread.start()
    seen = waited(jobs, job, lambda job: job.done == 1)
    assert (seen.total, seen.message) == (4, "first")
    jobs.cancel(job.id)
    thread.join(10)
    assert not thread.is_alive()
    assert jobs.get(job.id).state is JobState.CANCELLED


def test_a_worker_that_is_told_to_stop_puts_its_job_back(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, _TELLS + "time.sleep(60)")
    job = jobs.add("tried", "", "title", "{}")
    stopped = does(jobs, tmp_path)
    thread = threading.Thread(target=stopped.run)
    thread.start()
    waited(jobs, job, lambda job: job.done == 1)
    stopped.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert jobs.get(job.id).state is JobState.QUEUED


def test_a_worker_ends_after_the_process_that_started_it(jobs: Jobs, tmp_path: Path) -> None:
    does(jobs, tmp_path).run(parent=os.getppid() + 1)
    assert jobs.listed() == []


def test_a_simulation_is_the_one_that_the_command_line_plays(jobs: Jobs, tmp_path: Path) -> None:
    scenario = scenario_of(DEFAULT, (("microbatches", "64"),))
    job = ask_simulation(jobs, scenario, "64 microbatches")
    assert ask_simulation(jobs, scenario, "the same").id == job.id
    does(jobs, tmp_path).run(until_idle=True)
    content = jobs.result(job.id)
    assert content is not None
    found, expected = unpacked(content), played_of(simulate(scenario))
    assert found.makespan_s == expected.makespan_s
    assert found.idle == expected.idle
    assert found.drawing.held == expected.drawing.held
    assert found.drawing.spans.names == expected.drawing.spans.names
    assert (found.drawing.spans.end_s == expected.drawing.spans.end_s).all()


@pytest.mark.slow
def test_a_quick_validation_leaves_a_report(jobs: Jobs, tmp_path: Path) -> None:
    job = ask_validation(jobs, ("published-memory",))
    does(jobs, tmp_path).run(until_idle=True)
    done = jobs.get(job.id)
    assert (done.state, done.reason) == (JobState.DONE, "")
    assert done.total > 0
    name = (jobs.result(job.id) or b"").decode()
    run = load(tmp_path / "reports" / name / RECORD)
    assert [suite.name for suite in run.suites] == ["published-memory"]
    assert run.quick


def test_a_suite_never_becomes_an_option(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected the name of a suite"):
        ask_validation(jobs, ("--out=/",))
    content = msgspec.json.encode({"suites": ["--out=/"]}).decode()
    job = jobs.add(kinds.VALIDATION, "", "title", content)
    does(jobs, tmp_path).run(until_idle=True)
    assert "expected the name of a suite" in jobs.get(job.id).reason


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_job_taken_over(jobs: Jobs, tmp_path: Path) -> None:
    job = ask_simulation(jobs, scenario_of(DEFAULT, (("microbatches", "2000"),)), "large")
    with kept_worker(jobs.url, tmp_path / "reports"):
        first = waited(jobs, job, lambda job: job.done > 0)
        os.kill(int(first.worker.rpartition(":")[2]), signal.SIGKILL)
        # Whoever comes next waits for the lease to end, or here for none.
        hasty = Jobs(Database(jobs.url), lease_s=0.5)
        time.sleep(1)
        does(hasty, tmp_path).run(until_idle=True)
        done = waited(jobs, job, lambda job: not job.is_open)
    assert (done.state, done.attempt) == (JobState.DONE, 2)


@pytest.mark.slow
def test_jobs_on_the_command_line(jobs: Jobs) -> None:
    ask_simulation(jobs, scenario_of(DEFAULT, ()), "waits")

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "cli.main", *words, "--database", jobs.url]
        return subprocess.check_output(command, text=True, env=worker.same_code())

    assert msgspec.json.decode(said("jobs", "--json"))[0]["state"] == "queued"
    assert "cancelled" in said("jobs", "cancel", "1")
    assert "waits" in said("jobs")
    assert said("worker", "--until-idle") == ""
