"""Which values of an input would move no number, found by putting them in.

The closed forms take columns: one row for the scenario and one for each other value answer for
all of them at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import Columns
from costmodels.leaves import declared_type, leaves
from costmodels.specs.base import declaration
from simulator.publishing import available, reached

PLACEMENT = (
    "tensor_node_members",
    "context_node_members",
    "data_node_members",
    "pipeline_node_members",
    "sharding_node_members",
    "replication_node_members",
    "expert_tensor_node_members",
    "expert_node_members",
    "expert_sharding_node_members",
)
"""What every number sees of where ranks sit."""

STEP = 1.5
"""Factor by which an input is raised and lowered to see whether anything moves."""

_ROUNDING_FRACTION = 1e-12


def unmoved(
    columns: Columns, variants: Sequence[Mapping[str, Any]], watched: Iterable[str]
) -> list[bool]:
    """Return for each variant whether it leaves the watched quantities as they are.

    Parameters
    ----------
    columns : Columns
        Inputs of one scenario.
    variants : sequence of mapping
        For each the inputs that differ, by name.
    watched : iterable of str
        Quantities, which are compared up to rounding.

    Returns
    -------
    list of bool
        In the order of the variants.
    """
    names = dict.fromkeys(name for variant in variants for name in variant)
    rows = {
        name: np.asarray([first, *(variant.get(name, first) for variant in variants)])
        for name in names
        for first in (np.asarray(columns.values[name]).reshape(-1)[0],)
    }
    values = evaluate(columns._replace(values={**columns.values, **rows}), tuple(watched))
    same = np.ones(len(variants), dtype=bool)
    for value in values.values():
        for column in _flat(value):
            filled = np.broadcast_to(column, (len(variants) + 1,))
            same &= np.isclose(filled[1:], filled[0], rtol=_ROUNDING_FRACTION, atol=0.0)
    return [bool(entry) for entry in same]


def _flat(value: Any) -> list[npt.NDArray[Any]]:
    if isinstance(value, tuple):
        return [column for member in value for column in _flat(member)]
    return [np.asarray(value)]


def _neighbours(columns: Columns, name: str, unit: str) -> tuple[float, float]:
    """Return a lower and a higher value of an input, the other one of a truth."""
    value = float(np.asarray(columns.values[name]).reshape(-1)[0])
    if unit == "truth":
        return 1.0 - value, 1.0 - value
    raised = min(value * STEP, 1.0) if unit == "fraction" else value * STEP
    return value / STEP, raised


def watched(columns: Columns, names: Sequence[str]) -> tuple[str, ...]:
    """Return every published number of the groups that the fields of some inputs declare.

    What follows from the time of a step belongs to the times, whatever group publishes it.
    """
    groups: set[str] = set()
    for name in names:
        meta = declaration(declared_type(leaves()[name].path))
        groups.update((meta.extra or {}).get("influences", ()) if meta else ())
    inputs = set(names)
    return tuple(
        name
        for name in available(columns)
        if (needed := reached(name, columns.schedule)) & inputs
        and (CATALOGUE[name].group in groups or ("time" in groups and _timed(needed)))
    )


def _timed(needed: Iterable[str]) -> bool:
    return any(name in CATALOGUE and CATALOGUE[name].group == "time" for name in needed)


def insensitive(columns: Columns, names: Sequence[str]) -> dict[str, tuple[bool, bool]]:
    """Return for each input whether lowering and raising it leave all that it declares in place.

    Parameters
    ----------
    columns : Columns
        Inputs of one scenario.
    names : sequence of str
        Inputs: real numbers, changed by `STEP`, and truths, turned over.

    Returns
    -------
    dict
        For each input, whether every published number of the groups that the fields declare stays
        where it is lowered, and where it is raised.
    """
    if not names:
        return {}
    pairs = [_neighbours(columns, name, leaves()[name].unit) for name in names]
    variants = [{name: value} for name, pair in zip(names, pairs, strict=True) for value in pair]
    same = unmoved(columns, variants, watched(columns, names))
    return {name: (same[2 * index], same[2 * index + 1]) for index, name in enumerate(names)}


def ranges(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers in an ascending list.

    Examples
    --------
    >>> ranges([1, 2, 3, 7])
    [(1, 3), (7, 7)]
    """
    found: list[tuple[int, int]] = []
    for value in values:
        if found and found[-1][1] == value - 1:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return found
