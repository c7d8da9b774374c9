"""Memory of a GPU, against the table of the ZeRO paper and properties of sharding."""

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.memory import (
    buffers_bytes,
    chunk_unit_parameters,
    fits,
    gradients_bytes,
    main_weight_state_bytes,
    moment_count,
    moment_state_bytes,
    optimizer_bytes,
    reserve_bytes,
    shard_parameters,
    sharding_buffer_bytes,
    unit_parameters,
    wide_weights_bytes,
    worst_stage_index,
)
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import WITNESSES, witness


def state_bytes(parameters: int, stage: int, replicas: int) -> int:
    """Return weights, gradients and Adam's state in mixed precision: 2 + 2 + 12 bytes."""
    shard = shard_parameters(parameters, 0, replicas, 1)
    weights = wide_weights_bytes(parameters, stage, shard, 2, cast_on_gather=0)
    sharding = {
        "stage_trained_parameters": parameters,
        "zero_stage": stage,
        "trained_shard_parameters": shard,
    }
    gradients = gradients_bytes(**sharding, gradient_element_bytes=2)
    optimizer = optimizer_bytes(
        main_weight_state_bytes(**sharding, main_weight_element_bytes=4),
        moment_state_bytes(
            **sharding, moment_count=2, moment_element_bytes=4, shape_moments_bytes=0
        ),
    )
    return int(weights + gradients + optimizer)


@pytest.mark.parametrize(("stage", "printed"), [(0, "120"), (1, "31.4"), (2, "16.6"), (3, "1.9")])
def test_zero_on_64_gpus_as_printed(stage: int, printed: str) -> None:
    """Rajbhandari et al. 2020, arXiv:1910.02054, Figure 1: 7.5B parameters, 64 GPUs, in GB."""
    decimals = len(printed.partition(".")[2])
    held = state_bytes(7_500_000_000, stage, 64)
    assert f"{held / 1e9:.{decimals}f}" == printed


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        (1, (120, 120, 120)),
        (4, (52.5, 41.3, 30)),
        (16, (35.6, 21.6, 7.5)),
        (1024, (30.1, 15.1, 0.12)),
    ],
)
def test_zero_on_other_numbers_of_gpus_as_printed(
    replicas: int, expected: tuple[float, ...]
) -> None:
    """The same paper, Table 1, 7.5B column: stages 1 to 3, in GB."""
    for stage, printed in enumerate(expected, start=1):
        held = state_bytes(7_500_000_000, stage, replicas) / 1e9
        # Printed with one decimal, the smallest with two; 41.25 stands there as 41.3.
        assert held == pytest.approx(printed, abs=0.005 if printed < 1 else 0.0501)


@given(st.integers(1, 10**12), st.integers(1, 10**5))
def test_each_stage_of_zero_holds_no_more_than_the_one_before(
    parameters: int, replicas: int
) -> None:
    held = [state_bytes(parameters, stage, replicas) for stage in range(4)]
    assert held == sorted(held, reverse=True)
    assert held[0] == 16 * parameters
    # Together the shards hold everything, padded by less than an element a rank.
    assert 16 * parameters <= held[3] * replicas < 16 * (parameters + replicas)
    assert held[3] == 16 * ceil(parameters / replicas)


@given(st.integers(1, 10**12), st.integers(0, 3))
def test_one_replica_shards_nothing(parameters: int, stage: int) -> None:
    assert state_bytes(parameters, stage, 1) == 16 * parameters


def test_moments_by_optimizer() -> None:
    assert moment_count(optimizer_is_adam=1, optimizer_is_sgd_momentum=0) == 2
    assert moment_count(optimizer_is_adam=0, optimizer_is_sgd_momentum=1) == 1
    assert moment_count(optimizer_is_adam=0, optimizer_is_sgd_momentum=0) == 0


def quantities(scenario: Scenario, *names: str) -> dict[str, Any]:
    return evaluate(compile_columns(scenario), names)


@pytest.mark.parametrize(
    ("precision", "element_bytes"),
    [("bf16-mixed", 18), ("bf16", 8), ("fp16-mixed", 16), ("fp32", 16)],
)
def test_bytes_of_a_parameter_by_recipe(precision: str, element_bytes: int) -> None:
    """As the sources of the recipes print them, for Adam."""
    scenario = witness("small", precision=precision, cluster="a100-80gb-sxm:1")
    names = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
    values = quantities(scenario, *names, "total_parameters")
    held = sum(int(values[name][0][0]) for name in names)
    assert held == element_bytes * int(values["total_parameters"][0])


