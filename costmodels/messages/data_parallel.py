"""Messages of replicas: gradients and weights, those of experts apart by themselves."""

from costmodels.columns import Column, as_float, minimum, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7"
_BUCKETS = "; one for each bucket"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521, section 4: a ring"
_CHUNK = (STAGE, CHUNK)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(chunk_trained_parameters - chunk_trained_expert_parameters)"
    " * reduction_element_bytes",
    source=_ZERO,
)
def chunk_gradient_message_bytes(
    chunk_trained_parameters: Column,
    chunk_trained_expert_parameters: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the payload of a chunk's gradients in all their buckets, experts apart left out [byte]."""
    elements = chunk_trained_parameters - chunk_trained_expert_parameters
    return elements * reduction_element_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes"
    " * (chunk_parameters - chunk_expert_parameters)"
    " + weights_are_frozen * adapter_element_bytes * chunk_adapter_parameters",
    source=_ZERO,
)
def chunk_weight_message_bytes(
    weights_are_frozen: Column,
    zero_stage: Column,
    weight_element_bytes: Column,
    chunk_parameters: Column,
    chunk_expert_parameters: Column,
    adapter_element_bytes: Column,
    chunk_adapter_parameters: Column,
) -> Column:
    """Return the payload of one all-gather of a chunk's weights, experts apart left out [byte]."""
    happens = where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes
    adapters = weights_are_frozen * adapter_element_bytes * chunk_adapter_parameters
    return happens * (chunk_parameters - chunk_expert_parameters) + adapters


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_dense_gradient_bytes",
    source=_RING + ": an all-reduce is a reduce-scatter and an all-gather",
)
def chunk_gradient_call_bytes(chunk_dense_gradient_bytes: Column) -> Column:
    """Return the bytes sent to all-reduce a chunk's gradients once [byte]."""
    return 2 * chunk_dense_gradient_bytes


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * (zero_stage == 0)",
    source=_ZERO,
)
def all_reduce_passes(zero_stage: Column) -> Column:
    """Return how often all gradients are all-reduced, over a step [count]."""
    return 1.0 * (zero_stage == 0)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0 * (zero_stage == 1))",
    source=_ZERO + "; sharded gradients are scattered after every backward",
)
def reduce_scatter_passes(zero_stage: Column, chunk_microbatch_count: Column) -> Column:
    """Return how often all gradients are scattered, over a step [count]."""
    return where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0 * (zero_stage == 1))


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="all_reduce_passes * minimum(sharding_size - 1, 1) * chunk_exists * chunk_bucket_count",
    source=_ZERO + _BUCKETS,
)
def gradient_all_reduce_calls(
    all_reduce_passes: Column,
    sharding_size: Column,
    chunk_exists: Column,
    chunk_bucket_count: Column,
) -> Column:
    """Return the all-reduces of a chunk's gradients, over a step [count]."""
    happens = all_reduce_passes * minimum(sharding_size - 1, 1) * chunk_exists
    return happens * chunk_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(sharding_size - 1, 1) * chunk_exists"
    " * chunk_bucket_count",
    source=_ZERO + _BUCKETS,
)
def gradient_reduce_scatter_calls(
    reduce_scatter_passes: Column,
    sharding_size: Column,
    chunk_exists: Column,
    chunk_bucket_count: Column,
) -> Column:
    """Return the reduce-scatters of a chunk's gradients, over a step [count]."""
    happens = reduce_scatter_passes * minimum(sharding_size - 1, 1) * chunk_exists
    return happens * chunk_bucket_count


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))",
    source=_ZERO + "; sharded weights are gathered for every forward and every backward",
)
def weight_gather_passes(zero_stage: Column, chunk_microbatch_count: Column) -> Column:
    """Return how often all weights are gathered, over a step [count]."""
    return where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="weight_gather_passes * minimum(sharding_size - 1, 1) * chunk_exists"
    " * chunk_gather_count",
    source=_ZERO + "; one for each unit of FSDP",
)
def weight_all_gather_calls(
    weight_gather_passes: Column,
    sharding_size: Column,
    chunk_exists: Column,
    chunk_gather_count: Column,
) -> Column:
    """Return the all-gathers of a chunk's weights, over a step [count]."""
    happens = weight_gather_passes * minimum(sharding_size - 1, 1) * chunk_exists
    return happens * chunk_gather_count


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_expert_parameters * reduction_element_bytes",
    source=_ZERO,
)
def chunk_expert_gradient_message_bytes(
    chunk_expert_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of the gradients of a chunk's experts in all their buckets [byte]."""
    return chunk_expert_parameters * reduction_element_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_expert_gradient_bytes",
    source=_RING + ": an all-reduce is a reduce-scatter and an all-gather",
)
def chunk_expert_gradient_call_bytes(chunk_expert_gradient_bytes: Column) -> Column:
    """Return the bytes sent to all-reduce the gradients of a chunk's experts once [byte]."""
    return 2 * chunk_expert_gradient_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_expert_parameters * weight_element_bytes",
    source=_ZERO,
)
def chunk_expert_weight_message_bytes(
    chunk_expert_parameters: Column, weight_element_bytes: Column
) -> Column:
    """Return the payload of one all-gather of the weights of a chunk's experts [byte]."""
    return chunk_expert_parameters * weight_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="all_reduce_passes * minimum(expert_sharding_size - 1, 1)"
    " * minimum(chunk_expert_parameters, 1) * chunk_expert_bucket_count",
    source=_ZERO + _BUCKETS,
)
def expert_gradient_all_reduce_calls(
    all_reduce_passes: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
) -> Column:
    """Return the all-reduces of the gradients of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return all_reduce_passes * has_group * chunk_expert_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(expert_sharding_size - 1, 1)"
    " * minimum(chunk_expert_parameters, 1) * chunk_expert_bucket_count",
    source=_ZERO + _BUCKETS,
)
def expert_gradient_reduce_scatter_calls(
    reduce_scatter_passes: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
) -> Column:
    """Return the reduce-scatters of the gradients of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return reduce_scatter_passes * has_group * chunk_expert_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="weight_gather_passes * minimum(expert_sharding_size - 1, 1)"
    " * minimum(chunk_expert_parameters, 1) * chunk_expert_gather_count",
    source=_ZERO + "; one for each unit of FSDP",
)
def expert_weight_all_gather_calls(
    weight_gather_passes: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
    chunk_expert_gather_count: Column,
) -> Column:
    """Return the all-gathers of the weights of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return weight_gather_passes * has_group * chunk_expert_gather_count


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_shard_parameters * reduction_element_bytes",
    source=_ZERO,
)
def replica_message_bytes(
    chunk_shard_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of a chunk's scattered gradients in all their buckets [byte]."""
    return chunk_shard_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(replication_size - 1, 1) * chunk_exists"
    " * chunk_replica_bucket_count",
    source=_ZERO + "; after each reduce-scatter, as FSDP2 does",
)
def replica_all_reduce_calls(
    reduce_scatter_passes: Column,
    replication_size: Column,
    chunk_exists: Column,
    chunk_replica_bucket_count: Column,
) -> Column:
    """Return the all-reduces of a chunk's scattered gradients over sharding groups, over a step [count]."""
    happens = reduce_scatter_passes * minimum(replication_size - 1, 1) * chunk_exists
    return happens * chunk_replica_bucket_count
