"""The one entry of every face: what a scenario takes, how cases compare, and why.

Examples
--------
>>> from costmodels.scenario import scenario_from_table
>>> scenario = scenario_from_table(
...     {
...         "model": "llama-3.1-8b",
...         "cluster": "h100-sxm:16",
...         "plan": {"tensor_parallel_size": 8, "zero_stage": 1},
...         "workload": {"global_batch_size": 64, "sequence_length": 8192},
...     }
... )
>>> answer = estimate(scenario)
>>> answer.fits, answer.parameters["total_parameters"]
(True, 8030261248)
>>> answer.time["basis"]
'assumed'
"""

from collections.abc import Mapping, Sequence
from typing import Any

from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import Columns, compile_columns
from costmodels.errors import ShardwiseError, SpecError
from costmodels.quantities import weakest
from costmodels.scenario import Scenario, scenario_from_table, scenario_hash, scenario_to_table
from costmodels.version import VERSION
from simulator.answer import (
    GROUPS,
    SCHEMA_VERSION,
    Answer,
    Case,
    Comparison,
    Derivation,
    Group,
)
from simulator.comparison import differences
from simulator.derivation import derive, quantity_named, simulated
from simulator.facts import NEEDED, Facts
from simulator.gaps import gap_note
from simulator.notes import notes
from simulator.publishing import (
    assumptions,
    available,
    basis_of,
    by_stage,
    reached,
    scalar,
)
from simulator.training import (
    ACTION_LIMIT,
    SIMULATED,
    Simulation,
    action_count,
    classes_of,
    simulate_step,
    step_program,
)

_ALWAYS_SHOWN = ("run_steps",)


def estimate(scenario: Scenario, *, ignore_memory: bool = False) -> Answer:
    """Return what a scenario takes: memory, work, traffic, time, cost, and what that rests on.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    ignore_memory : bool, optional
        Whether to give times and costs for a plan that does not fit.

    Returns
    -------
    Answer
        A plan that does not fit is an answer: `fits` is false and times are withheld.
    """
    columns = compile_columns(scenario)
    names = available(columns)
    values = evaluate(columns, (*names, *NEEDED))
    classes = classes_of(scenario, scalar(values["microbatch_count"]))
    fits = bool(scalar(values["fits"]))
    shown = fits or ignore_memory
    groups = _groups(scenario, names, values, classes, shown=shown)
    simulation, remarks = _simulated(scenario, columns, values, shown=shown)
    for entry in SIMULATED:
        value = entry.chosen(None)(simulation.metrics) if simulation else None
        groups[str(entry.group)][entry.name] = list(value) if isinstance(value, tuple) else value
    needed = {name: scalar(values[name]) for name in NEEDED}
    facts = Facts(scenario=scenario, columns=columns, values=needed)
    return Answer(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        scenario=scenario_to_table(scenario),
        fits=fits,
        **groups,
        assumptions=assumptions(scenario, names),
        notes=(*_verdict_notes(fits=fits, ignore_memory=ignore_memory), *remarks, *notes(facts)),
    )


def simulate(scenario: Scenario) -> Simulation:
    """Return one step of one replica as the event simulator plays it.

    Raises
    ------
    SpecError
        If the step has more actions than are simulated.
    """
    columns = compile_columns(scenario)
    microbatches = scalar(evaluate(columns, ("microbatch_count",))["microbatch_count"])
    actions = action_count(scenario, microbatches)
    if actions > ACTION_LIMIT:
        raise SpecError(
            f"workload.global_batch_size ({scenario.workload.global_batch_size}): makes "
            f"{actions:,} actions, more than the {ACTION_LIMIT:,} that are simulated"
        )
    return simulate_step(step_program(scenario, columns))


def what_if(
    scenario: Scenario, cases: Sequence[Mapping[str, Any]], *, ignore_memory: bool = False
) -> Comparison:
    """Return the answers to a scenario and to cases that change some of its fields.

    Parameters
    ----------
    scenario : Scenario
        Where the cases start from.
    cases : sequence of mapping
        For each case the changed fields: value by path.
    ignore_memory : bool, optional
        As in `estimate`.

    Returns
    -------
    Comparison
        Before, after, difference, and the terms that caused it.

    Raises
    ------
    ShardwiseError
        If a case makes no valid scenario; the message names the case.
    """
    base = estimate(scenario, ignore_memory=ignore_memory)
    table = scenario_to_table(scenario)
    compared = []
    for changes in cases:
        named = " ".join(f"{path}={value}" for path, value in changes.items())
        try:
            changed = scenario_from_table(table, changes)
        except ShardwiseError as error:
            raise type(error)(f"case '{named}': {error}") from None
        answer = estimate(changed, ignore_memory=ignore_memory)
        compared.append(
            Case(
                changes={path: str(value) for path, value in changes.items()},
                answer=answer,
                differences=differences(base, answer),
            )
        )
    return Comparison(base=base, cases=tuple(compared))


def explain(scenario: Scenario, path: str) -> Derivation:
    """Return the derivation of a published number, down to the inputs.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    path : str
        Group and name, such as ``time.step_s``.

    Raises
    ------
    PresetNotFoundError
        If there is no such quantity, or the scenario leaves out what it needs.
    """
    entry = quantity_named(path)
    if entry in SIMULATED:
        value = entry.chosen(None)(simulate(scenario).metrics)
        return simulated(entry, list(value) if isinstance(value, tuple) else value)
    return derive(scenario, compile_columns(scenario), path)


def _groups(
    scenario: Scenario,
    names: Sequence[str],
    values: Mapping[str, Any],
    classes: tuple[int, ...],
    *,
    shown: bool,
) -> dict[str, Group]:
    groups: dict[str, Group] = {group: {} for group in GROUPS}
    bases: dict[str, list[Any]] = {group: [] for group in GROUPS}
    schedule = scenario.plan.schedule.value
    for name in names:
        entry = CATALOGUE[name]
        if entry.group not in groups:
            continue
        withheld = (
            not shown
            and name not in _ALWAYS_SHOWN
            and (entry.group == "time" or "step_s" in reached(name, schedule))
        )
        value = None if withheld else by_stage(values[name], entry.axes, classes)
        groups[entry.group][name] = value
        bases[entry.group].append(basis_of(scenario, name))
    return {
        group: {"basis": weakest(bases[group]).value} | entries for group, entries in groups.items()
    }


def _simulated(
    scenario: Scenario, columns: Columns, values: Mapping[str, Any], *, shown: bool
) -> tuple[Simulation | None, list[str]]:
    actions = action_count(scenario, scalar(values["microbatch_count"]))
    if not shown:
        return None, []
    if actions > ACTION_LIMIT:
        return None, [f"not simulated: a step has {actions:,} actions, more than {ACTION_LIMIT:,}"]
    simulation = simulate_step(step_program(scenario, columns))
    note = gap_note(scalar(values["step_s"]), simulation)
    return simulation, [note] if note else []


def _verdict_notes(*, fits: bool, ignore_memory: bool) -> list[str]:
    if fits:
        return []
    if ignore_memory:
        return ["the plan does not fit; times and costs are given all the same, as asked"]
    return ["the plan does not fit: times, throughput and costs are withheld"]
