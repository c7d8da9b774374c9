"""What a colleague would remark about a plan, each remark with changes that were tried."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from costmodels.errors import ShardwiseError
from costmodels.leaves import field_value
from costmodels.scenario import Scenario
from costmodels.units import format_bytes, format_fraction
from dashboard import questions
from dashboard.questions import Question
from simulator.answer import Answer

Changes = tuple[tuple[str, str], ...]

MOST_IDLE_FRACTION = 0.2
"""Idle share of the pipeline above which a remark is made."""

MOST_UNUSED_FRACTION = 0.4
"""Share of memory that lies idle above which a remark is made."""

_KEPT = 3


class Remedy(NamedTuple):
    """A change that was tried, and the answer to it."""

    changes: Changes
    answer: Answer


class Remark(NamedTuple):
    """A sentence about a plan, and the changes that mend what it says.

    Attributes
    ----------
    text : str
        The sentence.
    remedies : tuple of Remedy
        Changes that help, the best first; none where none of those tried does.
    """

    text: str
    remedies: tuple[Remedy, ...]


def remarks(asked: Question) -> tuple[Remark, ...]:
    """Return what is to be said about a plan, the most important first."""
    scenario, answer = asked.scenario, questions.answer(asked)
    return tuple(
        Remark(text, _tried(asked, answer, candidates(scenario), helps))
        for text, candidates, helps in _concerns(scenario, answer)
    )


_Candidates = Callable[[Scenario], Sequence[Changes]]
_Helps = Callable[[Answer, Answer], bool]


def _concerns(scenario: Scenario, answer: Answer) -> Iterator[tuple[str, _Candidates, _Helps]]:
    memory, pipeline = answer.memory, answer.pipeline
    if not answer.fits:
        missing = format_bytes(-memory["headroom_bytes"])
        text = f"The plan needs {missing} more memory than a GPU has."
        yield text, _smaller, _fits
        return
    plan, cluster = scenario.plan, scenario.cluster
    if plan.tensor_parallel_size > cluster.accelerators_per_node:
        text = (
            f"The tensor-parallel group ({plan.tensor_parallel_size}) is larger than a node "
            f"({cluster.accelerators_per_node}): every layer waits for the network between nodes."
        )
        yield text, _within_a_node, _is_faster
    idle = pipeline["idle_fraction"]
    if idle is not None and idle > MOST_IDLE_FRACTION:
        text = f"The pipeline is idle for {format_fraction(idle)} of its time."
        yield text, _fuller_pipeline, _is_faster
    unused = memory["headroom_bytes"] / cluster.accelerator.memory_bytes
    if unused > MOST_UNUSED_FRACTION:
        text = (
            f"{format_fraction(unused)} of the memory of the fullest GPUs lies idle: "
            "recomputing or sharding less may be faster."
        )
        yield text, _more_memory, _is_faster


def _fits(before: Answer, after: Answer) -> bool:
    del before
    return after.fits


def _is_faster(before: Answer, after: Answer) -> bool:
    rates = [answer.time["tokens_per_s"] for answer in (before, after)]
    return bool(after.fits and rates[0] and rates[1] and rates[1] > 1.005 * rates[0])


def _tried(
    asked: Question, before: Answer, candidates: Sequence[Changes], helps: _Helps
) -> tuple[Remedy, ...]:
    found = []
    for changes in candidates:
        try:
            after = questions.closed_form(asked.changed(dict(changes)))
        except ShardwiseError:
            continue  # Not every change is legal together with the other fields.
        if helps(before, after):
            found.append(Remedy(changes, after))
    found.sort(key=lambda remedy: -(remedy.answer.time["tokens_per_s"] or 0))
    return tuple(found[:_KEPT])


def _set(scenario: Scenario, **values: object) -> Changes:
    """Return changes of the plan, those left out that change nothing."""
    return tuple(
        (f"plan.{name}", str(value).lower())
        for name, value in values.items()
        if _written(field_value(scenario, f"plan.{name}")) != str(value).lower()
    )


def _written(value: object) -> str:
    return str(getattr(value, "value", value)).lower()


def _kept(candidates: Sequence[Changes]) -> list[Changes]:
    return [changes for changes in dict.fromkeys(candidates) if changes]


def _smaller(scenario: Scenario) -> list[Changes]:
    plan = scenario.plan
    wider = 2 * plan.tensor_parallel_size
    splits = plan.tensor_parallel_size > 1
    return _kept(
        [
            _set(scenario, micro_batch_size=1),
            _set(scenario, sequence_parallel=splits),
            _set(scenario, recompute="selective", sequence_parallel=splits),
            _set(scenario, recompute="full", micro_batch_size=1, sequence_parallel=splits),
            *(_set(scenario, zero_stage=stage) for stage in (1, 2, 3) if stage > plan.zero_stage),
            _set(scenario, zero_stage=max(plan.zero_stage, 1), recompute="full"),
            _set(scenario, zero_stage=3, recompute="full", micro_batch_size=1),
            _set(scenario, pipeline_parallel_size=2 * plan.pipeline_parallel_size),
            _set(scenario, tensor_parallel_size=wider, sequence_parallel=True),
            _set(
                scenario,
                tensor_parallel_size=scenario.cluster.accelerators_per_node,
                sequence_parallel=True,
                recompute="full",
                zero_stage=max(plan.zero_stage, 1),
            ),
        ]
    )


def _within_a_node(scenario: Scenario) -> list[Changes]:
    node, plan = scenario.cluster.accelerators_per_node, scenario.plan
    factor = max(plan.tensor_parallel_size // node, 1)
    return _kept(
        [
            _set(scenario, tensor_parallel_size=node),
            _set(
                scenario,
                tensor_parallel_size=node,
                pipeline_parallel_size=factor * plan.pipeline_parallel_size,
            ),
            _set(scenario, tensor_parallel_size=node, zero_stage=max(plan.zero_stage, 1)),
        ]
    )


def _fuller_pipeline(scenario: Scenario) -> list[Changes]:
    plan = scenario.plan
    batch = (("workload.global_batch_size", str(2 * scenario.workload.global_batch_size)),)
    interleaved = [
        _set(scenario, schedule="interleaved-1f1b", virtual_stages=count) for count in (2, 3, 4, 7)
    ]
    return _kept(
        [
            *interleaved,
            _set(scenario, micro_batch_size=max(plan.micro_batch_size // 2, 1)),
            _set(scenario, pipeline_parallel_size=max(plan.pipeline_parallel_size // 2, 1)),
            batch,
        ]
    )


def _more_memory(scenario: Scenario) -> list[Changes]:
    plan = scenario.plan
    less = {"full": ("selective", "none"), "selective": ("none",)}.get(plan.recompute.value, ())
    return _kept(
        [
            *(_set(scenario, recompute=each) for each in less),
            _set(scenario, zero_stage=1) if plan.zero_stage > 1 else (),
            _set(scenario, micro_batch_size=2 * plan.micro_batch_size),
            _set(scenario, tensor_parallel_size=max(plan.tensor_parallel_size // 2, 1)),
            _set(scenario, pipeline_parallel_size=max(plan.pipeline_parallel_size // 2, 1)),
        ]
    )
