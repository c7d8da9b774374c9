"""Steps on shared links: the same as private ones where nothing meets, and why they are longer."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodels.compilation import compile_columns
from costmodels.errors import SpecError
from costmodels.pipelining.actions import ActionKind
from costmodels.scenario import Scenario, scenario_from_table
from simulator.contention import (
    LayerTraffic,
    Reduction,
    SharedPlay,
    SharedStep,
    Stream,
    When,
    play_shared,
)
from simulator.fluid import Loss
from simulator.metrics import makespan_s, peak_bytes, sent_bytes
from simulator.resources import FREE_LINK
from simulator.shared_step import contended_step, shared_step
from simulator.topology import Layout, Sharing, Topology, Way, topology_of
from simulator.trace import Engine
from simulator.variation import Variation
from simulator.whatif import contention, simulate
from tests.simulator.pipeline_programs import NO_STEP_END, order_from_text, unequal_program, work


def scenario(plan: dict[str, Any] | None = None, cluster: str = "h100-sxm:64") -> Scenario:
    return scenario_from_table(
        {
            "model": "llama-3.1-8b",
            "cluster": {"preset": cluster, "host_bandwidth_bytes_per_s": 1e10},
            "plan": {
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 4,
                "zero_stage": 1,
                **(plan or {}),
            },
            "workload": {"global_batch_size": 16, "sequence_length": 8192},
        }
    )


def contended(described: Scenario, **sharing: Any) -> Any:
    return contended_step(described, compile_columns(described), Sharing(**sharing))


OFFLOADED = {"offload_activations_num_layers": 3}

PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"zero_stage": 0, "overlap_gradient_reduction": False},
    {"zero_stage": 2},
    {"zero_stage": 3},
    {"zero_stage": 3, "overlap_parameter_gather": False},
    {"schedule": "interleaved-1f1b", "virtual_stages": 2},
    {"tensor_parallel_size": 2, "pipeline_parallel_size": 8},
    {"context_parallel_size": 2, "zero_stage": 3},
    {"schedule": "zb-h1"},
    {"schedule": "zb-v", "virtual_stages": 2, "zero_stage": 3},
    {"schedule": "dualpipe-v", "virtual_stages": 2, "zero_stage": 2},
    {"schedule": "dualpipe", "virtual_stages": 2},
    OFFLOADED,
)


@pytest.mark.parametrize("plan", PLANS)
def test_bytes_and_memory_are_those_of_private_links(plan: dict[str, Any]) -> None:
    described = scenario(plan)
    shared, private = contended(described).trace, simulate(described).trace
    assert sent_bytes(shared) == sent_bytes(private)
    assert peak_bytes(shared) == peak_bytes(private)


@pytest.mark.parametrize("plan", PLANS)
def test_sharing_never_helps_and_says_why_it_costs(plan: dict[str, Any]) -> None:
    found = contended(scenario(plan))
    assert found.metrics.makespan_s >= found.alone_s * (1 - 1e-9)
    assert all(0 <= share <= 1 + 1e-9 for share in found.utilisation.values())
    assert ("which it shared with" in found.cause) == (sum(found.losses.values()) > 1e-6)


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"zero_stage": 3},
        {"schedule": "interleaved-1f1b", "virtual_stages": 2},
        {"schedule": "zb-h2", "zero_stage": 3},
        {"schedule": "zb-auto"},
        {"schedule": "zb-v", "virtual_stages": 2},
        OFFLOADED,
        {**OFFLOADED, "zero_stage": 3},
        {**OFFLOADED, "zero_stage": 2, "overlap_gradient_reduction": False},
        {**OFFLOADED, "schedule": "interleaved-1f1b", "virtual_stages": 2},
    ],
)
def test_one_replica_alone_takes_the_time_of_private_links(plan: dict[str, Any]) -> None:
    described = scenario(plan, "h100-sxm:32")
    found = contended(described)
    assert found.alone_s == pytest.approx(simulate(described).metrics.makespan_s, rel=1e-9)


@pytest.mark.parametrize("schedule", ["dualpipe", "dualpipe-v"])
def test_pairs_send_two_messages_at_once(schedule: str) -> None:
    """One after the other on a private link; alone, neither waits; shared, each has half of it."""
    described = scenario({"schedule": schedule, "virtual_stages": 2}, "h100-sxm:32")
    found, private = contended(described), simulate(described).metrics.makespan_s
    assert found.alone_s < private
    assert found.alone_s < found.metrics.makespan_s
    assert found.metrics.makespan_s == pytest.approx(private, rel=0.02)


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "zb-h2", "zb-auto"])
def test_a_blocking_reduction_takes_its_closed_form_alone(schedule: str) -> None:
    described = scenario({"overlap_gradient_reduction": False, "schedule": schedule})
    found = contended(described)
    assert found.alone_s == pytest.approx(simulate(described).metrics.makespan_s, rel=1e-9)


def test_sharded_weights_that_are_gathered_contend_with_hand_overs() -> None:
    found = contended(scenario({"zero_stage": 3}, "h100-sxm:128"))
    assert found.metrics.makespan_s > found.alone_s
    assert "pipeline traffic waited most, for NIC" in found.cause
    assert "shared with data traffic" in found.cause


def test_fewer_network_cards_take_longer() -> None:
    spread = {"tensor_parallel_size": 2, "pipeline_parallel_size": 4}
    fast, slow = (contended(scenario(spread), nics_per_node=nics) for nics in (8, 1))
    # A node holds copies of one stage only: they share a card in equal parts, as if each had its own.
    assert slow.metrics.makespan_s == pytest.approx(fast.metrics.makespan_s)
    tight = contended(scenario(spread), pcie_bytes_per_s=1e9)
    assert tight.metrics.makespan_s > fast.metrics.makespan_s


# ---------------------------------------------------------------------------------- by hand


def lone_step(*, overlaps: bool, reduced_bytes: int, bucket_count: int, gather: When) -> SharedStep:
    """Return two ranks on a NIC each, 1 byte a second; rank 1 reduces after its only backward."""
    program = unequal_program(
        order_from_text("0F0 0B0", "1F0 1B0"),
        forward=[work(4, 6)] * 2,
        backward=[work(8, 6)] * 2,
        activation_bytes=[1, 1],
        link=FREE_LINK,
        step_end=NO_STEP_END,
    )
    nics = {f"NIC {way} {rank}": 1.0 for way in ("out", "in") for rank in range(2)}
    hops = {
        (one, two): Way({f"NIC out {one}": 1.0, f"NIC in {two}": 1.0}, 0)
        for one, two in ((0, 1), (1, 0))
    }
    ring = Way({"NIC out 1": 1.0, "NIC in 1": 1.0}, 0)
    stream = Stream("reduction", When.AFTER, reduced_bytes, ring)
    topology = Topology(capacities=nics, hops=hops)
    return SharedStep(
        program=program,
        topology=topology,
        streams={program.order[1][0].kind: [[], [Stream("gather", gather, 3, ring)]]},
        reductions=[None, Reduction([stream], bucket_count, 1 / bucket_count)],
        overlaps_reduction=overlaps,
    )


def network_spans(step: SharedStep) -> list[tuple[str, float, float]]:
    spans = play_shared(step).trace.spans
    return [(s.name, s.start_s, s.end_s) for s in spans if s.engine is Engine.NETWORK]


def test_buckets_share_the_card_with_the_gradient_that_is_handed_over() -> None:
    """Rank 1: forward 10 to 14, backward 14 to 22, 8 bytes in two buckets, ready at 18 and 22.

    The first bucket of 4 is alone from 18 to 22. The second and the 6 bytes of gradient then
    share the card: 4 bytes of each until 30, and the last 2 of the gradient until 32.
    """
    step = lone_step(overlaps=True, reduced_bytes=8, bucket_count=2, gather=When.BESIDE)
    found = play_shared(step)
    assert network_spans(step) == [
        ("gather", 10, 13),
        ("reduction", 18, 22),
        ("reduction", 22, 30),
    ]
    assert makespan_s(found.trace) == 32 + 8
    assert makespan_s(play_shared(step, is_shared=False).trace) == 28 + 8
    assert found.utilisation["NIC out 1"] == (3 + 8 + 6) / 40
    assert sum(found.losses.values()) == pytest.approx(8 * 0.5 + 8 * 0.5)


def test_what_does_not_overlap_waits() -> None:
    """The gather of 3 bytes goes before the forward, the 8 bytes after the backward, in one."""
    step = lone_step(overlaps=False, reduced_bytes=8, bucket_count=1, gather=When.BEFORE)
    assert network_spans(step) == [("gather", 10, 13), ("reduction", 25, 39)]
    after = lone_step(overlaps=False, reduced_bytes=0, bucket_count=1, gather=When.AFTER)
    assert network_spans(after)[0] == ("gather", 14, 17)


# --------------------------------------------------------------------------------- topology


def layout(stride: int, *, ranks: int = 4) -> Layout:
    return Layout(rank_count=ranks, stride=stride)


def test_stages_in_a_node_use_its_scale_up_links() -> None:
    cluster = scenario().cluster
    found = topology_of(cluster, layout(2), Sharing())
    assert set(found.hops[0, 1].uses) == {"scale-up out of stage 0", "scale-up in of stage 1"}
    assert found.hops[0, 1].latency_s == cluster.scale_up.latency_s
    apart = topology_of(cluster, layout(8), Sharing())
    assert set(apart.hops[0, 1].uses) == {"NIC out of stage 0", "NIC in of stage 1"}
    nic = cluster.network.bandwidth_bytes_per_s * cluster.network.efficiency_fraction
    assert apart.capacities["NIC out of stage 0"] == pytest.approx(nic)


def test_stages_that_share_a_card_share_its_bandwidth() -> None:
    cluster = scenario().cluster
    found = topology_of(cluster, layout(1, ranks=8), Sharing(nics_per_node=2))
    nic = cluster.network.bandwidth_bytes_per_s * cluster.network.efficiency_fraction
    assert found.capacities["NIC out of stages 0 to 3"] == pytest.approx(4 * nic)
    # A ring of 4 members of each node: every card carries a fourth of a byte for each of its GPUs.
    uses = found.ring_uses(0, size=8, members=4)
    assert uses["NIC out of stages 0 to 3"] == 1 / 4
    assert uses["scale-up out of stage 0"] == 1


def test_an_oversubscribed_fabric_and_pcie_are_resources() -> None:
    described = scenario_from_table(
        {
            "model": "llama-3.1-8b",
            "cluster": "h100-sxm:64",
            "workload": {"global_batch_size": 64, "sequence_length": 8192},
        },
        {"cluster.network.oversubscription_ratio": 2},
    )
    cluster = described.cluster
    found = topology_of(cluster, layout(8), Sharing(pcie_bytes_per_s=64e9))
    nic = cluster.network.bandwidth_bytes_per_s * cluster.network.efficiency_fraction
    assert found.capacities["fabric out of stage 0"] == pytest.approx(nic / 2)
    assert set(found.hops[0, 1].uses) == {
        *("PCIe out of stage 0", "NIC out of stage 0", "fabric out of stage 0"),
        *("PCIe in of stage 1", "NIC in of stage 1", "fabric in of stage 1"),
    }


@pytest.mark.parametrize(
    ("sharing", "message"),
    [
        ({"nics_per_node": 0}, r"nics_per_node \(0\) must be at least 1"),
        ({"nics_per_node": 9}, r"nics_per_node \(9\) is more than cluster.accelerators_per_node"),
        ({"pcie_bytes_per_s": 0}, r"pcie_bytes_per_s \(0\) must be positive"),
    ],
)
def test_wrong_nodes_are_refused(sharing: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        contended(scenario(), **sharing)


def test_a_step_is_the_same_each_time() -> None:
    described = scenario({"zero_stage": 3})
    first, second = (
        play_shared(shared_step(described, compile_columns(described), Sharing())) for _ in range(2)
    )
    assert first == second


# ------------------------------------------------------------------------ inside a replica


def mixture(plan: dict[str, Any], gpus: int) -> Scenario:
    return scenario_from_table(
        {
            "model": "mixtral-8x7b",
            "cluster": f"h100-sxm:{gpus}",
            "plan": {
                "pipeline_parallel_size": 2,
                "sequence_parallel": True,
                "zero_stage": 1,
                "overlap_gradient_reduction": False,
                **plan,
            },
            "workload": {"global_batch_size": 16, "sequence_length": 1024},
        }
    )


BLOCKING: dict[str, Any] = {
    "overlap_gradient_reduction": False,
    "overlap_parameter_gather": False,
}


@settings(max_examples=12, deadline=None)
@given(
    tensor=st.sampled_from([2, 4, 8]),
    context=st.sampled_from([1, 2, 4]),
    method=st.sampled_from(["ring", "all-gather", "ulysses"]),
    recompute=st.sampled_from(["none", "selective", "full"]),
    zero_stage=st.sampled_from([0, 1, 2, 3]),
    flags=st.fixed_dictionaries({"sequence_parallel": st.booleans()}),
)
def test_collectives_alone_take_their_closed_forms(
    tensor: int,
    context: int,
    method: str,
    recompute: str,
    zero_stage: int,
    flags: dict[str, bool],
) -> None:
    """Stages a node or more apart, and nothing of data parallelism beside the work."""
    assume(method != "ulysses" or tensor * context <= 8)
    assume(tensor * context >= 8)
    plan = {
        "tensor_parallel_size": tensor,
        "context_parallel_size": context,
        "context_parallel_method": method if context > 1 else "ring",
        "pipeline_parallel_size": 2,
        "recompute": recompute,
        "zero_stage": zero_stage,
    }
    described = scenario({**plan, **BLOCKING, **flags}, f"h100-sxm:{4 * tensor * context}")
    found = contended(described)
    assert found.alone_s == pytest.approx(simulate(described).metrics.makespan_s, rel=1e-9)
    assert sent_bytes(found.trace) == sent_bytes(simulate(described).trace)


@pytest.mark.parametrize(
    ("plan", "gpus"),
    [
        (
            {
                "tensor_parallel_size": 8,
                "expert_parallel_size": 8,
                "expert_tensor_parallel_size": 1,
            },
            16,
        ),
        ({"tensor_parallel_size": 4, "expert_parallel_size": 8}, 64),
        ({"tensor_parallel_size": 8, "expert_parallel_size": 2}, 64),
        (
            {
                "tensor_parallel_size": 8,
                "expert_parallel_size": 2,
                "expert_tensor_parallel_size": 2,
            },
            64,
        ),
        ({"tensor_parallel_size": 8, "expert_parallel_size": 2, "zero_stage": 0}, 64),
        (
            {
                "tensor_parallel_size": 8,
                "expert_parallel_size": 2,
                "zero_stage": 3,
                "overlap_parameter_gather": False,
            },
            64,
        ),
    ],
)
def test_experts_alone_take_their_closed_forms(plan: dict[str, Any], gpus: int) -> None:
    """Exchanges of rows, gathers of those who split an expert, and gradients in their own rings."""
    described = mixture(plan, gpus)
    found, private = contended(described), simulate(described)
    assert found.alone_s == pytest.approx(private.metrics.makespan_s, rel=1e-9)
    assert sent_bytes(found.trace) == sent_bytes(private.trace)


def test_groups_of_shards_alone_take_their_closed_forms() -> None:
    described = scenario(
        {**BLOCKING, "zero_stage": 3, "pipeline_parallel_size": 2, "sharding_group_size": 2}
    )
    found, private = contended(described), simulate(described)
    assert found.alone_s == pytest.approx(private.metrics.makespan_s, rel=1e-9)
    assert sent_bytes(found.trace) == sent_bytes(private.trace)


def test_an_exchange_with_experts_shares_the_card_with_what_is_handed_over() -> None:
    """Rank 0: a forward computes 2 s and sends 3 bytes to experts, twice; then hands over 6 bytes.

    The first forward takes 10 s alone. The hand-over is alone on the card from 10 to 12; then the
    second forward sends 3 bytes, and both get half of it until 18. The hand-over's last byte goes
    while that computes, and arrives at 19; the second exchange is alone from 20 to 23.
    """
    program = unequal_program(
        order_from_text("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"),
        forward=[work(4, 6), work(1, 0)],
        backward=[work(1, 0)] * 2,
        activation_bytes=[1, 1],
        link=FREE_LINK,
        step_end=NO_STEP_END,
    )
    way = Way({"NIC out 0": 1.0, "NIC in 0": 1.0}, 0)
    nics = {f"NIC {way} {rank}": 1.0 for way in ("out", "in") for rank in range(2)}
    hops = {
        (one, two): Way({f"NIC out {one}": 1.0, f"NIC in {two}": 1.0}, 0)
        for one, two in ((0, 1), (1, 0))
    }
    step = SharedStep(
        program=program,
        topology=Topology(capacities=nics, hops=hops),
        streams={},
        reductions=[None, None],
        overlaps_reduction=False,
        layer_traffic={ActionKind.FORWARD: [[LayerTraffic("expert", 6, 0, way)], []]},
        part_counts=[2, 1],
    )
    shared, alone = play_shared(step), play_shared(step, is_shared=False)
    assert forwards_of_first(shared) == [(0, 10), (10, 23)]
    assert forwards_of_first(alone) == [(0, 10), (10, 20)]
    assert shared.trace.sends[0].end_s == 19
    assert alone.trace.sends[0].end_s == 16
    assert shared.losses == {
        Loss("expert", "NIC out 0", ("pipeline",)): 3,
        Loss("pipeline", "NIC out 0", ("expert",)): 3,
    }


def forwards_of_first(play: SharedPlay) -> list[tuple[float, float]]:
    spans = play.trace.spans
    return [(s.start_s, s.end_s) for s in spans if s.rank == 0 and s.name == ActionKind.FORWARD]


def test_what_is_hidden_behind_computing_waits_only_for_others() -> None:
    """A ring's 3 bytes go while 4 s are computed; beside a hand-over they take 6 s."""
    program = unequal_program(
        order_from_text("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"),
        forward=[work(4, 6), work(1, 0)],
        backward=[work(1, 0)] * 2,
        activation_bytes=[1, 1],
        link=FREE_LINK,
        step_end=NO_STEP_END,
    )
    way = Way({"NIC out 0": 1.0}, 0)
    step = SharedStep(
        program=program,
        topology=Topology(
            capacities={"NIC out 0": 1.0},
            hops={(0, 1): way, (1, 0): Way({}, 0)},
        ),
        streams={},
        reductions=[None, None],
        overlaps_reduction=False,
        layer_traffic={ActionKind.FORWARD: [[LayerTraffic("context", 0, 3, way)], []]},
        part_counts=[1, 1],
    )
    assert forwards_of_first(play_shared(step)) == [(0, 4), (4, 10)]
    assert forwards_of_first(play_shared(step, is_shared=False)) == [(0, 4), (4, 8)]


def test_experts_gradients_and_hand_overs_contend_for_a_card() -> None:
    plan = {"tensor_parallel_size": 8, "expert_parallel_size": 4, "expert_tensor_parallel_size": 8}
    found = contended(mixture({**plan, "overlap_gradient_reduction": True}, 128))
    axes = {loss.axis for loss in found.losses}
    assert {"expert", "pipeline", "data"} <= axes
    assert found.metrics.makespan_s > found.alone_s


def test_large_microbatches_send_as_much_more() -> None:
    """Of sizes 1/2 and 3/2, computing and collectives alone take what private links say."""
    described = scenario({**BLOCKING, "pipeline_parallel_size": 2}, "h100-sxm:32")
    scales = [0.5, 1.5] * 4
    variation = Variation(microbatch_scales=tuple(scales))
    found = contention(described, variation=variation)
    private = simulate(described, variation).metrics.makespan_s
    assert found.alone_s == pytest.approx(private, rel=1e-9)
