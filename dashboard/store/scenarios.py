"""Saving, finding and deleting scenarios: nothing is overwritten, and deleting can be undone."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, insert, select, update

from costmodels.errors import ShardwiseError, SpecError
from costmodels.scenario import scenario_from_table, scenario_hash
from costmodels.version import VERSION
from dashboard.store.database import IN_MEMORY, Database
from dashboard.store.jobs import Jobs
from dashboard.store.tables import SCENARIOS, VERSIONS
from simulator.answer import Answer

MOST_BYTES = 1_000_000
"""Largest scenario that is kept [byte]."""


class ConflictError(ShardwiseError):
    """Somebody else saved the same scenario in the meantime.

    Attributes
    ----------
    current : Saved
        What is saved now.
    """

    def __init__(self, current: "Saved") -> None:
        self.current = current
        super().__init__(
            f"'{current.name}' was saved by somebody else in the meantime, as version "
            f"{current.version}: nothing was overwritten"
        )


class Saved(NamedTuple):
    """A version of a saved scenario.

    Attributes
    ----------
    id : int
        The scenario.
    version : int
        Its version, from 1.
    name, tags, note : str
        What people call it and say about it.
    content : str
        The scenario's table, as JSON.
    answer : dict
        The answer when it was saved: groups of an answer by name.
    scenario_hash, shardwise_version : str
        Of the scenario; of the program that gave the answer.
    saved_at : datetime
        When, in UTC.
    """

    id: int
    version: int
    name: str
    tags: str
    note: str
    content: str
    answer: dict[str, Any]
    scenario_hash: str
    shardwise_version: str
    saved_at: datetime

    @property
    def table(self) -> dict[str, Any]:
        """Return the scenario's table."""
        found: dict[str, Any] = msgspec.json.decode(self.content)
        return found


