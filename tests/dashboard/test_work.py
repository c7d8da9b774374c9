"""Long work on pages: offered, started, watched, ended, and found again."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dash")

from dashboard import questions
from dashboard.app import create_app
from dashboard.jobs import worker
from dashboard.jobs.kinds import ask_validation
from dashboard.security import Access, read_access
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.jobs import JobState
from dashboard.store.scenarios import Store
from simulator.whatif import simulate
from tests.dashboard.asking import identity, numbers, texts
from tests.dashboard.test_app import HERE, ask

PIPELINE, VALIDATION = "/pipeline", "/validation"
LARGE = {"microbatches": "64"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store, where 1,000 actions are more than a page waits for."""
    monkeypatch.setattr(questions, "MOST_ACTIONS", 1_000)
    return Store(f"sqlite:///{tmp_path / 'store.sqlite'}")


def press(app: Any, what: str, of: str, *, search: str = "", **asking: Any) -> dict[str, Any]:
    """Return what a browser gets that presses a button."""
    key = {"type": "job-act", "what": what, "of": of}
    return _act(
        app, [[{"id": key, "property": "n_clicks", "value": 1}], None], key, None, search, asking
    )


def tick(app: Any, of: Any) -> dict[str, Any]:
    """Return what a browser gets whose clock asks how far a job is."""
    return _act(app, [[], 3], "job-tick", of, "", {})


def _act(
    app: Any, given: list[Any], key: Any, of: Any, search: str, asking: dict[str, Any]
) -> dict[str, Any]:
    outputs = [("job", "children"), ("job-tick", "disabled"), ("job-of", "data")]
    outputs.append(("refreshed", "data"))
    names = [f"{name}.{prop}" for name, prop in outputs]
    prop = "n_intervals" if key == "job-tick" else "n_clicks"
    body = {
        "output": f"..{'...'.join(names)}..",
        "outputs": [{"id": name, "property": prop} for name, prop in outputs],
        "inputs": [given[0], {"id": "job-tick", "property": "n_intervals", "value": given[1]}],
        "changedPropIds": [f"{key if isinstance(key, str) else identity(key)}.{prop}"],
        "state": [
            {"id": "job-of", "property": "data", "value": of},
            {"id": "url", "property": "search", "value": search},
        ],
    }
    with app.server.test_client() as client:
        response = client.post("/_dash-update-component", json=body, headers=HERE, **asking)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json["response"]
    return found


def does(store: Store, tmp_path: Path) -> None:
    worker.Worker(store.jobs, tmp_path / "reports", lambda _: None).run(until_idle=True)


def test_a_large_step_is_simulated_by_a_job(store: Store, tmp_path: Path) -> None:
    app = create_app(store)
    before = texts(ask(app, LARGE, pathname=PIPELINE)["result"]["children"])
    assert "2,048 actions, more than the 1,000 that a page waits for" in before
    assert "Simulate it in the background" in before
    pressed = press(app, "simulation", "large", search="?microbatches=64")
    assert "waits for a worker" in texts(pressed["job"]["children"])
    assert pressed["job-tick"]["disabled"] is False
    number = pressed["job-of"]["data"]
    # Loaded again, and in another application on the same store, the page finds the job.
    again = ask(create_app(store), LARGE, pathname=PIPELINE)
    assert "large: waits for a worker" in texts(again["result"]["children"])
    does(store, tmp_path)
    ticked = tick(app, number)
    assert ticked["refreshed"]["data"] == {"job": number, "state": "done"}
    assert ticked["job-tick"]["disabled"] is True
    after = ask(app, LARGE, pathname=PIPELINE)["result"]["children"]
    expected = simulate(scenario_of(DEFAULT, (("microbatches", "64"),)))
    assert f"{len(expected.trace.spans):,} spans" in texts(after)
    assert "Perfetto" not in texts(after)
    shown = numbers(after)
    assert shown["time.simulated_step_s at simulated"] == expected.metrics.makespan_s
    other = ask(app, {}, pathname=PIPELINE, view={"against": "gpipe"})
    assert "gpipe: 16 stages" in texts(other["result"]["children"])


