"""The catalogue of quantities, and the evaluator that walks its graph.

A quantity's function names its inputs; `evaluate` computes what is wanted and what that needs,
each once. `derivation` walks the same graph for people.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from costmodels import (
    activations,
    adapters,
    communication,
    components,
    conventions,
    exchanges,
    flops,
    gradient_buckets,
    memory,
    messages,
    offload,
    optimizer_states,
    parameters,
    placement,
    prediction,
    pricing,
    recomputation,
    roofline,
    saved_tensors,
    serving,
    serving_time,
    step,
    step_end,
    throughput,
    timing,
    traffic,
    transients,
    work,
)
from costmodels.attention import layouts
from costmodels.compilation import Columns
from costmodels.errors import PresetNotFoundError, not_found_message
from costmodels.leaves import leaves
from costmodels.pipelining import quantities as pipelining
from costmodels.quantities import KIND, Quantity, parameters_of, quantities_of

MODULES = (
    *parameters.MODULES,
    prediction,
    layouts,
    adapters,
    flops,
    gradient_buckets,
    saved_tensors,
    activations,
    pipelining,
    transients,
    optimizer_states,
    memory,
    offload,
    components,
    placement,
    exchanges,
    communication,
    traffic,
    *messages.MODULES,
    work,
    conventions,
    recomputation,
    roofline,
    *timing.MODULES,
    step_end,
    step,
    throughput,
    pricing,
    *serving.MODULES,
    serving_time,
)
"""The modules of closed forms, in the order of derivation."""

CATALOGUE: Mapping[str, Quantity] = MappingProxyType(
    {entry.name: entry for entry in chain.from_iterable(map(quantities_of, MODULES))}
)
"""Every quantity of the closed forms by name, in the order of derivation."""


class _Wiring(NamedTuple):
    """What the evaluator needs to know of one quantity, looked up once."""

    inputs: tuple[str, ...]
    axes_of_inputs: tuple[tuple[str, ...], ...]


def axes_of(name: str) -> tuple[str, ...]:
    """Return the axes along which a quantity or an input has values."""
    if name in CATALOGUE:
        return CATALOGUE[name].axes
    return leaves()[name].axes


@lru_cache(maxsize=1024)
def inputs_of(name: str, option: str | None = None) -> tuple[str, ...]:
    """Return the names of the quantities and inputs that a quantity is computed from.

    Parameters
    ----------
    name : str
        A quantity of the catalogue.
    option : str, optional
        Value of its selector; None gives the inputs of all its variants.

    Returns
    -------
    tuple of str
        In the order of the function's parameters.
    """
    entry = CATALOGUE[name]
    if entry.function is not None:
        return parameters_of(entry.function)
    chosen = entry.variants.values() if option is None else (entry.variants[option],)
    return tuple(dict.fromkeys(chain.from_iterable(map(parameters_of, chosen))))


@lru_cache(maxsize=1024)
def _wiring(name: str, options: tuple[str, ...]) -> _Wiring:
    options_or_none: tuple[str | None, ...] = options or (None,)
    every = chain.from_iterable(inputs_of(name, option) for option in options_or_none)
    inputs = tuple(dict.fromkeys(every))
    return _Wiring(inputs, tuple(axes_of(entry) for entry in inputs))


def _options(entry: Quantity, columns: Columns) -> tuple[str, ...]:
    """Return the variants of a quantity that some columns use, none where there is one function."""
    if entry.selector is None:
        return ()
    return (columns.schedule,) if entry.selector == "schedule" else columns.layouts


def evaluate(columns: Columns, wanted: Iterable[str]) -> dict[str, Any]:
    """Return the wanted quantities, computed from the columns with all that they need.

    Parameters
    ----------
    columns : Columns
        Inputs of some plans.
    wanted : iterable of str
        Names of quantities, or of inputs.

    Returns
    -------
    dict
        Each a column, or nested tuples of columns along the axes of the quantity.

    Raises
    ------
    PresetNotFoundError
        If there is no such quantity.
    """
    known = dict(columns.values)
    names = list(wanted)
    # A row that breaks a rule may divide by zero; a search masks it, and nobody reads its value.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for name in names:
            _resolve(name, columns, known)
    return {name: known[name] for name in names}


def _resolve(name: str, columns: Columns, known: dict[str, Any]) -> None:
    if name in known:
        return
    entry = CATALOGUE.get(name)
    if entry is None:
        raise PresetNotFoundError(not_found_message(what="quantity", name=name, known=CATALOGUE))
    if entry.zero_without is not None and not np.any(known[entry.zero_without]):
        known[name] = _nothing(entry.axes, columns)
        return
    wiring = _wiring(name, _options(entry, columns))
    for needed in wiring.inputs:
        _resolve(needed, columns, known)
    arguments = [known[needed] for needed in wiring.inputs]
    option = columns.schedule if entry.selector == "schedule" else None
    known[name] = _along(
        entry, entry.axes, arguments, wiring, wiring.axes_of_inputs, columns, option
    )


def _nothing(axes: tuple[str, ...], columns: Columns) -> Any:
    """Return zero for every member of the axes, as nested tuples."""
    if not axes:
        return 0
    return (_nothing(axes[1:], columns),) * columns.sizes[axes[0]]


def _along(
    entry: Quantity,
    axes: tuple[str, ...],
    arguments: list[Any],
    wiring: _Wiring,
    axes_of_inputs: tuple[tuple[str, ...], ...],
    columns: Columns,
    option: str | None,
) -> Any:
    """Return the function's value for every member of the axes, as nested tuples."""
    if not axes:
        function = entry.chosen(option)
        given = dict(zip(wiring.inputs, arguments, strict=True))
        return function(**{name: given[name] for name in parameters_of(function)})
    axis, rest = axes[0], axes[1:]
    varying = [own[:1] == (axis,) for own in axes_of_inputs]
    inner = tuple(own[varies:] for own, varies in zip(axes_of_inputs, varying, strict=True))
    done: dict[tuple[str | int | None, ...], Any] = {}
    values = []
    for index in range(columns.sizes[axis]):
        members = [
            argument[index] if varies else argument
            for argument, varies in zip(arguments, varying, strict=True)
        ]
        if entry.selector == "layout" and axis == KIND:
            option = columns.layouts[index]
        # Members whose inputs are the same objects have the same value: computed once.
        key = (option, *map(id, members))
        if key not in done:
            done[key] = _along(entry, rest, members, wiring, inner, columns, option)
        values.append(done[key])
    return tuple(values)
