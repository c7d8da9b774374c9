"""Descriptions from and to tables: what a TOML or JSON file, a flag or a form states.

Text is read as people write it: ``8k``, ``80 GB``, ``true``. A value with its source is a table
``{ value = ..., basis = ..., source = ... }``.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from costmodels.errors import SpecError, UnitError, not_found_message
from costmodels.quantities import Basis, Source
from costmodels.specs.base import SourcedSpec, Spec, check_field, field_types, plain_type
from costmodels.units import parse_quantity, unit_of_field

AnySpec = TypeVar("AnySpec", bound=Spec)
Table = dict[str, Any]

_NONE = ("none", "None", "null", "")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def is_sourced_value(value: object) -> bool:
    """Return whether a table states one value with its source."""
    return (
        isinstance(value, dict) and "value" in value and set(value) <= {"value", "basis", "source"}
    )


def merged(base: Table, changes: Table) -> Table:
    """Return a table with the entries of another in place of its own, nested tables merged.

    Examples
    --------
    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        whole = is_sourced_value(old) or is_sourced_value(value)
        if isinstance(old, dict) and isinstance(value, dict) and not whole:
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def build(description: type[AnySpec], table: object, path: str) -> AnySpec:
    """Return the description that a table states.

    Parameters
    ----------
    description : type
        What to make.
    table : object
        Fields and their values.
    path : str
        Where the table stands, for messages.

    Raises
    ------
    SpecError
        If a field is unknown, missing, or not what its declaration asks for.
    """
    if not isinstance(table, dict):
        raise SpecError(f"{path} ({str(table)[:60]!r}): expected a table of fields")
    types = field_types(description)
    known = [name for name in types if name != "sources"]
    for key in table:
        if key not in known:
            raise SpecError(
                not_found_message(what=f"field of {path}", name=str(key)[:60], known=known)
            )
    sources: dict[str, Source] = {}
    values: dict[str, Any] = {}
    for name, value in table.items():
        values[name] = _read(value, types[name], f"{path}.{name}", name, sources)
    missing = [
        field.name
        for field in msgspec.structs.fields(description)
        if field.required and field.name not in values
    ]
    if missing:
        raise SpecError(f"{path}.{missing[0]}: is missing; expected a value")
    if issubclass(description, SourcedSpec):
        values["sources"] = sources
    elif sources:
        raise SpecError(
            f"{path}.{next(iter(sources))}: expected a plain value; sources are kept for the "
            "fields of the cluster"
        )
    return description(**values)


def _read(value: Any, declared: Any, path: str, name: str, sources: dict[str, Source]) -> Any:
    kind = plain_type(declared)
    if isinstance(kind, type) and issubclass(kind, Spec):
        absent = value is None or (isinstance(value, str) and value in _NONE)
        return None if absent and kind is not declared else build(kind, value, path)
    if get_origin(kind) is dict:
        return _read_dict(value, kind, path, name, sources)
    if is_sourced_value(value):
        sources[name] = _source(value, path)
        value = value["value"]
    if isinstance(value, str):
        value = _read_text(value, declared, path, name)
    return check_field(path, value, declared)


def _read_dict(
    value: Any, kind: Any, path: str, name: str, sources: dict[str, Source]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecError(f"{path} ({str(value)[:60]!r}): expected a table")
    member = get_args(kind)[1]
    result: dict[str, Any] = {}
    for key, entry in value.items():
        if is_sourced_value(entry):
            sources[f"{name}.{key}"] = _source(entry, f"{path}.{key}")
            entry = entry["value"]
        if isinstance(entry, str):
            entry = _read_text(entry, member, f"{path}.{key}", name)
        result[str(key)] = check_field(f"{path}.{key}", entry, member)
    return result


def _source(value: Table, path: str) -> Source:
    for part, kind in (("basis", Basis), ("source", str)):
        if part not in value:
            raise SpecError(f"{path}.{part}: is missing; a value with a source states both")
        check_field(f"{path}.{part}", value[part], kind)
    return Source(basis=Basis(value["basis"]), source=value["source"])


def _read_text(text: str, declared: Any, path: str, name: str) -> Any:
    """Return what a text means for a field that is no text, the text itself elsewhere."""
    kind = plain_type(declared)
    if text in _NONE and kind is not declared and type(None) in _members(declared):
        return None
    if kind is bool:
        return _TRUTH.get(text.lower(), text)
    if kind in (int, float):
        try:
            number = parse_quantity(text, unit_of_field(name))
        except UnitError as error:
            raise SpecError(f"{path}: {error}") from None
        return number
    if get_origin(kind) is tuple:
        member = get_args(kind)[0]
        parts = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
        return [_read_text(part, member, path, name) for part in parts]
    return text


def _members(declared: Any) -> tuple[Any, ...]:
    origin = getattr(declared, "__origin__", None)
    if hasattr(declared, "__metadata__"):
        return _members(origin)
    return get_args(declared)


def to_table(spec: Spec) -> Table:
    """Return the table that states a description, with the sources of its values.

    Parameters
    ----------
    spec : Spec
        Any description.

    Returns
    -------
    dict
        Text, numbers, truths, lists and tables; absent fields are left out.
    """
    sources: Mapping[str, Source] = getattr(spec, "sources", {})
    table: Table = {}
    for name in field_types(type(spec)):
        value = getattr(spec, name)
        if value is None or name == "sources":
            continue
        if isinstance(value, dict):
            table[name] = {
                key: _with_source(entry, sources.get(f"{name}.{key}"))
                for key, entry in value.items()
            }
        elif isinstance(value, Spec):
            table[name] = to_table(value)
        else:
            table[name] = _with_source(_plain(value), sources.get(name))
    return table


def _with_source(value: Any, source: Source | None) -> Any:
    if source is None:
        return value
    return {"value": value, "basis": source.basis.value, "source": source.source}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return value
