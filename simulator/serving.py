"""What inference is answered about, and which fields of a scenario it does not depend on."""

from costmodels.errors import NotModelledError
from costmodels.scenario import Scenario
from costmodels.specs.layouts import Latent
from costmodels.specs.workload import WorkloadKind


def require_training(scenario: Scenario) -> None:
    """Raise unless a scenario describes training.

    Raises
    ------
    NotModelledError
        Naming what answers about inference.
    """
    kind = scenario.workload.kind
    if kind is not WorkloadKind.TRAINING:
        raise NotModelledError(
            f"workload.kind ({kind.value}): only the memory of inference is modelled yet: ask "
            "shardwise memory; every other command needs workload.kind = training"
        )


_INERT = (
    "plan.schedule",
    "plan.recompute",
    "plan.saved_tensors",
    "plan.overlap_gradient_reduction",
    "plan.overlap_parameter_gather",
    "plan.rank_order",
    "workload.optimizer",
    "workload.total_tokens",
    "precision.gradients",
    "precision.main_weights",
    "precision.moments",
    "precision.gradient_reduction",
    "precision.compute",
    "model.dropout",
    "model.multi_token_prediction_layers",
)
"""Fields that the memory of no inference depends on."""


def serving_notes(scenario: Scenario) -> tuple[str, ...]:
    """Return what an answer about the memory of inference says beside its numbers."""
    decodes = scenario.workload.kind is WorkloadKind.DECODE
    inert = [*_INERT, *(["plan.micro_batch_size"] if decodes else [])]
    if not any(isinstance(layout, Latent) for layout in scenario.model.layouts):
        inert.append("plan.decompress_kv_cache")
    step = (
        "a step of decode takes one token of every sequence of the replica"
        if decodes
        else "a step of prefill takes the whole prompts of one microbatch "
        f"({scenario.plan.micro_batch_size})"
    )
    return (
        f"{step}; the cache holds every sequence at workload.sequence_length",
        f"{', '.join(inert)} and the links and rates of the cluster have no effect on the memory "
        "of inference",
        "activations of a step are an estimate by counting tensors; CUDA graphs and a serving "
        "engine's own pools belong into the reserve (cluster.accelerator.context_bytes, "
        "allocator_reserve_bytes)",
    )
