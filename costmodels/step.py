"""The time of a step, as a sum of terms, and the rates that follow from it.

With w the time that a stage works for one microbatch, p stages, v chunks on each rank and m
microbatches, the pipeline takes m w + (p - 1) w / v where stages are equal and links free [1]_.
Unequal stages wait for the slowest in every microbatch but the first; hand-overs add what the
schedule cannot hide.

References
----------
.. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
   Megatron-LM," 2021, section 2.2. arXiv:2104.04473.
"""

from costmodels.columns import (
    Axis,
    Column,
    first_of_largest,
    largest,
    maximum,
    minimum,
    present,
    total,
)
from costmodels.quantities import ALGORITHM, STAGE, Basis, Scope, quantity

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_MEAN = "mean over the stages of what each of them does"
_STAGE = (STAGE,)


def stage_mean(
    run_stage_count: Axis, pipeline_parallel_size: Column, chunks_of_stages: Axis
) -> Column:
    """Return the mean over stages of a sum over their chunks, equal neighbours counted as a run.

    Examples
    --------
    >>> stage_mean([1, 3], 4, [[2.0], [1.0]])
    1.25
    """
    stages = present(run_stage_count, chunks_of_stages)
    return total([count * total(chunks) for count, chunks in stages]) / pipeline_parallel_size


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="total(run_stage_count * stage_microbatch_s) / pipeline_parallel_size",
    source=_MEAN,
)
def mean_stage_s(
    run_stage_count: Axis, stage_microbatch_s: Axis, pipeline_parallel_size: Column
) -> Column:
    """Return the mean over stages of the time that a GPU works for one microbatch [s]."""
    stages = present(run_stage_count, stage_microbatch_s)
    return total([count * work for count, work in stages]) / pipeline_parallel_size


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="largest(stage_microbatch_s)",
    source="by definition",
)
def slowest_stage_s(stage_microbatch_s: Axis) -> Column:
    """Return the time that a GPU of the slowest stage works for one microbatch [s]."""
    return largest(stage_microbatch_s)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_compute_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_compute_s))",
    source=_MEAN,
)
def compute_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_compute_s: Axis,
    chunk_backward_compute_s: Axis,
) -> Column:
    """Return the compute time of a step without recomputation, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_compute_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_compute_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_recompute_s)",
    source=_MEAN,
)
def recompute_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_recompute_s: Axis,
) -> Column:
    """Return the time of a step that repeats forwards, a mean over stages [s]."""
    return chunk_microbatch_count * stage_mean(
        run_stage_count, pipeline_parallel_size, chunk_recompute_s
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_tensor_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_tensor_s))",
    source=_MEAN,
)
def tensor_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_tensor_s: Axis,
    chunk_backward_tensor_s: Axis,
) -> Column:
    """Return the time of a step that waits for tensor-parallel all-reduces, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_tensor_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_tensor_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_sequence_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_sequence_s))",
    source=_MEAN,
)
def sequence_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_sequence_s: Axis,
    chunk_backward_sequence_s: Axis,
) -> Column:
    """Return the time of a step that waits for sequence parallelism, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_sequence_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_sequence_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_context_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_context_s))",
    source=_MEAN,
)
def context_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_context_s: Axis,
    chunk_backward_context_s: Axis,
) -> Column:
    """Return the time of a step that waits for context-parallel ranks, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_context_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_context_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_expert_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_expert_s))",
    source=_MEAN,
)
def expert_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_expert_s: Axis,
    chunk_backward_expert_s: Axis,
) -> Column:
    """Return the time of a step that waits for exchanges with experts, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_expert_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_expert_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_data_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_data_s))",
    source=_MEAN,
)
def sharding_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_data_s: Axis,
    chunk_backward_data_s: Axis,
) -> Column:
    """Return the time of a step's microbatches that waits for sharding, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_data_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_data_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="chunk_microbatch_count * (stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_forward_offload_s) + stage_mean(run_stage_count, pipeline_parallel_size,"
    " chunk_backward_offload_s))",
    source=_MEAN,
)
def offload_exposed_s(
    chunk_microbatch_count: Column,
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_offload_s: Axis,
    chunk_backward_offload_s: Axis,
) -> Column:
    """Return the time of a step that waits for activations to and from the host, a mean over stages [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_offload_s)
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_offload_s)
    return chunk_microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    symbol="t_bubble",
    formula="maximum(ideal_bubble_s + minimum(uneven_s, 0.0), 0.0)",
    source=_NARAYANAN + "; less what unequal stages fill of it",
)
def bubble_s(ideal_bubble_s: Column, uneven_s: Column) -> Column:
    """Return the time in which the pipeline fills and drains [s]."""
    # Without a bubble, the difference of two equal sums may round below zero.
    return maximum(ideal_bubble_s + minimum(uneven_s, 0.0), 0.0)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="maximum(uneven_s, 0.0)",
    source="by definition",
)
def imbalance_s(uneven_s: Column) -> Column:
    """Return the time that stages wait for slower ones, beyond the bubble [s]."""
    return maximum(uneven_s, 0.0)


@quantity(
    "s",
    Scope.CHUNK,
    basis=Basis.ASSUMED,
    formula="stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_s) / virtual_stages",
    source=_MEAN,
)
def mean_chunk_forward_s(
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_s: Axis,
    virtual_stages: Column,
) -> Column:
    """Return the mean time of a chunk's forward, for one microbatch [s]."""
    forward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_forward_s)
    return forward / virtual_stages


