"""Description of the number format of every role that a tensor can have in training."""

from typing import Annotated, ClassVar

from costmodels.errors import SpecError
from costmodels.formats import format_named
from costmodels.specs.base import Spec
from costmodels.specs.fields import choice, label

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
    """

    section: ClassVar[str] = "precision"

    name: Annotated[str, label("label of the recipe")]
    weights: Annotated[str, choice("weights in forward and backward", *_SENT)]
    gradients: Annotated[str, choice("gradients as accumulated", "memory", "time")]
    main_weights: (
        Annotated[str, choice("copy that the optimizer updates", "memory", "time")] | None
    ) = None
    moments: Annotated[str, choice("state of the optimizer", "memory", "time")]
    activations: Annotated[str, choice("tensors between layers", *_SENT)]
    compute: Annotated[str, choice("inputs of matrix products", "time")]
    gradient_reduction: Annotated[str, choice("gradients as sent", "communication", "time")]
    logits: Annotated[str, choice("output of the head", "memory", "time")]

    def __post_init__(self) -> None:
        """Check that every role names a format that can fill it."""
        super().__post_init__()
        for role in (*STORED_ROLES, "compute"):
            name = getattr(self, role)
            if name is None:
                continue
            try:
                stored = format_named(name).stored
            except SpecError as error:
                raise SpecError(f"precision.{role}: {error}") from None
            if not stored and role != "compute":
                raise SpecError(
                    f"precision.{role} ({name}): tensors are not kept in {name}; "
                    "use fp32, bf16 or fp16, and tf32 for precision.compute only"
                )
        if not format_named(self.compute).stored and self.activations != "fp32":
            raise SpecError(
                f"precision.compute ({self.compute}): multiplies tensors that are kept in fp32, so "
                f"precision.activations ({self.activations}) must be fp32"
            )
