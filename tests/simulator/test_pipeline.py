"""The simulated pipeline, against closed forms, an independent longest path and its own laws."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.bubble import bubble_fraction
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from simulator import pipeline
from simulator.metrics import (
    busy_s,
    flop,
    makespan_s,
    peak_bytes,
    pipeline_makespan_s,
    pipeline_metrics,
)
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram, StepEnd
from simulator.resources import FREE_LINK, LinkSpec
from simulator.trace import PIPELINE_AXIS, Engine, Span, Trace
from tests.simulator.pipeline_programs import (
    NO_STEP_END,
    Size,
    equal_program,
    legal_sizes,
    longest_path_ends,
    order_from_text,
    unequal_program,
    unequal_programs,
    work,
)


def action_of(span: Span) -> Action:
    assert span.stage is not None
    assert span.microbatch is not None
    return Action(span.stage, ActionKind(span.name), span.microbatch)


def starts(trace: Trace) -> dict[Action, float]:
    return {action_of(span): span.start_s for span in trace.spans}


def ends(trace: Trace) -> dict[Action, float]:
    return {action_of(span): span.end_s for span in trace.spans}


@pytest.mark.parametrize(("m", "expected"), [(1, 0.75), (4, 3 / 7)])
def test_four_ranks_idle_as_by_hand(m: int, expected: float) -> None:
    for name in (ScheduleName.GPIPE, ScheduleName.ONE_F_ONE_B):
        trace = simulate_pipeline(equal_program(Size(name, 4, 1, m).order(), 4))
        assert pipeline_metrics(trace).idle_fraction == expected


@given(legal_sizes(largest_p=8, largest_m=24), st.integers(1, 5), st.integers(1, 5))
def test_idle_time_of_equal_stages_is_the_bubble(
    size: Size, forward_s: int, backward_s: int
) -> None:
    _, p, v, m = size
    program = equal_program(size.order(), p * v, forward_s=forward_s, backward_s=backward_s)
    metrics = pipeline_metrics(simulate_pipeline(program))
    slot_s = forward_s + backward_s
    sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
    slots = max(v * m + p - 1, v * p + m - 1)
    assert metrics.makespan_s == slots * slot_s
    # In integers, so that nothing rounds: idle / (p makespan) = (p - 1) / (v m + p - 1), or with
    # fewer microbatches than ranks (v p + m - 1 - v m) / (v p + m - 1).
    assert sum(metrics.idle_s) * slots == p * metrics.makespan_s * (slots - v * m)
    assert all(type(idle_s) is int for idle_s in metrics.idle_s)
    assert metrics.idle_fraction == pytest.approx(bubble_fraction(**sizes), rel=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("p", range(1, 17))
def test_idle_time_is_the_bubble_in_the_full_range(p: int) -> None:
    for name, schedule in SCHEDULES.items():
        if schedule.splits:
            continue
        for v in range(1, 5):
            for m in range(1, 65):
                sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
                if not schedule.legal(**sizes):
                    continue
                program = equal_program(Size(name, p, v, m).order(), p * v)
                idle = pipeline_metrics(simulate_pipeline(program)).idle_s
                slots = max(v * m + p - 1, v * p + m - 1)
                assert sum(idle) == p * (slots - v * m) * 3


@given(unequal_programs())
def test_times_are_those_of_a_longest_path(program: PipelineProgram) -> None:
    assert ends(simulate_pipeline(program)) == longest_path_ends(program)


@given(unequal_programs())
def test_an_action_starts_after_what_it_takes_has_arrived(program: PipelineProgram) -> None:
    trace = simulate_pipeline(program)
    started, ended = starts(trace), ends(trace)
    for span in trace.spans:
        previous = program.previous_action(action_of(span))
        if previous is None:
            continue
        assert ended[previous] <= started[action_of(span)]
        if span.received_send is not None:
            send = trace.sends[span.received_send]
            assert action_of(trace.spans[send.sending_span]) == previous
            assert (send.destination, send.axis) == (span.rank, PIPELINE_AXIS)
            assert ended[previous] <= send.start_s <= send.end_s <= span.start_s


@given(unequal_programs())
def test_a_rank_does_one_action_at_a_time_in_program_order(program: PipelineProgram) -> None:
    trace = simulate_pipeline(program)
    for rank, actions in enumerate(program.order):
        spans = [span for span in trace.spans if span.rank == rank]
        assert [action_of(span) for span in spans] == list(actions)
        assert all(one.end_s <= two.start_s for one, two in pairwise(spans))


@given(unequal_programs())
def test_every_send_is_received_once(program: PipelineProgram) -> None:
    trace = simulate_pipeline(program)
    received = Counter(span.received_send for span in trace.spans)
    del received[None]
    sent = [index for index, send in enumerate(trace.sends) if send.axis == PIPELINE_AXIS]
    assert received == Counter(sent)
    ranks = program.stage_ranks()
    crossings = sum(ranks[s] != ranks[s + 1] for s in range(program.stage_count - 1))
    assert len(sent) == 2 * crossings * program.microbatch_count()


@given(unequal_programs())
def test_memory_returns_to_its_start(program: PipelineProgram) -> None:
    held: Counter[int] = Counter()
    for change in simulate_pipeline(program).memory_changes():
        held[change.rank] += change.delta_bytes
        assert held[change.rank] >= 0
    assert not any(held.values())


@given(unequal_programs())
def test_no_shorter_than_the_busiest_rank_or_the_path_of_a_microbatch(
    program: PipelineProgram,
) -> None:
    trace = simulate_pipeline(program)
    works = [*program.forward, *program.backward]
    assert makespan_s(trace) >= max(busy_s(trace))
    assert makespan_s(trace) >= sum(one.duration_s for one in works)


@given(unequal_programs())
def test_work_is_conserved(program: PipelineProgram) -> None:
    works = [*program.forward, *program.backward]
    trace = simulate_pipeline(program)
    assert sum(flop(trace)) == program.microbatch_count() * sum(one.flop for one in works)
    expected_s = program.microbatch_count() * sum(one.duration_s for one in works)
    assert sum(busy_s(trace)) == expected_s


@given(unequal_programs())
def test_memory_peak_is_the_closed_form(program: PipelineProgram) -> None:
    p = len(program.order)
    v, m = program.stage_count // p, program.microbatch_count()
    peaks = peak_bytes(simulate_pipeline(program))
    for schedule in SCHEDULES.values():
        sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
        if not schedule.legal(**sizes) or schedule.order(**sizes) != program.order:
            continue
        for rank in range(p):
            chunks = program.activation_bytes[rank::p]
            peak = schedule.peak_activation_bytes(chunks, **sizes, stage_index=rank)
            assert peaks[rank] == peak


@settings(max_examples=20)
@given(unequal_programs())
def test_equal_programs_give_equal_traces(program: PipelineProgram) -> None:
    assert simulate_pipeline(program) == simulate_pipeline(program)


def test_a_step_that_tells_how_far_it_is_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_EVENTS_BETWEEN_REPORTS", 7)
    program = equal_program(Size(ScheduleName.ONE_F_ONE_B, 4, 1, 16).order(), 4)
    told: list[tuple[int, int]] = []
    trace = simulate_pipeline(program, lambda done, total: told.append((done, total)))
    assert trace == simulate_pipeline(program)
    assert told[-1] == (2 * 4 * 16, 2 * 4 * 16)
    assert len(told) > 5
    assert told == sorted(told)


def test_integer_durations_give_integer_times() -> None:
    trace = simulate_pipeline(equal_program(Size(ScheduleName.GPIPE, 3, 1, 4).order(), 3))
    assert all(type(span.end_s) is int for span in trace.spans)


def test_other_axes_are_counted_with_each_action() -> None:
    program = unequal_program(
        Size(ScheduleName.ONE_F_ONE_B, 2, 1, 3).order(),
        forward=[work(1, 5, {"tensor": 10, "sequence": 1})] * 2,
        backward=[work(1, 6, {"tensor": 20})] * 2,
        activation_bytes=[0, 0],
        link=FREE_LINK,
    )
    sent = pipeline_metrics(simulate_pipeline(program)).sent_bytes
    assert sent == {"tensor": 3 * 2 * 30, "sequence": 3 * 2, PIPELINE_AXIS: 3 * (5 + 6)}


def step_end_spans(step_end: StepEnd) -> list[tuple[str, Engine, float, float]]:
    """Return what a lone rank does after a forward from 0 to 3 and a backward from 3 to 8."""
    program = replace(
        equal_program(order_from_text("0F0 0B0"), 1, forward_s=3, backward_s=5),
        step_ends=[step_end],
    )
    trace = simulate_pipeline(program)
    assert pipeline_makespan_s(trace) == 8
    return [(s.name, s.engine, s.start_s, s.end_s) for s in trace.spans if s.stage is None]


REDUCTION = replace(
    NO_STEP_END,
    reduction_s=7,
    reduction_last_s=1,
    reduction_bytes=100,
    optimizer_s=2,
    gather_s=4,
    gather_bytes=50,
)


def test_a_reduction_that_does_not_overlap_starts_after_the_backward() -> None:
    assert step_end_spans(REDUCTION) == [
        ("reduction", Engine.NETWORK, 8, 15),
        ("optimizer", Engine.COMPUTE, 15, 17),
        ("gather", Engine.NETWORK, 17, 21),
    ]


def test_a_long_reduction_overlaps_from_the_start_of_the_backward() -> None:
    spans = step_end_spans(replace(REDUCTION, overlaps_backward=True))
    assert spans[0] == ("reduction", Engine.NETWORK, 3, 10)
    assert spans[-1][-1] == 16


def test_a_short_reduction_still_ends_after_the_last_gradient() -> None:
    spans = step_end_spans(replace(REDUCTION, reduction_s=3, overlaps_backward=True))
    assert spans[0] == ("reduction", Engine.NETWORK, 3, 9)


def test_a_part_that_takes_and_sends_nothing_leaves_no_span() -> None:
    assert step_end_spans(replace(NO_STEP_END, overlaps_backward=True)) == []


def test_what_is_sent_after_the_pipeline_is_on_the_data_axis() -> None:
    program = replace(equal_program(order_from_text("0F0 0B0"), 1), step_ends=[REDUCTION])
    trace = simulate_pipeline(program)
    assert pipeline_metrics(trace).sent_bytes == {"data": 150}
    assert [str(trace.spans[send.sending_span]) for send in trace.sends] == ["reduction", "gather"]


def test_a_deadlock_names_who_waits_for_what() -> None:
    order = order_from_text("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1")
    with pytest.raises(
        SpecError,
        match=r"deadlocks: rank 0 waits at 0B0 for 1B0; rank 1 waits at 1F1 for 0F1; "
        r"the cycle is rank 0 > rank 1 > rank 0$",
    ):
        simulate_pipeline(equal_program(order, 2))


def test_a_backward_before_its_forward_deadlocks() -> None:
    with pytest.raises(SpecError, match=r"deadlocks: rank 0 waits at 0B0 for 0F0; the cycle is"):
        simulate_pipeline(equal_program(order_from_text("0B0 0F0"), 1))


def test_a_rank_that_never_gets_its_input_is_named_alone() -> None:
    order = order_from_text("0F0 0B0", "1F0 1B0 1F1 1B1")
    with pytest.raises(
        SpecError, match=r"deadlocks: rank 1 waits at 1F1 for 0F1; no rank does 0F1$"
    ):
        simulate_pipeline(equal_program(order, 2))


def test_hand_overs_on_one_rank_are_free() -> None:
    """A V-shaped placement: stages 1 and 2 are neighbours on rank 1."""
    order = order_from_text("0F0 3F0 3B0 0B0", "1F0 2F0 2B0 1B0")
    program = unequal_program(
        order,
        forward=[work(1, 10)] * 4,
        backward=[work(2, 10)] * 4,
        activation_bytes=[0] * 4,
        link=LinkSpec(latency_s=1, bandwidth_bytes_per_s=10),
    )
    trace = simulate_pipeline(program)
    assert makespan_s(trace) == 4 * 1 + 4 * 2 + 4 * (1 + 1)
    assert len(trace.sends) == 4


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (order_from_text("0F0 0F0 0B0"), "order repeats the actions 0F0"),
        (order_from_text("0F0 1F0 1B0 0B0"), r"places virtual stages \[\[0, 1\]\]"),
        (order_from_text("0F0 0B0", "0F1 0B1"), "must be on one rank"),
    ],
)
def test_a_program_refuses_a_wrong_order(order: Order, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        equal_program(order, 1)


def test_a_program_refuses_wrong_numbers() -> None:
    program = equal_program(Size(ScheduleName.GPIPE, 2, 1, 1).order(), 2)
    with pytest.raises(SpecError, match="activation_bytes has 1 entries for 2 virtual stages"):
        replace(program, activation_bytes=[1])
    with pytest.raises(SpecError, match="static_bytes has 3 entries for 2 ranks"):
        replace(program, static_bytes=[1, 1, 1])
    with pytest.raises(SpecError, match=r"no entry for the pairs of ranks \[\(1, 0\)\]"):
        replace(program, links={(0, 1): FREE_LINK})
    with pytest.raises(SpecError, match=r"duration_s \(nan\) must not be negative"):
        replace(work(1), duration_s=float("nan"))
    with pytest.raises(SpecError, match="reduction_last_s"):
        replace(NO_STEP_END, reduction_last_s=1)
