"""The tables of the store."""

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
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