@quantity(
    "s",
    Scope.CHUNK,
    basis=Basis.ASSUMED,
    formula="stage_mean(run_stage_count, pipeline_parallel_size, chunk_weight_gradient_s)"
    " / virtual_stages",
    source=_MEAN,
)
def mean_chunk_weight_gradient_s(
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_weight_gradient_s: Axis,
    virtual_stages: Column,
) -> Column:
    """Return the mean time of a chunk's weight gradients, for one microbatch [s]."""
    weight = stage_mean(run_stage_count, pipeline_parallel_size, chunk_weight_gradient_s)
    return weight / virtual_stages


@quantity(
    "s",
    Scope.CHUNK,
    basis=Basis.ASSUMED,
    formula="stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_s)"
    " / virtual_stages",
    source=_MEAN,
)
def mean_chunk_backward_s(
    run_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_backward_s: Axis,
    virtual_stages: Column,
) -> Column:
    """Return the mean time of a chunk's backward, for one microbatch [s]."""
    backward = stage_mean(run_stage_count, pipeline_parallel_size, chunk_backward_s)
    return backward / virtual_stages


@quantity(
    "s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    group="time",
    formula="compute_s + recompute_s + tensor_exposed_s + sequence_exposed_s + context_exposed_s"
    " + expert_exposed_s + sharding_exposed_s + offload_exposed_s + bubble_s + imbalance_s"
    " + pipeline_exposed_s",
    source="the sum of its parts",
)
def pipeline_s(
    compute_s: Column,
    recompute_s: Column,
    tensor_exposed_s: Column,
    sequence_exposed_s: Column,
    context_exposed_s: Column,
    expert_exposed_s: Column,
    sharding_exposed_s: Column,
    offload_exposed_s: Column,
    bubble_s: Column,
    imbalance_s: Column,
    pipeline_exposed_s: Column,
) -> Column:
    """Return the time from the first forward to the last backward of a step [s]."""
    return (
        compute_s
        + recompute_s
        + tensor_exposed_s
        + sequence_exposed_s
        + context_exposed_s
        + expert_exposed_s
        + sharding_exposed_s
        + offload_exposed_s
        + bubble_s
        + imbalance_s
        + pipeline_exposed_s
    )


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="exposed_reduction_s + replicated_s + tied_embedding_s + mirror_s + stage_optimizer_s"
    " + exposed_gather_s",
    source="the sum of its parts",
)
def stage_end_s(
    exposed_reduction_s: Column,
    replicated_s: Column,
    tied_embedding_s: Column,
    mirror_s: Column,
    stage_optimizer_s: Column,
    exposed_gather_s: Column,
) -> Column:
    """Return the time that a GPU needs after its last backward [s]."""
    gradients = exposed_reduction_s + replicated_s + tied_embedding_s + mirror_s
    return gradients + stage_optimizer_s + exposed_gather_s


@quantity(
    "s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source="a stage ends its last backward before the first stage does, by the backwards and "
    "hand-overs in between; the stage that ends its step last decides",
)
def end_s(
    stage_end_s: Axis,
    run_stage_count: Axis,
    chunk_backward_s: Axis,
    hop_s: Column,
    schedule_ends_in_turn: Column,
) -> Column:
    """Return the time of a step after the first stage's last backward [s].

    Examples
    --------
    The second stage needs 5 s and ends its last backward 2 + 1 s before the first.

    >>> end_s([1.0, 5.0], [1, 1], [[2.0], [2.0]], 1.0, 1)
    2.0
    """
    return largest(
        _ends(stage_end_s, run_stage_count, chunk_backward_s, hop_s, schedule_ends_in_turn)
    )


def _ends(
    stage_end_s: Axis,
    run_stage_count: Axis,
    chunk_backward_s: Axis,
    hop_s: Column,
    schedule_ends_in_turn: Column,
) -> list[Column]:
    """Return when the first stage of each run ends its step, after the first stage's last backward."""
    lead: Column = 0.0
    ends = []
    # The first stage of a run, behind which all others of it begin, ends last of them.
    stages = list(zip(stage_end_s, chunk_backward_s, strict=True))
    for count, (end, chunks) in present(run_stage_count, stages):
        ends.append(end - lead)
        lead = lead + schedule_ends_in_turn * count * (chunks[0] + hop_s)
    return ends


