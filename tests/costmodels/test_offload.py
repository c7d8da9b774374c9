"""States of the optimizer on the host: what a GPU keeps, sends and waits for."""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from simulator.accounting import memory_account
from tests.costmodels.witnesses import witness

LINK = {"cluster__host_bandwidth_bytes_per_s": 50e9, "plan__offload_optimizer": True}
PARAMETERS = 8_030_261_248


def of_stage(*names: str, **changes: Any) -> list[float]:
    values = evaluate(compile_columns(witness("small", **changes)), names)
    return [value[0].reshape(-1)[0].item() for value in values.values()]


def test_states_move_to_the_host_to_the_byte() -> None:
    """12 bytes a parameter over eight replicas; two sets of the largest unit's stay as buffer."""
    names = ("optimizer_bytes", "host_bytes", "offload_buffer_bytes", "stage_bytes")
    kept, nothing, none, whole = of_stage(*names, plan__zero_stage=1)
    left, held, buffer, rest = of_stage(*names, plan__zero_stage=1, **LINK)
    assert (kept, nothing, none) == (12 * PARAMETERS // 8, 0, 0)
    assert (left, held) == (0, kept)
    assert buffer == 2 * 12 * (128257 * 4096 // 8)
    assert whole - rest == kept - buffer


def test_an_update_waits_for_the_link() -> None:
    sent, seconds = of_stage("host_traffic_bytes", "stage_optimizer_s", plan__zero_stage=1, **LINK)
    states = 12 * PARAMETERS // 8
    assert sent == 2 * states
    assert seconds == pytest.approx(states / 50e9, rel=1e-12)
    wide = LINK | {"cluster__host_bandwidth_bytes_per_s": 1e15}
    resident = of_stage("stage_optimizer_s", plan__zero_stage=1)
    assert of_stage("stage_optimizer_s", plan__zero_stage=1, **wide) == resident


def test_components_add_up_without_states() -> None:
    account = memory_account(witness("small", plan__zero_stage=1, **LINK))
    parts = [entry.stage_bytes[0] for entry in account.components]
    assert sum(parts) == account.stage_bytes[0]
    assert account.component("moments_bytes").stage_bytes == [0]


def test_buffers_hold_experts_as_their_own_ranks_shard_them() -> None:
    """Four experts over two ranks that hold the same ones; the rest of a layer over eight."""
    plan = {"plan__zero_stage": 1, "plan__expert_parallel_size": 4}
    scenario = witness("mixture", **plan, **LINK)
    values = evaluate(compile_columns(scenario), ["offload_buffer_bytes", "host_state_bytes"])
    buffer, held = (value[0].reshape(-1)[0].item() for value in values.values())
    hidden, width, vocabulary = 4096, 14336, 32000
    attention = 2 * hidden * hidden + 2 * hidden * 1024
    others = attention + 2 * hidden + 8 * hidden
    experts = 2 * 3 * hidden * width
    layer = 12 * (others // 8 + experts // 2)
    assert buffer == 2 * layer
    assert held == 32 * layer + 12 * (2 * vocabulary * hidden + hidden) // 8


@pytest.mark.parametrize(
    ("optimizer", "element_bytes"), [("muon", 4 + 8), ("adam-8bit", 4 + 2 + 2 * 4 / 256)]
)
def test_buffers_hold_moments_that_follow_shapes(optimizer: str, element_bytes: float) -> None:
    """The table of embeddings is the largest: two moments of Adam, or two bytes with scales."""
    states = LINK | {"workload__optimizer": optimizer}
    (buffer,) = of_stage("offload_buffer_bytes", **states)
    head = (128256 * 4096 + 4096) * element_bytes
    assert buffer == pytest.approx(2 * head, rel=1e-5)
