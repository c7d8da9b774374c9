"""Long work in a table: asked for by anybody, claimed by one worker at a time, watched by all.

A worker that has claimed a job says so again and again. Who falls silent for longer than a lease
loses the job to the next worker, and what it still writes is not kept.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from costmodels.errors import SpecError
from dashboard.store.database import Database
from dashboard.store.tables import JOBS

LEASE_S = 10.0
"""How long a worker may be silent before others take its job over [s]."""

MOST_ATTEMPTS = 2
"""Workers that may die of a job before it is given up."""

MOST_WAITING = 20
"""Jobs that may wait at once; more are refused."""

MOST_RESULTS, MOST_KEPT = 10, 200
"""Finished jobs whose result is kept, and those of which the rest is; the newest of them."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OPEN = (JobState.QUEUED, JobState.RUNNING)


class Job(NamedTuple):
    """A piece of long work.

    Attributes
    ----------
    id : int
        Its number.
    kind, key, title : str
        What kind of work; what tells it from others of its kind; what people call it.
    content : str
        What is to be done, as JSON.
    state : JobState
        Where it stands.
    done, total : int
        Parts behind, and all of them, zero until it is known [count].
    message, reason : str
        What is being done; why it failed.
    worker : str
        Who does it.
    attempt : int
        How many workers have claimed it, and which of them a worker is [count].
    is_cancelled : bool
        Whether somebody asked to end it.
    asked_s, begun_s, ended_s : float or None
        When, by the database's clock [s].
    silent_s : float
        How long ago its worker, or who asked for it, was last heard of [s].
    """

    id: int
    kind: str
    key: str
    title: str
    content: str
    state: JobState
    done: int
    total: int
    message: str
    reason: str
    worker: str
    attempt: int
    is_cancelled: bool
    asked_s: float
    begun_s: float | None
    ended_s: float | None
    silent_s: float

    @property
    def is_open(self) -> bool:
        """Return whether something is still to come."""
        return self.state in _OPEN

    @property
    def is_abandoned(self) -> bool:
        """Return whether its worker has been silent for longer than a lease."""
        return self.state is JobState.RUNNING and self.silent_s > LEASE_S


