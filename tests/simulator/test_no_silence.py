"""No input is silent: it moves numbers, is refused by name, or a note says why it does not matter."""

from functools import cache

import pytest

from simulator import whatif
from tests.simulator.mutations import (
    LABEL,
    PEAKS,
    QUANTIZATION,
    Effect,
    all_paths,
    base_answer,
    effects,
    influences,
    old_value,
    remarks,
    spoken,
)
from tests.simulator.witnesses import FILES, witness

PATHS = all_paths()


@cache
def effects_of(path: str) -> dict[str, list[Effect]]:
    """Return what the mutations of a field do, by witness; computed once for both tests."""
    return {name: effects(name, path) for name in FILES}


def _complaints(name: str, path: str, effect: Effect) -> list[str]:
    about = [remark for remark in remarks(base_answer(name)) if remark.names(path)]
    old, scenario = old_value(name, path), witness(name)
    change = f"{name}: {path} from {spoken(old)} to {spoken(effect.value)}"
    if effect.refusal:
        if _refused_as(path) in effect.refusal:
            return []
        return [f"{change} is refused without its name: {effect.refusal}"]
    noted = [remark for remark in about if remark.covers(effect.value, old, scenario)]
    if effect.moved and noted:
        return [f"{change} moves {sorted(effect.moved)}, but a note denies it: {noted}"]
    if not effect.moved and not noted:
        return [f"{change} moves nothing, and no note says so"]
    return []


def _refused_as(path: str) -> str:
    """Return what a refusal must name: the field, or the description that has no model yet."""
    return QUANTIZATION if path.startswith(QUANTIZATION) else path


@pytest.mark.parametrize("path", [QUANTIZATION, *(p for p in PATHS if p.startswith(QUANTIZATION))])
def test_quantization_is_refused_whatever_its_fields_are(path: str) -> None:
    for found in effects_of(path).values():
        for effect in found:
            assert effect.refusal.startswith(f"{QUANTIZATION} ("), effect
            assert "not modelled yet" in effect.refusal


@pytest.mark.parametrize("path", PATHS)
def test_a_field_moves_numbers_or_is_refused_or_noted(path: str) -> None:
    complaints = [
        complaint
        for name, found in effects_of(path).items()
        for effect in found
        for complaint in _complaints(name, path, effect)
    ]
    assert complaints == []


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith(PEAKS)])
def test_a_field_moves_the_groups_that_it_declares(path: str) -> None:
    _check_influences((path,))


def test_the_peaks_move_the_groups_that_they_declare() -> None:
    _check_influences(tuple(path for path in PATHS if path.startswith(PEAKS)))


def _check_influences(paths: tuple[str, ...]) -> None:
    moved = frozenset[str]().union(
        *(effect.moved for path in paths for found in effects_of(path).values() for effect in found)
    )
    declared = influences(paths[0]) - {LABEL}
    # What moves the time moves what the time costs.
    follows = {"cost"} if "time" in declared else set()
    assert declared <= moved, f"{sorted(declared - moved)} is declared and never moves"
    assert moved <= declared | follows, f"{sorted(moved - declared)} moves undeclared"


def test_every_field_is_tried() -> None:
    tried = {path for path in PATHS if any(effects_of(path).values())}
    assert set(PATHS) == tried


def test_a_plan_that_does_not_fit_says_that_its_times_are_withheld() -> None:
    scenario = witness("one-gpu")
    small = {"cluster.accelerator.memory_bytes": 2**30}
    case = whatif.what_if(scenario, [small]).cases[0]
    assert not case.answer.fits
    assert case.answer.time["step_s"] is None
    assert any("does not fit" in note and "withheld" in note for note in case.answer.notes)
