"""How fast the dashboard answers and draws: ``python benchmarks/dashboard.py [--quick]``.

Starts a server of its own on this machine, asks it as 10 users at once would, and watches a real
browser (Chromium on PATH, driven by playwright) draw. Prints medians and 95th percentiles.
"""

import argparse
import json
import shutil
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright
from waitress.server import create_server

from dashboard.app import create_app
from dashboard.figures.schedule import Window, prepared, schedule
from dashboard.state import DEFAULT, scenario_of
from simulator.whatif import simulate
from tests.dashboard.asking import answer_body

USERS = 10
SPANS_MICROBATCHES = 1_560
"""Makes 50,000 spans on the 16 stages of the default scenario."""


def percentiles(times_s: list[float]) -> str:
    """Return the median and the 95th percentile in milliseconds."""
    ordered = sorted(times_s)
    last = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"p50 {1e3 * statistics.median(ordered):7.0f} ms   p95 {1e3 * last:7.0f} ms"


def timed(work: Callable[[], Any], times: int) -> list[float]:
    """Return how long some work takes, several times [s]."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


def serve() -> Any:
    """Return a running server."""
    listening = create_server(create_app().server, host="127.0.0.1", port=0, threads=8)
    threading.Thread(target=listening.run, daemon=True).start()
    return listening


def ask(base: str, micro: int) -> None:
    """Ask for the page of a plan once."""
    body = json.dumps(answer_body({"plan.micro_batch_size": str(micro)})).encode()
    request = urllib.request.Request(  # noqa: S310
        f"{base}/_dash-update-component", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        response.read()


def users(base: str, turns: int) -> list[float]:
    """Return the time of each answer while several users change a field once a second [s]."""
    found: list[float] = []

    def use(user: int) -> None:
        time.sleep(user / USERS)
        for turn in range(turns):
            started = time.perf_counter()
            ask(base, 2 ** ((user + turn) % 5))
            spent = time.perf_counter() - started
            found.append(spent)
            time.sleep(max(1 - spent, 0))

    threads = [threading.Thread(target=use, args=(user,)) for user in range(USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


_DRAWN = """
(graph) => new Promise((done) => {
  const started = performance.now();
  graph.once('plotly_afterplot', () => requestAnimationFrame(
    () => done((performance.now() - started) / 1000)));
  window.Plotly.react(graph, graph.data.map((trace) => ({...trace})), graph.layout);
})
"""
_LOADED = """
() => {
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const sum = (name) => all.reduce((total, entry) => total + entry[name], 0) / 1e6;
  return `${all.length} requests, ${sum('transferSize').toFixed(1)} MB sent, ` +
    `${sum('decodedBodySize').toFixed(1)} MB unpacked`;
}
"""
_ZOOMED = """
([graph, start, end]) => new Promise((done) => {
  const started = performance.now();
  const look = () => {
    const shown = graph.layout && graph.layout.meta && graph.layout.meta.detailed;
    if (shown) requestAnimationFrame(() => done((performance.now() - started) / 1000));
  };
  graph.on('plotly_afterplot', look);
  window.Plotly.relayout(graph, {'xaxis.range': [start, end]});
})
"""


def browser_times(base: str, times: int) -> None:
    """Print how long a real browser takes."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no Chromium on PATH: nothing was drawn")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        loaded: list[str] = []

        def first(awaited: str) -> None:
            context = browser.new_context()
            page = context.new_page()
            page.set_default_timeout(90_000)
            page.goto(base)
            page.locator(awaited).first.wait_for()
            loaded.append(page.evaluate(_LOADED))
            context.close()

        for what, awaited in (("verdict", "#verdict"), ("figures", ".main-svg")):
            found = percentiles(timed(partial(first, awaited), times))
            print(f"first page, empty cache: {what}   {found}")
        print(f"    {loaded[-1]}")
        drawn, zooms = [], []
        for _ in range(times):
            page = browser.new_page()
            page.set_default_timeout(90_000)
            page.goto(f"{base}/pipeline?microbatches={SPANS_MICROBATCHES}")
            graph = page.locator("[data-card=first] .js-plotly-plot")
            graph.locator(".heatmaplayer image").first.wait_for()
            page.wait_for_timeout(500)
            handle = graph.element_handle()
            drawn.append(page.evaluate(_DRAWN, handle))
            end_s = page.evaluate("(graph) => graph.layout.xaxis.range[1]", handle)
            zooms.append(page.evaluate(_ZOOMED, [handle, 0.5 * end_s, 0.52 * end_s]))
            page.close()
        print(f"50,000 spans, drawn as a raster     {percentiles(drawn)}")
        print(f"zoomed into bars, server included  {percentiles(zooms)}")
        browser.close()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    quick = parser.parse_args().quick
    listening = serve()
    base = f"http://127.0.0.1:{listening.effective_port}"
    for micro in (1, 2, 4, 8, 16):
        ask(base, micro)
    print(f"page of a plan, {USERS} users          {percentiles(users(base, 3 if quick else 10))}")
    changes = (("microbatches", str(SPANS_MICROBATCHES)),)
    trace = simulate(scenario_of(DEFAULT, changes)).trace
    drawing = prepared(trace)
    print(f"{len(trace.spans):,} spans, raster in the server  ", end="")
    print(percentiles(timed(lambda: schedule(drawing), 5)))
    end_s = max(span.end_s for span in trace.spans)
    window = Window(0.5 * end_s, 0.52 * end_s)
    print("a window as bars in the server     ", end="")
    print(percentiles(timed(lambda: schedule(drawing, window=window), 5)))
    browser_times(base, 2 if quick else 8)


if __name__ == "__main__":
    main()
