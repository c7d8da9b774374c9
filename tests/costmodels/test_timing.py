"""Times of chunks: rings walked step by step, and windows behind which traffic hides."""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.timing.chunks import (
    chunk_backward_data_s,
    chunk_backward_s,
    chunk_backward_work_s,
    chunk_forward_data_s,
    chunk_forward_s,
    chunk_forward_work_s,
    hop_occupancy_s,
    hop_s,
    stage_microbatch_s,
)
from costmodels.timing.data_parallel import chunk_gather_s, chunk_gradient_s
from costmodels.timing.tensor_parallel import (
    chunk_backward_sequence_s,
    chunk_backward_tensor_s,
    chunk_forward_sequence_s,
    chunk_forward_tensor_s,
    chunk_input_gradient_s,
)
from tests.costmodels.witnesses import witness

BANDWIDTH = 400e9
LATENCY = 2e-6
LINKS = {
    "cluster__scale_up__bandwidth_bytes_per_s": BANDWIDTH,
    "cluster__scale_up__efficiency_fraction": 1.0,
    "cluster__scale_up__latency_s": LATENCY,
}


def numbers(value: Any) -> list[float]:
    """Return a quantity's numbers, of every member of its axes, in order."""
    if isinstance(value, tuple):
        return [number for member in value for number in numbers(member)]
    return [float(value[0]) if hasattr(value, "shape") and value.shape else float(value)]


def inside_node(*names: str, **changes: Any) -> list[list[float]]:
    """Return quantities of Llama 3.1 8B in a node with round links."""
    columns = compile_columns(witness("small", **{**LINKS, **changes}))
    return [numbers(value) for value in evaluate(columns, names).values()]


def ring_s(message_bytes: int, ranks: int, passes: int) -> float:
    """Return the time of a ring, step by step: each sends one shard to a neighbour."""
    time_s = 0.0
    for _ in range(passes):
        for _ in range(ranks - 1):
            time_s += LATENCY + message_bytes / ranks / BANDWIDTH
    return time_s


