"""What pages ask, answered once: each question names a scenario by its base and its changes."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns, compile_fields
from costmodels.errors import SpecError
from costmodels.rules import valid
from costmodels.scenario import Scenario
from dashboard.figures.played import Played, played_of
from dashboard.state import scenario_of
from simulator import whatif
from simulator.accounting import TrafficAccount, traffic_account
from simulator.answer import Answer, Derivation
from simulator.format_comparison import FormatComparison, compare_formats
from simulator.limits import Limit, limit
from simulator.matrix import TrafficMatrix, traffic_matrix
from simulator.publishing import scalar
from simulator.training import ACTION_LIMIT, Simulation, action_count

MOST_ACTIONS = 100_000
"""Actions of a step up to which a page waits for its simulation."""

MOST_JOB_ACTIONS = ACTION_LIMIT
"""Actions of a step up to which it can be simulated at all, as a job."""


class Question(NamedTuple):
    """A scenario as an address states it.

    Attributes
    ----------
    base : bytes
        The table that it starts from, as JSON.
    changes : tuple of (str, str)
        Fields that differ, as people write them.
    """

    base: bytes
    changes: tuple[tuple[str, str], ...]

    @property
    def table(self) -> dict[str, Any]:
        """Return the table that it starts from."""
        found: dict[str, Any] = msgspec.json.decode(self.base)
        return found

    @property
    def scenario(self) -> Scenario:
        """Return the scenario.

        Raises
        ------
        ShardwiseError
            If there is none; the message names field, value and what would be valid.
        """
        return scenario_of(self.table, self.changes)

    def changed(self, changes: Mapping[str, str]) -> "Question":
        """Return the question about the scenario with further fields changed."""
        merged = dict(self.changes) | dict(changes)
        return Question(self.base, tuple(merged.items()))


def question(table: Mapping[str, Any], changes: tuple[tuple[str, str], ...]) -> Question:
    """Return the question about a table with some fields changed."""
    return Question(msgspec.json.encode(table), changes)


@lru_cache(maxsize=256)
def answer(asked: Question) -> Answer:
    """Return what `shardwise estimate --json` prints, large steps not simulated."""
    return whatif.estimate(asked.scenario, most_actions=MOST_ACTIONS)


@lru_cache(maxsize=512)
def closed_form(asked: Question) -> Answer:
    """Return the same without a simulation, for changes that are tried in passing."""
    return whatif.estimate(asked.scenario, most_actions=0)


@lru_cache(maxsize=256)
def traffic(asked: Question) -> TrafficAccount:
    """Return what `shardwise comm --json` prints."""
    return traffic_account(asked.scenario)


MOST_GPUS = 65_536
"""GPUs up to which a page waits for who sends to whom."""


@lru_cache(maxsize=8)
def matrix(asked: Question) -> TrafficMatrix:
    """Return what each GPU sends to each other.

    Raises
    ------
    SpecError
        If there are too many GPUs.
    """
    scenario = asked.scenario
    count = scenario.cluster.accelerator_count
    if count > MOST_GPUS:
        raise SpecError(
            f"cluster.accelerator_count ({count:,}): who sends to whom is shown of at most "
            f"{MOST_GPUS:,} GPUs"
        )
    return traffic_matrix(scenario)


@lru_cache(maxsize=256)
def largest(asked: Question, sense: str, quantity: str) -> Limit:
    """Return what `shardwise memory --largest --json` prints, or ``--smallest``."""
    return limit(asked.scenario, sense, quantity)


@lru_cache(maxsize=32)
def storages(asked: Question, names: tuple[str, ...], distribution: str) -> FormatComparison:
    """Return what `shardwise memory --compare-formats --json` prints, of some storages."""
    return compare_formats(asked.scenario, names, distribution=distribution)


@lru_cache(maxsize=64)
def derivation(asked: Question, path: str, *, ignore_memory: bool = False) -> Derivation:
    """Return what `shardwise explain --json` prints."""
    return whatif.explain(asked.scenario, path, ignore_memory=ignore_memory)


@lru_cache(maxsize=4)
def simulation(asked: Question) -> Simulation:
    """Return what `shardwise simulate` plays."""
    return whatif.simulate(asked.scenario, most_actions=MOST_ACTIONS)


@lru_cache(maxsize=4)
def played(asked: Question) -> Played:
    """Return what is shown of the simulation."""
    return played_of(simulation(asked))


def actions(asked: Question) -> int:
    """Return the most actions that a step may have [count]."""
    scenario = asked.scenario
    return action_count(scenario, microbatch_count(scenario))


def legal(scenario: Scenario, path: str, values: Sequence[int]) -> list[int]:
    """Return the values of a field that obey every rule, all other fields unchanged."""
    tried = np.unique(np.asarray(values, dtype=np.int64))
    keep = np.broadcast_to(valid(compile_fields(scenario, {path: tried})), tried.shape)
    return [int(value) for value in tried[keep]]


def microbatch_count(scenario: Scenario) -> int:
    """Return the microbatches of each replica [count]."""
    values = evaluate(compile_columns(scenario), ("microbatch_count",))
    return int(scalar(values["microbatch_count"]))
