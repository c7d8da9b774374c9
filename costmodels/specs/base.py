"""The base of every description: frozen, and checked field by field however it is made."""

from collections.abc import Mapping
from enum import Enum, EnumMeta
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec

from costmodels.errors import SpecError, not_found_message
from costmodels.quantities import Source


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen description whose fields are checked when it is made.

    Raises
    ------
    SpecError
        If a field has the wrong type or lies outside its bounds.
    """

    section: ClassVar[str]

    def __post_init__(self) -> None:
        """Check every field against its declaration, and hold it as the declared type."""
        for name, declared in field_types(type(self)).items():
            value = check_field(f"{self.section}.{name}", getattr(self, name), declared)
            msgspec.structs.force_setattr(self, name, value)


class SourcedSpec(Spec, frozen=True, kw_only=True):
    """A description whose fields may carry where their values come from.

    Attributes
    ----------
    sources : dict of str to Source
        Source of a field by its name, ``peak_flop_per_s.bf16`` for a member of a table.
    """

    sources: dict[str, Source] = {}


@cache
def field_types(description: type[Spec]) -> dict[str, Any]:
    """Return the declared type of every field, with its bounds."""
    hints = get_type_hints(description, include_extras=True)
    return {name: hints[name] for name in description.__struct_fields__}


def declaration(declared: Any) -> msgspec.Meta | None:
    """Return the `Meta` of a declared type, None for a field without."""
    for argument in getattr(declared, "__metadata__", ()):
        if isinstance(argument, msgspec.Meta):
            return argument
    if type(None) in get_args(declared):
        return declaration(get_args(declared)[0])
    return None


def plain_type(declared: Any) -> Any:
    """Return a declared type without its `Meta`, and without ``None``."""
    if hasattr(declared, "__metadata__"):
        return plain_type(declared.__origin__)
    members = [member for member in get_args(declared) if member is not type(None)]
    if type(None) in get_args(declared) and len(members) == 1:
        return plain_type(members[0])
    return declared


def choices(kind: Any) -> list[str]:
    """Return the values of an enumeration, as scenarios write them."""
    return [str(member.value) for member in list(kind)]


def check_field(path: str, value: object, declared: Any) -> Any:
    """Return `value` as its declaration asks for: 700 as 700.0, ``full`` as a member of a choice.

    Raises
    ------
    SpecError
        Naming the field, the value and what would be valid.
    """
    try:
        return msgspec.convert(value, declared)
    except msgspec.ValidationError:
        kind = plain_type(declared)
        if isinstance(kind, EnumMeta) and isinstance(value, str):
            message = not_found_message(what=path, name=value, known=_choices(kind))
        else:
            message = f"{path} ({_shown(value)}): expected {expectation(declared)}"
        raise SpecError(message) from None


def _choices(kind: EnumMeta) -> list[str]:
    members: Mapping[str, Enum] = kind.__members__
    return [str(member.value) for member in members.values()]


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_tagged(kind: Any) -> bool:
    """Return whether a type is a union of descriptions, told apart by their tag."""
    members = get_args(kind)
    return bool(members) and all(
        isinstance(each, type) and issubclass(each, msgspec.Struct) for each in members
    )


def _tag(description: type[msgspec.Struct]) -> str:
    return str(description.__struct_config__.tag)


_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def expectation(declared: Any) -> str:
    """Return in words what a declared type accepts.

    Examples
    --------
    >>> expectation(float)
    'a number'
    """
    kind, meta = plain_type(declared), declaration(declared)
    if isinstance(kind, EnumMeta):
        return "one of " + ", ".join(_choices(kind))
    if get_origin(kind) is tuple:
        return f"a list, each member {expectation(get_args(kind)[0])}"
    if _is_tagged(kind):
        tables = (f"{_tag(each)} ({', '.join(each.__struct_fields__)})" for each in get_args(kind))
        return f"a table whose type is one of {', '.join(tables)}"
    words = _TYPES.get(kind, "a table")
    if meta is None:
        return words
    bounds = [
        f"{said} {limit:,}"
        for said, limit in (
            ("at least", meta.ge),
            ("above", meta.gt),
            ("at most", meta.le),
            ("below", meta.lt),
        )
        if limit is not None
    ]
    return words + (", " + ", ".join(bounds) if bounds else "")
