"""Description of the work: what is trained, on batches of what size, for how long."""

from enum import StrEnum
from typing import Annotated, ClassVar

from costmodels.specs.base import Spec
from costmodels.specs.fields import LARGEST_COUNT, choice, size


class WorkloadKind(StrEnum):
    """What the model does."""

    TRAINING = "training"
    PREFILL = "prefill"
    DECODE = "decode"


class Optimizer(StrEnum):
    """The optimizer, which decides what is kept of each weight.

    Two moments (Adam), one or none (SGD), a byte of each of two (Adam in 8 bits), sums over rows and
    columns (Adafactor), or one of a hidden matrix and two of the rest (Muon).
    """

    ADAM = "adam"
    ADAM_8BIT = "adam-8bit"
    ADAFACTOR = "adafactor"
    MUON = "muon"
    MOMENTUM = "sgd-momentum"
    SGD = "sgd"


class Workload(Spec, frozen=True, kw_only=True):
    """One training step, and how many tokens the whole run sees.

    Attributes
    ----------
    kind : WorkloadKind
        What the model does.
    global_batch_size : int
        Sequences of a step, over all replicas [count].
    sequence_length : int
        Tokens of a sequence [token].
    total_tokens : int or None
        Tokens of the run; None leaves out what a run needs [token].
    optimizer : Optimizer
        How weights are updated.
    """

    section: ClassVar[str] = "workload"

    kind: Annotated[WorkloadKind, choice("what the model does")] = WorkloadKind.TRAINING
    global_batch_size: Annotated[
        int,
        size(
            "sequences of a step",
            "compute",
            "memory",
            "communication",
            "time",
            "pipeline",
            most=2**40,
        ),
    ]
    sequence_length: Annotated[
        int, size("tokens of a sequence", "compute", "memory", "communication", "time", most=2**40)
    ]
    total_tokens: (
        Annotated[int, size("tokens of the whole run", "cost", most=LARGEST_COUNT)] | None
    ) = None
    optimizer: Annotated[
        Optimizer, choice("how weights are updated", "memory", "communication", "time")
    ] = Optimizer.ADAM
