"""What a page shows, and its form in an address: what differs from the scenario it starts from."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from costmodels.analysis import evaluate
from costmodels.compilation import compile_fields
from costmodels.errors import SpecError, UnitError
from costmodels.scenario import Scenario, scenario_from_table, sections_from_table
from costmodels.units import parse_quantity
from dashboard.fields import MICROBATCHES
from simulator.publishing import scalar

DEFAULT: Mapping[str, Any] = {
    "model": "llama-3.1-405b",
    "cluster": "h100-sxm:16384",
    "plan": {
        "tensor_parallel_size": 8,
        "pipeline_parallel_size": 16,
        "sequence_parallel": True,
        "zero_stage": 1,
        "recompute": "full",
    },
    "workload": {"global_batch_size": 2048, "sequence_length": 8192, "total_tokens": "15.6T"},
}
"""The scenario that an address without any starts from."""

BASE = "scenario"
"""Key of an address: the saved scenario that it starts from."""

VIEW = "view."
"""How keys begin that say what a page shows of a scenario."""

LONGEST = 6000
"""Characters of an address, below what servers refuse."""

_LONGEST_VALUE = 500
_BATCH = "workload.global_batch_size"
_COUNT = "cluster.accelerator_count"


class State(NamedTuple):
    """What an address states.

    Attributes
    ----------
    base : str
        Saved scenario that it starts from, empty for the default.
    changes : tuple of (str, str)
        Fields that differ, and their values as people write them.
    view : tuple of (str, str)
        What a page shows of it.
    """

    base: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    view: tuple[tuple[str, str], ...] = ()

    def viewed(self, name: str, otherwise: str = "") -> str:
        """Return what is shown of one aspect."""
        return dict(self.view).get(name, otherwise)

    def changed(self, changes: Mapping[str, Any]) -> "State":
        """Return the state with further fields changed; an empty value takes a change back."""
        merged = dict(self.changes) | {path: plain_text(value) for path, value in changes.items()}
        if _BATCH in changes:
            merged.pop(MICROBATCHES, None)
        return self._replace(changes=tuple((path, text) for path, text in merged.items() if text))

    def seen(self, view: Mapping[str, Any]) -> "State":
        """Return the state with other things shown."""
        merged = dict(self.view) | {name: plain_text(value) for name, value in view.items()}
        return self._replace(view=tuple((name, text) for name, text in merged.items() if text))


def plain_text(value: object) -> str:
    """Return a value of a form or an address as text that can be shown and kept.

    Raises
    ------
    SpecError
        If it is no text, number or truth, or far too long.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise SpecError(f"a value ({str(value)[:60]!r}): expected a text or a number")
    text = str(value).encode("utf-8", "replace").decode()
    if len(text) > _LONGEST_VALUE:
        raise SpecError(f"a value ('{text[:40]}...'): expected at most {_LONGEST_VALUE} characters")
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()


def read_state(query: str | None) -> State:
    """Return what the query of an address states.

    Raises
    ------
    SpecError
        If it is far too long.
    """
    text = str(query or "").removeprefix("?")
    if len(text) > LONGEST:
        raise SpecError(
            f"the address has {len(text):,} characters, more than {LONGEST:,}; save the scenario "
            "and open it from there"
        )
    base, changes, view = "", {}, {}
    for key, value in parse_qsl(text, errors="replace", max_num_fields=500):
        name = plain_text(key)
        if name == BASE:
            base = plain_text(value)
        elif name.startswith(VIEW):
            view[name.removeprefix(VIEW)] = plain_text(value)
        else:
            changes[name] = plain_text(value)
    if _COUNT not in changes and ":" in changes.get("cluster", ""):
        # NAME:N, as the command line takes it; the form has a field for each.
        changes["cluster"], _, changes[_COUNT] = changes["cluster"].partition(":")
    return State(base, tuple(changes.items()), tuple(view.items()))


def query_of(state: State) -> str:
    """Return the query of the address that states this, empty for the default."""
    pairs = [(BASE, state.base)] if state.base else []
    pairs += state.changes
    pairs += [(VIEW + name, text) for name, text in state.view]
    return "?" + urlencode(pairs, safe=":,") if pairs else ""


def scenario_of(table: Mapping[str, Any], changes: tuple[tuple[str, str], ...]) -> Scenario:
    """Return the scenario that a table and the changes of an address state.

    Raises
    ------
    ShardwiseError
        If there is none; the message names field, value and what would be valid.
    """
    return _scenario(msgspec.json.encode(table), changes)


@lru_cache(maxsize=512)
def _scenario(base: bytes, changes: tuple[tuple[str, str], ...]) -> Scenario:
    table = msgspec.json.decode(base)
    changed: dict[str, Any] = dict(changes)
    count = changed.pop(MICROBATCHES, None)
    if count is not None and _BATCH in changed:
        raise SpecError(
            f"{_BATCH} ({changed[_BATCH]}): is stated twice, since {MICROBATCHES} ({count}) states "
            "it too; empty one of them"
        )
    if "cluster" in changed and ":" not in changed["cluster"] and _COUNT not in changed:
        known = scenario_from_table(table).cluster.accelerator_count
        changed["cluster"] = f"{changed['cluster']}:{known}"
    if "model" in changed:
        table.pop("model", None)
    if count is not None:
        changed[_BATCH] = _batch(table, changed, count)
    return scenario_from_table(table, changed)


def _batch(table: Mapping[str, Any], changed: Mapping[str, Any], count: str) -> int:
    """Return the sequences of a step that make so many microbatches on each replica.

    How many replicas there are is known before the sequences of a step are.
    """
    try:
        microbatches = parse_quantity(count, "count")
    except UnitError as error:
        raise SpecError(f"{MICROBATCHES}: {error}") from None
    if not isinstance(microbatches, int) or microbatches < 1:
        raise SpecError(f"{MICROBATCHES} ({count}): expected a whole number, at least 1")
    sections = sections_from_table(table, {**changed, _BATCH: 1})
    names = ("data_parallel_size", "micro_batch_size")
    sizes = evaluate(compile_fields(sections), names)
    replicas, sequences = (int(scalar(sizes[name])) for name in names)
    return microbatches * max(replicas, 1) * sequences
