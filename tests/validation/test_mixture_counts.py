"""Experts and sharding at once communicate over two meshes as the closed forms say."""

import pytest

from validation.cases import passed
from validation.mixture_counts import RUNS, mixture_cases


@pytest.mark.torch
@pytest.mark.slow
def test_experts_over_unlike_meshes_are_as_predicted() -> None:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    cases = mixture_cases()
    assert [(c.name, c.prediction, c.measurement) for c in cases if not passed(c)] == []
    assert len({case.name for case in cases}) == len(cases) >= 7 * len(RUNS)
    # Exchanges that are computed again are more than those of the forward.
    exchanged = {c.name: c.measurement for c in cases if c.name.endswith(": exchanges")}
    plain, again = (
        exchanged[f"experts x 2 of 4, 2 layers of 4{repeated}: exchanges"]
        for repeated in ("", ", experts computed again")
    )
    assert (plain, again) == (16, 24)
