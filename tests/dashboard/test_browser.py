"""The pages in a real browser: what people do, and that nothing goes wrong on the way."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodels.presets import preset_table
from dashboard import questions
from dashboard.jobs.kinds import ask_validation
from dashboard.jobs.worker import Worker
from dashboard.pages import work
from dashboard.state import DEFAULT, plain_text, read_state, scenario_of
from simulator.whatif import estimate
from tests.dashboard.conftest import Place

ROOT = Path(__file__).resolve().parents[2]
VIEWPORT = {"width": 1280, "height": 900}

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def field(path: str) -> str:
    return f"""[id='{{"path":"{path}","type":"field"}}']"""


def shown(page: Any, path: str, at: str) -> Any:
    """Return a number of a page as it stands in base units."""
    text = page.locator(f'[data-path="{path}"][data-at="{at}"]').get_attribute("data-value")
    return json.loads(text)


def wait_for_answer(page: Any, text: str) -> None:
    page.locator("#result:not(.stale)", has_text=text).wait_for()


def wait_for_value(page: Any, path: str, value: str) -> None:
    """Wait until a field holds a value, which may follow the address; fail if it does not."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    sync_api.expect(page.locator(field(path))).to_have_value(value)


def test_a_changed_input_changes_the_number_and_the_address(page: Any) -> None:
    page.goto("/")
    wait_for_answer(page, "Fits")
    before = shown(page, "time.step_s", "verdict")
    assert before == estimate(scenario_of(DEFAULT, ())).time["step_s"]
    box = page.locator(field("plan.micro_batch_size"))
    box.click()
    box.press_sequentially("16", delay=60)
    page.wait_for_url("**/?plan.micro_batch_size=16")
    wait_for_answer(page, "Fits")
    wait_for_value(page, "plan.micro_batch_size", "16")
    assert box.evaluate("element => element === document.activeElement")
    changed = read_state("?plan.micro_batch_size=16")
    expected = estimate(scenario_of(DEFAULT, changed.changes)).time["step_s"]
    page.locator(f'[data-at="verdict"][data-value="{expected!r}"]').wait_for()
    # The same address in a browser that has never been here shows the same.
    other = page.context.new_page()
    other.goto(page.url)
    other.locator(f'[data-at="verdict"][data-value="{expected!r}"]').wait_for()
    wait_for_value(other, "plan.micro_batch_size", "16")
    # Back and forward.
    page.go_back()
    page.locator(f'[data-at="verdict"][data-value="{before!r}"]').wait_for()
    wait_for_value(page, "plan.micro_batch_size", "")
    page.go_forward()
    page.locator(f'[data-at="verdict"][data-value="{expected!r}"]').wait_for()


def test_bad_input_keeps_the_last_answer_and_says_what_is_wrong(page: Any) -> None:
    page.goto("/")
    wait_for_answer(page, "Fits")
    page.locator(field("plan.tensor_parallel_size")).fill("7")
    page.locator("#result.stale", has_text="Fits").wait_for()
    wrong = page.locator(".field.wrong")
    assert "must be a multiple" in wrong.locator(".error").text_content()
    assert wrong.locator("label").text_content().startswith("tensor")
    # The field is the last of its row: what is said of it opens to the left, whole.
    said = wrong.locator(".error").bounding_box()
    assert said["x"] + said["width"] <= VIEWPORT["width"]
    page.locator(field("plan.tensor_parallel_size")).fill("4")
    wait_for_answer(page, "Fits")
    assert page.locator(".field.wrong").count() == 0


def test_a_group_of_fields_opens_and_a_framework_sets_some(page: Any) -> None:
    open_page(page, "/?plan.micro_batch_size=2")
    wait_for_answer(page, "Fits")
    assert page.locator(field("plan.overlap_gradient_reduction")).count() == 0
    page.locator(".group summary", has_text="plan").click()
    page.locator(field("plan.gradient_bucket_parameters")).fill("1M")
    page.wait_for_url("**/?*plan.gradient_bucket_parameters=1M*")
    page.locator("#framework").click()
    page.get_by_role("option", name="deepspeed-zero-3", exact=True).click()
    page.wait_for_url("**/?*plan.zero_stage=3*")
    wait_for_answer(page, "")
    stated = dict(read_state(page.url.partition("?")[2]).changes)
    preset = preset_table("plan", "deepspeed-zero-3")
    assert stated["plan.micro_batch_size"] == "2"
    assert {path.removeprefix("plan."): value for path, value in stated.items()} == {
        "micro_batch_size": "2",
        "gradient_bucket_parameters": "1M",
        **{name: plain_text(value) for name, value in preset.items()},
    }
    wait_for_value(page, "plan.zero_stage", "3")
    expected = estimate(scenario_of(DEFAULT, tuple(stated.items())))
    page.locator(
        f'[data-path="memory.headroom_bytes"][data-value="{expected.memory["headroom_bytes"]}"]'
    ).wait_for()
    page.go_back()
    page.wait_for_url("**/?*plan.gradient_bucket_parameters=1M*")


