"""Activations on the host: what stays, leaves and passes the link, and what is waited for."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels import analysis
from costmodels.analysis import CATALOGUE, evaluate
from costmodels.compilation import compile_columns
from costmodels.offload import chunk_backward_offload_s, chunk_forward_offload_s
from tests.costmodels.witnesses import WITNESSES, witness

NUMBER = "plan.offload_activations_num_layers"
BANDWIDTH = 20e9
LAYERS = 32
LAYER = 1024 * (2 * (4 * 4096 + 2 * 4096 + 2 * 1024 + 3 * 14336) + 4 * 32)
"""Bytes of a layer: four vectors of norms, query, output, key, value, network; a logsumexp a head."""


def stages(count: int, *names: str, **changes: Any) -> list[Any]:
    """Return quantities of the small witness with `count` layers of a chunk on the host."""
    stated = {"plan__offload_activations_num_layers": count}
    scenario = witness("small", **stated, cluster__host_bandwidth_bytes_per_s=BANDWIDTH, **changes)
    values = evaluate(compile_columns(scenario), names)
    return [
        np.ravel(value[0] if isinstance(value, tuple) else value)[0] for value in values.values()
    ]


def test_the_first_layers_leave_to_the_byte() -> None:
    """Two microbatches, one in flight: five of 32 layers leave, two of them stand on the GPU."""
    names = ("activations_bytes", "host_activation_bytes", "offload_staging_bytes")
    kept, nothing, none = stages(0, *names)
    left, held, staged = stages(5, *names)
    assert (nothing, none) == (0, 0)
    assert (kept - left, held, staged) == (5 * LAYER, 5 * LAYER, 2 * LAYER)
    assert stages(1, *names) == [kept - LAYER, LAYER, LAYER]
    sent = ("device_to_host_bytes", "host_to_device_bytes", "host_traffic_bytes", "host_bytes")
    assert stages(5, *sent) == [10 * LAYER, 10 * LAYER, 20 * LAYER, 5 * LAYER]


def test_a_layer_that_is_computed_again_sends_its_input() -> None:
    sizes = ("host_activation_bytes", "layer_input_bytes")
    sent, size = stages(5, *sizes, plan__recompute="full")
    assert sent == 5 * size
    (sent,) = stages(5, sizes[0], plan__recompute="full", plan__recompute_num_layers=2)
    assert sent == 3 * size
    block = {"plan__recompute": "full", "plan__recompute_method": "block"}
    (sent,) = stages(5, sizes[0], plan__recompute_num_layers=3, **block)
    assert sent == 3 * size + 2 * LAYER
    (sent,) = stages(5, sizes[0], plan__recompute="selective")
    assert sent == 5 * (LAYER - 1024 * 4 * 32)


def test_copies_show_as_far_as_they_are_longer_than_the_work() -> None:
    names = ("chunk_forward_work_s", "chunk_backward_work_s", "offload_exposed_s")
    forward_s, backward_s, exposed_s = stages(9, *names)
    copy_s = 9 * LAYER / BANDWIDTH
    assert forward_s < copy_s < backward_s
    assert exposed_s == pytest.approx(2 * (copy_s - forward_s), rel=1e-12)
    forward_s, backward_s, exposed_s = stages(LAYERS, *names)
    copy_s = LAYERS * LAYER / BANDWIDTH
    assert exposed_s == pytest.approx(2 * (2 * copy_s - forward_s - backward_s), rel=1e-12)


def test_copies_hide_behind_the_gather_of_weights_too() -> None:
    names = ("chunk_forward_work_s", "chunk_forward_data_s", "chunk_forward_offload_s")
    slow = {"plan__zero_stage": 3, "cluster__scale_up__efficiency_fraction": 0.2}
    work_s, gather_s, exposed_s = stages(LAYERS, *names, **slow)
    assert gather_s > 0
    assert exposed_s == pytest.approx(LAYERS * LAYER / BANDWIDTH - work_s - gather_s, rel=1e-12)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Return changes of the witness of experts: of its layers, a third have none."""
    schedule = draw(st.sampled_from(["gpipe", "1f1b", "interleaved-1f1b"]))
    virtual = draw(st.integers(2, 3)) if schedule.startswith("inter") else 1
    pipeline = draw(st.sampled_from([2, 4] if virtual > 1 else [1, 2, 4]))
    number = draw(st.none() | st.integers(1, 5))
    return {
        "model__num_hidden_layers": draw(st.integers(12, 20)),
        "model__mixture__dense_layers": draw(st.sampled_from([[], [0, 1], list(range(0, 12, 3))])),
        "plan__schedule": schedule,
        "plan__virtual_stages": virtual,
        "plan__pipeline_parallel_size": pipeline,
        "plan__recompute": draw(st.sampled_from(["none", "selective", "full"])),
        "plan__recompute_method": draw(st.sampled_from(["uniform", "block"])),
        "plan__recompute_num_layers": number,
        "plan__zero_stage": draw(st.sampled_from([0, 1, 3])),
        "workload__global_batch_size": 8 // pipeline * pipeline * draw(st.integers(1, 3)),
        "cluster__host_bandwidth_bytes_per_s": draw(st.sampled_from([1e9, BANDWIDTH, 1e15])),
    }


