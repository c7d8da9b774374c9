"""Where ranks sit and who sends to whom: against the plan's own counts."""

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario
from dashboard.figures.topology import gpus_by_node, heat_map, split_layers
from dashboard.state import DEFAULT, scenario_of
from dashboard.topology import (
    Mesh,
    among,
    axes_with_groups,
    labels,
    mesh_of,
    orders,
)
from simulator.accounting import traffic_account
from simulator.matrix import traffic_matrix
from simulator.publishing import scalar

SMALL = (
    ("model", "llama-3.1-8b"),
    ("cluster.accelerator_count", "32"),
    ("plan.tensor_parallel_size", "4"),
    ("plan.pipeline_parallel_size", "2"),
    ("workload.global_batch_size", "16"),
)


def meshed(*changes: tuple[str, str]) -> tuple[Scenario, Mesh]:
    scenario = scenario_of(DEFAULT, (*SMALL, *changes))
    return scenario, mesh_of(scenario)


def test_groups_partition_the_ranks() -> None:
    _, mesh = meshed()
    ranks = np.arange(32)
    for axis, size in mesh.sizes.items():
        groups = mesh.group(ranks, axis)
        _, counts = np.unique(groups, return_counts=True)
        assert set(counts) == {size}
        for group in np.unique(groups):
            places = mesh.place(ranks[groups == group], axis)
            assert sorted(places) == list(range(size))


def test_strides_are_those_of_the_closed_forms() -> None:
    scenario, mesh = meshed(("plan.rank_order", "tensor,data,context,pipeline"))
    names = [f"{axis}_stride" for axis in ("tensor", "data", "pipeline")]
    found = evaluate(compile_columns(scenario), names)
    for axis in ("tensor", "data", "pipeline"):
        if mesh.sizes[axis] > 1:
            assert mesh.stride(axis) == int(scalar(found[f"{axis}_stride"]))


def test_all_ranks_together_send_what_the_account_says() -> None:
    scenario, mesh = meshed()
    matrix = among(traffic_matrix(scenario), np.arange(32))
    assert matrix.sent_bytes.sum() == pytest.approx(traffic_account(scenario).sent_bytes)
    assert np.trace(matrix.sent_bytes) == 0
    few = among(traffic_matrix(scenario), mesh.corner(8).ranks)
    assert 0 < few.sent_bytes.sum() < matrix.sent_bytes.sum()


def test_a_corner_keeps_every_axis() -> None:
    scenario = scenario_of(DEFAULT, ())
    mesh = mesh_of(scenario)
    corner = mesh.corner(256)
    assert len(corner.ranks) == np.prod(list(corner.sizes.values())) <= 256
    assert all(size > 1 for axis, size in corner.sizes.items() if mesh.sizes[axis] > 1)
    assert len(set(corner.ranks.tolist())) == len(corner.ranks)
    assert len(mesh.corner(10**6).ranks) == 16_384


def test_figures_of_groups_and_traffic() -> None:
    scenario, mesh = meshed()
    corner = mesh.corner(64)
    drawn = gpus_by_node(mesh, corner, "tensor")
    assert np.asarray(drawn["data"][0]["z"]).shape == (4, 8)
    matrix = among(traffic_matrix(scenario), corner.ranks)
    shown = heat_map(mesh, matrix)["data"][0]
    texts = [text for row in shown["text"] for text in row if text]
    assert len(texts) == np.count_nonzero(matrix.sent_bytes)
    assert labels(mesh, np.asarray([9]))[0].startswith("rank 9, node 1, tensor 1")
    layers = split_layers(4, ("1", "2", "3"), ("all-gather", "all-reduce"))
    assert len(layers["layout"]["shapes"]) == 1 + 4 + 4 + 4 + 4 + 1


def test_orders_put_each_axis_inmost_once() -> None:
    scenario, mesh = meshed()
    found = orders(scenario)
    assert {order[0] for order in found} == set(mesh.sizes)
    assert all(sorted(order) == sorted(mesh.sizes) for order in found)
    assert set(axes_with_groups(mesh)) == {"tensor", "data", "pipeline"}
