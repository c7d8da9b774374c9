"""The pictures of docs/attention.md. Run ``python -m docs.make_attention_images`` (needs torch)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from math import log2
from pathlib import Path
from typing import Any

from simulator.attention import attention_answers, pattern_of
from simulator.attention_cases import AttentionCase, attention_cases
from validation.attention_counts import recall_curves

FOLDER = Path(__file__).parent / "images"
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_SHADES = ("#FFFFFF", "#9ECAE1", "#4292C6", "#08519C")
_TEXT = 'font-family="sans-serif" font-size="12"'

PATTERNS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"layout": "dense"},
    "sliding, 6 keys, 2 sinks": {"layout": "sliding", "window": 6, "sink_tokens": 2},
    "chunked by 8": {"layout": "chunked", "chunk": 8},
    "LongNet, head 0": {
        "layout": "dilated",
        "segments": [8, 16, 32],
        "dilations": [1, 2, 4],
    },
    "a dilation of 4, 5 keys": {"layout": "dilated-heads", "dilations": [4], "keys": 5},
    "Infini, segments of 8": {"layout": "infini", "segment": 8},
}
"""Layouts whose patterns are drawn, of 32 tokens."""

GROWTH: Mapping[str, Mapping[str, Any]] = {
    "dense": {"layout": "dense"},
    "sliding, 4,096 keys": {"layout": "sliding"},
    "LongNet, 5 branches": {
        "layout": "dilated",
        "segments": [2048, 4096, 8192, 16384, 32768],
        "dilations": [1, 2, 4, 6, 12],
    },
    "Infini, 2,048": {"layout": "infini"},
    "gated delta": {"layout": "gated-delta"},
    "latent": {"layout": "latent"},
}
"""Layouts whose work and state are drawn against length."""


def _case(options: Mapping[str, Any], length: object) -> AttentionCase:
    (case,) = attention_cases({**options, "seq_len": length})
    return case


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    ground = f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def patterns_picture() -> str:
    """Return who attends whom, a square for each layout: queries down, keys across."""
    parts = []
    for number, (label, options) in enumerate(PATTERNS.items()):
        left, top = 10 + number % 3 * 220, 25 + number // 3 * 230
        parts.append(f'<text x="{left}" y="{top - 6}" {_TEXT}>{label}</text>')
        parts.append(
            f'<rect x="{left}" y="{top}" width="192" height="192" fill="none" stroke="#888"/>'
        )
        pattern = pattern_of(_case(options, 32), 32, 0).tolist()
        for query, row in enumerate(pattern):
            key = 0
            for count, run in groupby(row):
                size = len(list(run))
                if count:
                    place = f'x="{left + 6 * key}" y="{top + 6 * query}"'
                    shade = f'width="{6 * size}" height="6" fill="{_SHADES[min(count, 3)]}"'
                    parts.append(f"<rect {place} {shade}/>")
                key += size
    return _svg(660, 470, parts)


_Line = tuple[str, Sequence[tuple[float, float]]]


def _chart(
    left: int, title: str, lines: Sequence[_Line], across: str, *, up: Callable[[float], str]
) -> list[str]:
    """Return a chart of lines, whose points are given in the units of its axes."""
    top, width, height = 30, 300, 240
    xs, ys = ([point[axis] for _, own in lines for point in own] for axis in (0, 1))
    low, high = min(ys), max(ys)

    def place(point: tuple[float, float]) -> str:
        x = left + width * (point[0] - min(xs)) / (max(xs) - min(xs))
        y = top + height * (1 - (point[1] - low) / (high - low))
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<text x="{left}" y="18" {_TEXT}>{title}</text>',
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>',
        f'<text x="{left}" y="{top + height + 16}" {_TEXT}>{across}</text>',
        f'<text x="{left - 4}" y="{top + 10}" text-anchor="end" {_TEXT}>{up(high)}</text>',
        f'<text x="{left - 4}" y="{top + height}" text-anchor="end" {_TEXT}>{up(low)}</text>',
    ]
    for number, (label, own) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(map(place, own))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        y = top + height + 34 + 15 * number
        parts.append(f'<text x="{left}" y="{y}" fill="{colour}" {_TEXT}>{label}</text>')
    return parts


def growth_picture() -> str:
    """Return work of a forward and state of a decoder against length, both axes logarithmic."""
    lengths = [1 << power for power in range(10, 31)]
    parts: list[str] = []
    for left, name, title in (
        (60, "ideal_forward_flop", "forward [FLOP], 8 heads of 128"),
        (460, "state_bytes", "state of a decoder [byte]"),
    ):
        lines = [
            (
                label,
                [
                    (log2(answer.sequence_length), log2(getattr(answer, name)))
                    for answer in attention_answers(_case(options, lengths))
                ],
            )
            for label, options in GROWTH.items()
        ]
        across = "1k to 1B tokens of a sequence"
        parts += _chart(left, title, lines, across, up=lambda power: f"2^{power:.0f}")
    return _svg(790, 400, parts)


def recall_picture() -> str:
    """Return the error of what a memory gives back against keys stored over key size."""
    lines = [
        (label, [(log2(load), error) for load, error in zip(loads, errors, strict=True)])
        for label, (loads, errors) in recall_curves().items()
    ]
    parts = _chart(
        60,
        "relative error of a stored value",
        lines,
        "keys stored / key size of 64: 1/16 to 8",
        up=lambda error: f"{error:.1f}",
    )
    return _svg(400, 370, parts)


PICTURES: Mapping[str, Callable[[], str]] = {
    "attention-patterns.svg": patterns_picture,
    "attention-growth.svg": growth_picture,
    "attention-recall.svg": recall_picture,
}
"""Pictures by their file."""


def main() -> None:
    """Write all pictures."""
    for name, picture in PICTURES.items():
        (FOLDER / name).write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