def rows(value: Any, count: int) -> npt.NDArray[Any]:
    """Return a quantity by row, and by stage and chunk where it has them."""
    if isinstance(value, tuple):
        return np.stack([rows(entry, count) for entry in value], axis=-1)
    return np.broadcast_to(np.ravel(value), (count,))


PROPERTIES = (
    "chunk_activation_bytes",
    "chunk_offloaded_bytes",
    "chunk_retained_input_bytes",
    "chunk_in_flight_count",
    "activations_bytes",
    "host_activation_bytes",
    "offload_staging_bytes",
    "stage_bytes",
    "host_traffic_bytes",
    "offload_exposed_s",
    "step_s",
)


@given(plans())
@settings(max_examples=30)
def test_nothing_is_lost_and_more_layers_take_less_memory_and_more_time(
    changes: dict[str, Any],
) -> None:
    counts = list(range(22))
    columns = compile_columns(witness("mixture", **changes), {NUMBER: counts})
    found = evaluate(columns, PROPERTIES)
    values = {name: rows(value, len(counts)) for name, value in found.items()}
    twice = values["chunk_retained_input_bytes"]
    both = values["chunk_activation_bytes"] + values["chunk_offloaded_bytes"]
    assert (both - twice == both[0]).all()
    held = values["activations_bytes"] + values["host_activation_bytes"]
    more = (values["chunk_in_flight_count"] * twice).sum(axis=1)  # over chunks
    one_chunk = changes["plan__virtual_stages"] == 1
    assert (held - more == held[0]).all() if one_chunk else (held >= held[0]).all()
    assert (values["offload_staging_bytes"] <= values["host_activation_bytes"]).all()
    assert (values["stage_bytes"] - more <= values["stage_bytes"][0]).all()
    for first, second in pairwise(range(len(counts))):
        if first:
            assert (values["stage_bytes"][second] <= values["stage_bytes"][first]).all()
        for name in ("host_activation_bytes", "host_traffic_bytes", "offload_exposed_s"):
            assert (values[name][second] >= values[name][first]).all()
        slower = values["step_s"][second] >= values["step_s"][first] * (1 - 1e-12)
        assert slower.all()
    if changes["cluster__host_bandwidth_bytes_per_s"] == 1e15:
        assert (values["step_s"] == values["step_s"][0]).all()
    assert (values["offload_exposed_s"][0] == 0).all()


def forward_by_layers(work_s: float, copy_s: float, layers: int, sent: int) -> float:
    """Return how long a forward takes where two layers stand on the GPU beside those that stay."""
    places = layers - sent + 2
    now_s, link_s = 0.0, 0.0
    left_s: list[float] = []
    for layer in range(layers):
        gone = layer + 1 - places
        now_s = max(now_s, left_s[gone - 1] if gone > 0 else 0.0) + work_s
        if layer < sent:
            link_s = max(link_s, now_s) + copy_s
            left_s.append(link_s)
    return now_s


def backward_by_layers(work_s: float, copy_s: float, layers: int, sent: int) -> float:
    """Return how long a backward takes that finds two free places on the GPU."""
    now_s, link_s = 0.0, 0.0
    ended_s: list[float] = []
    for place in range(layers):
        copy = place - (layers - sent)
        if copy >= 0:
            link_s = max(link_s, ended_s[copy - 2] if copy >= 2 else 0.0) + copy_s
            now_s = max(now_s, link_s)
        now_s += work_s
        ended_s.append(now_s)
    return now_s


@given(
    st.floats(0.1, 10.0),
    st.floats(0.1, 10.0),
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
)
def test_layer_by_layer_it_takes_as_long_but_for_the_ends(
    work_s: float, copy_s: float, counts: tuple[int, int]
) -> None:
    """The last two copies end behind a forward; a backward ends with the work of one layer."""
    layers, sent = counts
    work, copies = (layers * work_s, sent * copy_s)
    forward = work + chunk_forward_offload_s(copies, work, 0.0)
    backward = work + chunk_backward_offload_s(copies, work, 0.0)
    rounding = 1e-9 * forward
    ends = 2 * max(copy_s - work_s, 0.0)
    played = forward_by_layers(work_s, copy_s, layers, sent)
    assert forward - ends - rounding <= played <= forward + rounding
    played = backward_by_layers(work_s, copy_s, layers, sent)
    assert backward - rounding <= played <= backward + work_s + rounding


@pytest.mark.parametrize("base", WITNESSES)
def test_what_is_left_out_without_offload_would_be_zero(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No schedule is followed for plans that offload nothing: the same numbers, sooner."""
    columns = compile_columns(witness(base))
    left_out = {name: entry for name, entry in CATALOGUE.items() if entry.zero_without}
    assert {"host_activation_bytes", "offload_staging_bytes"} <= left_out.keys()
    sooner = evaluate(columns, left_out)
    computed = {
        name: msgspec.structs.replace(entry, zero_without=None) for name, entry in left_out.items()
    }
    monkeypatch.setattr(analysis, "CATALOGUE", {**CATALOGUE, **computed})
    for name, stages in evaluate(columns, left_out).items():
        assert len(stages) == len(sooner[name])
        assert not any(np.any(value) for value in (*stages, *sooner[name]))
