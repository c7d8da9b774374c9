"""Times of a chunk's gathers of weights and reductions of gradients."""

from costmodels.collectives import (
    ring_all_reduce_bytes,
    ring_all_reduce_s,
    ring_pass_s,
    ring_reduce_scatter_bytes,
)
from costmodels.columns import Column, ceil_div, minimum
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_CHUNK = (STAGE, CHUNK)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * ring_pass_s(chunk_dense_gather_bytes, group_size=sharding_size,"
    " bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s, latency_s=chunk_gather_count * sharding_latency_s)"
    " + minimum(chunk_expert_parameters, 1) * ring_pass_s(chunk_expert_gather_bytes,"
    " group_size=expert_sharding_size,"
    " bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,"
    " latency_s=chunk_expert_gather_count * expert_sharding_latency_s)",
    source=_RING + "; each call takes the steps of a ring",
)
def chunk_gather_s(
    chunk_exists: Column,
    chunk_dense_gather_bytes: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    chunk_gather_count: Column,
    sharding_latency_s: Column,
    chunk_expert_parameters: Column,
    chunk_expert_gather_bytes: Column,
    expert_sharding_size: Column,
    expert_sharding_bandwidth_bytes_per_s: Column,
    chunk_expert_gather_count: Column,
    expert_sharding_latency_s: Column,
) -> Column:
    """Return the time to gather a chunk's sharded weights once [s]."""
    dense = ring_pass_s(
        chunk_dense_gather_bytes,
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=chunk_gather_count * sharding_latency_s,
    )
    experts = ring_pass_s(
        chunk_expert_gather_bytes,
        group_size=expert_sharding_size,
        bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,
        latency_s=chunk_expert_gather_count * expert_sharding_latency_s,
    )
    return chunk_exists * dense + minimum(chunk_expert_parameters, 1) * experts


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (ring_pass_s(chunk_dense_gradient_bytes, group_size=sharding_size,"
    " bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,"
    " latency_s=chunk_bucket_count * sharding_latency_s)"
    " + ring_all_reduce_s(chunk_replica_bytes, group_size=replication_size,"
    " bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,"
    " latency_s=chunk_replica_bucket_count * replication_latency_s))"
    " + minimum(chunk_expert_parameters, 1) * ring_pass_s(chunk_expert_gradient_bytes,"
    " group_size=expert_sharding_size,"
    " bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,"
    " latency_s=chunk_expert_bucket_count * expert_sharding_latency_s)",
    source=_RING + "; each bucket takes the steps of a ring",
)
def chunk_gradient_s(
    chunk_exists: Column,
    chunk_dense_gradient_bytes: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    chunk_bucket_count: Column,
    sharding_latency_s: Column,
    chunk_replica_bytes: Column,
    replication_size: Column,
    replication_bandwidth_bytes_per_s: Column,
    chunk_replica_bucket_count: Column,
    replication_latency_s: Column,
    chunk_expert_parameters: Column,
    chunk_expert_gradient_bytes: Column,
    expert_sharding_size: Column,
    expert_sharding_bandwidth_bytes_per_s: Column,
    chunk_expert_bucket_count: Column,
    expert_sharding_latency_s: Column,
) -> Column:
    """Return the time to reduce and scatter a chunk's gradients once [s]."""
    dense = ring_pass_s(
        chunk_dense_gradient_bytes,
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=chunk_bucket_count * sharding_latency_s,
    )
    replicas = ring_all_reduce_s(
        chunk_replica_bytes,
        group_size=replication_size,
        bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,
        latency_s=chunk_replica_bucket_count * replication_latency_s,
    )
    experts = ring_pass_s(
        chunk_expert_gradient_bytes,
        group_size=expert_sharding_size,
        bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,
        latency_s=chunk_expert_bucket_count * expert_sharding_latency_s,
    )
    return chunk_exists * (dense + replicas) + minimum(chunk_expert_parameters, 1) * experts


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (ring_pass_s(reduction_element_bytes"
    " * ring_reduce_scatter_bytes(chunk_last_bucket_parameters, sharding_size),"
    " group_size=sharding_size, bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,"
    " latency_s=sharding_latency_s)"
    " + ring_all_reduce_s(reduction_element_bytes"
    " * ring_all_reduce_bytes(ceil_div(chunk_last_bucket_parameters, sharding_size),"
    " replication_size), group_size=replication_size,"
    " bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s, latency_s=replication_latency_s))",
    source=_RING,
)
def chunk_last_bucket_s(
    chunk_exists: Column,
    reduction_element_bytes: Column,
    chunk_last_bucket_parameters: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    sharding_latency_s: Column,
    replication_size: Column,
    replication_bandwidth_bytes_per_s: Column,
    replication_latency_s: Column,
) -> Column:
    """Return the time to reduce and scatter the last bucket of a chunk's gradients once [s]."""
    last = chunk_last_bucket_parameters
    dense = ring_pass_s(
        reduction_element_bytes * ring_reduce_scatter_bytes(last, sharding_size),
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=sharding_latency_s,
    )
    replicas = ring_all_reduce_s(
        reduction_element_bytes
        * ring_all_reduce_bytes(ceil_div(last, sharding_size), replication_size),
        group_size=replication_size,
        bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,
        latency_s=replication_latency_s,
    )
    return chunk_exists * (dense + replicas)
