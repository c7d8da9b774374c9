"""Work by the closed forms, against what torch's counter sees of real modules, exactly.

Weights and scores are told apart by the operator: a weight multiplies in `mm` or `addmm`, a head
in `bmm`. Every model of `validation.small_models` runs forward and backward; layers of some presets
do so in full size on torch's meta device, where operators have shapes and no values.

Recomputation has two conventions in torch. The closed forms count a layer, or the core of
attention, that is computed again as a whole, as Megatron-LM's checkpoint and torch's reentrant one
do. Torch's non-reentrant checkpoint stops by default at the last tensor that the backward needs,
and so leaves out the last product where nothing behind it keeps its output; that is a case of its
own.
"""

from collections.abc import Iterator, Mapping
from operator import mul
from types import MappingProxyType
from typing import Any, NamedTuple

from costmodels.scenario import Scenario
from costmodels.specs.plan import Recompute, RecomputeModule
from costmodels.stages import layer_kinds
from validation.cases import Case
from validation.saved_tensors import module_lists
from validation.small_models import MODELS, predicted, scenario_of

SUITE = "flop-counted"

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gpt-3-175b": {},
        "llama-3.1-8b": {},
        "mixtral-8x7b": {},
        "qwen3-30b-a3b": {},
        "deepseek-v3": {},
        "gpt-oss-20b": {},
        "gemma-2-27b": {},
        "qwen3.5-27b": {},
        "infini-transformer": {},
        "compressive-transformer": {},
        "notes-dilated": {},
    }
)
"""Presets whose layers run in full size, with the fields that differ."""

TOKENS, SHORT = 2048, MappingProxyType({"qwen3.5-27b": 512})
"""Tokens of their sequences; fewer where a scan takes a step of the program for each [token]."""

_LAYER = ("layer_matmul_flop", "layer_attention_flop", "layer_attention_backward_flop")
_SOURCE = "validation/torch_programs/blocks.py"


class Compared(NamedTuple):
    """A prediction beside its measurement [FLOP]."""

    name: str
    claim: str
    prediction: int
    measurement: int


def flop_cases(
    models: Mapping[str, Mapping[str, Any]] = MODELS, *, device: str = "cpu"
) -> list[Case]:
    """Return the work of each model, without recomputation and with every kind of it.

    Parameters
    ----------
    models : mapping of str to mapping
        Tables of models by name.
    device : str
        Where the modules run: ``cpu``, ``cuda``, or ``meta``, which has shapes and no values.

    Returns
    -------
    list of Case
        Layers, head, whole passes, recomputation. Needs torch.
    """
    return [
        _case(name, pair)
        for name, table in models.items()
        for pair in compared(table, device=device)
    ]


def preset_cases() -> list[Case]:
    """Return the work of the layers of presets in full size, on one sequence of `TOKENS` or `SHORT`.

    Returns
    -------
    list of Case
        Each kind of layer of each model of `PRESETS`. Needs torch.
    """
    return [
        _case(name, pair)
        for name, changes in PRESETS.items()
        for pair in layers_compared(_full_size({"preset": name, **changes}), device="meta")
    ]


def _full_size(model: Mapping[str, Any]) -> Scenario:
    length = SHORT.get(model["preset"], TOKENS)
    return scenario_of(model, plan={"micro_batch_size": 1}, workload={"sequence_length": length})


def compared(table: Mapping[str, Any], *, device: str = "cpu") -> Iterator[Compared]:
    """Return all predictions of a model beside their measurements.

    Parameters
    ----------
    table : mapping
        Table of the model.
    device : str
        Where the modules run: ``cpu``, ``cuda``, or ``meta``, which has shapes and no values.
    """
    plain = scenario_of(table)
    yield from layers_compared(plain, device=device)
    yield from head_compared(plain, device=device)
    yield from model_compared(plain, device=device)
    for recompute in (Recompute.FULL, Recompute.SELECTIVE):
        changed = scenario_of(table, plan={"recompute": recompute.value})
        yield from recompute_compared(changed, device=device)
    for modules in module_lists(plain.model):
        yield from modules_compared(table, modules, device=device)