def test_a_slow_answer_shows_that_it_is_computed(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(page, "/")
    wait_for_answer(page, "Fits")
    going_on = threading.Event()
    answer = questions.answer
    monkeypatch.setattr(questions, "answer", lambda asked: (going_on.wait(20), answer(asked))[1])
    page.locator(field("plan.micro_batch_size")).fill("2")
    page.locator("#result[data-dash-is-loading]", has_text="Fits").wait_for()
    shown_text = "() => getComputedStyle(document.querySelector('main'), '::before').content"
    assert page.evaluate(shown_text) == '"computing"'
    going_on.set()
    page.locator("#result:not([data-dash-is-loading])").wait_for()
    page.wait_for_url("**/?plan.micro_batch_size=2")


def test_a_number_explains_itself(page: Any) -> None:
    page.goto("/")
    wait_for_answer(page, "Fits")
    page.locator('[data-path="compute.mfu_fraction"][data-at="tile"]').click()
    panel = page.locator("#panel")
    panel.get_by_text("formula", exact=True).wait_for()
    first = panel.locator(".inputs .number").first
    name = first.text_content()
    first.click()
    panel.locator("h2", has_text=name).wait_for()
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")


def test_a_remedy_is_one_click_away(page: Any) -> None:
    page.goto("/")
    link = page.locator(".remark a.apply").first
    link.wait_for()
    link.click()
    page.wait_for_url("**/?*interleaved*")
    wait_for_answer(page, "Fits")
    page.locator(".field.changed").first.wait_for()


PAGES = (
    *("/", "/pipeline", "/communication", "/attention", "/formats"),
    *("/numbers", "/validation", "/compare", "/scenarios"),
)


def open_page(page: Any, path: str) -> None:
    page.goto(path)
    page.locator("#result .card, #result .empty, #listing .card").first.wait_for()


def test_a_schedule_is_played_zoomed_and_compared(page: Any) -> None:
    open_page(page, "/pipeline?microbatches=160")
    page.locator("[data-card=first] h2", has_text="160 microbatches").wait_for()
    graph = page.locator("[data-card=first] .js-plotly-plot")
    graph.locator(".heatmaplayer image").first.wait_for()
    box = graph.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 330, box["y"] + 60, steps=5)
    page.mouse.up()
    graph.locator(".barlayer .point").first.wait_for(state="attached")
    page.locator(field("precision")).click()
    page.get_by_role("option", name="bf16", exact=True).click()
    page.wait_for_url("**/*precision=bf16*")
    wait_for_answer(page, "160 microbatches")


@pytest.fixture
def at_work(place: Place) -> Iterator[None]:
    """Let a worker do jobs."""
    made = Worker(place.store.jobs, place.reports, lambda _: None)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield
    made.stop()
    thread.join()


