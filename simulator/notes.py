"""What an answer says beside its numbers.

No input is silent: a field moves a number of the answer, is refused, or is named here.
"""

from collections.abc import Callable

from costmodels.columns import ceiling
from costmodels.specs.plan import AttentionKernel, Recompute, RecomputeModule, SavedTensors
from costmodels.specs.workload import Optimizer
from costmodels.stages import balanced_layers, part_count
from simulator.adapter_notes import trained
from simulator.facts import Facts
from simulator.inert_fields import INERT


def notes(facts: Facts) -> tuple[str, ...]:
    """Return the notes of an answer, in a fixed order."""
    said = [rule(facts) for rule in (*_ADVICE, *INERT)]
    return tuple(note for note in said if note)


def _unvalidated(facts: Facts) -> str:
    return (
        "times rest on a roofline that has not been validated against measurements yet: basis "
        "assumed, no error bar"
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
    repeats_core = (
        plan.recompute is Recompute.SELECTIVE
        and RecomputeModule.CORE_ATTN in plan.recompute_modules
    )
    if repeats_core and plan.attention_kernel is AttentionKernel.FLASH:
        alone = len(plan.recompute_modules) == 1
        what = "selective recomputation" if alone else "core_attn in plan.recompute_modules"
        return (
            f"{what} saves only the logsumexp of attention, since a flash kernel "
            "keeps no scores; it still repeats the attention forward"
        )
    return ""


_LISTS = {
    SavedTensors.MEGATRON: "Megatron-LM lists them (Korthikanti et al. 2022)",
    SavedTensors.TRANSFORMER_ENGINE: "Megatron-LM keeps them with TransformerEngine",
    SavedTensors.TORCH_CUDA: "torch keeps them of plain modules with fused kernels, derived from "
    "documented kernels and not measured",
    SavedTensors.TORCH_EAGER_CPU: "torch keeps them of plain modules on a CPU",
}


def _saved_tensors(facts: Facts) -> str:
    plan = facts.scenario.plan
    return (
        f"activations are counted as {_LISTS[plan.saved_tensors]}, with a "
        f"{plan.attention_kernel.value} kernel (plan.saved_tensors = {plan.saved_tensors.value})"
    )


def _sharded_pipeline(facts: Facts) -> str:
    plan = facts.scenario.plan
    if plan.zero_stage >= 2 and facts.replicas > 1 and facts.microbatches > 1:
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


def _offloaded(facts: Facts) -> str:
    """Return what the time of activations that go to the host rests on."""
    plan = facts.scenario.plan
    if not plan.offload_activations_num_layers:
        return ""
    alone = plan.pipeline_parallel_size == 1 and plan.recompute is Recompute.NONE
    megatron = (
        ""
        if alone
        else "; --cpu-offloading-num-layers of Megatron-LM itself refuses pipelines and recomputation"
    )
    return (
        f"plan.offload_activations_num_layers ({plan.offload_activations_num_layers}): copies are "
        "taken to have cluster.host_bandwidth_bytes_per_s for themselves in each direction, and to "
        "hide behind all of a chunk's forward and backward; the rest is waited for" + megatron
    )


def _muon(facts: Facts) -> str:
    if facts.scenario.workload.optimizer is Optimizer.MUON:
        return (
            "workload.optimizer (muon): the products that make an update orthogonal are not in the "
            "time of the step"
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


def _uneven(facts: Facts) -> str:
    plan, layers = facts.scenario.plan, facts.scenario.model.num_hidden_layers
    stages = part_count(plan)
    further = facts.scenario.model.multi_token_prediction_layers
    if plan.layers_per_stage is not None or (layers + 2) % stages == 0 or layers % stages:
        return ""
    most = max(balanced_layers(layers, stages, further))
    return (
        f"plan.layers_per_stage: {layers} layers and two ends do not divide by {stages} virtual "
        f"stages, so some hold {most} layers; {layers // stages} on every one is the other choice"
    )


def _dropped(facts: Facts) -> str:
    """Return which part of the assignments of tokens to experts a capacity cuts."""
    mixture, factor = facts.scenario.model.mixture, facts.scenario.plan.expert_capacity_factor
    if mixture is None or factor is None:
        return ""
    rows = int(facts.values["sharded_tokens"]) * mixture.experts_per_token
    kept = mixture.expert_count * ceiling(rows / mixture.expert_count * factor)
    if kept >= rows:
        return ""
    return (
        f"plan.expert_capacity_factor ({factor:g}) cuts {(rows - kept) / rows:.4g} of the "
        "assignments of tokens to experts: model FLOP are without them, and the loss with them is "
        "another"
    )


_ADVICE: tuple[Callable[[Facts], str], ...] = (
    _unvalidated,
    _uneven,
    _padding,
    _saved_tensors,
    _selective,
    _sharded_pipeline,
    _offloaded,
    _muon,
    trained,
    _price,
    _run,
    _energy,
    _dropped,
)
