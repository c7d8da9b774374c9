"""Buckets of gradients: closed forms against vectors that are really cut."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from tests.costmodels.witnesses import witness

NAMES = (
    "chunk_bucket_count",
    "chunk_last_bucket_parameters",
    "chunk_expert_bucket_count",
    "chunk_trained_parameters",
    "chunk_trained_expert_parameters",
    "chunk_dense_gradient_bytes",
    "chunk_expert_gradient_bytes",
    "chunk_shard_parameters",
    "chunk_replica_bytes",
    "chunk_exists",
    "chunk_gradient_s",
    "chunk_last_bucket_s",
    "reduction_element_bytes",
    "sharding_size",
    "expert_sharding_size",
    "replication_size",
    "gradient_all_reduce_calls",
    "gradient_reduce_scatter_calls",
    "replica_all_reduce_calls",
    "microbatch_count",
    "reduction_s",
    "last_reduction_s",
)


PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("small", {}),
    "chunks": ("interleaved", {}),
    "experts": ("mixture", {"plan__expert_parallel_size": 2}),
    "groups": ("small", {"plan__sharding_group_size": 4}),
    "experts in groups": (
        "mixture",
        {"plan__expert_parallel_size": 2, "plan__sharding_group_size": 4},
    ),
}


def cut(elements: int, bucket: int) -> list[int]:
    """Return the sizes of buckets of a vector, one that is empty for an empty vector."""
    sizes = []
    while elements > bucket > 0:
        sizes.append(bucket)
        elements -= bucket
    return [*sizes, elements]


@given(
    name=st.sampled_from(sorted(PLANS)),
    bucket=st.one_of(st.just(0), st.integers(10**6, 10**10)),
    zero_stage=st.integers(1, 3),
)
def test_buckets_are_those_of_a_vector_that_is_cut(name: str, bucket: int, zero_stage: int) -> None:
    found = buckets_of(name, bucket, zero_stage)
    for chunk in found:
        experts = chunk["chunk_trained_expert_parameters"]
        dense = cut(chunk["chunk_trained_parameters"] - experts, bucket)
        apart = cut(experts, bucket)
        assert chunk["chunk_bucket_count"] == len(dense)
        assert chunk["chunk_last_bucket_parameters"] == dense[-1]
        assert chunk["chunk_expert_bucket_count"] == len(apart)
        width, size, own = (
            chunk[key]
            for key in ("reduction_element_bytes", "sharding_size", "expert_sharding_size")
        )
        shards = [-(-part // size) for part in dense]
        expert_shards = [-(-part // own) for part in apart]
        assert chunk["chunk_dense_gradient_bytes"] == width * (size - 1) * sum(shards)
        assert chunk["chunk_expert_gradient_bytes"] == width * (own - 1) * sum(expert_shards)
        both = [*shards, *expert_shards]
        assert chunk["chunk_shard_parameters"] == sum(both)
        groups = chunk["replication_size"]
        summed = both if bucket else [sum(both)]
        steps = 2 * (groups - 1) * sum(-(-part // groups) for part in summed)
        assert chunk["chunk_replica_bytes"] == width * steps
        passes = chunk["microbatch_count"] if zero_stage >= 2 else 1
        assert chunk["gradient_all_reduce_calls"] == 0
        assert chunk["gradient_reduce_scatter_calls"] == passes * len(dense) * chunk["chunk_exists"]


def buckets_of(name: str, bucket: int, zero_stage: int) -> list[dict[str, Any]]:
    """Return the quantities of each chunk of each stage of a witness."""
    base, changes = PLANS[name]
    described = witness(
        base,
        **changes,
        plan__gradient_bucket_parameters=bucket,
        plan__gradient_buckets="in-place",
        plan__zero_stage=zero_stage,
    )
    values = evaluate(compile_columns(described), NAMES)
    stages = range(len(values["chunk_exists"]))
    return [
        {key: pick(values[key], stage, chunk) for key in NAMES}
        for stage in stages
        for chunk in range(len(values["chunk_exists"][stage]))
    ]


def pick(value: Any, stage: int, chunk: int) -> Any:
    """Return a number of a stage's chunk, whatever axes it has."""
    while isinstance(value, tuple):
        value, stage = value[stage], chunk
    return value[0]


def test_a_bucket_that_holds_all_is_one_call_that_hides_behind_nothing() -> None:
    (one,), (none,) = buckets_of("whole", 10**11, 1), buckets_of("whole", 0, 1)
    same = set(NAMES) - {"last_reduction_s"}
    assert all(one[key] == none[key] for key in same)
    assert one["last_reduction_s"] == one["reduction_s"] > none["last_reduction_s"]


def test_each_bucket_takes_the_steps_of_a_ring() -> None:
    """Of 8 ranks, seven steps of 2.9 us in a node for each of 201 buckets, as many bytes as before."""
    (many,), (one,) = buckets_of("whole", 40_000_000, 1), buckets_of("whole", 0, 1)
    assert many["chunk_bucket_count"] == 201
    steps = 200 * (many["sharding_size"] - 1)
    later = many["chunk_gradient_s"] - one["chunk_gradient_s"]
    assert 0 < later / steps < 1e-5
    assert many["last_reduction_s"] == many["chunk_last_bucket_s"] < one["last_reduction_s"]
