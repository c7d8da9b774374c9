"""Claims of the notes, decided by numbers."""

from collections.abc import Iterable, Sequence

from validation import parallel_claims
from validation.cases import Case
from validation.jobs import Job, Settings, Suite


def _formats() -> Iterable[Case]:
    from validation.number_claims import format_cases

    return format_cases()


def _integers() -> Iterable[Case]:
    from validation.number_claims import integer_cases

    return integer_cases()


def _quantizers() -> Iterable[Case]:
    from validation.quantizer_claims import quantizer_cases

    return quantizer_cases()


def _training() -> Iterable[Case]:
    from validation.quantizer_claims import training_cases

    return training_cases()


def _low_rank() -> Iterable[Case]:
    from validation.compression_claims import low_rank_cases

    return low_rank_cases()


def _experts() -> Iterable[Case]:
    from validation.compression_claims import expert_cases

    return expert_cases()


def _segments() -> Iterable[Case]:
    from validation.memory_claims import segment_cases

    return segment_cases()


def _memories() -> Iterable[Case]:
    from validation.memory_claims import compression_cases, order_cases

    return [*order_cases(), *compression_cases()]


def _autoencoders() -> Iterable[Case]:
    from validation.memory_claims import autoencoder_cases

    return autoencoder_cases()


def _jobs(_: Settings) -> Sequence[Job]:
    return [
        Job(name="tensor parallelism", run=parallel_claims.tensor_cases),
        Job(name="sequence parallelism", run=parallel_claims.sequence_cases),
        Job(name="pipeline parallelism", run=parallel_claims.pipeline_cases),
        Job(name="3D parallelism", run=parallel_claims.three_dimensional_cases),
        Job(name="segments", run=_segments),
        Job(name="compressive memories", run=_memories),
        Job(name="autoencoders", run=_autoencoders),
        Job(name="number formats", run=_formats),
        Job(name="eight-bit integers", run=_integers),
        Job(name="quantizers", run=_quantizers),
        Job(name="quantization in and after training", run=_training),
        Job(name="low rank", run=_low_rank),
        Job(name="experts", run=_experts),
    ]


SUITE = Suite(
    name="claims",
    description="Claims of a reader's notes on parallelism, memories, number formats, quantization, "
    "low rank and experts, each decided by libraries, published formulas or the event simulator.",
    page="notes-claims.md",
    jobs=_jobs,
    needs=("ml_dtypes", "torch", "torchao"),
)
