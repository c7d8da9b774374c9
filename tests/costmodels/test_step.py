"""The time of a step and its terms, against slots walked one by one and sums over stages."""

from typing import Any

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.pipelining.bubble import slots_bubble_s as ideal_bubble_s
from costmodels.scenario import Scenario
from costmodels.step import (
    bubble_s,
    compute_s,
    data_exposed_s,
    end_s,
    idle_fraction,
    imbalance_s,
    mean_stage_s,
    offload_exposed_s,
    optimizer_s,
    recompute_s,
    replicated_exposed_s,
    sequence_exposed_s,
    sharding_exposed_s,
    slowest_stage_s,
    stage_end_s,
    tensor_exposed_s,
    tied_exposed_s,
)
from tests.costmodels.witnesses import WITNESSES, witness

TERMS = (
    "compute_s",
    "recompute_s",
    "tensor_exposed_s",
    "sequence_exposed_s",
    "context_exposed_s",
    "offload_exposed_s",
    "expert_exposed_s",
    "data_exposed_s",
    "pipeline_exposed_s",
    "bubble_s",
    "imbalance_s",
    "replicated_exposed_s",
    "tied_exposed_s",
    "optimizer_s",
)


def forward_slots(p: int, v: int, m: int) -> int:
    """Return the slots of all forwards, walked: a rank does p microbatches of a chunk, then the next.

    A chunk starts when its rank is free and the virtual stage before it has handed over.
    """
    done: dict[tuple[int, int], int] = {}
    free = [0] * p
    for group in range(0, m, p):
        for stage in range(p * v):
            for microbatch in range(group, min(group + p, m)):
                start = max(free[stage % p], done.get((microbatch, stage - 1), 0))
                free[stage % p] = done[microbatch, stage] = start + 1
    return max(free)


@pytest.mark.parametrize(
    ("p", "v", "m"),
    [
        (1, 1, 3),
        (4, 1, 8),
        (4, 2, 8),
        (3, 4, 9),
        (8, 1, 3),  # fewer microbatches than ranks
        (8, 1, 1),
        (4, 2, 2),
        (4, 2, 3),
        (8, 3, 5),
        (2, 4, 1),
    ],
)
def test_the_ideal_bubble_is_every_slot_without_work(p: int, v: int, m: int) -> None:
    """Forwards of 1 s and, in reverse, backwards of 2 s: what is not v m chunks of them is bubble."""
    whole = forward_slots(p, v, m) * 1 + forward_slots(p, v, m) * 2
    work = m * v * (1 + 2)
    waited = ideal_bubble_s(
        pipeline_parallel_size=p, microbatch_count=m, mean_stage_s=3.0 * v, virtual_stages=v
    )
    assert waited == pytest.approx(whole - work, rel=1e-12)


def test_uneven_stages_wait_or_fill_the_bubble() -> None:
    """A bubble of 10 s: 3 s more are imbalance; 3 s less leave 7 s of it. Both add to the step."""
    assert (bubble_s(ideal_bubble_s=10.0, uneven_s=3.0), imbalance_s(uneven_s=3.0)) == (10, 3)
    assert (bubble_s(ideal_bubble_s=10.0, uneven_s=-3.0), imbalance_s(uneven_s=-3.0)) == (7, 0)


CLASSES: dict[str, Any] = {"run_stage_count": [1, 3], "pipeline_parallel_size": 4}


def test_mean_and_slowest_stage() -> None:
    """One stage of 6 s, three of 2 s: 12 s on four."""
    assert mean_stage_s(**CLASSES, stage_microbatch_s=[6.0, 2.0]) == 3
    assert slowest_stage_s(stage_microbatch_s=[6.0, 2.0]) == 6


@pytest.mark.parametrize(
    ("function", "forward", "backward"),
    [
        (compute_s, "chunk_forward_compute_s", "chunk_backward_compute_s"),
        (tensor_exposed_s, "chunk_forward_tensor_s", "chunk_backward_tensor_s"),
        (sequence_exposed_s, "chunk_forward_sequence_s", "chunk_backward_sequence_s"),
        (sharding_exposed_s, "chunk_forward_data_s", "chunk_backward_data_s"),
        (offload_exposed_s, "chunk_forward_offload_s", "chunk_backward_offload_s"),
    ],
)
def test_terms_are_means_over_stages_of_all_microbatches(
    function: Any, forward: str, backward: str
) -> None:
    """Five microbatches; chunks of the first stage 1 + 3 s and 10 + 30 s, of the others less."""
    first = (1 + 3) + (10 + 30)
    others = (1 + 1) + (2 + 4)
    step_s = function(
        chunk_microbatch_count=5,
        **CLASSES,
        **{forward: [[1.0, 3.0], [1.0, 1.0]], backward: [[10.0, 30.0], [2.0, 4.0]]},
    )
    assert step_s == 5 * (first + others + others + others) / 4


def test_recomputation_is_a_mean_over_stages() -> None:
    step_s = recompute_s(
        chunk_microbatch_count=5, **CLASSES, chunk_recompute_s=[[1.0, 3.0], [2.0, 2.0]]
    )
    assert step_s == 5 * 4


def test_the_end_of_a_stage_does_one_thing_after_another() -> None:
    assert (
        stage_end_s(
            exposed_reduction_s=1.0,
            replicated_s=50000.0,
            tied_embedding_s=20.0,
            mirror_s=0.0,
            stage_optimizer_s=300.0,
            exposed_gather_s=4000.0,
        )
        == 54321
    )


def last_end(ends: list[float], backwards: list[float], hop: float) -> float:
    """Return when the last stage is done, after the first stage's last backward, stage by stage."""
    clock = 0.0
    done = []
    for end, backward in reversed(list(zip(ends, backwards, strict=True))):
        clock += backward
        done.append(clock + end)
        clock += hop
    return max(done) - (clock - hop)