def test_a_large_schedule_is_played_in_the_background(
    page: Any, place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST_ACTIONS", 1_000)
    open_page(page, "/pipeline?microbatches=200")
    page.get_by_role("button", name="Simulate it").click()
    page.locator("#job", has_text="waits for a worker").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#job", has_text="cancelled").wait_for()
    page.get_by_role("button", name="Simulate it").click()
    page.locator("#job progress").wait_for()
    page.reload()
    page.locator("#job", has_text="waits for a worker").wait_for()
    request.getfixturevalue("at_work")
    page.locator("[data-card=first] .heatmaplayer image").first.wait_for()
    assert page.locator("#job").count() == 0


def test_a_validation_is_started_by_a_button(
    page: Any, place: Place, at_work: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One suite that needs no torch stands for all of them.
    monkeypatch.setattr(
        work, "ask_validation", lambda jobs, _: ask_validation(jobs, ("published-memory",))
    )
    open_page(page, "/validation")
    page.get_by_role("button", name="Run the quick validation").click()
    page.locator("#job progress").wait_for()
    page.locator("#result .card .verdict", has_text="cases passed").wait_for(timeout=120_000)
    page.get_by_role("button", name="Run the quick validation").wait_for()


def test_what_is_saved_is_compared_deleted_and_taken_back(page: Any) -> None:
    open_page(page, "/scenarios?plan.zero_stage=2")
    page.locator("#name").fill("tried in a browser")
    page.get_by_role("button", name="Save as a new scenario").click()
    page.locator(".said", has_text="Saved as").wait_for()
    row = page.locator("#table-scenarios tr", has_text="tried in a browser")
    row.get_by_role("link", name="compare").click()
    page.locator("#result", has_text="What differs").wait_for()
    page.reload()
    page.locator("#result", has_text="What differs").wait_for()
    page.locator(".nav-link", has_text="Scenarios").click()
    row.get_by_role("button", name="Delete").click()
    page.locator(".said", has_text="Deleted").wait_for()
    row.wait_for(state="hidden")
    page.locator(".said").get_by_role("button", name="Undo").click()
    row.wait_for()
    row.get_by_role("link", name="tried in a browser").click()
    page.locator("#verdict").wait_for()
    assert "scenario=" in page.url
    assert page.locator(field("plan.zero_stage")).get_attribute("placeholder") == "2"


def test_a_bit_is_flipped_by_a_click(page: Any) -> None:
    open_page(page, "/formats?view.number=420")
    wait_for_answer(page, "420 in every format")
    page.locator('.bit[data-format="fp16"][data-bit="15"]').click()
    wait_for_answer(page, "-420 in every format")
    page.wait_for_url("**/formats?view.number=-420.0")
    page.locator('.bit[data-format="fp16"][data-bit="0"]').click()
    wait_for_answer(page, "-420.25 in every format")
    page.go_back()
    wait_for_answer(page, "-420 in every format")
    page.locator("#memory-by-format .main-svg").first.wait_for()


def test_a_window_is_slid(page: Any) -> None:
    open_page(page, "/attention")
    wait_for_answer(page, "window of 8")
    page.locator('[role=slider][aria-label^="window"]').press("ArrowRight")
    page.wait_for_url("**/attention?view.window=9")
    page.locator("#patterns", has_text="window of 9").wait_for()
    page.locator("#layouts .main-svg").first.wait_for()


def test_files_are_uploaded(page: Any) -> None:
    open_page(page, "/scenarios")
    good = ROOT / "validation" / "data" / "huggingface" / "Llama-3.1-8B.json"
    page.locator("#upload input").set_input_files(str(good))
    page.locator(".said", has_text="Imported").wait_for()
    page.locator("#upload input").set_input_files(
        {"name": "config.json", "mimeType": "application/json", "buffer": b'{"model_type": 7'}
    )
    page.locator(".said .banner", has_text="Not done").wait_for()


def test_two_browsers_do_not_see_each_other(page: Any, chromium: Any, address: str) -> None:
    other_context = chromium.new_context(base_url=address)
    other = other_context.new_page()
    open_page(page, "/?plan.micro_batch_size=2")
    open_page(other, "/?plan.micro_batch_size=4")
    for shown_page, size in ((page, "2"), (other, "4")):
        expected = estimate(scenario_of(DEFAULT, (("plan.micro_batch_size", size),)))
        assert shown(shown_page, "time.step_s", "verdict") == expected.time["step_s"]
    other_context.close()


@pytest.mark.parametrize(("scheme", "paths"), [("light", PAGES), ("dark", ("/",))])
def test_pages_have_no_serious_barriers(
    chromium: Any, address: str, scheme: str, paths: tuple[str, ...]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = chromium.new_context(
        base_url=address, bypass_csp=True, color_scheme=scheme, viewport=VIEWPORT
    )
    context.set_default_timeout(25_000)
    found: list[str] = []
    for path in paths:
        made = context.new_page()
        open_page(made, path)
        made.locator("#later .card, #listing .card, #result .card, .empty").last.wait_for()
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
        for entry in axe.run(made, options=rules).response["violations"]:
            if entry["impact"] in ("serious", "critical"):
                nodes = [node["html"][:160] for node in entry["nodes"][:3]]
                found.append(f"{path} {entry['id']} {len(entry['nodes'])}: {nodes}")
        made.close()
    context.close()
    assert found == []


def test_pages_fit_a_telephone(chromium: Any, address: str) -> None:
    context = chromium.new_context(base_url=address, viewport={"width": 390, "height": 800})
    context.set_default_timeout(25_000)
    made = context.new_page()
    for path in PAGES:
        open_page(made, path)
        # Figures take their width from the page after they have been drawn.
        for _ in range(50):
            width = made.evaluate("() => document.documentElement.scrollWidth")
            if width <= 390:
                break
            made.wait_for_timeout(200)
        assert width <= 390, path
    context.close()


def test_the_keyboard_reaches_fields_numbers_and_pages(page: Any) -> None:
    open_page(page, "/")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.className.split(' ')[0]"))
    assert {"nav-link", "dash-input-element", "number"} <= reached


def test_tables_and_figures_are_saved_without_a_network(page: Any) -> None:
    open_page(page, "/")
    page.locator("#table-limits").wait_for()
    with page.expect_download() as table:
        page.locator('[data-name="limits"]').click()
    assert table.value.suggested_filename == "limits.csv"
    page.locator("#memory-by-stage .main-svg").first.wait_for()
    page.locator('[data-card="memory"] .figure').hover()
    with page.expect_download() as figure:
        page.locator('[data-figure="memory-by-stage"][data-format="svg"]').click()
    assert figure.value.suggested_filename == "memory-by-stage.svg"
