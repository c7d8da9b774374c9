"""Bytes that a GPU sends over a step: by axis of parallelism, and by tier of links."""

from costmodels.columns import Axis, Column, as_float, first_of_largest, minimum, total, where
from costmodels.quantities import ALGORITHM, STAGE, Basis, Scope, quantity

_SHOEYBI = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7; ring: Patarasuk and Yuan 2009"
_CONTEXT = "Liu et al. 2023, arXiv:2310.01889, section 3; Jacobs et al. 2023, arXiv:2309.14509"
_FOLDED = "Liu et al. 2025, arXiv:2504.14960, section 3; Rajbhandari et al. 2022, arXiv:2201.05596"
_SHARE = "the share of the group's hops that cross nodes, a mean over the group"
_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_backward_replicated_bytes)"
    " + end_replicated_bytes",
    source=_KORTHIKANTI,
)
def replicated_bytes(
    chunk_microbatch_count: Column,
    chunk_backward_replicated_bytes: Axis,
    end_replicated_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends to sum gradients of replicated weights, over a step [byte]."""
    after = total(chunk_backward_replicated_bytes)
    return as_float(chunk_microbatch_count) * after + end_replicated_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_tensor_bytes)"
    " + total(chunk_backward_tensor_bytes)) + (1 - sequence_parallel) * replicated_bytes",
    source=_SHOEYBI,
)
def tensor_bytes(
    chunk_microbatch_count: Column,
    chunk_forward_tensor_bytes: Axis,
    chunk_backward_tensor_bytes: Axis,
    sequence_parallel: Column,
    replicated_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends in tensor-parallel all-reduces, over a step [byte]."""
    microbatch_bytes = total(chunk_forward_tensor_bytes) + total(chunk_backward_tensor_bytes)
    gradients = (1 - sequence_parallel) * replicated_bytes
    return as_float(chunk_microbatch_count) * microbatch_bytes + gradients


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_sequence_bytes)"
    " + total(chunk_backward_sequence_bytes)) + sequence_parallel * replicated_bytes",
    source=_KORTHIKANTI,
)
def sequence_bytes(
    chunk_microbatch_count: Column,
    chunk_forward_sequence_bytes: Axis,
    chunk_backward_sequence_bytes: Axis,
    sequence_parallel: Column,
    replicated_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends for sequence parallelism, over a step [byte]."""
    microbatch_bytes = total(chunk_forward_sequence_bytes) + total(chunk_backward_sequence_bytes)
    return (
        as_float(chunk_microbatch_count) * microbatch_bytes + sequence_parallel * replicated_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_hops) * hop_bytes + tied_embedding_bytes"
    " + mirror_call_bytes",
    source=_NARAYANAN,
)
def pipeline_bytes(
    chunk_microbatch_count: Column,
    chunk_hops: Axis,
    hop_bytes: Column,
    tied_embedding_bytes: Column,
    mirror_call_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends between pipeline stages, over a step [byte]."""
    hops = as_float(chunk_microbatch_count) * total(chunk_hops) * hop_bytes
    return hops + tied_embedding_bytes + mirror_call_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_data_bytes)"
    " + total(chunk_backward_data_bytes)) + reduction_bytes + update_gather_bytes",
    source=_ZERO,
)
def data_bytes(
    chunk_microbatch_count: Column,
    chunk_forward_data_bytes: Axis,
    chunk_backward_data_bytes: Axis,
    reduction_bytes: Column,
    update_gather_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends to the other replicas, over a step [byte]."""
    microbatch_bytes = total(chunk_forward_data_bytes) + total(chunk_backward_data_bytes)
    return (
        as_float(chunk_microbatch_count) * microbatch_bytes + reduction_bytes + update_gather_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_context_bytes) +"
    " total(chunk_backward_context_bytes))",
    source=_CONTEXT,
)
def context_bytes(
    chunk_microbatch_count: Column,
    chunk_forward_context_bytes: Axis,
    chunk_backward_context_bytes: Axis,
) -> Column:
    """Return the bytes that a GPU sends between context-parallel ranks, over a step [byte]."""
    both = total(chunk_forward_context_bytes) + total(chunk_backward_context_bytes)
    return as_float(chunk_microbatch_count) * both


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_expert_bytes) +"
    " total(chunk_backward_expert_bytes))",
    source=_FOLDED,
)
def expert_bytes(
    chunk_microbatch_count: Column,
    chunk_forward_expert_bytes: Axis,
    chunk_backward_expert_bytes: Axis,
) -> Column:
    """Return the bytes that a GPU sends to experts and back, over a step [byte]."""
    both = total(chunk_forward_expert_bytes) + total(chunk_backward_expert_bytes)
    return as_float(chunk_microbatch_count) * both


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="context_bytes * where(context_parallel_method_is_ulysses,"
    " context_exchange_fraction, context_network_fraction)",
    source=_SHARE,
)
def context_network_bytes(
    context_bytes: Column,
    context_parallel_method_is_ulysses: Column,
    context_exchange_fraction: Column,
    context_network_fraction: Column,
) -> Column:
    """Return the bytes between context-parallel ranks that cross nodes, over a step [byte]."""
    share = where(
        context_parallel_method_is_ulysses, context_exchange_fraction, context_network_fraction
    )
    return context_bytes * share


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="(4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count"
    " * (expert_exchange_bytes * expert_network_fraction + expert_rows_bytes *"
    " expert_tensor_network_fraction)",
    source=_SHARE,
)
def expert_network_bytes(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_exchange_bytes: Column,
    expert_network_fraction: Column,
    expert_rows_bytes: Column,
    expert_tensor_network_fraction: Column,
) -> Column:
    """Return the bytes to experts and back that cross nodes, over a step [byte]."""
    layers = 4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers)
    calls = layers * chunk_microbatch_count
    exchanged = expert_exchange_bytes * expert_network_fraction
    return calls * (exchanged + expert_rows_bytes * expert_tensor_network_fraction)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))",
    source=_ZERO,
)
def weight_passes(zero_stage: Column, chunk_microbatch_count: Column) -> Column:
    """Return how often sharded weights are gathered in a step [count]."""
    return where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 2.0 - minimum(zero_stage, 1))",
    source=_ZERO,
)
def gradient_passes(zero_stage: Column, chunk_microbatch_count: Column) -> Column:
    """Return how often a ring passes on gradients in a step, twice for an all-reduce [count]."""
    return where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 2.0 - minimum(zero_stage, 1))


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="weight_passes * (total(chunk_dense_gather_bytes) * sharding_network_fraction +"
    " total(chunk_expert_gather_bytes) * expert_sharding_network_fraction) +"
    " gradient_passes * (total(chunk_dense_gradient_bytes) *"
    " sharding_network_fraction + total(chunk_expert_gradient_bytes) *"
    " expert_sharding_network_fraction + total(chunk_replica_bytes) *"
    " replication_network_fraction)",
    source=_SHARE,
)
def data_network_bytes(
    weight_passes: Column,
    chunk_dense_gather_bytes: Axis,
    sharding_network_fraction: Column,
    chunk_expert_gather_bytes: Axis,
    expert_sharding_network_fraction: Column,
    gradient_passes: Column,
    chunk_dense_gradient_bytes: Axis,
    chunk_expert_gradient_bytes: Axis,
    chunk_replica_bytes: Axis,
    replication_network_fraction: Column,
) -> Column:
    """Return the bytes to other replicas that cross nodes, over a step [byte]."""
    weights = (
        total(chunk_dense_gather_bytes) * sharding_network_fraction
        + total(chunk_expert_gather_bytes) * expert_sharding_network_fraction
    )
    gradients = (
        total(chunk_dense_gradient_bytes) * sharding_network_fraction
        + total(chunk_expert_gradient_bytes) * expert_sharding_network_fraction
        + total(chunk_replica_bytes) * replication_network_fraction
    )
    return weight_passes * weights + gradient_passes * gradients


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.ASSUMED,
    formula="(tensor_bytes + sequence_bytes) * tensor_network_fraction"
    " + (pipeline_bytes - tied_embedding_bytes - mirror_call_bytes) * pipeline_network_fraction"
    " + tied_embedding_bytes * (pipeline_node_members < pipeline_parallel_size)"
    " + mirror_call_bytes * mirror_network_fraction"
    " + context_network_bytes + expert_network_bytes + data_network_bytes",
    source="the share of each axis's hops that cross nodes, a mean over the group; copies of a tied "
    "embedding are on the first and the last rank",
)
def network_bytes(
    tensor_bytes: Column,
    sequence_bytes: Column,
    tensor_network_fraction: Column,
    pipeline_bytes: Column,
    tied_embedding_bytes: Column,
    mirror_call_bytes: Column,
    mirror_network_fraction: Column,
    pipeline_network_fraction: Column,
    pipeline_node_members: Column,
    pipeline_parallel_size: Column,
    context_network_bytes: Column,
    expert_network_bytes: Column,
    data_network_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends across nodes, over a step [byte]."""
    return (
        (tensor_bytes + sequence_bytes) * tensor_network_fraction
        + (pipeline_bytes - tied_embedding_bytes - mirror_call_bytes) * pipeline_network_fraction
        + tied_embedding_bytes * (pipeline_node_members < pipeline_parallel_size)
        + mirror_call_bytes * mirror_network_fraction
        + context_network_bytes
        + expert_network_bytes
        + data_network_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="tensor_bytes + sequence_bytes + context_bytes + expert_bytes + pipeline_bytes"
    " + data_bytes - network_bytes",
    source="all that does not cross nodes",
)
def scale_up_bytes(
    tensor_bytes: Column,
    sequence_bytes: Column,
    context_bytes: Column,
    expert_bytes: Column,
    pipeline_bytes: Column,
    data_bytes: Column,
    network_bytes: Column,
) -> Column:
    """Return the bytes that a GPU sends inside its node, over a step [byte]."""
    inside = tensor_bytes + sequence_bytes + context_bytes + expert_bytes
    return inside + pipeline_bytes + data_bytes - network_bytes


@quantity(
    "byte",
    Scope.TOTAL,
    group="communication",
    basis=Basis.EXACT,
    formula="stage_gpu_count * total(class_stage_count * (network_bytes + scale_up_bytes))",
    source="the sum over all GPUs",
)
def sent_bytes(
    stage_gpu_count: Column,
    class_stage_count: Axis,
    network_bytes: Axis,
    scale_up_bytes: Axis,
) -> Column:
    """Return the bytes that all GPUs send, over a step [byte]."""
    stages = [
        count * (network + scale_up)
        for count, network, scale_up in zip(
            class_stage_count, network_bytes, scale_up_bytes, strict=True
        )
    ]
    return stage_gpu_count * total(stages)


@quantity(
    "index",
    Scope.PLAN,
    group="communication",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="the first stage, in their order, whose GPUs send most",
)
def busiest_stage_index(stage_index: Axis, network_bytes: Axis, scale_up_bytes: Axis) -> Column:
    """Return the stage whose GPUs send most [index]."""
    sent = [inside + across for inside, across in zip(scale_up_bytes, network_bytes, strict=True)]
    return first_of_largest(stage_index, sent)
