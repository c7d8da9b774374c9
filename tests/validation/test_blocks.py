"""The blocks are the decoders that their description names, and have its parameters."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from costmodels.specs.layouts import LAYOUTS, type_of
from tests.validation.shapes import KINDS, LAID_OUT, tables
from validation.cases import Case, passed
from validation.module_parameters import parameter_cases, parameters_compared
from validation.small_models import MODELS, model_table, scenario_of

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = pytest.mark.torch


def model_of(name: str) -> Any:
    return scenario_of(MODELS[name]).model


@pytest.fixture
def seeded() -> Iterator[None]:
    from validation.torch_programs.counting import one_thread

    torch.manual_seed(1)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return parameter_cases()


@pytest.mark.parametrize("name", MODELS)
def test_every_module_has_the_parameters_of_its_kind(cases: list[Case], name: str) -> None:
    own = [case for case in cases if case.name.startswith(f"{name}: ")]
    assert len(own) >= 2
    assert all(case.tolerance_fraction == 0 for case in own)
    assert [case for case in own if not passed(case)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *LAID_OUT])
def test_models_of_any_shape_have_their_parameters(kind: str) -> None:
    @settings(max_examples=100 if kind in KINDS else 20)
    @given(tables(kind))
    def compare(table: dict[str, Any]) -> None:
        for part, _, prediction, measurement in parameters_compared(scenario_of(table)):
            assert prediction == measurement, part

    compare()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("seeded")
def test_a_model_learns_and_every_parameter_has_a_gradient(name: str) -> None:
    from validation.torch_programs.blocks import Decoder

    decoder = Decoder(model_of(name))
    tokens = torch.randint(51, (2, 8))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = decoder(tokens, tokens)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    without = [key for key, value in decoder.named_parameters() if value.grad is None]
    assert without == []


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"dense without a mask"}))
@pytest.mark.usefixtures("seeded")
def test_no_token_sees_its_future(name: str) -> None:
    from validation.torch_programs.blocks import Block

    block = Block(model_of(name), 0)
    hidden = torch.randn(1, 8, 24)
    other = hidden.clone()
    other[:, 5:] += 1
    torch.testing.assert_close(block(hidden)[:, :5], block(other)[:, :5])
    assert not torch.allclose(block(hidden)[:, 5:], block(other)[:, 5:])


@pytest.mark.usefixtures("seeded")
def test_without_a_mask_the_first_token_sees_the_last() -> None:
    from validation.torch_programs.blocks import Block

    block = Block(model_of("dense without a mask"), 0)
    hidden = torch.randn(1, 8, 24)
    other = hidden.clone()
    other[:, 7:] += 1
    assert not torch.allclose(block(hidden)[:, 0], block(other)[:, 0])


@pytest.mark.usefixtures("seeded")
def test_scores_of_rotated_vectors_depend_on_distance_only() -> None:
    from validation.torch_programs.attention_modules import rotated

    query, key = (torch.randn(7).expand(6, 7) for _ in range(2))
    scores = rotated(query) @ rotated(key).T
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert not torch.allclose(scores[0], scores[1])


def test_a_sink_takes_part_of_the_attention_and_gives_nothing() -> None:
    from validation.torch_programs.attention_modules import attention_core

    heads = torch.zeros(1, 2, 3, 4)
    sinks = torch.zeros(2)
    out = attention_core(heads, heads, torch.ones_like(heads), sinks, causal=False)
    torch.testing.assert_close(out, torch.full_like(out, 3 / 4))


@pytest.mark.parametrize(("tokens", "visits"), [(5, [2] * 5), (7, [3, 3, 3, 3, 2])])
def test_experts_get_as_many_tokens_up_to_one(tokens: int, visits: list[int]) -> None:
    from validation.torch_programs.blocks import Block

    block = Block(model_of("mixture"), 0)
    seen: list[int] = []
    for expert in block.ffn.experts:  # type: ignore[union-attr]
        expert.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    block(torch.ones(1, tokens, 24))
    assert seen == visits
    assert sum(seen) == 2 * tokens


def test_only_some_layers_of_a_mixture_have_experts() -> None:
    from validation.torch_programs.blocks import Decoder, Experts

    decoder = Decoder(model_of("shared experts"))
    assert [isinstance(layer.ffn, Experts) for layer in decoder.layers] == [False, True, True]


@pytest.mark.parametrize("recompute", ["full", "selective"])
@pytest.mark.usefixtures("seeded")
def test_recomputation_changes_no_gradient(recompute: str) -> None:
    from costmodels.specs.plan import Recompute
    from validation.torch_programs.blocks import Decoder

    model, tokens = model_of("grouped queries"), torch.randint(51, (2, 8))
    plain, again = Decoder(model), Decoder(model, Recompute(recompute))
    again.load_state_dict(plain.state_dict())
    for decoder in (plain, again):
        decoder(tokens, tokens).backward()
    gradients = zip(plain.parameters(), again.parameters(), strict=True)
    for one, other in gradients:
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


def test_another_width_would_be_noticed() -> None:
    *_, (_, _, prediction, counted) = parameters_compared(scenario_of(model_table()))
    *_, (_, _, _, wider) = parameters_compared(scenario_of(model_table(intermediate_size=41)))
    assert counted == prediction
    assert wider - counted == 2 * 2 * 24


MODULES = {
    "dense": "Attention",
    "latent": "LatentAttention",
    **dict.fromkeys(("sliding", "chunked", "dilated", "dilated-heads"), "LaidOutAttention"),
    **dict.fromkeys(("infini", "linear"), "LaidOutAttention"),
    "compressive": "CompressiveAttention",
    "gated-delta": "GatedDeltaAttention",
    "lightning": "LightningAttention",
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_layout_has_a_module(kind: str) -> None:
    """Drawn models, which closed forms are compared with, leave no layout out."""
    from validation.torch_programs.blocks import Block

    assert kind in (*KINDS, *LAID_OUT)

    @settings(max_examples=5)
    @given(tables(kind))
    def check(table: dict[str, Any]) -> None:
        model = scenario_of(table).model
        assert type_of(model.layouts[0]) == kind
        assert type(Block(model, 0).attention).__name__ == MODULES[kind]

    check()