@pytest.mark.parametrize("name", WITNESSES)
def test_the_worst_stage_is_one_of_the_stages(name: str) -> None:
    values = quantities(
        witness(name),
        "stage_bytes",
        "stage_index",
        "worst_stage_bytes",
        "worst_stage_index",
        "headroom_bytes",
        "fits",
        "accelerator_memory_bytes",
    )
    stages = [int(column[0]) for column in values["stage_bytes"]]
    worst = max(stages)
    assert int(values["worst_stage_bytes"][0]) == worst
    index = int(values["worst_stage_index"][0])
    assert index == int(values["stage_index"][stages.index(worst)][0])
    room = int(values["accelerator_memory_bytes"][0]) - worst
    assert int(values["headroom_bytes"][0]) == room
    assert bool(values["fits"][0]) == (room >= 0)


def test_the_first_of_equal_stages_is_the_worst() -> None:
    assert worst_stage_index([0, 3, 5], [7, 9, 9]) == 3
    assert worst_stage_index([0, 3], [np.array([7, 1]), np.array([7, 2])]).tolist() == [0, 3]


def test_a_plan_fits_to_the_last_byte() -> None:
    assert fits(0)
    assert not fits(-1)
    need = int(quantities(witness("small"), "worst_stage_bytes")["worst_stage_bytes"][0])
    full = witness("small", cluster__accelerator__memory_bytes=need)
    short = witness("small", cluster__accelerator__memory_bytes=need - 1)
    assert bool(quantities(full, "fits")["fits"][0])
    assert not bool(quantities(short, "fits")["fits"][0])


@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 3), st.sampled_from([1, 2, 4]))
def test_a_stage_is_the_sum_of_its_named_parts(tensor: int, zero: int, pipeline: int) -> None:
    parts = (
        "weights_bytes",
        "gradients_bytes",
        "optimizer_bytes",
        "activations_bytes",
        "buffers_bytes",
    )
    scenario = witness(
        "small",
        plan__tensor_parallel_size=tensor,
        plan__pipeline_parallel_size=pipeline,
        plan__zero_stage=zero,
        cluster__accelerator_count=2 * tensor * pipeline,
    )
    values = quantities(scenario, *parts, "stage_bytes", "reserve_bytes")
    for index, stage in enumerate(values["stage_bytes"]):
        named = sum(int(np.ravel(values[part][index])[0]) for part in parts)
        assert int(stage[0]) == named + int(values["reserve_bytes"][0])


@given(st.integers(1, 8).map(lambda exponent: 2**exponent))
def test_more_memory_is_needed_for_longer_sequences(length: int) -> None:
    shorter, longer = (
        quantities(witness("small", workload__sequence_length=tokens), "worst_stage_bytes")[
            "worst_stage_bytes"
        ][0]
        for tokens in (length, 2 * length)
    )
    assert shorter < longer


def test_a_single_replica_needs_no_sharding_buffer() -> None:
    scenario = witness("small", plan__zero_stage=3, cluster__accelerator_count=1)
    assert int(quantities(scenario, "sharding_buffer_bytes")["sharding_buffer_bytes"][0][0]) == 0


def test_a_single_stage_needs_no_receive_buffer() -> None:
    assert (
        int(quantities(witness("small"), "pipeline_buffer_bytes")["pipeline_buffer_bytes"][0]) == 0
    )


def test_zero_3_gathers_two_units_of_weights_and_one_of_gradients() -> None:
    """The largest unit of Llama 3.1 8B is the embedding, 128,256 x 4,096 (a layer has 218 M)."""
    scenario = witness("small", plan__zero_stage=3)
    unit = 128256 * 4096
    held = quantities(scenario, "sharding_buffer_bytes")["sharding_buffer_bytes"][0][0]
    assert int(held) == (unit + 4096) * (2 * 2 + 4)


