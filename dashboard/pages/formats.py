"""The page of number formats: a number's bits in each, and a model's weights in each storage."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from dash import dcc, html

from costmodels.errors import SpecError, not_found_message
from costmodels.number_formats.encoding import ROUNDINGS, Rounding, decode
from costmodels.number_formats.error import DISTRIBUTIONS
from costmodels.number_formats.explaining import Explained, exactly, explain
from costmodels.number_formats.scalars import GENERIC, LIBRARIES, ScalarFormat, scalar_formats
from costmodels.scenario import Scenario
from costmodels.units import format_bytes, format_count
from costmodels.weight_storage import weight_recipes
from dashboard import questions
from dashboard.attributes import aria, data
from dashboard.bar import VIEW, view_choice, view_text
from dashboard.figures.formats import memory_by_format, neighbours_of, numbers_of
from dashboard.figures.style import in_page
from dashboard.identity import dom_id
from dashboard.pages.page import Asked, Page
from dashboard.parts import card, figure, message, more, table
from dashboard.state import State
from simulator.format_comparison import (
    FormatComparison,
    Stored,
    accelerators,
    checked_accelerators,
    own_accelerator,
    usable_bytes,
)

NUMBER, FORMAT, LIBRARY, ROUNDING = "number", "format", "library", "rounding"
DISTRIBUTION, STORAGES = "distribution", "storages"
"""What the controls state: the number and its conversion; the weights and what is compared."""

_DEFAULTS: tuple[tuple[str, str], ...] = (
    (NUMBER, "3.14"),
    (FORMAT, "fp16"),
    (LIBRARY, GENERIC),
    (ROUNDING, ROUNDINGS[0]),
    (DISTRIBUTION, "gaussian"),
)
_CALCULABLE: tuple[Rounding, ...] = tuple(each for each in ROUNDINGS if each != "stochastic")
_COMMON = (
    *("fp32", "bf16", "fp8", "mxfp8", "int8", "nvfp4", "mxfp4", "nf4", "awq-int4"),
    *("gguf-Q8_0", "gguf-Q4_K_M", "gguf-Q2_K"),
)
_MOST_STORAGES, _BRIEF, _SMALL_BITS = 20, 14, 8


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return the number, how it is converted, and which storages are compared."""
    del scenario
    identity = {"type": VIEW, "name": STORAGES}
    known = list(weight_recipes())
    return [
        html.Div(
            [
                view_text(
                    NUMBER,
                    "number",
                    state.viewed(NUMBER, "3.14"),
                    "3.14",
                    "any number, inf or nan; a click on a bit flips it",
                ),
                view_choice(
                    FORMAT,
                    "step by step in",
                    list(scalar_formats()),
                    _chosen(state, FORMAT),
                    "the format whose neighbours and conversion are shown",
                ),
                view_choice(
                    LIBRARY,
                    "semantics",
                    (GENERIC, *LIBRARIES),
                    _chosen(state, LIBRARY),
                    "whose cast it is: they differ beyond the largest number",
                ),
                view_choice(
                    ROUNDING,
                    "rounding",
                    _CALCULABLE,
                    _chosen(state, ROUNDING),
                    "to the nearest, ties to even, or cut off",
                ),
                view_choice(
                    DISTRIBUTION,
                    "weights are",
                    list(DISTRIBUTIONS),
                    _chosen(state, DISTRIBUTION),
                    "distribution for which the error of stored weights is expected",
                ),
                html.Div(
                    [
                        html.Label("storages", htmlFor=dom_id(identity)),
                        dcc.Dropdown(
                            id=identity,
                            options=known,
                            value=[each for each in _stated_storages(state) if each in known],
                            multi=True,
                            placeholder="a dozen that are common",
                        ),
                    ],
                    className="field broad",
                    role="group",
                    **aria(label="storages of the weights that are compared"),
                ),
            ],
            className="fields",
        )
    ]


def _chosen(state: State, name: str) -> str:
    return state.viewed(name) or dict(_DEFAULTS)[name]


def _stated_storages(state: State) -> tuple[str, ...]:
    return tuple(text for text in state.viewed(STORAGES).split(",") if text)


