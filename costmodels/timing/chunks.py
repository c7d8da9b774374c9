"""Times of a chunk's passes: work, and what it waits for that does not hide behind it."""

from costmodels.collectives import send_s
from costmodels.columns import Axis, Column, maximum, total, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_ZHAO = "Zhao et al. 2023, arXiv:2304.11277, section 3.3: what does not hide behind compute"
_FIRST_UNIT = "; nothing runs before the first layer is gathered, here as large as the largest"
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_compute_s + chunk_forward_tensor_s + chunk_forward_sequence_s"
    " + chunk_forward_context_s + chunk_forward_expert_s",
    source="the sum of its parts",
)
def chunk_forward_work_s(
    chunk_forward_compute_s: Column,
    chunk_forward_tensor_s: Column,
    chunk_forward_sequence_s: Column,
    chunk_forward_context_s: Column,
    chunk_forward_expert_s: Column,
) -> Column:
    """Return the forward of a chunk inside its replica, behind which sharding can hide [s]."""
    inside = chunk_forward_compute_s + chunk_forward_tensor_s + chunk_forward_sequence_s
    return inside + chunk_forward_context_s + chunk_forward_expert_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_compute_s + chunk_recompute_s + chunk_backward_tensor_s"
    " + chunk_backward_sequence_s + chunk_backward_context_s + chunk_backward_expert_s",
    source="the sum of its parts",
)
def chunk_backward_work_s(
    chunk_backward_compute_s: Column,
    chunk_recompute_s: Column,
    chunk_backward_tensor_s: Column,
    chunk_backward_sequence_s: Column,
    chunk_backward_context_s: Column,
    chunk_backward_expert_s: Column,
) -> Column:
    """Return the backward of a chunk inside its replica, behind which sharding can hide [s]."""
    return (
        chunk_backward_compute_s
        + chunk_recompute_s
        + chunk_backward_tensor_s
        + chunk_backward_sequence_s
        + chunk_backward_context_s
        + chunk_backward_expert_s
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="(zero_stage >= 3) * chunk_exists * maximum(chunk_gather_s"
    " - overlap_parameter_gather * chunk_forward_work_s,"
    " chunk_gather_s * chunk_unit_parameters / maximum(chunk_parameters, 1))",
    source=_ZHAO + _FIRST_UNIT,
)
def chunk_forward_data_s(
    zero_stage: Column,
    chunk_exists: Column,
    chunk_gather_s: Column,
    overlap_parameter_gather: Column,
    chunk_forward_work_s: Column,
    chunk_unit_parameters: Column,
    chunk_parameters: Column,
) -> Column:
    """Return the gather of weights that a chunk's forward waits for, for one microbatch [s]."""
    visible = chunk_gather_s - overlap_parameter_gather * chunk_forward_work_s
    first = chunk_gather_s * chunk_unit_parameters / maximum(chunk_parameters, 1)
    return (zero_stage >= 3) * chunk_exists * maximum(visible, first)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (maximum((zero_stage >= 3) * overlap_parameter_gather * chunk_gather_s"
    " + (zero_stage >= 2) * overlap_gradient_reduction * chunk_gradient_s"
    " - chunk_backward_work_s, 0.0)"
    " + (zero_stage >= 3) * (1 - overlap_parameter_gather) * chunk_gather_s"
    " + (zero_stage >= 2) * (1 - overlap_gradient_reduction) * chunk_gradient_s)",
    source=_ZHAO + "; both use the same links",
)
def chunk_backward_data_s(
    chunk_exists: Column,
    zero_stage: Column,
    overlap_parameter_gather: Column,
    chunk_gather_s: Column,
    overlap_gradient_reduction: Column,
    chunk_gradient_s: Column,
    chunk_backward_work_s: Column,
) -> Column:
    """Return the traffic of sharding that a chunk's backward waits for, for one microbatch [s]."""
    gather = (zero_stage >= 3) * chunk_gather_s
    gradient = (zero_stage >= 2) * chunk_gradient_s
    hidden = overlap_parameter_gather * gather + overlap_gradient_reduction * gradient
    visible = (1 - overlap_parameter_gather) * gather + (1 - overlap_gradient_reduction) * gradient
    return chunk_exists * (maximum(hidden - chunk_backward_work_s, 0.0) + visible)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_work_s + chunk_forward_data_s + chunk_forward_offload_s",
    source="the sum of its parts",
)
def chunk_forward_s(
    chunk_forward_work_s: Column, chunk_forward_data_s: Column, chunk_forward_offload_s: Column
) -> Column:
    """Return the time of a chunk's forward, for one microbatch [s]."""
    return chunk_forward_work_s + chunk_forward_data_s + chunk_forward_offload_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_work_s + chunk_backward_data_s + chunk_backward_offload_s",
    source="the sum of its parts",
)
def chunk_backward_s(
    chunk_backward_work_s: Column, chunk_backward_data_s: Column, chunk_backward_offload_s: Column
) -> Column:
    """Return the time of a chunk's backward with what it computes again, for one microbatch [s]."""
    return chunk_backward_work_s + chunk_backward_data_s + chunk_backward_offload_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    group="time",
    formula="total(chunk_forward_s + chunk_backward_s)",
    source="the sum of its parts",
)
def stage_microbatch_s(chunk_forward_s: Axis, chunk_backward_s: Axis) -> Column:
    """Return the time that a GPU works for one microbatch [s]."""
    return total(
        [
            forward + backward
            for forward, backward in zip(chunk_forward_s, chunk_backward_s, strict=True)
        ]
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_parallel_size > 1, hop_bytes / pipeline_bandwidth_bytes_per_s, 0.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def hop_occupancy_s(
    pipeline_parallel_size: Column, hop_bytes: Column, pipeline_bandwidth_bytes_per_s: Column
) -> Column:
    """Return the time for which a message between stages occupies its link [s]."""
    return where(pipeline_parallel_size > 1, hop_bytes / pipeline_bandwidth_bytes_per_s, 0.0)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_parallel_size > 1, send_s(hop_bytes,"
    " bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s, latency_s=pipeline_latency_s), 0.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def hop_s(
    pipeline_parallel_size: Column,
    hop_bytes: Column,
    pipeline_bandwidth_bytes_per_s: Column,
    pipeline_latency_s: Column,
) -> Column:
    """Return the time from the end of a chunk to the arrival of its output at the next [s]."""
    hop = send_s(
        hop_bytes,
        bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s,
        latency_s=pipeline_latency_s,
    )
    return where(pipeline_parallel_size > 1, hop, 0.0)
