"""What an answer says beside its numbers: which inputs have no effect here, and why.

No input is silent: a field moves a number of the answer, is refused, or is named here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from costmodels.formats import FORMATS
from costmodels.scenario import Scenario
from costmodels.specs.model import Positions
from costmodels.specs.plan import AttentionKernel, Recompute
from costmodels.specs.precision import STORED_ROLES
from costmodels.specs.workload import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A scenario, and the numbers that decide which of its fields matter.

    Attributes
    ----------
    scenario : Scenario
        What is asked about.
    values : mapping of str to object
        Quantities named in `NEEDED`.
    """

    scenario: Scenario
    values: Mapping[str, Any]

    @property
    def replicas(self) -> int:
        """Return the data-parallel size."""
        return int(self.values["data_parallel_size"])

    def crossing(self) -> list[bool]:
        """Return for each axis with more than one rank whether its groups cross nodes."""
        plan = self.scenario.plan
        sizes = {
            "tensor": plan.tensor_parallel_size,
            "data": self.replicas,
            "pipeline": plan.pipeline_parallel_size,
        }
        return [
            int(self.values[f"{axis}_node_members"]) < size
            for axis, size in sizes.items()
            if size > 1
        ]


NEEDED = (
    "data_parallel_size",
    "microbatch_count",
    "tensor_node_members",
    "data_node_members",
    "pipeline_node_members",
)
"""Quantities that notes are decided by."""


def notes(facts: Facts) -> tuple[str, ...]:
    """Return the notes of an answer, in a fixed order."""
    said = [rule(facts) for rule in _RULES]
    return tuple(note for note in said if note)


def _labels(facts: Facts) -> str:
    return (
        "model.name, cluster.name, cluster.accelerator.name and precision.name are labels: they "
        "enter no number"
    )


def _unvalidated(facts: Facts) -> str:
    return (
        "times rest on a roofline that has not been validated against measurements yet: basis "
        "assumed, no error bar"
    )


def _links(facts: Facts) -> str:
    crossing = facts.crossing()
    if not crossing:
        return (
            "cluster.scale_up, cluster.network, cluster.accelerators_per_node and plan.rank_order "
            "have no effect: one accelerator sends nothing"
        )
    if not any(crossing):
        return "cluster.network has no effect: no group crosses nodes"
    return ""


def _scale_up(facts: Facts) -> str:
    crossing = facts.crossing()
    if crossing and all(crossing):
        return (
            "cluster.scale_up: every group crosses nodes, so its latency has no effect, and its "
            "bandwidth only where it is lower than that of the network"
        )
    return ""


def _one_node(facts: Facts) -> str:
    cluster = facts.scenario.cluster
    if facts.crossing() and cluster.accelerator_count <= cluster.accelerators_per_node:
        return (
            "cluster.accelerators_per_node and plan.rank_order have no effect: all "
            f"{cluster.accelerator_count} accelerators are in one node"
        )
    return ""


def _one_axis(facts: Facts) -> str:
    cluster = facts.scenario.cluster
    if len(facts.crossing()) == 1 and cluster.accelerator_count > cluster.accelerators_per_node:
        return "plan.rank_order has no effect: only one axis has more than one rank"
    return ""


def _rotary(facts: Facts) -> str:
    model = facts.scenario.model
    if model.positions is not Positions.ROTARY:
        return ""
    note = "model.max_position_embeddings has no effect: rotary positions hold no parameters"
    if facts.scenario.workload.sequence_length > model.max_position_embeddings:
        note += (
            f"; the sequence is longer than the {model.max_position_embeddings:,} tokens that the "
            "model was made for"
        )
    return note


def _one_replica(facts: Facts) -> str:
    if facts.replicas > 1:
        return ""
    return (
        "plan.zero_stage, plan.overlap_gradient_reduction and plan.overlap_parameter_gather have "
        "no effect: there is one replica" + _reduction(facts)
    )


def _reduction(facts: Facts) -> str:
    tied = facts.scenario.model.tied_embeddings
    if tied and facts.scenario.plan.pipeline_parallel_size > 1:
        return ""
    return "; so has precision.gradient_reduction"


