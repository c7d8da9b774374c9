"""A linear layer over gloo does, holds and sends what its closed forms say."""

import pytest

from validation.cases import passed

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_every_rank_does_what_the_account_says() -> None:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    from validation.linear_counts import LAYERS, linear_cases

    cases = linear_cases()
    assert (
        len({case.name for case in cases})
        == len(cases)
        == 13 * 2 * sum(layer.ranks for layer in LAYERS)
    )
    missed = [(case.name, case.prediction, case.measurement) for case in cases if not passed(case)]
    assert not missed
