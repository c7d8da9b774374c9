"""The application without a browser: answers, refusals, headers, who may ask."""

import gzip
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboard.app import create_app, server
from dashboard.opening import opened
from dashboard.parts import text_of
from dashboard.security import MOST_BYTES, Access, read_access
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.scenarios import Store
from simulator.answer import GROUPS
from simulator.inert_fields import inert_fields
from simulator.whatif import estimate
from tests.dashboard.asking import answer_body, identity, numbers, texts

HERE = {"Host": "127.0.0.1"}


def ask(app: Any, changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = answer_body(changes, **more)
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json["response"]
    return found


def later(app: Any, query: str, pathname: str = "/") -> Any:
    body = {
        "output": "later.children",
        "outputs": {"id": "later", "property": "children"},
        "inputs": [{"id": "asked", "property": "data", "value": query}],
        "changedPropIds": ["asked.data"],
        "state": [{"id": "url", "property": "pathname", "value": pathname}],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    assert response.status_code == 200
    return response.json["response"]["later"]["children"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"plan.zero_stage": "3", "plan.micro_batch_size": 2},
        {"model": "llama-3.1-8b", "cluster": "a100-80gb-sxm:64", "plan.pipeline_parallel_size": 2},
        {"plan.recompute": "none", "workload.sequence_length": "32k"},
        {"model": "mixtral-8x7b", "plan.pipeline_parallel_size": "4"},
        {"plan.offload_optimizer": "true", "plan.offload_activations_num_layers": "2"},
    ],
)
def test_every_number_is_that_of_the_command_line(app: Any, changes: dict[str, Any]) -> None:
    stated = tuple((path, str(value)) for path, value in changes.items())
    expected = msgspec.to_builtins(estimate(scenario_of(DEFAULT, stated)))
    found = ask(app, changes)
    assert found["result"]["className"] == ""
    shown = numbers(found["result"]["children"])
    shown |= numbers(later(app, found["asked"]["data"]))
    assert len(shown) > 10
    on_host = {"memory.host_bytes at stage 0", "communication.device_to_host_bytes at traffic"}
    assert on_host <= shown.keys() if "plan.offload_optimizer" in changes else True
    for key, value in shown.items():
        path, _, place = key.partition(" at ")
        group, name = path.split(".")
        whole = expected[group][name]
        if isinstance(whole, list) and not isinstance(value, list):
            stage = expected["communication"]["busiest_stage_index"]
            stage = int(place.removeprefix("stage ")) if place.startswith("stage") else stage
            whole = whole[stage]
        assert value == whole, key


def test_a_plan_that_does_not_fit_is_an_answer(app: Any) -> None:
    found = ask(app, {"plan.recompute": "none", "workload.sequence_length": "64k"})
    text = texts(found["result"]["children"])
    assert "Does not fit" in text
    assert "withheld" in text
    remedies = texts(later(app, found["asked"]["data"]))
    assert "more memory than a GPU has" in remedies


def test_remarks_offer_changes_that_were_tried(app: Any) -> None:
    text = texts(later(app, ""))
    assert "The pipeline is idle for 48.75 % of its time." in text
    assert "interleaved-1f1b" in text


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"plan.tensor_parallel_size": "7"}, "plan.tensor_parallel_size", "must be a multiple"),
        ({"plan.zero_stage": "4"}, "plan.zero_stage", "at most 3"),
        ({"plan.micro_batch_size": "many"}, "plan.micro_batch_size", "cannot read"),
        ({"plan.schedule": "1f2b"}, "plan.schedule", "did you mean '1f1b'"),
        ({"plan.schedule": "dualpipe"}, "plan.schedule", "two copies of the model's parts"),
        ({"workload.global_batch_size": 3}, "workload.global_batch_size", "multiple"),
        ({"model": "lama-3"}, "model", "unknown model"),
        ({"microbatches": "-3"}, "microbatches", "at least 1"),
    ],
)
def test_bad_input_is_told_beside_its_field(
    app: Any, changes: dict[str, Any], field: str, words: str
) -> None:
    body = answer_body(changes)
    paths = [entry["id"]["path"] for entry in body["outputs"][5]]
    found = ask(app, changes)
    assert "children" not in found.get("result", {})
    assert found["result"]["className"] == "stale"
    assert words in texts(found["banner"]["children"])
    told = {
        path: found[key]["children"]
        for path in paths
        for key in found
        if f'"path":"{path}","type":"error"' in key
    }
    assert words in told[field]
    assert [path for path, text in told.items() if text] == [field]


