"""Attention layouts: closed forms against running programs and published memories."""

from collections.abc import Sequence
from functools import partial

from validation import attention_counts
from validation.jobs import Job, Settings, Suite


def _jobs(_: Settings) -> Sequence[Job]:
    programs = [
        Job(name=name, run=partial(attention_counts.program_cases, name))
        for name in attention_counts.PROGRAMS
    ]
    others = [
        Job(name="reach, growth, state", run=attention_counts.behaviour_cases),
        Job(name="recall", run=attention_counts.recall_cases),
        Job(name="published", run=attention_counts.published_cases),
    ]
    return [*programs, *others]


SUITE = Suite(
    name="attention",
    description="Work, elementwise work and state of every attention layout, against torch programs "
    "that are counted operator by operator; memories and work of the LongNet and Infini papers.",
    page="attention.md",
    jobs=_jobs,
    needs=("torch",),
)
