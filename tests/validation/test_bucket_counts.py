"""DistributedDataParallel reduces in the buckets that closed forms count."""

import pytest

from validation.bucket_counts import RUNS, bucket_cases
from validation.cases import passed


@pytest.mark.torch
@pytest.mark.slow
def test_buckets_of_whole_tensors_are_as_predicted() -> None:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")
    cases = bucket_cases()
    assert [(c.name, c.prediction, c.measurement) for c in cases if not passed(c)] == []
    assert len({case.name for case in cases}) == len(cases) == 4 * len(RUNS)
    # Some have one bucket, some a bucket for each tensor.
    calls = {case.measurement for case in cases if case.name.endswith(": calls")}
    assert min(calls) == 1
    assert max(calls) > 30
