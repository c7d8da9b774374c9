"""The page of attention layouts: side by side, who attends whom, reach, and compressive memory."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from dash import dcc, html

from costmodels.errors import SpecError
from costmodels.scenario import Scenario
from costmodels.units import format_bytes, format_count, format_flop, format_number
from dashboard.attributes import aria
from dashboard.bar import VIEW, view_slider
from dashboard.figures.attention import (
    against_length,
    memory_by_segment,
    reach_by_layer,
    who_attends_whom,
)
from dashboard.figures.style import in_page
from dashboard.identity import dom_id
from dashboard.pages.page import Asked, Page
from dashboard.parts import card, figure, table
from dashboard.state import State
from simulator.attention import (
    AttentionAnswer,
    attention_answers,
    memory_steps,
    pattern_of,
    reached_by_layer,
)
from simulator.attention_cases import OWN, PRESETS, AttentionCase, attention_cases

LAYOUTS, WINDOW, SEGMENT, DILATION = "layouts", "window", "segment", "dilation"
"""What the controls state."""

_SHOWN = ("dense", "sliding", "longnet-paper", "infini-paper", "linear")
_DEFAULTS = ((LAYOUTS, ",".join(_SHOWN)), (WINDOW, "8"), (SEGMENT, "8"), (DILATION, "2"))
_KNOWN = (*OWN, *PRESETS)
_MOST, _TOKENS, _LAYERS = 8, 64, 4
_LENGTHS = tuple(1 << power for power in range(8, 31, 2))
_RANGES: Mapping[str, tuple[int, int]] = {WINDOW: (1, 32), SEGMENT: (2, 32), DILATION: (1, 4)}
_NOTES_TOKENS = PRESETS["notes-infini"]["seq_len"]


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return which layouts stand side by side, and the sizes of the drawn patterns."""
    del scenario
    identity = {"type": VIEW, "name": LAYOUTS}
    said = {
        WINDOW: "tokens that a query sees, its own included",
        SEGMENT: "tokens of the shortest segment, of dilated attention and of a memory",
        DILATION: "every how many-th token is kept; each further branch takes this power more",
    }
    return [
        html.Div(
            [
                html.Div(
                    [
                        html.Label("layouts", htmlFor=dom_id(identity)),
                        dcc.Dropdown(
                            id=identity,
                            options=list(_KNOWN),
                            value=[name for name in _layouts(state) if name in _KNOWN],
                            multi=True,
                        ),
                    ],
                    className="field broad",
                    role="group",
                    **aria(label="layouts side by side"),
                ),
                *(
                    view_slider(name, name, ends, _lenient(state, name), said[name])
                    for name, ends in _RANGES.items()
                ),
            ],
            className="fields",
        )
    ]


def _layouts(state: State) -> tuple[str, ...]:
    chosen = state.viewed(LAYOUTS) or dict(_DEFAULTS)[LAYOUTS]
    return tuple(dict.fromkeys(text for text in chosen.split(",") if text))


def _lenient(state: State, name: str) -> int:
    try:
        return _size(state, name)
    except SpecError:
        return int(dict(_DEFAULTS)[name])


def _size(state: State, name: str) -> int:
    text, (low, high) = state.viewed(name) or dict(_DEFAULTS)[name], _RANGES[name]
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        raise SpecError(f"{name} ({text[:60]}): expected a whole number from {low} to {high}")
    return int(text)


def render(asked: Asked) -> Sequence[Any]:
    """Return patterns, reach across layers and the memory of Infini-attention."""
    sizes = {name: _size(asked.state, name) for name in _RANGES}
    return [
        card(
            "Who attends whom",
            figure(
                "patterns",
                in_page(who_attends_whom(_patterns(sizes)), height=330).update_layout(
                    margin={"t": 28}
                ),
                "Matrices of queries and keys, a darker cell where a key counts more often",
            ),
            note=f"{_TOKENS} tokens, queries down, keys across; of dilated attention two heads",
            key="patterns",
        ),
        html.Div([_zoom(sizes), _memory()], className="columns"),
    ]


def _patterns(sizes: Mapping[str, int]) -> dict[str, Any]:
    window, segment, dilation = (sizes[name] for name in (WINDOW, SEGMENT, DILATION))
    drawn = _longnet(segment, dilation)
    sliding = _case("sliding", {"window": window})
    memory = _case("infini", {"segment": segment})
    return {
        f"window of {window}": pattern_of(sliding, _TOKENS, 0),
        "dilated, head 0": pattern_of(drawn, _TOKENS, 0),
        "dilated, head 1": pattern_of(drawn, _TOKENS, 1),
        f"segments of {segment}, memory aside": pattern_of(memory, _TOKENS, 0),
    }


def _case(layout: str, options: Mapping[str, Any]) -> AttentionCase:
    return attention_cases({"layout": layout, **options})[0]


def _longnet(segment: int, dilation: int) -> AttentionCase:
    """Return LongNet's branches in small: each longer segment keeps fewer of its tokens."""
    powers = (0, 1, 2)
    return _case(
        "dilated",
        {
            "segments": [min(segment * 2**power, _TOKENS) for power in powers],
            "dilations": [[dilation**power for power in powers]],
            "heads": 16,
        },
    )


