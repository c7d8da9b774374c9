"""The panel that derives a number: definition, formula, values put in, source, inputs."""

from typing import Any

from dash import html

from dashboard.parts import KNOWN, text_of
from simulator.answer import Derivation

MOST_MEMBERS = 8
"""Members of a value that are written out."""


def panel(path: str, found: Derivation) -> list[Any]:
    """Return what the panel shows of a derivation.

    Parameters
    ----------
    path : str
        Group and name, such as ``time.step_s``.
    found : Derivation
        As `simulator.whatif.explain` returns it.
    """
    facts: list[tuple[str, Any]] = [("definition", found.definition)]
    if found.withheld:
        facts.append(("withheld", found.withheld))
    else:
        facts += [("value", _value(found)), ("unrounded", _raw(found))]
    if found.formula:
        facts.append(("formula", html.Code(found.formula)))
    if found.substituted:
        facts.append((f"values put in{_member(found)}", html.Code(f"= {found.substituted}")))
    facts += [
        ("scope, unit", f"{found.scope}, {found.unit}"),
        ("rests on", html.Span(found.basis.value, className=f"basis {found.basis.value}")),
    ]
    if found.source:
        facts.append(("source", found.source))
    inputs = [_input(entry) for entry in found.inputs]
    return [
        html.H2(path, id="explained-title"),
        html.Dl([part for name, value in facts for part in (html.Dt(name), html.Dd(value))]),
        *([html.H3("computed from"), html.Ul(inputs, className="inputs")] if inputs else []),
    ]


def _member(found: Derivation) -> str:
    return f" ({found.substituted_for})" if found.substituted_for else ""


def _input(entry: Derivation) -> html.Li:
    known = KNOWN.get(entry.name)
    name: Any = entry.name
    if known is not None:
        path = f"{known.group}.{entry.name}" if known.group else entry.name
        name = html.Button(
            entry.name,
            id={"type": "explain", "path": path, "at": "panel"},
            className="number",
            title=entry.definition,
        )
    parts = [name, html.Span(_value(entry), className="value")]
    parts.append(html.Span(entry.basis.value, className=f"basis {entry.basis.value}"))
    parts.append(html.Span(entry.definition, className="note"))
    if known is None and entry.source:
        parts.append(html.Span(entry.source, className="note"))
    return html.Li(parts)


def _value(found: Derivation) -> str:
    if isinstance(found.value, dict):
        shown = [
            f"{label}: {_one(found.name, value)}"
            for label, value in list(found.value.items())[:MOST_MEMBERS]
        ]
        rest = len(found.value) - MOST_MEMBERS
        return "; ".join([*shown, f"and {rest} more"] if rest > 0 else shown)
    return _one(found.name, found.value)


def _one(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_one(name, member) for member in value[:MOST_MEMBERS])
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_one(name, member)}" for key, member in value.items())
    return text_of(name, value)


def _raw(found: Derivation) -> str:
    text = str(found.value)
    return f"{text if len(text) <= 200 else text[:197] + '...'} {found.unit}"
