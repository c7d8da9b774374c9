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
