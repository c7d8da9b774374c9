"""Buckets of gradients: closed forms against vectors and lists of tensors that are really cut."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.gradient_order import (
    arriving_parameters,
    caps_parameters,
    equal_caps,
    order_is_known,
    whole_buckets,
)
from costmodels.model_tensors import model_tensors
from costmodels.presets import preset_names
from costmodels.scenario import scenario_from_table
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


TENSORS = st.lists(st.integers(1, 50), max_size=30)
CAPS = st.lists(st.integers(1, 120), min_size=1, max_size=2)


@given(tensors=TENSORS, caps=CAPS)
def test_a_bucket_of_whole_tensors_closes_once_it_is_full(
    tensors: list[int], caps: list[int]
) -> None:
    buckets = whole_buckets(tensors, caps)
    assert sum(buckets) == sum(tensors)
    ends = [sum(tensors[: place + 1]) for place in range(len(tensors))]
    start = 0
    for place, bucket in enumerate(buckets[:-1]):
        cap = caps[min(place, len(caps) - 1)]
        end = start + bucket
        assert bucket >= cap
        assert end in ends
        # Without the tensor that closed it, it was not full.
        assert max([0, *(each for each in ends if each < end)]) - start < cap
        start = end


@given(tensors=TENSORS, caps=CAPS, other=st.integers(1, 400))
def test_caps_that_make_the_same_buckets_are_a_range(
    tensors: list[int], caps: list[int], other: int
) -> None:
    least, most = equal_caps(tensors, caps)
    same = whole_buckets(tensors, (other,)) == whole_buckets(tensors, caps)
    assert same == (least <= other <= most) or not tensors


@given(
    sizes=st.sampled_from([(1, 1, 1), (2, 1, 1), (4, 2, 1), (1, 4, 2), (2, 2, 1)]),
    bucket=st.one_of(st.just(0), st.integers(1, 10**9)),
    tied=st.booleans(),
    biased=st.booleans(),
    norm=st.sampled_from(["rmsnorm", "layernorm"]),
    query_key_norm=st.sampled_from(["none", "head"]),
)
def test_tensors_that_arrive_are_the_parameters_of_each_chunk(
    sizes: tuple[int, int, int],
    bucket: int,
    tied: bool,
    biased: bool,
    norm: str,
    query_key_norm: str,
) -> None:
    """The tensors of a chunk sum to its parameters, whatever splits it, and so do its buckets."""
    tensor, pipeline, virtual = sizes
    described = scenario_from_table(
        {
            "model": {
                "preset": "llama-3.1-8b",
                "tied_embeddings": tied,
                "attention_bias": biased,
                "attention_output_bias": biased,
                "ffn_bias": biased,
                "head_bias": biased,
                "norm": norm,
                "query_key_norm": query_key_norm,
            },
            "cluster": "h100-sxm:16",
            "plan": {
                "tensor_parallel_size": tensor,
                "pipeline_parallel_size": pipeline,
                "virtual_stages": virtual,
                "schedule": "1f1b" if virtual == 1 else "interleaved-1f1b",
                "gradient_buckets": "torch-ddp",
                "gradient_bucket_parameters": bucket,
            },
            "workload": {"global_batch_size": 64, "sequence_length": 128},
        }
    )
    names = (
        *NAMES,
        "chunk_layers",
        "chunk_holds_embedding",
        "chunk_holds_head",
        "weight_element_bytes",
    )
    values = evaluate(compile_columns(described), names)
    for stage in range(len(values["chunk_exists"])):
        for place in range(virtual):
            chunk = {key: pick(values[key], stage, place) for key in names}
            arriving = arriving_parameters(
                described.model,
                layer_count=chunk["chunk_layers"],
                holds_embedding=bool(chunk["chunk_holds_embedding"]),
                holds_head=bool(chunk["chunk_holds_head"]),
                tensor_parallel_size=tensor,
            )
            assert sum(arriving) == chunk["chunk_trained_parameters"]
            caps = caps_parameters(bucket, int(chunk["weight_element_bytes"]))
            buckets = whole_buckets(arriving, caps)
            assert chunk["chunk_bucket_count"] == len(buckets)
            assert chunk["chunk_last_bucket_parameters"] == buckets[-1]
            shards = sum(-(-each // chunk["sharding_size"]) for each in buckets)
            sent = chunk["reduction_element_bytes"] * (chunk["sharding_size"] - 1) * shards
            assert chunk["chunk_dense_gradient_bytes"] == sent
            assert chunk["gradient_all_reduce_calls"] == len(buckets)


def test_tensors_that_arrive_are_those_of_the_model() -> None:
    """Of every preset whose order is known: as many elements as its list of tensors has."""
    known = 0
    for name in preset_names("model"):
        model = witness("small", model=name, workload__sequence_length=16).model
        if not order_is_known(model):
            continue
        known += 1
        arriving = arriving_parameters(
            model,
            layer_count=model.num_hidden_layers,
            holds_embedding=True,
            holds_head=True,
        )
        assert sum(arriving) == sum(tensor.elements_count for tensor in model_tensors(model)), name
    assert known >= 20


def test_rows_of_a_search_have_their_own_buckets_of_whole_tensors() -> None:
    base = witness("small", plan__gradient_buckets="torch-ddp")
    sizes, kinds = [0, 10**8, 10**9, 10**8], ["torch-ddp", "torch-ddp", "torch-ddp", "in-place"]
    varied: dict[str, Any] = {
        "plan.gradient_bucket_parameters": sizes,
        "plan.gradient_buckets": kinds,
        "plan.tensor_parallel_size": [1, 2, 4, 2],
    }
    found = evaluate(compile_columns(base, varied), ("chunk_bucket_count",))["chunk_bucket_count"]
    for row, (size, kind, tensor) in enumerate(zip(sizes, kinds, (1, 2, 4, 2), strict=True)):
        alone = witness(
            "small",
            plan__gradient_buckets=kind,
            plan__gradient_bucket_parameters=size,
            plan__tensor_parallel_size=tensor,
        )
        one = evaluate(compile_columns(alone), ("chunk_bucket_count",))["chunk_bucket_count"]
        assert found[0][0][row] == one[0][0][0]
    assert len(set(found[0][0].tolist())) == len(sizes)


@given(
    name=st.sampled_from(["whole", "chunks", "experts", "groups", "experts in groups"]),
    tied=st.booleans(),
)
def test_units_send_the_same_bytes_in_a_call_for_each(name: str, tied: bool) -> None:
    base, changes = PLANS[name]
    names = (
        *NAMES,
        *("chunk_layers", "chunk_mixture_layers", "chunk_holds_embedding", "chunk_holds_head"),
        *("weight_all_gather_calls", "expert_weight_all_gather_calls", "chunk_gather_bytes"),
        *("weight_all_gather_sent_bytes", "chunk_expert_parameters", "chunk_gather_s"),
    )
    found = []
    for kind in ("in-place", "fsdp-units"):
        described = witness(
            base,
            **changes,
            plan__zero_stage=3,
            plan__gradient_buckets=kind,
            model__tied_embeddings=tied,
        )
        found.append(evaluate(compile_columns(described), names))
    chunks = [
        tuple({key: pick(values[key], stage, place) for key in names} for values in found)
        for stage in range(len(found[0]["chunk_exists"]))
        for place in range(len(found[0]["chunk_exists"][stage]))
    ]
    for whole, units in chunks:
        same = {key for key in names if not key.endswith(("_calls", "_count", "_s"))} - {
            "chunk_last_bucket_parameters"
        }
        assert [key for key in same if whole[key] != units[key]] == []
        ends = units["chunk_holds_embedding"] + units["chunk_holds_head"]
        count = units["chunk_layers"] + (1 if tied and ends == 2 else ends)
        passes = 2 * units["microbatch_count"]
        assert whole["weight_all_gather_calls"] == passes
        assert units["weight_all_gather_calls"] == passes * count
        assert units["gradient_reduce_scatter_calls"] == units["microbatch_count"] * count
        apart = units["chunk_mixture_layers"] if units["chunk_expert_parameters"] else 0
        groups = apart * (units["expert_sharding_size"] > 1)
        assert units["expert_weight_all_gather_calls"] == passes * groups
        assert units["chunk_gather_s"] > whole["chunk_gather_s"]
        assert units["chunk_gradient_s"] > whole["chunk_gradient_s"]
        if units["replication_size"] > 1:
            calls = units["microbatch_count"] * (count + apart)
            assert units["replica_all_reduce_calls"] == calls
