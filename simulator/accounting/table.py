"""Quantities of one scenario, evaluated together and read by stage."""

from collections.abc import Sequence
from typing import Any

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import Columns, compile_columns
from costmodels.leaves import leaves
from costmodels.quantities import CHUNK, STAGE
from costmodels.scenario import Scenario, scenario_hash
from costmodels.version import VERSION
from simulator.answer import SCHEMA_VERSION
from simulator.publishing import by_stage, scalar
from simulator.training import classes_of


class Table:
    """Quantities of one scenario, evaluated together and read by stage."""

    def __init__(self, scenario: Scenario, *names: Sequence[str]) -> None:
        self.columns: Columns = compile_columns(scenario)
        wanted = dict.fromkeys(name for group in names for name in group)
        self._values = evaluate(self.columns, (*wanted, "microbatch_count"))
        self._classes = classes_of(scenario, scalar(self._values["microbatch_count"]))

    def one(self, name: str) -> Any:
        """Return a quantity without axes."""
        return scalar(self._values[name])

    def stages(self, name: str) -> list[Any]:
        """Return a quantity for each stage, the same for all where it has no such axis."""
        axes = _axes(name)
        value = by_stage(self._values[name], axes, self._classes)
        return list(value) if axes[:1] == (STAGE,) else [value] * len(self._classes)

    def kinds(self, name: str) -> list[int]:
        """Return a quantity for each kind of layer."""
        return [scalar(value) for value in self._values[name]]

    def numbers(self, name: str, chunk: int | None = None) -> list[float]:
        """Return a quantity for each stage as floats, of one chunk where it has some."""
        stages = self.stages(name)
        if chunk is not None and CHUNK in _axes(name):
            stages = [value[chunk] for value in stages]
        return [float(value) for value in stages]


def _axes(name: str) -> tuple[str, ...]:
    return CATALOGUE[name].axes if name in CATALOGUE else leaves()[name].axes


def definition_of(name: str) -> str:
    """Return the sentence that says what a quantity or an input is."""
    if name in CATALOGUE:
        return CATALOGUE[name].definition
    text = leaves()[name].definition
    return text[:1].upper() + text[1:] + "."


def identity(scenario: Scenario) -> dict[str, Any]:
    """Return the fields of an account that say of which scenario it is, and who computed it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "shardwise_version": VERSION,
        "scenario_hash": scenario_hash(scenario),
    }
