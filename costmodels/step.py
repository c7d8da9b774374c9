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

from types import MappingProxyType

from costmodels.columns import Axis, Column, largest, maximum, minimum, total, weighted_total
from costmodels.quantities import ALGORITHM, STAGE, Basis, Quantity, Scope, quantity

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_MEAN = "mean over the stages of what each of them does"
_CHOWDHERY = "Chowdhery et al. 2022, arXiv:2204.02311, appendix B"
_STAGE = (STAGE,)


def stage_mean(
    class_stage_count: Axis, pipeline_parallel_size: Column, chunks_of_stages: Axis
) -> Column:
    """Return the mean over stages of a sum over their chunks.

    Examples
    --------
    >>> stage_mean([1, 3], 4, [[2.0], [1.0]])
    1.25
    """
    sums = [total(chunks) for chunks in chunks_of_stages]
    return weighted_total(class_stage_count, sums) / pipeline_parallel_size


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="total(class_stage_count * stage_microbatch_s) / pipeline_parallel_size",
    source=_MEAN,
)
def mean_stage_s(
    class_stage_count: Axis, stage_microbatch_s: Axis, pipeline_parallel_size: Column
) -> Column:
    """Return the mean over stages of the time that a GPU works for one microbatch [s]."""
    return weighted_total(class_stage_count, stage_microbatch_s) / pipeline_parallel_size


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
    formula="microbatch_count * (stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_forward_compute_s) + stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_backward_compute_s))",
    source=_MEAN,
)
def compute_s(
    microbatch_count: Column,
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_compute_s: Axis,
    chunk_backward_compute_s: Axis,
) -> Column:
    """Return the compute time of a step without recomputation, a mean over stages [s]."""
    forward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_compute_s)
    backward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_compute_s)
    return microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="microbatch_count * stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_recompute_s)",
    source=_MEAN,
)
def recompute_s(
    microbatch_count: Column,
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_recompute_s: Axis,
) -> Column:
    """Return the time of a step that repeats forwards, a mean over stages [s]."""
    return microbatch_count * stage_mean(
        class_stage_count, pipeline_parallel_size, chunk_recompute_s
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="microbatch_count * (stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_forward_tensor_s) + stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_backward_tensor_s))",
    source=_MEAN,
)
def tensor_exposed_s(
    microbatch_count: Column,
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_tensor_s: Axis,
    chunk_backward_tensor_s: Axis,
) -> Column:
    """Return the time of a step that waits for tensor-parallel all-reduces, a mean over stages [s]."""
    forward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_tensor_s)
    backward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_tensor_s)
    return microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="microbatch_count * (stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_forward_sequence_s) + stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_backward_sequence_s))",
    source=_MEAN,
)
def sequence_exposed_s(
    microbatch_count: Column,
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_sequence_s: Axis,
    chunk_backward_sequence_s: Axis,
) -> Column:
    """Return the time of a step that waits for sequence parallelism, a mean over stages [s]."""
    forward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_sequence_s)
    backward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_sequence_s)
    return microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="microbatch_count * (stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_forward_data_s) + stage_mean(class_stage_count, pipeline_parallel_size,"
    " chunk_backward_data_s))",
    source=_MEAN,
)
def sharding_exposed_s(
    microbatch_count: Column,
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_data_s: Axis,
    chunk_backward_data_s: Axis,
) -> Column:
    """Return the time of a step's microbatches that waits for sharding, a mean over stages [s]."""
    forward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_data_s)
    backward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_data_s)
    return microbatch_count * (forward + backward)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    symbol="t_bubble",
    formula="(pipeline_parallel_size - 1) * mean_stage_s / virtual_stages",
    source=_NARAYANAN,
)
def bubble_s(
    pipeline_parallel_size: Column, mean_stage_s: Column, virtual_stages: Column
) -> Column:
    """Return the time in which the pipeline fills and drains [s].

    Examples
    --------
    >>> bubble_s(4, 3.0, 1)
    9.0
    """
    return (pipeline_parallel_size - 1) * mean_stage_s / virtual_stages


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="(microbatch_count - 1) * (slowest_stage_s - mean_stage_s)",
    source="the slowest stage paces every microbatch but the first",
)
def imbalance_s(microbatch_count: Column, slowest_stage_s: Column, mean_stage_s: Column) -> Column:
    """Return the time that stages wait for the slowest of them [s]."""
    return (microbatch_count - 1) * (slowest_stage_s - mean_stage_s)


@quantity(
    "s",
    Scope.CHUNK,
    basis=Basis.ASSUMED,
    formula="stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_s)"
    " / virtual_stages",
    source=_MEAN,
)
def mean_chunk_forward_s(
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_forward_s: Axis,
    virtual_stages: Column,
) -> Column:
    """Return the mean time of a chunk's forward, for one microbatch [s]."""
    forward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_forward_s)
    return forward / virtual_stages


