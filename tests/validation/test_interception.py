"""Interception misses no call, and a group of processes says what went wrong."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")

from validation.torch_programs import known_calls  # noqa: E402
from validation.torch_programs.processes import run  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_each_rank_runs_the_program_with_one_thread() -> None:
    assert run(known_calls.ranks_seen, 3) == [(rank, 3, 1) for rank in range(3)]


def test_every_kind_of_call_is_recorded_as_often_as_it_is_made() -> None:
    for calls, counted in run(known_calls.make_calls, 2):
        assert known_calls.counted(calls) == known_calls.KNOWN
        assert len(calls) == counted == sum(known_calls.KNOWN.values())


def test_a_call_says_what_is_handed_over_and_gained() -> None:
    (calls, _), _ = run(known_calls.make_calls, 2)
    n = known_calls.ELEMENTS
    sizes = {
        (call.kind, call.given_elements, call.gained_elements)
        for call in calls
        if call.label == "plain"
    }
    assert sizes == {
        ("all-reduce", n, n),
        ("all-gather", n, 2 * n),
        ("reduce-scatter", 2 * n, n),
        ("all-to-all", n, n),
        ("broadcast", n, n),
        ("send", n, 0),
        ("receive", 0, n),
    }
    functional = {(call.kind, call.message_bytes) for call in calls if call.label == "functional"}
    assert functional == {
        ("all-reduce", 4 * n),
        ("all-gather", 8 * n),
        ("reduce-scatter", 4 * n),
    }
    assert {call.ranks for call in calls} == {(0, 1)}
    gradients = 2 * (32 * 32 + 32)
    assert sum(call.given_elements for call in calls if call.label == "ddp") == gradients


def test_a_call_names_its_group_and_peer() -> None:
    first, second, third = run(known_calls.subgroup_calls, 3)
    assert not third
    assert {call.ranks for call in first + second} == {(0, 1)}
    assert [(call.kind, call.peer, call.given_bytes) for call in first] == [
        ("all-reduce", -1, 8 * known_calls.ELEMENTS),
        ("send", 1, 4 * known_calls.ELEMENTS),
    ]
    assert [(call.kind, call.peer) for call in second] == [("all-reduce", -1), ("receive", 0)]


def test_a_rank_that_fails_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)rank 2 failed:.*the last rank gives up"):
        run(known_calls.fail_on_last, 3)


def test_a_rank_that_hangs_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"ranks 0, 1 of 2 did not return in 4"):
        run(known_calls.wait_forever, 2, timeout_s=4.0)
