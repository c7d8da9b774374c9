"""The page of attention shows what `shardwise attention` prints; its reach is that of closed forms."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.attention import reach, sliding
from costmodels.units import format_bytes, format_flop
from simulator.attention import (
    attention_answers,
    branches_of,
    dilations_of,
    memory_steps,
    reached_by_layer,
)
from simulator.attention_cases import attention_cases
from tests.dashboard.asking import texts
from tests.dashboard.test_app import ask, later

PATH = "/attention"


@given(st.integers(1, 48), st.integers(1, 9), st.integers(1, 4))
def test_reach_of_a_window_is_its_closed_form(length: int, window: int, layers: int) -> None:
    case = attention_cases({"layout": "sliding", "window": window})[0]
    counts = reached_by_layer(case, length, layers).sum(axis=1)
    expected = [sliding.reached_tokens(length, window, upto, 0) for upto in range(1, layers + 1)]
    assert counts.tolist() == expected


@given(st.integers(1, 48), st.integers(1, 5), st.integers(1, 3))
def test_reach_of_branches_is_that_of_the_account(length: int, heads: int, layers: int) -> None:
    options = {"segments": [4, 8, 16], "dilations": [[1, 2, 4]], "heads": heads}
    case = attention_cases({"layout": "dilated", **options})[0]
    counts = reached_by_layer(case, length, layers).sum(axis=1)
    assert counts.tolist() == reach.dilated_count(length, layers, heads, branches_of(case))


@given(st.integers(1, 48), st.integers(1, 4), st.integers(1, 4))
def test_reach_of_heads_is_that_of_the_account(length: int, keys: int, layers: int) -> None:
    options = {"dilations": [[1, 2], [4, 8]], "keys": keys, "heads": 2}
    case = attention_cases({"layout": "dilated-heads", **options})[0]
    counts = reached_by_layer(case, length, layers).sum(axis=1)
    assert counts.tolist() == reach.per_head_count(length, layers, 2, dilations_of(case))


def test_layouts_are_those_of_the_command_line(app: Any) -> None:
    query = "?model=llama-3.1-8b&view.layouts=dense,sliding,infini-paper,latent"
    text = texts(later(app, query, PATH))
    for name in ("dense", "sliding", "infini-paper"):
        options = {"heads": 32, "kv_heads": 8, "head_size": 128, "seq_len": 1 << 20}
        case = attention_cases({"layout": name, **options})[0]
        answer = attention_answers(case)[0]
        assert format_flop(answer.executed_forward_flop) in text
        assert format_bytes(answer.state_bytes) in text


def test_patterns_and_memory_follow_the_sliders(app: Any) -> None:
    found = ask(app, {}, pathname=PATH, view={"window": 3, "segment": 4, "dilation": 2})
    assert found["result"]["className"] == ""
    children = json.dumps(found["result"]["children"])
    assert "window of 3" in children
    assert "(4, 1), (8, 2), (16, 4)" in children
    case = attention_cases({"layout": "notes-infini"})[0]
    for length in case.seq_len:
        assert format_flop(memory_steps(case, length)[-1].total_flop) in children


@pytest.mark.parametrize("view", [{"window": "0"}, {"segment": "x"}, {"dilation": "9"}])
def test_what_is_wrong_is_said(app: Any, view: dict[str, str]) -> None:
    said = texts(ask(app, {}, pathname=PATH, view=view)["banner"]["children"])
    assert f"{next(iter(view))} (" in said


def test_an_unknown_layout_is_said(app: Any) -> None:
    assert "circular" in texts(later(app, "?view.layouts=circular", PATH))
