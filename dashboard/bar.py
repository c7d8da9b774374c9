"""The scenario bar: one control for each field, the same on every page."""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from dash import dcc, html

from costmodels.presets import preset_names, preset_table
from costmodels.scenario import Scenario
from dashboard.attributes import aria
from dashboard.fields import Field, first_fields, other_fields, shown_value
from dashboard.identity import dom_id
from dashboard.state import State, plain_text, query_of

FIELD, ERROR, WRAP, STEPS, VIEW = "field", "error", "wrap", "steps", "view"
GROUP, GROUPED = "group", "grouped"
"""Types of the identities that callbacks match."""

FRAMEWORK = "framework"
"""Choice whose value, the query of fields, is put into the address."""

DEBOUNCE_S = 0.4
"""Pause in typing after which an answer is asked for [s]."""


def bar(state: State, scenario: Scenario | None, pathname: str, without: Iterable[str] = ()) -> Any:
    """Return the scenario bar.

    Parameters
    ----------
    state : State
        What the address states: values of controls.
    scenario : Scenario or None
        What fields have that the address does not state; None where it states no scenario.
    pathname : str
        Page on which it stands.
    without : iterable of str
        Fields that the page has a control of its own for.
    """
    changes = dict(state.changes)
    groups = [
        html.Details(
            [
                html.Summary(
                    [section, html.Span(_changed_count(changes, fields), className="count")],
                    id={"type": GROUP, "section": section},
                ),
                html.Div(id={"type": GROUPED, "section": section}, className="fields"),
            ],
            className="group",
        )
        for section, fields in other_fields().items()
    ]
    first = _controls(first_fields(), state, scenario, without)
    return html.Section(
        [
            html.Div([*first, _frameworks()], className="fields first"),
            html.Div(
                [
                    *groups,
                    dcc.Link(
                        "Reset",
                        href=pathname + query_of(State(base=state.base)),
                        className="reset",
                        title="take back every change to the scenario that this one starts from",
                    ),
                ],
                className="groups",
            ),
            html.Div(id="banner", role="status", className="banner"),
        ],
        className="bar",
        **aria(label="scenario"),
    )


def _controls(
    fields: Iterable[Field], state: State, scenario: Scenario | None, without: Iterable[str]
) -> list[Any]:
    left_out, changes = set(without), dict(state.changes)
    return [
        control(field, changes.get(field.path), scenario)
        for field in fields
        if field.path not in left_out
    ]


def group(
    section: str, state: State, scenario: Scenario | None, without: Iterable[str] = ()
) -> list[Any]:
    """Return the controls of a group that was opened; arguments as of `bar`.

    A page of all fields is several times slower to make, and with each answer again, since every
    part of a page is told of every change: so groups are made once they are opened.
    """
    return _controls(other_fields().get(section, ()), state, scenario, without)


def _frameworks() -> html.Div:
    """Return a choice that sets what a framework shards, buckets and keeps; sizes stay."""
    options = [
        {
            "label": name,
            "value": urlencode(
                {
                    f"plan.{field}": plain_text(value)
                    for field, value in preset_table("plan", name).items()
                }
            ),
        }
        for name in preset_names("plan")
    ]
    made = dcc.Dropdown(
        id=FRAMEWORK, options=options, placeholder="apply", clearable=False, searchable=False
    )
    definition = "sets the fields of a preset of the plan: what a framework shards, buckets, keeps"
    return html.Div(
        [
            html.Label("framework", htmlFor=FRAMEWORK),
            made,
            html.Div(f"plan\n{definition}", className="hint"),
        ],
        className="field",
        role="group",
        **aria(label=f"framework: {definition}"),
    )


def control(field: Field, value: str | None, scenario: Scenario | None) -> html.Div:
    """Return the label, the control, the hint and the place for an error of one field."""
    placeholder = shown_value(scenario, field.path) if scenario else ""
    identity = {"type": FIELD, "path": field.path}
    if field.options:
        made: Any = dcc.Dropdown(
            id=identity,
            options=[{"label": option, "value": option} for option in field.options],
            value=value or None,
            placeholder=placeholder or "-",
            clearable=True,
            searchable=len(field.options) > 8,
            maxHeight=320,
        )
    else:
        made = dcc.Input(
            id=identity,
            type="text",
            value=value or "",
            debounce=DEBOUNCE_S,
            placeholder=placeholder or "-",
            autoComplete="off",
            spellCheck=False,
        )
    unit = [html.Span(field.unit, className="unit")] if field.unit else []
    return html.Div(
        [
            html.Label([field.label, *unit], htmlFor=dom_id(identity)),
            made,
            html.Div(f"{field.path}\n{field.definition}; {field.allowed}", className="hint"),
            html.Div(id={"type": ERROR, "path": field.path}, className="error"),
        ],
        id={"type": WRAP, "path": field.path},
        role="group",
        className=wrap_class(is_changed=bool(value), is_wrong=False),
        **aria(label=f"{field.label}, {field.path}"),
    )


