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
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.quantities import Quantity, weakest
from costmodels.scenario import Scenario, scenario_from_table, scenario_hash, scenario_to_table
from costmodels.units import format_bytes
from costmodels.version import VERSION
from simulator.answer import (
    GROUPS,
    SCHEMA_VERSION,
    Answer,
    Case,
    Comparison,
    Derivation,
    Group,
    Verdict,
)
from simulator.comparison import differences
from simulator.derivation import derive, quantity_named, simulated, withheld
from simulator.facts import NEEDED, Facts
from simulator.gaps import gap_note
from simulator.given_steps import under_order
from simulator.metrics import PipelineMetrics
from simulator.notes import notes
from simulator.path_metrics import path_metrics
from simulator.pipeline import Report
from simulator.publishing import (
    assumptions,
    available,
    basis_of,
    by_stage,
    reached,
    scalar,
)
from simulator.serving import require_training
from simulator.shared_step import Contention, contended_step
from simulator.topology import Sharing, refuse_uneven_sharing
from simulator.training import (
    ACTION_LIMIT,
    CONTENTION_ACTION_LIMIT,
    PATH_ACTION_LIMIT,
    SIMULATED,
    Simulation,
    action_count,
    classes_of,
    simulate_step,
    simulated_inputs,
    step_program,
)
from simulator.variation import Variation, refuse_misfit, varied


def estimate(
    scenario: Scenario, *, ignore_memory: bool = False, most_actions: int | None = None
) -> Answer:
    """Return what a scenario takes: memory, work, traffic, time, cost, and what that rests on.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    ignore_memory : bool, optional
        Whether to give times and costs for a plan that does not fit.
    most_actions : int, optional
        Actions of a step up to which it is simulated, beside the closed forms; `PATH_ACTION_LIMIT`,
        if left out [count].

    Returns
    -------
    Answer
        A plan that does not fit is an answer: `fits` is false and times are withheld.
    """
    require_training(scenario)
    columns = compile_columns(scenario)
    names = available(columns)
    values = evaluate(columns, (*names, *NEEDED))
    classes = classes_of(scenario, scalar(values["microbatch_count"]))
    fits = bool(scalar(values["fits"]))
    shown = fits or ignore_memory
    groups = _groups(scenario, names, values, classes, shown=shown)
    used = [name for name in names if shown or not _from_step(CATALOGUE[name], scenario)]
    metrics, remarks = _played(scenario, columns, values, shown=shown, most_actions=most_actions)
    for entry in SIMULATED:
        value = entry.chosen(None)(metrics) if metrics else None
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
        assumptions=assumptions(scenario, used),
        notes=(
            *scenario.model.notes,
            *_verdict_notes(fits=fits, ignore_memory=ignore_memory),
            *remarks,
            *notes(facts),
        ),
    )


def simulate(
    scenario: Scenario,
    variation: Variation | None = None,
    *,
    order: GivenOrder | None = None,
    most_actions: int | None = None,
    report: Report | None = None,
) -> Simulation:
    """Return one step of one replica as the event simulator plays it.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    variation : Variation, optional
        Microbatches of different sizes, slow ranks, chance.
    order : GivenOrder, optional
        What ranks do, in place of the plan's schedule.
    most_actions : int, optional
        Actions above which nothing is played; `ACTION_LIMIT`, if left out [count].
    report : callable, optional
        Told how many actions have been played, and of how many, again and again.

    Returns
    -------
    Simulation
        Trace and quantities.

    Raises
    ------
    SpecError
        If the step has more actions than are simulated, or variation or order do not fit it.
    """
    scenario, columns = _ordered(scenario, order)
    most = ACTION_LIMIT if most_actions is None else most_actions
    _refuse_actions(scenario, columns, most, order)
    program = step_program(scenario, columns, order)
    return simulate_step(program if variation is None else varied(program, variation), report)


