"""Figures of attention layouts hold the numbers they are given."""

import pytest

pytest.importorskip("plotly")

from dashboard.figures import attention as figures
from simulator.attention import attention_answers, memory_steps, pattern_of
from simulator.attention_cases import attention_cases


def test_lines_have_the_numbers_of_the_answers() -> None:
    case = attention_cases({"layout": "sliding", "seq_len": [256, 4096, "1B"]})[0]
    own = attention_answers(case)
    figure = figures.against_length({"sliding": own})
    work, state, reach = figure.data
    assert list(work.y) == [float(answer.ideal_forward_flop) for answer in own]
    assert list(state.y) == [float(answer.state_bytes) for answer in own]
    assert list(reach.y) == [float(answer.reached_tokens or 0) for answer in own]
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_the_reach_of_dilated_layers_is_drawn_at_any_length() -> None:
    case = attention_cases({"layout": "longnet-paper", "seq_len": ["32k", "1B"]})[0]
    answers = attention_answers(case)
    figure = figures.against_length({"longnet": answers})
    assert list(figure.data[2].x) == [answer.sequence_length for answer in answers]
    assert all(reached > 0 for reached in figure.data[2].y)


def test_patterns_are_drawn_as_they_are() -> None:
    case = attention_cases({"layout": "longnet-paper", "seq_len": 16})[0]
    pattern = pattern_of(case, 16, 1)
    figure = figures.who_attends_whom({"head 1": pattern})
    assert [list(row) for row in figure.data[0].z] == pattern.tolist()


def test_memory_stays_as_large_segment_by_segment() -> None:
    case = attention_cases({"layout": "notes-infini"})[0]
    steps = memory_steps(case, 2**20)
    memory, window = figures.memory_by_segment(steps).data
    assert len(set(memory.y)) == 1
    assert len(memory.x) == len(window.x) == 32
