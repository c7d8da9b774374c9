"""Saved scenarios, on SQLite and on a PostgreSQL that the test starts."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from costmodels.errors import SpecError
from costmodels.scenario import scenario_hash, scenario_to_table
from dashboard.opening import opened
from dashboard.state import DEFAULT, scenario_of
from simulator.whatif import estimate

pytest.importorskip("sqlalchemy")

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Engine

from dashboard.store.database import database_url
from dashboard.store.migrate import downgrade, upgrade
from dashboard.store.scenarios import ConflictError, Store
from dashboard.store.tables import METADATA

SCENARIO = scenario_of(DEFAULT, ())
TABLE, ANSWER = scenario_to_table(SCENARIO), estimate(SCENARIO)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def test_what_is_saved_is_found_again(store: Store) -> None:
    saved = store.save_new(TABLE, ANSWER, name=" mine ", tags="a, b", note="why\nso")
    assert (saved.version, saved.name, saved.tags, saved.note) == (1, "mine", "a, b", "why\nso")
    assert saved.table == TABLE
    assert saved.scenario_hash == scenario_hash(SCENARIO)
    assert saved.answer["time"]["step_s"] == ANSWER.time["step_s"]
    assert saved.saved_at.utcoffset() is not None
    assert store.listed() == [saved]
    assert store.find(saved.scenario_hash) == saved
    assert store.get(saved.id, 1) == saved


def test_versions_are_kept(store: Store) -> None:
    first = store.save_new(TABLE, ANSWER, name="mine")
    changed = scenario_of(DEFAULT, (("plan.zero_stage", "2"),))
    second = store.save_version(
        first.id, 1, scenario_to_table(changed), estimate(changed), name="ours"
    )
    assert second.version == 2
    assert store.get(first.id) == second
    assert store.get(first.id, 1) == first
    assert [each.version for each in store.history(first.id)] == [2, 1]
    assert len(store.listed()) == 1


def test_of_two_savers_the_second_is_told(store: Store) -> None:
    saved = store.save_new(TABLE, ANSWER, name="mine")
    store.save_version(saved.id, 1, TABLE, ANSWER, name="theirs")
    with pytest.raises(ConflictError, match="nothing was overwritten") as caught:
        store.save_version(saved.id, 1, TABLE, ANSWER, name="second")
    assert caught.value.current.name == "theirs"
    assert [each.name for each in store.history(saved.id)] == ["theirs", "mine"]


def test_deleting_is_undone(store: Store) -> None:
    saved = store.save_new(TABLE, ANSWER, name="mine")
    store.delete(saved.id)
    assert store.listed() == []
    assert store.find(saved.scenario_hash) is None
    assert store.listed(deleted=True) == [saved]
    assert store.get(saved.id) == saved
    store.restore(saved.id)
    assert store.listed() == [saved]


def test_a_scenario_is_opened_once(store: Store) -> None:
    first = opened(store, SCENARIO, "file")
    assert opened(store, SCENARIO, "other name") == first
    assert store.count() == 1


def test_what_cannot_be_kept_is_refused(store: Store) -> None:
    for name, note in (("", ""), (" ", ""), ("x" * 201, ""), ("mine", "x" * 10_001)):
        with pytest.raises(SpecError, match=r"name|note"):
            store.save_new(TABLE, ANSWER, name=name, note=note)
    with pytest.raises(SpecError, match="bytes"):
        store.save_new(TABLE | {"x": "y" * 10**6}, ANSWER, name="large")
    for missing in (lambda: store.get(77), lambda: store.delete(77), lambda: store.restore(77)):
        with pytest.raises(SpecError, match="no saved scenario"):
            missing()


def test_many_save_at_once(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("one connection")
    store = Store(url)
    saved = store.save_new(TABLE, ANSWER, name="start")
    outcomes: list[str] = []

    def save() -> None:
        try:
            store.save_version(saved.id, 1, TABLE, ANSWER, name="next")
            outcomes.append("saved")
        except ConflictError:
            outcomes.append("told")

    threads = [threading.Thread(target=save) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["saved"] + ["told"] * 7
    assert len(store.history(saved.id)) == 2
    store.close()


def _columns(engine: Engine) -> dict[str, list[str]]:
    found = inspect(engine)
    return {
        name: sorted(column["name"] for column in found.get_columns(name))
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def test_migrations_make_the_tables_and_take_them_back(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("one connection")
    engine = create_engine(url)
    upgrade(engine)
    upgrade(engine)
    expected = {
        table.name: sorted(column.name for column in table.columns)
        for table in METADATA.sorted_tables
    }
    assert _columns(engine) == expected
    downgrade(engine, "base")
    assert _columns(engine) == {}
    upgrade(engine)
    assert _columns(engine) == expected
    engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "mysql+none://x", "sqlite:////nowhere/at/all.sqlite"])
def test_a_wrong_address_is_told(url: str) -> None:
    with pytest.raises(SpecError, match="--database"):
        Store(url)


def test_where_scenarios_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARDWISE_DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert database_url() == f"sqlite:///{tmp_path}/shardwise/scenarios.sqlite"
    monkeypatch.setenv("SHARDWISE_DATABASE_URL", "sqlite://")
    assert database_url() == "sqlite://"
    assert database_url("sqlite:///here") == "sqlite:///here"
