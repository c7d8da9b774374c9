"""Parameters, counted again from lists of matrices, and against published totals."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.attention.projections import softmax_matrix_parameters
from costmodels.compilation import compile_columns, compile_model
from costmodels.parameters.layers import expert_matrix_parameters, norm_parameters
from costmodels.parameters.stages import head_gpu_parameters, vocabulary_rows
from costmodels.scenario import Scenario
from costmodels.specs.layouts import (
    Chunked,
    Dense,
    Dilated,
    GatedDelta,
    Infini,
    Latent,
    Layout,
    Lightning,
    Sliding,
)
from costmodels.specs.model import Mixture, Model, Norm, Positions, QueryKeyNorm
from tests.costmodels.witnesses import witness

# Sum of the tensors of each published checkpoint, see validation/data/published_parameters.csv;
# GPT-3's from its architecture (no checkpoint is published), worked out in the test below.
TOTALS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "mixtral-8x7b": 46_702_792_704,
    "gpt-3-175b": 174_604_259_328,
}

Shapes = Iterator[tuple[int, ...]]


def quantities(scenario: Scenario, *names: str) -> list[int]:
    values = evaluate(compile_columns(scenario), names)
    return [int(values[name][0]) for name in names]


def counted(model: Model) -> list[int]:
    """Return total, active and multi-token prediction parameters by the closed forms."""
    names = ("total_parameters", "active_parameters", "multi_token_prediction_parameters")
    values = evaluate(compile_model(model), names)
    return [int(values[name][0]) for name in names]


# Tensors, as the modules of torch hold them: a linear map from n to m numbers has a weight of
# m rows and n columns, and a bias of m.


def linear(source: int, target: int, bias: bool = False) -> Shapes:
    yield (target, source)
    if bias:
        yield (target,)


def norm_of(kind: Norm, *shape: int) -> Shapes:
    yield shape
    if kind is Norm.LAYERNORM:
        yield shape


def mlp(model: Model, width: int) -> Shapes:
    for _ in range(2 if model.gated else 1):
        yield from linear(model.hidden_size, width, model.ffn_bias)
    yield from linear(width, model.hidden_size, model.ffn_bias)


def softmax_attention(model: Model, layout: Layout) -> Shapes:
    """Yield the tensors of attention with queries, keys and values of equal heads.

    The gate is part of the query projection, as in Qwen3_5Attention of transformers.
    """
    heads, shared, size = model.num_attention_heads, model.num_key_value_heads, model.head_size
    doubled = 2 if model.attention_output_gate else 1
    yield from linear(model.hidden_size, doubled * heads * size, model.attention_bias)
    yield from linear(model.hidden_size, shared * size, model.attention_bias)
    yield from linear(model.hidden_size, shared * size, model.attention_bias)
    yield from linear(heads * size, model.hidden_size, model.attention_output_bias)
    if model.query_key_norm is QueryKeyNorm.HEAD:
        yield from norm_of(model.norm, size)
        yield from norm_of(model.norm, size)
    elif model.query_key_norm is QueryKeyNorm.FULL:
        yield from norm_of(model.norm, heads, size)
        yield from norm_of(model.norm, shared, size)
    if model.attention_sinks:
        yield (heads,)
    if isinstance(layout, Infini):
        # The logit that mixes memory and segment, beta of each head.
        yield (heads,)


def latent_attention(model: Model, layout: Latent) -> Shapes:
    """Yield the tensors of DeepseekV3Attention of transformers, its norms RMSNorm."""
    hidden, heads, bias = model.hidden_size, model.num_attention_heads, model.attention_bias
    query = layout.unrotated_size + layout.rotated_size
    if layout.query_rank:
        yield from linear(hidden, layout.query_rank, bias)  # q_a_proj
        yield (layout.query_rank,)  # q_a_layernorm
        yield from linear(layout.query_rank, heads * query)  # q_b_proj
    else:
        yield from linear(hidden, heads * query)  # q_proj
    # kv_a_proj_with_mqa, kv_a_layernorm, kv_b_proj, o_proj
    yield from linear(hidden, layout.key_value_rank + layout.rotated_size, bias)
    yield (layout.key_value_rank,)
    expanded = heads * (layout.unrotated_size + layout.value_size)
    yield from linear(layout.key_value_rank, expanded)
    yield from linear(heads * layout.value_size, hidden, model.attention_output_bias)


def gated_delta_attention(model: Model, layout: GatedDelta) -> Shapes:
    """Yield the tensors of Qwen3_5GatedDeltaNet of transformers."""
    keys = layout.key_heads * layout.key_head_size
    values = layout.value_heads * layout.value_head_size
    yield from linear(model.hidden_size, 2 * keys + values)  # in_proj_qkv
    yield from linear(model.hidden_size, values)  # in_proj_z
    yield from linear(model.hidden_size, layout.value_heads)  # in_proj_b
    yield from linear(model.hidden_size, layout.value_heads)  # in_proj_a
    yield (2 * keys + values, 1, layout.convolution_width)  # conv1d, one group for each channel
    yield (layout.value_heads,)  # dt_bias
    yield (layout.value_heads,)  # A_log
    yield (layout.value_head_size,)  # norm
    yield from linear(values, model.hidden_size)  # out_proj


def lightning_attention(model: Model, layout: Lightning) -> Shapes:
    """Yield the tensors of MiniMaxLightningAttention of transformers; its decays are no parameters."""
    del layout
    width = model.num_attention_heads * model.head_size
    yield from linear(model.hidden_size, 3 * width)  # qkv_proj
    yield from linear(width, model.hidden_size)  # out_proj
    yield from linear(model.hidden_size, width)  # output_gate
    yield (width,)  # norm


ATTENTION: dict[type, Any] = {
    Latent: latent_attention,
    GatedDelta: gated_delta_attention,
    Lightning: lightning_attention,
}


def layer_shapes(model: Model, index: int, expert_count: int | None) -> Shapes:
    """Yield the tensors of one layer, with all of its experts or with so many."""
    layout = model.layouts[index % len(model.layouts)]
    yield from ATTENTION.get(type(layout), softmax_attention)(model, layout)
    for _ in range(model.norms_per_layer):
        yield from norm_of(model.norm, model.hidden_size)
    mixture = model.mixture
    if mixture is None or index in mixture.dense_layers:
        yield from mlp(model, model.intermediate_size)
        return
    yield from linear(model.hidden_size, mixture.expert_count, mixture.router_bias)
    for _ in range(mixture.expert_count if expert_count is None else expert_count):
        own = mixture.expert_intermediate_size
        yield from mlp(model, model.intermediate_size if own is None else own)
    if mixture.shared_intermediate_size:
        yield from mlp(model, mixture.shared_intermediate_size)
    if mixture.shared_gate:
        yield from linear(model.hidden_size, 1)


def tensor_shapes(model: Model, expert_count: int | None = None) -> Shapes:
    """Yield the shape of every tensor of a model, with all of its experts or with so many."""
    hidden = model.hidden_size
    yield (model.vocabulary_size, hidden)
    if model.positions is Positions.LEARNED:
        yield (model.max_position_embeddings + model.reserved_positions, hidden)
    if model.embedding_norm:
        yield from norm_of(model.norm, hidden)
    for index in range(model.num_hidden_layers):
        yield from layer_shapes(model, index, expert_count)
    yield from norm_of(model.norm, hidden)
    if not model.tied_embeddings:
        yield (model.vocabulary_size, hidden)
    if model.head_bias:
        yield (model.vocabulary_size,)


def predicted_shapes(model: Model) -> Shapes:
    """Yield the tensors of the modules that predict further tokens; embedding and head are shared.

    Each has two norms, a projection of both to one, a layer as the last of the model, and a norm.
    """
    for _ in range(model.multi_token_prediction_layers):
        yield from norm_of(model.norm, model.hidden_size)
        yield from norm_of(model.norm, model.hidden_size)
        yield from linear(2 * model.hidden_size, model.hidden_size)
        yield from layer_shapes(model, model.num_hidden_layers - 1, None)
        yield from norm_of(model.norm, model.hidden_size)


def elements(shapes: Shapes) -> int:
    return sum(map(prod, shapes))


@pytest.mark.parametrize("name", TOTALS)
def test_presets_have_their_published_parameters(name: str) -> None:
    assert quantities(witness("small", model=name), "total_parameters") == [TOTALS[name]]
    assert elements(tensor_shapes(witness("small", model=name).model)) == TOTALS[name]


def test_gpt_3_by_hand() -> None:
    """12 L h^2 (1 + 13 / (12 h) + (V + s) / (12 L h)), Narayanan et al. 2021, equation 2.

    The equation counts 13 h for the biases and norms of a layer; the final norm adds 2 h.
    """
    layers, hidden, vocabulary, length = 96, 12288, 50257, 2048
    stated = 12 * layers * hidden**2 + 13 * layers * hidden + (vocabulary + length) * hidden
    assert TOTALS["gpt-3-175b"] == stated + 2 * hidden


def test_deepseek_v3_by_hand() -> None:
    """671B in total, 37B active: DeepSeek-AI 2024, arXiv:2412.19437, section 4.2.

    The active ones round to that without the lookup of the embedding, 129280 x 7168.
    """
    latent = Latent(
        query_rank=1536, key_value_rank=512, unrotated_size=128, rotated_size=64, value_size=128
    )
    mixture = Mixture(
        expert_count=256,
        experts_per_token=8,
        expert_intermediate_size=2048,
        shared_intermediate_size=2048,
        dense_layers=(0, 1, 2),
    )
    model = a_model(
        num_hidden_layers=61,
        hidden_size=7168,
        num_attention_heads=128,
        num_key_value_heads=128,
        intermediate_size=18432,
        vocabulary_size=129280,
        gated=True,
        layouts=(latent,),
        mixture=mixture,
        multi_token_prediction_layers=1,
    )
    total, active, predicting = counted(model)
    assert round(total / 1e9) == 671
    assert round((active - 129280 * 7168) / 1e9) == 37
    # The layer that predicts a further token has experts; embedding and head are the model's.
    attention = 7168 * (1536 + 576) + 1536 * 24576 + 512 * 32768 + 16384 * 7168 + 1536 + 512
    experts = 257 * 3 * 7168 * 2048 + 256 * 7168
    assert predicting == attention + experts + 2 * 7168 + 2 * 7168**2 + 3 * 7168


def a_model(**fields: Any) -> Model:
    """Return a small model, some of its fields given."""
    small: dict[str, Any] = {
        "name": "small",
        "num_hidden_layers": 3,
        "hidden_size": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_size": 5,
        "intermediate_size": 7,
        "gated": False,
        "vocabulary_size": 11,
        "tied_embeddings": False,
        "norm": Norm.RMSNORM,
        "attention_bias": False,
        "attention_output_bias": False,
        "ffn_bias": False,
        "positions": Positions.ROTARY,
        "max_position_embeddings": 13,
    }
    return Model(**{**small, **fields})


booleans = st.booleans()
sizes = st.integers(1, 20)

softmax_layouts = (
    st.builds(Dense, causal=booleans)
    | st.builds(Sliding, window=sizes)
    | st.builds(Chunked, chunk_length=sizes)
    | st.just(Dilated(segment_lengths=(4, 8), dilation_rates=(1, 2)))
    | st.builds(Infini, segment_length=sizes)
)
layouts = (
    softmax_layouts
    | st.builds(
        Latent,
        query_rank=st.just(0) | sizes,
        key_value_rank=sizes,
        unrotated_size=sizes,
        rotated_size=sizes,
        value_size=sizes,
    )
    | st.builds(
        GatedDelta,
        key_heads=sizes,
        value_heads=sizes,
        key_head_size=sizes,
        value_head_size=sizes,
        convolution_width=sizes,
    )
    | st.builds(Lightning, block_length=sizes)
)


@st.composite
def mixtures(draw: st.DrawFn, layers: int) -> Mixture:
    count = draw(st.integers(2, 5))
    shared = draw(st.just(0) | sizes)
    # Some layer keeps its experts.
    dense = draw(st.sets(st.integers(0, layers - 1), max_size=layers - 1))
    return Mixture(
        expert_count=count,
        experts_per_token=draw(st.integers(1, count)),
        expert_intermediate_size=draw(st.none() | sizes),
        shared_intermediate_size=shared,
        shared_gate=draw(booleans) and shared > 0,
        router_bias=draw(booleans),
        dense_layers=tuple(sorted(dense)),
    )


@st.composite
def models(draw: st.DrawFn) -> Model:
    layers, shared = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    flags = (
        "gated",
        "tied_embeddings",
        "attention_bias",
        "attention_output_bias",
        "ffn_bias",
        "head_bias",
        "embedding_norm",
        "attention_sinks",
        "attention_output_gate",
        "parallel_residual",
    )
    return a_model(
        num_hidden_layers=layers,
        hidden_size=draw(sizes),
        num_attention_heads=shared * draw(st.integers(1, 4)),
        num_key_value_heads=shared,
        head_size=draw(sizes),
        intermediate_size=draw(sizes),
        vocabulary_size=draw(sizes),
        norm=draw(st.sampled_from(Norm)),
        positions=draw(st.sampled_from(Positions)),
        max_position_embeddings=draw(sizes),
        reserved_positions=draw(st.integers(0, 3)),
        norms_per_layer=draw(st.sampled_from([1, 2, 4])),
        query_key_norm=draw(st.sampled_from(QueryKeyNorm)),
        multi_token_prediction_layers=draw(st.integers(0, 2)),
        mixture=draw(st.none() | mixtures(layers)),
        layouts=tuple(draw(st.lists(layouts, min_size=1, max_size=min(layers, 3)))),
        **{flag: draw(booleans) for flag in flags},
    )


@given(models())
def test_any_model_has_the_elements_of_its_tensors(model: Model) -> None:
    total, active, predicting = counted(model)
    visited = model.mixture.experts_per_token if model.mixture else 1
    assert total == elements(tensor_shapes(model))
    assert active == elements(tensor_shapes(model, visited))
    assert predicting == elements(predicted_shapes(model))


@pytest.mark.parametrize(
    ("layout", "attention"),
    [
        # Queries and output of 4 heads, keys and values of 2, each 5 wide, from 12 and to 12.
        (Dense(), 2 * 12 * 20 + 2 * 12 * 10),
        (Sliding(window=3), 2 * 12 * 20 + 2 * 12 * 10),
        (Chunked(chunk_length=3), 2 * 12 * 20 + 2 * 12 * 10),
        (Dilated(segment_lengths=(4,), dilation_rates=(2,)), 2 * 12 * 20 + 2 * 12 * 10),
        (Infini(segment_length=3), 2 * 12 * 20 + 2 * 12 * 10 + 4),
        (Lightning(block_length=3), 5 * 12 * 20 + 20),
    ],
    ids=lambda value: None if isinstance(value, int) else type(value).__name__,
)
def test_attention_by_hand(layout: Layout, attention: int) -> None:
    columns = compile_model(a_model(layouts=(layout,)))
    parts = ("attention_matrix_parameters", "attention_vector_parameters")
    values = evaluate(columns, [*parts, "attention_whole_parameters"])
    assert sum(int(np.ravel(value)[0]) for value in values.values()) == attention


def replicated(model: Model) -> int:
    """Return the elements of one copy of what every tensor-parallel rank holds.

    Norms, the norms of one head, tables of positions, routers with what gates shared experts, and
    the biases of what is summed over ranks.
    """
    hidden, layers = model.hidden_size, model.num_hidden_layers
    one = elements(norm_of(model.norm, hidden))
    held = (model.norms_per_layer * layers + 1 + model.embedding_norm) * one
    if model.positions is Positions.LEARNED:
        held += (model.max_position_embeddings + model.reserved_positions) * hidden
    if model.query_key_norm is QueryKeyNorm.HEAD:
        held += 2 * layers * elements(norm_of(model.norm, model.head_size))
    held += layers * model.attention_output_bias * hidden
    if model.mixture is None:
        return held + layers * model.ffn_bias * hidden
    dense = len(model.mixture.dense_layers)
    networks = model.mixture.expert_count + (model.mixture.shared_intermediate_size > 0)
    router = (model.mixture.expert_count + model.mixture.shared_gate) * hidden
    router += model.mixture.router_bias * model.mixture.expert_count
    held += (layers - dense) * (router + networks * model.ffn_bias * hidden)
    return held + dense * model.ffn_bias * hidden


def held_by_all(scenario: Scenario) -> tuple[int, int]:
    """Return what all ranks and stages hold together, and the model's parameters."""
    values = evaluate(
        compile_columns(scenario), ["stage_parameters", "class_stage_count", "total_parameters"]
    )
    held = sum(
        int(count[0]) * scenario.plan.tensor_parallel_size * int(stage[0])
        for count, stage in zip(
            values["class_stage_count"], values["stage_parameters"], strict=True
        )
    )
    return held, int(values["total_parameters"][0])


