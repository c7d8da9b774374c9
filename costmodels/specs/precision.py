"""Description of the number format of every role that a tensor can have in training."""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec

from costmodels.errors import SpecError, not_found_message
from costmodels.formats import FORMATS, format_named
from costmodels.specs.base import Spec
from costmodels.specs.fields import choice, label, size

STORED_ROLES = (
    "weights",
    "gradients",
    "main_weights",
    "moments",
    "activations",
    "gradient_reduction",
    "logits",
)
"""Roles whose tensors are kept or sent."""

_SENT = ("memory", "communication", "time")


class Quantization(Spec, frozen=True, kw_only=True):
    """How weights are stored in few bits: a checkpoint's quantization section.

    Attributes
    ----------
    method : str
        Name of the scheme or of the tool, such as ``gptq``.
    weight_format : str
        Format of a stored weight, such as ``fp8-e4m3``, ``int4`` or ``mxfp4``.
    group_rows, group_columns : int
        Weights that share a scale: a block of outputs by inputs, zero for a whole side [count].
    scale_format : str
        Format of a scale.
    zero_points : bool
        Whether each group has a zero point beside its scale.
    activation_format : str or None
        Format to which inputs are quantized; None where they stay as they are.
    excluded : tuple of str
        Modules whose weights stay in the model's own format.
    """

    section: ClassVar[str] = "precision.quantization"

    method: Annotated[str, label("scheme or tool of the quantization")]
    weight_format: Annotated[str, choice("format of a stored weight")]
    group_rows: Annotated[int, size("outputs that share a scale, 0 for all", least=0)]
    group_columns: Annotated[int, size("inputs that share a scale, 0 for all", least=0)]
    scale_format: Annotated[str, choice("format of a scale")]
    zero_points: Annotated[bool, choice("whether groups have zero points")] = False
    activation_format: Annotated[str, choice("format of quantized inputs")] | None = None
    excluded: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            max_length=10_000,
            description="modules that are not quantized",
            extra={"influences": ()},
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Check that the formats are known."""
        super().__post_init__()
        known = {
            "weight_format": WEIGHT_FORMATS,
            "scale_format": SCALE_FORMATS,
            "activation_format": ACTIVATION_FORMATS,
        }
        for field, formats in known.items():
            value = getattr(self, field)
            if value is not None and value not in formats:
                raise SpecError(
                    not_found_message(what=f"{self.section}.{field}", name=value, known=formats)
                )


class Projection(StrEnum):
    """A projection of a layer that may have an adapter."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    GATE = "gate"
    UP = "up"
    DOWN = "down"


class CachedCasts(StrEnum):
    """Copies of the matrices of layers, cast for their products, that are kept beside the weights."""

    NONE = "none"
    FP8 = "fp8"
    FP8_TRANSPOSED = "fp8-transposed"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"


CAST_BLOCK_BYTES = {
    CachedCasts.NONE: 0,
    CachedCasts.FP8: 32,
    CachedCasts.FP8_TRANSPOSED: 2 * 32,
    CachedCasts.MXFP8: 2 * 33,
    CachedCasts.NVFP4: 2 * 18,
}
"""Bytes of the copies of 32 weights: in blocks, one copy by rows and one by columns [byte]."""

_TRAINED = ("memory", "compute", "communication", "time")


class Adapters(Spec, frozen=True, kw_only=True):
    """Low-rank adapters that are trained beside frozen weights: LoRA.

    Attributes
    ----------
    rank : int
        Rank r of each: two matrices of (r, inputs) and (outputs, r) [count].
    targets : tuple of Projection
        Projections that have one, in every layer.
    weights : str
        Format of the adapters; gradients and states have those of the recipe.
    """

    section: ClassVar[str] = "precision.adapters"

    rank: Annotated[int, size("rank of the adapters", "parameters", *_TRAINED, most=2**16)]
    targets: Annotated[
        tuple[Projection, ...], choice("projections with adapters", "parameters", *_TRAINED)
    ]
    weights: Annotated[str, choice("format of the adapters", *_SENT)] = "fp32"

    def __post_init__(self) -> None:
        """Check that there are projections, each named once, and that the format is known."""
        super().__post_init__()
        if not self.targets or len(set(self.targets)) < len(self.targets):
            named = ", ".join(target.value for target in self.targets)
            raise SpecError(
                f"{self.section}.targets ({named}): must name at least one projection, each once: "
                f"{', '.join(Projection)}"
            )
        _check_role(f"{self.section}.weights", "gradients", self.weights)


WEIGHT_FORMATS = (
    *("fp8-e4m3", "fp8-e5m2", "mxfp4", "mxfp8", "nvfp4"),
    *("int2", "int3", "int4", "int8", "nf4", "fp4-e2m1"),
)
"""Formats in which quantized checkpoints store weights."""

