"""Actions of a pipeline schedule, and the order in which a rank performs them."""

from enum import StrEnum
from typing import NamedTuple, TypeAlias


class ActionKind(StrEnum):
    """What a rank does in one action; the letters are those of torch's `pipeline_order`."""

    FORWARD = "F"
    BACKWARD = "B"


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
