"""Compute times of a layer, worked by hand from peaks and bandwidths."""

from typing import Any

import numpy as np
import pytest

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.roofline import (
    chunk_backward_compute_s,
    chunk_forward_compute_s,
    chunk_recompute_s,
    layer_backward_s,
    layer_forward_s,
)
from costmodels.scenario import scenario_from_table
from tests.costmodels.witnesses import witness

PEAK = 1e15
BANDWIDTH = 1e12


def values(*names: str, **changes: Any) -> list[float]:
    """Return quantities of one layer of width 1,024 at a round peak and bandwidth."""
    scenario = scenario_from_table(
        {
            "model": {
                "preset": "llama-3.1-8b",
                "num_hidden_layers": 1,
                "hidden_size": 1024,
                "num_attention_heads": 8,
                "num_key_value_heads": 8,
                "intermediate_size": 4096,
                "vocabulary_size": 1000,
            },
            "cluster": {
                "preset": "h100-sxm",
                "accelerator_count": 1,
                "accelerator": {
                    "peak_flop_per_s": {"bf16": PEAK},
                    "memory_bandwidth_bytes_per_s": BANDWIDTH,
                    "matmul_efficiency_fraction": 0.5,
                    "attention_efficiency_fraction": 0.25,
                    "memory_efficiency_fraction": 0.8,
                },
            },
            "workload": {"global_batch_size": 1, "sequence_length": 4096},
        },
        {path.replace("__", "."): value for path, value in changes.items()},
    )
    found = evaluate(compile_columns(scenario), names)
    return [first_of(value) for value in found.values()]


def first_of(value: Any) -> float:
    """Return the number of the first member of every axis, in the only row."""
    while isinstance(value, tuple):
        value = value[0]
    return float(np.ravel(value)[0])


def test_large_products_are_bound_by_work() -> None:
    """4,096 tokens through 4 x 1024^2 + 3 x 1024 x 4096 weights, two FLOP each, at 0.5 PFLOP/s."""
    weights = 4 * 1024**2 + 3 * 1024 * 4096
    (time_s,) = values("layer_matmul_s")
    assert time_s == pytest.approx(2 * 4096 * weights / 0.5e15, rel=1e-12)


def test_small_products_are_bound_by_reading_the_weights() -> None:
    """One token: 2 bytes of each weight and norm, and a few thousand of activations, at 0.8 TB/s."""
    weights = 4 * 1024**2 + 3 * 1024 * 4096
    (time_s,) = values("layer_matmul_s", workload__sequence_length=1)
    assert time_s == pytest.approx(2 * weights / 0.8e12, rel=0.01)
    assert time_s > 2 * weights / 0.8e12


def test_causal_flash_attention_takes_half_the_square() -> None:
    pairs = 4096 * 4097 / 2
    forward_s, flop, backward = values(
        "layer_attention_s", "layer_attention_flop", "layer_attention_backward_flop"
    )
    assert flop == 4 * pairs * 1024
    assert forward_s == pytest.approx(flop / 0.25e15, rel=1e-12)
    assert backward == 2.5 * flop


def test_naive_attention_writes_and_reads_its_scores() -> None:
    """The whole square at a quarter of the peak, and four passes of 2 bytes for each score."""
    (forward_s,) = values("layer_attention_s", plan__attention_kernel="naive")
    square = 4096**2
    expected = 4 * square * 1024 / 0.25e15 + 4 * 2 * 8 * square / 0.8e12
    assert forward_s == pytest.approx(expected, rel=1e-12)


def test_full_recomputation_adds_a_forward() -> None:
    none, forward = values("layer_recompute_s", "layer_forward_s")
    (full,) = values("layer_recompute_s", plan__recompute="full")
    assert none == 0
    assert full == pytest.approx(forward, rel=1e-12)


def test_the_optimizer_reads_and_writes_its_state() -> None:
    """bf16 mixed with Adam: 4 read, 2 x 4 main, 2 x 2 x 4 moments, 2 written: 30 bytes."""
    time_s, parameters = values("stage_optimizer_s", "stage_parameters")
    assert time_s == pytest.approx(30 * parameters / 0.8e12, rel=1e-12)


def in_tensors(*counts: int) -> int:
    """Return the elements of tensors listed one by one."""
    return sum(counts)


LISTED = {
    # Width, query heads, key-value heads, head size, inner size.
    "llama-3.1-8b": (4096, 32, 8, 128, 14336),
    "gpt-3-175b": (12288, 96, 96, 128, 49152),
    "mixtral-8x7b": (4096, 32, 8, 128, 14336),
}