def contention(
    scenario: Scenario,
    sharing: Sharing | None = None,
    variation: Variation | None = None,
    *,
    order: GivenOrder | None = None,
) -> Contention:
    """Return one step of one replica on links that its traffic shares, and what that costs.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    sharing : Sharing, optional
        What GPUs of a node share beside what the cluster describes.
    variation : Variation, optional
        As of `simulate`.
    order : GivenOrder, optional
        As of `simulate`.

    Returns
    -------
    Contention
        The step on shared links, the same step with every message as fast as alone, and the cause
        of the difference.

    Raises
    ------
    SpecError
        If the step has more actions than are simulated.
    """
    scenario, columns = _ordered(scenario, order)
    _refuse_actions(scenario, columns, CONTENTION_ACTION_LIMIT, order)
    return contended_step(scenario, columns, sharing, variation, order)


def _ordered(scenario: Scenario, order: GivenOrder | None) -> tuple[Scenario, Columns]:
    """Return a scenario, its plan's schedule replaced by an order, and its columns."""
    require_training(scenario)
    changed = scenario if order is None else under_order(scenario, order)
    return changed, compile_columns(changed)


def refuse_options(scenario: Scenario, variation: Variation, sharing: Sharing) -> None:
    """Raise unless what varies and is shared is about a scenario, whether it fits or not.

    Raises
    ------
    SpecError
        If a straggler, the sizes of microbatches or the network cards do not match it.
    """
    require_training(scenario)
    values = evaluate(compile_columns(scenario), ("microbatch_count",))
    ranks = scenario.plan.pipeline_parallel_size
    refuse_misfit(variation, ranks=ranks, microbatches=scalar(values["microbatch_count"]))
    refuse_uneven_sharing(scenario.cluster, sharing)


def _refuse_actions(
    scenario: Scenario, columns: Columns, limit: int, order: GivenOrder | None = None
) -> None:
    values = evaluate(columns, ("microbatch_count",))
    actions = action_count(scenario, scalar(values["microbatch_count"]), order)
    if actions > limit:
        raise SpecError(
            f"workload.global_batch_size ({scenario.workload.global_batch_size}): makes "
            f"{actions:,} actions, more than the {limit:,} that are simulated"
        )


