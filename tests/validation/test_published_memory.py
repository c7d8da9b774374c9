"""Published memory: every row is described, met as far as stated, and nothing is fitted to it."""

from collections import Counter

import pytest

from costmodels.scenario import scenario_from_table
from validation import published_memory
from validation.cases import error_fraction, passed
from validation.printed_memory import printed_cases, state_bytes
from validation.published_memory import B200_LIMIT_FRACTION, b200_cases, b200_runs, rows_of


def test_rows_are_test_rows() -> None:
    for name in (
        "simumax2025/b200_memory.csv",
        "korthikanti2022/activations.csv",
        "rajbhandari2020/table1.csv",
    ):
        assert {row["split"] for row in rows_of(name)} == {"test"}


def test_tables_and_figures_are_met() -> None:
    cases = printed_cases()
    assert Counter(case.name.split()[0] for case in cases) == {"ZeRO": 54, "Korthikanti": 24}
    assert [case.name for case in cases if not passed(case)] == []


@pytest.mark.parametrize(("stage", "printed"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_on_64_replicas_as_printed(stage: int, printed: float) -> None:
    digits = 1 if isinstance(printed, float) else 0
    assert round(state_bytes(7_500_000_000, 64, stage) / 1e9, digits) == printed


def test_peaks_of_runs_on_b200_are_met() -> None:
    *runs, mean = b200_cases()
    assert len(runs) == len(b200_runs()) == 43
    assert [case.name for case in runs if not passed(case)] == []
    assert passed(mean)
    errors = [abs(error_fraction(case)) for case in runs]
    assert sum(errors) / len(errors) <= B200_LIMIT_FRACTION


def test_a_peak_without_dummy_gradients_would_be_noticed() -> None:

    row = rows_of("simumax2025/b200_memory.csv")[0]
    without = published_memory._b200_table(row)
    without["plan"]["saved_tensors"] = "megatron"
    said = published_memory.allocated_peak_bytes(scenario_from_table(without)) / 2**30
    assert said / float(row["peak_gib"]) < 0.98
