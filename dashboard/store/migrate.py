"""Bringing the tables of a database up to date."""

from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

_LOCK = 727_301_402
"""Number of the lock that servers that start at once take in turn."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Apply the migrations that a database has not seen yet."""
    try:
        _run(engine, revision)
    except (OperationalError, ProgrammingError) as error:
        # On SQLite there is no lock to take: another process may have made the tables just now.
        if "already exists" not in str(error):
            raise
        _run(engine, revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take migrations back, down to a revision or ``base``."""
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def _run(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        command.upgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    folder = resources.files("dashboard.store") / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
