"""Which of many GPUs a page shows, with their groups and what they send each other.

Ranks are numbered along the axes of the rank order, the innermost first, and nodes are filled in
that order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from costmodels.scenario import Scenario
from simulator.groups import layout_of
from simulator.matrix import TrafficMatrix

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Mesh(NamedTuple):
    """Where ranks sit.

    Attributes
    ----------
    sizes : dict of str to int
        Ranks of each axis, the innermost first [count].
    per_node : int
        Ranks of a node [count].
    """

    sizes: dict[str, int]
    per_node: int

    def stride(self, axis: str) -> int:
        """Return the distance between neighbours of a group [rank]."""
        stride = 1
        for name, size in self.sizes.items():
            if name == axis:
                break
            stride *= size
        return stride

    def place(self, ranks: _Ints, axis: str) -> _Ints:
        """Return the place of ranks within their groups of an axis [index]."""
        found: _Ints = ranks // self.stride(axis) % self.sizes[axis]
        return found

    def group(self, ranks: _Ints, axis: str) -> _Ints:
        """Return which group of an axis ranks belong to [index]."""
        stride, size = self.stride(axis), self.sizes[axis]
        found: _Ints = ranks % stride + ranks // (stride * size) * stride
        return found

    def node(self, ranks: _Ints) -> _Ints:
        """Return the node of ranks [index]."""
        found: _Ints = ranks // self.per_node
        return found

    def corner(self, most: int) -> "Corner":
        """Return ranks of every axis, the largest axes cut short until few enough are left."""
        shown = dict(self.sizes)
        outwards = list(shown)
        while int(np.prod(list(shown.values()))) > most:
            largest = max(outwards, key=lambda axis: (shown[axis], outwards.index(axis)))
            shown[largest] = max(shown[largest] // 2, 1)
        ranks = np.zeros(1, dtype=np.int64)
        for axis in reversed(outwards):
            steps = np.arange(shown[axis], dtype=np.int64) * self.stride(axis)
            ranks = (ranks[:, None] + steps[None, :]).reshape(-1)
        return Corner(np.sort(ranks), shown)


class Corner(NamedTuple):
    """Some ranks of a mesh, and how many of each axis they are."""

    ranks: _Ints
    sizes: dict[str, int]


def mesh_of(scenario: Scenario) -> Mesh:
    """Return where the ranks of a plan sit."""
    layout = layout_of(scenario)
    return Mesh(dict(layout.sizes), layout.accelerators_per_node)


class Matrix(NamedTuple):
    """Bytes that ranks send each other in a step.

    Attributes
    ----------
    ranks : array
        Ranks, senders downwards and receivers to the right [index].
    sent_bytes : array
        From each to each [byte].
    """

    ranks: _Ints
    sent_bytes: _Floats


def among(matrix: TrafficMatrix, ranks: _Ints) -> Matrix:
    """Return what some ranks send each other, of a matrix by GPU.

    Parameters
    ----------
    matrix : TrafficMatrix
        What all of them send each other.
    ranks : array
        The ranks in question, ascending [index].
    """
    source, target = np.asarray(matrix.source), np.asarray(matrix.target)
    row = np.minimum(np.searchsorted(ranks, source), len(ranks) - 1)
    column = np.minimum(np.searchsorted(ranks, target), len(ranks) - 1)
    known = (ranks[row] == source) & (ranks[column] == target)
    sent = np.zeros((len(ranks), len(ranks)))
    np.add.at(sent, (row[known], column[known]), np.asarray(matrix.sent_bytes)[known])
    return Matrix(ranks, sent)


def labels(mesh: Mesh, ranks: _Ints) -> list[str]:
    """Return what each rank is called: its place on every axis that has several, and its node."""
    places = {axis: mesh.place(ranks, axis) for axis, size in mesh.sizes.items() if size > 1}
    nodes = mesh.node(ranks)
    return [
        f"rank {rank}, node {nodes[index]}"
        + "".join(f", {axis} {place[index]}" for axis, place in places.items())
        for index, rank in enumerate(ranks.tolist())
    ]


def orders(scenario: Scenario) -> list[tuple[str, ...]]:
    """Return orders of the axes: the plan's, and for each other axis the one that puts it inmost."""
    stated = tuple(axis.value for axis in scenario.plan.rank_order)
    moved = [(axis, *(other for other in stated if other != axis)) for axis in stated[1:]]
    return [stated, *moved]


def axes_with_groups(mesh: Mesh) -> Sequence[str]:
    """Return the axes along which there are groups of several ranks."""
    return [axis for axis, size in mesh.sizes.items() if size > 1]
