"""The page of all published numbers, straight from the catalogue of quantities."""

from collections.abc import Sequence
from typing import Any

from dashboard import questions
from dashboard.pages.page import Asked, Page
from dashboard.parts import KNOWN, card, number, table, text_of
from simulator.answer import GROUPS, Group


def render(asked: Asked) -> Sequence[Any]:
    """Return every published number, a table for each group of the answer."""
    answer = questions.answer(asked.question)
    return [
        card(group.capitalize(), _table(group, values), note=f"basis: {values['basis']}", key=group)
        for group in GROUPS
        if (values := getattr(answer, group))
    ]


def _table(group: str, values: Group) -> Any:
    rows = [
        [
            name,
            number(f"{group}.{name}", value, at="numbers", text=written(name, value)),
            KNOWN[name].unit,
            KNOWN[name].scope.value,
            KNOWN[name].definition,
        ]
        for name, value in values.items()
        if name in KNOWN
    ]
    columns = ("quantity", "value", "base unit", "scope", "definition")
    return table(f"numbers-{group}", columns, rows, align="lrlll")


def written(name: str, value: Any) -> str:
    """Return a number as text; a list by its range, where its members differ.

    Examples
    --------
    >>> written("stage_bytes", [2**30, 2**31]), written("chunk_layers", [[7], [7]])
    ('1 GiB to 2 GiB', '7')
    """
    members = list(_members(value))
    if any(not isinstance(each, int | float) for each in members):
        return text_of(name, members[0]) if members else "-"
    low, high = min(members, default=None), max(members, default=None)
    if low == high:
        return text_of(name, low)
    return f"{text_of(name, low)} to {text_of(name, high)}"


def _members(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return [member for each in value for member in _members(each)]
    return [value]


PAGE = Page("/numbers", "Numbers", render)
"""The page."""
