"""A small reader of the catalogue's formulas, which shares no code with the functions they state.

A formula is an expression over the names of a function's parameters. A parameter with an axis is
a list there; operators and helpers work member by member, `total`, `largest` and `first` take an
axis away.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from costmodels import collectives

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}


class FormulaError(ValueError):
    """A formula uses what is not allowed in one."""


def memberwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of scalars that takes lists too, member by member."""

    def applied(*arguments: Any, **named: Any) -> Any:
        values = [*arguments, *named.values()]
        lengths = {len(value) for value in values if isinstance(value, list)}
        if not lengths:
            return function(*arguments, **named)
        (length,) = lengths

        def member(value: Any, index: int) -> Any:
            return value[index] if isinstance(value, list) else value

        return [
            applied(
                *(member(value, index) for value in arguments),
                **{name: member(value, index) for name, value in named.items()},
            )
            for index in range(length)
        ]

    return applied


def _ceiling(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    return quotient + (remainder > 0)


def _stage_mean(counts: list[int], size: int, chunks_of_stages: list[list[float]]) -> float:
    stages = [
        sum(chunks)
        for count, chunks in zip(counts, chunks_of_stages, strict=True)
        for _ in range(count)
    ]
    return sum(stages) / size


REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "total": sum,
    "largest": max,
    "first": lambda members: members[0],
    "stage_mean": _stage_mean,
}
MEMBERWISE: Mapping[str, Callable[..., Any]] = {
    "maximum": max,
    "minimum": min,
    "where": lambda condition, chosen, otherwise: chosen if condition else otherwise,
    "ceil_div": _ceiling,
    "ceiling": math.ceil,
    "ring_all_gather_bytes": collectives.ring_all_gather_bytes,
    "ring_reduce_scatter_bytes": collectives.ring_reduce_scatter_bytes,
    "ring_all_reduce_bytes": collectives.ring_all_reduce_bytes,
    "ring_pass_s": collectives.ring_pass_s,
    "ring_all_reduce_s": collectives.ring_all_reduce_s,
    "send_s": collectives.send_s,
    "all_to_all_bytes": collectives.all_to_all_bytes,
    "all_to_all_s": collectives.all_to_all_s,
}


def names_in(formula: str) -> set[str]:
    """Return the names that a formula refers to, those of helpers left out."""
    nodes = list(ast.walk(ast.parse(formula, mode="eval")))
    helpers = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in helpers}


def value_of(formula: str, inputs: Mapping[str, Any]) -> Any:
    """Return the value of a formula for numbers and lists of them."""
    return _value(ast.parse(formula, mode="eval").body, inputs)


def _value(node: ast.expr, inputs: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | str() | None):
            raise FormulaError(ast.unparse(node))
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in inputs:
            return inputs[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            function = memberwise(_BINARY[type(op)])
            return function(_value(left, inputs), _value(right, inputs))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return memberwise(operator.neg)(_value(operand, inputs))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            function = memberwise(_COMPARISONS[type(op)])
            return function(_value(left, inputs), _value(right, inputs))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            if name not in REDUCTIONS and name not in MEMBERWISE:
                raise FormulaError(name)
            helper = REDUCTIONS.get(name) or memberwise(MEMBERWISE[name])
            values = [_value(argument, inputs) for argument in arguments]
            named = {str(word.arg): _value(word.value, inputs) for word in keywords}
            return helper(*values, **named)
    raise FormulaError(ast.unparse(node))