def test_a_job_is_cancelled_and_a_failed_one_says_why(store: Store, tmp_path: Path) -> None:
    app = create_app(store)
    number = press(app, "simulation", "large", search="?microbatches=64")["job-of"]["data"]
    pressed = press(app, "cancel", str(number))
    assert pressed["refreshed"]["data"] == {"job": number, "state": "cancelled"}
    text = texts(ask(app, LARGE, pathname=PIPELINE)["result"]["children"])
    assert "large: cancelled." in text
    assert "Simulate it in the background" in text
    press(app, "simulation", "large", search="?microbatches=64")
    job = store.jobs.claim("worker")
    assert job is not None
    store.jobs.finish(job, JobState.FAILED, reason="no room")
    text = texts(ask(app, LARGE, pathname=PIPELINE)["result"]["children"])
    assert "Failed: no room" in text
    assert "Simulate it in the background" in text


def test_a_step_that_nobody_can_simulate_is_answered_by_closed_forms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions, "MOST_ACTIONS", 1_000)
    app = create_app()
    text = texts(ask(app, LARGE, pathname=PIPELINE)["result"]["children"])
    assert "no worker can play it" in text
    text = texts(ask(app, {"microbatches": "50000"}, pathname=PIPELINE)["result"]["children"])
    assert "more than the 1,000,000 that are played" in text


def test_what_is_no_button_is_refused(store: Store) -> None:
    app = create_app(store)
    for what, of in (("cancel", "7"), ("cancel", "x"), ("delete", ""), ("simulation", "")):
        found = press(app, what, of, search="?plan.zero_stage=9")
        assert "Not done: " in texts(found["job"]["children"]), what
    wrong: list[Any] = [None, True, "1", -1, 10**40, {}]
    for number in wrong:
        assert "Not done: " in texts(tick(app, number)["job"]["children"])
    assert store.jobs.listed() == []


def test_a_validation_is_started_where_only_this_machine_can(store: Store, tmp_path: Path) -> None:
    app = create_app(store, None, tmp_path)
    text = texts(ask(app, {}, pathname=VALIDATION)["result"]["children"])
    assert "Run the quick validation" in text
    pressed = press(app, "validation", "")
    assert "quick validation of everything" in texts(pressed["job"]["children"])
    text = texts(ask(app, {}, pathname=VALIDATION)["result"]["children"])
    assert "quick validation of everything: waits" in text
    refused = press(app, "validation", "--out=/")
    assert "expected the name of a suite" in texts(refused["job"]["children"])


@pytest.mark.parametrize(
    ("access", "asking"),
    [
        (Access("", "", ()), {}),
        (Access("", "", ("planner.example.org", "127.0.0.1")), {}),
        (Access(), {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}),
        (Access(), {"environ_base": {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}}),
    ],
)
def test_others_start_and_end_no_validation(
    store: Store, tmp_path: Path, access: Access, asking: dict[str, Any]
) -> None:
    app = create_app(store, access, tmp_path)
    refused = press(app, "validation", "", **asking)
    assert "only where just this machine reaches it" in texts(refused["job"]["children"])
    assert store.jobs.listed() == []
    job = ask_validation(store.jobs)
    refused = press(app, "cancel", str(job.id), **asking)
    assert "only where just this machine reaches it" in texts(refused["job"]["children"])
    assert store.jobs.get(job.id).state is JobState.QUEUED


def test_with_a_password_others_may(store: Store, tmp_path: Path) -> None:
    app = create_app(store, read_access("ada:secret", ()), tmp_path)
    environ = {"REMOTE_ADDR": "192.0.2.7"}
    pressed = press(app, "validation", "", environ_base=environ, auth=("ada", "secret"))
    assert "quick validation of everything" in texts(pressed["job"]["children"])
