"""The record of a rule, and the decorator that sets its sentence beside its function."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from costmodels.columns import Column


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that a plan must meet, as a boolean column function with its sentence.

    Attributes
    ----------
    field : str
        Field of the scenario that the sentence names first.
    function : callable
        True in the rows that meet the rule; parameters as of a closed form.
    requirement : str
        What would be valid; names in braces are replaced by their values.
    modelled : bool
        False if what breaks the rule is legal but has no model yet.
    """

    field: str
    function: Callable[..., Column]
    requirement: str
    modelled: bool = True


_Condition = TypeVar("_Condition", bound=Callable[..., Column])
_RECORD = "rule"


def rule(
    field: str, requirement: str, *, modelled: bool = True
) -> Callable[[_Condition], _Condition]:
    """Return a decorator that makes a boolean column function a rule.

    The function stays as it is. The arguments are the attributes of `Rule`; when the rule is
    checked, `checking` says.
    """

    def register(function: _Condition) -> _Condition:
        function.__dict__[_RECORD] = Rule(
            field=field, function=function, requirement=requirement, modelled=modelled
        )
        return function

    return register


def rule_of(function: Callable[..., Column]) -> Rule:
    """Return the rule that a decorated function is.

    Examples
    --------
    >>> @rule("plan.zero_stage", "must be at most 3")
    ... def stage_exists(zero_stage: Column) -> Column:
    ...     return zero_stage <= 3
    >>> rule_of(stage_exists).field
    'plan.zero_stage'
    """
    record: Rule = function.__dict__[_RECORD]
    return record
