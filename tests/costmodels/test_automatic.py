"""Orders that are searched for: legal, within the limit, never worse than fixed ones, repeatable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.automatic import StageTimes, automatic_order, held_most, played
from costmodels.pipelining.placements import looped
from costmodels.pipelining.playing import check_order
from costmodels.pipelining.zero_bubble import zb_h1, zb_h1_is_legal, zb_h2

durations = st.floats(0.1, 10.0)


@st.composite
def stage_times(draw: st.DrawFn) -> StageTimes:
    count = draw(st.integers(1, 5))
    rows = st.lists(durations, min_size=count, max_size=count).map(tuple)
    return StageTimes(
        forward_s=draw(rows),
        input_gradient_s=draw(rows),
        weight_gradient_s=draw(rows),
        hop_s=draw(st.floats(0.0, 3.0)),
    )


@settings(max_examples=25, deadline=None)
@given(stage_times(), st.integers(1, 10), st.integers(1, 12), st.sampled_from((0.0, 0.4, 1.0)))
def test_an_order_can_be_played_within_its_limit(
    times: StageTimes, microbatches: int, limit: int, kept: float
) -> None:
    order = automatic_order(
        times, microbatch_count=microbatches, held_limit=limit, kept_fraction=kept
    )
    check_order(order, looped(pipeline_parallel_size=times.rank_count, virtual_stages=1))
    assert all(len(row) == 3 * microbatches for row in order)
    assert max(held_most(row, kept_fraction=kept) for row in order) <= limit


@settings(max_examples=25, deadline=None)
@given(stage_times(), st.integers(1, 10))
def test_never_worse_than_zb_h1_and_zb_h2_at_their_memory(
    times: StageTimes, microbatches: int
) -> None:
    sizes = {
        "pipeline_parallel_size": times.rank_count,
        "virtual_stages": 1,
        "microbatch_count": microbatches,
    }
    fixed = [zb_h2(**sizes)] + ([zb_h1(**sizes)] if zb_h1_is_legal(**sizes) else [])
    for order in fixed:
        limit = int(max(map(held_most, order)))
        found = automatic_order(times, microbatch_count=microbatches, held_limit=limit)
        assert played(found, times).longest_span_s <= played(order, times).longest_span_s


def test_more_memory_ends_the_bubble() -> None:
    """Ideal stages: the first rank waits for the trip of the first microbatch, or not at all."""
    times = StageTimes(
        forward_s=(1.0,) * 4, input_gradient_s=(1.0,) * 4, weight_gradient_s=(1.0,) * 4
    )
    spans = [
        played(automatic_order(times, microbatch_count=12, held_limit=limit), times).longest_span_s
        for limit in (1, 4, 7)
    ]
    assert spans[1:] == [36.0 + 3.0, 36.0]
    assert spans[0] > spans[1]


def test_the_same_input_gives_the_same_order() -> None:
    times = StageTimes(
        forward_s=(1.0, 2.0), input_gradient_s=(1.5, 1.0), weight_gradient_s=(0.5, 1.0), hop_s=0.1
    )
    first, second = (automatic_order(times, microbatch_count=6, held_limit=3) for _ in range(2))
    assert first == second


def test_bad_input_is_refused() -> None:
    with pytest.raises(SpecError, match="each rank takes one time of each kind"):
        StageTimes(forward_s=(1.0,), input_gradient_s=(1.0, 1.0), weight_gradient_s=(1.0,))
    times = StageTimes(forward_s=(1.0,), input_gradient_s=(1.0,), weight_gradient_s=(1.0,))
    with pytest.raises(SpecError, match="held_limit is 0"):
        automatic_order(times, microbatch_count=1, held_limit=0)
    with pytest.raises(SpecError, match="kept_fraction"):
        automatic_order(times, microbatch_count=1, held_limit=1, kept_fraction=2.0)