@pytest.mark.parametrize("pipeline", [2, 4, 8])
@pytest.mark.parametrize(("tensor", "sequence_parallel"), [(1, False), (2, False), (2, True)])
def test_a_rank_holds_its_output_while_it_sends(
    pipeline: int, tensor: int, sequence_parallel: bool
) -> None:
    """1,024 tokens of width 4,096 in bf16, however long the pipeline; split with its tokens."""
    scenario = witness(
        "small",
        cluster__accelerator_count=16,
        plan__pipeline_parallel_size=pipeline,
        plan__tensor_parallel_size=tensor,
        plan__sequence_parallel=sequence_parallel,
    )
    tokens = 1024 // tensor if sequence_parallel else 1024
    output = tokens * 4096 * 2
    held = quantities(scenario, "pipeline_buffer_bytes", "sequence_buffer_bytes")
    assert int(held["pipeline_buffer_bytes"][0]) == output
    # What a split matrix needs whole is gathered again, all tokens of it.
    gathered = 1024 * 4096 * 2 if sequence_parallel else 0
    assert int(held["sequence_buffer_bytes"][0]) == gathered


def test_the_largest_unit_of_a_chunk() -> None:
    """Kinds of 10 and 100 parameters, ends of 40 and 70: only what the chunk holds counts."""
    for counts, embedding, head, expected in (
        ([3, 1], 0, 0, 100),
        ([0, 2], 0, 2, 108),  # the second kind predicts a further token, 8 parameters before it
        ([3, 0], 0, 0, 10),
        ([3, 0], 1, 0, 40),
        ([3, 0], 0, 1, 70),
        ([3, 0], 1, 1, 70),
        ([0, 0], 0, 0, 0),
        ([0, 5], 1, 1, 100),
    ):
        unit = chunk_unit_parameters(
            chunk_layer_count=counts,
            layer_gpu_parameters=[10, 100],
            chunk_holds_embedding=embedding,
            embedding_gpu_parameters=40,
            chunk_holds_head=min(head, 1),
            head_gpu_parameters=70,
            predicted_layer_count=[0, 1],
            chunk_prediction_count=max(head - 1, 0),
            prediction_gpu_parameters=8,
        )
        assert unit == expected
    assert unit_parameters(chunk_unit_parameters=[10, 70, 40]) == 70


@pytest.mark.parametrize(
    ("stage", "replicas", "cast", "expected"),
    [
        (0, 4, 0, 0),
        (1, 4, 0, 0),
        (2, 4, 0, 10 * 4),  # gradients of a unit, before they are scattered
        (3, 4, 0, 10 * 2 + 10 * 2 + 10 * 4),  # and weights of the unit in use and of the next
        (3, 1, 0, 0),
        (2, 1, 0, 0),
        (3, 4, 1, 10 * 2 + 10 * 2 + 10 * 4 + 10 * 2),  # and gradients before they are cast
        (3, 1, 1, 10 * 2 + 10 * 2 + 10 * 4 + 10 * 2),  # one replica makes weights, too
    ],
)
def test_buffers_of_sharding(stage: int, replicas: int, cast: int, expected: int) -> None:
    """A unit of ten parameters, bf16 weights, fp32 gradients."""
    held = sharding_buffer_bytes(
        sharding_size=replicas,
        expert_sharding_size=1,
        unit_parameters=10,
        weights_are_frozen=0,
        trained_unit_parameters=10,
        adapter_element_bytes=0,
        zero_stage=stage,
        weight_element_bytes=2,
        gradient_element_bytes=4,
        cast_on_gather=cast,
    )
    assert held == expected


@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_weights_made_as_they_are_gathered_are_not_kept(replicas: int) -> None:
    """Of 18 bytes a parameter 16 stay: no weights of two bytes beside the main weights."""
    names = ("weights_bytes", "gradients_bytes", "optimizer_bytes", "data_bytes")
    changes = {"plan__zero_stage": 3, "cluster__accelerator_count": replicas}
    kept = quantities(witness("small", **changes), *names)
    cast = quantities(witness("small", **changes, plan__cast_on_gather=True), *names)
    assert int(cast["weights_bytes"][0][0]) == 0
    for name in names[1:]:
        assert cast[name][0][0] == kept[name][0][0]


def test_buffers_and_reserve_are_sums() -> None:
    """Digits of a number: each part shows in its own place, and once."""
    assert (
        buffers_bytes(
            transient_bytes=1,
            dummy_gradient_bytes=600000,
            pipeline_buffer_bytes=20,
            sequence_buffer_bytes=300,
            context_buffer_bytes=50000,
            sharding_buffer_bytes=4000,
            offload_buffer_bytes=7000000,
            bucket_buffer_bytes=80000000,
            cast_weights_bytes=900000000,
            offload_staging_bytes=10000000000,
        )
        == 10987654321
    )
    assert reserve_bytes(accelerator_context_bytes=1, accelerator_allocator_reserve_bytes=20) == 21
