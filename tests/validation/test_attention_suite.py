"""The suite of attention layouts passes, and would notice a wrong closed form."""

import pytest

from validation import attention_counts
from validation.cases import passed
from validation.jobs import Settings
from validation.suites.attention import SUITE


def test_published_memories_and_work_are_met() -> None:
    cases = attention_counts.published_cases()
    assert len(cases) == 6
    assert [case for case in cases if not passed(case)] == []


def test_jobs_need_no_torch_to_be_planned() -> None:
    names = [job.name for job in SUITE.jobs(Settings())]
    assert len(names) == len(set(names)) == len(attention_counts.PROGRAMS) + 3


@pytest.mark.torch
@pytest.mark.slow
def test_programs_and_layers_do_what_closed_forms_say() -> None:
    pytest.importorskip("torch")
    cases = [case for job in SUITE.jobs(Settings()) for case in job.run()]
    assert len(cases) > 55
    assert [case for case in cases if not passed(case)] == []
    exact = [case for case in cases if case.tolerance_fraction == 0]
    assert all(case.measurement > 0 for case in exact)


@pytest.mark.torch
@pytest.mark.slow
def test_a_delta_rule_remembers_more_of_unit_keys_and_details_fade() -> None:
    pytest.importorskip("torch")
    curves = attention_counts.recall_curves(32)
    linear, delta = (curves[f"{rule} rule, unit keys"][1] for rule in ("linear", "delta"))
    assert all(better < worse for better, worse in zip(delta[1:], linear[1:], strict=True))
    assert linear == sorted(linear)