def test_notes_on_fields_without_effect_are_behind_a_summary(app: Any) -> None:
    notes = estimate(scenario_of(DEFAULT, ())).notes
    text = texts(later(app, ""))
    assert all(note in text for note in notes)
    assert f"{len(inert_fields(notes))} fields of no effect here" in text


def test_bad_input_in_an_address_shows_where_it_started_from(app: Any) -> None:
    found = ask(app, {"plan.zero_stage": "4"}, shown=False)
    assert "Fits" in texts(found["result"]["children"])
    assert found["result"]["className"] == "stale"


def test_an_unknown_key_of_an_address_is_told(app: Any) -> None:
    found = ask(app, {}, search="?plan.zero_stag=1")
    assert "did you mean" in texts(found["banner"]["children"])


def test_a_huge_step_is_not_simulated(app: Any) -> None:
    found = ask(app, {"workload.global_batch_size": str(128 * 40_000)})
    assert "not simulated" in texts(later(app, found["asked"]["data"]))


def test_a_saved_scenario_is_what_an_address_starts_from() -> None:
    scenario = scenario_of(DEFAULT, (("model", "llama-3.1-8b"),))
    store = Store()
    saved = opened(store, scenario, "mine")
    made, other = create_app(store), create_app()
    found = ask(made, {}, search=f"?scenario={saved.id}")
    shown = numbers(found["result"]["children"])
    assert shown["time.step_s at verdict"] == estimate(scenario).time["step_s"]
    refused = ask(other, {}, search=f"?scenario={saved.id}")
    assert "no saved scenario has this number" in texts(refused["banner"]["children"])


def test_answers_say_what_a_browser_may_load(app: Any) -> None:
    with app.server.test_client() as client:
        response = client.get("/", headers=HERE)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'sha256-" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert '<html lang="en">' in response.text


def test_answers_are_compressed_and_files_are_kept(app: Any) -> None:
    takes = HERE | {"Accept-Encoding": "gzip"}
    with app.server.test_client() as client:
        plotly = "/_dash-component-suites/plotly/package_data/plotly.min.js"
        whole, packed = client.get(plotly, headers=HERE), client.get(plotly, headers=takes)
        assert "Content-Encoding" not in whole.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert gzip.decompress(packed.data) == whole.data
        assert len(packed.data) < len(whole.data) / 3
        tag = {"If-None-Match": packed.headers["ETag"]}
        assert client.get(plotly, headers=takes | tag).status_code == 304
        style = re.search(r"/assets/style\.css\?m=[\d.]+", client.get("/", headers=HERE).text)
        assert style is not None
        with client.get(style[0], headers=takes) as styled:
            assert "immutable" in styled.headers["Cache-Control"]
        assert "immutable" not in packed.headers["Cache-Control"]
        body = answer_body({})
        answers = [
            client.post("/_dash-update-component", json=body, headers=headers)
            for headers in (HERE, takes)
        ]
        assert gzip.decompress(answers[1].data) == answers[0].data
        assert client.get("/healthz", headers=takes).text == "OK"


def test_another_host_and_a_large_request_are_refused(app: Any) -> None:
    with app.server.test_client() as client:
        assert client.get("/", headers={"Host": "example.org"}).status_code == 400
        large = client.post(
            "/_dash-update-component",
            data=b"x" * (MOST_BYTES + 1),
            headers=HERE,
            content_type="application/json",
        )
        assert large.status_code == 413
        assert client.get("/healthz", headers=HERE).text == "OK"


def test_a_password_is_asked_for_where_there_is_one() -> None:
    made = create_app(None, read_access("ada:secret", ()))
    with made.server.test_client() as client:
        assert client.get("/").status_code == 401
        assert client.get("/healthz").status_code == 200
        for given, status in (("ada:secret", 200), ("ada:wrong", 401), ("eve:secret", 401)):
            headers = {"Authorization": "Basic " + b64encode(given.encode()).decode()}
            assert client.get("/", headers=headers).status_code == status


def test_a_token_alone_is_a_password() -> None:
    assert read_access("abc", ()) == Access("token", "abc", ())
    assert read_access(None, ("h",)) == Access("", "", ("h",))


