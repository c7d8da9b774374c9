"""Latent attention, from lists of its matrices and tensors, written down from its definition."""

from typing import Any

import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario
from simulator.accounting import traffic_account
from tests.costmodels.witnesses import witness

LAYOUT = {
    "type": "latent",
    "query_rank": 96,
    "key_value_rank": 64,
    "unrotated_size": 16,
    "rotated_size": 8,
    "value_size": 24,
}
HIDDEN, HEADS, LENGTH = 128, 4, 1024
QUERY = 16 + 8


def latent(**changes: Any) -> Scenario:
    layout = LAYOUT | changes.pop("layout", {})
    sizes = {
        "model__hidden_size": HIDDEN,
        "model__num_attention_heads": HEADS,
        "model__num_key_value_heads": HEADS,
        "model__head_size": 24,
        "model__intermediate_size": 256,
        "model__layouts": [layout],
    }
    return witness("small", **sizes, **changes)


def value(scenario: Scenario, name: str) -> Any:
    found = evaluate(compile_columns(scenario), [name])[name]
    while isinstance(found, tuple):
        found = found[0]
    return int(found[0]) if hasattr(found, "__len__") else int(found)


def matrices(query_rank: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (inputs, outputs) of matrices that heads share, and of those that belong to heads."""
    shared = [(HIDDEN, 64 + 8)]
    heads = [(64, HEADS * (16 + 24)), (HEADS * 24, HIDDEN)]
    if query_rank:
        shared.append((HIDDEN, query_rank))
        heads.append((query_rank, HEADS * QUERY))
    else:
        heads.append((HIDDEN, HEADS * QUERY))
    return shared, heads


FFN = [(HIDDEN, 256), (HIDDEN, 256), (256, HIDDEN)]


@pytest.mark.parametrize("query_rank", [96, 0])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_matrices_of_heads_are_split_and_shared_ones_are_not(
    query_rank: int, ranks: int, sequence_parallel: bool
) -> None:
    if sequence_parallel and ranks == 1:
        return
    scenario = latent(
        layout={"query_rank": query_rank},
        plan__tensor_parallel_size=ranks,
        plan__sequence_parallel=sequence_parallel,
        cluster__accelerator_count=8,
    )
    shared, heads = matrices(query_rank)
    split = sum(2 * LENGTH * a * b // ranks for a, b in [*heads, *FFN])
    outside = LENGTH // ranks if sequence_parallel else LENGTH
    whole = sum(2 * outside * a * b for a, b in shared)
    assert value(scenario, "layer_matmul_flop") == split + whole
    norms = 2 * HIDDEN + (query_rank + 64)
    held = sum(a * b // ranks for a, b in [*heads, *FFN]) + sum(a * b for a, b in shared) + norms
    assert value(scenario, "layer_gpu_parameters") == held


@pytest.mark.parametrize("kernel", ["flash", "naive"])
def test_scores_are_as_wide_as_queries_and_outputs_as_values(kernel: str) -> None:
    scenario = latent(plan__attention_kernel=kernel)
    pairs = LENGTH * (LENGTH + 1) // 2 if kernel == "flash" else LENGTH**2
    scores, weighted = 2 * pairs * HEADS * QUERY, 2 * pairs * HEADS * 24
    assert value(scenario, "layer_attention_flop") == scores + weighted
    again = scores if kernel == "flash" else 0
    backward = value(scenario, "layer_attention_backward_flop")
    assert backward == 2 * (scores + weighted) + again
    unmasked = LENGTH * (LENGTH + 1) // 2 * 2 * HEADS * (QUERY + 24)
    shared, heads = matrices(96)
    products = sum(2 * LENGTH * a * b for a, b in [*shared, *heads, *FFN])
    assert value(scenario, "layer_model_flop") == products + unmasked


def test_kept_tensors() -> None:
    """Elements for a token: each compressed vector before and after its norm, the rotated key once.

    Heads keep query and joined key, what keys and values expand to, and the output.
    """
    heads = HEADS * (QUERY + QUERY + (16 + 24) + 24)
    compressed = 2 * 96 + 2 * 64 + 8
    norm_input_and_output = 2 * HIDDEN
    elements = heads + compressed + norm_input_and_output
    assert value(latent(), "attention_saved_bytes") == 2 * LENGTH * elements


def test_operands_of_products() -> None:
    """Each matrix reads its input and writes its output once; a shared input is read by each."""
    shared, heads = matrices(96)
    parameters = value(latent(), "layer_gpu_parameters")
    # The input of a layer is read once for all that it feeds, as with queries, keys and values.
    elements = HIDDEN + 96 + (64 + 8)
    elements += 96 + HEADS * QUERY + 64 + HEADS * (16 + 24) + HEADS * 24 + HIDDEN
    elements += HIDDEN + 3 * 256 + HIDDEN
    assert value(latent(), "layer_matmul_bytes") == 2 * parameters + 2 * LENGTH * elements
    assert len(shared) + len(heads) == 5


def test_a_latent_layer_beside_dense_ones() -> None:
    layouts = [LAYOUT, {"type": "dense"}]
    scenario = latent(model__num_hidden_layers=8)
    mixed = witness(
        "small",
        model__hidden_size=HIDDEN,
        model__num_attention_heads=HEADS,
        model__num_key_value_heads=HEADS,
        model__head_size=24,
        model__intermediate_size=256,
        model__num_hidden_layers=8,
        model__layouts=layouts,
    )
    columns = evaluate(compile_columns(mixed), ["layer_attention_flop", "kind_layer_count"])
    assert columns["kind_layer_count"] == (4, 4)
    pairs = LENGTH * (LENGTH + 1) // 2
    assert int(columns["layer_attention_flop"][0][0]) == value(scenario, "layer_attention_flop")
    assert int(columns["layer_attention_flop"][1][0]) == 4 * pairs * HEADS * 24


@pytest.mark.parametrize("query_rank", [96, 0])
@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_tensor_parallel_ranks_exchange_compressed_vectors(
    query_rank: int, recompute: str, *, sequence_parallel: bool
) -> None:
    """Each compressed vector is a message of its own, beside those of output, network and ends."""
    plan = {
        "tensor_parallel_size": 4,
        "sequence_parallel": sequence_parallel,
        "recompute": recompute,
    }
    account = traffic_account(latent(layout={"query_rank": query_rank}, plan=plan))
    found = {
        message.name: (message.calls[0], message.calls[0] * message.payload_bytes[0])
        for message in account.messages
    }
    layers, microbatches, again = 32, 8, recompute == "full"
    compressed = [query_rank or HIDDEN, 64, 8]
    expected = {}
    if sequence_parallel:
        gathers = compressed * (1 + again) + compressed[:2]
        hidden_gathers = layers * (2 + 2 + again) + 1 + 2
        hidden_scatters = layers * (2 + 1 + 2 * again) + 2
        expected["compressed_all_gather"] = [layers * len(gathers), layers * sum(gathers)]
        expected["compressed_reduce_scatter"] = [layers * 3, layers * sum(compressed)]
        expected["sequence_all_gather"] = [hidden_gathers, hidden_gathers * HIDDEN]
        expected["sequence_reduce_scatter"] = [hidden_scatters, hidden_scatters * HIDDEN]
    else:
        sums = layers * (2 + 1 + 2 * again) + 2
        expected["compressed_all_reduce"] = [layers * 3, layers * sum(compressed)]
        expected["hidden_all_reduce"] = [sums, sums * HIDDEN]
    for name, (calls, elements) in expected.items():
        assert found.pop(name) == (microbatches * calls, microbatches * elements * LENGTH * 2)
    assert not [name for name in found if name.startswith(("compressed", "hidden", "sequence"))]
