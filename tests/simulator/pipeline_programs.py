"""Programs that the tests of the simulator play, and an independent computation of their times."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from costmodels.pipelining.actions import Action, ActionKind, Order, parse_action
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import FREE_LINK, LinkSpec

NO_STEP_END = StepEnd(
    reduction_s=0,
    reduction_last_s=0,
    overlaps_backward=False,
    reduction_bytes=0,
    optimizer_s=0,
    gather_s=0,
    gather_bytes=0,
)


class Size(NamedTuple):
    """A schedule and its sizes."""

    name: ScheduleName
    p: int
    v: int
    m: int

    def order(self) -> Order:
        """Return the order of the schedule for these sizes."""
        return SCHEDULES[self.name].order(
            pipeline_parallel_size=self.p, virtual_stages=self.v, microbatch_count=self.m
        )


def order_from_text(*ranks: str) -> Order:
    """Return an order from torch's names of actions, for each rank."""
    return tuple(tuple(map(parse_action, rank.split())) for rank in ranks)


def equal_program(
    order: Order, stage_count: int, *, forward_s: int = 1, backward_s: int = 2
) -> PipelineProgram:
    """Return a program of equal stages and free links."""
    return unequal_program(
        order,
        forward=[work(forward_s)] * stage_count,
        backward=[work(backward_s)] * stage_count,
        activation_bytes=[1] * stage_count,
        link=FREE_LINK,
    )


def work(
    duration_s: float, hand_over_bytes: int = 0, sent_bytes: Mapping[str, int] | None = None
) -> ActionWork:
    """Return work whose FLOP is three times its duration."""
    return ActionWork(
        duration_s=duration_s,
        flop=3 * int(duration_s),
        hand_over_bytes=hand_over_bytes,
        sent_bytes=sent_bytes or {},
    )


def unequal_program(
    order: Order,
    *,
    forward: Sequence[ActionWork],
    backward: Sequence[ActionWork],
    activation_bytes: Sequence[int],
    link: LinkSpec,
    step_end: StepEnd = NO_STEP_END,
) -> PipelineProgram:
    """Return a program with the same link between any two ranks and no static memory."""
    ranks = range(len(order))
    return PipelineProgram(
        order=order,
        forward=forward,
        backward=backward,
        activation_bytes=activation_bytes,
        static_bytes=[0] * len(order),
        step_ends=[step_end] * len(order),
        links={(source, target): link for source in ranks for target in ranks if source != target},
    )


@st.composite
def legal_sizes(draw: st.DrawFn, largest_p: int = 6, largest_m: int = 12) -> Size:
    """Draw a schedule and sizes for which it exists."""
    whole = [name for name, schedule in SCHEDULES.items() if not schedule.splits]
    name = draw(st.sampled_from(whole))
    p = draw(st.integers(1, largest_p))
    m = draw(st.integers(1, largest_m))
    if name is ScheduleName.LOOPED_BFS:
        return Size(name, p, draw(st.integers(1, 4)), m)
    if name is not ScheduleName.INTERLEAVED_ONE_F_ONE_B:
        return Size(name, p, 1, m)
    p = max(p, 2)
    return Size(name, p, draw(st.integers(2, 4)), m - m % max(1, m // p))


@st.composite
def unequal_programs(draw: st.DrawFn) -> PipelineProgram:
    """Draw a program whose times are whole: any durations and bytes, one byte per second."""
    size = draw(legal_sizes())
    stage_count = size.p * size.v

    def works() -> list[ActionWork]:
        return [
            work(draw(st.integers(0, 9)), draw(st.integers(0, 5)), {"tensor": 7})
            for _ in range(stage_count)
        ]

    return unequal_program(
        size.order(),
        forward=works(),
        backward=works(),
        activation_bytes=[draw(st.integers(0, 9)) for _ in range(stage_count)],
        link=LinkSpec(latency_s=draw(st.integers(0, 3)), bandwidth_bytes_per_s=1),
    )


def longest_path_ends(program: PipelineProgram) -> dict[Action, float]:
    """Return when each action ends, by plain dynamic programming: no SimPy, no trace.

    One sweep after the other over the ranks, each as far as it gets, until all are done.
    """
    rank_of = {a.stage: rank for rank, actions in enumerate(program.order) for a in actions}
    last_stage = max(rank_of)
    ends: dict[Action, float] = {}
    arrivals: dict[Action, float] = {}
    link_free: dict[tuple[int, int], float] = {}
    clocks = [0.0] * len(program.order)
    places = [0] * len(program.order)

    def advance(rank: int) -> bool:
        action = program.order[rank][places[rank]]
        stage, kind, microbatch = action
        needs_nothing = kind is ActionKind.FORWARD and stage == 0
        turns_round = kind is ActionKind.BACKWARD and stage == last_stage
        if not needs_nothing and not turns_round and action not in arrivals:
            return False
        works = program.forward if kind is ActionKind.FORWARD else program.backward
        start = max(clocks[rank], arrivals.get(action, 0.0))
        clocks[rank] = ends[action] = start + works[stage].duration_s
        places[rank] += 1
        neighbour = stage + 1 if kind is ActionKind.FORWARD else stage - 1
        if 0 <= neighbour <= last_stage:
            pair = rank, rank_of[neighbour]
            arrival = clocks[rank]
            if pair[0] != pair[1]:
                spec = program.links[pair]
                begin = max(clocks[rank], link_free.get(pair, 0.0))
                size_bytes = works[stage].hand_over_bytes
                link_free[pair] = begin + size_bytes / spec.bandwidth_bytes_per_s
                arrival = link_free[pair] + spec.latency_s
            arrivals[Action(neighbour, kind, microbatch)] = arrival
        return True

    while any(place < len(actions) for place, actions in zip(places, program.order, strict=True)):
        before = sum(places)
        for rank, actions in enumerate(program.order):
            while places[rank] < len(actions) and advance(rank):
                pass
        assert sum(places) > before, "the order deadlocks"
    return ends
