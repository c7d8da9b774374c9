"""When the actions of a program happened, in columns, and the trace that follows from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from costmodels.pipelining.actions import Action, ActionKind
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
    handed_over_bytes: Sequence[int]
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
    _number_sends(program, records, [sum(len(p.sent_bytes) for p in of) for of in parts])
    for rank, actions in enumerate(program.order):
        spans = zip(actions, record.starts_s[rank], record.ends_s[rank], strict=True)
        hand_overs = zip(record.departures_s[rank], record.arrivals_s[rank], strict=True)
        _add_actions(trace, rank, spans, hand_overs, records)
        _add_parts(trace, rank, parts[rank])
    return trace


def _task_records(program: PipelineProgram, tasks: Tasks) -> _TaskRecords:
    count = program.microbatch_count()
    # A task that hands over and the one that takes it share a list of arrivals, and one of indices.
    indices: dict[int, list[int | None]] = {}

    def records(task: Task, work: ActionWork) -> _Records:
        crosses = task.link is not None
        return _Records(
            amounts=[
                (flop, max(cost.delta_bytes, 0), max(-cost.delta_bytes, 0))
                for flop, cost in zip(program.scaled(work.flop), task.costs, strict=True)
            ],
            sent=[(axis, program.scaled(size)) for axis, size in work.sent_bytes.items() if size],
            handed_over_bytes=[cost.sent_bytes for cost in task.costs],
            destination=task.destination if crosses else None,
            received=indices.setdefault(id(task.source), [None] * count),
            handed_over=indices.setdefault(id(task.target), [None] * count),
        )

    return {
        kind: [records(*entry) for entry in zip(of_kind, program.works(kind), strict=True)]
        for kind, of_kind in tasks.items()
    }


def _number_sends(
    program: PipelineProgram, records: _TaskRecords, end_counts: Sequence[int]
) -> None:
    """Note for each hand-over the place that it will have among all sends."""
    index = 0
    for actions, end_count in zip(program.order, end_counts, strict=True):
        for stage, kind, microbatch in actions:
            _, sent, _, destination, _, handed_over = records[kind][stage]
            index += len(sent)
            if destination is not None:
                handed_over[microbatch] = index
                index += 1
        index += end_count


def _add_actions(
    trace: Trace,
    rank: int,
    actions: Iterable[tuple[Action, float, float]],
    hand_overs: Iterator[tuple[float, float]],
    records: _TaskRecords,
) -> None:
    # Records are made as plain tuples in one loop: a trace has millions of them.
    new = tuple.__new__
    compute, add_span, add_send = Engine.COMPUTE, trace.spans.append, trace.sends.append
    index = len(trace.spans)
    for (stage, kind, microbatch), start_s, end_s in actions:
        amounts, sent, sizes, destination, received, _ = records[kind][stage]
        flop, allocated, released = amounts[microbatch]
        add_span(
            new(
                Span,
                (
                    rank,
                    compute,
                    kind,
                    stage,
                    microbatch,
                    start_s,
                    end_s,
                    flop,
                    allocated,
                    released,
                    received[microbatch],
                ),
            )
        )
        for axis, axis_sizes in sent:
            size = axis_sizes[microbatch]
            add_send(new(Send, (axis, rank, None, size, start_s, end_s, index)))
        if destination is not None:
            from_s, to_s = next(hand_overs)
            size = sizes[microbatch]
            add_send(new(Send, (PIPELINE_AXIS, rank, destination, size, from_s, to_s, index)))
        index += 1


def _add_parts(trace: Trace, rank: int, parts: Sequence[EndPart]) -> None:
    for part in parts:
        span = len(trace.spans)
        for axis, size_bytes in part.sent_bytes.items():
            trace.sends.append(Send(axis, rank, None, size_bytes, part.start_s, part.end_s, span))
        trace.spans.append(_end_span(part, rank))


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