def _of_runs(run_stage_count: Axis, values: Axis) -> list[Column]:
    """Return the values of the stages at which runs begin."""
    return [value for _, value in present(run_stage_count, values)]


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula=ALGORITHM,
    source="of the stage that ends its step last, as far as it shows",
)
def optimizer_s(
    stage_optimizer_s: Axis,
    stage_end_s: Axis,
    run_stage_count: Axis,
    chunk_backward_s: Axis,
    hop_s: Column,
    schedule_ends_in_turn: Column,
) -> Column:
    """Return the time of a step that the optimizer takes [s].

    Examples
    --------
    >>> optimizer_s([0.5, 4.0], [1.0, 5.0], [1, 1], [[2.0], [2.0]], 1.0, 1)
    2.0
    """
    ends = _ends(stage_end_s, run_stage_count, chunk_backward_s, hop_s, schedule_ends_in_turn)
    return minimum(
        first_of_largest(_of_runs(run_stage_count, stage_optimizer_s), ends), largest(ends)
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula=ALGORITHM,
    source="of the stage that ends its step last, as far as it shows",
)
def tied_exposed_s(
    tied_embedding_s: Axis,
    optimizer_s: Column,
    stage_end_s: Axis,
    run_stage_count: Axis,
    chunk_backward_s: Axis,
    hop_s: Column,
    schedule_ends_in_turn: Column,
) -> Column:
    """Return the time of a step that waits for the copies of a tied embedding [s].

    Examples
    --------
    >>> tied_exposed_s([0.5, 0.5], 0.25, [1.0, 1.0], [1, 1], [[2.0], [2.0]], 1.0, 1)
    0.5
    """
    ends = _ends(stage_end_s, run_stage_count, chunk_backward_s, hop_s, schedule_ends_in_turn)
    return minimum(
        first_of_largest(_of_runs(run_stage_count, tied_embedding_s), ends),
        largest(ends) - optimizer_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula=ALGORITHM,
    source="of the stage that ends its step last, as far as it shows",
)
def replicated_exposed_s(
    replicated_s: Axis,
    optimizer_s: Column,
    tied_exposed_s: Column,
    stage_end_s: Axis,
    run_stage_count: Axis,
    chunk_backward_s: Axis,
    hop_s: Column,
    schedule_ends_in_turn: Column,
) -> Column:
    """Return the time of a step that waits for sums of gradients of replicated weights [s].

    Examples
    --------
    >>> replicated_exposed_s([0.5, 0.5], 0.25, 0.0, [1.0, 1.0], [1, 1], [[2.0], [2.0]], 1.0, 1)
    0.5
    """
    ends = _ends(stage_end_s, run_stage_count, chunk_backward_s, hop_s, schedule_ends_in_turn)
    left = largest(ends) - optimizer_s - tied_exposed_s
    return minimum(first_of_largest(_of_runs(run_stage_count, replicated_s), ends), left)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="sharding_exposed_s + (end_s - optimizer_s - tied_exposed_s - replicated_exposed_s)",
    source="the sum of its parts",
)
def data_exposed_s(
    sharding_exposed_s: Column,
    end_s: Column,
    optimizer_s: Column,
    tied_exposed_s: Column,
    replicated_exposed_s: Column,
) -> Column:
    """Return the time of a step that waits for the other replicas [s]."""
    return sharding_exposed_s + (end_s - optimizer_s - tied_exposed_s - replicated_exposed_s)


@quantity(
    "s",
    Scope.TOTAL,
    symbol="T",
    basis=Basis.ASSUMED,
    group="time",
    formula="compute_s + recompute_s + tensor_exposed_s + sequence_exposed_s + context_exposed_s"
    " + expert_exposed_s + data_exposed_s + offload_exposed_s"
    " + pipeline_exposed_s + bubble_s + imbalance_s + replicated_exposed_s + tied_exposed_s"
    " + optimizer_s",
    source="the sum of its terms",
)
def step_s(
    compute_s: Column,
    recompute_s: Column,
    tensor_exposed_s: Column,
    sequence_exposed_s: Column,
    context_exposed_s: Column,
    expert_exposed_s: Column,
    data_exposed_s: Column,
    offload_exposed_s: Column,
    pipeline_exposed_s: Column,
    bubble_s: Column,
    imbalance_s: Column,
    replicated_exposed_s: Column,
    tied_exposed_s: Column,
    optimizer_s: Column,
) -> Column:
    """Return the time of a step, from first forward to updated weights [s]."""
    return (
        compute_s
        + recompute_s
        + tensor_exposed_s
        + sequence_exposed_s
        + context_exposed_s
        + expert_exposed_s
        + data_exposed_s
        + offload_exposed_s
        + pipeline_exposed_s
        + bubble_s
        + imbalance_s
        + replicated_exposed_s
        + tied_exposed_s
        + optimizer_s
    )


@quantity(
    "fraction",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    group="pipeline",
    formula="(bubble_s + imbalance_s + pipeline_exposed_s) / pipeline_s",
    source=_NARAYANAN,
)
def idle_fraction(
    bubble_s: Column, imbalance_s: Column, pipeline_exposed_s: Column, pipeline_s: Column
) -> Column:
    """Return the share of the pipeline's time in which GPUs wait, a mean over stages [fraction]."""
    return (bubble_s + imbalance_s + pipeline_exposed_s) / pipeline_s
