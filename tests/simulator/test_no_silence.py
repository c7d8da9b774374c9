"""No input is silent: it moves numbers, is refused by name, or a note says why it does not matter."""

from functools import cache
from typing import Any, get_type_hints

import msgspec
import pytest

from costmodels.errors import ShardwiseError
from costmodels.scenario import scenario_from_table
from costmodels.specs.layouts import LAYOUTS
from simulator import whatif
from tests.simulator.mutations import (
    LABEL,
    PEAKS,
    QUANTIZATION,
    Effect,
    all_paths,
    base_answer,
    differ,
    effects,
    influences,
    numbers,
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


LAYOUTS_TRIED: dict[str, dict[str, Any]] = {
    "dense": {},
    "sliding": {"window": 300, "sink_tokens": 4},
    "chunked": {"chunk_length": 300},
    "dilated": {"segment_lengths": [128, 512], "dilation_rates": [1, 4]},
    "dilated-heads": {"segment_lengths": [128, 512], "dilation_rates": [1, 4]},
    "infini": {"segment_length": 300},
    "linear": {"scan_length": 64},
    "compressive": {
        "segment_length": 128,
        "memory_tokens": 256,
        "compressed_tokens": 64,
        "compression_rate": 4,
    },
    "latent": {
        "query_rank": 512,
        "key_value_rank": 256,
        "unrotated_size": 64,
        "rotated_size": 32,
        "value_size": 64,
    },
    "gated-delta": {
        "key_heads": 16,
        "value_heads": 32,
        "key_head_size": 64,
        "value_head_size": 64,
        "convolution_width": 4,
    },
    "lightning": {"block_length": 128},
}


def _with_layout(layout: dict[str, Any]) -> Any:
    table: dict[str, Any] = {
        "model": {"preset": "llama-3.1-8b", "layouts": [layout]},
        "cluster": "h200-sxm:8",
        "plan": {"attention_kernel": "naive", "zero_stage": 1},
        "workload": {"global_batch_size": 8, "sequence_length": 2048},
    }
    return numbers(whatif.estimate(scenario_from_table(table), ignore_memory=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_field_of_a_layout_moves_numbers_or_is_refused(name: str) -> None:
    base = {"type": name, **LAYOUTS_TRIED[name]}
    before = _with_layout(base)
    stated = msgspec.convert(base, LAYOUTS[name])
    for field, declared in get_type_hints(LAYOUTS[name]).items():
        changed = {**base, field: _other(getattr(stated, field), declared)}
        if (name, field) == ("dilated-heads", "keys_per_query"):
            with pytest.raises(ShardwiseError, match=r"model.layouts \(dilated-heads, keys_per"):
                _with_layout(changed)
            del changed["segment_lengths"]
        after = _with_layout(changed)
        assert any(differ(before[key], after[key]) for key in before), field


def _other(value: Any, declared: Any) -> Any:
    """Return another value for a field of a layout."""
    if declared is bool:
        return not value
    return [2 * each for each in value] if isinstance(value, tuple) else 2 * (value or 4)


@pytest.mark.parametrize(("window", "said"), [(1024, False), (2048, True), (4096, True)])
def test_a_window_that_holds_the_sequence_is_noted(window: int, said: bool) -> None:
    table: dict[str, Any] = {
        "model": {"preset": "llama-3.1-8b", "layouts": [{"type": "sliding", "window": window}]},
        "cluster": "h200-sxm:8",
        "workload": {"global_batch_size": 8, "sequence_length": 2048},
    }
    answer = whatif.estimate(scenario_from_table(table), ignore_memory=True)
    assert any(f"sliding (window {window:,})" in note for note in answer.notes) is said


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
