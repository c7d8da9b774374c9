"""How gradients go into buckets, each of which is one call of their reduction.

The gradients of a chunk lie in one vector, the last parameters first, which is cut into buckets of
so many parameters; what is left is the last bucket, the first parameters of the chunk, whose
gradients are ready last. Experts apart have a vector and buckets of their own. torch's
DistributedDataParallel cuts no tensor: its buckets are counted where descriptions become columns,
tensor by tensor in the order in which gradients arrive. The units of FSDP are buckets of gradients,
and gathers of weights too: each layer, its experts apart, and each end of the model.
"""

from costmodels.collectives import ring_all_reduce_bytes, ring_reduce_scatter_bytes
from costmodels.columns import Column, ceil_div, maximum, minimum, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_FLAT = (
    "github.com/NVIDIA/Megatron-LM@d98e8a64dd, core/distributed/param_and_grad_buffer.py: one vector"
    " in reverse order, cut into buckets; Megatron-LM and DeepSpeed cut between parameters, "
    "here anywhere; torch-ddp: Li et al. 2020, arXiv:2006.15704, section 3.2.3"
)
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7"
_HYBRID = "Zhao et al. 2023, arXiv:2304.11277, section 3.2.2 (hybrid sharding)"
_UNITS = (
    "Zhao et al. 2023, arXiv:2304.11277, section 3.2.1; torchtitan@b5bcd76c66, distributed/fsdp.py: "
    "embedding, each layer, norm with head; experts of a layer where they have a mesh of their own"
)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_layers + chunk_holds_embedding + chunk_holds_head"
    " - tied_embeddings * chunk_holds_embedding * chunk_holds_head",
    source=_UNITS + "; ends that share a matrix are one",
)
def chunk_unit_count(
    chunk_layers: Column,
    chunk_holds_embedding: Column,
    chunk_holds_head: Column,
    tied_embeddings: Column,
) -> Column:
    """Return the units in which FSDP shards a chunk, experts apart left out [count].

    Examples
    --------
    >>> chunk_unit_count(32, 1, 1, 0), chunk_unit_count(32, 1, 1, 1), chunk_unit_count(8, 0, 0, 1)
    (34, 33, 8)
    """
    ends = chunk_holds_embedding + chunk_holds_head
    return chunk_layers + ends - tied_embeddings * chunk_holds_embedding * chunk_holds_head


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_buckets_is_fsdp_units, chunk_unit_count, 1)",
    source=_UNITS + "; else all at once",
)
def chunk_gather_count(gradient_buckets_is_fsdp_units: Column, chunk_unit_count: Column) -> Column:
    """Return the calls in which a chunk's weights are gathered once, experts apart left out [count]."""
    return where(gradient_buckets_is_fsdp_units, chunk_unit_count, 1)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_buckets_is_fsdp_units, chunk_mixture_layers, 1)",
    source=_UNITS + "; else all at once",
)
def chunk_expert_gather_count(
    gradient_buckets_is_fsdp_units: Column, chunk_mixture_layers: Column
) -> Column:
    """Return the calls in which the weights of a chunk's experts apart are gathered once [count]."""
    return where(gradient_buckets_is_fsdp_units, chunk_mixture_layers, 1)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_buckets_is_torch_ddp, chunk_whole_bucket_count,"
    " where(gradient_bucket_parameters > 0, maximum(ceil_div(chunk_trained_parameters -"
    " chunk_trained_expert_parameters, maximum(gradient_bucket_parameters, 1)), 1),"
    " chunk_gather_count))",
    source=_FLAT,
)
def chunk_bucket_count(
    gradient_buckets_is_torch_ddp: Column,
    chunk_whole_bucket_count: Column,
    gradient_bucket_parameters: Column,
    chunk_trained_parameters: Column,
    chunk_trained_expert_parameters: Column,
    chunk_gather_count: Column,
) -> Column:
    """Return the buckets of a chunk's gradients, experts apart left out [count].

    Examples
    --------
    >>> chunk_bucket_count(0, 0, 4, 11, 0, 1), chunk_bucket_count(0, 0, 0, 11, 0, 1)
    (3, 1)
    >>> chunk_bucket_count(1, 2, 4, 11, 0, 1)
    2
    """
    elements = chunk_trained_parameters - chunk_trained_expert_parameters
    buckets = ceil_div(elements, maximum(gradient_bucket_parameters, 1))
    flat = where(gradient_bucket_parameters > 0, maximum(buckets, 1), chunk_gather_count)
    return where(gradient_buckets_is_torch_ddp, chunk_whole_bucket_count, flat)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_buckets_is_torch_ddp, chunk_whole_last_bucket_parameters,"
    " chunk_trained_parameters - chunk_trained_expert_parameters"
    " - (chunk_bucket_count - 1) * gradient_bucket_parameters)",
    source=_FLAT,
)
def chunk_last_bucket_parameters(
    gradient_buckets_is_torch_ddp: Column,
    chunk_whole_last_bucket_parameters: Column,
    chunk_trained_parameters: Column,
    chunk_trained_expert_parameters: Column,
    chunk_bucket_count: Column,
    gradient_bucket_parameters: Column,
) -> Column:
    """Return the parameters of the last bucket of a chunk's gradients, experts apart left out [parameter].

    Examples
    --------
    >>> chunk_last_bucket_parameters(0, 0, 11, 0, 3, 4)
    3
    """
    elements = chunk_trained_parameters - chunk_trained_expert_parameters
    flat = elements - (chunk_bucket_count - 1) * gradient_bucket_parameters
    return where(gradient_buckets_is_torch_ddp, chunk_whole_last_bucket_parameters, flat)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_buckets_is_torch_ddp, chunk_whole_bucket_shard_parameters,"
    " (chunk_bucket_count - 1) * ceil_div(gradient_bucket_parameters, sharding_size)"
    " + ceil_div(chunk_last_bucket_parameters, sharding_size))",
    source=_ZERO + "; each bucket is padded to whole elements for each rank",
)
def chunk_dense_shard_parameters(
    gradient_buckets_is_torch_ddp: Column,
    chunk_whole_bucket_shard_parameters: Column,
    chunk_bucket_count: Column,
    gradient_bucket_parameters: Column,
    sharding_size: Column,
    chunk_last_bucket_parameters: Column,
) -> Column:
    """Return a GPU's part of a chunk's gradients, padded, experts apart left out [parameter]."""
    full = ceil_div(gradient_bucket_parameters, sharding_size)
    last = ceil_div(chunk_last_bucket_parameters, sharding_size)
    flat = (chunk_bucket_count - 1) * full + last
    return where(gradient_buckets_is_torch_ddp, chunk_whole_bucket_shard_parameters, flat)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_bucket_parameters > 0, maximum(ceil_div(chunk_trained_expert_parameters,"
    " maximum(gradient_bucket_parameters, 1)), 1), chunk_expert_gather_count)",
    source=_FLAT,
)
def chunk_expert_bucket_count(
    gradient_bucket_parameters: Column,
    chunk_trained_expert_parameters: Column,
    chunk_expert_gather_count: Column,
) -> Column:
    """Return the buckets of the gradients of a chunk's experts apart [count]."""
    buckets = ceil_div(chunk_trained_expert_parameters, maximum(gradient_bucket_parameters, 1))
    some = maximum(buckets, 1)
    return where(gradient_bucket_parameters > 0, some, chunk_expert_gather_count)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_trained_expert_parameters - (chunk_expert_bucket_count - 1)"
    " * gradient_bucket_parameters",
    source=_FLAT,
)
def chunk_last_expert_bucket_parameters(
    chunk_trained_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
    gradient_bucket_parameters: Column,
) -> Column:
    """Return the parameters of the last bucket of a chunk's experts apart [parameter]."""
    before = (chunk_expert_bucket_count - 1) * gradient_bucket_parameters
    return chunk_trained_expert_parameters - before


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(gradient_bucket_parameters + gradient_buckets_is_fsdp_units > 0, chunk_bucket_count"
    " + minimum(chunk_trained_expert_parameters, 1) * chunk_expert_bucket_count, 1)",
    source=_HYBRID + ": after each reduce-scatter; without buckets the shards of experts apart go "
    "with the others",
)
def chunk_replica_bucket_count(
    gradient_bucket_parameters: Column,
    gradient_buckets_is_fsdp_units: Column,
    chunk_bucket_count: Column,
    chunk_trained_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
) -> Column:
    """Return the calls in which a chunk's scattered gradients are summed over groups once [count]."""
    experts = minimum(chunk_trained_expert_parameters, 1) * chunk_expert_bucket_count
    apart = gradient_bucket_parameters + gradient_buckets_is_fsdp_units > 0
    return where(apart, chunk_bucket_count + experts, 1)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * (sharding_size - 1) * chunk_dense_shard_parameters",
    source=_ZERO + "; each bucket is padded to whole elements for each rank, which sends all parts "
    "but one",
)
def chunk_dense_gradient_bytes(
    reduction_element_bytes: Column,
    sharding_size: Column,
    chunk_dense_shard_parameters: Column,
) -> Column:
    """Return the bytes sent to scatter a chunk's gradients once, experts apart left out [byte]."""
    return reduction_element_bytes * (sharding_size - 1) * chunk_dense_shard_parameters


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * ((chunk_expert_bucket_count - 1)"
    " * ring_reduce_scatter_bytes(gradient_bucket_parameters, expert_sharding_size)"
    " + ring_reduce_scatter_bytes(chunk_last_expert_bucket_parameters, expert_sharding_size))",
    source=_ZERO + "; each bucket is padded to whole elements for each rank",
)
def chunk_expert_gradient_bytes(
    reduction_element_bytes: Column,
    chunk_expert_bucket_count: Column,
    gradient_bucket_parameters: Column,
    expert_sharding_size: Column,
    chunk_last_expert_bucket_parameters: Column,
) -> Column:
    """Return the bytes sent to scatter the gradients of a chunk's experts once [byte]."""
    full = ring_reduce_scatter_bytes(gradient_bucket_parameters, expert_sharding_size)
    last = ring_reduce_scatter_bytes(chunk_last_expert_bucket_parameters, expert_sharding_size)
    return reduction_element_bytes * ((chunk_expert_bucket_count - 1) * full + last)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_dense_shard_parameters + (chunk_expert_bucket_count - 1)"
    " * ceil_div(gradient_bucket_parameters, expert_sharding_size)"
    " + ceil_div(chunk_last_expert_bucket_parameters, expert_sharding_size)",
    source=_ZERO + "; each bucket is padded to whole elements for each rank",
)
def chunk_shard_parameters(
    chunk_dense_shard_parameters: Column,
    chunk_expert_bucket_count: Column,
    gradient_bucket_parameters: Column,
    expert_sharding_size: Column,
    chunk_last_expert_bucket_parameters: Column,
) -> Column:
    """Return the gradients of a chunk that are scattered to one GPU, padding included [parameter]."""
    full_experts = ceil_div(gradient_bucket_parameters, expert_sharding_size)
    last_experts = ceil_div(chunk_last_expert_bucket_parameters, expert_sharding_size)
    experts = (chunk_expert_bucket_count - 1) * full_experts + last_experts
    return chunk_dense_shard_parameters + experts


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * where(gradient_bucket_parameters > 0, (chunk_bucket_count - 1)"
    " * ring_all_reduce_bytes(ceil_div(gradient_bucket_parameters, sharding_size), replication_size)"
    " + ring_all_reduce_bytes(ceil_div(chunk_last_bucket_parameters, sharding_size),"
    " replication_size) + (chunk_expert_bucket_count - 1)"
    " * ring_all_reduce_bytes(ceil_div(gradient_bucket_parameters, expert_sharding_size),"
    " replication_size) + ring_all_reduce_bytes(ceil_div(chunk_last_expert_bucket_parameters,"
    " expert_sharding_size), replication_size),"
    " ring_all_reduce_bytes(chunk_shard_parameters, replication_size))",
    source=_HYBRID + ": shards are summed over groups",
)
def chunk_replica_bytes(
    reduction_element_bytes: Column,
    chunk_bucket_count: Column,
    gradient_bucket_parameters: Column,
    sharding_size: Column,
    replication_size: Column,
    chunk_last_bucket_parameters: Column,
    chunk_expert_bucket_count: Column,
    expert_sharding_size: Column,
    chunk_last_expert_bucket_parameters: Column,
    chunk_shard_parameters: Column,
) -> Column:
    """Return the bytes sent to sum a chunk's scattered gradients over sharding groups once [byte]."""

    def summed(parameters: Column, size: Column) -> Column:
        return ring_all_reduce_bytes(ceil_div(parameters, size), replication_size)

    buckets = (
        (chunk_bucket_count - 1) * summed(gradient_bucket_parameters, sharding_size)
        + summed(chunk_last_bucket_parameters, sharding_size)
        + (chunk_expert_bucket_count - 1) * summed(gradient_bucket_parameters, expert_sharding_size)
        + summed(chunk_last_expert_bucket_parameters, expert_sharding_size)
    )
    whole = ring_all_reduce_bytes(chunk_shard_parameters, replication_size)
    return reduction_element_bytes * where(gradient_bucket_parameters > 0, buckets, whole)
