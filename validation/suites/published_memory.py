"""Memory: closed forms against papers' tables and against what frameworks measured on GPUs."""

from collections.abc import Sequence

from validation import golden_memory, printed_memory, published_memory
from validation.jobs import Job, Settings, Suite


def _jobs(_: Settings) -> Sequence[Job]:
    return [
        Job(name="printed", run=printed_memory.printed_cases),
        Job(name="b200", run=published_memory.b200_cases),
        Job(name="megatron", run=golden_memory.golden_cases),
    ]


SUITE = Suite(
    name="published-memory",
    description="States and activations against tables and figures of papers, peaks against runs of "
    "Megatron-LM on B200, memory between steps against Megatron-LM's own tests.",
    page="memory.md",
    jobs=_jobs,
)
