"""States equal, to the byte, the memory of real optimizers, alone and sharded."""

from functools import partial
from typing import Any

import pytest

from validation import state_bytes
from validation.cases import Case, passed
from validation.small_models import MODELS, scenario_of

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


def judged(pairs: list[state_bytes.Compared]) -> list[state_bytes.Compared]:
    return [pair for pair in pairs if pair.prediction != pair.measurement]


@pytest.mark.parametrize("name", MODELS)
def test_one_process_keeps_what_is_said(name: str) -> None:
    pairs = list(state_bytes.alone_compared(name, MODELS[name]))
    assert len(pairs) == 4 * len(state_bytes.OPTIMIZERS)
    assert judged(pairs) == []


def test_optimizers_keep_what_they_are_known_for() -> None:
    pairs = state_bytes.alone_compared("gated", MODELS["gated"])
    kept = {pair.name: pair.measurement for pair in pairs}
    weights = kept["gated, sgd: weights"]
    moments = [kept[f"gated, {name}: moments"] for name in state_bytes.OPTIMIZERS]
    adam, adamw, adafactor, muon, momentum, sgd = moments
    assert (adam, adamw, momentum, sgd) == (2 * weights, 2 * weights, weights, 0)
    assert 0 < adafactor < weights < muon < adam
    steps = [kept[f"gated, {name}: steps"] for name in state_bytes.OPTIMIZERS]
    assert steps[:3] == [steps[0]] * 3
    assert steps[4:] == [0, 0]
    assert 0 < steps[3] < steps[0]


@pytest.fixture(scope="module", params=state_bytes.REPLICAS)
def sharded(request: pytest.FixtureRequest) -> list[state_bytes.Compared]:
    return list(state_bytes.sharded_compared(request.param))


def of(pairs: list[state_bytes.Compared], *words: str) -> list[state_bytes.Compared]:
    found = [pair for pair in pairs if all(word in pair.name for word in words)]
    assert found
    return found


@pytest.mark.slow
def test_replicas_keep_what_is_said(sharded: list[state_bytes.Compared]) -> None:
    assert judged(sharded) == []


@pytest.mark.slow
def test_stages_shard_more_and_more(sharded: list[state_bytes.Compared]) -> None:
    shares = {
        (program, part): of(sharded, "rows that divide", f"{program}, rank 0: {part}")[0]
        for program in ("ZeRO-1", "ZeRO-2", "FSDP2")
        for part in ("weights", "gradients", "moments")
    }
    whole = shares["ZeRO-1", "weights"].measurement
    replicas = int(shares["ZeRO-1", "weights"].name.split(", ")[1].split()[0])
    measured = {key: pair.measurement * replicas // whole for key, pair in shares.items()}
    assert measured == {
        ("ZeRO-1", "weights"): replicas,
        ("ZeRO-1", "gradients"): replicas,
        ("ZeRO-1", "moments"): 2,
        ("ZeRO-2", "weights"): replicas,
        ("ZeRO-2", "gradients"): 1,
        ("ZeRO-2", "moments"): 2,
        ("FSDP2", "weights"): 1,
        ("FSDP2", "gradients"): 1,
        ("FSDP2", "moments"): 2,
    }


@pytest.mark.slow
def test_rows_that_do_not_divide_are_shown(sharded: list[state_bytes.Compared]) -> None:
    for name, is_padded in {"rows that divide": False, "rows that do not": True}.items():
        (pair,) = of(sharded, name, "FSDP2: padding of rows")
        assert (pair.measurement > 0) is is_padded


@pytest.mark.slow
def test_stacked_experts_are_split_by_experts(sharded: list[state_bytes.Compared]) -> None:
    """Five experts divide over none of the replicas: some hold a whole expert of padding."""
    (pair,) = of(sharded, "experts", "FSDP2, stacked experts: padding of rows")
    (plain,) = of(sharded, "experts", "FSDP2: padding of rows")
    assert pair.measurement > 2 * plain.measurement


@pytest.mark.slow
def test_dealing_out_parameters_is_uneven(sharded: list[state_bytes.Compared]) -> None:
    (largest,) = of(sharded, "rows that do not", "largest share")
    (even, *_) = of(sharded, "rows that do not", "ZeRO-1, rank 0: moments")
    assert largest.measurement > even.measurement


@pytest.mark.slow
@pytest.mark.parametrize("model", state_bytes.SHARDED)
def test_sharded_training_is_the_training_of_one_process(model: str) -> None:
    from validation.torch_programs import processes, states

    described = scenario_of(state_bytes.SHARDED[model]).model
    alone = states.whole(described, "adam", 2)
    ranks = processes.run(partial(states.all_sharded, (described,)), 2)
    for own, (programs,) in zip(alone, ranks, strict=True):
        for program, kept in programs.items():
            rel = 0.02 if program == states.CAST else 1e-4
            assert kept.losses == pytest.approx(own.losses, rel=rel), program
    assert alone[0].losses != pytest.approx(alone[1].losses, rel=1e-3)
    assert alone[0].losses[0] != pytest.approx(alone[0].losses[1], rel=1e-4)


def test_shared_memory_is_weighed_once() -> None:
    from validation.torch_programs.states import stored_bytes

    vector = torch.zeros(10)
    assert stored_bytes([vector[:4], vector[4:], torch.zeros(3)]) == 40 + 12


def test_cases_say_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_bytes, "MODELS", {"gated": MODELS["gated"]})
    monkeypatch.setattr(state_bytes, "REPLICAS", (2,))
    pair = state_bytes.Compared("of two", "they share", 1, 1)
    asked: list[Any] = []

    def shared(replicas: int) -> list[state_bytes.Compared]:
        asked.append(replicas)
        return [pair]

    monkeypatch.setattr(state_bytes, "sharded_compared", shared)
    cases: list[Case] = state_bytes.state_cases()
    assert asked == [2]
    assert len(cases) == 4 * len(state_bytes.OPTIMIZERS) + 1
    assert all(passed(case) and case.tolerance_fraction == 0 for case in cases)
    assert "one process" in cases[0].method
    assert "up to 2 processes" in cases[-1].method
