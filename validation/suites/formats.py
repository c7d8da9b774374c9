"""Number formats: codes, bytes and error, against libraries and published files."""

from collections.abc import Sequence

from validation import format_bytes, format_codes, format_errors
from validation.jobs import Job, Settings, Suite


def _jobs(settings: Settings) -> Sequence[Job]:
    quick = [
        Job(name="codes", run=format_codes.code_cases),
        Job(name="bytes of torchao", run=format_bytes.library_cases),
        Job(name="bytes of gguf", run=format_bytes.gguf_cases),
        Job(name="published files", run=format_bytes.file_cases),
        Job(name="published checkpoints", run=format_bytes.checkpoint_cases),
    ]
    errors = [
        Job(name="error, torchao", run=format_errors.library_cases),
        Job(name="error, gguf", run=format_errors.gguf_cases),
        Job(name="error, own quantizers", run=format_errors.own_cases),
    ]
    return quick if settings.quick else [*quick, *errors]


SUITE = Suite(
    name="formats",
    description="Codes of numbers bit for bit against torch and ml_dtypes; bytes of stored "
    "matrices against torchao, gguf and published files; expected error against drawn numbers.",
    page="precision.md",
    jobs=_jobs,
    needs=("torch", "ml_dtypes", "torchao", "gguf"),
)
