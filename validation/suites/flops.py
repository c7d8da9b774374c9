"""FLOP: closed forms against torch's operator counter."""

from collections.abc import Sequence
from functools import partial

from validation import flop_counts
from validation.jobs import Job, Settings, Suite
from validation.small_models import MODELS


def _jobs(settings: Settings) -> Sequence[Job]:
    small = [
        Job(name=name, run=partial(flop_counts.flop_cases, {name: table}, device=settings.device))
        for name, table in MODELS.items()
    ]
    full = Job(name="presets in full size", run=flop_counts.preset_cases)
    return small if settings.quick else [*small, full]


SUITE = Suite(
    name="flops",
    description="Work of layers, heads, whole passes and recomputation, against what torch's "
    "operator counter sees of real modules.",
    page="parameters-and-flop.md",
    jobs=_jobs,
    needs=("torch",),
)
