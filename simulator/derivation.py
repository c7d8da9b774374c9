"""How a number comes about: the graph of the catalogue, with values put in."""

import re
from itertools import chain
from typing import Any

from costmodels.analysis import CATALOGUE, axes_of, evaluate, inputs_of
from costmodels.compilation import Columns
from costmodels.errors import PresetNotFoundError, not_found_message
from costmodels.leaves import field_value, leaves
from costmodels.quantities import ALGORITHM, KIND, STAGE, Quantity, weakest
from costmodels.scenario import Scenario, field_paths
from costmodels.specs.layouts import LAYOUT_FIELDS
from simulator.answer import Derivation
from simulator.publishing import basis_of, leaf_path, option_of, reached, scalar, source_of
from simulator.training import SIMULATED, simulated_inputs

_NAME = re.compile(r"[A-Za-z_]\w*")

MOST_MEMBERS = 6
"""Members of a list that a substituted formula writes out."""


def published_names() -> tuple[str, ...]:
    """Return the names of everything that can be explained, groups put before."""
    entries = [*CATALOGUE.values(), *SIMULATED]
    return tuple(f"{entry.group}.{entry.name}" if entry.group else entry.name for entry in entries)


def quantity_named(path: str) -> Quantity:
    """Return the quantity that a path such as ``time.step_s`` names.

    Raises
    ------
    PresetNotFoundError
        If there is none; the message suggests the nearest.
    """
    group, _, name = path.rpartition(".")
    for entry in (*CATALOGUE.values(), *SIMULATED):
        if entry.name == name and group in ("", entry.group):
            return entry
    known = [*published_names(), *field_paths()]
    raise PresetNotFoundError(not_found_message(what="quantity", name=path, known=known))


def derive(scenario: Scenario, columns: Columns, path: str) -> Derivation:
    """Return the derivation of a quantity, each of its inputs derived once.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    columns : Columns
        Its inputs, of length one.
    path : str
        Group and name, or name, of a quantity.

    Raises
    ------
    PresetNotFoundError
        If there is no such quantity, or the scenario leaves out what it needs.
    """
    entry = quantity_named(path)
    needed = reached(entry.name, columns.schedule)
    missing = sorted(leaf for leaf in needed & leaves().keys() if leaf not in columns.values)
    if missing:
        fields = ", ".join(leaves()[leaf].path for leaf in missing)
        raise PresetNotFoundError(f"{path} needs {fields}, which the scenario does not state")
    values = evaluate(columns, sorted(needed))
    return _derive(entry.name, scenario, columns, values, shown=set())


def simulated(entry: Quantity, value: Any, scenario: Scenario, columns: Columns) -> Derivation:
    """Return the derivation of what the simulator measured: from the program that it plays."""
    names = simulated_inputs(entry.name)
    needed = set().union(*(reached(name, columns.schedule) for name in names))
    values = evaluate(columns, sorted(needed))
    shown: set[str] = set()
    inputs = tuple(_derive(name, scenario, columns, values, shown=shown) for name in names)
    return _entry(
        entry,
        value=value,
        basis=weakest([entry.basis, *(derived.basis for derived in inputs)]),
        inputs=inputs,
    )


def withheld(entry: Quantity, reason: str) -> Derivation:
    """Return the derivation of a quantity that has no value to give, and why."""
    return _entry(entry, value=None, basis=entry.basis, withheld=reason)


def _entry(entry: Quantity, **found: Any) -> Derivation:
    """Return a derivation with what the catalogue says of its quantity."""
    return Derivation(
        name=entry.name,
        unit=entry.unit,
        scope=entry.scope.value,
        definition=entry.definition,
        source=entry.source,
        **({"substituted": "", "formula": entry.formula} | found),
    )


def _derive(
    name: str, scenario: Scenario, columns: Columns, values: dict[str, Any], *, shown: set[str]
) -> Derivation:
    if name not in CATALOGUE:
        return _input(name, scenario, columns, values)
    entry = CATALOGUE[name]
    inputs: tuple[Derivation, ...] = ()
    if name not in shown:
        shown.add(name)
        inputs = tuple(
            _derive(needed, scenario, columns, values, shown=shown)
            for needed in _inputs(entry, columns)
        )
    has_numbers = entry.formula_of(_first_option(entry, columns)) != ALGORITHM
    return _entry(
        entry,
        formula=_formula(entry, columns),
        value=_labelled(values[name], entry.axes, scenario, columns, values),
        substituted=_substituted(entry, columns, values) if has_numbers else "",
        substituted_for=_first_member(entry.axes, columns) if has_numbers else "",
        basis=basis_of(scenario, name),
        inputs=inputs,
    )


def _inputs(entry: Quantity, columns: Columns) -> tuple[str, ...]:
    """Return what a quantity is computed from, in the layouts that the model has."""
    if entry.selector != "layout":
        return inputs_of(entry.name, option_of(entry.name, columns.schedule))
    every = (inputs_of(entry.name, layout) for layout in dict.fromkeys(columns.layouts))
    return tuple(dict.fromkeys(chain.from_iterable(every)))


