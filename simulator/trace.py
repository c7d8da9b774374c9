"""What happened in a simulated step: spans, sends and memory, and their drawing.

A trace only grows while the simulation runs; every quantity is computed from it afterwards.
Records are tuples in lists, since one is made for each action.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

JsonObject: TypeAlias = dict[str, object]
"""An object of a JSON document."""

PIPELINE_AXIS = "pipeline"
"""The axis of hand-overs between virtual stages."""

DATA_AXIS = "data"
"""The axis of gradient reductions and parameter gathers after the backwards."""

ACTIVATIONS = "activations"
"""What actions allocate and release."""

STATIC = "static"
"""What is held all the time, where its parts are not known."""

_MICROSECONDS_PER_S = 1_000_000  # The unit of time that Chrome's format prescribes.


class Engine(StrEnum):
    """What a rank is busy with; the two may overlap."""

    COMPUTE = "compute"
    NETWORK = "network"


_THREAD_OF = {engine: thread for thread, engine in enumerate(Engine)}


class Span(NamedTuple):
    """A stretch of time in which an engine of a rank did one thing.

    Attributes
    ----------
    rank : int
        Rank in the pipeline [index].
    engine : Engine
        Which engine was busy.
    name : str
        The letter of a pipeline action, or what the rank did after them.
    stage, microbatch : int or None
        Which action of the pipeline; None after the pipeline [index].
    start_s, end_s : float
        From when to when [s].
    flop : int
        Work done [FLOP].
    allocated_bytes, released_bytes : int
        What it allocates at its start, and what it releases at its end [byte].
    received_send : int or None
        Which entry of `Trace.sends` brought the input; None for an input of the rank's own.
    """

    rank: int
    engine: Engine
    name: str
    stage: int | None
    microbatch: int | None
    start_s: float
    end_s: float
    flop: int
    allocated_bytes: int
    released_bytes: int
    received_send: int | None

    def __str__(self) -> str:
        if self.stage is None:
            return self.name
        return f"{self.stage}{self.name}{self.microbatch}"


class Send(NamedTuple):
    """Bytes that left a rank.

    Attributes
    ----------
    axis : str
        The parallel dimension that they belong to.
    source : int
        Rank that sent them [index].
    destination : int or None
        Rank of the pipeline that received them; None if it went to a group outside it [index].
    size_bytes : int
        How many [byte].
    start_s, end_s : float
        From the start of the transfer to its arrival [s].
    sending_span : int
        Which entry of `Trace.spans` produced them.
    """

    axis: str
    source: int
    destination: int | None
    size_bytes: int
    start_s: float
    end_s: float
    sending_span: int


class MemoryChange(NamedTuple):
    """Bytes that a rank allocated, or released if negative.

    Attributes
    ----------
    rank : int
        Rank in the pipeline [index].
    what : str
        What allocates or releases them.
    time_s : float
        When [s].
    delta_bytes : int
        How many [byte].
    """

    rank: int
    what: str
    time_s: float
    delta_bytes: int


@dataclass(slots=True, kw_only=True)
class Trace:
    """All records of one simulated step, in the order in which they were made.

    Attributes
    ----------
    static_bytes : tuple of int
        By rank, what it holds all the time [byte].
    static_parts : tuple of mapping of str to int
        By rank, what that consists of, if it is known [byte].
    spans : list of Span
        What the ranks did, each rank in its program order.
    sends : list of Send
        What they sent.
    """

    static_bytes: tuple[int, ...]
    static_parts: tuple[Mapping[str, int], ...] = ()
    spans: list[Span] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)

    @property
    def rank_count(self) -> int:
        """Ranks of the pipeline [count]."""
        return len(self.static_bytes)

    def static_parts_of(self, rank: int) -> Mapping[str, int]:
        """Return what a rank holds all the time, by part; in one part if they are not known."""
        return self.static_parts[rank] if self.static_parts else {STATIC: self.static_bytes[rank]}

    def memory_changes(self) -> Iterator[MemoryChange]:
        """Yield what the ranks allocated and released, each rank in its program order.

        Program order also settles changes at the same time: what an action releases at its end is
        free when the next one starts. Spans carry the bytes, since a record of its own for each
        change would make a simulation a tenth slower.
        """
        for rank in range(self.rank_count):
            for part, size_bytes in self.static_parts_of(rank).items():
                yield MemoryChange(rank, part, 0, size_bytes)
        for span in self.spans:
            if span.allocated_bytes:
                yield MemoryChange(span.rank, str(span), span.start_s, span.allocated_bytes)
            if span.released_bytes:
                yield MemoryChange(span.rank, str(span), span.end_s, -span.released_bytes)


def chrome_trace(trace: Trace) -> JsonObject:
    """Return a trace in Chrome's JSON object format, which Perfetto draws.

    Each rank is a process with one thread for each engine; an arrow goes from the action that
    sent an input to the action that waited for it; counters show the memory of a rank by part.

    Parameters
    ----------
    trace : Trace
        A simulated step.

    Returns
    -------
    JsonObject
        For ``json.dump``; its size is linear in that of the trace.
    """
    events = [
        *_track_names(trace.rank_count),
        *(_complete_event(span) for span in trace.spans),
        *_flow_events(trace),
        *_memory_counters(trace),
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _track_names(rank_count: int) -> list[JsonObject]:
    events: list[JsonObject] = []
    for rank in range(rank_count):
        process_args: JsonObject = {"name": f"rank {rank}"}
        events.append({"ph": "M", "name": "process_name", "pid": rank, "args": process_args})
        place: JsonObject = {"sort_index": rank}
        events.append({"ph": "M", "name": "process_sort_index", "pid": rank, "args": place})
        for engine, thread in _THREAD_OF.items():
            track: JsonObject = {"ph": "M", "pid": rank, "tid": thread}
            events.append({**track, "name": "thread_name", "args": {"name": engine.value}})
    return events


def _complete_event(span: Span) -> JsonObject:
    return {
        "ph": "X",
        "name": str(span),
        "cat": span.name,
        **_position(span),
        "dur": (span.end_s - span.start_s) * _MICROSECONDS_PER_S,
        "args": {"flop": span.flop},
    }


def _flow_events(trace: Trace) -> list[JsonObject]:
    events: list[JsonObject] = []
    for span in trace.spans:
        if span.received_send is None:
            continue
        send = trace.sends[span.received_send]
        arrow: JsonObject = {"name": send.axis, "cat": "send", "id": span.received_send}
        # An arrow belongs to the slice around its time stamp, so both ends are put at the start
        # of their slice: the end of a slice may be the start of the next one.
        events.append({"ph": "s", **arrow, **_position(trace.spans[send.sending_span])})
        events.append({"ph": "f", "bp": "e", **arrow, **_position(span)})
    return events


def _position(span: Span) -> JsonObject:
    return {
        "pid": span.rank,
        "tid": _THREAD_OF[span.engine],
        "ts": span.start_s * _MICROSECONDS_PER_S,
    }


def _memory_counters(trace: Trace) -> list[JsonObject]:
    """Return what each rank holds after every change: a series for each static part, and one more."""
    held: list[dict[str, int]] = [{} for _ in trace.static_bytes]
    static = [trace.static_parts_of(rank) for rank in range(trace.rank_count)]
    events: list[JsonObject] = []
    for change in trace.memory_changes():
        part = change.what if change.what in static[change.rank] else ACTIVATIONS
        of_rank = held[change.rank]
        of_rank[part] = of_rank.get(part, 0) + change.delta_bytes
        events.append(
            {
                "ph": "C",
                "name": "memory",
                "pid": change.rank,
                "ts": change.time_s * _MICROSECONDS_PER_S,
                "args": dict(of_rank),
            }
        )
    return events
