"""A training step of a pipeline in simulated time: one process for each rank.

A rank plays its actions in program order. Before each it waits for what the previous action of
the same microbatch hands over; sending takes no time of the sender.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simpy import Environment, Process
from simpy.events import ProcessGenerator

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind
from simulator.program import PipelineProgram, StepEnd
from simulator.resources import Arrival, Link
from simulator.trace import DATA_AXIS, PIPELINE_AXIS, Engine, Send, Span, Trace


def simulate_pipeline(program: PipelineProgram) -> Trace:
    """Return what happens when the ranks of a pipeline play a program.

    Parameters
    ----------
    program : PipelineProgram
        What they are to do.

    Returns
    -------
    Trace
        Spans, sends and memory changes of one step that starts at zero [s].

    Raises
    ------
    SpecError
        If ranks wait for each other forever: the message says where.
    """
    env = Environment()
    trace = Trace(static_bytes=tuple(program.static_bytes))
    tasks = _tasks(env, program)
    processes = []
    for rank, actions in enumerate(program.order):
        step = _rank_step(
            env, rank=rank, actions=actions, tasks=tasks, end=program.step_ends[rank], trace=trace
        )
        processes.append(env.process(step))
    env.run()
    _refuse_deadlock(program, processes, trace)
    return trace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What an action of one kind is to a virtual stage, alike for all microbatches.

    `inputs` and `outputs` have an arrival for each microbatch, or none where nothing comes in or
    goes out. There is a `link` if the output goes to another rank, `destination`.
    """

    duration_s: float
    flop: int
    hand_over_bytes: int
    sent_bytes: Mapping[str, int]
    allocated_bytes: int
    released_bytes: int
    inputs: Sequence[Arrival]
    outputs: Sequence[Arrival]
    link: Link | None
    destination: int


_PLAYED = (ActionKind.FORWARD, ActionKind.BACKWARD)

_Tasks = Mapping[ActionKind, Sequence[_Task]]


def _tasks(env: Environment, program: PipelineProgram) -> _Tasks:
    """Return the task of each kind of action at each virtual stage."""
    ranks = program.stage_ranks()
    links = {pair: Link(env, spec) for pair, spec in program.links.items()}
    microbatches = range(program.microbatch_count())
    arrivals = {
        (kind, stage): [Arrival(env) for _ in microbatches]
        for kind in _PLAYED
        for stage in range(program.stage_count)
    }

    def task(kind: ActionKind, stage: int) -> _Task:
        action = Action(stage, kind, 0)
        following = program.next_action(action)
        destination = ranks[stage] if following is None else ranks[following.stage]
        is_forward = kind is ActionKind.FORWARD
        work = (program.forward if is_forward else program.backward)[stage]
        return _Task(
            duration_s=work.duration_s,
            flop=work.flop,
            hand_over_bytes=work.hand_over_bytes,
            sent_bytes=work.sent_bytes,
            allocated_bytes=program.activation_bytes[stage] if is_forward else 0,
            released_bytes=0 if is_forward else program.activation_bytes[stage],
            inputs=() if program.previous_action(action) is None else arrivals[kind, stage],
            outputs=() if following is None else arrivals[following.kind, following.stage],
            link=None if destination == ranks[stage] else links[ranks[stage], destination],
            destination=destination,
        )

    return {kind: [task(kind, stage) for stage in range(program.stage_count)] for kind in _PLAYED}


def _rank_step(
    env: Environment,
    *,
    rank: int,
    actions: Sequence[Action],
    tasks: _Tasks,
    end: StepEnd,
    trace: Trace,
) -> ProcessGenerator:
    """Play the actions of a rank, then end its step.

    Yields
    ------
    Event
        The arrival of an input, or the end of a stretch of work.
    """
    # Kept in one loop, with positional records: this is where a simulation spends its time.
    # Looking a member of an enumeration up takes as long as making a record, hence `compute`.
    compute = Engine.COMPUTE
    start_s = env.now
    for stage, kind, microbatch in actions:
        task = tasks[kind][stage]
        received_send = (yield task.inputs[microbatch]) if task.inputs else None
        start_s = env.now
        yield env.timeout(task.duration_s)
        span = Span(
            rank,
            compute,
            kind,
            stage,
            microbatch,
            start_s,
            env.now,
            task.flop,
            task.allocated_bytes,
            task.released_bytes,
            received_send,
        )
        trace.spans.append(span)
        if task.sent_bytes:
            _record_sends(trace, task.sent_bytes)
        if task.outputs:
            _hand_over(trace, rank, task, task.outputs[microbatch])
    yield from _end_step(env, rank=rank, last_start_s=start_s, end=end, trace=trace)


