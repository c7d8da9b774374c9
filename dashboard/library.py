"""The saved scenarios of the application that answers a request."""

from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app

from costmodels.errors import SpecError
from dashboard.questions import Question, question
from dashboard.state import DEFAULT, State
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
