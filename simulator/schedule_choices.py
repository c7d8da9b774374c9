"""All pipeline schedules for one scenario: time, bubbles, memory and traffic of each."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from costmodels.errors import ShardwiseError, SpecError
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from costmodels.scenario import Scenario, scenario_from_table, scenario_hash, scenario_to_table
from costmodels.version import VERSION
from simulator.trace import PIPELINE_AXIS
from simulator.whatif import estimate, ordered_metrics, verdict

SCHEMA_VERSION = 1
CHUNKS = (1, 2, 3, 4)
EQUAL = ("devices", "copies", "memory")


class ScheduleChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule for the scenario's devices.

    Attributes
    ----------
    schedule : str
        Its name.
    virtual_stages : int
        Chunks on each rank [count].
    step_s : float
        Time of a step: the simulated one, that of the closed form where none is simulated [s].
    idle_fraction : float
        Idle share of all ranks' time from the first forward to the last backward [fraction].
    idle_over_work_ratio : float
        The same idle time over the work, the papers' other definition [ratio].
    peak_bytes : int
        Memory of the fullest GPU [byte].
    fits : bool
        Whether it fits.
    parameter_copies : int
        Copies of the layers that the ranks of one pipeline hold [count].
    sent_bytes : float
        What stages send each other in a step, tied embeddings included, over a replica's GPUs of
        one tensor-parallel rank [byte].
    on_front : bool
        Whether no other choice is both at least as fast and at least as small.
    """

    schedule: str
    virtual_stages: int
    step_s: float
    idle_fraction: float
    idle_over_work_ratio: float
    peak_bytes: int
    fits: bool
    parameter_copies: int
    sent_bytes: float
    on_front: bool = False


class ScheduleComparison(msgspec.Struct, frozen=True, kw_only=True):
    """What each schedule takes, the fastest first.

    Attributes
    ----------
    schema_version : int
        Version of this record.
    shardwise_version : str
        Version that computed it.
    scenario_hash : str
        Of the scenario.
    choices : tuple of ScheduleChoice
        Those that exist for its sizes.
    refused : dict of str to str
        Why others do not.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    choices: tuple[ScheduleChoice, ...]
    refused: dict[str, str]


def compare_schedules(
    scenario: Scenario, *, equal: str = "devices", order: GivenOrder | None = None
) -> ScheduleComparison:
    """Return what a scenario takes under each schedule, on the same devices.

    Parameters
    ----------
    scenario : Scenario
        All but its schedule, chunks and layers of stages stays.
    equal : str, optional
        What choices have in common beyond the devices: nothing (``devices``), one copy of the
        layers (``copies``), or that they fit the memory (``memory``).
    order : GivenOrder, optional
        An order to compare with them.

    Raises
    ------
    SpecError
        If `equal` is another word, or the order does not fit the scenario.
    """
    if equal not in EQUAL:
        raise SpecError(f"--equal ({equal}): expected one of {', '.join(EQUAL)}")
    choices: list[ScheduleChoice] = []
    refused: dict[str, str] = {}
    if order is not None:
        choice = _given_choice(scenario, order)
        left_out = _left_out(choice, equal)
        if left_out:
            refused[order.name] = left_out
        else:
            choices.append(choice)
    for name in ScheduleName:
        reasons = []
        before = len(choices)
        for chunks, changed in _with_chunks(scenario, name):
            if isinstance(changed, str):
                reasons.append(changed)
                continue
            choice = _choice(changed, name, chunks)
            left_out = _left_out(choice, equal)
            if left_out:
                # What exists and is left out says more than sizes that are not legal.
                reasons.insert(0, left_out)
            else:
                choices.append(choice)
        if len(choices) == before:
            refused[name.value] = reasons[0]
    ordered = sorted(choices, key=lambda choice: (choice.step_s, choice.peak_bytes))
    return ScheduleComparison(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        choices=tuple(_with_front(ordered)),
        refused=refused,
    )


def _left_out(choice: ScheduleChoice, equal: str) -> str:
    if equal == "memory" and not choice.fits:
        return "it does not fit"
    if equal == "copies" and choice.parameter_copies > 1:
        return f"it keeps {choice.parameter_copies} copies of the layers"
    return ""


def _with_chunks(scenario: Scenario, name: ScheduleName) -> Iterator[tuple[int, Scenario | str]]:
    """Yield the scenario under a schedule with each number of chunks, or why there is none."""
    table = scenario_to_table(scenario)
    plan = {key: value for key, value in table["plan"].items() if key != "layers_per_stage"}
    for chunks in CHUNKS:
        changes = {"schedule": name.value, "virtual_stages": chunks}
        try:
            yield chunks, scenario_from_table({**table, "plan": {**plan, **changes}})
        except ShardwiseError as error:
            yield chunks, str(error)


def _choice(scenario: Scenario, name: ScheduleName, chunks: int) -> ScheduleChoice:
    answer = estimate(scenario, ignore_memory=True)
    idle: Any = answer.pipeline["simulated_idle_fraction"]
    if idle is None:
        idle = answer.pipeline["idle_fraction"]
    peaks: Any = answer.memory["stage_bytes"]
    sent: Any = answer.communication["pipeline_bytes"]
    step: Any = answer.time["simulated_step_s"] or answer.time["step_s"]
    return ScheduleChoice(
        schedule=name.value,
        virtual_stages=chunks,
        step_s=step,
        idle_fraction=idle,
        idle_over_work_ratio=idle / (1 - idle),
        peak_bytes=max(peaks),
        fits=answer.fits,
        parameter_copies=ORDERINGS[name].copies,
        sent_bytes=sum(sent),
    )


def _given_choice(scenario: Scenario, order: GivenOrder) -> ScheduleChoice:
    metrics = ordered_metrics(scenario, order)
    found = verdict(scenario, order=order)
    return ScheduleChoice(
        schedule=order.name,
        virtual_stages=order.chunk_count,
        step_s=metrics.makespan_s,
        idle_fraction=metrics.idle_fraction,
        idle_over_work_ratio=metrics.idle_to_busy_fraction,
        peak_bytes=max(metrics.peak_bytes),
        fits=found.fits,
        parameter_copies=order.copies,
        sent_bytes=float(metrics.sent_bytes.get(PIPELINE_AXIS, 0)),
    )


def _with_front(ordered: Sequence[ScheduleChoice]) -> Iterator[ScheduleChoice]:
    """Yield the choices, from the fastest, with those marked that nothing beats in both."""
    least: int | None = None
    for choice in ordered:
        best = least is None or choice.peak_bytes < least
        least = choice.peak_bytes if least is None else min(least, choice.peak_bytes)
        yield msgspec.structs.replace(choice, on_front=best)
