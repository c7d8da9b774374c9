"""Tables of what scenarios can name."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_model
from costmodels.errors import SpecError, not_found_message
from costmodels.formats import FORMATS
from costmodels.number_formats.layouts import stored_formats
from costmodels.number_formats.scalars import scalar_formats
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.presets import model_preset, preset_names, preset_table
from costmodels.specs.base import Spec
from costmodels.specs.cluster import Accelerator, Cluster
from costmodels.specs.layouts import type_of
from costmodels.specs.precision import STORED_ROLES
from costmodels.specs.tables import build
from costmodels.units import format_bytes, format_count, format_rate, format_usd
from costmodels.weight_storage import weight_recipes


class Listing(NamedTuple):
    """A table for people."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[dict[str, Any], ...] = ()

    def as_records(self) -> tuple[dict[str, Any], ...]:
        """Return the rows for programs: in base units where they hold numbers."""
        if self.records:
            return self.records
        return tuple(dict(zip(self.columns, row, strict=True)) for row in self.rows)


def listing(what: str, words: Sequence[str] = ()) -> Listing:
    """Return the table of what there is of a kind.

    Parameters
    ----------
    what : str
        Kind.
    words : sequence of str
        Words that each row must hold, whatever their case.

    Raises
    ------
    SpecError
        If there is no such kind.
    """
    if what not in _LISTINGS:
        raise SpecError(not_found_message(what="list", name=what, known=_LISTINGS))
    table = _LISTINGS[what]()
    kept = [
        index
        for index, row in enumerate(table.rows)
        if all(word.lower() in " ".join(row).lower() for word in words)
    ]
    return table._replace(
        rows=tuple(table.rows[index] for index in kept),
        records=tuple(table.records[index] for index in kept) if table.records else (),
    )


def _models() -> Listing:
    rows, records = [], []
    for name in preset_names("model"):
        model = model_preset(name)
        values = evaluate(compile_model(model), ("total_parameters", "active_parameters"))
        total, active = (int(values[key][0]) for key in values)
        records.append(_record(name, model, total_parameters=total, active_parameters=active))
        mixture = model.mixture
        experts = f"{mixture.experts_per_token} of {mixture.expert_count}" if mixture else ""
        layouts = dict.fromkeys(map(type_of, model.layouts))
        rows.append(
            (
                name,
                format_count(total),
                format_count(active) if active != total else "",
                str(model.num_hidden_layers),
                str(model.hidden_size),
                f"{model.num_attention_heads}/{model.num_key_value_heads}",
                str(model.intermediate_size),
                f"{model.vocabulary_size:,}",
                experts,
                ", ".join(layouts),
            )
        )
    columns = (
        *("name", "parameters", "active", "layers", "hidden", "heads/KV", "FFN", "vocabulary"),
        *("experts", "attention"),
    )
    return Listing("Models (--model NAME)", columns, tuple(rows), tuple(records))


def _accelerators() -> Listing:
    rows, records = [], []
    for name in preset_names("accelerator"):
        entry = build(Accelerator, preset_table("accelerator", name), "accelerator")
        records.append(_record(name, entry))
        price = entry.price_usd_per_s
        peaks = ", ".join(
            f"{key} {format_rate(value, 'FLOP/s')}" for key, value in entry.peak_flop_per_s.items()
        )
        rows.append(
            (
                name,
                entry.name,
                format_bytes(entry.memory_bytes),
                format_rate(entry.memory_bandwidth_bytes_per_s, "B/s"),
                peaks,
                f"{entry.power_w:g} W",
                "" if price is None else f"{format_usd(price * 3600)}/h",
            )
        )
    columns = ("name", "accelerator", "memory", "bandwidth", "dense peak", "power", "price")
    title = "Accelerators (--cluster NAME:N, or cluster.accelerator = NAME)"
    return Listing(title, columns, tuple(rows), tuple(records))