def layer_of(preset: str, *names: str, **changes: Any) -> list[int]:
    """Return quantities of the first kind of layer of a preset, 1,024 tokens in bf16."""
    found = evaluate(compile_columns(witness("small", model=preset, **changes)), names)
    return [int(first_of(value)) for value in found.values()]


@pytest.mark.parametrize("preset", LISTED)
@pytest.mark.parametrize("ranks", [1, 4])
def test_operands_of_matrix_products_one_by_one(preset: str, ranks: int) -> None:
    """Every product reads its input and writes its output; split tensors are a rank's share."""
    hidden, heads, pairs, size, inner = LISTED[preset]
    gated = preset != "gpt-3-175b"
    query, pair = heads * size // ranks, pairs * size // ranks
    attention = in_tensors(
        hidden,  # input of queries, keys and values, whole on every rank
        query,
        pair,
        pair,
        query,  # weighted values, input of the output projection
        hidden,  # its output
    )
    expert = in_tensors(
        hidden,  # input
        inner // ranks,  # up
        inner // ranks if gated else 0,  # gate
        inner // ranks,  # input of down
        hidden,  # output
    )
    experts = 2 if preset == "mixtral-8x7b" else 1
    listed, parameters = layer_of(
        preset, "layer_matmul_bytes", "layer_gpu_parameters", plan__tensor_parallel_size=ranks
    )
    assert listed == 2 * parameters + 2 * 1024 * (attention + experts * expert)


