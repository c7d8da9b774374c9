"""Actions of a pipeline schedule, and the order in which a rank performs them."""

import re
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from costmodels.errors import SpecError


class ActionKind(StrEnum):
    """What a rank does in one action; the letters are those of torch's `pipeline_order`.

    A backward is one action that gives both gradients, or two: first the gradient of the input,
    which the stage before waits for, and at any time later that of the weights.
    """

    FORWARD = "F"
    BACKWARD = "B"
    INPUT_GRADIENT = "I"
    WEIGHT_GRADIENT = "W"


RETURNING = (ActionKind.BACKWARD, ActionKind.INPUT_GRADIENT)
"""The kinds that hand a gradient to the stage before."""

RELEASING = (ActionKind.BACKWARD, ActionKind.WEIGHT_GRADIENT)
"""The kinds after which nothing of a forward is needed any more."""


class Action(NamedTuple):
    """One piece of work: a virtual stage, what is done, and for which microbatch.

    Attributes
    ----------
    stage : int
        Virtual stage, counted through the whole model from zero [index].
    kind : ActionKind
        What is done.
    microbatch : int
        Microbatch, from zero [index].

    Examples
    --------
    >>> str(Action(stage=3, kind=ActionKind.FORWARD, microbatch=0))
    '3F0'
    """

    stage: int
    kind: ActionKind
    microbatch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.microbatch}"


Order: TypeAlias = tuple[tuple[Action, ...], ...]
"""For each rank of the pipeline, its actions in the order in which it performs them."""


class Row(NamedTuple):
    """What one rank does, and which of its actions run at the same time.

    Attributes
    ----------
    actions : tuple of Action
        In order.
    overlapped : frozenset of int
        Places of the forwards that run together with the action after them [index].
    """

    actions: tuple[Action, ...]
    overlapped: frozenset[int]


_ACTION = re.compile(r"(\d+)([FBIW])(\d+)")
_PAIR = re.compile(r"\(([^;()]*);([^;()]*)\)OVERLAP_F_B")


def parse_action(text: str) -> Action:
    """Return the action that a text such as ``3I1`` names.

    Raises
    ------
    SpecError
        If it names none.

    Examples
    --------
    >>> parse_action("3I1").kind.name
    'INPUT_GRADIENT'
    """
    found = _ACTION.fullmatch(text.strip())
    if found is None:
        raise SpecError(
            f"'{text}': expected an action such as 2F0: virtual stage, one of F, B, I, W, microbatch"
        )
    stage, kind, microbatch = found.groups()
    return Action(int(stage), ActionKind(kind), int(microbatch))


def parse_slot(text: str) -> tuple[Action, ...]:
    """Return the actions of one slot in torch's notation: none, one, or two that overlap.

    Examples
    --------
    >>> [str(action) for action in parse_slot("(0F3;3B1)OVERLAP_F_B")]
    ['0F3', '3B1']
    """
    if not text.strip():
        return ()
    pair = _PAIR.fullmatch(text.strip())
    if pair is None:
        return (parse_action(text),)
    return (parse_action(pair[1]), parse_action(pair[2]))


def format_row(row: Row) -> list[str]:
    """Return the slots of a rank in torch's notation.

    Examples
    --------
    >>> format_row(Row((parse_action("0F3"), parse_action("3B1")), frozenset({0})))
    ['(0F3;3B1)OVERLAP_F_B']
    """
    slots, place = [], 0
    while place < len(row.actions):
        first = row.actions[place]
        if place in row.overlapped:
            slots.append(f"({first};{row.actions[place + 1]})OVERLAP_F_B")
            place += 2
        else:
            slots.append(str(first))
            place += 1
    return slots
