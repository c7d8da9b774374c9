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


def _jobs(_: Settings) -> Sequence[Job]:
    return [
        Job(name="tensor parallelism", run=parallel_claims.tensor_cases),
        Job(name="sequence parallelism", run=parallel_claims.sequence_cases),
        Job(name="pipeline parallelism", run=parallel_claims.pipeline_cases),
        Job(name="3D parallelism", run=parallel_claims.three_dimensional_cases),
        Job(name="number formats", run=_formats),
        Job(name="eight-bit integers", run=_integers),
    ]


SUITE = Suite(
    name="claims",
    description="Claims of a reader's notes on parallelism and number formats, each decided by "
    "libraries, published formulas or the event simulator.",
    page="notes-claims.md",
    jobs=_jobs,
    needs=("ml_dtypes", "torch"),
)
