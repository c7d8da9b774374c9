"""Inference: closed forms of the cache against what transformers keeps."""

from collections.abc import Sequence

from validation import kv_cache_bytes
from validation.jobs import Job, Settings, Suite


def _jobs(_: Settings) -> Sequence[Job]:
    return [Job(name="caches", run=kv_cache_bytes.cache_cases)]


SUITE = Suite(
    name="inference",
    description="Keys, values and states that each layer keeps, against the cache of small models "
    "that transformers builds.",
    page="inference-memory.md",
    jobs=_jobs,
    needs=("torch", "transformers"),
)
