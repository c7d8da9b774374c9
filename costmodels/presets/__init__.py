"""Presets: descriptions of models, clusters and precision recipes, as data files with sources."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from costmodels.errors import PresetNotFoundError, not_found_message

FOLDERS: Mapping[str, str] = MappingProxyType(
    {"model": "models", "cluster": "clusters", "precision": "precisions"}
)
"""Sections of a scenario that have presets, and the folder of each."""


@lru_cache(maxsize=8)
def preset_names(section: str) -> tuple[str, ...]:
    """Return the names of a section's presets, sorted."""
    folder = resources.files(__name__) / "data" / FOLDERS[section]
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def preset_table(section: str, name: str) -> dict[str, Any]:
    """Return the table of a preset, as a scenario file would state it.

    Raises
    ------
    PresetNotFoundError
        If there is none of this name; the message suggests the nearest.
    """
    if name not in preset_names(section):
        known = preset_names(section)
        raise PresetNotFoundError(not_found_message(what=section, name=name, known=known))
    return tomllib.loads(preset_text(section, name))


def preset_text(section: str, name: str) -> str:
    """Return the text of a preset's file, with the comments that hold its sources."""
    path = resources.files(__name__) / "data" / FOLDERS[section] / f"{name}.toml"
    return path.read_text(encoding="utf-8")
