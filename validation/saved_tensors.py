"""Activations by the closed forms, against what torch's autograd keeps of real modules, exactly.

Measured are the storages behind the tensors that saved-tensor hooks see between forward and
backward, each once, without parameters; in fp32, on a CPU, with the matrix of scores in memory:
the convention ``torch-eager-cpu``. Each layer, the head with its loss and the whole decoder run
without recomputation, with each layer computed again (`torch.utils.checkpoint`), with the inside of
attention computed again, and with each other module and all of them.

The state of random numbers that a checkpoint stores beside its inputs is no tensor of autograd; it
is not counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from costmodels.scenario import Scenario
from costmodels.specs.model import Model
from costmodels.specs.plan import Recompute, RecomputeModule
from costmodels.stages import layer_kinds
from validation.cases import Case
from validation.small_models import MODELS, predicted, scenario_of

SUITE = "tensors-saved"


class Compared(NamedTuple):
    """A prediction beside its measurement [byte]."""

    name: str
    claim: str
    prediction: int
    measurement: int


def saved_cases(models: Mapping[str, Mapping[str, Any]] = MODELS) -> list[Case]:
    """Return what is kept of each model's layers, head and whole, with every recomputation.

    Parameters
    ----------
    models : mapping of str to mapping
        Tables of models by name.

    Returns
    -------
    list of Case
        Needs torch.
    """
    from validation.torch_programs import counting

    return [
        Case(
            suite=SUITE,
            name=f"{name}: {pair.name}",
            claim=pair.claim,
            prediction=pair.prediction,
            measurement=pair.measurement,
            unit="byte",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"storages that saved-tensor hooks see, {counting.torch_version()}",
            source="validation/torch_programs/blocks.py, saving.py",
        )
        for name, table in models.items()
        for pair in compared(table)
    ]


def compared(table: Mapping[str, Any], *, batch: int = 2, length: int = 8) -> Iterator[Compared]:
    """Return what is kept of a model, with every recomputation.

    Parameters
    ----------
    table : mapping
        Table of the model.
    batch, length : int
        Sequences, and tokens of each [count].
    """
    from validation.torch_programs import saving

    for recompute in Recompute:
        scenario = _scenario(table, recompute, batch, length)
        yield from _layers_compared(scenario)
        said = predicted(scenario, ("chunk_activation_bytes",))["chunk_activation_bytes"]
        yield Compared(
            f"decoder, recompute {recompute.value}",
            "chunk_activation_bytes is what autograd keeps of a decoder and its loss",
            said[0][0],
            saving.decoder_bytes(scenario.model, batch, length, recompute),
        )
    for modules in module_lists(scenario.model):
        yield from _modules_compared(table, modules, batch, length)
    yield Compared(
        "head and loss",
        "head_saved_bytes is what autograd keeps of norm, head and loss",
        predicted(scenario, ("head_saved_bytes",))["head_saved_bytes"],
        saving.head_bytes(scenario.model, batch, length),
    )


def module_lists(model: Model) -> Iterator[tuple[RecomputeModule, ...]]:
    """Yield each module beside the usual one that a model has, alone, and all that go together."""
    kinds, layers = layer_kinds(model)
    experts = [layers[kind].has_experts for kind in kinds]
    modules = [RecomputeModule.LAYERNORM]
    if not all(experts):
        modules.append(RecomputeModule.MLP)
    if any(getattr(layout, "key_value_rank", 0) for layout in model.layouts):
        modules.append(RecomputeModule.MLA_UP_PROJ)
    ways: list[tuple[RecomputeModule, ...]] = []
    if any(experts):
        ways = [(RecomputeModule.MOE,), (RecomputeModule.MOE_ACT,)]
    if model.mixture is not None and model.mixture.shared_intermediate_size:
        ways += [(RecomputeModule.SHARED_EXPERTS,)]
        ways += [(RecomputeModule.SHARED_EXPERTS, RecomputeModule.MOE_ACT)]
    yield from ((module,) for module in modules)
    yield from ways
    for way in ways or [()]:
        yield (RecomputeModule.CORE_ATTN, *modules, *way)


def _modules_compared(
    table: Mapping[str, Any], modules: tuple[RecomputeModule, ...], batch: int, length: int
) -> Iterator[Compared]:
    """Yield what is kept of a model that computes some modules again."""
    from validation.torch_programs import saving

    scenario = _scenario(table, Recompute.SELECTIVE, batch, length, modules)
    yield from _layers_compared(scenario)
    yield Compared(
        f"decoder, recompute {', '.join(modules)}",
        "chunk_activation_bytes is what autograd keeps of a decoder and its loss",
        predicted(scenario, ("chunk_activation_bytes",))["chunk_activation_bytes"][0][0],
        saving.decoder_bytes(scenario.model, batch, length, Recompute.SELECTIVE, modules),
    )


_USUAL = (RecomputeModule.CORE_ATTN,)


def _scenario(
    table: Mapping[str, Any],
    recompute: Recompute,
    batch: int,
    length: int,
    modules: tuple[RecomputeModule, ...] = _USUAL,
) -> Scenario:
    return scenario_of(
        table,
        plan={
            "saved_tensors": "torch-eager-cpu",
            "recompute": recompute.value,
            "recompute_modules": list(modules),
            "micro_batch_size": batch,
        },
        workload={"sequence_length": length},
    )


def _layers_compared(scenario: Scenario) -> Iterator[Compared]:
    from validation.torch_programs import saving

    said = predicted(scenario, ("layer_stored_bytes",))["layer_stored_bytes"]
    kinds, _ = layer_kinds(scenario.model)
    plan, length = scenario.plan, scenario.workload.sequence_length
    for kind in range(max(kinds) + 1):
        layer = kinds.index(kind)
        kept = saving.block_bytes(
            scenario.model,
            layer,
            plan.micro_batch_size,
            length,
            plan.recompute,
            plan.recompute_modules,
        )
        usual = plan.recompute_modules == _USUAL
        yield Compared(
            f"layer {layer}, recompute "
            + (plan.recompute.value if usual else ", ".join(plan.recompute_modules)),
            "layer_stored_bytes is what autograd keeps of a layer, its input included",
            said[kind],
            kept,
        )
