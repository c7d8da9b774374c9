"""Traces against the rules of Chrome's Trace Event Format that viewers hold them to.

The format: "Trace Event Format," N. Duca and D. Sinclair, Google, 2016, sections "JSON Object Format",
"Complete Events", "Flow Events", "Counter Events" and "Metadata Events". Perfetto's importer draws
slices of one thread as a stack, so that those that overlap without nesting are lost, and binds the
ends of an arrow to the slices around them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from math import isfinite
from typing import Any

import pytest

from simulator.trace import Trace, chrome_trace
from simulator.variation import Variation
from simulator.whatif import contention, simulate
from tests.simulator.test_dual_pipe import scenario
from tests.simulator.witnesses import witness

Event = dict[str, Any]

NANOSECOND = 1e-3
"""In the format's microseconds: Perfetto keeps whole nanoseconds."""


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def check_trace(trace: Trace) -> None:
    """Assert that a trace, as text, keeps the rules of the format."""
    found = json.loads(json.dumps(chrome_trace(trace)), parse_constant=refuse_constant)
    assert found["displayTimeUnit"] in ("ms", "ns")
    by_phase: dict[str, list[Event]] = defaultdict(list)
    for event in found["traceEvents"]:
        assert isinstance(event["name"], str)
        assert type(event["pid"]) is int
        assert type(event.get("tid", 0)) is int
        assert isfinite(event.get("ts", 0))
        assert event.get("ts", 0) >= 0
        by_phase[event["ph"]].append(event)
    assert by_phase.keys() <= {"M", "X", "s", "f", "C"}
    slices = check_slices(by_phase["X"])
    check_names(by_phase["M"], slices)
    check_arrows(by_phase["s"], by_phase["f"], slices)
    check_counters(by_phase["C"])


Slices = dict[tuple[int, int], list[tuple[float, float]]]


def check_slices(events: Iterable[Event]) -> Slices:
    """Assert that complete events of a thread nest, or follow each other; return them by thread."""
    slices: Slices = defaultdict(list)
    for event in events:
        assert {"ts", "dur", "tid", "cat"} <= event.keys()
        assert event["dur"] >= 0
        slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for of_thread in slices.values():
        stack: list[float] = []
        for start, end in sorted(of_thread, key=lambda each: (each[0], -each[1])):
            while stack and stack[-1] <= start + NANOSECOND:
                stack.pop()
            assert not stack or end <= stack[-1] + NANOSECOND, (start, end, stack)
            stack.append(end)
    return slices


def check_names(events: Iterable[Event], slices: Slices) -> None:
    """Assert that every process and thread that has slices is named, once."""
    processes, threads = [], []
    for event in events:
        assert event["name"] in ("process_name", "process_sort_index", "thread_name")
        if event["name"] == "process_sort_index":
            assert type(event["args"]["sort_index"]) is int
            continue
        assert event["args"]["name"]
        if event["name"] == "process_name":
            processes.append(event["pid"])
        else:
            threads.append((event["pid"], event["tid"]))
    assert len(set(processes)) == len(processes)
    assert len(set(threads)) == len(threads)
    assert set(slices) <= set(threads)
    assert {process for process, _ in slices} <= set(processes)


def check_arrows(begins: list[Event], finishes: list[Event], slices: Slices) -> None:
    """Assert that arrows have two ends with the same id, each in a slice, forward in time."""
    starts = {event["id"]: event for event in begins}
    assert len(starts) == len(begins)
    assert sorted(event["id"] for event in finishes) == sorted(starts)
    for finish in finishes:
        start = starts[finish["id"]]
        assert finish["bp"] == "e"
        assert (finish["name"], finish["cat"]) == (start["name"], start["cat"])
        assert start["ts"] <= finish["ts"]
        for end in (start, finish):
            assert any(first <= end["ts"] <= last for first, last in slices[end["pid"], end["tid"]])


def check_counters(events: Iterable[Event]) -> None:
    """Assert that counters have numbers, and that those of a process go on in time."""
    latest: dict[tuple[int, str], float] = {}
    for event in events:
        assert event["args"]
        assert all(type(value) is int and value >= 0 for value in event["args"].values())
        key = event["pid"], event["name"]
        assert latest.get(key, 0) <= event["ts"]
        latest[key] = event["ts"]


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zb-h1", "dualpipe-v", "dualpipe"])
def test_traces_of_schedules_are_valid(schedule: str) -> None:
    check_trace(simulate(scenario(schedule)).trace)


def test_traces_with_chance_are_valid() -> None:
    variation = Variation(jitter_fraction=0.2, seed=1, stragglers={1: 2.0})
    check_trace(simulate(witness("interleaved"), variation).trace)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_traces_of_shared_links_are_valid(zero_stage: int) -> None:
    check_trace(contention(scenario("1f1b", zero_stage=zero_stage)).trace)


def test_what_breaks_the_rules_is_found() -> None:
    """The checks see an arrow without an end, and slices that overlap."""
    trace = simulate(scenario("1f1b")).trace
    crossing = [trace.spans[0]._replace(end_s=trace.spans[1].end_s - 1e-4), *trace.spans[1:]]
    with pytest.raises(AssertionError):
        check_trace(Trace(static_bytes=trace.static_bytes, spans=crossing, sends=trace.sends))
    begins = [{"id": 1, "ts": 0, "pid": 0, "tid": 0, "name": "a", "cat": "b"}]
    with pytest.raises(AssertionError):
        check_arrows(begins, [], {})
