"""The fast engine against the event simulator: one answer, over orders of every kind."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.placements import Placement, bidirectional, v_shaped
from costmodels.pipelining.playing import play
from simulator.longest_path import record_path
from simulator.metrics import pipeline_metrics
from simulator.path_metrics import path_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.record import trace_of
from simulator.resources import LinkSpec
from simulator.tasks import tasks_of
from simulator.trace import Span
from tests.simulator.pipeline_programs import (
    NO_STEP_END,
    equal_program,
    order_from_text,
    work,
)

F, B = ActionKind.FORWARD, ActionKind.BACKWARD
SPLIT, W = ActionKind.INPUT_GRADIENT, ActionKind.WEIGHT_GRADIENT


def action_of(span: Span) -> Action:
    assert span.stage is not None
    assert span.microbatch is not None
    return Action(span.stage, ActionKind(span.name), span.microbatch)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    p = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["random", "v", "two ways"]))
    if kind == "v":
        return v_shaped(pipeline_parallel_size=p)
    if kind == "two ways":
        return bidirectional(pipeline_parallel_size=p)
    stages = draw(st.integers(p, 6))
    ranks = [*range(p), *(draw(st.integers(0, p - 1)) for _ in range(stages - p))]
    ranks = draw(st.permutations(ranks))
    following = (*range(1, stages), None)
    return Placement(ranks=tuple(ranks), following=following, parts=tuple(range(stages)))


@st.composite
def random_orders(draw: st.DrawFn, placement: Placement) -> Order:
    """Draw an order that can be played: any action whose input is made, on any rank."""
    rows: list[list[Action]] = [[] for _ in range(placement.rank_count)]
    preceding = placement.preceding()
    split = draw(st.booleans())
    chains = placement.chains()
    count = draw(st.integers(len(chains), 5))
    ready = [Action(chains[index % len(chains)][0], F, index) for index in range(count)]
    while ready:
        action = ready.pop(draw(st.integers(0, len(ready) - 1)))
        stage, kind, microbatch = action
        rows[placement.ranks[stage]].append(action)
        backward = SPLIT if split and draw(st.booleans()) else B
        following, before = placement.following[stage], preceding[stage]
        if kind is F and following is not None:
            ready.append(Action(following, F, microbatch))
        elif kind is F:
            ready.append(Action(stage, backward, microbatch))
        elif kind is not W and before is not None:
            ready.append(Action(before, backward, microbatch))
        if kind is SPLIT:
            ready.append(Action(stage, W, microbatch))
    return tuple(map(tuple, rows))


@st.composite
def pairs(draw: st.DrawFn, row: Sequence[Action]) -> frozenset[int]:
    """Draw places of a rank at which an action runs with the next: some that cannot deadlock."""
    found: set[int] = set()
    for place, (one, two) in enumerate(pairwise(row)):
        alike = one.microbatch == two.microbatch
        if place - 1 not in found and one.kind is W and not alike and draw(st.booleans()):
            found.add(place)
    return frozenset(found)


durations = st.one_of(st.integers(0, 9), st.floats(0, 9))


@st.composite
def programs(draw: st.DrawFn) -> PipelineProgram:
    """Draw a program of any order, links, memory and ends of a step."""
    placement = draw(placements())
    order = draw(random_orders(placement))
    stages = range(placement.stage_count)
    ranks = range(placement.rank_count)
    microbatches = 1 + max(action.microbatch for row in order for action in row)

    def works() -> list[ActionWork]:
        return [work(draw(durations), draw(st.integers(0, 9)), {"tensor": 3}) for _ in stages]

    stored = [draw(st.integers(0, 9)) for _ in stages]
    link = LinkSpec(
        latency_s=draw(durations), bandwidth_bytes_per_s=draw(st.sampled_from([0.5, 3, 1e30]))
    )
    end = StepEnd(
        reduction_s=draw(durations),
        reduction_last_s=0,
        overlaps_backward=draw(st.booleans()),
        reduction_bytes=draw(st.integers(0, 5)),
        optimizer_s=draw(durations),
        gather_s=draw(durations),
        gather_bytes=draw(st.integers(0, 5)),
    )
    varied: dict[str, Any] = {}
    if draw(st.booleans()):
        varied["overlapped"] = [draw(pairs(row)) for row in order]
    if draw(st.booleans()):
        varied["microbatch_scales"] = [draw(st.floats(0.1, 3)) for _ in range(microbatches)]
    if draw(st.booleans()):
        varied["durations_s"] = {
            kind: [[draw(durations) for _ in range(microbatches)] for _ in stages]
            for kind in (F, B)
        }
    return PipelineProgram(
        order=order,
        forward=works(),
        backward=works(),
        input_gradient=works(),
        weight_gradient=works(),
        activation_bytes=stored,
        early_released_bytes=[draw(st.integers(0, size)) for size in stored],
        static_bytes=[draw(st.integers(0, 5)) for _ in ranks],
        step_ends=[end] * placement.rank_count,
        links={(one, two): link for one in ranks for two in ranks if one != two},
        successors=placement.following,
        **varied,
    )


def near(value: Any) -> Any:
    """Return the same for pytest's comparison to within rounding."""
    return pytest.approx(value, rel=1e-12, abs=1e-12)


@settings(max_examples=150)
@given(programs())
def test_the_two_engines_find_the_same(program: PipelineProgram) -> None:
    simulated, fast = pipeline_metrics(simulate_pipeline(program)), path_metrics(program)
    for name in ("makespan_s", "pipeline_makespan_s", "busy_s", "idle_s", "idle_fraction"):
        assert getattr(fast, name) == near(getattr(simulated, name))
    for name in ("sent_bytes", "flop", "peak_bytes"):
        assert getattr(fast, name) == getattr(simulated, name)