MESSAGE = 1024 * 4096 * 2


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_one_activation_goes_around_the_ring(ranks: int) -> None:
    """An all-reduce scatters, then gathers; with sequence parallelism each is one pass."""
    (reduce_s,), (gather_s,) = inside_node(
        "hidden_all_reduce_s", "hidden_all_gather_s", plan__tensor_parallel_size=ranks
    )
    assert reduce_s == pytest.approx(ring_s(MESSAGE, ranks, 2), rel=1e-12)
    assert gather_s == pytest.approx(ring_s(MESSAGE, ranks, 1), rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_the_loss_reduces_three_numbers_a_token(ranks: int) -> None:
    """Maximum, sum and label's logit in fp32, one all-reduce after another."""
    ((loss_s,),) = inside_node("loss_all_reduce_s", plan__tensor_parallel_size=ranks)
    expected = sum(ring_s(4 * 1024, ranks, 2) for _ in ("maximum", "sum", "label"))
    assert loss_s == pytest.approx(expected, rel=1e-12)


def test_chunks_wait_for_every_all_reduce() -> None:
    """Two ranks of 16 layers: two each way a layer; embedding, loss and the head's input."""
    tensor = {"plan__tensor_parallel_size": 4, "plan__pipeline_parallel_size": 2}
    forward, backward = inside_node("chunk_forward_tensor_s", "chunk_backward_tensor_s", **tensor)
    once, loss = ring_s(MESSAGE, 4, 2), 3 * ring_s(4 * 1024, 4, 2)
    assert forward == pytest.approx([33 * once, 32 * once + loss], rel=1e-12)
    assert backward == pytest.approx([32 * once, 33 * once], rel=1e-12)


def test_all_reduces_of_a_chunk_by_hand() -> None:
    """Five of 2 s, 7 s of each loss; 50 s around projections to further tokens; compressed vectors."""
    for head, split, expected in ((0, 1, 10.0), (1, 1, 17.0), (2, 0, 74.0)):
        forward_s = chunk_forward_tensor_s(
            forward_all_reduces=5,
            hidden_all_reduce_s=2.0,
            chunk_head_passes=head,
            loss_all_reduce_s=7.0,
            chunk_forward_handover_gather_count=0,
            hidden_all_gather_s=1.0,
            sequence_parallel=split,
            chunk_forward_prediction_s=50.0,
        )
        assert forward_s == expected
    for stage, expected in ((0, 1058.0), (3, 1158.0)):
        backward_s = chunk_backward_tensor_s(
            backward_all_reduces=4,
            hidden_all_reduce_s=2.0,
            chunk_backward_handover_gather_count=0,
            hidden_all_gather_s=1.0,
            zero_stage=stage,
            sequence_parallel=0,
            chunk_replicated_s=100.0,
            chunk_backward_prediction_s=50.0,
            chunk_backward_compressed_s=1000.0,
        )
        assert backward_s == expected
    for split, expected in ((0, 6), (1, 556)):
        forward_s = chunk_forward_sequence_s(
            forward_ring_passes=3,
            hidden_all_gather_s=2.0,
            sequence_parallel=split,
            chunk_forward_prediction_s=50.0,
            chunk_forward_compressed_s=500.0,
        )
        assert forward_s == expected


def test_input_gradients_take_one_product_for_each_of_the_forward() -> None:
    """Two layers of 10 s, one of 100 s; 7 s for each head, 3 s for each projection to one."""
    for head, further, expected in ((0, 0, 120.0), (1, 0, 127.0), (2, 1, 137.0)):
        products_s = chunk_input_gradient_s(
            chunk_layer_count=[2, 1],
            layer_matmul_s=[10.0, 100.0],
            layer_adapter_s=[0.5, 1.0],
            chunk_head_passes=head,
            head_product_s=7.0,
            chunk_prediction_count=further,
            prediction_product_s=3.0,
        )
        assert products_s == expected + 2 * 0.5 + 1


@pytest.mark.parametrize(("products_s", "expected"), [(0.0, 14), (5.0, 9), (6.0, 8), (60.0, 8)])
def test_what_is_gathered_again_hides_behind_input_gradients(
    products_s: float, expected: float
) -> None:
    """Four passes of 2 s are waited for, 7 s and 1000 s; three of 2 s, one of 0 s hide behind products."""
    assert (
        chunk_backward_sequence_s(
            backward_ring_passes=4,
            hidden_all_gather_s=2.0,
            regathers=2,
            chunk_prediction_count=1,
            prediction_input_all_gather_s=0.0,
            chunk_compressed_again_s=2.0,
            chunk_input_gradient_s=products_s,
            zero_stage=2,
            sequence_parallel=1,
            chunk_replicated_s=100.0,
            chunk_backward_prediction_s=7.0,
            chunk_backward_compressed_s=1000.0,
        )
        == expected + 100 + 7 + 1000
    )


@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_replicas_gather_weights_and_scatter_gradients_around_a_ring(replicas: int) -> None:
    """8 G parameters: bf16 weights in one pass, fp32 gradients in another."""
    (gather,), (gradient,) = inside_node(
        "chunk_gather_s", "chunk_gradient_s", cluster__accelerator_count=replicas
    )
    parameters = 8_030_261_248
    assert gather == pytest.approx(ring_s(2 * parameters, replicas, 1), rel=1e-12)
    assert gradient == pytest.approx(ring_s(4 * parameters, replicas, 1), rel=1e-12)


SHARDING = {
    "sharding_size": 4,
    "sharding_bandwidth_bytes_per_s": 10.0,
    "sharding_latency_s": 1.0,
    "expert_sharding_size": 2,
    "expert_sharding_bandwidth_bytes_per_s": 1.0,
    "expert_sharding_latency_s": 10.0,
}
REPLICATION = {
    "replication_size": 2,
    "replication_bandwidth_bytes_per_s": 1.0,
    "replication_latency_s": 100.0,
}


def test_a_pass_by_hand() -> None:
    """Three steps of 1 s and 30 bytes at 10 byte/s; experts in one step of 10 s, 40 bytes at 1.

    Nothing for a chunk that is not there, or has no experts with a group of their own.
    """
    for exists, experts, expected in ((1, 0, 6), (0, 0, 0), (1, 7, 6 + 50)):
        gather_s = chunk_gather_s(
            chunk_exists=exists,
            chunk_dense_gather_bytes=30,
            chunk_expert_parameters=experts,
            chunk_expert_gather_bytes=40,
            chunk_gather_count=1,
            chunk_expert_gather_count=1,
            **SHARDING,
        )
        gradient_s = chunk_gradient_s(
            chunk_exists=exists,
            chunk_dense_gradient_bytes=30,
            chunk_replica_bytes=1000,
            chunk_expert_parameters=experts,
            chunk_expert_gradient_bytes=40,
            chunk_bucket_count=1,
            chunk_replica_bucket_count=1,
            chunk_expert_bucket_count=1,
            **SHARDING,
            **REPLICATION,
        )
        # Shards are summed over two groups: twice a step of 100 s, and 1000 bytes.
        assert (gather_s, gradient_s) == (expected, expected + exists * 1200)


@pytest.mark.parametrize(
    ("stage", "overlap", "work_s", "expected"),
    [
        (2, 1, 0.0, 0),  # weights are whole
        (2, 0, 0.0, 0),
        (3, 1, 0.0, 10),
        (3, 1, 4.0, 6),  # 4 s of the gather hide
        (3, 1, 40.0, 2),  # but of the first fifth, which nothing runs before
        (3, 0, 4.0, 10),  # nothing hides
    ],
)
def test_a_forward_waits_for_what_its_work_does_not_hide(
    stage: int, overlap: int, work_s: float, expected: float
) -> None:
    """A gather of 10 s."""
    for exists in (0, 1):
        waited = chunk_forward_data_s(
            zero_stage=stage,
            chunk_exists=exists,
            chunk_gather_s=10.0,
            overlap_parameter_gather=overlap,
            chunk_forward_work_s=work_s,
            chunk_unit_parameters=2,
            chunk_parameters=10,
        )
        assert waited == exists * expected


@pytest.mark.parametrize(
    ("stage", "gather_overlaps", "reduction_overlaps", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 0),  # once a step, not once a microbatch
        (2, 1, 0, 20),
        (2, 1, 1, 20 - 12),
        (3, 0, 0, 10 + 20),
        (3, 1, 0, 20),  # 10 s behind 12 s
        (3, 0, 1, 10 + 20 - 12),
        (3, 1, 1, 10 + 20 - 12),  # both on the same links, one after the other
    ],
)
def test_a_backward_waits_for_what_its_work_does_not_hide(
    stage: int, gather_overlaps: int, reduction_overlaps: int, expected: float
) -> None:
    """A gather of 10 s and a reduction of 20 s, behind 12 s of work."""
    for exists in (0, 1):
        waited = chunk_backward_data_s(
            chunk_exists=exists,
            zero_stage=stage,
            overlap_parameter_gather=gather_overlaps,
            chunk_gather_s=10.0,
            overlap_gradient_reduction=reduction_overlaps,
            chunk_gradient_s=20.0,
            chunk_backward_work_s=12.0,
        )
        assert waited == exists * expected


