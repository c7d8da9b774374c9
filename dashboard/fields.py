"""The fields that a scenario bar offers, from the declarations of the descriptions alone."""

from collections.abc import Iterator
from enum import EnumMeta
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from costmodels.leaves import SECTIONS, field_value
from costmodels.presets import FOLDERS, preset_names
from costmodels.scenario import Scenario
from costmodels.specs.base import Spec, choices, declaration, expectation, field_types, plain_type
from costmodels.units import format_named, format_short_count, unit_of_field

MICROBATCHES = "microbatches"
"""Name of a count that states the sequences of a step as microbatches of each replica."""

_UNITS = {
    "bytes": "bytes",
    "bytes_per_s": "bytes/s",
    "flop_per_s": "FLOP/s",
    "usd_per_s": "USD/h",
    "s": "s",
    "w": "W",
    "fraction": "%",
}
_TRUTHS = ("true", "false")
_FIRST = (
    *("model", "cluster", "cluster.accelerator_count", "precision"),
    *("workload.global_batch_size", "workload.sequence_length", "workload.total_tokens"),
    *("plan.tensor_parallel_size", "plan.sequence_parallel"),
    *("plan.pipeline_parallel_size", "plan.virtual_stages", "plan.schedule"),
    *("plan.micro_batch_size", "plan.zero_stage", "plan.recompute"),
)
"""Fields that are always in view, in their order; all others open below."""


class Field(NamedTuple):
    """A field of a scenario, as a form shows it.

    Attributes
    ----------
    path : str
        Field, such as ``plan.zero_stage``, or a section that has presets.
    label : str
        What it is called in a form.
    definition : str
        One line.
    allowed : str
        What would be valid, in words.
    unit : str
        Unit of the number, empty for counts and choices.
    options : tuple of str
        Values to choose from, none where a text states the value.
    """

    path: str
    label: str
    definition: str
    allowed: str
    unit: str
    options: tuple[str, ...]

    @property
    def section(self) -> str:
        """Return the section of the scenario."""
        return self.path.partition(".")[0]


@cache
def fields() -> tuple[Field, ...]:
    """Return every field that a form can state: presets first, then as they are declared."""
    # A plan is not known by its name: the preset that it came from is lost once fields differ.
    found = [_preset(name) for name in SECTIONS if name in FOLDERS and name != "plan"]
    found.append(
        Field(
            MICROBATCHES,
            "microbatches",
            "microbatches of each replica: states the sequences of a step",
            "a whole number, at least 1; the sequences of a step left out",
            "",
            (),
        )
    )
    for section, description in SECTIONS.items():
        found.extend(_fields_of(description, section))
    return tuple(found)


@cache
def field_named(path: str) -> Field:
    """Return a field by its path."""
    return next(field for field in fields() if field.path == path)


def first_fields() -> tuple[Field, ...]:
    """Return the fields that are always in view."""
    known = {field.path: field for field in fields()}
    return tuple(known[path] for path in _FIRST if path in known)


def other_fields() -> dict[str, list[Field]]:
    """Return all other fields by section."""
    found: dict[str, list[Field]] = {}
    for field in fields():
        if field.path not in _FIRST:
            section = "workload" if field.path == MICROBATCHES else field.section
            found.setdefault(section, []).append(field)
    return {section: found[section] for section in (*SECTIONS,) if section in found}


def shown_value(scenario: Scenario, path: str) -> str:
    """Return the value of a field in a scenario as people write it, and as it is read again."""
    if path == MICROBATCHES:
        return ""
    if path in FOLDERS:
        value = field_value(scenario, f"{path}.name")
        return str(value)
    value = field_value(scenario, path)
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(str(getattr(member, "value", member)) for member in value)
    name = path.rpartition(".")[2]
    if isinstance(value, int) and not isinstance(value, bool) and unit_of_field(name) == "count":
        return format_short_count(value)
    return format_named(name, getattr(value, "value", value))


def _preset(section: str) -> Field:
    names = preset_names(section)
    return Field(section, section, f"preset of the {section}", "one of the presets", "", names)


def _fields_of(description: type[Spec], path: str) -> Iterator[Field]:
    for name, declared in field_types(description).items():
        kind = plain_type(declared)
        if isinstance(kind, type) and issubclass(kind, Spec):
            yield from _fields_of(kind, f"{path}.{name}")
        elif name not in _NO_FIELDS and _is_plain(kind):
            meta = declaration(declared)
            yield Field(
                path=f"{path}.{name}",
                label=_label(path, name),
                definition=(meta.description if meta else None) or name.replace("_", " "),
                allowed=expectation(declared),
                unit=_UNITS.get(unit_of_field(name), ""),
                options=_options(kind),
            )


_NO_FIELDS = ("sources", "source", "notes")


def _is_plain(kind: Any) -> bool:
    """Return whether a text can state a value of a type: a number, a choice, a list of either."""
    if get_origin(kind) is tuple:
        return _is_plain(plain_type(get_args(kind)[0]))
    return isinstance(kind, EnumMeta) or kind in (int, float, str, bool)


def _options(kind: Any) -> tuple[str, ...]:
    if kind is bool:
        return _TRUTHS
    return tuple(choices(kind)) if isinstance(kind, EnumMeta) else ()


def _label(path: str, name: str) -> str:
    """Return a short name: units and words that the section says already are left out."""
    unit = unit_of_field(name)
    stem = name.removesuffix("_size")
    stem = f"{stem.removesuffix('_count')}s" if stem.endswith("_count") else stem
    stem = stem.removesuffix(f"_{unit}")
    words = stem.replace("num_", "").replace("_", " ")
    nested = path.split(".")[1:]
    return " ".join([*(part.replace("_", "-") for part in nested), words])