SCALE_FORMATS = ("fp32", "bf16", "fp16", "fp8-e4m3", "e8m0")
"""Formats of scales."""

ACTIVATION_FORMATS = ("fp8-e4m3", "fp8-e5m2", "mxfp4", "mxfp8", "nvfp4", "int8", "int4")
"""Formats to which inputs of matrix products are quantized."""


_STORED = ("memory", "time")


def _check_role(field: str, role: str, name: str) -> None:
    """Raise unless tensors of a role may be kept in a format of this name."""
    try:
        entry = format_named(name)
    except SpecError as error:
        raise SpecError(f"{field}: {error}") from None
    if not entry.fills(role):
        able = [other.name for other in FORMATS.values() if other.fills(role)]
        raise SpecError(
            f"{field} ({name}): tensors are not kept in {name}; "
            f"use {', '.join(able[:-1])} or {able[-1]}"
        )


class Precision(Spec, frozen=True, kw_only=True):
    """A precision recipe: one number format for each role.

    Attributes
    ----------
    name : str
        Label.
    weights, gradients : str
        Weights used in forward and backward; gradients as they are accumulated.
    main_weights : str or None
        Copy of the weights that the optimizer updates; None where it updates the weights.
    moments : str
        State of the optimizer.
    activations : str
        Tensors between layers, and what tensor and pipeline parallelism send.
    compute : str
        Inputs of matrix products: chooses the accelerator's peak.
    gradient_reduction : str
        Gradients as they are sent.
    logits : str
        Output of the head as the loss keeps it.
    quantization : Quantization or None
        How weights are stored in few bits, for a quantized checkpoint.
    kv_cache : str or None
        Cached keys and values, in inference; None keeps them as activations.
    kv_cache_group_size : int
        Elements of a cached key or value that share a scale, such as those of a head; 0 where one
        scale serves a tensor, which is not counted [count].
    kv_cache_scale_bytes : int
        Bytes of a group's scale, and of its zero point where it has one [byte].
    stored_weights : str or None
        Storage of the weights in few bits, in inference and beside adapters: a recipe such as
        ``awq-int4`` or ``gguf-Q4_K_M``, or a format for the matrices of layers; None keeps them as
        weights.
    cached_casts : CachedCasts
        Copies of matrices that are kept, cast for their products.
    adapters : Adapters or None
        Adapters that are trained while the weights are frozen; None trains the weights.
    """

    section: ClassVar[str] = "precision"

    name: Annotated[str, label("label of the recipe")]
    weights: Annotated[str, choice("weights in forward and backward", *_SENT)]
    gradients: Annotated[str, choice("gradients as accumulated", "memory", "time")]
    main_weights: Annotated[str, choice("copy that the optimizer updates", *_SENT)] | None = None
    moments: Annotated[str, choice("state of the optimizer", *_SENT)]
    activations: Annotated[str, choice("tensors between layers", *_SENT)]
    compute: Annotated[str, choice("inputs of matrix products", "time")]
    gradient_reduction: Annotated[str, choice("gradients as sent", "communication", "time")]
    logits: Annotated[str, choice("output of the head", "memory", "time")]
    quantization: Annotated[Quantization, choice("how weights are stored in few bits")] | None = (
        None
    )
    kv_cache: Annotated[str, choice("cached keys and values, in inference")] | None = None
    kv_cache_group_size: Annotated[
        int, size("elements of the cache that share a scale, 0 for all, in inference", least=0)
    ] = 0
    kv_cache_scale_bytes: Annotated[
        int, size("bytes of the scale of a group of the cache, in inference", least=0, most=64)
    ] = 2
    stored_weights: (
        Annotated[
            str,
            choice("storage of weights in few bits, in inference and beside adapters", *_STORED),
        ]
        | None
    ) = None
    cached_casts: Annotated[CachedCasts, choice("kept copies of cast weights", "memory")] = (
        CachedCasts.NONE
    )
    adapters: (
        Annotated[Adapters, choice("adapters beside frozen weights", "parameters", *_TRAINED)]
        | None
    ) = None

    def __post_init__(self) -> None:
        """Check that every role names a format that can fill it."""
        super().__post_init__()
        for role in (*STORED_ROLES, "kv_cache", "compute"):
            name = getattr(self, role)
            if name is not None:
                _check_role(f"precision.{role}", role, name)
        if not format_named(self.compute).stored and self.activations != "fp32":
            raise SpecError(
                f"precision.compute ({self.compute}): multiplies tensors that are kept in fp32, so "
                f"precision.activations ({self.activations}) must be fp32"
            )