def test_the_window_is_all_work_inside_the_replica() -> None:
    """Digits of a number: each part shows in its own place, and once."""
    forward = chunk_forward_work_s(
        chunk_forward_compute_s=1.0,
        chunk_forward_tensor_s=20.0,
        chunk_forward_sequence_s=300.0,
        chunk_forward_context_s=4000.0,
        chunk_forward_expert_s=50000.0,
    )
    backward = chunk_backward_work_s(
        chunk_backward_compute_s=1.0,
        chunk_recompute_s=20.0,
        chunk_backward_tensor_s=300.0,
        chunk_backward_sequence_s=4000.0,
        chunk_backward_context_s=50000.0,
        chunk_backward_expert_s=600000.0,
    )
    assert (forward, backward) == (54321, 654321)
    forward = chunk_forward_s(
        chunk_forward_work_s=321.0, chunk_forward_data_s=4000.0, chunk_forward_offload_s=50000.0
    )
    backward = chunk_backward_s(
        chunk_backward_work_s=4321.0, chunk_backward_data_s=50000.0, chunk_backward_offload_s=6e5
    )
    assert (forward, backward) == (54321, 654321)


@pytest.mark.parametrize("overlap", [True, False])
def test_sharded_traffic_of_a_plan_hides_behind_its_own_work(overlap: bool) -> None:
    """ZeRO-3 on eight replicas: what each direction waits for, from rings and its work."""
    forward, backward, forward_work, backward_work = inside_node(
        "chunk_forward_data_s",
        "chunk_backward_data_s",
        "chunk_forward_work_s",
        "chunk_backward_work_s",
        plan__zero_stage=3,
        plan__overlap_parameter_gather=overlap,
        plan__overlap_gradient_reduction=overlap,
        # So slow that only some of it hides.
        cluster__scale_up__efficiency_fraction=0.5,
    )
    parameters = 8_030_261_248
    gather, scatter = (7 * (LATENCY + size * parameters / 8 / (BANDWIDTH / 2)) for size in (2, 4))
    hidden = (forward_work[0], backward_work[0]) if overlap else (0.0, 0.0)
    assert forward == pytest.approx([max(gather - hidden[0], 0)], rel=1e-9)
    assert backward == pytest.approx([max(gather + scatter - hidden[1], 0)], rel=1e-9)
    assert backward[0] > 0


def test_a_gpu_works_through_all_its_chunks() -> None:
    """Forwards of 1 s and 2 s, backwards of 30 s and 40 s."""
    assert stage_microbatch_s(chunk_forward_s=[1.0, 2.0], chunk_backward_s=[30.0, 40.0]) == 73


def test_a_message_occupies_its_link_and_then_arrives() -> None:
    """30 bytes at 10 byte/s, and 1 s on the way; one stage sends none."""
    link = {"hop_bytes": 30, "pipeline_bandwidth_bytes_per_s": 10.0}
    assert hop_occupancy_s(pipeline_parallel_size=2, **link) == 3
    assert hop_s(pipeline_parallel_size=2, pipeline_latency_s=1.0, **link) == 4
    assert hop_occupancy_s(pipeline_parallel_size=1, **link) == 0
    assert hop_s(pipeline_parallel_size=1, pipeline_latency_s=1.0, **link) == 0
