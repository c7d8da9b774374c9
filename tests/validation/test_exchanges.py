"""Expert and context parallelism exchange what the closed forms say, and compute what one rank does."""

import pytest

from validation.cases import passed
from validation.exchange_counts import CONTEXT_RUNS, EXPERT_RUNS, exchange_cases, observe

RUNS = (*EXPERT_RUNS, *CONTEXT_RUNS)


def test_every_run_has_its_own_name() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS)


@pytest.mark.torch
@pytest.mark.slow
def test_exchanges_are_as_predicted() -> None:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    cases = exchange_cases()
    failed = [(c.name, c.prediction, c.measurement) for c in cases if not passed(c)]
    assert failed == []
    # Calls, payload and group of a collective at least, both directions, and the result itself.
    assert len(cases) >= 6 * len(RUNS)
    for run in RUNS:
        assert all(seen.calls for seen in observe(run))
