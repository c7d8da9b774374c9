"""The JSON Schema of a scenario file, from the declarations of its fields."""

from collections.abc import Mapping
from enum import EnumMeta
from typing import Any, get_args, get_origin

import msgspec

from costmodels.quantities import Basis
from costmodels.specs.base import Spec, choices, declaration, field_types, plain_type

Schema = dict[str, Any]

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}


def scenario_schema(
    sections: Mapping[str, type[Spec]], presets: Mapping[str, tuple[str, ...]]
) -> Schema:
    """Return the JSON Schema of a scenario file.

    Parameters
    ----------
    sections : mapping of str to type
        Description of each section.
    presets : mapping of str to tuple of str
        Names of the presets of the sections that have some.

    Returns
    -------
    dict
        JSON Schema, draft 2020-12.
    """
    properties = {
        name: _section(description, presets.get(name)) for name, description in sections.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Shardwise scenario",
        "type": "object",
        "properties": properties,
        "required": ["model", "cluster", "workload"],
        "additionalProperties": False,
        "$defs": {"source": _SOURCE},
    }


_SOURCE: Schema = {
    "type": "object",
    "description": "a value with where it comes from",
    "properties": {
        "value": {"type": ["number", "string", "boolean"]},
        "basis": {"enum": [basis.value for basis in Basis]},
        "source": {"type": "string"},
    },
    "required": ["value", "basis", "source"],
    "additionalProperties": False,
}


def _section(description: type[Spec], presets: tuple[str, ...] | None) -> Schema:
    table = _table(description)
    if presets is None:
        return table
    named: Schema = {"type": "string", "description": "a preset", "examples": list(presets)}
    properties = {"preset": named} | _optional(table)["properties"]
    changed = dict(table, properties=properties, required=["preset"])
    return {"anyOf": [named, changed, table]}


def _optional(table: Schema) -> Schema:
    """Return the schema of a table that changes some fields of a preset: none is required."""
    properties = {
        name: _optional(field) if "properties" in field else field
        for name, field in table["properties"].items()
    }
    return dict(table, properties=properties, required=[])


def _table(description: type[Spec]) -> Schema:
    fields = {field.name: field for field in msgspec.structs.fields(description)}
    types = {name: kind for name, kind in field_types(description).items() if name != "sources"}
    return {
        "type": "object",
        "description": (description.__doc__ or "").split("\n")[0],
        "properties": {name: _field(declared) for name, declared in types.items()},
        "required": [name for name in types if fields[name].required],
        "additionalProperties": False,
    }


def _field(declared: Any) -> Schema:
    kind, meta = plain_type(declared), declaration(declared)
    schema = _kind(kind, meta)
    if meta is not None and meta.description:
        schema["description"] = meta.description
    return schema


def _bounds(meta: msgspec.Meta | None) -> Schema:
    if meta is None:
        return {}
    return {
        word: getattr(meta, bound)
        for bound, word in _BOUNDS.items()
        if getattr(meta, bound) is not None
    }


def _kind(kind: Any, meta: msgspec.Meta | None) -> Schema:
    if isinstance(kind, type) and issubclass(kind, Spec):
        return _table(kind)
    if isinstance(kind, EnumMeta):
        return {"enum": choices(kind)}
    if kind in _NUMBERS:
        return _number(_NUMBERS[kind], meta)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]} | _bounds(meta)
    members = get_args(kind)
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _field(members[0])}
    return {"type": "object"} | ({"additionalProperties": _field(members[1])} if members else {})


_NUMBERS = {int: "integer", float: "number"}
_PLAIN = {bool: "boolean", str: "string"}


def _number(kind: str, meta: msgspec.Meta | None) -> Schema:
    text = {"type": "string", "description": "a number with its unit, such as 8k or 3.35 TB/s"}
    return {"anyOf": [{"type": kind} | _bounds(meta), text, {"$ref": "#/$defs/source"}]}
