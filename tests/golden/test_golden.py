"""Answers move only where somebody meant it: regenerate them, and say why in the commit."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden.regenerate import FOLDER, SCENARIOS, answer_file, answer_table

CPU_FRACTION = 1e-12
"""Another CPU may round a sum of a few hundred terms otherwise."""


def moves(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield what differs between two tables: path, old and new."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{path}.{key}" if path else key
            yield from moves(old.get(key, "absent"), new.get(key, "absent"), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (first, second) in enumerate(zip(old, new, strict=True)):
            yield from moves(first, second, f"{path}[{index}]")
    elif _differ(old, new):
        yield f"{path}: {old!r} -> {new!r}{_change(old, new)}"


def _differ(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return not math.isclose(old, new, rel_tol=CPU_FRACTION, abs_tol=CPU_FRACTION)
    return type(old) is not type(new) or bool(old != new)


def _change(old: Any, new: Any) -> str:
    is_number = [isinstance(value, int | float) and value for value in (old, new)]
    return f" ({100 * (new / old - 1):+.3g} %)" if all(is_number) else ""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_an_answer_is_what_it_was(scenario: Path) -> None:
    old = json.loads(answer_file(scenario).read_text(encoding="utf-8"))
    moved = list(moves(old, answer_table(scenario)))
    if moved:
        listed = "\n  ".join(moved)
        pytest.fail(
            f"{scenario.stem} moved:\n  {listed}\nIf that is meant: python -m "
            "tests.golden.regenerate, and say in the commit why",
            pytrace=False,
        )


def test_every_answer_has_its_scenario() -> None:
    kept = {path.name for path in (FOLDER / "answers").glob("*.json")}
    assert kept == {answer_file(scenario).name for scenario in SCENARIOS}


def test_a_move_is_told_with_old_and_new() -> None:
    old = {"time": {"step_s": 2.0}, "memory": {"stage_bytes": [1, 2]}, "fits": True}
    new = {"time": {"step_s": 2.5}, "memory": {"stage_bytes": [1, 3]}, "notes": []}
    assert list(moves(old, new)) == [
        "time.step_s: 2.0 -> 2.5 (+25 %)",
        "memory.stage_bytes[1]: 2 -> 3 (+50 %)",
        "fits: True -> 'absent'",
        "notes: 'absent' -> []",
    ]


def test_rounding_is_no_move() -> None:
    assert list(moves({"a": 1.0}, {"a": 1.0 + 1e-15})) == []
    assert list(moves({"a": 1}, {"a": 1.0})) != []