@settings(max_examples=100)
@given(programs())
def test_the_two_engines_make_the_same_trace(program: PipelineProgram) -> None:
    tasks = tasks_of(program)
    simulated, fast = (
        simulate_pipeline(program),
        trace_of(program, tasks, record_path(program, tasks)),
    )
    for one, two in ((simulated.spans, fast.spans), (simulated.sends, fast.sends)):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            numbers = ("start_s", "end_s")
            assert [getattr(left, n) for n in numbers] == near([getattr(right, n) for n in numbers])
            assert left._replace(start_s=0, end_s=0) == right._replace(start_s=0, end_s=0)  # type: ignore[attr-defined]


@settings(max_examples=60)
@given(st.data())
def test_orders_replayed_by_closed_forms_take_the_simulators_times(data: st.DataObject) -> None:
    """The same path without sizes: `costmodels.pipelining.playing` against events."""
    placement = data.draw(placements())
    order = data.draw(random_orders(placement))
    stages, ranks = range(placement.stage_count), range(placement.rank_count)
    times = {kind: [data.draw(durations) for _ in stages] for kind in ActionKind}
    overlapped = [data.draw(pairs(row)) for row in order]
    hop_s = data.draw(durations)
    link = LinkSpec(latency_s=hop_s, bandwidth_bytes_per_s=float("inf"))
    forward, backward, inputs, weights = ([work(time) for time in times[k]] for k in ActionKind)
    program = PipelineProgram(
        order=order,
        forward=forward,
        backward=backward,
        input_gradient=inputs,
        weight_gradient=weights,
        activation_bytes=[0] * placement.stage_count,
        static_bytes=[0] * placement.rank_count,
        step_ends=[NO_STEP_END] * placement.rank_count,
        links={(one, two): link for one in ranks for two in ranks if one != two},
        successors=placement.following,
        overlapped=overlapped,
    )
    playing = play(order, placement, times, hop_s=hop_s, overlapped=overlapped)
    metrics = pipeline_metrics(simulate_pipeline(program))
    assert playing.makespan_s == near(metrics.makespan_s)
    assert playing.busy_s == near(metrics.busy_s)


@settings(max_examples=100)
@given(programs())
def test_whatever_the_order_nothing_starts_before_its_input(program: PipelineProgram) -> None:
    trace = simulate_pipeline(program)
    ends = {action_of(span): span.end_s for span in trace.spans if span.stage is not None}
    held = [0] * trace.rank_count
    for span in trace.spans:
        if span.stage is None:
            continue
        needed = program.previous_action(action_of(span))
        assert needed is None or ends[needed] <= span.start_s
        held[span.rank] += span.allocated_bytes - span.released_bytes
    assert not any(held)


def both_refuse(program: PipelineProgram, match: str) -> None:
    for engine in (simulate_pipeline, path_metrics):
        with pytest.raises(SpecError, match=match):
            engine(program)


def split_program(order: Order, stages: int) -> PipelineProgram:
    forwards = tuple(tuple(a for a in row if a.kind is F) for row in order)
    program = equal_program(forwards, stages)
    return replace(
        program, order=order, input_gradient=[work(1)] * stages, weight_gradient=[work(1)] * stages
    )


def test_both_engines_name_a_deadlock() -> None:
    order = order_from_text("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1")
    both_refuse(
        equal_program(order, 2), "rank 1 waits at 1F1 for 0F1; the cycle is rank 0 > rank 1"
    )


def test_a_weight_gradient_before_its_input_gradient_deadlocks() -> None:
    order = order_from_text("0F0 0W0 0I0")
    both_refuse(split_program(order, 1), "rank 0 waits at 0W0 for 0I0, which it does not do before")


def test_a_split_backward_by_hand() -> None:
    """Two ranks: the input gradient of rank 1 ends at 3, so rank 0 goes on before any weights."""
    order = order_from_text("0F0 0I0 0W0", "1F0 1I0 1W0")
    program = replace(
        split_program(order, 2), activation_bytes=[10, 10], early_released_bytes=[4, 4]
    )
    trace = simulate_pipeline(program)
    assert [(str(s), s.start_s, s.end_s, s.released_bytes) for s in trace.spans] == [
        ("0F0", 0, 1, 0),
        ("0I0", 3, 4, 4),
        ("0W0", 4, 5, 6),
        ("1F0", 1, 2, 0),
        ("1I0", 2, 3, 4),
        ("1W0", 3, 4, 6),
    ]


def test_a_program_refuses_what_it_has_no_work_for() -> None:
    with pytest.raises(
        SpecError, match="order has I actions, but the program has no work of input"
    ):
        equal_program(order_from_text("0F0 0I0 0W0"), 1)
    with pytest.raises(SpecError, match=r"early_released_bytes \(11\) of virtual stage 0"):
        replace(
            split_program(order_from_text("0F0 0I0 0W0"), 1),
            activation_bytes=[10],
            early_released_bytes=[11],
        )


def test_nothing_to_do_takes_no_time() -> None:
    program = equal_program(((),), 0)
    assert path_metrics(program) == pipeline_metrics(simulate_pipeline(program))


def test_microbatches_of_their_own_size_scale_bytes_and_work() -> None:
    order = order_from_text("0F0 0F1 0B0 0B1")
    program = replace(equal_program(order, 1), activation_bytes=[10], microbatch_scales=(0.5, 1.5))
    metrics = path_metrics(program)
    assert metrics.peak_bytes == (20,)
    assert metrics.makespan_s == 2 * 1 + 2 * 2
    assert pipeline_metrics(simulate_pipeline(program)) == metrics