def _record_sends(trace: Trace, sent_bytes: Mapping[str, int]) -> None:
    """Record what the last span sent while it ran."""
    span = trace.spans[-1]
    for axis, size_bytes in sent_bytes.items():
        trace.sends.append(
            Send(
                axis=axis,
                source=span.rank,
                destination=None,
                size_bytes=size_bytes,
                start_s=span.start_s,
                end_s=span.end_s,
                sending_span=len(trace.spans) - 1,
            )
        )


def _hand_over(trace: Trace, rank: int, task: _Task, arrival: Arrival) -> None:
    """Give what the last span made to the virtual stage that goes on."""
    if task.link is None:
        arrival.succeed()
        return
    sends, size_bytes = trace.sends, task.hand_over_bytes
    start_s, end_s = task.link.send(arrival, size_bytes, len(sends))
    span_index = len(trace.spans) - 1
    sends.append(
        Send(PIPELINE_AXIS, rank, task.destination, size_bytes, start_s, end_s, span_index)
    )


def _end_step(
    env: Environment, *, rank: int, last_start_s: float, end: StepEnd, trace: Trace
) -> ProcessGenerator:
    """Reduce gradients, update and gather parameters; a part without duration leaves no span.

    Yields
    ------
    Event
        The end of each part.
    """

    def record(
        name: str, engine: Engine, start_s: float, duration_s: float, sent_bytes: Mapping[str, int]
    ) -> None:
        sends = {axis: size_bytes for axis, size_bytes in sent_bytes.items() if size_bytes}
        if duration_s or sends:
            trace.spans.append(_span_after_pipeline(rank, engine, name, start_s, env.now))
        if sends:
            _record_sends(trace, sends)

    start_s = last_start_s if end.overlaps_backward else env.now
    yield env.timeout(max(start_s + end.reduction_s - env.now, end.reduction_last_s))
    sent_bytes = {DATA_AXIS: end.reduction_bytes}
    record("reduction", Engine.NETWORK, start_s, end.reduction_s, sent_bytes)
    start_s = env.now
    yield env.timeout(end.replicated_s)
    record("replicated", Engine.NETWORK, start_s, end.replicated_s, end.replicated_bytes)
    start_s = env.now
    yield env.timeout(end.tied_s)
    sent_bytes = {PIPELINE_AXIS: end.tied_bytes}
    record("tied embedding", Engine.NETWORK, start_s, end.tied_s, sent_bytes)
    start_s = env.now
    yield env.timeout(end.optimizer_s)
    record("optimizer", Engine.COMPUTE, start_s, end.optimizer_s, {})
    start_s = env.now
    yield env.timeout(end.gather_s)
    record("gather", Engine.NETWORK, start_s, end.gather_s, {DATA_AXIS: end.gather_bytes})


def _span_after_pipeline(
    rank: int, engine: Engine, name: str, start_s: float, end_s: float
) -> Span:
    return Span(
        rank=rank,
        engine=engine,
        name=name,
        stage=None,
        microbatch=None,
        start_s=start_s,
        end_s=end_s,
        flop=0,
        allocated_bytes=0,
        released_bytes=0,
        received_send=None,
    )


def _refuse_deadlock(program: PipelineProgram, processes: Sequence[Process], trace: Trace) -> None:
    if not any(process.is_alive for process in processes):
        return
    done_counts = [0] * len(program.order)
    for span in trace.spans:
        if span.stage is not None:
            done_counts[span.rank] += 1
    waits = []
    for rank, process in enumerate(processes):
        if process.is_alive:
            action = program.order[rank][done_counts[rank]]
            waits.append(f"rank {rank} waits at {action} for {program.previous_action(action)}")
    raise SpecError(f"the order deadlocks: {'; '.join(waits)}")