def _zoom(sizes: Mapping[str, int]) -> Any:
    window, segment, dilation = (sizes[name] for name in (WINDOW, SEGMENT, DILATION))
    drawn = _longnet(segment, dilation)
    notes = _case("dilated-heads", {"dilations": _spread(dilation), "keys": window, "heads": 3})
    cases = {
        f"window of {window}": _case("sliding", {"window": window}),
        "LongNet, all heads": drawn,
        f"a dilation per head, {window} keys": notes,
    }
    reached = {name: reached_by_layer(case, _TOKENS, _LAYERS) for name, case in cases.items()}
    branches = ", ".join(
        f"({segment}, {rate})"
        for segment, rate in zip(drawn.segments, drawn.dilations[0], strict=True)
    )
    return card(
        "What the last token depends on, layer by layer",
        figure(
            "zoom",
            in_page(reach_by_layer(reached), height=330).update_layout(margin={"t": 28}),
            "For each layout the tokens that the last one depends on after one to four layers",
        ),
        note=f"branches (segment, dilation): {branches}",
        key="zoom",
    )


def _spread(dilation: int) -> list[list[int]]:
    """Return the notes' pattern in small: each layer's dilations are above those of the one before."""
    return [[dilation ** (3 * layer + head) for head in range(3)] for layer in range(2)]


@lru_cache(maxsize=1)
def _memories() -> Mapping[int, Any]:
    case = attention_cases({"layout": "notes-infini"})[0]
    return {length: memory_steps(case, length) for length in _NOTES_TOKENS}


def _memory() -> Any:
    found = _memories()
    steps = found[max(found)]
    drawn = in_page(memory_by_segment(steps), height=250)
    drawn.update_layout(legend={"orientation": "h", "y": 1.14}, margin={"t": 30})
    rows = [
        [
            format_count(length),
            f"{step.step:,} of {len(own):,}",
            format_count(step.tokens),
            format_bytes(step.memory_bytes),
            format_bytes(step.window_bytes),
            format_flop(step.segment_flop),
            format_flop(step.total_flop),
        ]
        for length, own in found.items()
        for step in (own[0], own[1], own[-1])
    ]
    columns = (
        *("sequence", "segment", "read", "memory"),
        *("keys and values", "its work", "work so far"),
    )
    return card(
        "Infini-attention's memory, segment by segment",
        figure("memory-by-segment", drawn, "Compressive memory and cache after each segment"),
        table("infini", columns, rows),
        note="preset notes-infini: segments of 32k tokens, 8 heads of 128, one layer",
        key="infini",
    )


def later(asked: Asked) -> Sequence[Any]:
    """Return the layouts side by side, with the heads of the scenario's model."""
    names = _layouts(asked.state)
    if len(names) > _MOST:
        raise SpecError(f"layouts ({len(names)}): at most {_MOST} side by side")
    model = asked.question.scenario.model
    heads = (model.num_attention_heads, model.num_key_value_heads, model.head_size)
    found = {name: _answers(name, heads) for name in names}
    drawn = in_page(against_length(found), height=340).update_layout(margin={"t": 30})
    return [
        card(
            "Layouts side by side",
            figure(
                "layouts",
                drawn,
                "Work, state and reach of each layout against sequence length, log-log",
            ),
            _beside(found, 1 << 20),
            note=f"one layer; {heads[0]} heads, {heads[1]} of keys and values, of {heads[2]}",
            key="layouts",
        )
    ]


@lru_cache(maxsize=128)
def _answers(name: str, heads: tuple[int, int, int]) -> list[AttentionAnswer]:
    """Return a layout's answers at every fourth length; of layers that differ, the first one's."""
    sizes = dict(zip(("heads", "kv_heads", "head_size"), heads, strict=True))
    if name == "latent":
        sizes = {"heads": heads[0]}
    case = attention_cases({"layout": name, **sizes})[0]
    first = msgspec.structs.replace(
        case, seq_len=_LENGTHS, layers=1, dilations=case.dilations[:1], ranks=1
    )
    return attention_answers(first)


def _beside(found: Mapping[str, Sequence[AttentionAnswer]], length: int) -> Any:
    rows = []
    for name, answers in found.items():
        answer = next(each for each in answers if each.sequence_length == length)
        rows.append(
            [
                name,
                format_flop(answer.ideal_forward_flop),
                format_number(answer.dense_flop_ratio),
                format_flop(answer.executed_forward_flop),
                format_flop(answer.executed_backward_flop),
                format_bytes(answer.state_bytes),
                format_number(answer.dense_state_ratio),
                format_flop(answer.decode_flop),
                "-" if answer.reached_tokens is None else format_count(answer.reached_tokens),
                answer.state_growth,
            ]
        )
    columns = (
        *("layout", "ideal forward", "dense/this", "executed forward", "backward"),
        *("state", "dense/this", "decode step", "reached", "state grows"),
    )
    caption = f"layouts at {format_count(length)} tokens"
    return html.Div(
        [
            html.H3(f"At {format_count(length)} tokens"),
            table("layouts", columns, rows, align="lrrrrrrrrl", caption=caption),
        ]
    )


PAGE = Page("/attention", "Attention", render, later, controls, defaults=_DEFAULTS)
"""The page."""
