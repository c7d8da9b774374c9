"""The end of a rank's step: gradients reduced, parameters updated and gathered."""

from collections.abc import Mapping
from typing import NamedTuple

from simulator.program import StepEnd
from simulator.trace import DATA_AXIS, PIPELINE_AXIS, Engine


class EndPart(NamedTuple):
    """One part of the end of a step.

    Attributes
    ----------
    name : str
        What is done.
    engine : Engine
        What is busy with it.
    start_s, end_s : float
        From when to when [s].
    sent_bytes : mapping of str to int
        What it sends, by axis [byte].
    """

    name: str
    engine: Engine
    start_s: float
    end_s: float
    sent_bytes: Mapping[str, int]


def step_end_parts(end: StepEnd, *, last_start_s: float, last_end_s: float) -> list[EndPart]:
    """Return the parts of the end of a step, one after the other.

    Parameters
    ----------
    end : StepEnd
        What is to be done.
    last_start_s, last_end_s : float
        The rank's last action, during which the first buckets may be reduced [s].

    Returns
    -------
    list of EndPart
        A part that neither takes nor sends anything is left out.
    """
    reduced_from_s = last_start_s if end.overlaps_backward else last_end_s
    reduced_s = last_end_s + max(
        reduced_from_s + end.reduction_s - last_end_s, end.reduction_last_s
    )
    sent = _sent(DATA_AXIS, end.reduction_bytes)
    reduction = EndPart("reduction", Engine.NETWORK, reduced_from_s, reduced_s, sent)
    parts = [reduction] if end.reduction_s or sent else []
    return [*parts, *after_reduction(end, reduced_s=reduced_s)]


def after_reduction(end: StepEnd, *, reduced_s: float) -> list[EndPart]:
    """Return the parts of the end of a step that follow the reduction of gradients."""
    network, compute = Engine.NETWORK, Engine.COMPUTE
    whole: tuple[tuple[str, Engine, float, Mapping[str, int]], ...] = (
        ("replicated", network, end.replicated_s, _only_sent(end.replicated_bytes)),
        ("tied embedding", network, end.tied_s, _sent(PIPELINE_AXIS, end.tied_bytes)),
        ("copies of layers", network, end.copies_s, _sent(PIPELINE_AXIS, end.copies_bytes)),
        ("optimizer", compute, end.optimizer_s, {}),
        ("gather", network, end.gather_s, _sent(DATA_AXIS, end.gather_bytes)),
    )
    parts, now_s = [], reduced_s
    for name, engine, part_s, sent in whole:
        if part_s or sent:
            parts.append(EndPart(name, engine, now_s, now_s + part_s, sent))
        now_s += part_s
    return parts


def _sent(axis: str, size_bytes: int) -> Mapping[str, int]:
    return _only_sent({axis: size_bytes})


def _only_sent(sent_bytes: Mapping[str, int]) -> Mapping[str, int]:
    return {axis: size_bytes for axis, size_bytes in sent_bytes.items() if size_bytes}
