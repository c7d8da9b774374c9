"""The pages of saved scenarios and of comparison, without a browser."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from costmodels.scenario import scenario_to_table, scenario_to_toml
from dashboard.app import create_app
from dashboard.opening import opened
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.scenarios import Store
from simulator.whatif import what_if
from tests.dashboard.asking import identity, numbers, texts
from tests.dashboard.test_app import HERE, ask, later

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = scenario_of(DEFAULT, ())


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def app(store: Store) -> Any:
    return create_app(store)


def act(app: Any, chosen: str | dict[str, str], value: Any = 1, **stated: Any) -> dict[str, Any]:
    buttons = [] if isinstance(chosen, str) else [chosen]
    name = chosen if isinstance(chosen, str) else identity({"type": "act", **chosen})
    prop = "contents" if isinstance(chosen, str) else "n_clicks"
    given = {"filename": None, "name": "", "tags": "", "note": "", "seen": 0, "search": ""} | stated
    output = next(key for key in app.callback_map if key.startswith("..said.children"))
    body = {
        "output": output,
        "outputs": [
            {"id": "said", "property": "children"},
            {"id": "listing", "property": "children"},
            {"id": "seen-version", "property": output.rstrip(".").rpartition("seen-version.")[2]},
        ],
        "inputs": [
            [
                {"id": {"type": "act", **each}, "property": "n_clicks", "value": value}
                for each in buttons
            ],
            {"id": "upload", "property": "contents", "value": value if not buttons else None},
        ],
        "changedPropIds": [f"{name}.{prop}"],
        "state": [
            {"id": "upload", "property": "filename", "value": given["filename"]},
            {"id": "name", "property": "value", "value": given["name"]},
            {"id": "tags", "property": "value", "value": given["tags"]},
            {"id": "note", "property": "value", "value": given["note"]},
            {"id": "seen-version", "property": "data", "value": given["seen"]},
            {"id": "url", "property": "search", "value": given["search"]},
        ],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json["response"]
    return found


def said(found: dict[str, Any]) -> str:
    return texts(found["said"]["children"])


def test_saving_duplicating_deleting_and_taking_back(app: Any, store: Store) -> None:
    found = act(app, {"what": "new", "of": "0"}, name="mine", search="?plan.zero_stage=2")
    assert said(found).startswith("Saved as “mine”")
    assert "mine" in texts(found["listing"]["children"])
    (saved,) = store.listed()
    assert saved.table["plan"]["zero_stage"] == 2
    act(app, {"what": "duplicate", "of": str(saved.id)})
    assert [each.name for each in store.listed()] == ["mine (copy)", "mine"]
    found = act(app, {"what": "delete", "of": str(saved.id)})
    assert "Undo" in said(found)
    assert [each.name for each in store.listed()] == ["mine (copy)"]
    found = act(app, {"what": "restore", "of": str(saved.id)})
    assert {each.name for each in store.listed()} == {"mine", "mine (copy)"}


def test_a_conflict_offers_both(app: Any, store: Store) -> None:
    saved = opened(store, SCENARIO, "mine")
    press = {"what": "version", "of": str(saved.id)}
    query = f"?scenario={saved.id}"
    first = act(app, press, name="theirs", seen=1, search=query + "&plan.zero_stage=2")
    assert "version 2" in said(first)
    second = act(app, press, name="ours", seen=1, search=query + "&plan.zero_stage=3")
    assert "nothing was overwritten" in said(second)
    assert "Open theirs" in said(second)
    assert "Save mine as a new scenario" in said(second)
    assert store.get(saved.id).table["plan"]["zero_stage"] == 2


@pytest.mark.parametrize(
    ("chosen", "stated", "words"),
    [
        ({"what": "new", "of": "0"}, {"name": " "}, "name: is empty"),
        ({"what": "new", "of": "0"}, {"name": "x" * 300}, "at most 200"),
        ({"what": "new", "of": "0"}, {"name": "a", "search": "?plan.zero_stage=9"}, "at most 3"),
        ({"what": "delete", "of": "99"}, {}, "no saved scenario"),
        ({"what": "delete", "of": "1; drop"}, {}, "expected the number"),
        ({"what": "explode", "of": "99"}, {}, "no saved scenario"),
        ({"what": "version", "of": "1"}, {"seen": "x", "name": "a"}, "whole number"),
    ],
)
def test_what_cannot_be_done_is_told(
    app: Any, chosen: dict[str, str], stated: dict[str, Any], words: str
) -> None:
    assert words in said(act(app, chosen, **stated))


def test_a_page_that_appears_presses_no_button(app: Any, store: Store) -> None:
    assert act(app, {"what": "new", "of": "0"}, value=None, name="x") == {}
    assert store.count() == 0


def uploaded(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return "data:application/octet-stream;base64," + base64.b64encode(raw).decode()


def test_scenario_files_are_imported(app: Any, store: Store) -> None:
    found = act(app, "upload", uploaded(scenario_to_toml(SCENARIO)), filename="mine.toml")
    assert said(found).startswith("Imported “mine”")
    text = json.dumps(scenario_to_table(SCENARIO))
    act(app, "upload", uploaded(text), filename="other.json")
    assert [each.table for each in store.listed()] == [scenario_to_table(SCENARIO)] * 2


def test_a_config_json_takes_the_place_of_the_model(app: Any, store: Store) -> None:
    file = ROOT / "validation" / "data" / "huggingface" / "Llama-3.1-8B.json"
    found = act(app, "upload", uploaded(file.read_text()), filename=file.name)
    assert said(found).startswith("Imported")
    (saved,) = store.listed()
    assert saved.table["model"]["num_hidden_layers"] == 32
    assert saved.table["plan"]["tensor_parallel_size"] == 8


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("config.json", uploaded("{}"), "model_type"),
        ("config.json", uploaded("not json"), "config.json"),
        ("mine.toml", uploaded("a = ["), "not a valid TOML"),
        ("mine.toml", uploaded(b"\xff\xfe\x00"), "not a UTF-8 text"),
        ("mine.toml", "nothing", "was not received"),
        ("mine.toml", "data:;base64,%%%", "not a UTF-8 text"),
        ("mine.toml", uploaded("x" * (1024 * 1024 + 1)), "at most"),
        ("deep.json", uploaded("[" * 5000), "deep.json"),
    ],
)
def test_broken_files_are_told(
    app: Any, store: Store, name: str, contents: str, words: str
) -> None:
    assert words in said(act(app, "upload", contents, filename=name))
    assert store.count() == 0


def test_differences_are_those_of_the_command_line(app: Any, store: Store) -> None:
    changes = {"plan.schedule": "interleaved-1f1b", "plan.virtual_stages": "4"}
    saved = opened(store, scenario_of(DEFAULT, tuple(changes.items())), "chunks")
    found = ask(app, {}, pathname="/compare", view={"with": [str(saved.id), "77"]})
    text = texts(found["result"]["children"])
    assert "chunks (v1)" in text
    assert "no saved scenario has this number" in text
    (case,) = what_if(SCENARIO, [changes]).cases
    shown = numbers(found["result"]["children"])
    for entry in case.differences:
        assert shown[f"{entry.name} at column 0"] == entry.before
    assert "Why chunks (v1) differs" in text
    assert "plan.virtual_stages" in text


def test_a_field_is_swept(app: Any) -> None:
    view = {"sweep": "plan.micro_batch_size", "of": "time.step_s"}
    found = ask(app, {}, pathname="/compare", view=view)
    told = texts(later(app, found["asked"]["data"], "/compare"))
    for size in (1, 2, 4, 8, 16):
        changed = scenario_of(DEFAULT, (("plan.micro_batch_size", str(size)),))
        (case,) = what_if(SCENARIO, [{"plan.micro_batch_size": size}], most_actions=0).cases
        assert changed.plan.micro_batch_size == size
        assert f"{case.answer.time['step_s']:.4g} s" in told


def test_presets_can_be_browsed(app: Any) -> None:
    body = {
        "output": "page.children",
        "outputs": {"id": "page", "property": "children"},
        "inputs": [
            {"id": "nav", "property": "pathname", "value": "/scenarios"},
            {"id": "nav", "property": "search", "value": "?plan.zero_stage=2"},
            {"id": "moved", "property": "data", "value": None},
        ],
        "changedPropIds": ["nav.pathname"],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    text = texts(response.json["response"]["page"]["children"])
    assert "8,030,261,248" in text
    assert "b200-sxm" in text
