"""Communication: closed forms against the collectives of running programs."""

from collections.abc import Sequence
from functools import partial

from validation import (
    bucket_counts,
    collective_counts,
    exchange_counts,
    linear_counts,
    mixture_counts,
    pair_bytes,
)
from validation.jobs import Job, Settings, Suite


def _jobs(_: Settings) -> Sequence[Job]:
    return [
        *(
            Job(name=kind, run=partial(collective_counts.kind_cases, kind))
            for kind in collective_counts.KINDS
        ),
        Job(name="buckets of whole tensors", run=bucket_counts.bucket_cases),
        Job(name="experts and sharding at once", run=mixture_counts.mixture_cases),
        Job(name="exchanges of experts and sequences", run=exchange_counts.exchange_cases),
        Job(name="bytes on the wire", run=collective_counts.wire_cases),
        Job(name="who sends to whom", run=pair_bytes.pair_cases),
        Job(name="linear layer", run=linear_counts.linear_cases),
    ]


SUITE = Suite(
    name="communication",
    description="Calls, payload, group and bytes on the wire of every collective, against running "
    "torch programs over gloo.",
    page="communication.md",
    jobs=_jobs,
    needs=("torch",),
)
