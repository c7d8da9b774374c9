"""Formats: weights and caches in few bits, units that scale blocks, and adapters."""

from functools import lru_cache

from costmodels.errors import NotModelledError, SpecError
from costmodels.formats import format_named
from costmodels.leaves import Sections
from costmodels.number_formats.native import native_accelerators
from costmodels.presets import preset_names, preset_table
from costmodels.specs.cluster import Accelerator
from costmodels.specs.layouts import type_of
from costmodels.specs.plan import SavedTensors
from costmodels.specs.precision import Adapters, Projection
from costmodels.specs.workload import WorkloadKind


def check_storage(sections: Sections) -> None:
    """Raise if weights are stored in few bits in two ways, or trained so.

    Raises
    ------
    SpecError
        If two fields state how weights are stored, or adapters are of a projection that is missing.
    NotModelledError
        Naming what is legal but has no model yet: caches, units, training on weights in few bits.
    """
    _check_cache(sections)
    _check_units(sections)
    quantization, stored = sections.precision.quantization, sections.precision.stored_weights
    trains = sections.workload.kind is WorkloadKind.TRAINING
    if quantization is not None and trains:
        raise NotModelledError(
            f"precision.quantization ({quantization.weight_format}): training on quantized weights "
            "is not modelled yet; leave it out, choose a recipe such as precision = bf16-mixed, or "
            "set workload.kind to prefill or decode"
        )
    if quantization is not None and stored is not None:
        raise SpecError(
            f"precision.stored_weights ({stored}): precision.quantization states how weights are "
            "stored, too; leave one of them out"
        )
    if stored is not None and trains and sections.precision.adapters is None:
        raise NotModelledError(
            f"precision.stored_weights ({stored}): weights in few bits are not trained themselves; "
            "state precision.adapters, leave it out, or set workload.kind to prefill or decode"
        )
    if trains and sections.precision.adapters is not None:
        _check_adapters(sections, sections.precision.adapters)


def _check_units(sections: Sections) -> None:
    """Raise if products of blocks with scales are asked of an accelerator that has no units for them."""
    compute, accelerator = sections.precision.compute, sections.cluster.accelerator
    units = format_named(compute).units
    if units is not None and not _has_units(accelerator, units):
        raise NotModelledError(
            f"precision.compute ({compute}): {accelerator.name} has no units that scale the blocks of "
            f"its inputs; use fp8_e4m3fn where it has a peak for fp8, or bf16. Presets with them: "
            f"{', '.join(native_accelerators(units))}"
        )


def _has_units(accelerator: Accelerator, units: str) -> bool:
    """Return whether an accelerator scales blocks: as a list of presets says, else by its peaks."""
    native = {_accelerator_name(name) for name in native_accelerators(units)}
    known = {_accelerator_name(name) for name in preset_names("accelerator")}
    if accelerator.name in known:
        return accelerator.name in native
    return bool({"fp4", "fp6"} & set(accelerator.peak_flop_per_s))


@lru_cache(maxsize=256)
def _accelerator_name(preset: str) -> str:
    """Return the name in the description of an accelerator's preset."""
    return str(preset_table("accelerator", preset)["name"])


_BY_TOKEN = ("dense", "sliding", "chunked", "latent", "gated-delta", "lightning")
"""Layouts that cache whole tokens, or states in formats of their own."""


def _check_cache(sections: Sections) -> None:
    """Raise if keys and values that are cached in another way are packed or have scales."""
    precision = sections.precision
    others = sorted({type_of(layout) for layout in sections.model.layouts} - set(_BY_TOKEN))
    is_packed = precision.kv_cache is not None and format_named(precision.kv_cache).packed_count > 1
    if sections.workload.kind is WorkloadKind.TRAINING or not others:
        return
    for field, value, states in (
        ("kv_cache", precision.kv_cache, is_packed),
        ("kv_cache_group_size", precision.kv_cache_group_size, precision.kv_cache_group_size > 0),
    ):
        if states:
            raise NotModelledError(
                f"precision.{field} ({value}): packed or grouped caches of {', '.join(others)} "
                "attention are not modelled yet; modelled: " + ", ".join(_BY_TOKEN)
            )


_ADAPTED = ("dense", "sliding", "chunked")
"""Layouts whose projections are query, key, value and output."""


def _check_adapters(sections: Sections, adapters: Adapters) -> None:
    """Raise unless training of adapters on this model and with this plan is modelled."""
    model, plan, targets = sections.model, sections.plan, set(adapters.targets)
    named = ", ".join(target.value for target in adapters.targets)
    if Projection.GATE in targets and not model.gated:
        raise SpecError(
            f"precision.adapters.targets ({named}): the feed-forward network of {model.name} has no "
            "gate (model.gated is false); leave gate out"
        )
    others = sorted({type_of(layout) for layout in model.layouts} - set(_ADAPTED))
    sharded = plan.zero_stage >= 3 and sections.precision.stored_weights is not None
    unknown = {
        f"model.layouts ({', '.join(others)})": bool(others),
        "model.mixture": model.mixture is not None,
        f"model.multi_token_prediction_layers ({model.multi_token_prediction_layers})": (
            model.multi_token_prediction_layers > 0
        ),
        f"plan.tensor_parallel_size ({plan.tensor_parallel_size})": plan.tensor_parallel_size > 1,
        f"plan.saved_tensors ({plan.saved_tensors.value})": (
            plan.saved_tensors is SavedTensors.TRANSFORMER_ENGINE
        ),
        "plan.cast_on_gather (True)": plan.cast_on_gather,
        f"plan.zero_stage ({plan.zero_stage}) with precision.stored_weights": sharded,
    }
    for field, states in unknown.items():
        if states:
            raise NotModelledError(
                f"{field}: is not modelled yet with precision.adapters ({named}), which are modelled "
                "for dense, sliding and chunked attention without experts or further tokens, and with "
                "plan.tensor_parallel_size=1"
            )
