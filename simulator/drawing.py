"""The schedule of a step as a drawing: bars of time, rank by rank, in SVG.

Written by hand, since bars are rectangles: an SVG from plotly needs a browser, and matplotlib would
be a dependency for one figure.
"""

from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from costmodels.pipelining.actions import ActionKind
from costmodels.units import format_seconds
from simulator.trace import Engine, Span, Trace


class Style(NamedTuple):
    """How spans of one name are drawn."""

    label: str
    colour: str


STYLES = {
    ActionKind.FORWARD.value: Style("forward", "#56B4E9"),
    ActionKind.BACKWARD.value: Style("backward", "#E69F00"),
    ActionKind.INPUT_GRADIENT.value: Style("input gradient", "#F0E442"),
    ActionKind.WEIGHT_GRADIENT.value: Style("weight gradient", "#B8860B"),
    "reduction": Style("gradient reduction", "#009E73"),
    "replicated": Style("replicated gradients", "#7A5195"),
    "tied embedding": Style("tied embedding", "#CC79A7"),
    "copies of layers": Style("copies of layers", "#661100"),
    "optimizer": Style("optimizer", "#0072B2"),
    "gather": Style("weight gather", "#D55E00"),
}
"""Okabe and Ito's palette, which colour-blind people tell apart, by name of a span."""

OTHER_COLOUR = "#999999"

_WIDTH, _ROW, _BAR, _THIN = 1000, 34, 20, 6
_LEFT, _TOP, _LEGEND = 60, 34, 120
_TICKS = 5
_TEXT_WIDTH = 7  # Of one figure of the labels [pixel].


def gantt_svg(trace: Trace, title: str = "Schedule of one step of one replica") -> str:
    """Return what each rank did when, as an SVG document.

    Collectives run in a thin lane below the rank's computing. A bar that is wide enough shows its
    microbatch, and every bar its action, times and FLOP to the pointer.

    Parameters
    ----------
    trace : Trace
        A simulated step.
    title : str, optional
        What stands above.

    Returns
    -------
    str
        The same for the same trace; its size is linear in the number of spans.
    """
    end_s = max((span.end_s for span in trace.spans), default=0) or 1
    height = _TOP + _ROW * trace.rank_count + 46
    legend = dict.fromkeys(str(span.name) for span in trace.spans)
    rows = -(-len(legend) * _LEGEND // (_WIDTH - _LEFT)) if legend else 0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height + 20 * rows}" '
        f'viewBox="0 0 {_WIDTH} {height + 20 * rows}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_axis(trace.rank_count, end_s),
        *(_bar(span, end_s) for span in trace.spans),
        *_legend(legend, height),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _x(time_s: float, end_s: float) -> float:
    return _LEFT + time_s / end_s * (_WIDTH - _LEFT - 20)


def _axis(rank_count: int, end_s: float) -> Iterator[str]:
    bottom = _TOP + _ROW * rank_count
    for rank in range(rank_count):
        yield f'<text x="8" y="{_TOP + _ROW * rank + 15}">rank {rank}</text>'
    for tick in range(_TICKS + 1):
        x = _x(end_s * tick / _TICKS, end_s)
        yield f'<path d="M{x:.2f} {_TOP - 4}V{bottom}" stroke="#dddddd"/>'
        text = format_seconds(end_s * tick / _TICKS) if tick else "0"
        yield f'<text x="{x:.2f}" y="{bottom + 16}" text-anchor="middle">{text}</text>'


def _bar(span: Span, end_s: float) -> str:
    style = STYLES.get(str(span.name), Style(str(span.name), OTHER_COLOUR))
    computes = span.engine is Engine.COMPUTE
    y = _TOP + _ROW * span.rank + (0 if computes else _BAR + 2)
    x, height = _x(span.start_s, end_s), _BAR if computes else _THIN
    width = _x(span.end_s, end_s) - x
    told = f"{span} ({style.label}), rank {span.rank}: {span.start_s:.6g} s to {span.end_s:.6g} s"
    bar = (
        f'<g><title>{escape(told)}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" '
        f'height="{height}" fill="{style.colour}" stroke="white" stroke-width="0.5"/>'
    )
    label = "" if span.microbatch is None else str(span.microbatch)
    if label and width >= _TEXT_WIDTH * (len(label) + 1):
        bar += f'<text x="{x + width / 2:.2f}" y="{y + 14}" text-anchor="middle">{label}</text>'
    return bar + "</g>"


def _legend(names: dict[str, None], top: int) -> Iterator[str]:
    in_row = (_WIDTH - _LEFT) // _LEGEND
    for place, name in enumerate(names):
        style = STYLES.get(name, Style(name, OTHER_COLOUR))
        x, y = _LEFT + place % in_row * _LEGEND, top - 14 + place // in_row * 20
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{style.colour}"/>'
        yield f'<text x="{x + 16}" y="{y + 11}" font-size="11">{escape(style.label)}</text>'