@quantity(
    "s",
    Scope.CHUNK,
    basis=Basis.ASSUMED,
    formula="stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_s)"
    " / virtual_stages",
    source=_MEAN,
)
def mean_chunk_backward_s(
    class_stage_count: Axis,
    pipeline_parallel_size: Column,
    chunk_backward_s: Axis,
    virtual_stages: Column,
) -> Column:
    """Return the mean time of a chunk's backward, for one microbatch [s]."""
    backward = stage_mean(class_stage_count, pipeline_parallel_size, chunk_backward_s)
    return backward / virtual_stages


def gpipe_hops_s(hop_s: Column, pipeline_parallel_size: Column) -> Column:
    """Return the hand-overs that GPipe waits for: once down the stages and once back [s].

    Examples
    --------
    >>> gpipe_hops_s(1.0, 4)
    6.0
    """
    return 2 * (pipeline_parallel_size - 1) * hop_s


def one_f_one_b_hops_s(
    hop_s: Column,
    pipeline_parallel_size: Column,
    microbatch_count: Column,
    mean_stage_s: Column,
    slowest_stage_s: Column,
) -> Column:
    """Return the hand-overs that 1F1B waits for [s].

    Notes
    -----
    A rank holds few microbatches, so that the forward of microbatch i + p on the first stage waits
    for the backward of microbatch i: a trip down and back for every p microbatches, and two hops
    for each further one but the first. Counted on the schedule's orders, where it is exact for
    equal stages; what waits for the slowest stage anyhow hides these hops.

    Examples
    --------
    >>> one_f_one_b_hops_s(1.0, 4, 4, 30.0, 30.0), one_f_one_b_hops_s(1.0, 4, 8, 30.0, 30.0)
    (10.0, 16.0)
    """
    trip = 2 * (pipeline_parallel_size - 1) * hop_s
    later = microbatch_count - 1
    steady = (later // pipeline_parallel_size) * trip + minimum(
        pipeline_parallel_size - 1, 1
    ) * 2 * maximum(later % pipeline_parallel_size - 1, 0) * hop_s
    return trip + maximum(steady - later * (slowest_stage_s - mean_stage_s), 0.0)


def interleaved_hops_s(
    hop_s: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    microbatch_count: Column,
    mean_chunk_forward_s: Column,
    mean_chunk_backward_s: Column,
) -> Column:
    """Return the hand-overs and missing microbatches that interleaved 1F1B waits for [s].

    Notes
    -----
    Microbatches go in R rounds of r. Between two chunks a microbatch travels once around the p
    ranks, which takes p (f + c) where the first rank has r f of other work while the pipeline
    fills, and r (f + b) later; so for the backward. Exact for equal stages while a hop c takes no
    longer than a chunk.

    Examples
    --------
    >>> interleaved_hops_s(1.0, 4, 2, 8, 10.0, 20.0)
    14.0
    """
    p, v = pipeline_parallel_size, virtual_stages
    rounds = maximum(microbatch_count // p, 1)
    around = microbatch_count // rounds
    forward, backward = mean_chunk_forward_s, mean_chunk_backward_s
    down, back = p * (forward + hop_s), p * (backward + hop_s)
    filling = maximum(down - around * forward, 0.0) + maximum(back - around * backward, 0.0)
    both = around * (forward + backward)
    steady = maximum(down - both, 0.0) + maximum(back - both, 0.0)
    return 2 * (p - 1) * hop_s + (v - 1) * (filling + (rounds - 1) * steady)


PIPELINE_EXPOSED_S = Quantity(
    name="pipeline_exposed_s",
    unit="s",
    scope=Scope.GPU,
    group="time",
    basis=Basis.ASSUMED,
    definition="Time of a step that waits for hand-overs between stages.",
    formula=ALGORITHM,
    source="by following the chain of forwards and backwards that waits for each other",
    variants=MappingProxyType(
        {
            "gpipe": gpipe_hops_s,
            "1f1b": one_f_one_b_hops_s,
            "interleaved-1f1b": interleaved_hops_s,
        }
    ),
    selector="schedule",
)


@quantity(
    "s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    group="time",
    formula="compute_s + recompute_s + tensor_exposed_s + sequence_exposed_s + sharding_exposed_s"
    " + bubble_s + imbalance_s + pipeline_exposed_s",
    source="the sum of its parts",
)
def pipeline_s(
    compute_s: Column,
    recompute_s: Column,
    tensor_exposed_s: Column,
    sequence_exposed_s: Column,
    sharding_exposed_s: Column,
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
        + sharding_exposed_s
        + bubble_s
        + imbalance_s
        + pipeline_exposed_s
    )


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="exposed_reduction_s + tied_embedding_s + stage_optimizer_s + exposed_gather_s",
    source="the sum of its parts",
)
def stage_end_s(
    exposed_reduction_s: Column,
    tied_embedding_s: Column,
    stage_optimizer_s: Column,
    exposed_gather_s: Column,
) -> Column:
    """Return the time that a GPU needs after its last backward [s]."""
    return exposed_reduction_s + tied_embedding_s + stage_optimizer_s + exposed_gather_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="stage_index * (hop_s + first(chunk_backward_s))",
    source="a backward reaches the first stage last; stages taken as equal",
)
def stage_lead_s(stage_index: Column, hop_s: Column, chunk_backward_s: Axis) -> Column:
    """Return the time by which a stage ends its last backward before the first stage does [s]."""
    return stage_index * (hop_s + chunk_backward_s[0])


