"""DualPipe in answers: two copies of the layers, half of the microbatches each way."""

from typing import Any

import pytest

from costmodels.scenario import Scenario, scenario_from_table
from simulator.accounting import traffic_account
from simulator.matrix import traffic_matrix
from simulator.whatif import estimate, simulate


def scenario(schedule: str, **changes: Any) -> Scenario:
    """Return eight equal layers and two ends on four ranks, two replicas, unless changed."""
    plan = {
        "pipeline_parallel_size": 4,
        "virtual_stages": 2 if "dualpipe" in schedule else 1,
        "schedule": schedule,
        "recompute": "full",
    }
    return scenario_from_table(
        {
            "model": {"preset": "llama-3.1-8b", "num_hidden_layers": 14},
            "cluster": "h100-sxm:8",
            "plan": plan | changes,
            "workload": {"global_batch_size": 32, "sequence_length": 2048},
        }
    )


@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_ranks_hold_two_parts_of_the_model(zero_stage: int) -> None:
    """Rank r of the plain pipeline holds part r; of DualPipe, parts r and 3 - r."""
    plain = estimate(scenario("1f1b", zero_stage=zero_stage), ignore_memory=True).memory
    dual = estimate(scenario("dualpipe", zero_stage=zero_stage), ignore_memory=True).memory
    for name in ("weights_bytes", "gradients_bytes", "optimizer_bytes"):
        parts: Any = plain[name]
        # A shard of two parts is padded once, that of each part once for it.
        assert dual[name] == pytest.approx(
            [parts[rank] + parts[3 - rank] for rank in range(4)], rel=1e-6
        )


def test_the_work_of_a_step_is_the_same() -> None:
    plain, dual = estimate(scenario("1f1b")), estimate(scenario("dualpipe"))
    assert dual.compute["hardware_flop"] == plain.compute["hardware_flop"]
    assert dual.time["compute_s"] == pytest.approx(plain.time["compute_s"])
    assert dual.communication["tensor_bytes"] == plain.communication["tensor_bytes"]


def test_simulator_and_closed_forms_agree() -> None:
    asked = scenario("dualpipe", overlap_gradient_reduction=False)
    answer, played = estimate(asked), simulate(asked)
    assert played.metrics.makespan_s == pytest.approx(answer.time["simulated_step_s"])
    assert answer.time["simulated_step_s"] == pytest.approx(answer.time["step_s"], rel=0.01)
    assert list(played.metrics.peak_bytes) == answer.memory["stage_bytes"]
    sent: Any = answer.communication["pipeline_bytes"]
    assert played.metrics.sent_bytes["pipeline"] == sum(sent)
    # Ranks 0 and 3, 1 and 2 do the same.
    idle: Any = played.metrics.idle_s
    assert idle == pytest.approx(idle[::-1])


def test_copies_add_their_gradients() -> None:
    """An all-reduce of two ranks sends the message once: gradients in fp32, their shards in ZeRO."""
    for zero_stage in (0, 2):
        account = traffic_account(scenario("dualpipe", zero_stage=zero_stage))
        (message,) = [one for one in account.messages if one.name == "mirror_all_reduce"]
        held: Any = estimate(
            scenario("dualpipe", zero_stage=zero_stage), ignore_memory=True
        ).memory["gradients_bytes"]
        assert message.sent_bytes == pytest.approx(held)
        assert (message.group_size, message.calls) == (2, [1.0] * 4)
    assert not [one for one in traffic_account(scenario("1f1b")).messages if "mirror" in one.name]


def test_copies_exchange_with_the_rank_at_the_other_end() -> None:
    """With one GPU of each stage in a node, only ranks 1 and 2 are not neighbours of their copy."""
    asked = scenario("dualpipe", rank_order=["tensor", "context", "data", "pipeline"])
    found = traffic_matrix(asked)
    pairs = set(zip(found.source, found.target, strict=True))
    # Two replicas of four stages: ranks 0 and 6 hold the first and last part, and their copies.
    assert {(0, 6), (6, 0), (1, 7), (7, 1), (2, 4), (4, 2)} <= pairs
    assert found.network_bytes == pytest.approx(found.account_network_bytes)
