"""Layers keep as many bytes as transformers' cache of a real model."""

import pytest

from validation.cases import passed
from validation.kv_cache_bytes import MODELS, WORK, cache_cases, predicted


def test_a_layer_keeps_what_its_own_layout_needs() -> None:
    layers = predicted(
        {"model_type": "llama", **dict.fromkeys(("hidden_size", "vocab_size"), 64)}
        | {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 1}
        | {"intermediate_size": 64},
        3,
        10,
    )
    assert [layer.cache_bytes for layer in layers] == [3 * 10 * 2 * 16 * 2]


@pytest.mark.torch
@pytest.mark.slow
def test_caches_are_equal_to_the_byte() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    cases = cache_cases()
    assert len({case.name for case in cases}) == len(cases) == 2 * len(MODELS) * len(WORK)
    missed = [(case.name, case.prediction, case.measurement) for case in cases if not passed(case)]
    assert not missed