def slider(field: Field, values: Sequence[int], current: int) -> html.Div:
    """Return a slider over the legal values of a field.

    Parameters
    ----------
    field : Field
        What it states.
    values : sequence of int
        Legal values, ascending.
    current : int
        Value now, one of them.
    """
    place = values.index(current)
    identity = {
        "type": STEPS,
        "path": field.path,
        "values": " ".join(map(str, values)),
        "initial": str(place),
    }
    shown = _spread(len(values))
    return html.Div(
        [
            html.Label([field.label, html.Span(f"{current:,}", className="unit")]),
            dcc.Slider(
                id=identity,
                min=0,
                max=len(values) - 1,
                step=1,
                value=place,
                marks={index: f"{values[index]:,}" for index in shown},
                included=False,
                updatemode="mouseup",
                allow_direct_input=False,
            ),
            html.Div(
                f"{field.path}\n{field.definition}; legal here: {', '.join(map(str, values))}",
                className="hint",
            ),
        ],
        className="field slider",
        role="group",
        **aria(label=f"{field.label}, {field.path}"),
    )


_MARKS = 7


def _spread(count: int) -> list[int]:
    """Return places of marks along a slider: its ends and some between."""
    if count <= _MARKS:
        return list(range(count))
    return sorted({round(index * (count - 1) / (_MARKS - 1)) for index in range(_MARKS)})


def view_choice(
    name: str, label: str, options: Sequence[str], value: str, definition: str
) -> html.Div:
    """Return a choice of what a page shows of a scenario."""
    identity = {"type": VIEW, "name": name}
    return html.Div(
        [
            html.Label(label, htmlFor=dom_id(identity)),
            dcc.Dropdown(
                id=identity,
                options=list(options),
                value=value if value in options else None,
                placeholder="-",
                clearable=True,
                searchable=False,
            ),
            html.Div(f"{label}\n{definition}", className="hint"),
        ],
        className="field",
        role="group",
        **aria(label=f"{label}: {definition}"),
    )


def view_text(name: str, label: str, value: str, placeholder: str, definition: str) -> html.Div:
    """Return a text that says what a page shows."""
    identity = {"type": VIEW, "name": name}
    made = dcc.Input(
        id=identity,
        type="text",
        value=value,
        debounce=DEBOUNCE_S,
        placeholder=placeholder,
        autoComplete="off",
        spellCheck=False,
    )
    return _view_field(identity, label, made, definition)


def view_slider(name: str, label: str, values: Sequence[int], value: int, definition: str) -> Any:
    """Return a slider over a range of whole numbers that says what a page shows.

    Parameters
    ----------
    name : str
        Under which it stands in the address.
    label, definition : str
        What it is called, and what it does.
    values : sequence of int
        Its ends.
    value : int
        Where it stands.
    """
    identity = {"type": VIEW, "name": name}
    low, high = min(values), max(values)
    made = dcc.Slider(
        id=identity,
        min=low,
        max=high,
        step=1,
        value=min(max(value, low), high),
        marks={low: str(low), high: str(high)},
        included=False,
        updatemode="mouseup",
        allow_direct_input=False,
        tooltip={"placement": "bottom", "always_visible": False},
    )
    return _view_field(identity, label, made, definition, "field slider")


def _view_field(
    identity: dict[str, str], label: str, made: Any, definition: str, css_class: str = "field"
) -> html.Div:
    return html.Div(
        [
            html.Label(label, htmlFor=dom_id(identity)),
            made,
            html.Div(f"{label}\n{definition}", className="hint"),
        ],
        className=css_class,
        role="group",
        **aria(label=f"{label}: {definition}"),
    )


def wrap_class(*, is_changed: bool, is_wrong: bool) -> str:
    """Return the classes of a field: whether it differs from its base, whether it is refused."""
    return "field" + " changed" * is_changed + " wrong" * is_wrong


def _changed_count(changes: dict[str, str], fields: Iterable[Field]) -> str:
    count = sum(field.path in changes for field in fields)
    return f"{count} changed" if count else ""