@pytest.mark.parametrize("preset", LISTED)
@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(1, False), (4, False), (4, True)])
def test_elementwise_traffic_one_by_one(preset: str, ranks: int, sequence_parallel: bool) -> None:
    """Two norms, two residual additions, rotation of queries and keys, activation function."""
    hidden, heads, pairs, size, inner = LISTED[preset]
    learned = not_gated = preset == "gpt-3-175b"
    norm = in_tensors(hidden, hidden)  # read, written
    addition = in_tensors(hidden, hidden, hidden)  # both terms read, the sum written
    rotated = (heads + pairs) * size
    rotation = 0 if learned else in_tensors(rotated, rotated)
    # Gate and up are read where there is a gate, else one of them; their product is written.
    activation = in_tensors(inner, inner) if not_gated else in_tensors(inner, inner, inner)
    experts = 2 if preset == "mixtral-8x7b" else 1
    outside = 2 * norm + 2 * addition
    held = 1024 // ranks if sequence_parallel else 1024
    (listed,) = layer_of(
        preset,
        "layer_elementwise_bytes",
        plan__tensor_parallel_size=ranks,
        plan__sequence_parallel=sequence_parallel,
    )
    assert listed == 2 * (held * outside + 1024 * (rotation + experts * activation) // ranks)


HELD_WHOLE, SPLIT = 4096, 32 * 128
"""Elements of a token outside the split matrices of Llama 3.1 8B, and of all its query heads."""

BESIDE_THE_STANDARD: dict[str, tuple[dict[str, Any], int, int]] = {
    # What each operation reads and writes: elements for each token, whole and split.
    "query_key_norm": (
        {"model__query_key_norm": "head"},
        0,
        in_tensors(SPLIT, SPLIT) + in_tensors(8 * 128, 8 * 128),  # queries, keys: read, written
    ),
    "output_gate": (
        {"model__attention_output_gate": True},
        0,
        in_tensors(SPLIT, SPLIT, SPLIT),  # gate and weighted values read, their product written
    ),
    "norms": (
        {"model__norms_per_layer": 4},
        2 * in_tensors(HELD_WHOLE, HELD_WHOLE),  # two more, each reads and writes
        0,
    ),
    "no_rotation": (
        {"model__positions": "alibi"},
        0,
        -in_tensors(SPLIT, SPLIT) - in_tensors(8 * 128, 8 * 128),
    ),
    "sinks": ({"model__attention_sinks": True}, 0, 0),
}


@pytest.mark.parametrize("name", BESIDE_THE_STANDARD)
@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(1, False), (4, False), (4, True)])
def test_elementwise_traffic_beside_the_standard(
    name: str, ranks: int, sequence_parallel: bool
) -> None:
    changes, whole, split = BESIDE_THE_STANDARD[name]
    plan = {
        "plan__tensor_parallel_size": ranks,
        "plan__sequence_parallel": sequence_parallel,
    }
    plain, changed = (
        layer_of("llama-3.1-8b", "layer_elementwise_bytes", **plan, **fields)[0]
        for fields in ({}, changes)
    )
    held = 1024 // ranks if sequence_parallel else 1024
    assert changed - plain == 2 * (held * whole + 1024 * split // ranks)


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_gate_of_the_output_is_one_more_product(ranks: int) -> None:
    """Its weights, and its output; it reads the same input as the queries."""
    (plain, fewer), (gated, more) = (
        layer_of(
            "llama-3.1-8b",
            "layer_matmul_bytes",
            "layer_gpu_parameters",
            plan__tensor_parallel_size=ranks,
            model__attention_output_gate=gate,
        )
        for gate in (False, True)
    )
    assert more - fewer == 4096 * SPLIT // ranks
    assert gated - plain == 2 * (more - fewer) + 2 * 1024 * SPLIT // ranks


@pytest.mark.parametrize("ranks", [1, 4])
def test_shared_experts_dense_layers_and_the_width_of_experts(ranks: int) -> None:
    """Mixtral with experts of 1,408, shared ones of 2,816 together, and one layer without any."""
    scenario = witness(
        "mixture",
        plan__tensor_parallel_size=ranks,
        model__mixture__dense_layers=[0],
        model__mixture__expert_intermediate_size=1408,
        model__mixture__shared_intermediate_size=2816,
    )
    names = ("layer_matmul_bytes", "layer_gpu_parameters", "layer_elementwise_bytes")
    found = evaluate(compile_columns(scenario), names)
    products, parameters, traffic = (
        [int(np.ravel(kind)[0]) for kind in found[name]] for name in names
    )
    hidden, query, pair = 4096, 4096 // ranks, 1024 // ranks
    attention = in_tensors(hidden, query, pair, pair, query, hidden)

    def network(width: int) -> int:
        split = width // ranks
        # Input, gate, up, input of down, output.
        return in_tensors(hidden, split, split, split, hidden)

    inner = [network(14336), 2 * network(1408) + network(2816)]
    assert products == [
        2 * held + 2 * 1024 * (attention + more)
        for held, more in zip(parameters, inner, strict=True)
    ]
    # Two norms, two additions, rotation; gate and up read and their product written.
    outside = 2 * in_tensors(hidden, hidden) + 2 * in_tensors(hidden, hidden, hidden)
    rotation = in_tensors(query + pair, query + pair)
    widths = [14336 // ranks, (2 * 1408 + 2816) // ranks]
    assert traffic == [
        2 * 1024 * (outside + rotation + in_tensors(width, width, width)) for width in widths
    ]


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_naive_kernel_writes_and_reads_two_squares(ranks: int) -> None:
    """32 heads: scores written and read by the softmax, probabilities written and read; in bf16."""
    square = 1024 * 1024 * 32 // ranks
    passes = in_tensors(square, square, square, square)
    tensor = {"plan__tensor_parallel_size": ranks}
    naive, flash = (
        layer_of("llama-3.1-8b", "layer_score_bytes", plan__attention_kernel=kernel, **tensor)[0]
        for kernel in ("naive", "flash")
    )
    assert (naive, flash) == (2 * passes, 0)


def test_a_forward_is_products_then_attention_then_traffic() -> None:
    """3 s, 4 s, and 10 bytes at 2 byte/s."""
    forward_s = layer_forward_s(
        layer_matmul_s=3.0,
        layer_attention_s=4.0,
        layer_elementwise_bytes=10,
        memory_bytes_per_s=2.0,
        layer_adapter_s=0.5,
        layer_dequantization_s=0.25,
    )
    assert forward_s == 12.0 + 0.5 + 0.25


def test_a_backward_does_every_product_twice_and_moves_gradients_too() -> None:
    """Two products of 3 s; 20 FLOP at 4 FLOP/s; 6 + 10 bytes and as many of gradients at 2 byte/s."""
    for products, expected in ((2, 3 + 3), (1, 3)):
        backward_s = layer_backward_s(
            backward_product_count=products,
            layer_adapter_s=0.5,
            layer_dequantization_s=0.25,
            layer_matmul_s=3.0,
            layer_attention_backward_flop=20,
            attention_flop_per_s=4.0,
            layer_score_bytes=6,
            layer_elementwise_bytes=10,
            memory_bytes_per_s=2.0,
        )
        assert backward_s == expected + 5 + (8 + 8) + 2 * 0.5 + 0.25


def test_backward_of_a_layer_from_its_tensors() -> None:
    """The layer of width 1,024, bound by work: two products each, 2.5 times the pairs, twice 10 h."""
    tokens, width, inner = 4096, 1024, 4096
    weights = 4 * width**2 + 3 * width * inner
    traffic = 2 * tokens * (10 * width + 2 * 2 * width + 3 * inner)
    expected = (
        2 * (2 * tokens * weights / 0.5e15)
        + 2.5 * 4 * (tokens * (tokens + 1) / 2) * width / 0.25e15
        + 2 * traffic / 0.8e12
    )
    assert values("layer_backward_s") == pytest.approx([expected], rel=1e-12)


def test_selective_recomputation_repeats_attention_only() -> None:
    selective, attention = values(
        "layer_recompute_s", "layer_attention_s", plan__recompute="selective"
    )
    assert selective == attention > 0


def test_head_and_loss() -> None:
    """Bound by work; then fp32 logits are written, read for the maximum and read for the sum."""
    product_s, head_s = values("head_product_s", "head_forward_s")
    assert product_s == pytest.approx(2 * 4096 * 1024 * 1000 / 0.5e15, rel=1e-12)
    logits = 4 * 4096 * 1000
    assert head_s == pytest.approx(product_s + (logits + logits + logits) / 0.8e12, rel=1e-12)


def test_the_head_of_one_token_is_bound_by_reading_its_weights() -> None:
    (product_s,) = values("head_product_s", workload__sequence_length=1)
    assert product_s == pytest.approx(2 * 1024 * 1000 / 0.8e12, rel=1e-12)


def test_the_embedding_reads_rows_and_writes_them() -> None:
    row = 2 * 1024
    (embedding_s,) = values("embedding_forward_s")
    assert embedding_s == pytest.approx(4096 * (row + row) / 0.8e12, rel=1e-12)


def test_accumulation_reads_and_writes_fp32_gradients() -> None:
    """The sum so far is read and written; the new gradient is at hand in the product's output."""
    matrices = 4 * 1024**2 + 3 * 1024 * 4096
    parameters = matrices + 3 * 1024 + 2 * 1000 * 1024
    (accumulation_s,) = values("chunk_accumulation_s")
    assert accumulation_s == pytest.approx(parameters * (4 + 4) / 0.8e12, rel=1e-12)


def test_only_the_chunk_with_an_end_computes_it() -> None:
    """Layers of 10 s and 100 s, two and one of them; the embedding 1 s, the head 7 s, a depth 50 s."""
    for embedding, head, expected in ((0, 0, 120), (1, 0, 121), (0, 1, 127), (1, 2, 185)):
        forward_s = chunk_forward_compute_s(
            chunk_layer_count=[2, 1],
            layer_forward_s=[10.0, 100.0],
            chunk_embedding_passes=embedding,
            embedding_forward_s=1.0,
            chunk_head_passes=head,
            head_forward_s=7.0,
            chunk_prediction_count=max(head - 1, 0),
            prediction_forward_s=50.0,
        )
        assert forward_s == expected


def test_ends_take_twice_their_forward_in_the_backward() -> None:
    """Two layers of 20 s, one of 200 s, 3 s to add gradients; ends of 1 s and 7 s, doubled."""
    for embedding, head, ends in ((0, 0, 0), (1, 0, 1 + 1), (0, 1, 7 + 7), (1, 2, 130)):
        backward_s = chunk_backward_compute_s(
            chunk_layer_count=[2, 1],
            layer_backward_s=[20.0, 200.0],
            chunk_embedding_passes=embedding,
            embedding_forward_s=1.0,
            chunk_head_passes=head,
            head_forward_s=7.0,
            chunk_prediction_count=max(head - 1, 0),
            prediction_forward_s=50.0,
            chunk_accumulation_s=3.0,
            weights_are_frozen=0,
            head_product_s=7.0,
        )
        assert backward_s == 20 + 20 + 200 + ends + 3


def test_a_chunk_computes_again_what_its_layers_do() -> None:
    """A depth takes 50 s before its layer."""
    again_s = chunk_recompute_s(
        kind_repeated_layers=[2, 1],
        layer_recompute_s=[10.0, 100.0],
        chunk_prediction_repeated_count=2,
        prediction_forward_s=50.0,
    )
    assert again_s == 220


@pytest.mark.parametrize(
    ("precision", "element_bytes"),
    [
        # Gradient; main weights read and written; two moments read and written; weights written.
        ("bf16-mixed", 4 + (4 + 4) + 2 * (4 + 4) + 2),
        # No main weights: the weights themselves are read and written.
        ("fp32", 4 + 2 * (4 + 4) + (4 + 4)),
        ("bf16", 2 + 2 * (2 + 2) + (2 + 2)),
    ],
)
def test_optimizer_traffic_by_recipe(precision: str, element_bytes: int) -> None:
    changes = {"precision": precision, "cluster": "a100-80gb-sxm:1"}
    columns = compile_columns(witness("small", **changes))
    found = evaluate(columns, ["stage_optimizer_s", "stage_parameters", "memory_bytes_per_s"])
    parameters = int(found["stage_parameters"][0][0])
    expected = element_bytes * parameters / float(np.ravel(found["memory_bytes_per_s"])[0])
    assert float(found["stage_optimizer_s"][0][0]) == pytest.approx(expected, rel=1e-12)
