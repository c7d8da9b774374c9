"""The heat map of traffic shows every byte, in blocks where there are many GPUs."""

import numpy as np
import pytest

pytest.importorskip("plotly", reason="plotly is not installed: the dashboard extra")

from dashboard.figures.matrix import MOST_CELLS, traffic_heat_map
from simulator.matrix import traffic_matrix
from tests.simulator.witnesses import witness


@pytest.mark.parametrize(("name", "rows"), [("interleaved", 16), ("llama-405b-example", 512)])
def test_cells_hold_all_bytes(name: str, rows: int) -> None:
    matrix = traffic_matrix(witness(name))
    (heat,) = traffic_heat_map(matrix).data
    cells = np.asarray(heat.z, dtype=float)
    assert cells.shape == (rows, rows)
    assert rows <= MOST_CELLS
    assert np.nansum(10**cells) == pytest.approx(matrix.scale_up_bytes + matrix.network_bytes)
