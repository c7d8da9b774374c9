"""Parameters: closed forms against modules and published totals."""

from collections.abc import Sequence
from functools import partial

from validation import module_parameters, parameter_counts
from validation.jobs import Job, Settings, Suite
from validation.small_models import MODELS


def _jobs(_: Settings) -> Sequence[Job]:
    blocks = [
        Job(name=f"module {name}", run=partial(module_parameters.parameter_cases, {name: table}))
        for name, table in MODELS.items()
    ]
    return [
        Job(name="published totals", run=parameter_counts.published_cases),
        Job(name="transformers' classes", run=parameter_counts.built_cases),
        *blocks,
    ]


SUITE = Suite(
    name="parameters",
    description="Parameters of presets, of imported files and of single layers, against published "
    "totals and against the modules that transformers and torch build.",
    page="parameters-and-flop.md",
    jobs=_jobs,
    needs=("torch", "transformers"),
)
