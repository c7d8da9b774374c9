"""Descriptions for people: every field with its value and where that comes from."""

from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from cli.inputs import import_file, names_file
from cli.tables import shown
from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_model
from costmodels.errors import SpecError, not_found_message
from costmodels.huggingface.importing import Imported
from costmodels.presets import model_preset, preset_table
from costmodels.rules import check_model
from costmodels.specs.base import Spec, field_types
from costmodels.specs.cluster import Accelerator, Cluster
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan
from costmodels.specs.precision import Precision
from costmodels.specs.tables import build, to_table
from costmodels.stages import layer_kinds
from costmodels.units import unit_of_field

_COUNTED = ("total_parameters", "active_parameters", "multi_token_prediction_parameters")
_LAYER = (
    "layer_parameters",
    "attention_matrix_parameters",
    "attention_vector_parameters",
    "attention_whole_parameters",
    "expert_matrix_parameters",
    "shared_matrix_parameters",
    "router_parameters",
)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a description.

    Attributes
    ----------
    field : str
        Path within the description.
    value : object
        In base units.
    unit : str
        Unit, empty for what has none.
    basis : str or None
        What the value rests on.
    source : str or None
        Where it comes from.
    """

    field: str
    value: Any
    unit: str
    basis: str | None = None
    source: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A number that follows from a model's description.

    Attributes
    ----------
    name : str
        Quantity, with the kind of layer for one of a layer.
    value : int
        In the unit.
    unit : str
        Unit.
    definition : str
        What it is.
    """

    name: str
    value: int
    unit: str
    definition: str


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A description, field by field.

    Attributes
    ----------
    what : str
        Kind of description.
    name : str
        Its name.
    fields : list of Field
        Values with their sources.
    counts : list of Count
        What follows from them, for a model.
    notes : list of str
        What to know about it.
    source : str or None
        Where values come from that state no source of their own.
    """

    what: str
    name: str
    fields: list[Field]
    counts: list[Count]
    notes: list[str]
    source: str | None = None


def described(what: str, name: str, *, strict: bool = False) -> Described:
    """Return the description of a preset, or of the model of a file.

    Raises
    ------
    SpecError
        If there is no such kind of description, or a file is wrong.
    PresetNotFoundError
        If there is no such preset.
    """
    if what not in _KINDS:
        raise SpecError(not_found_message(what="description", name=what, known=_KINDS))
    return _KINDS[what](name, strict)


def _model(name: str, strict: bool) -> Described:
    imported = import_file(Path(name), strict=strict) if names_file(name) else None
    model = imported.model if imported else model_preset(name)
    check_model(model)
    recipe = imported.precision if imported else None
    return Described(
        what="model",
        name=model.name,
        fields=_fields(model) + ([] if recipe is None else _fields(recipe, "precision.")),
        counts=counts_of(model),
        notes=list(model.notes),
        source=model.source,
    )


def counts_of(model: Model) -> list[Count]:
    """Return the parameters of a model: in all, and of each kind of layer."""
    columns = compile_model(model)
    values = evaluate(columns, (*_COUNTED, *_LAYER))
    found = [_count(name, name, values[name]) for name in _COUNTED]
    _, kinds = layer_kinds(model)
    layers = columns.values["kind_layer_count"]
    for place, kind in enumerate(kinds):
        experts = " with experts" if kind.has_experts else ""
        label = f"{columns.layouts[place]}{experts}, {layers[place]} layers"
        for name in _LAYER:
            count = _count(name, f"{name} ({label})", values[name][place])
            if count.value:
                found.append(count)
    return found


def _count(quantity: str, name: str, value: Any) -> Count:
    entry = CATALOGUE[quantity]
    number = value[0] if hasattr(value, "__len__") else value
    return Count(name=name, value=int(number), unit=entry.unit, definition=entry.definition)


def _accelerator(name: str, strict: bool) -> Described:
    table = preset_table("accelerator", name)
    return _whole("accelerator", name, build(Accelerator, table, "accelerator"))


def _cluster(name: str, strict: bool) -> Described:
    preset, _, count = name.partition(":")
    table = preset_table("cluster", preset) | {"accelerator_count": count or 1}
    found = _whole("cluster", preset, build(Cluster, table, "cluster"))
    stated = [field for field in found.fields if field.field != "accelerator_count" or count]
    return msgspec.structs.replace(found, fields=stated)


def _precision(name: str, strict: bool) -> Described:
    return _whole("precision", name, build(Precision, preset_table("precision", name), "precision"))


def _plan(name: str, strict: bool) -> Described:
    table = preset_table("plan", name)
    found = _whole("plan", name, build(Plan, table, "plan"))
    stated = [field for field in found.fields if field.field in table]
    return msgspec.structs.replace(found, fields=stated)


def _whole(what: str, name: str, spec: Spec) -> Described:
    return Described(what=what, name=name, fields=_fields(spec), counts=[], notes=[])


_KINDS: Mapping[str, Callable[[str, bool], Described]] = {
    "model": _model,
    "accelerator": _accelerator,
    "cluster": _cluster,
    "plan": _plan,
    "precision": _precision,
}


def _fields(spec: Spec, prefix: str = "", inherited: str | None = None) -> list[Field]:
    """Return every field of a description, those of nested ones with their path."""
    sources = getattr(spec, "sources", {})
    whole = getattr(spec, "source", None) or inherited
    found: list[Field] = []
    for name in field_types(type(spec)):
        value = getattr(spec, name)
        if name in ("sources", "source", "notes", "name"):
            continue
        if isinstance(value, Spec):
            found += _fields(value, f"{prefix}{name}.", whole)
            continue
        members = value.items() if isinstance(value, dict) else [("", value)]
        for key, member in members:
            path = f"{name}.{key}" if key else name
            own = sources.get(path)
            found.append(
                Field(
                    field=prefix + path,
                    value=msgspec.to_builtins(member),
                    unit=_unit(name, member),
                    basis=own.basis.value if own else None,
                    source=own.source if own else whole,
                )
            )
    return found


def _unit(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    unit = unit_of_field(name)
    return "" if unit in ("count", "length") else unit


def value_text(field: Field) -> str:
    """Return a value with its unit for people."""
    if field.value is None:
        return "-"
    if isinstance(field.value, bool):
        return str(field.value).lower()
    if isinstance(field.value, list | tuple):
        runs = [(member, len(list(run))) for member, run in groupby(field.value, _member)]
        return ", ".join(f"{n} x {text}" if n > 1 else text for text, n in runs) or "-"
    if isinstance(field.value, int | float):
        return shown(
            field.field.rpartition(".")[2] if field.unit == "" else _named(field), field.value
        )
    return str(field.value)


def _named(field: Field) -> str:
    """Return a name that ends with the field's unit, also for a member of a table."""
    return "x_" + field.unit


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _member(member: Any) -> str:
    if isinstance(member, dict):
        rest = ", ".join(f"{key} {_plain(value)}" for key, value in member.items() if key != "type")
        return f"{member.get('type')} ({rest})" if rest else str(member.get("type"))
    return str(member)


def imported_toml(imported: Imported) -> str:
    """Return the sections of a scenario file that a `config.json` gives."""
    sections = {"model": to_table(imported.model)}
    if imported.precision is not None:
        sections["precision"] = to_table(imported.precision)
    return tomli_w.dumps(sections)
