"""The JSON Schema of a scenario file, from the declarations of its fields."""

from collections.abc import Mapping
from enum import EnumMeta
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from costmodels.quantities import Basis
from costmodels.specs.base import SourcedSpec, Spec, choices, declaration, field_types, plain_type
from costmodels.specs.cluster import Accelerator

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
    return table if presets is None else _with_presets(table, presets)


def _with_presets(table: Schema, presets: tuple[str, ...]) -> Schema:
    """Return the schema of a preset's name, of a preset with changes, or of a whole table."""
    named: Schema = {"type": "string", "description": "a preset"}
    if presets:
        named["examples"] = list(presets)
    properties = {"preset": named} | _optional(table)["properties"]
    changed = dict(table, properties=properties, required=["preset"])
    return {"anyOf": [named, changed, table]}


def _optional(table: Schema) -> Schema:
    """Return the schema of a table that changes some fields of a preset: none is required."""
    properties = {
        name: _optional(field) if "properties" in field else _any_optional(field)
        for name, field in table["properties"].items()
    }
    return dict(table, properties=properties, required=[])


def _any_optional(field: Schema) -> Schema:
    """Return the schema of a field of which each table that it may be needs no field."""
    if not any("properties" in member for member in field.get("anyOf", ())):
        return field
    members = [_optional(member) if "properties" in member else member for member in field["anyOf"]]
    return dict(field, anyOf=members)


def _table(description: type[Spec]) -> Schema:
    fields = {field.name: field for field in msgspec.structs.fields(description)}
    types = {name: kind for name, kind in field_types(description).items() if name != "sources"}
    has_sources = issubclass(description, SourcedSpec)
    return {
        "type": "object",
        "description": (description.__doc__ or "").split("\n")[0],
        "properties": {
            name: _sourced(_field(declared), declared) if has_sources else _field(declared)
            for name, declared in types.items()
        },
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
        table = _table(kind)
        return _with_presets(table, ()) if kind is Accelerator else table
    if isinstance(kind, EnumMeta):
        return {"enum": choices(kind)}
    if kind in _NUMBERS:
        return _number(_NUMBERS[kind], meta)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]} | _bounds(meta)
    return _compound(kind)


def _compound(kind: Any) -> Schema:
    """Return the schema of a list, of one of several tables, or of a table of numbers."""
    members = get_args(kind)
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _field(members[0])}
    if all(isinstance(member, type) and issubclass(member, msgspec.Struct) for member in members):
        return {"anyOf": [_tagged(member) for member in members]}
    return {"type": "object"} | ({"additionalProperties": _field(members[1])} if members else {})


def _tagged(member: Any) -> Schema:
    """Return the schema of a table whose ``type`` tells what it describes."""
    fields = msgspec.structs.fields(member)
    hints = get_type_hints(member, include_extras=True)
    config = member.__struct_config__
    properties = {config.tag_field: {"const": config.tag}}
    return {
        "type": "object",
        "description": (member.__doc__ or "").split("\n")[0],
        "properties": properties | {field.name: _plain(hints[field.name]) for field in fields},
        "required": [config.tag_field, *(field.name for field in fields if field.required)],
        "additionalProperties": False,
    }


def _plain(declared: Any) -> Schema:
    """Return the schema of a field that stands in a list: without units or sources."""
    kind, meta = plain_type(declared), declaration(declared)
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _plain(get_args(kind)[0])} | _items(meta)
    name = "boolean" if kind is bool else "integer"
    return {"type": name} | (_bounds(meta) if kind is not bool else {})


def _items(meta: msgspec.Meta | None) -> Schema:
    words = {"min_length": "minItems", "max_length": "maxItems"}
    return {
        word: getattr(meta, bound) for bound, word in words.items() if meta and getattr(meta, bound)
    }


def _sourced(schema: Schema, declared: Any) -> Schema:
    """Return the schema of a field that may also be a table of its value and source."""
    kind = plain_type(declared)
    if kind is not bool and not isinstance(kind, EnumMeta):
        return schema
    plain = {key: value for key, value in schema.items() if key != "description"}
    text = {"description": schema["description"]} if "description" in schema else {}
    return {"anyOf": [plain, {"$ref": "#/$defs/source"}], **text}


_NUMBERS = {int: "integer", float: "number"}
_PLAIN = {bool: "boolean", str: "string"}


def _number(kind: str, meta: msgspec.Meta | None) -> Schema:
    text = {"type": "string", "description": "a number with its unit, such as 8k or 3.35 TB/s"}
    return {"anyOf": [{"type": kind} | _bounds(meta), text, {"$ref": "#/$defs/source"}]}
