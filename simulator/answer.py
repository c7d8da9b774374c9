"""The records that answers are made of."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from costmodels.quantities import Basis

SCHEMA_VERSION = 1
"""Version of the names and meanings in an answer."""

Value: TypeAlias = Any
"""A number, a truth, text, a list of them by stage (and chunk), or None where withheld."""

Group: TypeAlias = dict[str, Value]
"""Published quantities of one subject by name, in base units, and the weakest basis of them."""


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """An input of the answer that is no plain statement of the scenario.

    Attributes
    ----------
    field : str
        Field of the scenario.
    value : float, int, bool or str
        Its value, in base units.
    unit : str
        Its unit.
    basis : Basis
        What it rests on.
    source : str
        Where it comes from.
    """

    field: str
    value: float | int | bool | str
    unit: str
    basis: Basis
    source: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What Shardwise says of a scenario; the same for every face.

    Attributes
    ----------
    schema_version : int
        Version of the names below.
    shardwise_version : str
        Version of the program.
    scenario_hash : str
        SHA-256 of the scenario: equal for equal inputs.
    scenario : dict
        The scenario in full.
    fits : bool
        Whether every stage fits the memory of its GPUs.
    parameters, compute, memory, communication, time, pipeline, cost : dict
        Published quantities; a list is by stage.
    assumptions : tuple of Assumption
        What the answer rests on, the weakest first.
    notes : tuple of str
        What a reader should know: fields without effect, gaps and their causes.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    scenario: dict[str, Any]
    fits: bool
    parameters: Group
    compute: Group
    memory: Group
    communication: Group
    time: Group
    pipeline: Group
    cost: Group
    assumptions: tuple[Assumption, ...]
    notes: tuple[str, ...]


GROUPS = ("parameters", "compute", "memory", "communication", "time", "pipeline", "cost")
"""The groups of an answer, in the order in which they are read."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How one published number differs between two answers.

    Attributes
    ----------
    name : str
        Group and quantity, such as ``time.step_s``.
    before, after, difference : float or None
        None where the number is withheld or absent.
    terms : tuple of Term
        What the difference is made of, where the number is a sum.
    remainder : float
        What rounding leaves between the difference and the sum of its terms.
    """

    name: str
    before: float | None
    after: float | None
    difference: float | None
    terms: tuple["Term", ...] = ()
    remainder: float = 0.0


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One term of a sum that differs between two answers."""

    name: str
    before: float
    after: float
    difference: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario with some fields changed, compared with the one it starts from.

    Attributes
    ----------
    changes : dict of str to str
        The fields that were changed, and to what.
    answer : Answer
        The answer to the changed scenario.
    differences : tuple of Difference
        Of the numbers that people compare first.
    """

    changes: dict[str, str]
    answer: Answer
    differences: tuple[Difference, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Answers to a scenario and to cases that change it."""

    base: Answer
    cases: tuple[Case, ...]


class Derivation(msgspec.Struct, frozen=True, kw_only=True):
    """How one number comes about, down to the inputs.

    Attributes
    ----------
    name : str
        Quantity or field.
    value : object
        Its value; a dict of class of stages, chunk or kind of layer where it differs.
    unit, scope, definition, formula, source : str
        From the catalogue; an input's formula is empty.
    substituted : str
        The formula with values put in, empty for an algorithm; what it sums over, or takes the
        largest of, is a list, of which no more than the first members are written.
    substituted_for : str
        The member whose values these are, where the quantity has one for each of an axis.
    basis : Basis
        The weakest of the formula's and of all that it needs.
    inputs : tuple of Derivation
        What it is computed from.
    withheld : str
        Why there is no value, empty where there is one.
    """

    name: str
    value: Value
    unit: str
    scope: str
    definition: str
    formula: str
    substituted: str
    source: str
    basis: Basis
    inputs: tuple["Derivation", ...] = ()
    substituted_for: str = ""
    withheld: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a scenario fits, as a simulation of it is introduced.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    fits : bool
        Whether every stage fits the memory of its GPUs.
    headroom_bytes : int
        Memory left on the fullest GPUs, negative where the plan does not fit [byte].
    worst_stage_index : int
        Stage of the fullest GPUs [index].
    basis : Basis
        What simulated times rest on.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    fits: bool
    headroom_bytes: int
    worst_stage_index: int
    basis: Basis


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as builtin types, for JSON."""
    built: dict[str, Any] = msgspec.to_builtins(table)
    return built
