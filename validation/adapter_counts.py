"""Training of low-rank adapters by the closed forms, against programs whose projections have them.

Parameters, memory of weights, gradients and moments, work of both passes as torch's counter sees it,
and the tensors that autograd keeps: of small models in fp32 with several sets of projections, and
the work of a model in full size on the meta device. Gradients flow to the output of the embedding.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from costmodels.scenario import Scenario, scenario_from_table
from costmodels.specs.plan import Recompute
from costmodels.specs.precision import Adapters
from validation.cases import Case
from validation.small_models import MODELS, predicted

SUITE = "adapters-counted"

TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "query and value": ("query", "value"),
        "output": ("output",),
        "up and down": ("up", "down"),
        "all but the gate": ("query", "key", "value", "output", "up", "down"),
        "all": ("query", "key", "value", "output", "gate", "up", "down"),
    }
)
"""Sets of projections with adapters."""

_MODELS = (
    "dense",
    "gated",
    "grouped queries",
    "heads wider than the stream",
    "normalized queries",
    "four norms",
    "side by side, one norm",
    "side by side, two norms",
)
_RANK, _BATCH, _LENGTH = 3, 2, 8
_SOURCE = "validation/torch_programs/adapters.py"


class Compared(NamedTuple):
    """A prediction beside its measurement."""

    name: str
    claim: str
    prediction: int
    measurement: int
    unit: str = "byte"


def adapter_cases() -> list[Case]:
    """Return every model with every set of projections that it has, and a model in full size.

    Returns
    -------
    list of Case
        Needs torch.
    """
    from validation.torch_programs import counting

    pairs = [pair for name, targets in settings() for pair in compared(name, targets)]
    return [
        Case(
            suite=SUITE,
            name=pair.name,
            claim=pair.claim,
            prediction=pair.prediction,
            measurement=pair.measurement,
            unit=pair.unit,
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"elements, storages and FlopCounterMode, {counting.torch_version()}",
            source=_SOURCE,
        )
        for pair in (*pairs, *full_size_compared(), mixed_compared())
    ]


def settings() -> Iterator[tuple[str, str]]:
    """Return each small model with each set of projections that it has, by their names."""
    for name in _MODELS:
        for chosen, targets in TARGETS.items():
            if "gate" not in targets or MODELS[name]["gated"]:
                yield name, chosen


def scenario(
    table: Mapping[str, Any],
    targets: tuple[str, ...],
    *,
    recompute: Recompute = Recompute.NONE,
    optimizer: str = "adam",
) -> Scenario:
    """Return the scenario of a small model with adapters, in fp32 on one process of a CPU."""
    return scenario_from_table(
        {
            "model": dict(table),
            "cluster": "cpu:1",
            "precision": {
                "preset": "fp32",
                "adapters": {"rank": _RANK, "targets": list(targets)},
            },
            "plan": {
                "micro_batch_size": _BATCH,
                "attention_kernel": "naive",
                "saved_tensors": "torch-eager-cpu",
                "recompute": recompute.value,
            },
            "workload": {
                "global_batch_size": _BATCH,
                "sequence_length": _LENGTH,
                "optimizer": optimizer,
            },
        }
    )


def compared(name: str, chosen: str) -> Iterator[Compared]:
    """Return everything that is counted of a small model with adapters.

    Parameters
    ----------
    name : str
        Of the model.
    chosen : str
        Of its projections with adapters.
    """
    where, table, targets = f"{name}, {chosen}", MODELS[name], TARGETS[chosen]
    shapes = ("adafactor", "sgd-momentum") if chosen == "all but the gate" else ()
    for optimizer in ("adam", *shapes):
        yield from _states_compared(where, table, targets, optimizer)
    for recompute in Recompute:
        yield from _passes_compared(where, scenario(table, targets, recompute=recompute))


def _states_compared(
    where: str, table: Mapping[str, Any], targets: tuple[str, ...], optimizer: str
) -> Iterator[Compared]:
    from validation.torch_programs import adapters

    names = ("trained_parameters", "weights_bytes", "gradients_bytes", "optimizer_bytes")
    described = scenario(table, targets, optimizer=optimizer)
    said = predicted(described, names)
    kept = adapters.step(described.model, _adapters(described), optimizer, _BATCH, _LENGTH)
    place = f"{where}, {optimizer}"
    yield Compared(
        f"{place}: trained parameters",
        "trained_parameters is what has gradients: rank x (inputs + outputs) of each projection",
        said["trained_parameters"],
        kept.trained,
        "parameter",
    )
    parts = zip(names[1:], (kept.weights, kept.gradients, kept.moments), strict=True)
    for quantity, measured in parts:
        claim = f"{quantity} is the memory of a process that trains adapters"
        yield Compared(f"{place}: {quantity}", claim, said[quantity][0], measured)


def _passes_compared(where: str, described: Scenario) -> Iterator[Compared]:
    from validation.torch_programs import adapters

    model, recompute, given = described.model, described.plan.recompute, _adapters(described)
    names = ("chunk_forward_flop", "chunk_backward_flop", "chunk_activation_bytes")
    said = predicted(described, (*names, "layer_activation_bytes"))
    done = adapters.decoder_passes(model, given, _BATCH, _LENGTH, recompute)
    place = f"{where}, recompute {recompute.value}"
    for quantity, measured in zip(names, (done.forward, done.backward), strict=False):
        yield Compared(
            f"{place}: {quantity}",
            f"{quantity} is the work of frozen projections with adapters",
            said[quantity][0][0],
            measured.total,
            "FLOP",
        )
    yield Compared(
        f"{place}: kept",
        "chunk_activation_bytes is what autograd keeps of a frozen decoder with adapters",
        said["chunk_activation_bytes"][0][0],
        adapters.decoder_bytes(model, given, _BATCH, _LENGTH, recompute),
    )
    if recompute is Recompute.NONE:
        yield Compared(
            f"{where}: kept of a layer",
            "layer_activation_bytes is what autograd keeps of a frozen layer with adapters",
            said["layer_activation_bytes"][0],
            adapters.layer_bytes(model, given, _BATCH, _LENGTH),
        )


def full_size_compared() -> Iterator[Compared]:
    """Return the work of Llama 3.1 8B with the adapters of the presets, on the meta device."""
    from validation.torch_programs import adapters

    for recipe in ("lora", "qlora"):
        described = scenario_from_table(
            {
                "model": "llama-3.1-8b",
                "cluster": "h100-sxm:1",
                "precision": recipe,
                "plan": {"attention_kernel": "naive"},
                "workload": {"global_batch_size": 1, "sequence_length": 512},
            }
        )
        names = ("chunk_forward_flop", "chunk_backward_flop")
        said = predicted(described, names)
        done = adapters.decoder_passes(described.model, _adapters(described), 1, 512, device="meta")
        for quantity, measured in zip(names, (done.forward, done.backward), strict=True):
            yield Compared(
                f"llama-3.1-8b, {recipe}: {quantity}",
                f"{quantity} is the work of frozen projections with adapters, in full size",
                said[quantity][0][0],
                measured.total,
                "FLOP",
            )


def mixed_compared() -> Compared:
    """Return what a projection in bf16 keeps for an adapter in fp32: a copy of its input."""
    from validation.torch_programs import adapters

    rows, inputs, outputs, rank = 16, 24, 40, _RANK
    return Compared(
        "projection in bf16, adapter in fp32",
        "an adapter in another format keeps a copy of its input, and the r numbers between",
        4 * rows * (inputs + rank),
        adapters.mixed_input_bytes(rows, inputs, outputs, rank),
    )


def _adapters(described: Scenario) -> Adapters:
    found = described.precision.adapters
    assert found is not None  # noqa: S101 - tells the type checker
    return found