class Store:
    """Saved scenarios.

    Parameters
    ----------
    url : str
        Address of the database, as SQLAlchemy writes it; its tables are brought up to date.

    Attributes
    ----------
    jobs : Jobs
        Long work, in the same database.

    Raises
    ------
    SpecError
        If there is no such database, or it cannot be reached.
    """

    def __init__(self, url: str = IN_MEMORY) -> None:
        self._database = Database(url)
        self.jobs = Jobs(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def save_new(
        self, table: Mapping[str, Any], answer: Answer, *, name: str, tags: str = "", note: str = ""
    ) -> Saved:
        """Return a scenario saved under a name.

        Raises
        ------
        SpecError
            If the name is empty or too long, or the scenario too large.
        """
        row = _row(table, answer, name=name, tags=tags, note=note)
        with self._database.transaction() as connection:
            made = connection.execute(insert(SCENARIOS).values(version=1).returning(SCENARIOS.c.id))
            identity = int(made.scalar_one())
            connection.execute(insert(VERSIONS).values(scenario_id=identity, number=1, **row))
        return self.get(identity)

    def save_version(
        self,
        identity: int,
        seen_version: int,
        table: Mapping[str, Any],
        answer: Answer,
        *,
        name: str,
        tags: str = "",
        note: str = "",
    ) -> Saved:
        """Return a scenario's next version, saved.

        Parameters
        ----------
        identity, seen_version : int
            The scenario, and the version that the changes were made to.
        table : mapping
            The scenario.
        answer : Answer
            The answer to it.
        name, tags, note : str
            As of `Saved`.

        Raises
        ------
        ConflictError
            If there is a newer version than the one that was seen.
        SpecError
            As `save_new`, or if there is no such scenario.
        """
        row = _row(table, answer, name=name, tags=tags, note=note)
        with self._database.transaction() as connection:
            # The comparison and the change are one statement, so that of two savers one loses.
            raised = connection.execute(
                update(SCENARIOS)
                .where(SCENARIOS.c.id == identity, SCENARIOS.c.version == seen_version)
                .values(version=seen_version + 1, deleted_at=None)
                .returning(SCENARIOS.c.id)
            ).first()
            if raised is not None:
                connection.execute(
                    insert(VERSIONS).values(scenario_id=identity, number=seen_version + 1, **row)
                )
        if raised is None:
            raise ConflictError(self.get(identity))
        return self.get(identity)

    def get(self, identity: int, version: int | None = None) -> Saved:
        """Return a saved scenario, its newest version unless another is asked for.

        Raises
        ------
        SpecError
            If there is none.
        """
        wanted = SCENARIOS.c.version if version is None else version
        query = _SELECT.where(SCENARIOS.c.id == identity, VERSIONS.c.number == wanted)
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
        if row is None:
            shown = identity if version is None else f"{identity}.{version}"
            raise SpecError(f"scenario ({shown}): no saved scenario has this number")
        return _saved(row)

    def history(self, identity: int) -> list[Saved]:
        """Return all versions of a scenario, the newest first."""
        query = _SELECT.where(SCENARIOS.c.id == identity).order_by(VERSIONS.c.number.desc())
        with self._database.transaction() as connection:
            return [_saved(row) for row in connection.execute(query)]

    def listed(self, *, deleted: bool = False) -> list[Saved]:
        """Return the newest version of every scenario, the last saved first."""
        gone = SCENARIOS.c.deleted_at
        query = (
            _SELECT.where(VERSIONS.c.number == SCENARIOS.c.version)
            .where(gone.is_not(None) if deleted else gone.is_(None))
            .order_by(VERSIONS.c.saved_at.desc(), VERSIONS.c.id.desc())
            .limit(_MOST_LISTED)
        )
        with self._database.transaction() as connection:
            return [_saved(row) for row in connection.execute(query)]

    def find(self, digest: str) -> Saved | None:
        """Return a scenario whose newest version has a hash, None where there is none."""
        query = _SELECT.where(
            VERSIONS.c.scenario_hash == digest,
            VERSIONS.c.number == SCENARIOS.c.version,
            SCENARIOS.c.deleted_at.is_(None),
        )
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else _saved(row)

    def delete(self, identity: int) -> None:
        """Put a scenario aside; `restore` takes it back."""
        self._mark(identity, datetime.now(UTC))

    def restore(self, identity: int) -> None:
        """Take a deleted scenario back."""
        self._mark(identity, None)

    def _mark(self, identity: int, when: datetime | None) -> None:
        with self._database.transaction() as connection:
            found = connection.execute(
                update(SCENARIOS)
                .where(SCENARIOS.c.id == identity)
                .values(deleted_at=when)
                .returning(SCENARIOS.c.id)
            ).first()
        if found is None:
            raise SpecError(f"scenario ({identity}): no saved scenario has this number")

    def count(self) -> int:
        """Return how many scenarios there are, deleted ones too [count]."""
        with self._database.transaction() as connection:
            return int(connection.execute(select(func.count()).select_from(SCENARIOS)).scalar_one())


_MOST_LISTED = 1_000

_SELECT = select(
    SCENARIOS.c.id.label("scenario"),
    VERSIONS.c.number,
    VERSIONS.c.name,
    VERSIONS.c.tags,
    VERSIONS.c.note,
    VERSIONS.c.content,
    VERSIONS.c.answer,
    VERSIONS.c.scenario_hash,
    VERSIONS.c.shardwise_version,
    VERSIONS.c.saved_at,
).join_from(SCENARIOS, VERSIONS, VERSIONS.c.scenario_id == SCENARIOS.c.id)


def _row(
    table: Mapping[str, Any], answer: Answer, *, name: str, tags: str, note: str
) -> dict[str, Any]:
    for field, text, most in (("name", name, 200), ("tags", tags, 500), ("note", note, 10_000)):
        if len(text) > most:
            raise SpecError(f"{field}: has {len(text):,} characters; expected at most {most:,}")
    if not name.strip():
        raise SpecError("name: is empty; expected what the scenario is to be called")
    content = msgspec.json.encode(table).decode()
    if len(content) > MOST_BYTES:
        raise SpecError(f"scenario: has {len(content):,} bytes; expected at most {MOST_BYTES:,}")
    told = msgspec.to_builtins(answer)
    for key in ("scenario", "assumptions"):
        told.pop(key)
    return {
        "name": name.strip(),
        "tags": tags.strip(),
        "note": note.strip(),
        "content": content,
        "answer": msgspec.json.encode(told).decode(),
        "scenario_hash": scenario_hash(scenario_from_table(table)),
        "shardwise_version": VERSION,
        "saved_at": datetime.now(UTC),
    }


def _saved(row: Any) -> Saved:
    saved_at: datetime = row.saved_at
    # SQLite keeps no time zone: what is written is UTC.
    aware = saved_at if saved_at.tzinfo else saved_at.replace(tzinfo=UTC)
    return Saved(
        id=row.scenario,
        version=row.number,
        name=row.name,
        tags=row.tags,
        note=row.note,
        content=row.content,
        answer=msgspec.json.decode(row.answer),
        scenario_hash=row.scenario_hash,
        shardwise_version=row.shardwise_version,
        saved_at=aware.astimezone(UTC),
    )
