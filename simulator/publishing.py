"""From evaluated columns to the groups of an answer, with what each number rests on."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from costmodels.analysis import CATALOGUE, inputs_of
from costmodels.compilation import Columns
from costmodels.leaves import SECTIONS, field_value, leaves, peak_path, value_at, wide_peak_path
from costmodels.presets import model_preset, preset_names
from costmodels.quantities import Basis, Source, weakest
from costmodels.scenario import Scenario
from costmodels.specs.base import SourcedSpec, Spec
from costmodels.specs.model import Model
from simulator.answer import Assumption

UNSOURCED = Source(basis=Basis.ASSUMED, source="stated in the scenario, without a source")
_DECISIONS = ("cluster.accelerator_count",)


def option_of(name: str, schedule: str) -> str | None:
    """Return which variant of a quantity a plan uses, None where there is only one."""
    return schedule if CATALOGUE[name].selector == "schedule" else None


@lru_cache(maxsize=1024)
def reached(name: str, schedule: str) -> frozenset[str]:
    """Return every quantity and input that a quantity is derived from, itself included."""
    if name not in CATALOGUE:
        return frozenset((name,))
    needed = inputs_of(name, option_of(name, schedule))
    return frozenset((name,)).union(*(reached(entry, schedule) for entry in needed))


def available(columns: Columns) -> tuple[str, ...]:
    """Return the published quantities whose inputs are all there, in the catalogue's order."""
    known = leaves().keys() - columns.values.keys()
    return tuple(
        name
        for name, entry in CATALOGUE.items()
        if entry.group and not reached(name, columns.schedule) & known
    )


def scalar(value: Any) -> Any:
    """Return the only row of a column as a builtin number."""
    return np.asarray(value).reshape(-1)[0].item()


def by_stage(value: Any, axes: tuple[str, ...], classes: tuple[int, ...]) -> Any:
    """Return a value along its axes as lists, classes of stages spread out to stages."""
    if not axes:
        return scalar(value)
    if axes[0] == "stage":
        return [by_stage(value[index], axes[1:], classes) for index in classes]
    return [by_stage(member, axes[1:], classes) for member in value]


def source_of(scenario: Scenario, leaf: str) -> Source:
    """Return where an input of the closed forms comes from."""
    path = leaf_path(scenario, leaf)
    if path.startswith("model."):
        return _source_in_model(scenario, leaf, path)
    left_out = leaf in _REPLACED and not _stated(scenario, path)
    if not path.startswith("cluster.") or path in _DECISIONS or left_out:
        return Source(basis=Basis.EXACT, source=_origin(scenario, leaf, path))
    holder: SourcedSpec = scenario.cluster
    parts = path.split(".")[1:]
    if len(parts) > 1:
        holder, parts = getattr(holder, parts[0]), parts[1:]
    if path in _DEFAULTS and field_value(scenario, path) == _DEFAULTS[path].value:
        return holder.sources.get(".".join(parts), _DEFAULTS[path].source)
    return holder.sources.get(".".join(parts), UNSOURCED)


class _Default(NamedTuple):
    """A value that a description has where nothing is stated, and why."""

    value: float
    source: Source


_DEFAULTS = {
    "cluster.network.oversubscription_ratio": _Default(
        1.0, Source(basis=Basis.ASSUMED, source="the default: a fabric without oversubscription")
    )
}


def _source_in_model(scenario: Scenario, leaf: str, path: str) -> Source:
    """Return where an input that describes the model comes from.

    Layers of each kind follow from how many there are, and from their layouts.
    """
    model = scenario.model
    field = "num_hidden_layers" if leaf == "kind_layer_count" else path.removeprefix("model.")
    holder: SourcedSpec | None = model
    if field.startswith("mixture."):
        holder, field = model.mixture, field.removeprefix("mixture.")
    if holder is not None and field in holder.sources:
        own = holder.sources[field]
        # What its authors state defines a model.
        exact = own.basis is Basis.DATASHEET
        return Source(basis=Basis.EXACT, source=own.source) if exact else own
    origin = _origin(scenario, leaf, path)
    if model.source is None or holder is None or not origin.startswith("stated"):
        return Source(basis=Basis.EXACT, source=origin)
    return Source(basis=Basis.EXACT, source=_model_origin(model, path))


