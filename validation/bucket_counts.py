"""Buckets of torch's DistributedDataParallel, against those that closed forms count tensor by tensor.

Decoders of every kind of layer whose order of gradients is known train on two processes. Each
all-reduce of a step is recorded, after buckets have been made anew in the order of arrival.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from costmodels.gradient_order import arriving_parameters, caps_parameters, whole_buckets
from costmodels.scenario import Scenario
from costmodels.units import parse_quantity
from validation.cases import Case
from validation.collective_counts import COLLECTIVES
from validation.small_models import MODELS, model_table, predicted, scenario_of

_RANKS = 2
_ELEMENT_BYTES = 4
_MIB_BYTES = parse_quantity("1 MiB", "bytes")


class BucketRun(NamedTuple):
    """A decoder and the size at which its buckets close.

    Attributes
    ----------
    name : str
        What is special about the decoder.
    model : mapping
        Its table.
    bucket_parameters : int
        As a plan states it; 0 for torch's own sizes [parameter].
    plan : mapping
        Further fields of the plan.
    microbatch_count : int
        Backwards of a step [count].
    """

    name: str
    model: Mapping[str, Any]
    bucket_parameters: int
    plan: Mapping[str, Any] = {}
    microbatch_count: int = 1

    @property
    def scenario(self) -> Scenario:
        """Return the scenario that describes the run."""
        plan = {
            "micro_batch_size": 1,
            "gradient_buckets": "torch-ddp",
            "gradient_bucket_parameters": self.bucket_parameters,
        }
        batch = {"global_batch_size": _RANKS * self.microbatch_count}
        return scenario_of(self.model, replicas=_RANKS, plan=plan | dict(self.plan), workload=batch)


_ORDERED = (
    "dense",
    "gated",
    "grouped queries",
    "normalized over heads",
    "four norms",
    "bias of the head",
    "side by side, one norm",
    "side by side, two norms",
)
_WIDE = model_table(
    num_hidden_layers=3,
    hidden_size=512,
    head_size=128,
    intermediate_size=2048,
    vocabulary_size=2048,
    gated=True,
)
"""About 14 million parameters: more than torch's own first bucket and one more."""

RUNS = (
    *(BucketRun(name, MODELS[name], size) for name in _ORDERED for size in (1, 900, 2000)),
    BucketRun("gated, all in one", MODELS["gated"], 900_000),
    BucketRun("dense, three microbatches", MODELS["dense"], 900, microbatch_count=3),
    BucketRun("gated, layers repeated", MODELS["gated"], 900, {"recompute": "full"}),
    BucketRun("wide, torch's own sizes", _WIDE, 0),
    BucketRun("wide and tied, torch's own sizes", {**_WIDE, "tied_embeddings": True}, 0),
)


def _measured(run: BucketRun) -> list[list[int]]:
    """Return the payload of each all-reduce of every rank [byte]."""
    from validation.torch_programs import arriving, processes

    mib = run.bucket_parameters * _ELEMENT_BYTES / _MIB_BYTES if run.bucket_parameters else None
    scenario = run.scenario
    program = partial(
        arriving.reduced,
        scenario.model,
        bucket_mib=mib,
        microbatch_count=run.microbatch_count,
        sequence_length=scenario.workload.sequence_length,
        recompute=scenario.plan.recompute,
    )
    return [list(payloads) for payloads in processes.run(program, _RANKS)]


def bucket_cases() -> list[Case]:
    """Return calls and payloads of the buckets of every run.

    Returns
    -------
    list of Case
        Needs torch; takes about half a minute.
    """
    return [case for run in RUNS for case in _cases(run)]


def _cases(run: BucketRun) -> list[Case]:
    names = (
        "gradient_all_reduce_calls",
        "chunk_last_bucket_parameters",
        "chunk_gradient_message_bytes",
        "reduction_element_bytes",
    )
    of = predicted(run.scenario, names)
    calls, last, message = (of[name][0][0] for name in names[:3])
    model = run.scenario.model
    arriving = arriving_parameters(
        model, layer_count=model.num_hidden_layers, holds_embedding=True, holds_head=True
    )
    caps = caps_parameters(run.bucket_parameters, _ELEMENT_BYTES)
    wanted = [_ELEMENT_BYTES * bucket for bucket in whole_buckets(arriving, caps)]
    seen = _measured(run)
    # Ranks that differ cannot all be as predicted: one that is not is shown.
    rank = next((each for each in seen if each != wanted), wanted)
    unequal = sum(found != bucket for found, bucket in zip(rank, wanted, strict=False))
    findings = (
        ("calls", "an all-reduce for each bucket of whole tensors", calls, len(rank), "count"),
        ("payload", "all gradients go through them once", message, sum(rank), "byte"),
        (
            "last payload",
            "the last bucket, which hides behind nothing, has what is left",
            last * of["reduction_element_bytes"],
            rank[-1],
            "byte",
        ),
        (
            "buckets of another payload",
            "each bucket is as large as said, in the order of the calls",
            0,
            unequal + abs(len(rank) - len(wanted)),
            "count",
        ),
    )
    return [
        Case(
            suite=COLLECTIVES,
            name=f"ddp x {_RANKS}, {run.name}, {run.bucket_parameters} in a bucket: {what}",
            claim=claim,
            prediction=prediction,
            measurement=measurement,
            unit=unit,
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method="calls of torch's dispatcher on gloo, recorded in the third step",
            source="validation/torch_programs/arriving.py",
        )
        for what, claim, prediction, measurement, unit in findings
    ]