def panel(app: Any, explained: Any) -> tuple[str, str]:
    """Return the text of the panel that explains a number, and its classes."""
    body = {
        "output": "..panel.children...panel-frame.className..",
        "outputs": [
            {"id": "panel", "property": "children"},
            {"id": "panel-frame", "property": "className"},
        ],
        "inputs": [{"id": "explained", "property": "data", "value": explained}],
        "changedPropIds": ["explained.data"],
        "state": [],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    assert response.status_code == 200, response.text
    found = response.json["response"]
    return texts(found["panel"]["children"]), found["panel-frame"]["className"]


def test_the_panel_explains_a_number_of_the_scenario_that_is_shown(app: Any) -> None:
    text, css_class = panel(app, {"path": "time.step_s", "query": "?plan.micro_batch_size=2"})
    step_s = estimate(scenario_of(DEFAULT, (("plan.micro_batch_size", "2"),))).time["step_s"]
    assert css_class == "panel"
    assert str(step_s) in text
    assert panel(app, {"path": ""}) == ("", "panel closed")
    hostile: list[Any] = [None, [], "x", {"path": "x" * 600}, {"path": [1], "query": {}}]
    for explained in [*hostile, {"path": "time.step_s", "query": "?" + "x" * 7_000}]:
        panel(app, explained)


def opened_group(app: Any, section: Any, *, clicks: Any = 1, search: Any = "") -> Any:
    """Return what a browser gets that opens a group of fields."""
    where = {"type": "grouped", "section": section}
    key = {"type": "group", "section": section}
    body = {
        "output": '{"section":["MATCH"],"type":"grouped"}.children',
        "outputs": {"id": where, "property": "children"},
        "inputs": [{"id": key, "property": "n_clicks", "value": clicks}],
        "changedPropIds": [f"{identity(key)}.n_clicks"],
        "state": [
            {"id": "url", "property": "pathname", "value": PIPELINE},
            {"id": "url", "property": "search", "value": search},
        ],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE)
    assert response.status_code in (200, 204), response.text
    found = response.json["response"] if response.status_code == 200 else {}
    return next(iter(found.values()))["children"] if found else None


def test_a_group_of_fields_is_made_when_it_is_opened(app: Any) -> None:
    fields = opened_group(app, "plan", search="?plan.overlap_gradient_reduction=true")
    values = {
        child["props"]["id"]["path"]: child["props"]["children"][1]["props"]["value"]
        for child in fields
    }
    assert values["plan.overlap_gradient_reduction"] == "true"
    # The page of a pipeline has sliders of its own for some.
    assert "plan.virtual_stages" not in values
    assert "plan.pipeline_parallel_size" not in values
    assert opened_group(app, "plan", clicks=2) is None
    assert opened_group(app, "plan", clicks=None) is None
    assert opened_group(app, "nothing", search="?plan.zero_stage=9") == []
    assert opened_group(app, "plan", search="?" + "x" * 7_000)


PIPELINE, COMMUNICATION = "/pipeline", "/communication"


def test_a_pipeline_is_played_and_compared(app: Any) -> None:
    found = ask(app, {}, pathname=PIPELINE, view={"against": "interleaved-1f1b"})
    text = texts(found["result"]["children"])
    assert "1f1b: 16 stages, 16 microbatches" in text
    assert "interleaved-1f1b: 16 stages x 2 chunks, 16 microbatches" in text
    expected = estimate(scenario_of(DEFAULT, ()))
    shown = numbers(found["result"]["children"])
    step_s = expected.time["simulated_step_s"]
    assert shown["time.simulated_step_s at simulated"] == step_s


@pytest.mark.parametrize(("microbatches", "idle"), [("1", 0.75), ("4", 3 / 7)])
def test_the_examples_idle_as_the_notes_say(app: Any, microbatches: str, idle: float) -> None:
    from dashboard.pages.pipeline import _PRESETS

    (changes,) = (found for _, found in _PRESETS if found["microbatches"] == microbatches)
    found = ask(app, changes, pathname=PIPELINE)
    shown = numbers(found["result"]["children"])
    assert shown["pipeline.ideal_idle_fraction at closed"] == pytest.approx(idle)


def test_a_plan_that_does_not_fit_is_played_only_if_asked(app: Any) -> None:
    changes = {"cluster.accelerator.memory_bytes": "20 GiB"}
    found = ask(app, changes, pathname=PIPELINE)
    assert "nothing is played" in texts(found["result"]["children"])
    found = ask(app, changes, pathname=PIPELINE, view={"although": "played"})
    assert "16 stages" in texts(found["result"]["children"])


def test_zooming_brings_details_where_they_are_not_there_yet(app: Any) -> None:
    def zoom(moved: Any, query: str) -> Any:
        where = {"type": "gantt", "which": "first"}
        name = '{"type":"gantt","which":"first"}'
        body = {
            "output": '{"type":"gantt","which":["MATCH"]}.figure',
            "outputs": {"id": where, "property": "figure"},
            "inputs": [{"id": where, "property": "relayoutData", "value": moved}],
            "changedPropIds": [f"{name}.relayoutData"],
            "state": [
                {"id": where | {"type": "gantt-end"}, "property": "data", "value": 100.0},
                {"id": "asked", "property": "data", "value": query},
                {"id": "shown", "property": "data", "value": True},
            ],
        }
        with app.server.test_client() as client:
            response = client.post("/_dash-update-component", json=body, headers=HERE)
        assert response.status_code in (200, 204), response.text
        found = response.json["response"] if response.status_code == 200 else {}
        return found[name]["figure"] if found else None

    inside = {"xaxis.range[0]": 20.0, "xaxis.range[1]": 21.0}
    assert zoom(inside, "") is None
    detailed = zoom(inside, "?microbatches=256")
    assert detailed["layout"]["meta"]["detailed"]
    assert detailed["layout"]["xaxis"]["range"] == [20.0, 21.0]
    whole = zoom({"xaxis.autorange": True}, "?microbatches=256")
    assert not whole["layout"]["meta"]["detailed"]
    for moved in ({"autosize": True}, None, [1], {"xaxis.range": ["a", {}]}, {"xaxis.range[0]": 1}):
        assert zoom(moved, "?microbatches=256") is None


def test_communication_shows_every_collective(app: Any) -> None:
    from simulator.accounting import traffic_account

    found = ask(app, {}, pathname=COMMUNICATION, view={"axis": "data"})
    text = texts(found["result"]["children"])
    for message in traffic_account(scenario_of(DEFAULT, ())).messages:
        assert message.name.replace("_", " ") in text
    assert "coloured by data group" in text
    told = texts(later(app, found["asked"]["data"], COMMUNICATION))
    assert "data · tensor · context · pipeline" in told


@pytest.mark.parametrize("name", ["scenario.toml", "scenario.json", "answer.json", "answer.csv"])
def test_files_of_a_scenario_can_be_taken(app: Any, name: str) -> None:
    with app.server.test_client() as client:
        response = client.get(f"/download/{name}?plan.zero_stage=2", headers=HERE)
        refused = client.get(f"/download/{name}?plan.zero_stage=7", headers=HERE)
    assert response.status_code == 200
    assert name in response.headers["Content-Disposition"]
    assert response.text
    assert refused.status_code == 400
    assert "at most 3" in refused.text


def test_a_trace_can_be_taken(app: Any) -> None:
    with app.server.test_client() as client:
        response = client.get("/download/trace.json", headers=HERE)
        missing = client.get("/download/secrets.txt", headers=HERE)
        large = client.get("/download/trace.json?microbatches=100000", headers=HERE)
    assert len(response.json["traceEvents"]) > 500
    assert missing.status_code == 404
    assert large.status_code == 400
    assert "actions" in large.text


def test_a_production_server_takes_its_settings_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHARDWISE_DATABASE_URL", f"sqlite:///{tmp_path / 'scenarios.sqlite'}")
    monkeypatch.setenv("SHARDWISE_HOSTS", "planner.example.org, other.example.org")
    monkeypatch.setenv("SHARDWISE_AUTH", "ada:secret")
    with server().test_client() as client:
        known = ("ada", "secret")
        assert client.get("/", headers=HERE, auth=known).status_code == 400
        there = {"Host": "planner.example.org"}
        assert client.get("/", headers=there).status_code == 401
        assert client.get("/", headers=there, auth=known).status_code == 200


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scale_up_bytes", "2 GB"),
        ("tensor_bytes", "2 GB"),
        ("sent_bytes", "2 GB"),
        ("weights_bytes", "1.863 GiB"),
        ("headroom_bytes", "1.863 GiB"),
    ],
)
def test_memory_is_shown_in_gib_and_what_is_sent_in_gb(name: str, text: str) -> None:
    assert text_of(name, 2 * 10**9) == text


def test_every_published_number_has_its_place(app: Any) -> None:
    found = ask(app, {}, pathname="/numbers")
    shown = numbers(found["result"]["children"])
    answer = msgspec.to_builtins(estimate(scenario_of(DEFAULT, ())))
    for group in GROUPS:
        for name, value in answer[group].items():
            if name != "basis":
                assert shown[f"{group}.{name} at numbers"] == value
