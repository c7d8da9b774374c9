"""The end of a step: passes of a ring, windows and the optimizer's tensors, by hand."""

from typing import Any

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.step_end import (
    exposed_gather_s,
    exposed_reduction_s,
    last_reduction_s,
    reduction_s,
    stage_optimizer_s,
    tied_embedding_s,
)
from tests.costmodels.witnesses import witness


@pytest.mark.parametrize(("stage", "passes"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_passes_of_a_reduction(stage: int, passes: int) -> None:
    """An all-reduce is two passes; ZeRO-1 scatters only; later stages have done so before."""
    assert reduction_s(zero_stage=stage, chunk_gradient_s=[2.0, 3.0]) == passes * 5


def test_the_last_bucket_waits_for_the_backward() -> None:
    """One layer of five is the last bucket of an overlapped reduction; without overlap, all is."""
    shares: dict[str, Any] = {
        "reduction_s": 10.0,
        "trained_unit_parameters": 7,
        "stage_trained_parameters": 35,
        "chunk_last_bucket_s": [0.5, 3.0],
    }
    for stage, bucket_s in ((0, 1.0), (1, 0.5), (2, 0.0)):
        given = shares | {"zero_stage": stage}

        def last_s(overlaps: int, bucket: int, given: dict[str, Any] = given) -> float:
            return last_reduction_s(  # type: ignore[no-any-return]
                overlap_gradient_reduction=overlaps,
                gradient_bucket_parameters=bucket,
                gradient_buckets_is_torch_ddp=0,
                **given,
            )

        assert (last_s(1, 0), last_s(0, 0), last_s(0, 4)) == (2, 10, 10)
        # The last bucket is that of the first chunk: twice around the ring, once, or done before.
        assert last_s(1, 4) == bucket_s


@pytest.mark.parametrize(
    ("first_s", "last_s", "expected"),
    [
        (3.0, 2.0, 7),  # runs beside the first chunk's last backward
        (9.0, 2.0, 2),  # its last bucket shows
        (30.0, 2.0, 2),
        (3.0, 10.0, 10),  # no overlap: last is all of it
    ],
)
def test_a_reduction_hides_behind_the_last_backward_of_the_first_chunk(
    first_s: float, last_s: float, expected: float
) -> None:
    """10 s of reduction; the second chunk, done before, hides none of it."""
    for splits in (0, 1):
        hiding = {
            "chunk_backward_work_s": [first_s - 1.0, 100.0],
            "chunk_backward_offload_s": [1.0, 20.0],  # waits for the host hide it too
            "chunk_weight_gradient_s": [1.0, 50.0],
        }
        if splits:  # the weight gradients come last, so that they alone hide it
            hiding |= {
                "chunk_backward_work_s": [100.0, 100.0],
                "chunk_weight_gradient_s": [first_s, 50.0],
            }
        found = exposed_reduction_s(
            reduction_s=10.0, schedule_splits_backward=splits, last_reduction_s=last_s, **hiding
        )
        assert found == expected


def test_copies_of_a_tied_embedding_take_two_steps() -> None:
    """A ring of two: each sends half, then the half that it has added; 3 s on the way each time."""
    step_s = 3.0 + 20 / 10.0
    links = {"pipeline_latency_s": 3.0, "pipeline_bandwidth_bytes_per_s": 10.0}
    assert tied_embedding_s(tied_embedding_bytes=40, **links) == step_s + step_s
    assert tied_embedding_s(tied_embedding_bytes=0, **links) == 0


@pytest.mark.parametrize(
    ("stage", "overlap", "forward_s", "expected"),
    [
        (0, 1, 0.0, 0),  # every replica updates all weights
        (1, 1, 2.0, 3),  # 5 s behind a forward of 2 s
        (2, 1, 2.0, 3),
        (3, 1, 2.0, 0),  # gathered when used
        (1, 1, 20.0, 0),
        (1, 0, 2.0, 5),  # nothing hides
        (2, 0, 20.0, 5),
    ],
)
def test_updated_weights_are_gathered_behind_the_first_forward(
    stage: int, overlap: int, forward_s: float, expected: float
) -> None:
    """Chunks of 2 s and 3 s; only the first chunk's forward comes first."""
    assert (
        exposed_gather_s(
            zero_stage=stage,
            chunk_gather_s=[2.0, 3.0],
            overlap_parameter_gather=overlap,
            chunk_forward_work_s=[forward_s, 100.0],
        )
        == expected
    )


MIXED = {"gradient": 4, "main": 4, "moments": [4, 4], "weight": 2}
PURE = {"gradient": 2, "main": 0, "moments": [2, 2], "weight": 2}
PLAIN_SGD = {"gradient": 4, "main": 0, "moments": [], "weight": 4}
MOMENTUM = {"gradient": 4, "main": 8, "moments": [4], "weight": 2}


@pytest.mark.parametrize("recipe", [MIXED, PURE, PLAIN_SGD, MOMENTUM])
@pytest.mark.parametrize(
    ("stage", "replicas", "updated"), [(0, 4, 10), (1, 4, 3), (2, 4, 3), (3, 4, 3), (3, 1, 10)]
)
def test_an_update_reads_and_writes_tensors_one_by_one(
    recipe: dict[str, Any], stage: int, replicas: int, updated: int
) -> None:
    """Ten parameters, in shards of three where four replicas share them; at 2 byte/s."""
    moved = 0
    for _ in range(updated):
        moved += recipe["gradient"]  # read
        for moment in recipe["moments"]:
            moved += moment  # read
            moved += moment  # written
        if recipe["main"]:
            moved += recipe["main"]  # read
            moved += recipe["main"]  # written
        else:
            moved += recipe["weight"]  # read, for want of main weights
        moved += recipe["weight"]  # written
    time_s = stage_optimizer_s(
        stage_trained_parameters=10,
        zero_stage=stage,
        trained_shard_parameters=-(-10 // replicas),
        gradient_element_bytes=recipe["gradient"],
        main_weight_element_bytes=recipe["main"],
        moment_state_bytes=updated * sum(recipe["moments"]),
        host_state_bytes=0,
        stated_host_bytes_per_s=0.0,
        trained_element_bytes=recipe["weight"],
        memory_bytes_per_s=2.0,
        cast_on_gather=0,
    )
    assert time_s == moved / 2


def first_rows(*names: str, **changes: Any) -> list[list[float]]:
    """Return for each quantity its number on every stage class."""
    found = evaluate(compile_columns(witness("small", **changes)), names)
    return [[float(np.ravel(stage)[0]) for stage in value] for value in found.values()]


@pytest.mark.parametrize(("stage", "passes"), [(0, 2), (1, 1), (2, 0)])
def test_a_reduction_of_a_plan_is_rings_over_its_gradients(stage: int, passes: int) -> None:
    """Eight replicas of 8 G fp32 gradients at 100 GB/s, no latency; nothing hides."""
    reduction, exposed = first_rows(
        "reduction_s",
        "exposed_reduction_s",
        plan__zero_stage=stage,
        plan__overlap_gradient_reduction=False,
        cluster__scale_up__bandwidth_bytes_per_s=100e9,
        cluster__scale_up__efficiency_fraction=1.0,
        cluster__scale_up__latency_s=0.0,
    )
    shard = 4 * 8_030_261_248 / 8
    assert reduction == pytest.approx([passes * 7 * shard / 100e9], rel=1e-12)
    assert exposed == reduction
