"""The database behind the store: where it is, how it is reached, its clock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, create_engine, event, literal_column
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from costmodels.errors import SpecError
from dashboard.store.migrate import upgrade

IN_MEMORY = "sqlite://"
"""A database that ends with the process."""

DATABASE_VARIABLE = "SHARDWISE_DATABASE_URL"

_CLOCKS = {
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}


def database_url(stated: str | None = None) -> str:
    """Return where scenarios are kept: as stated, as the environment says, or in the data folder.

    Parameters
    ----------
    stated : str, optional
        An address such as ``postgresql+psycopg://user@host/name``.
    """
    found = stated or os.environ.get(DATABASE_VARIABLE)
    if found:
        return found
    home = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    folder = (Path(home) if home else Path.home() / ".local" / "share") / "shardwise"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'scenarios.sqlite'}"


class Database:
    """A database whose tables are up to date.

    Parameters
    ----------
    url : str
        Its address, as SQLAlchemy writes it.

    Attributes
    ----------
    url : str
        The address.
    is_shared : bool
        Whether other processes can reach it.

    Raises
    ------
    SpecError
        If there is no such database, or it cannot be reached.
    """

    def __init__(self, url: str = IN_MEMORY) -> None:
        self.url, self.is_shared = url, url != IN_MEMORY
        try:
            self._engine = _engine(url)
            upgrade(self._engine)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise SpecError(
                f"--database ({url}): {str(error).splitlines()[0]}; expected an address such as "
                "sqlite:///scenarios.sqlite or postgresql+psycopg://user@host/name"
            ) from None
        except SQLAlchemyError as error:
            raise SpecError(f"--database: {_reason(error)}") from None
        if self.is_shared:
            # A server may fork from here on, and connections cannot be shared.
            self._engine.dispose()

    @property
    def now_s(self) -> ColumnElement[float]:
        """Return the time by the database's clock, the one that all its users share [s]."""
        return literal_column(_CLOCKS[self._engine.dialect.name], Double())

    @property
    def skips_locked(self) -> bool:
        """Return whether a reader can pass over rows that others are about to change."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection whose changes are kept if nothing is raised.

        Raises
        ------
        SpecError
            If the database refuses or cannot be reached.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SpecError(f"the database of scenarios: {_reason(error)}") from None


def _engine(url: str) -> Engine:
    if url == IN_MEMORY:
        pooled: dict[str, Any] = {
            "poolclass": StaticPool,
            "connect_args": {"check_same_thread": False},
        }
        return create_engine(url, **pooled)
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    """Let readers and a writer work side by side, and writers wait for each other."""
    del record
    for setting in ("journal_mode=WAL", "busy_timeout=5000", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("PRAGMA foreign_keys=ON")


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300]
