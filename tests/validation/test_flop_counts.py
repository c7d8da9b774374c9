"""Work equals, to the FLOP, what torch's counter sees: of shapes of every kind, and whole models."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.validation.shapes import KINDS, LAID_OUT, shapes, tables
from validation import flop_counts
from validation.cases import Case, passed
from validation.saved_tensors import module_lists
from validation.small_models import MODELS, scenario_of

pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


def assert_equal(pairs: Any) -> None:
    pairs = list(pairs)
    assert pairs
    assert [pair for pair in pairs if pair.prediction != pair.measurement] == []


def scenario(table: Mapping[str, Any], shape: tuple[int, int], recompute: str = "none") -> Any:
    plan = {"micro_batch_size": shape[0], "recompute": recompute}
    return scenario_of(table, plan=plan, workload={"sequence_length": shape[1]})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_any_shape_have_the_work_of_their_modules(kind: str) -> None:
    @settings(max_examples=100)
    @given(tables(kind), shapes)
    def compare(table: dict[str, Any], shape: tuple[int, int]) -> None:
        tried.append(shape)
        assert_equal(flop_counts.layers_compared(scenario(table, shape)))

    tried: list[tuple[int, int]] = []
    compare()
    assert len(tried) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAID_OUT)
def test_layers_of_other_layouts_have_the_work_of_their_modules(kind: str) -> None:
    @settings(max_examples=8)
    @given(tables(kind), shapes, st.sampled_from(("none", "full", "selective")))
    def compare(table: dict[str, Any], shape: tuple[int, int], recompute: str) -> None:
        assert_equal(flop_counts.layers_compared(scenario(table, shape)))
        assert_equal(flop_counts.model_compared(scenario(table, shape)))
        if recompute != "none":
            assert_equal(
                pair
                for pair in flop_counts.recompute_compared(scenario(table, shape, recompute))
                if "early stop" not in pair.name
            )

    compare()


@pytest.mark.slow
def test_a_gated_delta_rule_in_several_chunks_has_the_work_of_its_module() -> None:
    layout = {"type": "gated-delta", "key_heads": 1, "value_heads": 2, "key_head_size": 3}
    layout |= {"value_head_size": 4, "convolution_width": 2}
    table = dict(MODELS["gated"]) | {"layouts": [layout]}
    for length in (64, 65, 150):
        assert_equal(flop_counts.layers_compared(scenario(table, (1, length))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_any_shape_have_the_work_of_their_modules(kind: str) -> None:
    @settings(max_examples=15)
    @given(tables(kind), shapes)
    def compare(table: dict[str, Any], shape: tuple[int, int]) -> None:
        plain = scenario(table, shape)
        assert_equal(flop_counts.head_compared(plain))
        assert_equal(flop_counts.model_compared(plain))

    compare()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_modules_that_are_computed_again_have_their_work(kind: str) -> None:
    @settings(max_examples=4)
    @given(tables(kind), shapes)
    def compare(table: dict[str, Any], shape: tuple[int, int]) -> None:
        for modules in module_lists(scenario(table, shape).model):
            assert_equal(flop_counts.modules_compared(table, modules, shape))

    compare()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_computed_again_has_the_work_of_its_modules(kind: str) -> None:
    @settings(max_examples=10)
    @given(tables(kind), shapes, st.sampled_from(("full", "selective")))
    def compare(table: dict[str, Any], shape: tuple[int, int], recompute: str) -> None:
        assert_equal(flop_counts.recompute_compared(scenario(table, shape, recompute)))

    compare()


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return flop_counts.flop_cases()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_case_is_met_to_the_flop(cases: list[Case], model: str) -> None:
    own = [case for case in cases if case.name.startswith(f"{model}: ")]
    assert len(own) >= 14
    assert all(case.tolerance_fraction == 0 for case in own)
    assert [case for case in own if not passed(case)] == []


def test_the_counter_would_notice_another_size() -> None:
    table = dict(MODELS["gated"])
    (first, *_) = flop_counts.layers_compared(scenario_of(table))
    (other, *_) = flop_counts.layers_compared(scenario_of(table | {"intermediate_size": 41}))
    assert first.measurement > 0
    assert other.measurement - first.measurement == 2 * 16 * 3 * 24


def test_work_is_the_same_on_a_device_without_values() -> None:
    from validation.torch_programs.counting import decoder_passes

    for name in ("grouped queries", "shared experts", "latent"):
        model = scenario_of(MODELS[name]).model
        assert decoder_passes(model, 2, 5, device="meta") == decoder_passes(model, 2, 5)


@pytest.mark.slow
def test_layers_of_presets_have_the_work_of_their_modules_in_full_size() -> None:
    full = flop_counts.preset_cases()
    assert {case.name.split(":")[0] for case in full} == set(flop_counts.PRESETS)
    assert len(full) == 4 * (len(flop_counts.PRESETS) + 6)
    assert [case for case in full if not passed(case)] == []


def test_fused_attention_counts_for_nothing_on_a_cpu_and_is_refused() -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from torch.utils.flop_counter import FlopCounterMode

    from validation.torch_programs.attention_modules import attention_core
    from validation.torch_programs.counting import WorkCounter

    heads = torch.ones(2, 4, 3, 5)
    with FlopCounterMode(display=False) as trusting:
        fused = scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    assert trusting.get_total_flops() == 0
    with pytest.raises(ValueError, match="flash_attention_for_cpu is not counted"), WorkCounter():
        scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    with WorkCounter() as counter:
        written = attention_core(heads, heads, heads, None, causal=True)
    assert counter.work == (0, 2 * 2 * (2 * 4) * (3 * 3) * 5)
    torch.testing.assert_close(written, fused)


def test_a_product_with_a_vector_is_refused() -> None:
    import torch

    from validation.torch_programs.counting import WorkCounter

    with pytest.raises(ValueError, match=r"aten\.mv is not counted"), WorkCounter():
        torch.ones(3, 4) @ torch.ones(4)


def test_work_after_an_error_is_not_judged() -> None:
    from validation.torch_programs.counting import WorkCounter

    with pytest.raises(KeyError), WorkCounter():
        raise KeyError("its own")


def test_reentrant_checkpoints_repeat_the_whole_and_others_stop_early() -> None:
    import torch
    from torch.utils.checkpoint import checkpoint

    from validation.torch_programs.counting import WorkCounter

    weight, tokens = torch.ones(8, 16, requires_grad=True), torch.ones(6, 16, requires_grad=True)
    forward = 2 * 6 * 16 * 8
    repeated = {}
    for reentrant in (True, False):
        out = checkpoint(torch.nn.functional.linear, tokens, weight, use_reentrant=reentrant)
        with WorkCounter() as counter:
            out.sum().backward()
        repeated[reentrant] = counter.work.total - 2 * forward
    assert repeated == {True: forward, False: 0}


@pytest.mark.parametrize("name", ["gated", "mixture"])
def test_modules_run_where_they_are_told_to(name: str) -> None:
    """A device without values counts the same: every tensor of the programs is made on it."""
    models = {name: MODELS[name]}
    assert flop_counts.flop_cases(models, device="meta") == flop_counts.flop_cases(models)
