"""The page that compares: saved scenarios side by side, why they differ, and one field swept."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import dcc, html

from costmodels.errors import ShardwiseError
from costmodels.leaves import declared_type
from costmodels.scenario import Scenario, scenario_to_table
from costmodels.units import format_change, format_named, format_signed
from dashboard import questions
from dashboard.bar import VIEW, view_choice
from dashboard.fields import MICROBATCHES, field_named, fields
from dashboard.figures.sweep import Point, sweep
from dashboard.identity import dom_id
from dashboard.library import saved, store
from dashboard.pages.page import Asked, Page
from dashboard.parts import KNOWN, card, figure, message, number, table, text_of, unit_part
from dashboard.questions import Question, question
from dashboard.state import State
from dashboard.store.scenarios import Saved
from simulator.answer import Answer, Difference, Term
from simulator.comparison import differences

WITH, FIELD, SHOWN = "with", "sweep", "of"
"""What is compared with the scenario of the bar; the field that is swept; the number drawn."""

_MOST = 6
_POINTS = 14
_QUANTITIES = (
    *("time.step_s", "time.tokens_per_s_per_gpu", "compute.mfu_fraction"),
    *("memory.worst_stage_bytes", "memory.headroom_bytes", "pipeline.idle_fraction"),
    *("communication.sent_bytes", "cost.run_s", "cost.run_usd", "cost.run_energy_j"),
)


def controls(state: State, scenario: Scenario | None) -> Sequence[Any]:
    """Return which scenarios are compared, and what is swept."""
    del scenario
    listed = store().listed()
    identity = {"type": VIEW, "name": WITH}
    known = [{"label": f"{each.name} (v{each.version})", "value": str(each.id)} for each in listed]
    chosen = [text for text in state.viewed(WITH).split(",") if text]
    known += [
        {"label": text, "value": text}
        for text in chosen
        if text not in {each["value"] for each in known}
    ]
    return [
        html.Div(
            [
                html.Div(
                    [
                        html.Label("compare with", htmlFor=dom_id(identity)),
                        dcc.Dropdown(
                            id=identity,
                            options=known,
                            value=chosen,
                            multi=True,
                            placeholder="saved scenarios" if known else "no scenario is saved yet",
                        ),
                    ],
                    className="field broad",
                    role="group",
                ),
                view_choice(
                    FIELD, "sweep", _swept_fields(), state.viewed(FIELD), "a field drawn as a curve"
                ),
                view_choice(
                    SHOWN, "of", _QUANTITIES, state.viewed(SHOWN), "the number that is drawn"
                ),
            ],
            className="fields",
        )
    ]


def _swept_fields() -> tuple[str, ...]:
    """Return the whole numbers of plan, workload and cluster."""
    whole = [
        field.path
        for field in fields()
        if field.section in ("plan", "workload")
        and not field.options
        and field.path != MICROBATCHES
        and "list" not in field.allowed
    ]
    return ("cluster.accelerator_count", *whole)


class _Column:
    """One scenario of a comparison."""

    def __init__(self, name: str, asked: Question) -> None:
        self.name, self.asked = name, asked
        self.answer = questions.answer(asked)


def render(asked: Asked) -> Sequence[Any]:
    """Return the scenario of the bar beside saved ones, and what makes the difference."""
    names = [text for text in asked.state.viewed(WITH).split(",") if text][:_MOST]
    columns, refused = [_Column("this scenario", asked.question)], []
    for name in names:
        try:
            found = saved(name)
            columns.append(_Column(f"{found.name} (v{found.version})", _question(found)))
        except ShardwiseError as error:
            refused.append(message(str(error)))
    if len(columns) == 1:
        told = message(
            "Choose saved scenarios to compare with the one in the bar; the page Scenarios saves."
        )
        return [*refused, told]
    return [
        *refused,
        card("Numbers", _numbers(columns), key="numbers", note="differences from this scenario"),
        card("What differs in the scenarios", _inputs(columns), key="inputs"),
        *_causes(columns),
    ]


def _question(found: Saved) -> Question:
    return question(found.table, ())


def _numbers(columns: Sequence[_Column]) -> Any:
    base, others = columns[0], columns[1:]
    found = [differences(base.answer, other.answer) for other in others]
    names = list(dict.fromkeys(entry.name for entries in found for entry in entries))
    heads = ["quantity", base.name]
    rows = [["fits", str(base.answer.fits).lower()]]
    for other in others:
        heads += [other.name, "difference"]
        rows[0] += [str(other.answer.fits).lower(), ""]
    for name in names:
        row: list[Any] = [KNOWN[name.rpartition(".")[2]].definition.rstrip(".")]
        row.append(number(name, _value(base.answer, name), at="column 0"))
        for index, (other, entries) in enumerate(zip(others, found, strict=True), start=1):
            entry = next((each for each in entries if each.name == name), None)
            row.append(_shown(name, _value(other.answer, name), index))
            row.append(_difference(entry))
        rows.append(row)
    return table("comparison", heads, rows)


def _shown(name: str, value: Any, column: int) -> Any:
    """Return a number of another scenario: its derivation is found where that one is opened."""
    return html.Span(
        text_of(name.rpartition(".")[2], value),
        title=f"{KNOWN[name.rpartition('.')[2]].definition} Open the scenario for its derivation.",
        className=f"of-column-{column}",
    )


def _value(answer: Answer, name: str) -> Any:
    group, _, quantity = name.partition(".")
    return getattr(answer, group).get(quantity)


def _difference(entry: Difference | None) -> Any:
    if entry is None or entry.difference is None:
        return "-"
    if not entry.difference:
        return html.Span("same", className="note")
    text = format_change(entry.name, entry.difference)
    if entry.before:
        text += f" ({format_signed(100 * entry.difference / abs(entry.before), 1)} %)"
    return text


def _inputs(columns: Sequence[_Column]) -> Any:
    tables = [dict(_flat(scenario_to_table(column.asked.scenario))) for column in columns]
    paths = dict.fromkeys(path for entries in tables for path in entries)
    rows = [
        [path, *(_written(path, entries.get(path)) for entries in tables)]
        for path in paths
        if len({str(entries.get(path)) for entries in tables}) > 1 and path not in _LABELS
    ]
    if not rows:
        return message("Nothing: they are the same scenario.")
    heads = ["field", *(column.name for column in columns)]
    return table("inputs", heads, rows)


def _written(path: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return format_named(unit_part(path), value)


_LABELS = ("model.source", "model.notes")


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in entries.items():
        if isinstance(value, dict) and "value" in value:
            yield f"{prefix}{key}", value["value"]
        elif isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _causes(columns: Sequence[_Column]) -> list[Any]:
    """Return for each sum the terms that moved, which add up to the difference."""
    cards: list[Any] = []
    for other in columns[1:]:
        rows: list[list[Any]] = []
        marked: list[int] = []
        for entry in differences(columns[0].answer, other.answer):
            moved = [term for term in entry.terms if _moves(term)]
            if not moved or entry.difference is None:
                continue
            marked.append(len(rows))
            rows.append(_cause(KNOWN[_last(entry.name)].definition, entry.name, entry))
            rows += [_cause(KNOWN[term.name].definition, term.name, term) for term in moved]
            rest = entry.difference - sum(term.difference for term in moved)
            if rest:
                rows.append(["Rounding", "", "", f"{rest:.2g}"])
        if rows:
            heads = ("term", columns[0].name, other.name, "difference")
            made = table(f"causes-{len(cards)}", heads, rows, marked=marked)
            cards.append(card(f"Why {other.name} differs", made, key="causes"))
    return cards


_ROUNDING_FRACTION = 1e-12


def _moves(term: Term) -> bool:
    """Return whether a term differs by more than rounding."""
    largest = max(abs(term.before), abs(term.after))
    return abs(term.difference) > _ROUNDING_FRACTION * largest


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _cause(label: str, name: str, entry: Any) -> list[Any]:
    plain = _last(name)
    return [
        label.rstrip("."),
        text_of(plain, entry.before),
        text_of(plain, entry.after),
        format_change(plain, entry.difference),
    ]


def later(asked: Asked) -> Sequence[Any]:
    """Return the curve of a number over the values of a field."""
    path = asked.state.viewed(FIELD)
    if path not in _swept_fields():
        return []
    quantity = asked.state.viewed(SHOWN)
    quantity = quantity if quantity in _QUANTITIES else _QUANTITIES[0]
    points = [point for value in _values(asked, path) if (point := _point(asked, path, value))]
    entry, name = KNOWN[_last(quantity)], field_named(path).label
    if not any(point.answer for point in points):
        return [card(f"Sweep of {path}", message("No other value of this field is legal here."))]
    drawn = sweep(points, quantity, path)
    rows = [
        [
            format_named("", point.value),
            str(point.answer.fits).lower(),
            text_of(_last(quantity), _value(point.answer, quantity)),
        ]
        for point in points
        if point.answer
    ]
    return [
        card(
            f"{entry.definition.rstrip('.')}, over {name}",
            figure("sweep", drawn, f"{quantity} over the legal values of {path}"),
            table("sweep", (name, "fits", quantity), rows, align="rlr"),
            note=f"{quantity} over {path}, all other fields unchanged",
            key="sweep",
        )
    ]


def _values(asked: Asked, path: str) -> list[int]:
    """Return values around the one that is stated: halved and doubled, those that rules allow."""
    scenario = asked.question.scenario
    stated = _stated(scenario, path)
    most = next(int(m.le) for m in _metas(path) if m.le is not None)
    least = next(int(m.ge) for m in _metas(path) if m.ge is not None)
    doubled = [stated * 2**power for power in range(_POINTS)]
    halved = [stated // 2**power for power in range(_POINTS) if stated % 2**power == 0]
    tried = {*doubled[:7], *halved[:7], *(range(least, least + 4) if stated < 16 else ())}
    return sorted(value for value in tried if least <= value <= most)


def _metas(path: str) -> Any:
    declared = declared_type(path)
    members = [declared, *getattr(declared, "__args__", ())]
    return [meta for member in members for meta in getattr(member, "__metadata__", ())]


def _stated(scenario: Scenario, path: str) -> int:
    value: Any = scenario
    for part in path.split("."):
        value = getattr(value, part)
    return int(value) if isinstance(value, int) else 1


def _point(asked: Asked, path: str, value: int) -> Point | None:
    changes = {path: str(value)}
    kept = tuple((name, text) for name, text in asked.question.changes if name != MICROBATCHES)
    base = (
        asked.question
        if path != "workload.global_batch_size"
        else Question(asked.question.base, kept)
    )
    try:
        return Point(value, questions.closed_form(base.changed(changes)))
    except ShardwiseError:
        return None


PAGE = Page("/compare", "Compare", render, later, controls)
"""The page."""