def what_if(
    scenario: Scenario,
    cases: Sequence[Mapping[str, Any]],
    *,
    stated: Sequence[Mapping[str, str]] = (),
    ignore_memory: bool = False,
    most_actions: int | None = None,
) -> Comparison:
    """Return the answers to a scenario and to cases that change some of its fields.

    Parameters
    ----------
    scenario : Scenario
        Where the cases start from.
    cases : sequence of mapping
        For each case the changed fields: value by path; a section that has presets may be changed
        as a whole, ``model`` to ``llama-3.1-70b``.
    stated : sequence of mapping, optional
        The same changes as somebody wrote them, to name the cases by.
    ignore_memory : bool, optional
        As in `estimate`.
    most_actions : int, optional
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
    base = estimate(scenario, ignore_memory=ignore_memory, most_actions=most_actions)
    table = scenario_to_table(scenario)
    compared = []
    for changes, texts in zip(cases, stated or cases, strict=True):
        shown = {path: str(value) for path, value in texts.items()}
        named = " ".join(f"{path}={text}" for path, text in shown.items())
        try:
            changed = scenario_from_table(table, changes)
        except ShardwiseError as error:
            raise type(error)(f"case '{named}': {error}") from None
        answer = estimate(changed, ignore_memory=ignore_memory, most_actions=most_actions)
        compared.append(
            Case(
                changes=shown,
                answer=answer,
                differences=differences(base, answer),
            )
        )
    return Comparison(base=base, cases=tuple(compared))


def verdict(scenario: Scenario, *, order: GivenOrder | None = None) -> Verdict:
    """Return whether a scenario fits, and by how much: what introduces a simulation of it.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    order : GivenOrder, optional
        As of `simulate`; what it holds decides.
    """
    headroom_bytes, worst_stage_index = _room(scenario, order)
    step = quantity_named("time.simulated_step_s")
    inputs = [basis_of(scenario, name) for name in simulated_inputs(step.name)]
    return Verdict(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        fits=headroom_bytes >= 0,
        headroom_bytes=headroom_bytes,
        worst_stage_index=worst_stage_index,
        basis=weakest([step.basis, *inputs]),
    )


def ordered_metrics(scenario: Scenario, order: GivenOrder) -> PipelineMetrics:
    """Return what a step takes under an order, by the fast engine; errors as of `simulate`."""
    changed, columns = _ordered(scenario, order)
    _refuse_actions(changed, columns, PATH_ACTION_LIMIT, order)
    return path_metrics(step_program(changed, columns, order))


def _room(scenario: Scenario, order: GivenOrder | None) -> tuple[int, int]:
    """Return the memory left on the fullest GPUs, and their stage."""
    require_training(scenario)
    if order is None:
        names = ("headroom_bytes", "worst_stage_index")
        values = evaluate(compile_columns(scenario), names)
        return scalar(values["headroom_bytes"]), scalar(values["worst_stage_index"])
    peaks = ordered_metrics(scenario, order).peak_bytes
    memory = scenario.cluster.accelerator.memory_bytes
    return memory - max(peaks), peaks.index(max(peaks))


def explain(scenario: Scenario, path: str, *, ignore_memory: bool = False) -> Derivation:
    """Return the derivation of a published number, down to the inputs.

    Parameters
    ----------
    scenario : Scenario
        What is asked about.
    path : str
        Group and name, such as ``time.step_s``.
    ignore_memory : bool, optional
        Whether to derive what `estimate` withholds of a plan that does not fit.

    Returns
    -------
    Derivation
        Without a value, and with the reason, where the number is withheld.

    Raises
    ------
    PresetNotFoundError
        If there is no such quantity, or the scenario leaves out what it needs.
    """
    require_training(scenario)
    entry = quantity_named(path)
    if not ignore_memory and _from_step(entry, scenario):
        found = verdict(scenario)
        if not found.fits:
            return withheld(
                entry,
                f"the plan does not fit: {format_bytes(-found.headroom_bytes)} too much on the "
                f"fullest GPUs (stage {found.worst_stage_index})",
            )
    columns = compile_columns(scenario)
    if entry in SIMULATED:
        _refuse_actions(scenario, columns, PATH_ACTION_LIMIT)
        value = entry.chosen(None)(path_metrics(step_program(scenario, columns)))
        given = list(value) if isinstance(value, tuple) else value
        return simulated(entry, given, scenario, columns)
    return derive(scenario, columns, path)


def _from_step(entry: Quantity, scenario: Scenario) -> bool:
    """Return whether a number is withheld of a plan that does not fit.

    So are times, what follows from the time of a step, and what the simulator finds.
    """
    if entry in SIMULATED or entry.group == "time":
        return True
    return entry.group in GROUPS and "step_s" in reached(entry.name, scenario.plan.schedule.value)


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
    for name in names:
        entry = CATALOGUE[name]
        if entry.group not in groups:
            continue
        is_given = shown or not _from_step(entry, scenario)
        value = by_stage(values[name], entry.axes, classes) if is_given else None
        groups[entry.group][name] = value
        bases[entry.group].append(basis_of(scenario, name))
    return {
        group: {"basis": weakest(bases[group]).value} | entries for group, entries in groups.items()
    }


def _played(
    scenario: Scenario,
    columns: Columns,
    values: Mapping[str, Any],
    *,
    shown: bool,
    most_actions: int | None,
) -> tuple[PipelineMetrics | None, list[str]]:
    """Return what the fast engine finds: an estimate needs no spans, and has nothing by chance."""
    actions = action_count(scenario, scalar(values["microbatch_count"]))
    most = PATH_ACTION_LIMIT if most_actions is None else most_actions
    if not shown:
        return None, []
    if actions > most:
        return None, [f"not simulated: a step has {actions:,} actions, more than {most:,}"]
    program = step_program(scenario, columns)
    metrics = path_metrics(program)
    note = gap_note(scalar(values["step_s"]), program, metrics)
    return metrics, [note] if note else []


def _verdict_notes(*, fits: bool, ignore_memory: bool) -> list[str]:
    if fits:
        return []
    if ignore_memory:
        return ["the plan does not fit; times and costs are given all the same, as asked"]
    return ["the plan does not fit: times, throughput and costs are withheld"]
