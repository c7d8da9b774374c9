"""Programs that train on several ranks send what the closed forms of communication say."""

import math

import pytest

from validation.cases import Case, passed
from validation.collective_counts import Prediction, collective_cases, wire_cases
from validation.collective_runs import (
    COMBINED_RUNS,
    DATA_RUNS,
    FURTHER_RUNS,
    HYBRID_RUNS,
    LATENT_RUNS,
    PIPELINE_RUNS,
    SCATTERED_RUNS,
    TENSOR_RUNS,
    UNEVEN_RUNS,
    Run,
    observe,
)
from validation.pair_bytes import RUNS as PAIRED
from validation.pair_bytes import pair_cases
from validation.torch_programs.records import SEND

RUNS = (
    *TENSOR_RUNS,
    *FURTHER_RUNS,
    *LATENT_RUNS,
    *DATA_RUNS,
    *UNEVEN_RUNS,
    *HYBRID_RUNS,
    *COMBINED_RUNS,
    *PIPELINE_RUNS,
    *SCATTERED_RUNS,
)


@pytest.fixture(scope="module")
def torch_is_there() -> None:
    pytest.importorskip("torch", reason="torch is not installed: the validation extra")


@pytest.fixture(scope="module")
def intercepted(torch_is_there: None) -> list[Case]:
    return collective_cases()


def failures(cases: list[Case]) -> list[tuple[str, float, float]]:
    return [(case.name, case.prediction, case.measurement) for case in cases if not passed(case)]


def test_every_run_has_its_own_name_and_can_be_described() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS)
    for run in RUNS:
        assert Prediction(run)("accelerator_count") == run.ranks


def test_a_prediction_is_that_of_the_rank() -> None:
    run = next(run for run in PIPELINE_RUNS if run.ranks == 4)
    of = Prediction(run)
    assert [of("chunk_hops", rank) for rank in range(4)] == [1, 2, 2, 1]


@pytest.mark.torch
@pytest.mark.slow
def test_calls_payload_and_bytes_are_as_predicted(intercepted: list[Case]) -> None:
    # The programs have run for these cases, and run once.
    pairs = pair_cases()
    assert len(pairs) >= 2 * len(PAIRED)
    assert not failures([*intercepted, *pairs])
    names = {case.name for case in (*intercepted, *pairs)}
    assert len(names) == len(intercepted) + len(pairs)


@pytest.mark.torch
@pytest.mark.slow
def test_programs_communicate_at_all(intercepted: list[Case]) -> None:
    nonzero = {case.name.split(": ")[1] for case in intercepted if case.measurement > 0}
    assert len(nonzero) >= 20
    for run in RUNS:
        assert all(observed.calls for observed in observe(run))


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    "run", [run for run in RUNS if run not in COMBINED_RUNS], ids=lambda run: run.name
)
def test_no_call_of_a_program_is_missed(torch_is_there: None, run: Run) -> None:
    for observed in observe(run):
        assert len(observed.calls) == observed.backend_calls


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_split_program_trains_as_the_whole_one(torch_is_there: None, run: Run) -> None:
    from validation.torch_programs.training import reference_losses

    replicas = Prediction(run)("data_parallel_size")
    seen = [observed.losses for observed in observe(run) if not math.isnan(observed.losses[0])]
    means = [sum(step) / len(step) for step in zip(*seen, strict=True)]
    rel = 0.02 if dict(run.plan).get("cast_on_gather") else 1e-5
    assert means == pytest.approx(reference_losses(run.sizes, run.work, replicas), rel=rel)


@pytest.mark.torch
@pytest.mark.slow
def test_what_pipeline_ranks_send_arrives(torch_is_there: None) -> None:
    for run in (*PIPELINE_RUNS, *SCATTERED_RUNS):
        calls = [(rank, call) for rank, seen in enumerate(observe(run)) for call in seen.calls]
        sent = [(rank, c.peer, c.given_bytes) for rank, c in calls if c.kind == SEND]
        received = [
            (c.peer, rank, c.message_bytes) for rank, c in calls if c.peer >= 0 and c.kind != SEND
        ]
        assert sorted(sent) == sorted(received)


@pytest.mark.torch
@pytest.mark.slow
def test_rings_send_what_the_closed_forms_say(torch_is_there: None) -> None:
    assert not failures(wire_cases())
