"""What any order must obey, orders as text, and where virtual stages are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import SpecError
from costmodels.pipelining.actions import ActionKind, Row, parse_action, parse_slot
from costmodels.pipelining.csv_orders import checked_csv, order_of, order_to_csv, rows_from_csv
from costmodels.pipelining.placements import Placement, bidirectional, linear, v_shaped
from costmodels.pipelining.playing import check_order, play
from costmodels.pipelining.schedules import SCHEDULES, Schedule

ONE = dict.fromkeys(ActionKind, (1.0,) * 8)


def test_actions_are_read_as_torch_writes_them() -> None:
    assert str(parse_action("12W3")) == "12W3"
    assert parse_slot("") == ()
    assert [str(action) for action in parse_slot("(0F3;3B1)OVERLAP_F_B")] == ["0F3", "3B1"]


@pytest.mark.parametrize("text", ["F0", "0G1", "0F", "0SEND_F1", "(0F3;3B1)", "0F1 0F2"])
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="expected an action such as 2F0"):
        parse_slot(text)


@given(st.sampled_from(list(SCHEDULES.values())), st.integers(2, 5), st.integers(1, 12))
def test_an_order_survives_its_text(schedule: Schedule, p: int, m: int) -> None:
    v = 1 if schedule.legal(pipeline_parallel_size=p, virtual_stages=1, microbatch_count=m) else 2
    sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
    if not schedule.legal(**sizes):
        return
    order = schedule.order(**sizes)
    rows, placement = checked_csv(order_to_csv([Row(row, frozenset()) for row in order]))
    assert order_of(rows) == order
    assert placement == schedule.placement(pipeline_parallel_size=p, virtual_stages=v)


def test_overlapped_pairs_survive_their_text() -> None:
    text = "0F0,(0F1;0B0)OVERLAP_F_B,0I1,0W1\n"
    rows = rows_from_csv(text)
    assert rows[0].overlapped == {1}
    assert order_to_csv(rows) == text


def test_an_order_that_waits_in_a_circle_is_refused_with_the_circle() -> None:
    with pytest.raises(SpecError) as error:
        checked_csv("0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n")
    assert str(error.value) == (
        "the order deadlocks: rank 0 waits at 0B0 for 1B0, which rank 1 does later; "
        "rank 1 waits at 1F1 for 0F1, which rank 0 does later"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the order is empty"),
        ("0F0,0B0\n0F1,0B1\n", "virtual stage 0 is on rank 0 and on rank 1"),
        ("0F0,0B0\n2F0,2B0\n", r"lacks virtual stages \[1\]"),
        ("0F0,0B0,0F1\n1F0,1B0,1F1,1B1\n", "lacks 0B1"),
        ("0F0,0I0\n1F0,1B0\n", "lacks 0W0"),
        ("0F0,0F0,0B0\n1F0,1B0\n", "repeats 0F0"),
        ("0F0,0B0,0W0\n1F0,1B0\n", "does 0B0 both whole and in halves"),
        ("0F0,0W0,0I0\n1F0,1B0\n", "rank 0 waits at 0W0 for 0I0, which rank 0 does later"),
        ("0F0,0B0\n1F0,X\n", "line 2: 'X': expected an action"),
        ("0B0,0F0\n", "rank 0 waits at 0B0 for 0F0, which rank 0 does later"),
        ("0B0,0F0\n1F0,1B0\n", "rank 1 waits at 1F0 for 0F0"),
    ],
)
def test_orders_that_cannot_be_played_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        checked_csv(text)


def test_two_ways_through_the_model_end_apart() -> None:
    """A microbatch goes down the ranks or up them; both ways need all of their stages."""
    placement = bidirectional(pipeline_parallel_size=2)
    assert placement.chains() == ((0, 1), (2, 3))
    assert placement.stages_of(0) == (0, 3)
    assert placement.preceding() == (None, 0, None, 2)
    texts = ["0F0,3F1,3B1,0B0", "2F1,1F0,1B0,2B1"]
    order = tuple(tuple(map(parse_action, text.split(","))) for text in texts)
    check_order(order, placement)
    assert play(order, placement, ONE).makespan_s == 4
    twice = (order[0], (*order[1], parse_action("1F1")))
    with pytest.raises(SpecError, match="microbatch 1 goes two ways"):
        check_order(twice, placement)
    with pytest.raises(SpecError, match="2F0 on rank 0, where its stage is not"):
        check_order(((parse_action("2F0"),), ()), placement)


def test_a_v_turns_round_on_the_last_rank() -> None:
    assert v_shaped(pipeline_parallel_size=3).ranks == (0, 1, 2, 2, 1, 0)
    assert v_shaped(pipeline_parallel_size=2, virtual_stages=3).ranks == (0, 1, 1, 0, 0, 1)


def test_placements_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(SpecError, match="2 ranks, 1 successors and 2 parts"):
        Placement(ranks=(0, 1), following=(None,), parts=(0, 1))
    with pytest.raises(SpecError, match="must be different virtual stages"):
        Placement(ranks=(0, 1), following=(1, 1), parts=(0, 1))


def test_a_hand_over_travels_between_ranks_only() -> None:
    """Forward 1, hop 10, forward 1 twice on one rank, and back: 4 + 2 + 20."""
    row = Row(tuple(map(parse_action, ("1F0", "2F0", "2B0", "1B0"))), frozenset())
    order = (tuple(map(parse_action, ("0F0", "0B0"))), row.actions)
    playing = play(order, linear([0, 1, 1]), ONE, hop_s=10.0)
    assert playing.makespan_s == 26
    assert playing.busy_s == (2, 4)
    assert playing.longest_span_s == 26
    assert playing.start_s == (0, 11)
