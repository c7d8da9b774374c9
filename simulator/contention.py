"""A training step all of whose traffic crosses the same links.

Ranks play their actions as in `simulator.pipeline`, on an event simulation of shared links. An
action computes layer by layer and waits after each for the collectives inside its replica. Those
of data parallelism have one channel for each rank, which plays them one after the other, as a
communication stream does. Gradients are reduced in buckets as the last backward of a virtual stage
makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from simpy import Environment, Event
from simpy.events import ProcessGenerator

from costmodels.pipelining.actions import RELEASING, Action, ActionKind
from costmodels.pipelining.longest_path import UNKNOWN
from simulator.deadlocks import refuse_deadlock
from simulator.fluid import Flow, Loss, Network
from simulator.program import PipelineProgram
from simulator.record import Record, trace_of
from simulator.step_ends import EndPart, after_reduction
from simulator.tasks import Tasks, tasks_of
from simulator.topology import Topology, Way
from simulator.trace import DATA_AXIS, PIPELINE_AXIS, Engine, Trace


class When(StrEnum):
    """When a collective of an action runs: its work waits for it, runs beside it, or goes first."""

    BEFORE = "before"
    BESIDE = "beside"
    AFTER = "after"


class Stream(NamedTuple):
    """A collective of a rank, as the bytes that it sends.

    Attributes
    ----------
    name : str
        What it does.
    when : When
        How it goes with the work of its action.
    size_bytes : int
        What the rank sends [byte].
    way : Way
        Over which resources, with the latency of all its steps.
    """

    name: str
    when: When
    size_bytes: int
    way: Way


class LayerTraffic(NamedTuple):
    """Collectives of one kind inside an action, all its layers together.

    Attributes
    ----------
    axis : str
        The parallel dimension that they belong to.
    size_bytes : int
        What the rank sends and waits for, after computing [byte].
    hidden_bytes : int
        What it sends while it computes [byte].
    way : Way
        Over which resources, with the latency of all of them.
    """

    axis: str
    size_bytes: int
    hidden_bytes: int
    way: Way


class Reduction(NamedTuple):
    """What a virtual stage reduces at the end of a step.

    Attributes
    ----------
    streams : sequence of Stream
        All of it, ring by ring.
    bucket_count : int
        In how many parts, each ready as the last backward goes on [count].
    last_fraction : float
        Share of the last of them; the others are taken to be equal [fraction].
    """

    streams: Sequence[Stream]
    bucket_count: int
    last_fraction: float

    def shares(self) -> list[tuple[float, float]]:
        """Return of each bucket its share, and that of all buckets up to it [fraction]."""
        before = self.bucket_count - 1
        each = (1 - self.last_fraction) / max(before, 1)
        full = [(each, each * (bucket + 1)) for bucket in range(before)]
        return [*full, (self.last_fraction, 1.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStep:
    """A step of a pipeline on links that its traffic shares.

    Attributes
    ----------
    program : PipelineProgram
        Its actions last as their work alone does; what its step ends reduce is in `reductions`.
    topology : Topology
        The links.
    streams : mapping of ActionKind to sequence of sequence of Stream
        By virtual stage, the collectives of an action.
    reductions : sequence of Reduction or None
        By virtual stage, what is reduced after its last backward.
    overlaps_reduction : bool
        Whether buckets are reduced as soon as they are ready, or all at the rank's end.
    layer_traffic : mapping of ActionKind to sequence of sequence of LayerTraffic
        By virtual stage, what an action sends as it goes on; its work leaves that out.
    part_counts : sequence of int
        By virtual stage, the equal parts of computing and sending that such an action consists of,
        its layers [count].
    host_copies_s : sequence of float
        By virtual stage, how long an action copies activations to the host, or back, beside all
        else that it does, over a link that no other uses; empty for none [s].
    """

    program: PipelineProgram
    topology: Topology
    streams: Mapping[ActionKind, Sequence[Sequence[Stream]]]
    reductions: Sequence[Reduction | None]
    overlaps_reduction: bool
    layer_traffic: Mapping[ActionKind, Sequence[Sequence[LayerTraffic]]] = field(
        default_factory=dict
    )
    part_counts: Sequence[int] = ()
    host_copies_s: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPlay:
    """What happened.

    Attributes
    ----------
    trace : Trace
        Spans of actions and of collectives, and sends.
    utilisation : mapping of str to float
        By resource, what it carried over what it could have in the step's time [fraction].
    losses : mapping of Loss to float
        By reason, the time by which messages were later than alone [s].
    """

    trace: Trace
    utilisation: Mapping[str, float]
    losses: Mapping[Loss, float]


def play_shared(step: SharedStep, *, is_shared: bool = True) -> SharedPlay:
    """Return what happens when a step is played on shared links.

    Parameters
    ----------
    step : SharedStep
        What the ranks are to do.
    is_shared : bool, optional
        If false, every message goes as fast as alone: the same step without contention.

    Returns
    -------
    SharedPlay
        Trace, use of the links, and why messages were late.

    Raises
    ------
    SpecError
        If ranks wait for each other forever.
    """
    env = Environment()
    network = Network(env=env, capacities=step.topology.capacities, is_shared=is_shared)
    tasks = tasks_of(step.program)
    ranks = [
        _Rank(env=env, step=step, network=network, tasks=tasks, rank=rank)
        for rank in range(len(step.program.order))
    ]
    waits: dict[tuple[int, int], Event] = {}
    for rank in ranks:
        env.process(rank.play(waits))
    env.run()
    refuse_deadlock(step.program, [len(rank.ends_s) for rank in ranks])
    record = Record(
        starts_s=[rank.starts_s for rank in ranks],
        ends_s=[rank.ends_s for rank in ranks],
        departures_s=[rank.departures_s for rank in ranks],
        arrivals_s=[rank.arrivals_s for rank in ranks],
    )
    trace = trace_of(step.program, tasks, record, [rank.parts for rank in ranks])
    makespan_s = max((span.end_s for span in trace.spans), default=0)
    return SharedPlay(
        trace=trace,
        utilisation={
            name: network.carried_bytes[name] / (capacity * makespan_s) if makespan_s else 0.0
            for name, capacity in network.capacities.items()
        },
        losses=dict(network.losses),
    )


@dataclass(slots=True, kw_only=True)
class _Rank:
    """A rank while it plays."""

    env: Environment
    step: SharedStep
    network: Network
    tasks: Tasks
    rank: int
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    departures_s: list[float] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    parts: list[EndPart] = field(default_factory=list)
    reduced: list[Event] = field(default_factory=list)
    channel: Event | None = None

    def play(self, waits: dict[tuple[int, int], Event]) -> ProcessGenerator:
        """Play all actions, and end the step.

        Yields
        ------
        Event
            Inputs, ends of work, and collectives.
        """
        env, program = self.env, self.step.program
        places = enumerate(program.order[self.rank])
        last = {action[0]: place for place, action in places if action[1] in RELEASING}
        for unit in program.units(self.rank):
            for stage, kind, microbatch in unit:
                source = self.tasks[kind][stage].source
                if source[microbatch] < 0:
                    arrival = waits[id(source), microbatch] = env.event()
                    yield arrival
            for action in unit:
                yield from self.work(action, is_last=last.get(action[0]) == len(self.starts_s))
            for action in unit:
                self.give(action, waits)
        yield from self.end_step(sorted(last))

    def work(self, action: Action, *, is_last: bool) -> ProcessGenerator:
        """Play the work of an action, and the collectives before, beside and after it.

        Yields
        ------
        Event
            Their ends.
        """
        stage, kind, microbatch = action
        duration_s = self.tasks[kind][stage].costs[microbatch].duration_s
        streams = self.step.streams[kind][stage] if kind in self.step.streams else ()
        copy_s = self.copy_s(stage, microbatch)
        copied = [self.env.timeout(copy_s)] if copy_s else []
        self.starts_s.append(self.env.now)
        for stream in streams:
            if stream.when is When.BEFORE:
                yield self.collect(stream)
        beside = [self.collect(stream) for stream in streams if stream.when is When.BESIDE]
        traffic = self.step.layer_traffic.get(kind, {stage: ()})[stage]
        ended = self.env.event()
        if is_last and self.step.overlaps_reduction:
            waited_s = sum(self.network.alone_s(one.size_bytes, one.way.uses) for one in traffic)
            waited_s += sum(one.way.latency_s for one in traffic)
            self.env.process(self.reduce(stage, max(duration_s + waited_s, copy_s), ended))
        yield from self.go_on(duration_s, traffic, stage, microbatch)
        yield from beside
        for stream in streams:
            if stream.when is When.AFTER:
                yield self.collect(stream)
        yield from copied
        ended.succeed()
        self.ends_s.append(self.env.now)

    def copy_s(self, stage: int, microbatch: int) -> float:
        """Return how long an action copies activations to the host or back [s]."""
        copies, scales = self.step.host_copies_s, self.step.program.microbatch_scales
        scale = scales[microbatch] if scales else 1
        return copies[stage] * scale if copies else 0.0

    def go_on(
        self, duration_s: float, traffic: Sequence[LayerTraffic], stage: int, microbatch: int
    ) -> ProcessGenerator:
        """Compute and send, layer by layer.

        Yields
        ------
        Event
            The ends of both.
        """
        if not traffic:
            yield self.env.timeout(duration_s)
            return
        scales = self.step.program.microbatch_scales
        scale, count = scales[microbatch] if scales else 1, self.step.part_counts[stage]
        for _ in range(count):
            hidden = [
                self.send(one.axis, one.hidden_bytes * scale / count, Way(one.way.uses, 0))
                for one in traffic
                if one.hidden_bytes
            ]
            yield self.env.timeout(duration_s / count)
            yield from hidden
            for one in traffic:
                way = Way(one.way.uses, one.way.latency_s * scale / count)
                yield self.send(one.axis, one.size_bytes * scale / count, way)

    def send(self, axis: str, size_bytes: float, way: Way) -> Event:
        """Start a message; the event is its arrival."""
        return self.network.start(
            Flow(axis=axis, size_bytes=size_bytes, uses=way.uses, latency_s=way.latency_s)
        )

    def give(self, action: Action, waits: dict[tuple[int, int], Event]) -> None:
        """Hand over what an action made."""
        stage, kind, microbatch = action
        task = self.tasks[kind][stage]
        if task.link is None:
            _arrive(task.target, microbatch, self.env.now, waits)
        else:
            size_bytes = task.costs[microbatch].sent_bytes
            self.env.process(
                self.hand_over(task.destination, size_bytes, task.target, microbatch, waits)
            )

    def hand_over(
        self,
        destination: int,
        size_bytes: int,
        target: list[float],
        microbatch: int,
        waits: dict[tuple[int, int], Event],
    ) -> ProcessGenerator:
        """Send an output, and tell who takes it.

        Yields
        ------
        Event
            Its arrival.
        """
        place = len(self.departures_s)
        self.departures_s.append(self.env.now)
        self.arrivals_s.append(UNKNOWN)
        way = self.step.topology.hops[self.rank, destination]
        yield self.send(PIPELINE_AXIS, size_bytes, way)
        self.arrivals_s[place] = self.env.now
        _arrive(target, microbatch, self.env.now, waits)

    def collect(self, stream: Stream) -> Event:
        """Play a collective after those before it; the event happens at its end."""
        done, before = self.env.event(), self.channel
        self.channel = done
        self.env.process(self._collect(stream, before, done))
        return done

    def _collect(self, stream: Stream, before: Event | None, done: Event) -> ProcessGenerator:
        if before is not None and not before.processed:
            yield before
        start_s = self.env.now
        yield self.send(DATA_AXIS, stream.size_bytes, stream.way)
        sent = {DATA_AXIS: stream.size_bytes}
        self.parts.append(EndPart(stream.name, Engine.NETWORK, start_s, self.env.now, sent))
        done.succeed()

    def reduce(self, stage: int, duration_s: float, ended: Event) -> ProcessGenerator:
        """Reduce the gradients of a virtual stage in buckets, as its last backward makes them.

        Parameters
        ----------
        stage : int
            The virtual stage.
        duration_s : float
            How long the backward takes alone [s].
        ended : Event
            Its end, before which the last bucket is not ready.

        Yields
        ------
        Event
            The time at which each bucket is ready.
        """
        reduction = self.step.reductions[stage]
        if reduction is None:
            return
        finished = self.env.event()
        self.reduced.append(finished)
        done = None
        before = 0.0
        for bucket, (share, until) in enumerate(reduction.shares(), 1):
            is_last = bucket == reduction.bucket_count
            yield ended if is_last else self.env.timeout(duration_s * share)
            for whole in reduction.streams:
                ready_bytes = int(whole.size_bytes * until) - int(whole.size_bytes * before)
                done = self.collect(whole._replace(size_bytes=ready_bytes))
            before = until
        if done is not None:
            yield done
        finished.succeed()

    def end_step(self, stages: Sequence[int]) -> ProcessGenerator:
        """Wait for the reductions, and do what follows them.

        Yields
        ------
        Event
            Their ends, and those of the parts that follow.
        """
        if not self.step.overlaps_reduction:
            for stage in stages:
                self.env.process(self.reduce(stage, 0, self.env.timeout(0)))
            yield self.env.timeout(0)
        yield from self.reduced
        end = self.step.program.step_ends[self.rank]
        for part in after_reduction(end, reduced_s=self.env.now):
            self.parts.append(part)


def _arrive(
    target: list[float], microbatch: int, now_s: float, waits: dict[tuple[int, int], Event]
) -> None:
    target[microbatch] = now_s
    waiting = waits.pop((id(target), microbatch), None)
    if waiting is not None:
        waiting.succeed()


def without_traffic(step: SharedStep) -> SharedStep:
    """Return the step with reductions and collectives that send nothing."""

    def silent(stream: Stream) -> Stream:
        return stream._replace(size_bytes=0, way=Way({}, 0))

    return replace(
        step,
        streams={
            kind: [[silent(stream) for stream in streams] for streams in of_kind]
            for kind, of_kind in step.streams.items()
        },
        reductions=[
            None if entry is None else entry._replace(streams=list(map(silent, entry.streams)))
            for entry in step.reductions
        ],
    )
