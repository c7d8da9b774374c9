"""A commented scenario file, from the declarations of its fields."""

from enum import EnumMeta
from typing import Any

import msgspec

from costmodels.errors import UnitError
from costmodels.presets import preset_names, preset_table
from costmodels.scenario import DEFAULT_PRECISION
from costmodels.specs.base import Spec, choices, declaration, expectation, field_types, plain_type
from costmodels.specs.plan import Plan
from costmodels.specs.workload import Workload
from costmodels.units import parse_quantity

# What makes the default scenario fit, and shows how a length is written.
_STATED: dict[str, Any] = {
    "sequence_length": "8k",
    "zero_stage": 1,
    "recompute": "full",
}

_LENGTH = 8192
_BATCH = 64


def _recipe(cluster: str) -> str:
    """Return the default recipe, or the first whose compute format the accelerator has."""
    peaks = preset_table("cluster", cluster.partition(":")[0])["accelerator"]["peak_flop_per_s"]
    recipes = (DEFAULT_PRECISION, *preset_names("precision"))
    able = (name for name in recipes if preset_table("precision", name)["compute"] in peaks)
    return next(able, DEFAULT_PRECISION)


def _batch(cluster: str) -> int:
    """Return a batch near the usual one that every number of replicas divides."""
    try:
        count = parse_quantity(cluster.partition(":")[2], "count")
    except UnitError:
        return _BATCH
    if not isinstance(count, int) or count < 1:
        return _BATCH
    return count * max(1, (_BATCH + count // 2) // count)


def scenario_template(
    *,
    model: str,
    longest: int,
    cluster: str,
    precision: str | None = None,
    predicts: bool = False,
) -> str:
    """Return a scenario file with every field of plan and workload, commented.

    Parameters
    ----------
    model, cluster, precision : str
        Presets to start from, or a model's file; a cluster with its number of accelerators. Without
        a precision, a recipe whose products the accelerator has a peak for.
    longest : int
        Longest sequence of the model [token].
    predicts : bool
        Whether it has layers that predict further tokens, which are not modelled yet.
    """
    if precision is None:
        precision = _recipe(cluster)
    lines = [
        "# A Shardwise scenario. Run it: shardwise estimate scenario.toml",
        "# Numbers may have units: 8k, 80 GB, 3.35 TB/s. Any field of a preset can be changed by",
        "# a table, such as [model] preset = ... and num_hidden_layers = 16.",
        "",
        f"# models: {', '.join(preset_names('model'))}",
        *_model_lines(model, predicts=predicts),
        "",
        f"# clusters, with the number of accelerators: {', '.join(preset_names('cluster'))}",
        f'cluster = "{cluster}"',
        "",
        f"# precision recipes: {', '.join(preset_names('precision'))}",
        f'precision = "{precision}"',
    ]
    stated = _STATED | {"global_batch_size": _batch(cluster)}
    if longest < _LENGTH:
        stated["sequence_length"] = longest
    for section, description in (("workload", Workload), ("plan", Plan)):
        lines += ["", f"[{section}]"]
        fields = msgspec.structs.fields(description)
        for field in fields:
            value = stated.get(field.name, field.default)
            lines += _field_lines(description, field.name, value)
    return "\n".join(lines) + "\n"


def _model_lines(model: str, *, predicts: bool) -> list[str]:
    if not predicts:
        return [f'model = "{model}"']
    return [
        "# (layers that predict further tokens are not modelled yet: the model without them)",
        f'model = {{ preset = "{model}", multi_token_prediction_layers = 0 }}',
    ]


def _field_lines(description: type[Spec], name: str, value: Any) -> list[str]:
    declared = field_types(description)[name]
    meta = declaration(declared)
    text = (meta.description if meta else None) or ""
    comment = f"# {text}: {_allowed(declared)}"
    if value is None:
        return ["", comment, f"# {name} ="]
    return ["", comment, f"{name} = {_toml(value)}"]


def _allowed(declared: Any) -> str:
    kind = plain_type(declared)
    if isinstance(kind, EnumMeta):
        return ", ".join(choices(kind))
    return expectation(declared)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(member) for member in value) + "]"
    return f'"{value}"'
