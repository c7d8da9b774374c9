"""When the actions of a program happened, in columns, and the trace that follows from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeAlias

from costmodels.pipelining.actions import Action, ActionKind
from costmodels.pipelining.longest_path import Cost
from simulator.program import ActionWork, PipelineProgram
from simulator.step_ends import EndPart, step_end_parts
from simulator.tasks import Task, Tasks
from simulator.trace import PIPELINE_AXIS, Engine, Send, Span, Trace

Times: TypeAlias = list[list[float]]
"""By rank and in its program order [s]."""


@dataclass(slots=True, kw_only=True)
class Record:
    """When each action ran and each hand-over over a link took place.

    Attributes
    ----------
    starts_s, ends_s : Times
        Of the actions [s].
    departures_s, arrivals_s : Times
        Of the hand-overs that cross a link, by the sending rank [s].
    """

    starts_s: Times
    ends_s: Times
    departures_s: Times
    arrivals_s: Times

    @classmethod
    def empty(cls, rank_count: int) -> "Record":
        """Return a record without entries."""
        return cls(
            starts_s=[[] for _ in range(rank_count)],
            ends_s=[[] for _ in range(rank_count)],
            departures_s=[[] for _ in range(rank_count)],
            arrivals_s=[[] for _ in range(rank_count)],
        )


class _Records(NamedTuple):
    """What the records of a task's actions say beside times; sequences are by microbatch.

    The amounts are FLOP, bytes allocated and bytes released.
    """

    amounts: Sequence[tuple[int, int, int]]
    sent: Sequence[tuple[str, Sequence[int]]]
    costs: Sequence[Cost]
    destination: int | None
    received: Sequence[int | None]
    handed_over: list[int | None]


_TaskRecords: TypeAlias = Mapping[ActionKind, Sequence[_Records]]


def trace_of(
    program: PipelineProgram,
    tasks: Tasks,
    record: Record,
    parts: Sequence[Sequence[EndPart]] | None = None,
) -> Trace:
    """Return the spans, sends and memory changes of a program that was played, rank by rank.

    Parameters
    ----------
    program : PipelineProgram
        What was played.
    tasks : Tasks
        Its action graph.
    record : Record
        When.
    parts : sequence of sequence of EndPart, optional
        By rank, what it did beside its actions; by default what its step ends with.

    Returns
    -------
    Trace
        All records; the ends of the steps included.
    """
    if parts is None:
        parts = [end_parts(program, record, rank) for rank in range(len(program.order))]
    trace = Trace(
        static_bytes=tuple(program.static_bytes), static_parts=tuple(program.static_parts)
    )
    records = _task_records(program, tasks)
    first_span = 0
    for rank, actions in enumerate(program.order):
        times = zip(actions, record.starts_s[rank], record.ends_s[rank], strict=True)
        hand_overs = zip(record.departures_s[rank], record.arrivals_s[rank], strict=True)
        _add_sends(trace, rank, times, hand_overs, records, first_span)
        first_span += len(actions)
        for part in parts[rank]:
            for axis, size_bytes in part.sent_bytes.items():
                send = (axis, rank, None, size_bytes, part.start_s, part.end_s, first_span)
                trace.sends.append(Send(*send))
            first_span += 1
    # After all sends, so that a span can say which of them brought its input.
    for rank, actions in enumerate(program.order):
        times = zip(actions, record.starts_s[rank], record.ends_s[rank], strict=True)
        _add_spans(trace, rank, times, records)
        trace.spans.extend(_end_span(part, rank) for part in parts[rank])
    return trace


def _task_records(program: PipelineProgram, tasks: Tasks) -> _TaskRecords:
    count, varied = program.microbatch_count(), program.is_varied()
    # A task that hands over and the one that takes it share a list of arrivals, and one of indices.
    indices: dict[int, list[int | None]] = {}

    def records(task: Task, work: ActionWork) -> _Records:
        crosses = task.link is not None
        return _Records(
            amounts=_amounts(program.scaled(work.flop), task.costs, varied=varied),
            sent=[(axis, program.scaled(size)) for axis, size in work.sent_bytes.items() if size],
            costs=task.costs,
            destination=task.destination if crosses else None,
            received=indices.setdefault(id(task.source), [None] * count),
            handed_over=indices.setdefault(id(task.target), [None] * count),
        )

    return {
        kind: [records(*entry) for entry in zip(of_kind, program.works(kind), strict=True)]
        for kind, of_kind in tasks.items()
    }


def _amounts(
    flop: Sequence[int], costs: Sequence[Cost], *, varied: bool
) -> list[tuple[int, int, int]]:
    entries = list(islice(zip(flop, costs, strict=True), None if varied else 1))
    found = [(done, max(cost.delta_bytes, 0), max(-cost.delta_bytes, 0)) for done, cost in entries]
    return found if varied else found * len(costs)


_Times: TypeAlias = Iterable[tuple[Action, float, float]]


def _add_sends(
    trace: Trace,
    rank: int,
    times: _Times,
    hand_overs: Iterator[tuple[float, float]],
    records: _TaskRecords,
    first_span: int,
) -> None:
    # Records are made as plain tuples in one loop: a trace has millions of them.
    new, sends = tuple.__new__, trace.sends
    add = sends.append
    for span, ((stage, kind, microbatch), start_s, end_s) in enumerate(times, first_span):
        _, sent, costs, destination, _, handed_over = records[kind][stage]
        for axis, sizes in sent:
            add(new(Send, (axis, rank, None, sizes[microbatch], start_s, end_s, span)))
        if destination is not None:
            handed_over[microbatch] = len(sends)
            from_s, to_s = next(hand_overs)
            size = costs[microbatch][2]
            add(new(Send, (PIPELINE_AXIS, rank, destination, size, from_s, to_s, span)))


def _add_spans(trace: Trace, rank: int, times: _Times, records: _TaskRecords) -> None:
    new, compute, add = tuple.__new__, Engine.COMPUTE, trace.spans.append
    for (stage, kind, microbatch), start_s, end_s in times:
        amounts, _, _, _, received, _ = records[kind][stage]
        done = (rank, compute, kind, stage, microbatch, start_s, end_s)
        add(new(Span, (*done, *amounts[microbatch], received[microbatch])))


def end_parts(program: PipelineProgram, record: Record, rank: int) -> Sequence[EndPart]:
    """Return the parts of the end of a rank's step."""
    starts, ends = record.starts_s[rank], record.ends_s[rank]
    return step_end_parts(
        program.step_ends[rank],
        last_start_s=starts[-1] if starts else 0,
        last_end_s=ends[-1] if ends else 0,
    )


def _end_span(part: EndPart, rank: int) -> Span:
    return Span(
        rank=rank,
        engine=part.engine,
        name=part.name,
        stage=None,
        microbatch=None,
        start_s=part.start_s,
        end_s=part.end_s,
        flop=0,
        allocated_bytes=0,
        released_bytes=0,
        received_send=None,
    )
