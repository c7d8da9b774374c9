"""A training step of a pipeline in simulated time: one process for each rank.

A rank plays its actions in program order. Before each it waits for what the previous action of
the same microbatch hands over; sending takes no time of the sender. Links here are private: each
carries one message after the other for one sender, so that it is known when a message arrives as
soon as it is sent. `simulator.contention` plays links that several senders share.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import TypeAlias

from simpy import Environment
from simpy.events import ProcessGenerator

from costmodels.pipelining.actions import Action
from costmodels.pipelining.longest_path import UNKNOWN
from simulator.deadlocks import refuse_deadlock
from simulator.program import PipelineProgram
from simulator.record import Record, trace_of
from simulator.resources import Arrival, Link
from simulator.tasks import Tasks, tasks_of
from simulator.trace import Trace

Report: TypeAlias = Callable[[int, int], object]
"""Takes how many actions have ended, and how many there are [count]."""

_EVENTS_BETWEEN_REPORTS = 20_000

_WAITED = UNKNOWN - 1.0
"""Noted where an arrival is not yet known and a rank waits for it."""


def simulate_pipeline(program: PipelineProgram, report: Report | None = None) -> Trace:
    """Return what happens when the ranks of a pipeline play a program.

    Parameters
    ----------
    program : PipelineProgram
        What they are to do.
    report : callable, optional
        Takes the actions that have ended and all of them, again and again while they are played.

    Returns
    -------
    Trace
        Spans, sends and memory changes of one step that starts at zero [s].

    Raises
    ------
    SpecError
        If ranks wait for each other forever: the message says where.
    """
    tasks = tasks_of(program)
    return trace_of(program, tasks, record_pipeline(program, tasks, report))


def record_pipeline(program: PipelineProgram, tasks: Tasks, report: Report | None = None) -> Record:
    """Return when everything happens; arguments and errors as of `simulate_pipeline`."""
    env = Environment()
    record = Record.empty(len(program.order))
    links = {pair: Link(spec) for pair, spec in program.links.items()}
    waits: dict[tuple[int, int], Arrival] = {}
    for rank, actions in enumerate(program.order):
        if program.overlapped and program.overlapped[rank]:
            units = program.units(rank)
            env.process(_rank_units(env, rank, units, tasks, links, waits, record))
        else:
            env.process(_rank_step(env, rank, actions, tasks, links, waits, record))
    if report is None:
        env.run()
    else:
        _run_telling(env, record, sum(map(len, program.order)), report)
    refuse_deadlock(program, list(map(len, record.ends_s)))
    return record


def _run_telling(env: Environment, record: Record, total: int, report: Report) -> None:
    """Run until nothing is left to happen, and say every so often how far it is."""
    while env.peek() < inf:
        for _ in range(_EVENTS_BETWEEN_REPORTS):
            if env.peek() == inf:
                break
            env.step()
        report(sum(map(len, record.ends_s)), total)


def _rank_step(
    env: Environment,
    rank: int,
    actions: Sequence[Action],
    tasks: Tasks,
    links: dict[tuple[int, int], Link],
    waits: dict[tuple[int, int], Arrival],
    record: Record,
) -> ProcessGenerator:
    """Play the actions of a rank.

    Yields
    ------
    Event
        The arrival of an input, or the end of a stretch of work.
    """
    # Kept in one loop: this is where a simulation spends its time. The clock is the rank's own,
    # because SimPy adds delays to its time, which rounds. An input that is known when the rank
    # comes to it is a number, waited for together with the work; only one that is not yet sent costs
    # an event of its own.
    start_at, end_at = record.starts_s[rank].append, record.ends_s[rank].append
    depart_at, arrive_at = record.departures_s[rank].append, record.arrivals_s[rank].append
    sends = {target: link.send for (source, target), link in links.items() if source == rank}
    timeout = env.timeout
    clock_s: float = 0
    for stage, kind, microbatch in actions:
        source, target, costs, _, destination = tasks[kind][stage]
        arrival_s = source[microbatch]
        duration_s, _, size_bytes = costs[microbatch]
        if arrival_s < 0:
            source[microbatch] = _WAITED
            arrival = waits[id(source), microbatch] = Arrival(env)
            yield arrival
            clock_s = source[microbatch]
            start_at(clock_s)
            yield timeout(duration_s)
        elif arrival_s > clock_s:
            start_at(arrival_s)
            yield timeout(arrival_s - clock_s + duration_s)
            clock_s = arrival_s
        else:
            start_at(clock_s)
            yield timeout(duration_s)
        clock_s += duration_s
        end_at(clock_s)
        arrival_s = clock_s
        if destination != rank:
            departure_s, arrival_s = sends[destination](clock_s, size_bytes)
            depart_at(departure_s)
            arrive_at(arrival_s)
        if target[microbatch] == _WAITED:
            waits.pop((id(target), microbatch)).succeed_after(arrival_s - clock_s)
        target[microbatch] = arrival_s


def _rank_units(
    env: Environment,
    rank: int,
    units: Iterable[Sequence[Action]],
    tasks: Tasks,
    links: dict[tuple[int, int], Link],
    waits: dict[tuple[int, int], Arrival],
    record: Record,
) -> ProcessGenerator:
    """Play the actions of a rank some of which run together.

    Yields
    ------
    Event
        The arrival of an input, or the end of a stretch of work.
    """
    clock_s: float = 0
    for unit in units:
        for stage, kind, microbatch in unit:
            source = tasks[kind][stage].source
            if source[microbatch] < 0:
                source[microbatch] = _WAITED
                arrival = waits[id(source), microbatch] = Arrival(env)
                yield arrival
            elif source[microbatch] > clock_s:
                yield env.timeout(source[microbatch] - clock_s)
            clock_s = max(clock_s, source[microbatch])
        for stage, kind, microbatch in unit:
            duration_s = tasks[kind][stage].costs[microbatch].duration_s
            record.starts_s[rank].append(clock_s)
            yield env.timeout(duration_s)
            clock_s += duration_s
            record.ends_s[rank].append(clock_s)
        for stage, kind, microbatch in unit:
            task, arrival_s = tasks[kind][stage], clock_s
            if task.link is not None:
                link, size_bytes = links[rank, task.destination], task.costs[microbatch].sent_bytes
                departure_s, arrival_s = link.send(clock_s, size_bytes)
                record.departures_s[rank].append(departure_s)
                record.arrivals_s[rank].append(arrival_s)
            if task.target[microbatch] == _WAITED:
                waits.pop((id(task.target), microbatch)).succeed_after(arrival_s - clock_s)
            task.target[microbatch] = arrival_s