def layers_compared(scenario: Scenario, *, device: str = "cpu") -> Iterator[Compared]:
    """Return the work of every kind of layer, weights and scores apart.

    Parameters
    ----------
    scenario : Scenario
        Of one process, with a naive kernel.
    device : str
        Where the layers run: ``meta`` for large ones.
    """
    from validation.torch_programs import counting

    said = predicted(scenario, _LAYER)
    kinds, _ = layer_kinds(scenario.model)
    for kind in range(max(kinds) + 1):
        layer, shape = kinds.index(kind), _shape(scenario)
        passes = counting.block_passes(scenario.model, layer, *shape, device=device)
        matmul, scores, scores_back = (said[name][kind] for name in _LAYER)
        yield from (
            Compared(
                f"kind {kind}, weights forward",
                "layer_matmul_flop is the forward work of a layer's weights",
                matmul,
                passes.forward.weights,
            ),
            Compared(
                f"kind {kind}, scores forward",
                "layer_attention_flop is the forward work of a layer's heads",
                scores,
                passes.forward.scores,
            ),
            Compared(
                f"kind {kind}, weights backward",
                "the backward of a layer's weights is twice layer_matmul_flop",
                2 * matmul,
                passes.backward.weights,
            ),
            Compared(
                f"kind {kind}, scores backward",
                "layer_attention_backward_flop is the backward work of a layer's heads",
                scores_back,
                passes.backward.scores,
            ),
        )


def head_compared(scenario: Scenario, *, device: str = "cpu") -> Iterator[Compared]:
    """Return the work of final norm and head, of a scenario as `layers_compared` takes it."""
    from validation.torch_programs import counting

    said = predicted(scenario, ("head_flop",))["head_flop"]
    passes = counting.head_passes(scenario.model, *_shape(scenario), device=device)
    yield from (
        Compared(
            "head forward",
            "head_flop is the forward work of the head",
            said,
            passes.forward.total,
        ),
        Compared(
            "head backward",
            "the backward of the head is twice head_flop",
            2 * said,
            passes.backward.total,
        ),
    )


def model_compared(scenario: Scenario, *, device: str = "cpu") -> Iterator[Compared]:
    """Return the work of a whole model with its loss, of a scenario as `layers_compared` takes it."""
    from validation.torch_programs import counting

    said = predicted(scenario, ("chunk_forward_flop", "chunk_backward_flop"))
    passes = counting.decoder_passes(scenario.model, *_shape(scenario), device=device)
    yield from (
        Compared(
            "model forward",
            "chunk_forward_flop is the forward work of a model in one chunk",
            said["chunk_forward_flop"][0][0],
            passes.forward.total,
        ),
        Compared(
            "model backward",
            "chunk_backward_flop is the backward work of a model in one chunk",
            said["chunk_backward_flop"][0][0],
            passes.backward.total,
        ),
    )


def recompute_compared(scenario: Scenario, *, device: str = "cpu") -> Iterator[Compared]:
    """Return the backward of a model that computes layers or scores again.

    Parameters
    ----------
    scenario : Scenario
        Of one process, with a naive kernel and full or selective recomputation.

    Yields
    ------
    Compared
        The whole backward; what it has more than one that keeps everything; and what torch leaves out of that when it
        stops early.
    """
    from validation.torch_programs import counting

    model, recompute = scenario.model, scenario.plan.recompute
    names = ("layer_recompute_flop", "chunk_backward_flop", "stage_layer_count")
    said = predicted(scenario, (*names, "chunk_prediction_recompute_flop"))
    repeated = sum(map(mul, said["stage_layer_count"][0], said["layer_recompute_flop"]))
    repeated += said["chunk_prediction_recompute_flop"][0][0]
    none, again, early = (
        counting.decoder_passes(
            model, *_shape(scenario), kind, early_stop=stop, device=device
        ).backward.total
        for kind, stop in ((Recompute.NONE, False), (recompute, False), (recompute, True))
    )
    yield from (
        Compared(
            f"model backward, recompute {recompute.value}",
            "chunk_backward_flop is the backward work of a model that computes again",
            said["chunk_backward_flop"][0][0],
            again,
        ),
        Compared(
            f"repeated, recompute {recompute.value}",
            "layer_recompute_flop is what the backward of a layer has more than without it",
            repeated,
            again - none,
        ),
        Compared(
            f"left out by an early stop, recompute {recompute.value}",
            "torch's early stop leaves out the last product where nothing keeps its output",
            _last_products(scenario),
            again - early,
        ),
    )