@pytest.mark.parametrize(
    "ends", [[10.0, 1.0, 1.0, 1.0], [1.0, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 20.0], [0.0] * 4]
)
def test_the_stage_that_ends_last_decides(ends: list[float]) -> None:
    """Last backwards of 2, 1, 1 and 3 s on their way from the last stage to the first."""
    backwards = [2.0, 1.0, 1.0, 3.0]
    counts = [1, 2, 1]
    found = end_s(
        stage_end_s=[ends[0], ends[1], ends[3]],
        run_stage_count=counts,
        chunk_backward_s=[[backwards[0]], [backwards[1]], [backwards[3]]],
        hop_s=0.5,
        schedule_ends_in_turn=1,
    )
    assert found == last_end(ends, backwards, 0.5)


def test_the_end_is_split_into_optimizer_then_copies_then_replicas() -> None:
    """Of 10 s after the first stage's last backward: 4 s update, 3 s and 1 s copies, 2 s replicas."""
    at: dict[str, Any] = {
        "stage_end_s": [10.0, 1.0],
        "run_stage_count": [1, 1],
        "chunk_backward_s": [[2.0], [2.0]],
        "hop_s": 1.0,
        "schedule_ends_in_turn": 1,
    }
    update_s = optimizer_s(stage_optimizer_s=[4.0, 9.0], **at)
    exchange_s = tied_exposed_s(tied_embedding_s=[3.0, 9.0], optimizer_s=update_s, **at)
    sum_s = replicated_exposed_s(
        replicated_s=[1.0, 9.0], optimizer_s=update_s, tied_exposed_s=exchange_s, **at
    )
    replicas_s = data_exposed_s(
        sharding_exposed_s=5.0,
        end_s=end_s(**at),
        optimizer_s=update_s,
        tied_exposed_s=exchange_s,
        replicated_exposed_s=sum_s,
    )
    assert (update_s, exchange_s, sum_s, replicas_s) == (4, 3, 1, 5 + 2)


def test_the_share_of_idle_time() -> None:
    idle = idle_fraction(bubble_s=1.0, imbalance_s=2.0, pipeline_exposed_s=3.0, pipeline_s=24.0)
    assert idle == 0.25


def found(scenario: Scenario, *names: str) -> list[float]:
    values = evaluate(compile_columns(scenario), names)
    return [float(np.ravel(value)[0]) for value in values.values()]


@pytest.mark.parametrize("name", WITNESSES)
def test_terms_add_up_to_the_step_and_none_is_negative(name: str) -> None:
    scenario = witness(name)
    terms = found(scenario, *TERMS)
    step_s, pipeline_s, after_s = found(scenario, "step_s", "pipeline_s", "end_s")
    assert sum(terms) == pytest.approx(step_s, rel=1e-12)
    assert pipeline_s + after_s == pytest.approx(step_s, rel=1e-12)
    assert min(terms) >= 0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_terms_add_up_where_everything_shows(stage: int) -> None:
    """Slow links, no overlap, tied copies, sequence parallelism, recomputation: no term is zero."""
    scenario = witness(
        "small",
        cluster__accelerator_count=16,
        cluster__network__bandwidth_bytes_per_s=1e9,
        model__tied_embeddings=True,
        plan__tensor_parallel_size=2,
        plan__pipeline_parallel_size=4,
        plan__layers_per_stage=[11, 9, 7, 5],
        plan__sequence_parallel=True,
        plan__recompute="full",
        plan__zero_stage=stage,
        plan__overlap_gradient_reduction=False,
        plan__overlap_parameter_gather=False,
        plan__offload_activations_num_layers=3,
        cluster__host_bandwidth_bytes_per_s=1e8,
    )
    terms = found(scenario, *TERMS)
    (step_s,) = found(scenario, "step_s")
    # Where gradients are scattered after every backward, sums of replicated ones are among those.
    positive = dict(zip(TERMS, terms, strict=True))
    assert (positive.pop("replicated_exposed_s") > 0) == (stage < 2)
    # Nothing is exchanged with experts, nor between ranks of a sequence.
    assert positive.pop("context_exposed_s") == positive.pop("expert_exposed_s") == 0
    assert min(positive.values()) > 0
    assert sum(terms) == pytest.approx(step_s, rel=1e-12)
    for term in terms:
        assert term < step_s


def test_one_gpu_computes_and_updates_and_waits_for_nothing() -> None:
    terms = dict(zip(TERMS, found(witness("small", cluster="h100-sxm:1"), *TERMS), strict=True))
    assert {name for name, term in terms.items() if term > 0} == {"compute_s", "optimizer_s"}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_one_replica_waits_for_no_other(stage: int) -> None:
    """Two stages with copies of an embedding: the exchange is theirs alone, and shows whole."""
    scenario = witness(
        "small",
        cluster__accelerator_count=2,
        model__tied_embeddings=True,
        plan__pipeline_parallel_size=2,
        plan__zero_stage=stage,
        cluster__scale_up__bandwidth_bytes_per_s=100e9,
        cluster__scale_up__efficiency_fraction=1.0,
        cluster__scale_up__latency_s=1e-3,
    )
    data_s, tied_s, step_s = found(scenario, "data_exposed_s", "tied_exposed_s", "step_s")
    table = 128256 * 4096 * 4
    assert data_s == pytest.approx(0, abs=1e-15 * step_s)
    assert tied_s == pytest.approx(2 * (1e-3 + table / 2 / 100e9), rel=1e-12)


def test_untied_embeddings_exchange_nothing() -> None:
    scenario = witness("small", cluster__accelerator_count=2, plan__pipeline_parallel_size=2)
    assert found(scenario, "tied_exposed_s") == [0]
