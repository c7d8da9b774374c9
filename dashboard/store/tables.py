"""The tables of the store."""

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SCENARIOS = Table(
    "scenario",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("deleted_at", DateTime(timezone=True), nullable=True),
)
"""A saved scenario, and the number of its newest version."""

VERSIONS = Table(
    "version",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("scenario_id", ForeignKey("scenario.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("name", String(200), nullable=False),
    Column("tags", String(500), nullable=False),
    Column("note", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("scenario_hash", String(64), nullable=False, index=True),
    Column("shardwise_version", String(50), nullable=False),
    Column("saved_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("scenario_id", "number"),
)
"""What a scenario was when it was saved, with the answer of the program of the time."""

JOBS = Table(
    "job",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", String(30), nullable=False),
    Column("key", String(64), nullable=False, index=True),
    Column("title", String(200), nullable=False),
    Column("content", Text, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("message", String(300), nullable=False),
    Column("reason", Text, nullable=False),
    Column("worker", String(200), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("asked_s", Double, nullable=False),
    Column("begun_s", Double, nullable=True),
    Column("beat_s", Double, nullable=True),
    Column("ended_s", Double, nullable=True),
    Column("result", LargeBinary, nullable=True),
    Index(
        "uq_job_open",
        "kind",
        "key",
        unique=True,
        sqlite_where=text("state IN ('queued', 'running')"),
        postgresql_where=text("state IN ('queued', 'running')"),
    ),
)
"""Long work: what is to be done, how far it is, and what came of it. Times are seconds since 1970
by the database's clock, so that the clocks of servers and workers need not agree."""