def modules_compared(
    table: Mapping[str, Any],
    modules: tuple[RecomputeModule, ...],
    shape: tuple[int, int] = (2, 8),
    *,
    device: str = "cpu",
) -> Iterator[Compared]:
    """Return the backward of a model that computes modules of its layers again.

    Parameters
    ----------
    table : mapping
        Table of the model.
    modules : tuple of RecomputeModule
        Which ones.
    shape : tuple of int
        Sequences, and tokens of each [count].
    device : str
        Where it runs; not ``meta``, where nothing can be given up.
    """
    from validation.torch_programs import counting

    batch, length = shape
    again = {"recompute": "selective", "recompute_modules": [module.value for module in modules]}
    scenario = scenario_of(
        table,
        plan={"micro_batch_size": batch, **again},
        workload={"sequence_length": length},
    )
    name = "chunk_backward_flop"
    yield Compared(
        f"model backward, recompute {', '.join(modules)}",
        "chunk_backward_flop is the backward work of a model that computes modules again",
        predicted(scenario, (name,))[name][0][0],
        counting.decoder_passes(
            scenario.model, *shape, Recompute.SELECTIVE, modules=modules, device=device
        ).backward.total,
    )


def _shape(scenario: Scenario) -> tuple[int, int]:
    """Return the sequences of a microbatch, and the tokens of each."""
    return scenario.plan.micro_batch_size, scenario.workload.sequence_length


def _last_products(scenario: Scenario) -> int:
    """Return the work of the last product of every part that is computed again [FLOP].

    Selective: the weighted values, in every layer. Full: the last projection of a feed-forward
    network or of shared experts without a gate. A norm behind it, the weights of a mixture's
    experts, and the gate of shared experts keep its output.
    """
    selective = scenario.plan.recompute is Recompute.SELECTIVE
    layers = list(range(scenario.model.num_hidden_layers))
    layers += layers[-1:] * scenario.model.multi_token_prediction_layers
    return sum(
        _weighted_values(scenario, layer) if selective else _last_projection(scenario, layer)
        for layer in layers
    )


def _weighted_values(scenario: Scenario, layer: int) -> int:
    """Return the work of probabilities times values in a layer [FLOP]."""
    model, (batch, length) = scenario.model, _shape(scenario)
    layout = model.layouts[layer % len(model.layouts)]
    width = getattr(layout, "value_size", model.head_size)
    return int(2 * batch * length * length * model.num_attention_heads * width)


def _last_projection(scenario: Scenario, layer: int) -> int:
    """Return the work of a layer's last projection, zero where its output is kept [FLOP]."""
    model = scenario.model
    width = model.intermediate_size
    if model.mixture is not None and model.has_experts(layer):
        width = 0 if model.mixture.shared_gate else model.mixture.shared_intermediate_size
    if model.norms_per_layer == 4:
        width = 0
    batch, length = _shape(scenario)
    return 2 * batch * length * width * model.hidden_size


def _case(model: str, pair: Compared) -> Case:
    from validation.torch_programs import counting

    return Case(
        suite=SUITE,
        name=f"{model}: {pair.name}",
        claim=pair.claim,
        prediction=pair.prediction,
        measurement=pair.measurement,
        unit="FLOP",
        tolerance_fraction=0,
        tolerance_reason="both count the same products",
        method=f"torch.utils.flop_counter.FlopCounterMode, {counting.torch_version()}",
        source=_SOURCE,
    )
