"""The drawing of a trace in Chrome's JSON format."""

import json
from collections import Counter
from typing import Any

import pytest

from costmodels.pipelining.schedules import ScheduleName
from simulator.pipeline import simulate_pipeline
from simulator.resources import LinkSpec
from simulator.trace import Trace, chrome_trace
from tests.simulator.pipeline_programs import Size, unequal_program, work


def simulated(m: int) -> Trace:
    return simulate_pipeline(
        unequal_program(
            Size(ScheduleName.INTERLEAVED_ONE_F_ONE_B, 2, 2, m).order(),
            forward=[work(1, 2)] * 4,
            backward=[work(2, 2)] * 4,
            activation_bytes=[5, 6, 7, 8],
            link=LinkSpec(latency_s=1, bandwidth_bytes_per_s=4),
        )
    )


def drawn(trace: Trace, phase: str) -> list[dict[str, Any]]:
    """Return the events of one phase, after the way through JSON text."""
    events = json.loads(json.dumps(chrome_trace(trace)))["traceEvents"]
    return [event for event in events if event["ph"] == phase]


def test_each_rank_and_engine_has_a_name() -> None:
    told = [e for e in drawn(simulated(2), "M") if e["name"] != "process_sort_index"]
    names = [(e["name"], e["pid"], e.get("tid"), e["args"]["name"]) for e in told]
    assert names == [
        ("process_name", 0, None, "rank 0"),
        ("thread_name", 0, 0, "compute"),
        ("thread_name", 0, 1, "network"),
        ("process_name", 1, None, "rank 1"),
        ("thread_name", 1, 0, "compute"),
        ("thread_name", 1, 1, "network"),
    ]


def test_each_span_is_a_slice_in_microseconds() -> None:
    trace = simulated(2)
    slices = drawn(trace, "X")
    assert [event["name"] for event in slices] == [str(span) for span in trace.spans]
    first = slices[0]
    assert (first["name"], first["pid"], first["tid"]) == ("0F0", 0, 0)
    assert (first["ts"], first["dur"]) == (0, 1_000_000)


def test_each_hand_over_is_an_arrow_between_two_slices() -> None:
    trace = simulated(4)
    begins = {event["id"]: event for event in drawn(trace, "s")}
    finishes = {event["id"]: event for event in drawn(trace, "f")}
    assert begins.keys() == finishes.keys()
    assert len(begins) == len(trace.sends)
    slices = {(e["pid"], e["tid"], e["ts"]): e["name"] for e in drawn(trace, "X")}
    arrows: Counter[tuple[str, str]] = Counter()
    for index, begin in begins.items():
        source, target = (
            slices[event["pid"], event["tid"], event["ts"]] for event in (begin, finishes[index])
        )
        assert begin["ts"] < finishes[index]["ts"]
        arrows[source, target] += 1
    assert arrows["0F0", "1F0"] == arrows["1F0", "2F0"] == arrows["3B3", "2B3"] == 1


def test_the_counters_show_the_memory_of_each_rank() -> None:
    counters = drawn(simulated(2), "C")
    peaks = []
    for rank in range(2):
        values = [sum(event["args"].values()) for event in counters if event["pid"] == rank]
        assert values[0] == values[-1] == 0
        peaks.append(max(values))
    # The first rank does all its forwards first; the second turns round after one of chunk 1.
    assert peaks == [2 * (5 + 7), 2 * 6 + 8]


@pytest.mark.parametrize("m", [2, 4, 8, 16])
def test_its_size_is_linear_in_that_of_the_trace(m: int) -> None:
    events = chrome_trace(simulated(m))["traceEvents"]
    assert isinstance(events, list)
    names, statics, actions, hand_overs = 2 * 4, 2, 2 * 4 * m, 2 * 3 * m
    assert len(events) == names + statics + 2 * actions + 2 * hand_overs


def test_a_trace_is_valid_and_the_same_each_time() -> None:
    """The rules of Chrome's trace event format that Perfetto's importer holds it to."""
    first, second = (json.dumps(chrome_trace(simulated(4))) for _ in range(2))
    assert first == second
    known = {"M": {"args"}, "X": {"ts", "dur", "tid"}, "C": {"ts", "args"}}
    known |= {"s": {"ts", "tid", "id", "cat"}, "f": {"ts", "tid", "id", "cat", "bp"}}
    for event in json.loads(first)["traceEvents"]:
        assert {"ph", "name", "pid"} | known[event["ph"]] <= event.keys()
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        if event["ph"] == "C":
            assert all(type(value) is int for value in event["args"].values())
