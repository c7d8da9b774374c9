"""Long work in a table, on SQLite and on PostgreSQL: asked for once, done by one worker at a time."""

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("sqlalchemy")

from costmodels.errors import SpecError
from dashboard.store.database import Database
from dashboard.store.jobs import (
    LEASE_S,
    MOST_RESULTS,
    MOST_WAITING,
    Job,
    Jobs,
    JobState,
)

SHORT_S = 0.05


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def claimed(jobs: Jobs, worker: str) -> Job:
    found = jobs.claim(worker)
    assert found is not None
    return found


def test_a_job_is_asked_for_once_and_found_again(jobs: Jobs) -> None:
    first = jobs.add("kind", "key", "title", "{}")
    assert (first.state, first.worker, first.done) == (JobState.QUEUED, "", 0)
    assert jobs.add("kind", "key", "other title", "{}").id == first.id
    other = jobs.add("kind", "other", "title", "{}")
    assert [job.id for job in jobs.listed()] == [other.id, first.id]
    found = jobs.find("kind", "key")
    assert found is not None
    assert found.id == first.id
    assert jobs.find("other", "key") is None
    assert abs(time.time() - first.asked_s) < 60


def test_a_job_is_done_with_progress_and_a_result(jobs: Jobs) -> None:
    asked = jobs.add("kind", "key", "title", "content")
    job = claimed(jobs, "worker")
    assert (job.id, job.content, job.state, job.attempt) == (
        asked.id,
        "content",
        JobState.RUNNING,
        1,
    )
    assert jobs.claim("other") is None
    assert jobs.beat(job, done=2, total=5, message="half")
    seen = jobs.get(job.id)
    assert (seen.done, seen.total, seen.message) == (2, 5, "half")
    assert jobs.finish(job, JobState.DONE, result=b"\x00found")
    seen = jobs.get(job.id)
    assert (seen.state, seen.done, seen.is_open) == (JobState.DONE, 5, False)
    assert seen.ended_s is not None
    assert jobs.result(job.id) == b"\x00found"
    # What has ended can be asked for anew.
    assert jobs.add("kind", "key", "title", "content").id != job.id


def test_a_silent_worker_loses_its_job_and_what_it_still_writes(database: Database) -> None:
    jobs = Jobs(database, lease_s=SHORT_S)
    jobs.add("kind", "key", "title", "{}")
    silent = claimed(jobs, "silent")
    time.sleep(2 * SHORT_S)
    second = claimed(jobs, "second")
    assert (second.id, second.worker, second.attempt) == (silent.id, "second", 2)
    assert not jobs.beat(silent, done=1, total=2, message="late")
    assert not jobs.finish(silent, JobState.DONE, result=b"late")
    assert jobs.result(silent.id) is None
    assert jobs.finish(second, JobState.DONE, result=b"in time")
    assert jobs.result(silent.id) == b"in time"


def test_what_kills_its_workers_is_given_up(database: Database) -> None:
    jobs = Jobs(database, lease_s=SHORT_S)
    jobs.add("kind", "key", "title", "{}")
    for worker in ("first", "second"):
        claimed(jobs, worker)
        time.sleep(2 * SHORT_S)
    assert jobs.claim("third") is None
    ended = jobs.listed()[0]
    assert ended.state is JobState.FAILED
    assert "fell silent" in ended.reason


def test_a_job_whose_worker_ends_in_order_waits_for_the_next(jobs: Jobs) -> None:
    jobs.add("kind", "key", "title", "{}")
    for _ in range(4):
        jobs.put_back(claimed(jobs, "worker"))
    assert jobs.listed()[0].state is JobState.QUEUED


def test_cancelling_waits_for_a_worker_that_is_alive_only(database: Database) -> None:
    jobs = Jobs(database)
    waiting = jobs.add("kind", "waiting", "title", "{}")
    assert jobs.cancel(waiting.id).state is JobState.CANCELLED
    assert jobs.claim("worker") is None
    jobs.add("kind", "running", "title", "{}")
    running = claimed(jobs, "worker")
    asked = jobs.cancel(running.id)
    assert (asked.state, asked.is_cancelled) == (JobState.RUNNING, True)
    assert not jobs.beat(running, done=1, total=2, message="")
    assert jobs.finish(running, JobState.CANCELLED)
    with pytest.raises(SpecError, match=r"has ended already \(cancelled\)"):
        jobs.cancel(running.id)
    with pytest.raises(SpecError, match="there is none with this number"):
        jobs.cancel(10**6)
    hasty = Jobs(database, lease_s=SHORT_S)
    hasty.add("kind", "silent", "title", "{}")
    silent = claimed(hasty, "worker")
    time.sleep(2 * SHORT_S)
    assert hasty.cancel(silent.id).state is JobState.CANCELLED


def test_too_many_waiting_jobs_are_refused(jobs: Jobs) -> None:
    for count in range(MOST_WAITING):
        jobs.add("kind", str(count), "title", "{}")
    with pytest.raises(SpecError, match=f"{MOST_WAITING} jobs wait already"):
        jobs.add("kind", "one more", "title", "{}")


def test_only_the_newest_results_are_kept(jobs: Jobs) -> None:
    for count in range(MOST_RESULTS + 2):
        jobs.add("kind", str(count), "title", "{}")
        jobs.finish(claimed(jobs, "worker"), JobState.DONE, result=b"x")
    kept = [jobs.result(job.id) is not None for job in jobs.listed()]
    assert kept == [True] * MOST_RESULTS + [False] * 2


def test_a_worker_that_is_silent_for_long_shows(jobs: Jobs) -> None:
    job = jobs.add("kind", "key", "title", "{}")
    assert not job.is_abandoned
    running = job._replace(state=JobState.RUNNING)
    assert running._replace(silent_s=LEASE_S + 1).is_abandoned
    assert not running._replace(silent_s=LEASE_S - 1).is_abandoned


def test_no_two_workers_get_the_same_job(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("one connection")
    database = Database(url)
    jobs, found = Jobs(database), list[int]()
    for count in range(MOST_WAITING):
        jobs.add("kind", str(count), "title", "{}")

    def claim(worker: str) -> None:
        while job := jobs.claim(worker):
            found.append(job.id)

    threads = [threading.Thread(target=claim, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(job.id for job in jobs.listed())
    database.close()