@given(
    tensor=st.sampled_from([1, 2, 4, 8]),
    pipeline=st.integers(1, 34),
    tied=booleans,
)
def test_gpus_hold_the_model_once_and_replicated_parameters_on_every_rank(
    tensor: int, pipeline: int, tied: bool
) -> None:
    scenario = witness(
        "small",
        model__tied_embeddings=tied,
        plan__tensor_parallel_size=tensor,
        plan__pipeline_parallel_size=pipeline,
        cluster__accelerator_count=tensor * pipeline,
    )
    held, total = held_by_all(scenario)
    model = scenario.model
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    copied_head = tied and pipeline > 1
    head = model.vocabulary_size * model.hidden_size if copied_head else 0
    assert held == total + (tensor - 1) * norms + head


@given(
    tensor=st.sampled_from([1, 2, 4, 8]),
    pipeline=st.integers(1, 12),
    tied=booleans,
    flags=st.tuples(*[booleans] * 9),
    dense=st.sets(st.integers(0, 9), max_size=9),
    shared=st.sampled_from([0, 2816]),
    norm=st.sampled_from(Norm),
    queries=st.sampled_from(QueryKeyNorm),
    positions=st.sampled_from(Positions),
)
def test_gpus_hold_shared_experts_dense_layers_and_biases_once(
    tensor: int,
    pipeline: int,
    tied: bool,
    flags: tuple[bool, ...],
    dense: set[int],
    shared: int,
    norm: Norm,
    queries: QueryKeyNorm,
    positions: Positions,
) -> None:
    scenario = witness(
        "mixture",
        plan={"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline},
        cluster__accelerator_count=tensor * pipeline,
        model__num_hidden_layers=10,
        model__tied_embeddings=tied,
        model__norm=norm.value,
        model__query_key_norm=queries.value,
        model__positions=positions.value,
        model__reserved_positions=2,
        model__norms_per_layer=4 if flags[0] else 2,
        model__ffn_bias=flags[1],
        model__attention_bias=flags[2],
        model__attention_output_bias=flags[3],
        model__head_bias=flags[4],
        model__embedding_norm=flags[5],
        model__attention_output_gate=flags[6],
        model__attention_sinks=flags[7],
        model__mixture__expert_intermediate_size=1408,
        model__mixture__shared_intermediate_size=shared,
        model__mixture__shared_gate=flags[8] and shared > 0,
        model__mixture__router_bias=flags[8],
        model__mixture__dense_layers=sorted(dense),
    )
    model = scenario.model
    held, total = held_by_all(scenario)
    head = model.vocabulary_size * model.hidden_size if tied and pipeline > 1 else 0
    assert total == elements(tensor_shapes(model))
    assert held == total + (tensor - 1) * replicated(model) + head


def test_by_hand() -> None:
    assert softmax_matrix_parameters(12288, 96, 96, 128, 0) == 4 * 12288**2
    assert softmax_matrix_parameters(12288, 96, 96, 128, 1) == 5 * 12288**2
    assert expert_matrix_parameters(12288, 49152, 0) == 8 * 12288**2
    assert norm_parameters(7, 1) == 14


def test_a_tied_head_is_shared_on_one_rank_and_copied_on_two() -> None:
    sizes = {"vocabulary_rows": 10, "hidden_size": 3, "norm_parameters": 3, "head_bias": 0}
    assert head_gpu_parameters(**sizes, tied_embeddings=1, separate_ends_count=0) == 3
    assert head_gpu_parameters(**sizes, tied_embeddings=1, separate_ends_count=1) == 33
    assert head_gpu_parameters(**sizes, tied_embeddings=0, separate_ends_count=0) == 33
    biased = {**sizes, "head_bias": 1}
    assert head_gpu_parameters(**biased, tied_embeddings=1, separate_ends_count=0) == 13


@pytest.mark.parametrize("schedule", ["zb-v", "dualpipe-v", "interleaved-1f1b"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_rank_with_both_ends_holds_one_embedding(schedule: str, depth: int) -> None:
    """What V-shaped schedules hold more than the model, and sum, for tied or further tokens."""
    scenario = witness(
        "small",
        model__tied_embeddings=depth == 0,
        model__multi_token_prediction_layers=depth,
        cluster__accelerator_count=2,
        plan__pipeline_parallel_size=2,
        plan__virtual_stages=2,
        plan__schedule=schedule,
    )
    names = (
        "stage_parameters",
        "total_parameters",
        "multi_token_prediction_parameters",
        "embedding_copy_count",
        "tied_embedding_bytes",
    )
    found = evaluate(compile_columns(scenario), names)
    held = sum(int(stage[0]) for stage in found["stage_parameters"])
    model = found["total_parameters"] + found["multi_token_prediction_parameters"]
    copies = held - int(model[0])
    apart = schedule == "interleaved-1f1b"
    assert copies == apart * 128256 * 4096
    assert found["embedding_copy_count"][0] == apart
    assert (found["tied_embedding_bytes"][0][0] > 0) == apart


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_padded_rows_hold_the_vocabulary_and_less_than_a_row_too_many(rows: int, size: int) -> None:
    assert rows <= vocabulary_rows(rows, size) * size < rows + size
