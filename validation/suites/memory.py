"""Memory: closed forms against the bytes of tensors that torch holds."""

from collections.abc import Sequence
from functools import partial

from validation import adapter_counts, offloaded_tensors, peak_memory, saved_tensors, state_bytes
from validation.jobs import Job, Settings, Suite


def _jobs(settings: Settings) -> Sequence[Job]:
    return [
        Job(name="states", run=state_bytes.state_cases),
        Job(name="saved", run=saved_tensors.saved_cases),
        Job(name="offloaded", run=offloaded_tensors.offloaded_cases),
        Job(name="adapters", run=adapter_counts.adapter_cases),
        Job(
            name="peak",
            run=partial(peak_memory.peak_cases, settings.seed, settings.device),
        ),
    ]


SUITE = Suite(
    name="memory",
    description="Weights, gradients and optimizer states, whole and sharded, activations, and the "
    "most that a step holds at once, of weights or of adapters beside frozen ones, against the "
    "tensors of running torch programs.",
    page="memory.md",
    jobs=_jobs,
    needs=("torch",),
)
