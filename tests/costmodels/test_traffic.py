"""Bytes over a step and over tiers of links: messages walked from GPU to GPU."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.traffic import (
    busiest_stage_index,
    data_bytes,
    network_bytes,
    pipeline_bytes,
    scale_up_bytes,
    sent_bytes,
    sequence_bytes,
    tensor_bytes,
)
from tests.costmodels.witnesses import witness

PER_NODE = 8
MICROBATCHES = 4
HIDDEN = 4096
VOCABULARY = 128256


def test_axes_send_for_every_microbatch_what_all_chunks_send() -> None:
    """Five microbatches; chunks send 1 and 2 bytes forward, 10 and 20 back."""
    forward, backward = [1, 2], [10, 20]
    assert (
        tensor_bytes(
            chunk_microbatch_count=5,
            chunk_forward_tensor_bytes=forward,
            chunk_backward_tensor_bytes=backward,
            sequence_parallel=0,
            replicated_bytes=1000,
        )
        == 5 * 33 + 1000
    )
    assert (
        sequence_bytes(
            chunk_microbatch_count=5,
            chunk_forward_sequence_bytes=forward,
            chunk_backward_sequence_bytes=backward,
            sequence_parallel=0,
            replicated_bytes=1000,
        )
        == 5 * 33
    )


def test_what_is_sent_once_a_step_is_not_multiplied() -> None:
    """Five microbatches: three hops of 10 bytes, a table of 7 and a copy of 100; 33 bytes and 1100 at the end."""
    assert (
        pipeline_bytes(
            chunk_microbatch_count=5,
            chunk_hops=[1, 2],
            hop_bytes=10,
            tied_embedding_bytes=7,
            mirror_call_bytes=100,
        )
        == 5 * 30 + 7 + 100
    )
    assert (
        data_bytes(
            chunk_microbatch_count=5,
            chunk_forward_data_bytes=[1, 2],
            chunk_backward_data_bytes=[10, 20],
            reduction_bytes=100,
            update_gather_bytes=1000,
        )
        == 5 * 33 + 1100
    )


AXES: dict[str, Any] = {
    "tensor_bytes": 100,
    "sequence_bytes": 20,
    "tensor_network_fraction": 0.0,
    "pipeline_bytes": 3000,
    "tied_embedding_bytes": 1000,
    "mirror_call_bytes": 0,
    "mirror_network_fraction": 0.5,
    "pipeline_network_fraction": 0.0,
    "pipeline_node_members": 4,
    "pipeline_parallel_size": 4,
    "context_network_bytes": 0,
    "expert_network_bytes": 0,
    "data_network_bytes": 0,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({"tensor_network_fraction": 0.25}, (100 + 20) / 4),
        ({"data_network_bytes": 5, "expert_network_bytes": 60, "context_network_bytes": 700}, 765),
        # The line crosses nodes once in four hops; its ends are in different nodes all the same.
        ({"pipeline_node_members": 2, "pipeline_network_fraction": 0.25}, 2000 / 4 + 1000),
        ({"pipeline_node_members": 3}, 1000),
    ],
)
def test_each_axis_crosses_nodes_with_its_own_hops(
    changes: dict[str, float], expected: float
) -> None:
    assert network_bytes(**AXES | changes) == expected


def test_tiers_add_up_to_the_axes() -> None:
    assert (
        scale_up_bytes(
            tensor_bytes=1,
            sequence_bytes=20,
            context_bytes=50000,
            expert_bytes=600000,
            pipeline_bytes=300,
            data_bytes=4000,
            network_bytes=21,
        )
        == 654300
    )


def test_all_gpus_of_all_stages_send() -> None:
    """One stage of 1 + 10 bytes and three of 2 + 20, on 5 x 2 GPUs each."""
    assert sent_bytes(
        stage_gpu_count=10,
        class_stage_count=[1, 3],
        network_bytes=[1, 2],
        scale_up_bytes=[10, 20],
    ) == 10 * (11 + 22 + 22 + 22)


def test_the_first_of_the_busiest_stages() -> None:
    assert busiest_stage_index([0, 1, 7], [5, 0, 9], [5, 20, 11]) == 1
    assert busiest_stage_index([0, 1, 7], [50, 0, 9], [5, 20, 11]) == 0


def walked(tensor: int, pipeline: int, replicas: int, *, tied: bool) -> tuple[int, int]:
    """Return the bytes of hand-overs and tables that cross nodes, and that do not.

    Neighbouring GPUs are of one tensor-parallel group, then of other replicas, then of the next
    stage. Without sequence parallelism every GPU of a group sends the whole activation.
    """
    across = inside = 0
    activation = 1024 * HIDDEN * 2
    table = VOCABULARY * HIDDEN * 4 // tensor
    for replica in range(replicas):
        for rank in range(tensor):
            gpus = [rank + tensor * (replica + replicas * stage) for stage in range(pipeline)]
            messages = [
                (source, target, activation)
                for one, other in pairwise(gpus)
                for source, target in ((one, other), (other, one))
                for _ in range(MICROBATCHES)
            ]
            if tied:
                # A ring of two: each sends half of the table, then the other half.
                messages += [(gpus[0], gpus[-1], table), (gpus[-1], gpus[0], table)]
            for source, target, size in messages:
                if source // PER_NODE == target // PER_NODE:
                    inside += size
                else:
                    across += size
    return across, inside


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("tensor", "pipeline", "replicas"),
    [
        (1, 4, 1),  # one node
        (1, 8, 1),
        (4, 4, 1),  # two stages in each node
        (2, 8, 1),
        (1, 16, 1),
        (2, 16, 1),  # four nodes
        (8, 2, 1),  # every hop crosses
        (8, 4, 1),
        (4, 4, 2),  # a stage in each node
    ],
)
def test_stages_send_across_nodes_what_a_walk_over_the_gpus_counts(
    tensor: int, pipeline: int, replicas: int, tied: bool
) -> None:
    scenario = witness(
        "small",
        cluster__accelerator_count=tensor * pipeline * replicas,
        plan__tensor_parallel_size=tensor,
        plan__pipeline_parallel_size=pipeline,
        model__tied_embeddings=tied,
        workload__global_batch_size=MICROBATCHES * replicas,
    )
    names = (
        "network_bytes",
        "scale_up_bytes",
        "tensor_bytes",
        "data_bytes",
        "data_network_fraction",
        "class_stage_count",
    )
    found = evaluate(compile_columns(scenario), names)
    across = inside = 0.0
    for index, count in enumerate(found["class_stage_count"]):
        gpus = int(count[0]) * tensor * replicas
        network, scale_up, inner, data = (
            float(np.ravel(found[name][index])[0]) for name in names[:4]
        )
        # Groups of up to eight neighbours are in one node: of the others, hops are counted.
        crossing = data * float(np.ravel(found["data_network_fraction"])[0])
        across += gpus * (network - crossing)
        inside += gpus * (scale_up - inner - (data - crossing))
    expected = walked(tensor, pipeline, replicas, tied=tied)
    assert (across, inside) == pytest.approx(expected, rel=1e-12, abs=1)
