"""Presets: descriptions of models, clusters and precision recipes, as data files with sources."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from costmodels.errors import PresetNotFoundError, not_found_message
from costmodels.specs.model import Model
from costmodels.specs.tables import build, merged

FOLDERS: Mapping[str, str] = MappingProxyType(
    {"model": "models", "cluster": "clusters", "plan": "plans", "precision": "precisions"}
)
"""Sections of a scenario that have presets, and the folder of each."""

_ALL_FOLDERS = {**FOLDERS, "accelerator": "accelerators"}
_NESTED = 8
"""Presets that may build on one another."""


@lru_cache(maxsize=8)
def preset_names(section: str) -> tuple[str, ...]:
    """Return the names of a section's presets, or of the accelerators, sorted."""
    folder = resources.files(__name__) / "data" / _ALL_FOLDERS[section]
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def preset_table(section: str, name: str) -> dict[str, Any]:
    """Return the table of a preset, as a scenario file would state it.

    A preset may build on another of its kind, and a cluster names its accelerator: both are filled
    in.

    Raises
    ------
    PresetNotFoundError
        If there is none of this name; the message suggests the nearest.
    """
    table = _stated_table(section, name)
    return with_accelerator(table) if section == "cluster" else table


def model_preset(name: str) -> Model:
    """Return the model of a preset.

    Raises
    ------
    PresetNotFoundError
        If there is none of this name.
    """
    return build(Model, preset_table("model", name), "model")


def with_accelerator(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return a cluster's table, the accelerator that it names filled in.

    Parameters
    ----------
    cluster : dict
        Its entry ``accelerator`` is a name, a table with the key ``preset`` and what differs, or a
        whole table.

    Raises
    ------
    PresetNotFoundError
        If no accelerator has this name.
    """
    entry = cluster.get("accelerator")
    if isinstance(entry, str):
        entry = {"preset": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("preset"), str):
        return cluster
    changes = {key: value for key, value in entry.items() if key != "preset"}
    table = merged(preset_table("accelerator", entry["preset"]), changes)
    return cluster | {"accelerator": table}


def _stated_table(section: str, name: str, depth: int = 0) -> dict[str, Any]:
    """Return the table of a preset's file, what it builds on filled in."""
    if name not in preset_names(section) or depth > _NESTED:
        known = preset_names(section)
        raise PresetNotFoundError(not_found_message(what=section, name=name, known=known))
    table = tomllib.loads(preset_text(section, name))
    base = table.pop("preset", None)
    return table if base is None else merged(_stated_table(section, base, depth + 1), table)


def preset_text(section: str, name: str) -> str:
    """Return the text of a preset's file, with the comments that hold its sources."""
    path = resources.files(__name__) / "data" / _ALL_FOLDERS[section] / f"{name}.toml"
    return path.read_text(encoding="utf-8")