def render(asked: Asked) -> Sequence[Any]:
    """Return a number in every format, and one format closely."""
    state = asked.state
    value = _number(state.viewed(NUMBER, "3.14"))
    name = _chosen(state, FORMAT)
    known = scalar_formats()
    if name not in known:
        raise SpecError(not_found_message(what="number format", name=name[:60], known=known))
    found = {entry.format: entry for entry in _explained(state, value)}
    close = found.get(name)
    return [
        card(
            f"{exactly(value)} in every format",
            _legend(),
            _bits_table(list(found.values())),
            more("Range of each format", _range_table(list(found.values()))),
            note="formats up to 32 bits get what fp32 holds of it",
            key="bits",
        ),
        html.Div(
            [_neighbours(close, known[name]), _conversion(close)]
            if close
            else [message(f"{_chosen(state, LIBRARY)} has no type {name}.")],
            className="columns" if close else "",
        ),
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(
            f"number ('{text[:60]}'): expected a number, such as 3.14, 1e-8, inf or nan"
        ) from None


def _explained(state: State, value: float) -> Iterator[Explained]:
    """Return the number in each format that the library has."""
    library, rounding = _chosen(state, LIBRARY), _chosen(state, ROUNDING)
    if library not in (GENERIC, *LIBRARIES):
        raise SpecError(
            not_found_message(what="semantics", name=library[:60], known=(GENERIC, *LIBRARIES))
        )
    how = next((each for each in _CALCULABLE if each == rounding), None)
    if how is None:
        raise SpecError(not_found_message(what="rounding", name=rounding[:60], known=_CALCULABLE))
    for target in scalar_formats().values():
        try:
            target.as_of(library)
        except SpecError:
            continue  # The library has no such type.
        yield explain(value, target, semantics=library, rounding=how)


def _legend() -> html.Div:
    return html.Div(
        [
            html.Span([html.Span(className=f"bit {name}"), f" {name}"], className="swatch")
            for name in ("sign", "exponent", "mantissa")
        ]
        + [html.Span("a click flips a bit, and the number becomes what the code then stands for")],
        className="legend",
    )


def _bits_table(found: Sequence[Explained]) -> Any:
    rows = [
        [
            entry.format,
            html.Span(_brief(entry.value), title=exactly(entry.value)),
            _brief(entry.error),
            "-" if entry.relative_error is None else f"{100 * entry.relative_error:.4g} %",
            _bits(entry),
            html.Span(entry.hexadecimal, className="bits"),
            _brief(entry.below),
            _brief(entry.above),
        ]
        for entry in found
    ]
    columns = ("format", "value", "error", "relative", "bits", "code", "below", "above")
    return table("bits", columns, rows, align="lrrrl", caption="a number in every format")


def _range_table(found: Sequence[Explained]) -> Any:
    rows = [
        [
            entry.format,
            f"{entry.largest:.9g}",
            f"{entry.smallest_normal:.9g}",
            _brief(entry.smallest_subnormal),
            f"{entry.epsilon:.9g}",
            f"{entry.decimal_digits:.2f}",
        ]
        for entry in found
    ]
    columns = ("format", "largest", "smallest normal", "smallest subnormal", "epsilon", "digits")
    return table("ranges", columns, rows)


def _brief(value: float | None) -> str:
    if value is None:
        return "-"
    text = exactly(value)
    return text if len(text) <= _BRIEF else f"{value:.9g}"


def _bits(entry: Explained) -> html.Span:
    """Return the bits as buttons, each of which holds the number that it leads to."""
    fields = [(name, getattr(entry, name)) for name in ("sign", "exponent", "mantissa")]
    digits = [(name, digit) for name, text in fields for digit in text]
    source = scalar_formats()[entry.format]
    return html.Span(
        [
            html.Button(
                digit,
                className=f"bit {name}",
                title=f"{name}, bit {place}: flip it",
                **aria(label=f"{entry.format} {name} bit {place} is {digit}"),
                **data(
                    number=flipped(entry.code, place, source), format=entry.format, bit=str(place)
                ),
            )
            for place, (name, digit) in zip(reversed(range(len(digits))), digits, strict=True)
        ],
        className="bits",
    )


def flipped(code: int, place: int, source: ScalarFormat) -> str:
    """Return what a code stands for once one of its bits is flipped, as it is typed.

    Examples
    --------
    >>> flipped(0x3C00, 15, scalar_formats()["fp16"])
    '-1.0'
    """
    return repr(float(decode(code ^ (1 << place), source)))


def _neighbours(entry: Explained, source: ScalarFormat) -> Any:
    parts: list[Any] = []
    if math.isfinite(entry.value) and math.isfinite(entry.number):
        parts.append(
            figure(
                "neighbours",
                in_page(neighbours_of(entry), height=150, left=12),
                f"{exactly(entry.number)} and the numbers of {entry.format} around it, on a line",
            )
        )
    else:
        parts.append(message(f"{exactly(entry.value)} has no place on a line."))
    if source.bits <= _SMALL_BITS:
        parts.append(
            figure(
                "all-numbers",
                in_page(numbers_of(source), height=110, left=12),
                f"Every number of {entry.format} on a line, denser toward zero",
            )
        )
    return card(f"Around it in {entry.format}", *parts, key="neighbours")


def _conversion(entry: Explained) -> Any:
    return card(
        f"To {entry.format}, step by step",
        html.Ol([html.Li(step) for step in entry.steps], className="steps"),
        note=entry.kind,
        key="steps",
    )


def later(asked: Asked) -> Sequence[Any]:
    """Return the model's weights in some storages, against the memory of accelerators."""
    names = _stated_storages(asked.state) or _COMMON
    if len(names) > _MOST_STORAGES:
        raise SpecError(f"storages ({len(names)}): at most {_MOST_STORAGES} side by side")
    distribution = _chosen(asked.state, DISTRIBUTION)
    if distribution not in DISTRIBUTIONS:
        raise SpecError(
            not_found_message(what="distribution", name=distribution[:60], known=DISTRIBUTIONS)
        )
    compared = questions.storages(asked.question, names, distribution)
    scenario = asked.question.scenario
    drawn = in_page(memory_by_format(compared, _capacities(scenario)), height=420)
    drawn.update_layout(margin={"r": 60, "t": 40}, legend={"orientation": "h", "y": 1.12})
    drawn.update_layout(yaxis2={"showgrid": False})
    return [
        card(
            f"Weights of {compared.model} in each storage",
            figure(
                "memory-by-format",
                drawn,
                "Weights of each storage as bars stacked by component, capacities as lines, "
                "expected error as diamonds",
            ),
            _storage_table(compared),
            more("Fewest accelerators that hold the weights", _holders(compared, scenario)),
            note=f"{format_count(compared.weights)} weights; diamonds: expected signal to noise "
            f"on {distribution} weights",
            key="storages",
        )
    ]


def _capacities(scenario: Scenario) -> dict[str, int]:
    """Return what weights can take of one of the scenario's accelerators, and of a node."""
    name, count = own_accelerator(scenario), scenario.cluster.accelerators_per_node
    one = int(usable_bytes(accelerators(scenario)[name]))
    return {name: one} | ({f"{count} of {name}": count * one} if count > 1 else {})


def _storage_table(compared: FormatComparison) -> Any:
    rows = [
        [
            entry.name,
            format_bytes(entry.weights_bytes),
            f"{entry.bits_per_weight:.4f}",
            "-" if entry.sqnr_db is None else f"{entry.sqnr_db:.2f} dB",
            entry.error_basis,
            entry.multiplies,
            f"{entry.flop_multiple:.3g}x",
            f"{entry.read_multiple:.3g}x",
            entry.description,
        ]
        for entry in compared.storages
    ]
    columns = (
        *("storage", "weights", "bits/weight", "SQNR", "basis"),
        *("products in", "FLOP/s", "reading", "what it is"),
    )
    return table("storages", columns, rows, align="lrrrllrrl")


def _holders(compared: FormatComparison, scenario: Scenario) -> Any:
    shown = checked_accelerators((), scenario)
    rows = [[entry.name, *(_count(entry, name) for name in shown)] for entry in compared.storages]
    return table("holders", ("storage", *shown), rows)


def _count(entry: Stored, accelerator: str) -> str:
    found = [each.count for each in entry.holders if each.accelerator == accelerator]
    return str(found[0]) if found else "none"


PAGE = Page("/formats", "Formats", render, later, controls, defaults=_DEFAULTS)
"""The page."""
