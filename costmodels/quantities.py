"""The record of a published quantity, and of where a number comes from."""

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType, ModuleType
from typing import TypeVar

import msgspec

from costmodels.columns import Column


class Basis(StrEnum):
    """What a number rests on, from the strongest to the weakest."""

    EXACT = "exact"
    MEASURED = "measured"
    DATASHEET = "datasheet"
    FITTED = "fitted"
    ASSUMED = "assumed"

    @property
    def weakness(self) -> int:
        """Return the place in the order from strongest to weakest [index]."""
        return list(Basis).index(self)


def weakest(bases: "list[Basis]") -> Basis:
    """Return the weakest of some bases, exact where there are none.

    Examples
    --------
    >>> weakest([Basis.EXACT, Basis.ASSUMED, Basis.DATASHEET])
    <Basis.ASSUMED: 'assumed'>
    """
    return max(bases, key=lambda basis: basis.weakness, default=Basis.EXACT)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the value of a field comes from.

    Attributes
    ----------
    basis : Basis
        What kind of knowledge it is.
    source : str
        Document, table or address; for an assumption, the reasoning.
    """

    basis: Basis
    source: str


class Scope(StrEnum):
    """What a quantity is counted over."""

    LAYER = "per layer"
    CHUNK = "per GPU and chunk"
    GPU = "per GPU"
    REPLICA = "per replica"
    TOTAL = "total"
    PLAN = "of the plan"


ALGORITHM = "algorithm"
"""What stands in place of a formula that no single expression can state."""

KIND, STAGE, CHUNK, BRANCH = "kind", "stage", "chunk", "branch"
"""The axes: kinds of layer, classes of equal pipeline stages, chunks (virtual stages) of a rank."""

AXES = (STAGE, CHUNK, KIND)
"""The order in which axes nest."""


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """One published or intermediate number: what it is, and the one function that computes it.

    The names of the function's parameters are names of other quantities or of fields of the
    scenario, so that its signature is its place in the graph of derivations.

    Attributes
    ----------
    name : str
        Name, ending with the unit.
    symbol : str
        Letter of the literature, for people.
    unit : str
        Unit in brackets of documentation.
    scope : Scope
        What it is counted over.
    definition : str
        One sentence.
    formula : str
        Expression over the names of the parameters, or `ALGORITHM`.
    source : str
        Paper, section or equation, or the reasoning.
    axes : tuple of str
        Axes along which there is a value for each member.
    basis : Basis
        What the formula itself rests on; the inputs may weaken it.
    group : str or None
        Group of the answer that publishes it, or None for an intermediate.
    function : callable or None
        What computes it, where there is one way.
    variants : mapping of str to callable
        What computes it for each value of `selector`, where there are several.
    selector : str or None
        Field that chooses among the variants: `schedule`, or `layout` for each kind of layer.
    formulas : mapping of str to str
        Expression for each value of `selector` whose function one expression states.
    zero_without : str or None
        Field without which the value is zero: where no row has it, nothing else is computed.
    """

    name: str
    unit: str
    scope: Scope
    definition: str
    formula: str
    source: str
    basis: Basis
    symbol: str = ""
    axes: tuple[str, ...] = ()
    group: str | None = None
    function: Callable[..., Column] | None = None
    variants: Mapping[str, Callable[..., Column]] = MappingProxyType({})
    selector: str | None = None
    formulas: Mapping[str, str] = MappingProxyType({})
    zero_without: str | None = None

    def formula_of(self, option: str | None) -> str:
        """Return the expression for one value of the selector, `ALGORITHM` where none states it."""
        return self.formulas.get(option or "", self.formula)

    def chosen(self, option: str | None) -> Callable[..., Column]:
        """Return the function for one value of the selector."""
        if self.function is not None:
            return self.function
        assert option is not None
        return self.variants[option]


@lru_cache(maxsize=1024)
def parameters_of(function: Callable[..., Column]) -> tuple[str, ...]:
    """Return the names of a closed form's parameters: its inputs in the graph.

    Examples
    --------
    >>> parameters_of(lambda stage_s, step_s: 0)
    ('stage_s', 'step_s')
    """
    return tuple(inspect.signature(function).parameters)


def _definition(function: Callable[..., Column]) -> str:
    first = (function.__doc__ or "").strip().split("\n")[0]
    text = first.removeprefix("Return the ").rsplit(" [", 1)[0].rstrip(".")
    return text[:1].upper() + text[1:] + "."


def renamed(
    function: Callable[..., Column], name: str, names: Mapping[str, str]
) -> Callable[..., Column]:
    """Return a closed form under another name, its parameters too where `names` holds them.

    Examples
    --------
    >>> twice = renamed(lambda size: 2 * size, "twice", {"size": "tensor_parallel_size"})
    >>> parameters_of(twice), twice(tensor_parallel_size=4)
    (('tensor_parallel_size',), 8)
    """
    originals = {names.get(entry, entry): entry for entry in parameters_of(function)}

    def call(**values: Column) -> Column:
        return function(**{originals[entry]: value for entry, value in values.items()})

    parameters = [inspect.Parameter(entry, inspect.Parameter.KEYWORD_ONLY) for entry in originals]
    call.__name__ = name
    call.__doc__ = function.__doc__
    call.__dict__["__signature__"] = inspect.Signature(parameters)
    return call


OF_SOFTMAX_HEADS = (
    *("dense", "sliding", "chunked", "dilated", "dilated-heads"),
    *("infini", "linear", "compressive"),
)
"""Layouts with the heads and the projections that the model states, one for queries, keys, values."""

_Formula = TypeVar("_Formula", bound=Callable[..., Column])


def quantity(
    unit: str,
    scope: Scope,
    *,
    formula: str,
    source: str,
    basis: Basis,
    symbol: str = "",
    axes: tuple[str, ...] = (),
    group: str | None = None,
    zero_without: str | None = None,
) -> Callable[[_Formula], _Formula]:
    """Return a decorator that makes a closed form the one function of a quantity.

    The function stays as it is; its name is the quantity's, the first line of its docstring the
    definition. The arguments are the attributes of `Quantity`.
    """

    def register(function: _Formula) -> _Formula:
        record = Quantity(
            name=function.__name__,
            definition=_definition(function),
            function=function,
            unit=unit,
            scope=scope,
            formula=formula,
            source=source,
            symbol=symbol,
            axes=axes,
            basis=basis,
            group=group,
            zero_without=zero_without,
        )
        function.__dict__[_RECORD] = record
        return function

    return register


_RECORD = "quantity"


def quantities_of(module: ModuleType) -> list[Quantity]:
    """Return the quantities that a module defines, in the order of their definition."""
    found: list[Quantity] = []
    for value in vars(module).values():
        if isinstance(value, Quantity):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(entry for entry in value if isinstance(entry, Quantity))
        elif getattr(value, "__module__", None) == module.__name__ and _RECORD in vars(value):
            found.append(vars(value)[_RECORD])
    return found
