"""What the application that answers a request has saved: scenarios, and large simulations."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flask import Flask, current_app

from costmodels.errors import SpecError
from dashboard import questions
from dashboard.figures.played import Played, unpacked
from dashboard.jobs.kinds import SIMULATION, simulation_key
from dashboard.questions import Question, question
from dashboard.state import DEFAULT, State
from dashboard.store.jobs import Job, Jobs, JobState
from dashboard.store.scenarios import Saved, Store

_STORE = "SHARDWISE_STORE"


def keep_store(server: Flask, store: Store) -> None:
    """Say which scenarios an application has."""
    server.config[_STORE] = store


def store() -> Store:
    """Return the scenarios of the application that answers the request."""
    found: Store = current_app.config[_STORE]
    return found


def saved(identity: str) -> Saved:
    """Return the saved scenario that ``12``, or ``12.3`` for its third version, names.

    Raises
    ------
    SpecError
        If there is none.
    """
    number, _, version = identity.partition(".")
    parts = [part for part in (number, version) if part]
    if not parts or any(
        not part.isascii() or not part.isdigit() or len(part) > 9 for part in parts
    ):
        raise SpecError(f"scenario ({identity}): expected the number of a saved scenario")
    return store().get(int(number), int(version) if version else None)


def base_table(state: State) -> Mapping[str, Any]:
    """Return the table that the changes of an address apply to.

    Raises
    ------
    SpecError
        If it names a scenario that is not saved here.
    """
    return saved(state.base).table if state.base else DEFAULT


def asked_by(state: State) -> Question:
    """Return the question about the scenario that an address states."""
    return question(base_table(state), state.changes)


def played(asked: Question) -> Played:
    """Return the simulation of a scenario: played at once, or by a job if it is large.

    Raises
    ------
    SpecError
        If it is large and no job has played it.
    """
    count = questions.actions(asked)
    if count <= questions.MOST_ACTIONS:
        return questions.played(asked)
    jobs = store().jobs
    job = jobs.find(SIMULATION, simulation_key(asked.scenario))
    found = _kept(jobs, job.id) if job is not None and job.state is JobState.DONE else None
    if found is None:
        raise NotPlayedError(count, job)
    return found


class NotPlayedError(SpecError):
    """A step is too large for a page to wait for, and no job has played it yet.

    Attributes
    ----------
    job : Job or None
        The job that was asked to, if there is one.
    count : int
        Actions of the step [count].
    """

    def __init__(self, count: int, job: Job | None) -> None:
        self.count, self.job = count, job
        super().__init__(
            f"workload.global_batch_size: makes {count:,} actions, more than the "
            f"{questions.MOST_ACTIONS:,} that a page waits for"
        )


@lru_cache(maxsize=3)
def _kept(jobs: Jobs, identity: int) -> Played | None:
    content = jobs.result(identity)
    return None if content is None else unpacked(content)