@quantity(
    "s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    formula="largest(stage_end_s - stage_lead_s)",
    source="the stage that ends last decides",
)
def end_s(stage_end_s: Axis, stage_lead_s: Axis) -> Column:
    """Return the time of a step after the first stage's last backward [s]."""
    return largest([end - lead for end, lead in zip(stage_end_s, stage_lead_s, strict=True)])


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="minimum(first(stage_optimizer_s), end_s)",
    source="on the first stage, which ends its last backward last",
)
def optimizer_s(stage_optimizer_s: Axis, end_s: Column) -> Column:
    """Return the time of a step that the optimizer takes [s]."""
    return minimum(stage_optimizer_s[0], end_s)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="sharding_exposed_s + (end_s - optimizer_s)",
    source="the sum of its parts",
)
def data_exposed_s(sharding_exposed_s: Column, end_s: Column, optimizer_s: Column) -> Column:
    """Return the time of a step that waits for the other replicas [s]."""
    return sharding_exposed_s + (end_s - optimizer_s)


@quantity(
    "s",
    Scope.TOTAL,
    symbol="T",
    basis=Basis.ASSUMED,
    group="time",
    formula="compute_s + recompute_s + tensor_exposed_s + sequence_exposed_s + data_exposed_s"
    " + pipeline_exposed_s + bubble_s + imbalance_s + optimizer_s",
    source="the sum of its terms",
)
def step_s(
    compute_s: Column,
    recompute_s: Column,
    tensor_exposed_s: Column,
    sequence_exposed_s: Column,
    data_exposed_s: Column,
    pipeline_exposed_s: Column,
    bubble_s: Column,
    imbalance_s: Column,
    optimizer_s: Column,
) -> Column:
    """Return the time of a step, from first forward to updated weights [s]."""
    return (
        compute_s
        + recompute_s
        + tensor_exposed_s
        + sequence_exposed_s
        + data_exposed_s
        + pipeline_exposed_s
        + bubble_s
        + imbalance_s
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


@quantity(
    "token/s",
    Scope.TOTAL,
    basis=Basis.ASSUMED,
    group="time",
    formula="1.0 * global_batch_size * sequence_length / step_s",
    source="by definition",
)
def tokens_per_s(global_batch_size: Column, sequence_length: Column, step_s: Column) -> Column:
    """Return the throughput in tokens [token/s]."""
    return 1.0 * global_batch_size * sequence_length / step_s


@quantity(
    "token/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="time",
    formula="tokens_per_s / accelerator_count",
    source="by definition",
)
def tokens_per_s_per_gpu(tokens_per_s: Column, accelerator_count: Column) -> Column:
    """Return the throughput of one GPU in tokens [token/s]."""
    return tokens_per_s / accelerator_count


@quantity(
    "FLOP/s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    group="compute",
    formula="model_flop / step_s / accelerator_count",
    source=_CHOWDHERY,
)
def model_flop_per_s_per_gpu(
    model_flop: Column, step_s: Column, accelerator_count: Column
) -> Column:
    """Return the rate of model FLOP of one GPU [FLOP/s]."""
    return model_flop / step_s / accelerator_count


@quantity(
    "fraction",
    Scope.TOTAL,
    symbol="MFU",
    basis=Basis.ASSUMED,
    group="compute",
    formula="model_flop_per_s_per_gpu / peak_flop_per_s",
    source=_CHOWDHERY,
)
def mfu_fraction(model_flop_per_s_per_gpu: Column, peak_flop_per_s: Column) -> Column:
    """Return the model FLOP utilization: model FLOP over what the peak allows [fraction]."""
    return model_flop_per_s_per_gpu / peak_flop_per_s


@quantity(
    "fraction",
    Scope.TOTAL,
    symbol="HFU",
    basis=Basis.ASSUMED,
    group="compute",
    formula="hardware_flop / step_s / accelerator_count / peak_flop_per_s",
    source=_CHOWDHERY,
)
def hfu_fraction(
    hardware_flop: Column, step_s: Column, accelerator_count: Column, peak_flop_per_s: Column
) -> Column:
    """Return the hardware FLOP utilization: executed FLOP over what the peak allows [fraction]."""
    return hardware_flop / step_s / accelerator_count / peak_flop_per_s
