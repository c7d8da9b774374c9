"""What a GPU does after its last backward: reduce gradients, update weights, gather them.

A reduction that overlaps runs from the start of the last backward of the first chunk; its last
bucket, one layer where the plan states no buckets, waits until that has ended.
"""

from costmodels.columns import Axis, Column, maximum, minimum, total, where
from costmodels.quantities import STAGE, Basis, Scope, quantity

_OPERANDS = "by counting the tensors that each operation reads and writes, once each"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_ZHAO = "Zhao et al. 2023, arXiv:2304.11277, section 3.3: what does not hide behind compute"
_STAGE = (STAGE,)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="where(zero_stage >= 2, 0.0, (2 - minimum(zero_stage, 1)) * total(chunk_gradient_s))",
    source=_RING + "; sharded gradients were scattered in the backward",
)
def reduction_s(zero_stage: Column, chunk_gradient_s: Axis) -> Column:
    """Return the time to reduce the gradients at the end of a step [s]."""
    passes = 2 - minimum(zero_stage, 1)
    return where(zero_stage >= 2, 0.0, passes * total(chunk_gradient_s))


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="where(overlap_gradient_reduction * (gradient_bucket_parameters"
    " + gradient_buckets_is_torch_ddp > 0),"
    " (zero_stage < 2) * (2 - minimum(zero_stage, 1)) * first(chunk_last_bucket_s), reduction_s"
    " * where(overlap_gradient_reduction,"
    " trained_unit_parameters / maximum(stage_trained_parameters, 1), 1.0))",
    source="Li et al. 2020, arXiv:2006.15704, section 3.2.3: the last bucket, of the first chunk's "
    "first parameters, is ready when the backward ends; without buckets, here, one layer",
)
def last_reduction_s(
    overlap_gradient_reduction: Column,
    gradient_bucket_parameters: Column,
    gradient_buckets_is_torch_ddp: Column,
    zero_stage: Column,
    chunk_last_bucket_s: Axis,
    reduction_s: Column,
    trained_unit_parameters: Column,
    stage_trained_parameters: Column,
) -> Column:
    """Return the part of the reduction that cannot start before the last backward ends [s]."""
    share = trained_unit_parameters / maximum(stage_trained_parameters, 1)
    layer_s = reduction_s * where(overlap_gradient_reduction, share, 1.0)
    passes = (zero_stage < 2) * (2 - minimum(zero_stage, 1))
    has_buckets = gradient_bucket_parameters + gradient_buckets_is_torch_ddp > 0
    bucketed = overlap_gradient_reduction * has_buckets
    return where(bucketed, passes * chunk_last_bucket_s[0], layer_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="maximum(reduction_s - where(schedule_splits_backward, first(chunk_weight_gradient_s),"
    " first(chunk_backward_work_s) + first(chunk_backward_offload_s)), last_reduction_s)",
    source="Li et al. 2020, arXiv:2006.15704, section 3.2.3: the rest hides behind the last "
    "backward of the first chunk, its waits for the host included; of a split backward, behind its "
    "weight gradients",
)
def exposed_reduction_s(
    reduction_s: Column,
    schedule_splits_backward: Column,
    chunk_weight_gradient_s: Axis,
    chunk_backward_work_s: Axis,
    chunk_backward_offload_s: Axis,
    last_reduction_s: Column,
) -> Column:
    """Return the time that the end of a step waits for the reduction of gradients [s]."""
    backward_s = chunk_backward_work_s[0] + chunk_backward_offload_s[0]
    hiding_s = where(schedule_splits_backward, chunk_weight_gradient_s[0], backward_s)
    return maximum(reduction_s - hiding_s, last_reduction_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="(zero_stage < 2) * total(chunk_replicated_s)",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: after the backward, nothing "
    "to hide behind; " + _RING,
)
def replicated_s(zero_stage: Column, chunk_replicated_s: Axis) -> Column:
    """Return the time to sum gradients of replicated weights at the end of a step [s]."""
    return (zero_stage < 2) * total(chunk_replicated_s)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="minimum(tied_embedding_bytes, 1) * 2 * pipeline_latency_s"
    " + tied_embedding_bytes / pipeline_bandwidth_bytes_per_s",
    source="Narayanan et al. 2021, arXiv:2104.04473: after the backward, nothing to hide behind; "
    + _RING,
)
def tied_embedding_s(
    tied_embedding_bytes: Column,
    pipeline_latency_s: Column,
    pipeline_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time to add the gradients of a tied embedding's copies [s]."""
    steps = minimum(tied_embedding_bytes, 1) * 2
    return steps * pipeline_latency_s + tied_embedding_bytes / pipeline_bandwidth_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="minimum(mirror_call_bytes, 1) * 2 * pipeline_latency_s"
    " + mirror_call_bytes / pipeline_bandwidth_bytes_per_s",
    source="DeepSeek-AI 2024, arXiv:2412.19437, section 3.2.1: two copies of the layers; after the "
    "other reductions, nothing to hide behind; " + _RING,
)
def mirror_s(
    mirror_call_bytes: Column,
    pipeline_latency_s: Column,
    pipeline_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time to add the gradients of two copies of a GPU's layers [s]."""
    steps = minimum(mirror_call_bytes, 1) * 2
    return steps * pipeline_latency_s + mirror_call_bytes / pipeline_bandwidth_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="where((zero_stage == 1) + (zero_stage == 2), maximum(total(chunk_gather_s)"
    " - overlap_parameter_gather * first(chunk_forward_work_s), 0.0), 0.0)",
    source=_ZHAO + ": the first forward of the next step",
)
def exposed_gather_s(
    zero_stage: Column,
    chunk_gather_s: Axis,
    overlap_parameter_gather: Column,
    chunk_forward_work_s: Axis,
) -> Column:
    """Return the time that a step waits for the gather of updated weights [s]."""
    visible = total(chunk_gather_s) - overlap_parameter_gather * chunk_forward_work_s[0]
    return where((zero_stage == 1) + (zero_stage == 2), maximum(visible, 0.0), 0.0)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="maximum((where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)"
    " * (gradient_element_bytes + 2 * main_weight_element_bytes + trained_element_bytes"
    " * (1 + (main_weight_element_bytes == 0)) * (1 - cast_on_gather)) + 2 * moment_state_bytes)"
    " / memory_bytes_per_s,"
    " host_state_bytes / maximum(stated_host_bytes_per_s, 1.0))",
    source=_OPERANDS
    + ": gradient read; main weights and moments read and written; weights written, unless they are "
    "made as they are gathered; or states from and to the host, both ways at once",
)
def stage_optimizer_s(
    stage_trained_parameters: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    gradient_element_bytes: Column,
    main_weight_element_bytes: Column,
    trained_element_bytes: Column,
    moment_state_bytes: Column,
    host_state_bytes: Column,
    stated_host_bytes_per_s: Column,
    memory_bytes_per_s: Column,
    cast_on_gather: Column,
) -> Column:
    """Return the time of a GPU's optimizer, bound by memory or by the link to the host [s]."""
    updated = where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)
    element_bytes = (
        gradient_element_bytes
        + 2 * main_weight_element_bytes
        + trained_element_bytes * (1 + (main_weight_element_bytes == 0)) * (1 - cast_on_gather)
    )
    update_s = (updated * element_bytes + 2 * moment_state_bytes) / memory_bytes_per_s
    return maximum(update_s, host_state_bytes / maximum(stated_host_bytes_per_s, 1.0))
