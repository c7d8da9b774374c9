"""Groups and the matrix of traffic: the account's numbers laid on ranks, nothing lost."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import NotModelledError, SpecError
from costmodels.pipelining.placements import linear
from costmodels.scenario import Scenario
from costmodels.specs.plan import RankAxis
from simulator.accounting import Message, traffic_account
from simulator.groups import Layout, group_members, groups_account, layout_of
from simulator.matrix import _sent, traffic_matrix
from tests.costmodels.witnesses import witness as table_witness
from tests.simulator.witnesses import FILES, witness

ORDERS = list(permutations(axis.value for axis in RankAxis))


def check(scenario: Scenario) -> None:
    """Compare the matrix of a scenario with its account of traffic."""
    account, layout = traffic_account(scenario), layout_of(scenario)
    stage = layout.place("pipeline")
    matrix = traffic_matrix(scenario)
    assert matrix.size == scenario.cluster.accelerator_count
    # Exactly: every number is a whole number of bytes below 2^53.
    assert matrix.sums() == [account.stage_sent_bytes[place] for place in stage]
    assert sum(matrix.sums(received=True)) == account.received_bytes == account.sent_bytes
    assert matrix.scale_up_bytes + matrix.network_bytes == account.sent_bytes
    assert all(a != b for a, b in zip(matrix.source, matrix.target, strict=True))
    nodes = traffic_matrix(scenario, "node")
    own = sum(
        sent
        for source, target, sent in zip(nodes.source, nodes.target, nodes.sent_bytes, strict=True)
        if source == target
    )
    assert own == matrix.scale_up_bytes
    assert sum(nodes.sent_bytes) == account.sent_bytes


@pytest.mark.parametrize("name", FILES)
def test_rows_add_up_to_what_the_account_says(name: str) -> None:
    check(witness(name))


@pytest.mark.parametrize("schedule", ["interleaved-1f1b", "looped-bfs"])
def test_stages_hand_over_where_the_schedule_places_them(schedule: str) -> None:
    check(table_witness("interleaved", plan__schedule=schedule))


def test_each_rank_receives_what_a_ring_and_its_stages_send_it() -> None:
    scenario = witness("interleaved")
    account, layout = traffic_account(scenario), layout_of(scenario)
    received = np.asarray(traffic_matrix(scenario).sums(received=True))
    (hop,) = (message for message in account.messages if message.collective == "send")
    rings = [sent - own for sent, own in zip(account.stage_sent_bytes, hop.sent_bytes, strict=True)]
    # Middle stages hand over as much as they are handed; the ends have one hop less each way.
    for stage, own in enumerate(rings):
        handed = received[layout.place("pipeline") == stage] - own
        assert set(handed.tolist()) == {hop.sent_bytes[stage]}


@settings(max_examples=40)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([1, 2, 3, 4, 6, 8, 72]),
    st.sampled_from([0, 1, 2, 3]),
    st.booleans(),
    st.sampled_from(ORDERS),
)
def test_nothing_is_lost_whatever_the_plan(
    tensor: int,
    pipeline: int,
    data: int,
    per_node: int,
    zero: int,
    tied: bool,
    order: tuple[str, ...],
) -> None:
    changes: dict[str, Any] = {
        "plan__tensor_parallel_size": tensor,
        "plan__pipeline_parallel_size": pipeline,
        "plan__zero_stage": zero,
        "plan__rank_order": list(order),
        "cluster__accelerator_count": tensor * pipeline * data,
        "cluster__accelerators_per_node": per_node,
        "model__tied_embeddings": tied,
        "workload__global_batch_size": 4 * data,
    }
    check(table_witness("small", **changes))


def test_ranks_are_laid_in_the_stated_order() -> None:
    sizes = {"pipeline": 2, "tensor": 3, "context": 1, "data": 2}
    layout = Layout(sizes=sizes, accelerators_per_node=4)
    assert layout.members("tensor").tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]
    assert layout.members("pipeline")[0].tolist() == [0, 1]
    assert layout.members("data")[0].tolist() == [0, 6]
    assert layout.nodes.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert layout.place("tensor").tolist() == [0, 0, 1, 1, 2, 2] * 2
    for axis in sizes:
        members = layout.members(axis)
        assert sorted(members.ravel().tolist()) == list(range(12))
        assert (np.diff(members, axis=1) == layout.stride(axis)).all()


def test_copies_of_weights_shard_among_neighbours_and_replicate_between_them() -> None:
    sizes = {"tensor": 2, "context": 2, "data": 4, "pipeline": 2}
    layout = Layout(sizes=sizes, accelerators_per_node=8)
    copies = layout.alike("tensor", "pipeline")
    assert copies.tolist()[:2] == [list(range(0, 16, 2)), list(range(16, 32, 2))]
    assert group_members(layout, "sharding", 8).tolist() == copies.tolist()
    assert group_members(layout, "sharding", 4).tolist()[:2] == [[0, 2, 4, 6], [8, 10, 12, 14]]
    assert group_members(layout, "replication", 2).tolist()[:2] == [[0, 8], [2, 10]]


def test_experts_are_laid_over_the_ranks_of_a_stage() -> None:
    sizes = {"tensor": 4, "context": 1, "data": 4, "pipeline": 2}
    layout = Layout(sizes=sizes, accelerators_per_node=8, expert_stride=2, expert_parallel_size=4)
    assert group_members(layout, "expert_tensor", 2).tolist()[:2] == [[0, 1], [2, 3]]
    assert group_members(layout, "expert", 4).tolist()[:2] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert group_members(layout, "expert_sharding", 2).tolist()[:2] == [[0, 8], [1, 9]]
    for kind, size in (("expert_tensor", 2), ("expert", 4), ("expert_sharding", 2)):
        members = group_members(layout, kind, size)
        assert sorted(members.ravel().tolist()) == list(range(32))
        assert (layout.place("pipeline")[members] == layout.place("pipeline")[members[:, :1]]).all()


def test_groups_are_classed_by_the_slowest_links_that_they_cross() -> None:
    account = groups_account(witness("llama-405b-example"))
    axes = {axis.axis: axis for axis in account.axes}
    assert account.rank_count == 16_384
    assert account.node_count == 2048
    assert axes["tensor"].tier == "inside the node"
    assert axes["tensor"].first_group == list(range(8))
    assert axes["data"].tier == axes["pipeline"].tier == "across nodes"
    assert axes["data"].crossing_group_count == axes["data"].group_count == 128
    assert axes["data"].first_group[:3] == [0, 8, 16]
    assert axes["data"].shares_nic_with == ["pipeline"]
    assert axes["data"].most_nodes == 128
    assert axes["pipeline"].least_node_members == 1


def test_a_group_that_straddles_nodes_is_found() -> None:
    changes: dict[str, Any] = {
        "plan__tensor_parallel_size": 4,
        "cluster__accelerator_count": 8,
        "cluster__accelerators_per_node": 6,
    }
    (tensor, *_) = groups_account(table_witness("small", **changes)).axes
    assert (tensor.group_count, tensor.crossing_group_count) == (2, 1)
    assert (tensor.tier, tensor.most_nodes, tensor.least_node_members) == ("across nodes", 2, 2)


def test_an_all_to_all_sends_the_same_to_every_other_member() -> None:
    message = Message(
        name="dispatch",
        axis="expert",
        collective="all-to-all",
        algorithm="pairs",
        group="data",
        group_size=4,
        tier="both",
        chunk_index=None,
        calls=[1.0],
        payload_bytes=[40.0],
        call_sent_bytes=[30.0],
        sent_bytes=[30.0],
        network_bytes=[0.0],
        scale_up_bytes=[30.0],
    )
    layout = Layout(
        sizes={"tensor": 2, "context": 1, "data": 4, "pipeline": 1}, accelerators_per_node=8
    )
    pairs = {
        (int(source), int(target)): float(sent)
        for part in _sent(message, layout, linear([0]))
        for source, target, sent in zip(*part, strict=True)
    }
    assert pairs == {
        (a, b): 10.0 for a in range(8) for b in range(8) if a != b and (a - b) % 2 == 0
    }


def test_unknown_groups_and_rows_are_refused_by_name() -> None:
    layout = Layout(sizes={"tensor": 2, "pipeline": 1}, accelerators_per_node=8)
    with pytest.raises(NotModelledError, match="groups of vortex: where their ranks are"):
        group_members(layout, "vortex", 2)
    with pytest.raises(SpecError, match=r"by \(rack\): must be gpu or node"):
        traffic_matrix(witness("one-gpu"), "rack")
