"""Scenarios that tests of simulator and command line start from: the files of the golden answers, and more."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from costmodels.scenario import Scenario, scenario_from_toml

FOLDER = Path(__file__).parents[1] / "golden" / "scenarios"

MORE = Path(__file__).parent / "scenarios"

EXAMPLE = "llama-405b-example"
"""The README's main job."""

FILES: Mapping[str, Path] = MappingProxyType(
    {path.stem: path for folder in (FOLDER, MORE) for path in sorted(folder.glob("*.toml"))}
)
"""Every witness by name."""


@cache
def witness(name: str) -> Scenario:
    """Return the scenario of a file."""
    return scenario_from_toml(FILES[name].read_text(encoding="utf-8"))