def _model_origin(model: Model, path: str) -> str:
    """Return the document of a model's value, or that the scenario changed it."""
    if model.name not in preset_names("model"):
        return f"{model.source}, unless the scenario changes it"
    parts = path.split(".")[1:]
    same = value_at(_preset(model.name), parts) == value_at(model, parts)
    return str(model.source) if same else "stated in the scenario"


@lru_cache(maxsize=64)
def _preset(name: str) -> Model:
    return model_preset(name)


def _origin(scenario: Scenario, leaf: str, path: str) -> str:
    """Return where an input comes from that needs no source: a statement, or what replaces one."""
    if path.startswith("model.mixture") and scenario.model.mixture is None:
        return "no mixture: one expert"
    if leaf in _REPLACED:
        return _REPLACED[leaf] if not _stated(scenario, path) else "stated in the scenario"
    if path == "plan.layers_per_stage":
        if scenario.plan.layers_per_stage is None:
            return "derived: layers balanced, the ends counting as one each"
        return "derived from plan.layers_per_stage"
    if not _stated(scenario, path):
        return f"{path} is left out: none is kept"
    default = _default(path)
    same = ", or left at its default" if default == field_value(scenario, path) else ""
    return f"stated in the scenario{same}"


def _default(path: str) -> Any:
    section, _, name = path.partition(".")
    return _defaults(SECTIONS[section]).get(name, msgspec.NODEFAULT)


@lru_cache(maxsize=16)
def _defaults(description: type[Spec]) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(description)}


def _stated(scenario: Scenario, path: str) -> bool:
    return field_value(scenario, path) is not None


_REPLACED = {
    "stated_data_parallel_size": "not stated: derived from the number of accelerators",
    "stated_expert_tensor_parallel_size": "not stated: as many as share each matrix",
    "stated_capacity_factor": "not stated: no token is dropped",
    "stated_sharding_group_size": "not stated: all that hold the same weights",
    "stated_host_bytes_per_s": "not stated: nothing can lie on the host",
    "stated_stage_count": "not stated: layers are balanced",
    "stated_layer_count": "not stated: layers are balanced",
    "expert_intermediate_size": "not stated: experts are as wide as model.intermediate_size",
}


def leaf_path(scenario: Scenario, leaf: str) -> str:
    """Return the field that an input comes from, with the format whose peak is used."""
    if leaf == "wide_peak_flop_per_s":
        return wide_peak_path(scenario)
    return peak_path(scenario) if leaf == "peak_flop_per_s" else leaves()[leaf].path


@lru_cache(maxsize=1024)
def _origins(name: str, schedule: str) -> tuple[Basis, tuple[str, ...]]:
    """Return the weakest basis of the formulas behind a quantity, and the inputs behind it."""
    found = reached(name, schedule)
    formulas = weakest([CATALOGUE[entry].basis for entry in found if entry in CATALOGUE])
    return formulas, tuple(sorted(found - CATALOGUE.keys()))


def basis_of(scenario: Scenario, name: str) -> Basis:
    """Return the weakest basis of a quantity's formulas and inputs."""
    formulas, inputs = _origins(name, scenario.plan.schedule.value)
    return weakest([formulas, *{source_of(scenario, entry).basis for entry in inputs}])


def assumptions(scenario: Scenario, published: Iterable[str]) -> tuple[Assumption, ...]:
    """Return every input that is no plain statement, the weakest first."""
    schedule = scenario.plan.schedule.value
    names: set[str] = set().union(*(reached(name, schedule) for name in published))
    found = []
    # Two inputs may be one field: the peaks of narrow and of wide products.
    by_path = {leaf_path(scenario, leaf): leaf for leaf in sorted(names & leaves().keys())}
    for path, leaf in by_path.items():
        source = source_of(scenario, leaf)
        if source.basis is Basis.EXACT:
            continue
        value = field_value(scenario, leaves()[leaf].path)
        if isinstance(value, dict):
            value = value[path.rsplit(".", 1)[1]]
        if not isinstance(value, int | float):
            value = str(getattr(value, "value", value))
        found.append(
            Assumption(
                field=path,
                value=value,
                unit=leaves()[leaf].unit,
                basis=source.basis,
                source=source.source,
            )
        )
    found.sort(key=lambda entry: (-entry.basis.weakness, entry.field))
    return tuple(found)
