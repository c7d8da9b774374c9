"""Placement, against every rank put on its node."""

from collections.abc import Iterator, Mapping
from itertools import pairwise, permutations, product
from math import prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from tests.costmodels.witnesses import witness

AXES = ("tensor", "data", "pipeline")
Sizes = Mapping[str, int]


def groups(sizes: Sizes, order: tuple[str, ...], axis: str) -> Iterator[list[int]]:
    """Yield the ranks of every group of an axis; the first axis of the order varies fastest."""
    strides, stride = {}, 1
    for name in order:
        strides[name] = stride
        stride *= sizes[name]
    others = [name for name in order if name != axis]
    for place in product(*(range(sizes[name]) for name in others)):
        first = sum(index * strides[name] for index, name in zip(place, others, strict=True))
        yield [first + index * strides[axis] for index in range(sizes[axis])]


def members_per_node(ranks: list[int], per_node: int) -> list[int]:
    nodes = [rank // per_node for rank in ranks]
    return [nodes.count(node) for node in sorted(set(nodes))]


def crossing_hops(ranks: list[int], per_node: int, *, closed: bool) -> int:
    hops = list(pairwise(ranks))
    if closed and len(ranks) > 1:
        hops.append((ranks[-1], ranks[0]))
    return sum(left // per_node != right // per_node for left, right in hops)


def placed(
    sizes: Sizes, order: tuple[str, ...], per_node: int, virtual_stages: int = 1
) -> dict[str, float]:
    names = [
        f"{axis}_{what}" for axis in AXES for what in ("stride", "node_members", "network_fraction")
    ]
    scenario = witness("small")
    varied = {
        "plan.tensor_parallel_size": [sizes["tensor"]],
        "plan.pipeline_parallel_size": [sizes["pipeline"]],
        "plan.virtual_stages": [virtual_stages],
        "cluster.accelerator_count": [prod(sizes.values())],
        "cluster.accelerators_per_node": [per_node],
    }
    columns = compile_columns(scenario, varied)
    places = {"context_position": 3}
    places |= {f"{axis}_position": order.index(axis) for axis in AXES}
    values = evaluate(columns._replace(values={**columns.values, **places}), names)
    return {
        name: float(column if isinstance(column, int) else column[0])
        for name, column in values.items()
    }


powers = st.integers(0, 4).map(lambda exponent: 2**exponent)
orders = st.sampled_from(sorted(permutations(AXES)))


def sizes_of(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[Sizes]:
    return st.fixed_dictionaries(dict.fromkeys(AXES, sizes))


@given(sizes_of(powers), orders, st.integers(0, 5).map(lambda exponent: 2**exponent))
@settings(max_examples=200)
def test_where_sizes_divide_each_other_every_group_is_as_placed(
    sizes: Sizes, order: tuple[str, ...], per_node: int
) -> None:
    values = placed(sizes, order, per_node)
    for axis in AXES:
        for ranks in groups(sizes, order, axis):
            assert set(members_per_node(ranks, per_node)) == {values[f"{axis}_node_members"]}
            closed = axis != "pipeline"
            hops = crossing_hops(ranks, per_node, closed=closed)
            total = len(ranks) if closed else max(len(ranks) - 1, 1)
            assert values[f"{axis}_network_fraction"] == hops / total


@given(sizes_of(st.integers(1, 6)), orders, st.integers(1, 12))
@settings(max_examples=300)
def test_an_axis_uses_the_network_if_any_of_its_groups_crosses_nodes(
    sizes: Sizes, order: tuple[str, ...], per_node: int
) -> None:
    values = placed(sizes, order, per_node)
    for axis in AXES:
        crosses = any(
            len(members_per_node(ranks, per_node)) > 1 for ranks in groups(sizes, order, axis)
        )
        assert (values[f"{axis}_node_members"] < sizes[axis]) == crosses
        assert (values[f"{axis}_network_fraction"] > 0) == crosses
        assert 0 <= values[f"{axis}_network_fraction"] <= 1


@given(sizes_of(st.integers(1, 6)), orders)
def test_strides_are_distances_of_neighbours(sizes: Sizes, order: tuple[str, ...]) -> None:
    values = placed(sizes, order, per_node=8)
    for axis in AXES:
        for ranks in groups(sizes, order, axis):
            distances = {right - left for left, right in pairwise(ranks)}
            assert distances <= {values[f"{axis}_stride"]}


@given(st.sampled_from([2, 4, 8]), powers, st.integers(1, 4))
def test_chunks_go_on_from_the_last_rank_to_the_first(
    pipeline: int, per_node: int, chunks: int
) -> None:
    sizes = {"tensor": 1, "data": 1, "pipeline": pipeline}
    values = placed(sizes, AXES, per_node, virtual_stages=chunks)
    (ranks,) = groups(sizes, AXES, "pipeline")
    way = [rank for _ in range(chunks) for rank in ranks]
    hops = crossing_hops(way, per_node, closed=False)
    assert values["pipeline_network_fraction"] == hops / (len(way) - 1)


LINKS = {
    "cluster__scale_up__bandwidth_bytes_per_s": 100.0,
    "cluster__scale_up__efficiency_fraction": 0.5,
    "cluster__scale_up__latency_s": 1.0,
    "cluster__network__bandwidth_bytes_per_s": 10.0,
    "cluster__network__efficiency_fraction": 0.25,
    "cluster__network__latency_s": 3.0,
}


@pytest.mark.parametrize(
    ("order", "bandwidth", "latency"),
    [
        # Eight neighbours fill a node of eight: NVLink.
        (["tensor", "context", "data", "pipeline"], 50.0, 1.0),
        # Four replicas inside: two members in each node, two rings with a NIC each.
        (["data", "context", "tensor", "pipeline"], 2 * 2.5, 3.0),
    ],
)
def test_a_ring_is_as_fast_as_its_slowest_link(
    order: list[str], bandwidth: float, latency: float
) -> None:
    scenario = witness(
        "small",
        **LINKS,
        plan__rank_order=order,
        plan__tensor_parallel_size=8,
        cluster__accelerator_count=32,
    )
    names = ["tensor_bandwidth_bytes_per_s", "tensor_latency_s"]
    values = evaluate(compile_columns(scenario), names)
    assert [float(values[name][0]) for name in names] == [bandwidth, latency]


@given(powers, powers, st.floats(1, 1e12), st.floats(1, 1e12))
def test_a_faster_network_never_slows_a_ring(
    tensor: int, data: int, slow: float, fast: float
) -> None:
    assume(slow <= fast)
    rates = [
        evaluate(
            compile_columns(
                witness("small"),
                {
                    "plan.tensor_parallel_size": [tensor],
                    "cluster.accelerator_count": [tensor * data],
                    "cluster.network.bandwidth_bytes_per_s": [bandwidth],
                },
            ),
            ["data_bandwidth_bytes_per_s"],
        )["data_bandwidth_bytes_per_s"][0]
        for bandwidth in (slow, fast)
    ]
    assert rates[0] <= rates[1]
