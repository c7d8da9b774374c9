"""Expert parallelism inside sharded data parallelism, against the closed forms of communication.

A decoder of experts trains on a few processes with torch's `fully_shard` over unlike meshes, or
with its exchanges alone; router and experts may be computed again in the backward.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

from costmodels.scenario import Scenario
from validation.cases import Case
from validation.collective_counts import COLLECTIVES, Prediction
from validation.small_models import model_table, scenario_of
from validation.torch_programs.records import (
    ALL_GATHER,
    ALL_TO_ALL,
    BACKWARD,
    REDUCE_SCATTER,
    Call,
    Observed,
)
from validation.torch_programs.sizes import Work

_TOLERATED_ERROR = 1e-5
"""Largest difference in fp32 of the loss of a few layers."""


class MixtureRun(NamedTuple):
    """A decoder of experts on some ranks.

    Attributes
    ----------
    ranks : int
        Processes [count].
    shards, repeats : bool
        Whether weights are sharded, and whether experts are computed again in the backward.
    expert_count, layers : int
        Experts of a layer, and layers [count].
    work : Work
        Of a rank.
    """

    ranks: int
    shards: bool
    repeats: bool
    expert_count: int = 4
    layers: int = 2
    work: Work = Work(1, 12, 2)

    @property
    def name(self) -> str:
        """Return a name that no other run has."""
        sharded = ", fully_shard over two meshes" if self.shards else ""
        repeated = ", experts computed again" if self.repeats else ""
        return (
            f"experts x {_EXPERT_RANKS} of {self.ranks}, {self.layers} layers of "
            f"{self.expert_count}{sharded}{repeated}"
        )

    @property
    def scenario(self) -> Scenario:
        """Return the scenario that describes the run."""
        model = model_table(
            num_hidden_layers=self.layers,
            vocabulary_size=48,
            mixture={
                "expert_count": self.expert_count,
                "experts_per_token": 2,
                "expert_intermediate_size": 16,
            },
        )
        plan: dict[str, Any] = {
            "expert_parallel_size": _EXPERT_RANKS,
            "micro_batch_size": self.work.micro_batch_size,
        }
        if self.shards:
            plan |= {"zero_stage": 3, "gradient_buckets": "fsdp-units"}
        if self.repeats:
            plan |= {"recompute": "selective", "recompute_modules": ["moe"]}
        batch = self.ranks * self.work.micro_batch_size * self.work.microbatch_count
        workload = {"global_batch_size": batch, "sequence_length": self.work.sequence_length}
        return scenario_of(model, replicas=self.ranks, plan=plan, workload=workload)


_EXPERT_RANKS = 2
RUNS = (
    MixtureRun(4, shards=True, repeats=False),
    MixtureRun(4, shards=True, repeats=True, layers=3),
    MixtureRun(6, shards=True, repeats=False, expert_count=6),
    MixtureRun(4, shards=False, repeats=False),
    MixtureRun(4, shards=False, repeats=True),
)


@lru_cache(maxsize=8)
def observe(run: MixtureRun) -> tuple[tuple[Observed, float], ...]:
    """Return what each rank of a run saw, and its error; it runs once, however often asked."""
    from validation.torch_programs import mixtures, processes

    program = partial(
        mixtures.train,
        run.scenario.model,
        run.work,
        expert_parallel_size=_EXPERT_RANKS,
        shards=run.shards,
        repeats=run.repeats,
    )
    return tuple(processes.run(program, run.ranks))


class _Finding(NamedTuple):
    what: str
    claim: str
    prediction: int
    measured: Callable[[list[Call]], int]
    unit: str = "count"


def _only(values: list[int]) -> int:
    """Return the value that all have; -1 if they differ."""
    return values[0] if len(set(values)) == 1 else -1


def _distances(calls: list[Call]) -> list[int]:
    return [second - first for call in calls for first, second in pairwise(call.ranks)]


def _exchanges(of: Prediction) -> list[_Finding]:
    """Return calls, payload and group of the exchanges of tokens."""

    def own(calls: list[Call]) -> list[Call]:
        return [call for call in calls if call.kind == ALL_TO_ALL]

    total = of("expert_all_to_all_calls")
    forward = 2 * of("microbatch_count") * of("chunk_mixture_layers")
    return [
        _Finding(
            "exchanges",
            "to the experts and back, forward, backward, and where they are computed again",
            total,
            lambda calls: len(own(calls)),
        ),
        _Finding(
            "exchanges in the backward",
            "those that are computed again are among them",
            total - forward,
            lambda calls: len([call for call in own(calls) if call.label == BACKWARD]),
        ),
        _Finding(
            "payload of an exchange",
            "the rows that a rank's tokens give to experts",
            of("expert_message_bytes"),
            lambda calls: _only([call.message_bytes for call in own(calls)]),
            "byte",
        ),
        _Finding(
            "group of an exchange",
            "the ranks that share the experts",
            of("expert_parallel_size"),
            lambda calls: _only([len(call.ranks) for call in own(calls)]),
        ),
        _Finding(
            "distance in the group",
            "they are so many ranks apart",
            of("expert_stride"),
            lambda calls: _only(_distances(own(calls))),
        ),
    ]


_SHARDED = (
    (
        "weights",
        ALL_GATHER,
        "sharding_size",
        "weight_all_gather_calls",
        "chunk_weight_message_bytes",
    ),
    (
        "weights of experts",
        ALL_GATHER,
        "expert_sharding_size",
        "expert_weight_all_gather_calls",
        "chunk_expert_weight_message_bytes",
    ),
    (
        "gradients",
        REDUCE_SCATTER,
        "sharding_size",
        "gradient_reduce_scatter_calls",
        "chunk_gradient_message_bytes",
    ),
    (
        "gradients of experts",
        REDUCE_SCATTER,
        "expert_sharding_size",
        "expert_gradient_reduce_scatter_calls",
        "chunk_expert_gradient_message_bytes",
    ),
)


def _sharding(of: Prediction) -> list[_Finding]:
    """Return calls, payload and group of gathers and scatters over either mesh."""
    findings = []
    for what, kind, size, calls, message in _SHARDED:
        group = of(size)
        passes = of("microbatch_count") * (2 if kind == ALL_GATHER else 1)
        apart = 1 if size == "sharding_size" else of("expert_parallel_size") * of("expert_stride")

        def own(seen: list[Call], kind: str = kind, group: int = group) -> list[Call]:
            return [call for call in seen if call.kind == kind and len(call.ranks) == group]

        findings += [
            _Finding(
                f"{what}, calls",
                "one for each unit: layer and ends over all ranks, experts of a layer over replicas",
                of(calls),
                lambda seen, own=own: len(own(seen)),  # type: ignore[misc]
            ),
            _Finding(
                f"{what}, payload",
                "so much goes through them in a step",
                passes * of(message),
                lambda seen, own=own: sum(call.message_bytes for call in own(seen)),  # type: ignore[misc]
                "byte",
            ),
            _Finding(
                f"{what}, distance in the group",
                f"{group} ranks of a group are so many apart",
                apart,
                lambda seen, own=own: _only(_distances(own(seen))),  # type: ignore[misc]
            ),
        ]
    return findings


def mixture_cases() -> list[Case]:
    """Return calls, payload and groups of every run, and that it computes what one rank does.

    Returns
    -------
    list of Case
        Needs torch; takes about twenty seconds.
    """
    return [case for run in RUNS for case in _cases(run)]


def _cases(run: MixtureRun) -> list[Case]:
    of, seen = Prediction(run.scenario), observe(run)
    findings = _exchanges(of) + (_sharding(of) if run.shards else [])
    numbers = []
    for finding in findings:
        measured = [finding.measured(list(observed.calls)) for observed, _ in seen]
        # Ranks that differ cannot all be as predicted: one that is not is shown.
        wrong = [value for value in measured if value != finding.prediction]
        shown = wrong[0] if wrong else finding.prediction
        numbers.append((finding.what, finding.claim, finding.prediction, shown, finding.unit))
    missed = sum(len(observed.calls) != observed.backend_calls for observed, _ in seen)
    numbers.append(("ranks with calls that were missed", "no call is", 0, missed, "count"))
    failed = sum(not error <= _TOLERATED_ERROR for _, error in seen)
    numbers.append(("ranks whose loss is wrong", "it is the whole model's", 0, failed, "count"))
    return [
        Case(
            suite=COLLECTIVES,
            name=f"{run.name}: {what}",
            claim=claim,
            prediction=prediction,
            measurement=measurement,
            unit=unit,
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method="calls of torch's dispatcher on gloo, recorded in a step of training",
            source="validation/torch_programs/mixtures.py",
        )
        for what, claim, prediction, measurement, unit in numbers
    ]
