"""Parameters, counted again from lists of matrices, and against published totals."""

from collections.abc import Iterator
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
from costmodels.attention.projections import softmax_matrix_parameters
from costmodels.compilation import compile_columns
from costmodels.parameters import (
    expert_matrix_parameters,
    head_gpu_parameters,
    norm_parameters,
    vocabulary_rows,
)
from costmodels.scenario import Scenario
from costmodels.specs.model import Model, Norm, Positions
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


def quantities(scenario: Scenario, *names: str) -> list[int]:
    values = evaluate(compile_columns(scenario), names)
    return [int(values[name][0]) for name in names]


def tensor_shapes(model: Model, expert_count: int) -> Iterator[tuple[int, ...]]:
    """Yield the shape of every tensor of a model with so many of its experts."""
    hidden, inner = model.hidden_size, model.intermediate_size
    queries = model.num_attention_heads * model.head_size
    keys = model.num_key_value_heads * model.head_size
    norm = [(hidden,)] * (2 if model.norm is Norm.LAYERNORM else 1)
    yield (model.vocabulary_size, hidden)
    if model.positions is Positions.LEARNED:
        yield (model.max_position_embeddings, hidden)
    for _ in range(model.num_hidden_layers):
        yield from norm
        for width in (queries, keys, keys):
            yield (width, hidden)
            if model.attention_bias:
                yield (width,)
        yield (hidden, queries)
        if model.attention_output_bias:
            yield (hidden,)
        yield from norm
        if model.mixture:
            yield (model.mixture.expert_count, hidden)
        for _ in range(expert_count):
            for _ in range(2 if model.gated else 1):
                yield (inner, hidden)
                if model.ffn_bias:
                    yield (inner,)
            yield (hidden, inner)
            if model.ffn_bias:
                yield (hidden,)
    yield from norm
    if not model.tied_embeddings:
        yield (model.vocabulary_size, hidden)


@pytest.mark.parametrize("name", TOTALS)
def test_presets_have_their_published_parameters(name: str) -> None:
    assert quantities(witness("small", model=name), "total_parameters") == [TOTALS[name]]


def test_gpt_3_by_hand() -> None:
    """12 L h^2 (1 + 13 / (12 h) + (V + s) / (12 L h)), Narayanan et al. 2021, equation 2.

    The equation counts 13 h for the biases and norms of a layer; the final norm adds 2 h.
    """
    layers, hidden, vocabulary, length = 96, 12288, 50257, 2048
    stated = 12 * layers * hidden**2 + 13 * layers * hidden + (vocabulary + length) * hidden
    assert TOTALS["gpt-3-175b"] == stated + 2 * hidden


booleans = st.booleans()


@given(
    heads=st.integers(1, 4),
    groups=st.integers(1, 4),
    sizes=st.tuples(*[st.integers(1, 20)] * 5),
    flags=st.tuples(*[booleans] * 5),
    mixture=st.none() | st.integers(2, 5),
    norm=st.sampled_from(Norm),
    positions=st.sampled_from(Positions),
)
def test_any_model_has_the_elements_of_its_tensors(
    heads: int,
    groups: int,
    sizes: tuple[int, ...],
    flags: tuple[bool, ...],
    mixture: int | None,
    norm: Norm,
    positions: Positions,
) -> None:
    layers, hidden, head, inner, vocabulary = sizes
    scenario = witness(
        "small",
        model__num_hidden_layers=layers,
        model__hidden_size=hidden,
        model__num_attention_heads=heads * groups,
        model__num_key_value_heads=heads,
        model__head_size=head,
        model__intermediate_size=inner,
        model__vocabulary_size=vocabulary,
        model__gated=flags[0],
        model__tied_embeddings=flags[1],
        model__attention_bias=flags[2],
        model__attention_output_bias=flags[3],
        model__ffn_bias=flags[4],
        model__norm=norm.value,
        model__positions=positions.value,
        model__mixture=mixture and {"expert_count": mixture, "experts_per_token": 1},
    )
    total, active = quantities(scenario, "total_parameters", "active_parameters")
    assert total == sum(map(prod, tensor_shapes(scenario.model, mixture or 1)))
    assert active == sum(map(prod, tensor_shapes(scenario.model, 1)))


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
    values = evaluate(
        compile_columns(scenario), ["stage_parameters", "class_stage_count", "total_parameters"]
    )
    held = sum(
        int(count[0]) * tensor * int(stage[0])
        for count, stage in zip(
            values["class_stage_count"], values["stage_parameters"], strict=True
        )
    )
    model = scenario.model
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    copied_head = tied and pipeline > 1
    head = model.vocabulary_size * model.hidden_size if copied_head else 0
    assert held == int(values["total_parameters"][0]) + (tensor - 1) * norms + head


def test_by_hand() -> None:
    assert softmax_matrix_parameters(12288, 96, 96, 128, 0) == 4 * 12288**2
    assert expert_matrix_parameters(12288, 49152, 0) == 8 * 12288**2
    assert norm_parameters(7, 1) == 14


def test_a_tied_head_is_shared_on_one_stage_and_copied_on_two() -> None:
    sizes = {"vocabulary_rows": 10, "hidden_size": 3, "norm_parameters": 3, "head_bias": 0}
    assert head_gpu_parameters(**sizes, tied_embeddings=1, pipeline_parallel_size=1) == 3
    assert head_gpu_parameters(**sizes, tied_embeddings=1, pipeline_parallel_size=2) == 33
    assert head_gpu_parameters(**sizes, tied_embeddings=0, pipeline_parallel_size=1) == 33


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_padded_rows_hold_the_vocabulary_and_less_than_a_row_too_many(rows: int, size: int) -> None:
    assert rows <= vocabulary_rows(rows, size) * size < rows + size