def _input(name: str, scenario: Scenario, columns: Columns, values: dict[str, Any]) -> Derivation:
    leaf, source = leaves()[name], source_of(scenario, name)
    path = leaf_path(scenario, name)
    stated = field_value(scenario, leaf.path)
    return Derivation(
        name=f"{name} = {path}" if not isinstance(stated, str) else f"{name} = {path} ({stated})",
        value=_labelled(values[name], leaf.axes, scenario, columns, values),
        unit=leaf.unit,
        scope="input",
        definition=leaf.definition,
        formula="",
        substituted="",
        source=source.source,
        basis=source.basis,
    )


def _substituted(entry: Quantity, columns: Columns, values: dict[str, Any]) -> str:
    """Return the formula with numbers for names: of the first member of each of its axes."""
    option = _first_option(entry, columns) or option_of(entry.name, columns.schedule)
    inputs = inputs_of(entry.name, option)

    def number(match: re.Match[str]) -> str:
        name = match[0]
        return _numbers(values[name], axes_of(name), entry.axes) if name in inputs else name

    # A keyword of a call, as in `latency_s=...`, is a name to keep.
    formula = entry.formula_of(_first_option(entry, columns))
    return re.sub(rf"{_NAME.pattern}(?!\s*=[^=])", number, formula)


def _first_option(entry: Quantity, columns: Columns) -> str | None:
    """Return what selects the function of a quantity's first member, None where there is one."""
    return columns.layouts[0] if entry.selector == "layout" else None


def _formula(entry: Quantity, columns: Columns) -> str:
    """Return a quantity's formula: that of the model's layout, or of each of its layouts."""
    if entry.selector != "layout":
        return entry.formula
    stated = {layout: entry.formula_of(layout) for layout in dict.fromkeys(columns.layouts)}
    if len(set(stated.values())) == 1:
        return next(iter(stated.values()))
    return "; ".join(f"{layout}: {formula}" for layout, formula in stated.items())


def _numbers(value: Any, axes: tuple[str, ...], fixed: tuple[str, ...]) -> str:
    """Return a value's text: its first member along fixed axes, a list along those left."""
    for axis in fixed:
        if axes[:1] == (axis,):
            value, axes = value[0], axes[1:]
    if not axes:
        return f"{scalar(value)!r}"
    members = [_numbers(member, axes[1:], ()) for member in value[:MOST_MEMBERS]]
    return f"[{', '.join(members)}{', ...' if len(value) > MOST_MEMBERS else ''}]"


def _first_member(axes: tuple[str, ...], columns: Columns) -> str:
    """Return what the first member of each axis is called."""
    names = {
        STAGE: f"stage {scalar(columns.values['stage_index'][0])}",
        KIND: kind_labels(columns)[0],
    }
    return ", ".join(names.get(axis, f"{axis} 0") for axis in axes)


def _labelled(
    value: Any,
    axes: tuple[str, ...],
    scenario: Scenario,
    columns: Columns,
    values: dict[str, Any],
) -> Any:
    """Return a value with labels for the members of its axes, one number where all are equal."""
    if not axes:
        return scalar(value)
    members = [_labelled(member, axes[1:], scenario, columns, values) for member in value]
    if all(member == members[0] for member in members):
        return members[0]
    return dict(zip(_labels(axes[0], columns, len(members)), members, strict=True))


def kind_labels(columns: Columns) -> list[str]:
    """Return what each kind of layer is called: its layout, and how it differs from other kinds."""
    labels = []
    for index, layout in enumerate(columns.layouts):
        alike = [other for other, name in enumerate(columns.layouts) if name == layout]
        differing = [
            name for name in LAYOUT_FIELDS if len({_of_kind(columns, name, k) for k in alike}) > 1
        ]
        words = [f"{layout} layers"]
        if len({_of_kind(columns, "is_mixture", k) for k in range(len(columns.layouts))}) > 1:
            words.append(f"with{'' if _of_kind(columns, 'is_mixture', index) else 'out'} experts")
        words += [_said(name, _of_kind(columns, name, index)) for name in differing]
        labels.append(f"{' '.join(words)} ({index})")
    return labels


def _of_kind(columns: Columns, name: str, kind: int) -> int:
    """Return an input of one kind of layer."""
    return int(scalar(columns.values[name][kind]))


def _said(name: str, value: int) -> str:
    if leaves()[name].unit == "truth":
        return name if value else f"not {name}"
    return f"of {name} {value:,}"


def _labels(axis: str, columns: Columns, count: int) -> list[str]:
    if axis == STAGE:
        first = columns.values["stage_index"]
        sizes = columns.values["class_stage_count"]
        return [
            f"stage {scalar(index)}"
            + (f" and {scalar(size) - 1} like it" if scalar(size) > 1 else "")
            for index, size in zip(first, sizes, strict=True)
        ]
    if axis == KIND:
        return kind_labels(columns)
    return [f"{axis} {index}" for index in range(count)]
