"""Asks the application's callbacks as a browser would, without one."""

import json
from collections.abc import Mapping
from typing import Any

from dashboard.fields import fields


def identity(text: Mapping[str, str]) -> str:
    return json.dumps(text, sort_keys=True, separators=(",", ":"))


def answer_body(
    changes: Mapping[str, Any],
    *,
    pathname: str = "/",
    search: str = "",
    shown: bool = True,
    view: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the request that a browser sends after a control of the scenario bar changed."""
    paths = [field.path for field in fields()]

    def inputs(kind: str, keys: list[dict[str, str]], values: list[Any]) -> list[dict[str, Any]]:
        return [
            {"id": {"type": kind, **key}, "property": "value", "value": value}
            for key, value in zip(keys, values, strict=True)
        ]

    def outputs(kind: str, prop: str) -> list[dict[str, Any]]:
        return [{"id": {"type": kind, "path": path}, "property": prop} for path in paths]

    views = dict(view or {})
    first = next(iter(changes), paths[0])
    return {
        "output": _output(),
        "outputs": [
            {"id": "result", "property": "children"},
            {"id": "result", "property": "className"},
            {"id": "banner", "property": "children"},
            outputs("field", "placeholder"),
            outputs("wrap", "className"),
            outputs("error", "children"),
            {"id": "url", "property": "search"},
            {"id": "asked", "property": "data"},
            {"id": "shown", "property": "data"},
        ],
        "inputs": [
            inputs("field", [{"path": path} for path in paths], [changes.get(p) for p in paths]),
            [],
            inputs("view", [{"name": name} for name in views], list(views.values())),
            {"id": "refreshed", "property": "data", "value": None},
        ],
        "changedPropIds": [f"{identity({'path': first, 'type': 'field'})}.value"],
        "state": [
            {"id": "url", "property": "pathname", "value": pathname},
            {"id": "url", "property": "search", "value": search},
            {"id": "shown", "property": "data", "value": shown},
        ],
    }


def _output() -> str:
    def every(kind: str, prop: str) -> str:
        return f'{{"path":["ALL"],"type":"{kind}"}}.{prop}'

    return (
        "..result.children...result.className...banner.children..."
        + "...".join(
            (every("field", "placeholder"), every("wrap", "className"), every("error", "children"))
        )
        + "...url.search...asked.data...shown.data.."
    )


def texts(children: Any) -> str:
    """Return all text of components, as they travel to a browser."""
    if isinstance(children, list):
        return "".join(map(texts, children))
    if isinstance(children, dict):
        return texts(children.get("props", {}).get("children"))
    return "" if children is None else str(children)


def numbers(children: Any) -> dict[str, Any]:
    """Return the numbers that components show, by path and place."""
    found: dict[str, Any] = {}
    if isinstance(children, list):
        for child in children:
            found |= numbers(child)
    elif isinstance(children, dict):
        props = children.get("props", {})
        if "data-value" in props:
            found[f"{props['data-path']} at {props['data-at']}"] = json.loads(props["data-value"])
        found |= numbers(props.get("children"))
    return found