def _gather(facts: Facts) -> str:
    if facts.replicas > 1 and facts.scenario.plan.zero_stage == 0:
        return "plan.overlap_parameter_gather has no effect: without ZeRO no weights are gathered"
    return ""


def _one_stage(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.pipeline_parallel_size > 1:
        return ""
    note = "plan.layers_per_stage has no effect: one stage holds every layer"
    if int(facts.values["microbatch_count"]) == 1:
        note += "; so has plan.schedule, with one microbatch"
    return note


def _one_in_flight(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.pipeline_parallel_size > 1 and int(facts.values["microbatch_count"]) == 1:
        return "plan.schedule: with one microbatch GPipe and 1F1B do the same"
    return ""


def _moments(facts: Facts) -> str:
    if facts.scenario.workload.optimizer is Optimizer.SGD:
        return "precision.moments has no effect: plain SGD keeps no moments"
    return ""


def _peaks(facts: Facts) -> str:
    compute = facts.scenario.precision.compute
    peaks = facts.scenario.cluster.accelerator.peak_flop_per_s
    equal = [name for name in peaks if name != compute and peaks[name] == peaks[compute]]
    note = f"cluster.accelerator.peak_flop_per_s: only the peak of {compute} is used"
    if equal:
        note += f"; {', '.join(equal)} has the same peak, so precision.compute could be that too"
    return note


def _widths(facts: Facts) -> str:
    precision = facts.scenario.precision
    used = {getattr(precision, role) for role in STORED_ROLES} - {None}
    twins = sorted(
        name
        for name, entry in FORMATS.items()
        if entry.stored
        and name not in used
        and entry.tensor_bytes(1) in {FORMATS[member].tensor_bytes(1) for member in used}
    )
    if not twins:
        return ""
    return (
        "precision: formats of the same width take the same bytes and the same time to send; "
        f"{', '.join(twins)} would move no number of memory or communication"
    )


def _padding(facts: Facts) -> str:
    vocabulary = facts.scenario.model.vocabulary_size
    ranks = facts.scenario.plan.tensor_parallel_size
    if vocabulary % ranks == 0:
        return ""
    padded = -(-vocabulary // ranks) * ranks
    return (
        f"the embedding's {vocabulary:,} rows are padded to {padded:,} on "
        f"{ranks} tensor-parallel ranks; parameters of the model are counted without"
    )


def _selective(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.recompute is Recompute.SELECTIVE and plan.attention_kernel is AttentionKernel.FLASH:
        return (
            "selective recomputation saves only the logsumexp of attention, since a flash kernel "
            "keeps no scores; it still repeats the attention forward"
        )
    return ""


def _sharded_pipeline(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.zero_stage >= 2 and facts.replicas > 1 and int(facts.values["microbatch_count"]) > 1:
        what = (
            "gradients are scattered"
            if plan.zero_stage == 2
            else ("weights are gathered twice and gradients scattered")
        )
        return (
            f"plan.zero_stage ({plan.zero_stage}): {what} for every one of the "
            f"{int(facts.values['microbatch_count'])} microbatches"
        )
    return ""


def _price(facts: Facts) -> str:
    if facts.scenario.cluster.accelerator.price_usd_per_s is None:
        return "cluster.accelerator.price_usd_per_s is not known: no dollars are given"
    return ""


def _run(facts: Facts) -> str:
    if facts.scenario.workload.total_tokens is None:
        return "workload.total_tokens is not stated: days, dollars and energy of a run are left out"
    return ""


def _energy(facts: Facts) -> str:
    return (
        "energy counts full power of accelerators and hosts through the whole step: an upper bound"
    )


_RULES: tuple[Callable[[Facts], str], ...] = (
    _unvalidated,
    _padding,
    _selective,
    _sharded_pipeline,
    _links,
    _scale_up,
    _one_node,
    _one_axis,
    _rotary,
    _one_replica,
    _gather,
    _one_stage,
    _one_in_flight,
    _moments,
    _peaks,
    _widths,
    _price,
    _run,
    _energy,
    _labels,
)
