"""Traffic, against collectives listed one by one and the volumes that the papers state."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_reduce_scatter_bytes,
)
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import WITNESSES, witness

SENDING_AXES = ("tensor_bytes", "sequence_bytes", "pipeline_bytes", "data_bytes")


def by_stage(scenario: Scenario, *names: str) -> list[list[float]]:
    """Return for every stage, not only for every class, its value of each quantity."""
    columns = compile_columns(scenario)
    values = evaluate(columns, [*names, "class_stage_count"])
    rows = []
    for index, count in enumerate(values["class_stage_count"]):
        rows += [[float(values[name][index][0]) for name in names]] * int(count[0])
    return rows


def spread(**changes: Any) -> Scenario:
    """Return Llama 3.1 8B over t x p x d GPUs, as keyword arguments say."""
    plan = {"plan__" + name: value for name, value in changes.items() if "__" not in name}
    rest = {name: value for name, value in changes.items() if "__" in name}
    tensor = changes.get("tensor_parallel_size", 1)
    pipeline = changes.get("pipeline_parallel_size", 1)
    data = rest.pop("data__size", 1)
    return witness("small", **plan, **rest, cluster__accelerator_count=tensor * pipeline * data)


MESSAGE = 1024 * 4096 * 2  # tokens x hidden size x bytes of bf16
LOSS = 1024 * 4  # three fp32 numbers a token are reduced, one all-reduce each
LAYERS = 32
MICROBATCHES = 16


@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_megatron_reduces_four_times_a_layer(tensor: int) -> None:
    """Shoeybi et al. 2019, section 3: twice in the forward, twice in the backward."""
    listed = (
        [MESSAGE] * (2 * LAYERS)  # attention, feed-forward
        + [MESSAGE]  # embedding
        + [LOSS] * 3
        + [MESSAGE] * (2 * LAYERS)  # backward, gradients of the inputs
        + [MESSAGE]  # of the head's input
    )
    sent = sum(ring_all_reduce_bytes(message, tensor) for message in listed)
    ((tensor_bytes, sequence_bytes),) = by_stage(
        spread(tensor_parallel_size=tensor), "tensor_bytes", "sequence_bytes"
    )
    assert tensor_bytes == MICROBATCHES * sent
    assert sequence_bytes == 0


@pytest.mark.parametrize("tensor", [2, 8])
def test_sequence_parallelism_sends_as_much_and_gathers_again(tensor: int) -> None:
    """Korthikanti et al. 2022, section 4.2.2: an all-reduce is a reduce-scatter and a gather.

    Only what the weight gradients need again comes on top: two inputs a layer, and the head's.
    """
    plain = by_stage(spread(tensor_parallel_size=tensor), "tensor_bytes")[0][0]
    tensor_bytes, sequence_bytes = by_stage(
        spread(tensor_parallel_size=tensor, sequence_parallel=True),
        "tensor_bytes",
        "sequence_bytes",
    )[0]
    loss = MICROBATCHES * 3 * ring_all_reduce_bytes(LOSS, tensor)
    regathers = MICROBATCHES * (2 * LAYERS + 1) * ring_all_gather_bytes(MESSAGE, tensor)
    assert tensor_bytes == loss
    # The gradients of two norms a layer and of the last one, in fp32, summed once.
    norms = 4 * ring_all_reduce_bytes((2 * LAYERS + 1) * 4096, tensor)
    assert sequence_bytes == plain - loss + regathers + norms


def test_norms_of_heads_are_summed_without_sequence_parallelism_too() -> None:
    """Megatron-LM sums their gradients wherever heads are split: each rank sees its own heads."""
    head = spread(tensor_parallel_size=8)
    normed = spread(tensor_parallel_size=8, model__query_key_norm="head")
    ((plain,),), ((with_norms,),) = (by_stage(s, "tensor_bytes") for s in (head, normed))
    assert with_norms - plain == 4 * ring_all_reduce_bytes(LAYERS * 2 * 128, 8)


@pytest.mark.parametrize(("zero", "sums"), [(0, 1), (1, 1), (2, MICROBATCHES), (3, MICROBATCHES)])
def test_gradients_that_are_scattered_every_backward_are_summed_every_backward(
    zero: int, sums: int
) -> None:
    scenario = spread(tensor_parallel_size=2, sequence_parallel=True, zero_stage=zero)
    ((sent,),) = by_stage(scenario, "replicated_bytes")
    assert sent == sums * 4 * ring_all_reduce_bytes((2 * LAYERS + 1) * 4096, 2)


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_full_recomputation_sends_a_forward_of_all_layers_again(*, sequence_parallel: bool) -> None:
    names = ("tensor_bytes", "sequence_bytes")
    once, again = (
        sum(
            by_stage(
                spread(
                    tensor_parallel_size=8,
                    sequence_parallel=sequence_parallel,
                    recompute=recompute,
                ),
                *names,
            )[0]
        )
        for recompute in ("none", "full")
    )
    layers = MICROBATCHES * 2 * LAYERS * ring_all_reduce_bytes(MESSAGE, 8)
    assert again - once == layers


@given(st.integers(2, 8), st.sampled_from([1, 4]))
def test_every_boundary_is_crossed_once_each_way(pipeline: int, tensor: int) -> None:
    scenario = spread(
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        sequence_parallel=tensor > 1,
    )
    sent = [row[0] for row in by_stage(scenario, "pipeline_bytes")]
    assert len(sent) == pipeline
    hop = MICROBATCHES * MESSAGE // tensor
    assert sent[0] == sent[-1] == hop
    assert set(sent[1:-1]) <= {2 * hop}
    assert sum(sent) == 2 * (pipeline - 1) * hop


@given(st.integers(2, 4), st.integers(2, 4))
def test_chunks_cross_as_many_boundaries_as_there_are_virtual_stages(
    pipeline: int, virtual: int
) -> None:
    scenario = spread(
        pipeline_parallel_size=pipeline,
        virtual_stages=virtual,
        schedule="interleaved-1f1b",
        workload__global_batch_size=4 * pipeline,
    )
    sent = sum(row[0] for row in by_stage(scenario, "pipeline_bytes"))
    assert sent == 2 * (pipeline * virtual - 1) * 4 * pipeline * MESSAGE


def test_copies_of_a_tied_embedding_add_their_gradients() -> None:
    """An all-reduce of two ranks sends the whole table in fp32 once from each of them."""
    tied, free = (
        [
            row[0]
            for row in by_stage(
                spread(pipeline_parallel_size=4, model__tied_embeddings=is_tied), "pipeline_bytes"
            )
        ]
        for is_tied in (True, False)
    )
    table = 128256 * 4096 * 4
    assert [with_copy - without for with_copy, without in zip(tied, free, strict=True)] == [
        table,
        0,
        0,
        table,
    ]


PARAMETERS = 8_030_261_248


@pytest.mark.parametrize("replicas", [1, 2, 16])
@pytest.mark.parametrize(("stage", "passes"), [(0, (2, 0)), (1, (1, 1)), (2, (1, 1)), (3, (1, 2))])
def test_replicas_send_what_zero_says(replicas: int, stage: int, passes: tuple[int, int]) -> None:
    """Rajbhandari et al. 2020, section 7: 2 Psi, and 3 Psi where weights are sharded.

    With one microbatch, so that sharded gradients are scattered once; fp32 gradients, bf16 weights.
    """
    scenario = spread(zero_stage=stage, data__size=replicas, workload__global_batch_size=replicas)
    scatter = ring_reduce_scatter_bytes(4 * PARAMETERS, replicas)
    gather = ring_all_gather_bytes(2 * PARAMETERS, replicas)
    ((sent,),) = by_stage(scenario, "data_bytes")
    assert sent == passes[0] * scatter + passes[1] * gather


@given(st.integers(0, 3), st.integers(1, 8))
def test_sharded_gradients_and_weights_are_sent_for_every_microbatch(
    stage: int, microbatches: int
) -> None:
    scenario = spread(zero_stage=stage, data__size=2, workload__global_batch_size=2 * microbatches)
    scatter, gather = 2 * PARAMETERS, PARAMETERS
    expected = {
        0: 2 * scatter,
        1: scatter + gather,
        2: microbatches * scatter + gather,
        3: microbatches * (scatter + 2 * gather),
    }
    ((sent,),) = by_stage(scenario, "data_bytes")
    assert sent == expected[stage]


@pytest.mark.parametrize("name", WITNESSES)
def test_tiers_share_all_traffic_and_the_total_is_their_sum(name: str) -> None:
    scenario = witness(name)
    rows = by_stage(scenario, *SENDING_AXES, "network_bytes", "scale_up_bytes")
    for row in rows:
        assert sum(row[:4]) == pytest.approx(sum(row[4:]), rel=1e-14)
        assert min(row) >= 0
    copies = scenario.cluster.accelerator_count // len(rows)
    values = evaluate(compile_columns(scenario), ["sent_bytes", "busiest_stage_index"])
    total = copies * sum(sum(row[4:]) for row in rows)
    assert float(values["sent_bytes"][0]) == pytest.approx(total, rel=1e-14)
    sums = [row[4] + row[5] for row in rows]
    assert sums[int(values["busiest_stage_index"][0])] == max(sums)


def test_one_gpu_sends_nothing() -> None:
    rows = by_stage(spread(), *SENDING_AXES, "network_bytes", "scale_up_bytes")
    assert rows == [[0] * 6]


def test_one_node_sends_nothing_over_the_network() -> None:
    rows = by_stage(
        spread(tensor_parallel_size=2, pipeline_parallel_size=2, data__size=2), "network_bytes"
    )
    assert rows == [[0], [0]]


@pytest.mark.parametrize(
    ("schedule", "chunks"),
    [("1f1b", 1), ("gpipe", 1), ("interleaved-1f1b", 2), ("zb-v", 2), ("dualpipe-v", 2)],
)
@pytest.mark.parametrize("tensor", [2, 4])
def test_handovers_in_parts_send_a_share_and_gather_it(
    schedule: str, chunks: int, tensor: int
) -> None:
    """A rank sends 1/t of what it did; a part is gathered wherever one arrives."""
    plan = {
        "plan__schedule": schedule,
        "plan__virtual_stages": chunks,
        "plan__pipeline_parallel_size": 2,
        "plan__tensor_parallel_size": tensor,
        "cluster__accelerator_count": 2 * tensor,
    }
    names = (
        "hop_bytes",
        "hop_calls",
        "handover_all_gather_calls",
        "hidden_all_gather_bytes",
        "tensor_bytes",
        "pipeline_bytes",
        "hop_s",
    )
    whole, parts = (
        evaluate(
            compile_columns(witness("small", plan__scatter_gather_handovers=scattered, **plan)),
            names,
        )
        for scattered in (False, True)
    )
    assert whole["hop_bytes"] == tensor * parts["hop_bytes"]
    assert parts["hop_s"] < whole["hop_s"]
    for stage in range(2):
        assert whole["handover_all_gather_calls"][stage] == 0
        calls = parts["handover_all_gather_calls"][stage]
        assert calls == parts["hop_calls"][stage] > 0
        more = parts["tensor_bytes"][stage] - whole["tensor_bytes"][stage]
        assert more == calls * parts["hidden_all_gather_bytes"]
        assert whole["pipeline_bytes"][stage] == tensor * parts["pipeline_bytes"][stage]