def _clusters() -> Listing:
    rows, records = [], []
    for name in preset_names("cluster"):
        table = preset_table("cluster", name) | {"accelerator_count": 1}
        entry = build(Cluster, table, "cluster")
        record = _record(name, entry)
        record.pop("accelerator_count")
        records.append(record)
        rows.append(
            (
                name,
                entry.accelerator.name,
                str(entry.accelerators_per_node),
                format_rate(entry.scale_up.bandwidth_bytes_per_s, "B/s"),
                format_rate(entry.network.bandwidth_bytes_per_s, "B/s"),
                f"{entry.host_power_w:g} W",
            )
        )
    columns = ("name", "accelerator", "in a node", "scale-up", "network", "host power")
    title = "Clusters (--cluster NAME:N); bandwidths of one accelerator in one direction"
    return Listing(title, columns, tuple(rows), tuple(records))


def _record(name: str, spec: Spec, **counted: int) -> dict[str, Any]:
    """Return a description for programs: its preset, what follows from it, and its fields."""
    fields = {
        field: msgspec.to_builtins(getattr(spec, field))
        for field in spec.__struct_fields__
        if field != "sources"
    }
    return {"preset": name, **counted, **_without_sources(fields)}


def _without_sources(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_sources(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key != "sources"
    }


def _plans() -> Listing:
    tables = {name: preset_table("plan", name) for name in preset_names("plan")}
    fields = tuple(dict.fromkeys(field for table in tables.values() for field in table))
    rows = tuple(
        (name, *(_stated(table.get(field, "-")) for field in fields))
        for name, table in tables.items()
    )
    return Listing("Plans of frameworks (--plan NAME)", ("name", *fields), rows)


def _stated(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _precisions() -> Listing:
    columns = ("name", "compute", *STORED_ROLES, "kv_cache", "stored_weights", "adapters")
    rows = []
    for name in preset_names("precision"):
        table = preset_table("precision", name)
        if "adapters" in table:
            table["adapters"] = f"rank {table['adapters']['rank']}"
        rows.append((name, *(str(table.get(role, "-")) for role in columns[1:])))
    return Listing("Precision recipes (--precision NAME)", columns, tuple(rows))


def _formats() -> Listing:
    scalars = scalar_formats()
    rows = tuple(
        (
            name,
            scalars[name].description if name in scalars else entry.description,
            _roles(name),
            entry.library,
            entry.source,
        )
        for name, entry in stored_formats().items()
    )
    columns = ("name", "layout", "roles of a recipe", "library", "source")
    return Listing("Number formats (format --as, sqnr --as)", columns, rows)


def _roles(name: str) -> str:
    entry = FORMATS.get(name)
    if entry is None:
        return ""
    return ", ".join(sorted(entry.roles)) or ("all" if entry.stored else "compute")


def _storages() -> Listing:
    rows = tuple(
        (name, entry.description, entry.source) for name, entry in weight_recipes().items()
    )
    title = "Storages of weights (precision.stored_weights, memory --compare-formats --storages)"
    return Listing(title, ("name", "what is stored how", "source"), rows)


def _schedules() -> Listing:
    rows = tuple(
        (name.value, entry.description, entry.requirement, entry.source)
        for name, entry in SCHEDULES.items()
    )
    columns = ("name", "what it does", "where it exists", "source")
    return Listing("Pipeline schedules (--schedule NAME)", columns, rows)


def _quantities() -> Listing:
    rows = tuple(
        (f"{entry.group}.{entry.name}", entry.unit, entry.scope.value, entry.definition)
        for entry in CATALOGUE.values()
        if entry.group
    )
    return Listing("Published quantities", ("name", "unit", "scope", "definition"), rows)


_LISTINGS = {
    "models": _models,
    "accelerators": _accelerators,
    "clusters": _clusters,
    "plans": _plans,
    "precisions": _precisions,
    "formats": _formats,
    "storages": _storages,
    "schedules": _schedules,
    "quantities": _quantities,
}
