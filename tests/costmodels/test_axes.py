"""Every parallel axis together: shards add up, what is sent arrives, more ranks never hold more."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import ShardwiseError
from costmodels.scenario import Scenario
from tests.costmodels.witnesses import witness

STATES = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
PLANS = st.fixed_dictionaries(
    {
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        "context_parallel_size": st.sampled_from([1, 2]),
        "context_parallel_method": st.sampled_from(["ring", "all-gather", "ulysses"]),
        "pipeline_parallel_size": st.sampled_from([1, 2, 4]),
        "expert_parallel_size": st.sampled_from([1, 2, 4, 8]),
        "expert_tensor_parallel_size": st.sampled_from([None, 1, 2]),
        "expert_capacity_factor": st.sampled_from([None, 1.25, 0.7]),
        "sharding_group_size": st.sampled_from([None, 2, 4, 8]),
        "zero_stage": st.integers(0, 3),
        "recompute": st.sampled_from(["none", "selective", "full"]),
    }
)


def built(plan: dict[str, Any], **changes: Any) -> Scenario:
    """Return Mixtral on 64 GPUs, plans that a rule refuses left out."""
    chosen = {**plan, "sequence_parallel": plan["tensor_parallel_size"] > 1, **changes}
    try:
        return witness(
            "mixture", cluster="h100-sxm:64", plan=chosen, workload__global_batch_size=64
        )
    except ShardwiseError:
        assume(False)
        raise


def sums(scenario: Scenario, *names: str) -> dict[str, float]:
    """Return quantities, those of stages summed over all of them."""
    found = evaluate(compile_columns(scenario), [*names, "class_stage_count"])
    counts = [int(count[0]) for count in found["class_stage_count"]]
    return {
        name: float(
            sum(n * float(v[0]) for n, v in zip(counts, found[name], strict=True))
            if isinstance(found[name], tuple)
            else found[name][0]
        )
        for name in names
    }


@given(PLANS)
def test_all_that_is_sent_is_received(plan: dict[str, Any]) -> None:
    total = sums(built(plan), "sent_bytes", "received_bytes")
    assert total["sent_bytes"] == pytest.approx(total["received_bytes"], rel=1e-12)


@given(PLANS)
def test_shards_add_up_to_the_parameters_and_their_padding(plan: dict[str, Any]) -> None:
    """Over the ranks of a sharding group, of experts and all else apart: less than a shard more."""
    names = ("stage_parameters", "stage_expert_parameters", "shard_parameters")
    scenario = built(plan)
    found = evaluate(compile_columns(scenario), [*names, "sharding_size", "expert_sharding_size"])
    ranks, own = (int(found[name][0]) for name in ("sharding_size", "expert_sharding_size"))
    for whole, experts, shard in zip(*(found[name] for name in names), strict=True):
        others, held = int(whole[0]) - int(experts[0]), int(experts[0])
        dense = -(-others // ranks)
        assert 0 <= ranks * dense - others < ranks
        assert 0 <= own * (int(shard[0]) - dense) - held < own


@given(PLANS, st.sampled_from(["tensor_parallel_size", "expert_parallel_size"]))
def test_states_never_grow_with_a_degree(plan: dict[str, Any], degree: str) -> None:
    """Twice the ranks, on as many GPUs: states of all of them stay or shrink, but for what is whole."""
    assume(plan["pipeline_parallel_size"] == 1)
    names = ("shard_parameters",)
    smaller = built({**plan, "zero_stage": 3, "sharding_group_size": None})
    larger = built(
        {**plan, "zero_stage": 3, "sharding_group_size": None}, **{degree: 2 * plan[degree]}
    )
    if degree == "expert_parallel_size":
        before, after = (sums(s, *names)["shard_parameters"] for s in (smaller, larger))
        # Fully sharded, each of 64 GPUs holds a 64th whatever the ranks: only padding differs.
        assert abs(after - before) <= 64
    for name in STATES:
        unsharded = ({**plan, "zero_stage": 0, "sharding_group_size": None},)
        one, two = (
            sums(built(*unsharded, **change), name)[name]
            for change in ({}, {degree: 2 * plan[degree]})
        )
        assert two <= one
