"""Tables of what scenarios can name."""

from collections.abc import Sequence
from typing import NamedTuple

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_model
from costmodels.errors import SpecError, not_found_message
from costmodels.formats import FORMATS
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.presets import preset_names, preset_table
from costmodels.specs.cluster import Accelerator, Cluster
from costmodels.specs.model import Model
from costmodels.specs.precision import STORED_ROLES
from costmodels.specs.tables import build
from costmodels.units import format_bytes, format_count, format_rate, format_usd


class Listing(NamedTuple):
    """A table for people."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
    rows = tuple(
        row for row in table.rows if all(word.lower() in " ".join(row).lower() for word in words)
    )
    return table._replace(rows=rows)


def _models() -> Listing:
    rows = []
    for name in preset_names("model"):
        model = build(Model, preset_table("model", name), "model")
        values = evaluate(compile_model(model), ("total_parameters", "active_parameters"))
        total, active = (int(values[key][0]) for key in values)
        mixture = model.mixture
        experts = f"{mixture.experts_per_token} of {mixture.expert_count}" if mixture else ""
        layouts = dict.fromkeys(str(type(each).__struct_config__.tag) for each in model.layouts)
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
    return Listing("Models (--model NAME)", columns, tuple(rows))


def _accelerators() -> Listing:
    rows = []
    for name in preset_names("accelerator"):
        entry = build(Accelerator, preset_table("accelerator", name), "accelerator")
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
    return Listing(title, columns, tuple(rows))


def _clusters() -> Listing:
    rows = []
    for name in preset_names("cluster"):
        table = preset_table("cluster", name) | {"accelerator_count": 1}
        entry = build(Cluster, table, "cluster")
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
    return Listing(title, columns, tuple(rows))


def _precisions() -> Listing:
    columns = ("name", "compute", *STORED_ROLES)
    rows = []
    for name in preset_names("precision"):
        table = preset_table("precision", name)
        rows.append((name, *(str(table.get(role, "-")) for role in columns[1:])))
    return Listing("Precision recipes (--precision NAME)", columns, tuple(rows))


def _formats() -> Listing:
    rows = tuple((name, entry.description, entry.source) for name, entry in FORMATS.items())
    return Listing("Number formats", ("name", "layout", "source"), rows)


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
    "precisions": _precisions,
    "formats": _formats,
    "schedules": _schedules,
    "quantities": _quantities,
}