class Jobs:
    """The jobs of a database.

    Parameters
    ----------
    database : Database
        Where they are.
    lease_s : float, optional
        How long a worker may be silent [s].
    """

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database, self._lease_s = database, lease_s

    @property
    def is_shared(self) -> bool:
        """Return whether workers, which are processes of their own, can reach the jobs."""
        return self._database.is_shared

    @property
    def url(self) -> str:
        """Return where the jobs are."""
        return self._database.url

    def add(self, kind: str, key: str, title: str, content: str) -> Job:
        """Return a job that waits for a worker; the same one where it is asked for already.

        Raises
        ------
        SpecError
            If too many wait.
        """
        with self._database.transaction() as connection:
            waiting = connection.execute(
                select(func.count()).select_from(JOBS).where(JOBS.c.state == JobState.QUEUED)
            ).scalar_one()
            if waiting >= MOST_WAITING:
                raise SpecError(
                    f"{waiting} jobs wait already; expected fewer than {MOST_WAITING}: cancel some "
                    "(shardwise jobs), or start another worker (shardwise worker)"
                )
            insert = postgresql.insert if self._database.skips_locked else sqlite.insert
            # An index lets only one open job have a kind and a key.
            connection.execute(
                insert(JOBS)
                .values(
                    kind=kind,
                    key=key,
                    title=title[:200],
                    content=content,
                    state=JobState.QUEUED,
                    done=0,
                    total=0,
                    message="",
                    reason="",
                    worker="",
                    attempt=0,
                    is_cancelled=False,
                    asked_s=self._database.now_s,
                )
                .on_conflict_do_nothing()
            )
        found = self.find(kind, key)
        if found is None:
            raise SpecError(f"{title}: was asked for, but has been removed since")
        return found

    def get(self, identity: int) -> Job:
        """Return a job.

        Raises
        ------
        SpecError
            If there is none.
        """
        found = self._first(JOBS.c.id == identity)
        if found is None:
            raise SpecError(f"job ({identity}): there is none with this number")
        return found

    def find(self, kind: str, key: str) -> Job | None:
        """Return the newest job of a kind with a key, None where there is none."""
        return self._first(and_(JOBS.c.kind == kind, JOBS.c.key == key))

    def listed(self, most: int = 100) -> list[Job]:
        """Return the newest jobs, the newest first."""
        query = self._select().order_by(JOBS.c.id.desc()).limit(most)
        with self._database.transaction() as connection:
            return [_job(row) for row in connection.execute(query)]

    def result(self, identity: int) -> bytes | None:
        """Return what a job found, None where that is not kept."""
        query = select(JOBS.c.result).where(JOBS.c.id == identity)
        with self._database.transaction() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else bytes(found)

    def cancel(self, identity: int) -> Job:
        """Ask to end a job; one that nobody works on ends at once.

        Raises
        ------
        SpecError
            If there is no such job, or it has ended already.
        """
        job = self.get(identity)
        if not job.is_open:
            raise SpecError(f"job ({identity}): has ended already ({job.state.value})")
        idle = or_(JOBS.c.state == JobState.QUEUED, self._is_stale())
        with self._database.transaction() as connection:
            connection.execute(
                update(JOBS)
                .where(JOBS.c.id == identity, JOBS.c.state.in_(_OPEN))
                .values(is_cancelled=True)
            )
            connection.execute(
                update(JOBS)
                .where(JOBS.c.id == identity, JOBS.c.is_cancelled, idle)
                .values(state=JobState.CANCELLED, ended_s=self._database.now_s)
            )
        return self.get(identity)

    def claim(self, worker: str) -> Job | None:
        """Return a job that a worker is to do, None where there is none.

        First come those that wait; with them those whose worker has fallen silent.
        """
        waits = or_(JOBS.c.state == JobState.QUEUED, self._is_stale())
        if self._first(waits) is None:
            return None  # Looking changes nothing, so that idle workers lock nobody out.
        self._give_up()
        next_one = select(JOBS.c.id).where(waits).order_by(JOBS.c.id).limit(1)
        if self._database.skips_locked:
            next_one = next_one.with_for_update(skip_locked=True)
        with self._database.transaction() as connection:
            row = connection.execute(
                update(JOBS)
                .where(JOBS.c.id == next_one.scalar_subquery(), waits)
                .values(
                    state=JobState.RUNNING,
                    worker=worker[:200],
                    attempt=JOBS.c.attempt + 1,
                    done=0,
                    total=0,
                    message="",
                    begun_s=self._database.now_s,
                    beat_s=self._database.now_s,
                )
                .returning(JOBS.c.id)
            ).first()
        return None if row is None else self.get(row.id)

    def beat(self, job: Job, *, done: int, total: int, message: str) -> bool:
        """Say that a worker still does a job; return whether it is to go on."""
        with self._database.transaction() as connection:
            row = connection.execute(
                update(JOBS)
                .where(*_held(job))
                .values(beat_s=self._database.now_s, done=done, total=total, message=message[:300])
                .returning(JOBS.c.is_cancelled)
            ).first()
        return row is not None and not row.is_cancelled

    def finish(
        self, job: Job, state: JobState, *, result: bytes | None = None, reason: str = ""
    ) -> bool:
        """End a job; return whether the worker still held it."""
        values: dict[str, Any] = {"state": state, "result": result, "reason": reason[:10_000]}
        if state is JobState.DONE:
            values |= {"done": JOBS.c.total, "message": ""}
        with self._database.transaction() as connection:
            held = connection.execute(
                update(JOBS)
                .where(*_held(job))
                .values(ended_s=self._database.now_s, **values)
                .returning(JOBS.c.id)
            ).first()
        self._forget()
        return held is not None

    def put_back(self, job: Job) -> None:
        """Let another worker do a job, since its own one ends before it."""
        with self._database.transaction() as connection:
            connection.execute(
                update(JOBS)
                .where(*_held(job))
                .values(state=JobState.QUEUED, attempt=JOBS.c.attempt - 1, done=0, message="")
            )

    def _is_stale(self) -> ColumnElement[bool]:
        silent_s = self._database.now_s - JOBS.c.beat_s
        return and_(JOBS.c.state == JobState.RUNNING, silent_s > self._lease_s)

    def _give_up(self) -> None:
        """End the jobs that were to be ended, or that one worker after another has died of."""
        now_s = self._database.now_s
        reason = (
            f"{MOST_ATTEMPTS} workers in turn fell silent while they did it, as if they had been "
            "killed; it may need more memory than there is"
        )
        with self._database.transaction() as connection:
            connection.execute(
                update(JOBS)
                .where(self._is_stale(), JOBS.c.is_cancelled)
                .values(state=JobState.CANCELLED, ended_s=now_s)
            )
            connection.execute(
                update(JOBS)
                .where(self._is_stale(), JOBS.c.attempt >= MOST_ATTEMPTS)
                .values(state=JobState.FAILED, ended_s=now_s, reason=reason)
            )

    def _forget(self) -> None:
        """Remove what is too old to be kept."""
        ended = JOBS.c.state.not_in(_OPEN)
        newest = select(JOBS.c.id).where(ended).order_by(JOBS.c.id.desc())
        filled = newest.where(JOBS.c.result.is_not(None))
        with self._database.transaction() as connection:
            connection.execute(
                update(JOBS)
                .where(ended, JOBS.c.id.not_in(_newest(filled, MOST_RESULTS)))
                .values(result=None)
            )
            connection.execute(
                delete(JOBS).where(ended, JOBS.c.id.not_in(_newest(newest, MOST_KEPT)))
            )

    def _first(self, condition: ColumnElement[bool]) -> Job | None:
        query = self._select().where(condition).order_by(JOBS.c.id.desc()).limit(1)
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else _job(row)

    def _select(self) -> Any:
        columns = [JOBS.c[name] for name in Job._fields if name != "silent_s"]
        heard_s = func.coalesce(JOBS.c.beat_s, JOBS.c.asked_s)
        return select(*columns, (self._database.now_s - heard_s).label("silent_s"))


def _newest(query: Any, most: int) -> Any:
    # Behind a name of its own: some databases refuse a limit right within IN.
    return select(query.limit(most).subquery().c.id)


def _held(job: Job) -> tuple[ColumnElement[bool], ...]:
    """Return what is true while the worker that claimed a job still has it."""
    return (
        JOBS.c.id == job.id,
        JOBS.c.state == JobState.RUNNING,
        JOBS.c.worker == job.worker,
        JOBS.c.attempt == job.attempt,
    )


def _job(row: Any) -> Job:
    return Job(*row)._replace(state=JobState(row.state))
