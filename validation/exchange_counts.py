"""Exchanges of expert and context parallelism, against the closed forms of communication.

One layer's experts, or its attention, run forward and backward on a few processes; every call is
recorded, and bytes on the wire are counted on messages. Outputs and gradients are those of the
same layer on one rank, or the case fails.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from validation.cases import Case
from validation.collective_counts import COLLECTIVES, Prediction
from validation.torch_programs.records import (
    ALL_GATHER,
    ALL_TO_ALL,
    BACKWARD,
    FORWARD,
    REDUCE_SCATTER,
    SEND,
    Call,
)

_TOLERATED_ERROR = 1e-3
"""Largest difference in fp32 of outputs and gradients of a few hundred products."""


class ExpertRun(NamedTuple):
    """Experts on some ranks, each of which has its own tokens.

    Attributes
    ----------
    ranks, split : int
        Processes, and how many neighbours split each expert [count].
    experts, chosen : int
        Experts, and those that a token visits [count].
    tokens : int
        Of a rank [count].
    capacity_factor : float or None
        As a plan states it.
    capacity : int or None
        The rows of an expert from each rank, by hand [count].
    """

    ranks: int
    split: int
    experts: int
    chosen: int
    tokens: int = 16
    capacity_factor: float | None = None
    capacity: int | None = None

    @property
    def name(self) -> str:
        """Return a name that no other run has."""
        capacity = f", capacity {self.capacity_factor}" if self.capacity_factor else ""
        return (
            f"experts x {self.ranks}, {self.experts} of them, {self.chosen} for a token, each on "
            f"{self.split}{capacity}"
        )


EXPERT_RUNS = (
    ExpertRun(2, 1, experts=4, chosen=1),
    ExpertRun(2, 1, experts=4, chosen=2),
    ExpertRun(4, 1, experts=8, chosen=3),
    ExpertRun(4, 2, experts=4, chosen=2),
    ExpertRun(6, 2, experts=6, chosen=3, tokens=12),
    # Eight rows of sixteen tokens for each of four experts: filled to twelve, cut to five.
    ExpertRun(4, 1, experts=4, chosen=2, capacity_factor=1.5, capacity=12),
    ExpertRun(4, 2, experts=4, chosen=2, capacity_factor=0.6, capacity=5),
)


class ContextRun(NamedTuple):
    """Attention over sequences that all ranks share.

    Attributes
    ----------
    method : str
        ``ring``, ``all-gather`` or ``ulysses``.
    ranks : int
        Processes [count].
    groups, heads_of_group : int
        Key and value heads, and query heads of each [count].
    """

    method: str
    ranks: int
    groups: int
    heads_of_group: int

    @property
    def name(self) -> str:
        """Return a name that no other run has."""
        heads = f"{self.groups} x {self.heads_of_group} heads"
        return f"{self.method} attention x {self.ranks}, {heads}"


CONTEXT_RUNS = (
    ContextRun("ring", 2, 2, 1),
    ContextRun("ring", 3, 1, 3),
    ContextRun("ring", 4, 2, 2),
    ContextRun("all-gather", 2, 2, 2),
    ContextRun("all-gather", 4, 1, 3),
    ContextRun("ulysses", 2, 2, 1),
    ContextRun("ulysses", 3, 3, 2),
    ContextRun("ulysses", 4, 4, 1),
)
_TOKENS, _BATCH, _HEAD = 24, 2, 4
"""Tokens of the sequences, how many there are, and width of a head [count]."""


@lru_cache(maxsize=32)
def observe(run: ExpertRun | ContextRun) -> tuple[Any, ...]:
    """Return what each rank of a run saw; it runs once, however often that is asked."""
    from validation.torch_programs import exchanges, processes

    program: Callable[[], Any]
    if isinstance(run, ExpertRun):
        program = partial(
            exchanges.exchange_tokens,
            run.tokens,
            _HIDDEN,
            run.experts,
            run.chosen,
            split=run.split,
            capacity=run.capacity,
        )
    else:
        attention: dict[str, Callable[..., Any]] = {
            "ring": exchanges.pass_keys_and_values,
            "all-gather": exchanges.gather_keys_and_values,
            "ulysses": exchanges.exchange_heads,
        }
        sizes = (_TOKENS, _BATCH, run.groups, run.heads_of_group, _HEAD)
        program = partial(attention[run.method], *sizes)
    return tuple(processes.run(program, run.ranks))


_HIDDEN = 6
"""Width of a token [count]."""


def _table(ranks: int, **sections: Any) -> dict[str, Any]:
    """Return the scenario of one layer; sections replace or complete those given here."""
    model = {
        "name": "one layer",
        "num_hidden_layers": 1,
        "hidden_size": _HIDDEN,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_size": _HEAD,
        "intermediate_size": 12,
        "gated": False,
        "vocabulary_size": 48,
        "tied_embeddings": False,
        "norm": "rmsnorm",
        "attention_bias": False,
        "attention_output_bias": False,
        "ffn_bias": False,
        "positions": "none",
        "max_position_embeddings": 4096,
    }
    return {
        "model": model | sections["model"],
        "cluster": f"cpu:{ranks}",
        "precision": "fp32",
        "plan": sections["plan"],
        "workload": sections["workload"],
    }


def _expert_prediction(run: ExpertRun) -> Prediction:
    split = run.split
    plan: dict[str, Any] = {
        "tensor_parallel_size": split,
        "sequence_parallel": split > 1,
        "expert_parallel_size": run.ranks // split,
        "expert_tensor_parallel_size": split,
    }
    if run.capacity_factor is not None:
        plan["expert_capacity_factor"] = run.capacity_factor
    mixture = {"expert_count": run.experts, "experts_per_token": run.chosen}
    workload = {
        "global_batch_size": run.ranks // split,
        "sequence_length": split * run.tokens,
    }
    return Prediction(_table(run.ranks, model={"mixture": mixture}, plan=plan, workload=workload))


def _context_prediction(run: ContextRun) -> Prediction:
    model = {
        "num_attention_heads": run.groups * run.heads_of_group,
        "num_key_value_heads": run.groups,
    }
    plan: dict[str, Any] = {
        "context_parallel_size": run.ranks,
        "context_parallel_method": run.method,
        "micro_batch_size": _BATCH,
    }
    workload = {"global_batch_size": _BATCH, "sequence_length": _TOKENS}
    return Prediction(_table(run.ranks, model=model, plan=plan, workload=workload))


class _Finding(NamedTuple):
    """One number of a run, before it is a case."""

    what: str
    claim: str
    prediction: int
    measured: Callable[[Any], int]
    unit: str = "count"


def _of(seen: Any, kind: str, *labels: str) -> list[Call]:
    return [
        call for call in seen.calls if call.kind == kind and (not labels or call.label in labels)
    ]


def _only(values: Iterable[int]) -> int:
    """Return the value that all have; -1 if they differ."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else -1


def _collective(of: Prediction, kind: str, stem: str, payload: str, group: int) -> list[_Finding]:
    """Return calls, payload and group of a collective that is there."""
    return [
        _Finding(
            f"calls, {kind}",
            "a layer makes so many, forward and backward",
            of(f"{stem}_calls"),
            lambda seen: len(_of(seen, kind)),
        ),
        _Finding(
            f"payload, {kind}",
            "each works on so much",
            of(payload),
            lambda seen: _only(
                call.given_bytes if kind == SEND else call.message_bytes for call in _of(seen, kind)
            ),
            "byte",
        ),
        _Finding(
            f"group, {kind}",
            "among so many ranks",
            group,
            lambda seen: _only(len(call.ranks) for call in _of(seen, kind)),
        ),
    ]


def _sent(of: Prediction, axis: str) -> list[_Finding]:
    """Return the bytes that a rank sends in each direction."""
    return [
        _Finding(
            f"sent in the {label}",
            "a rank sends so much",
            of(f"chunk_{label}_{axis}_bytes"),
            lambda seen, label=label: seen.sent_bytes.get(label, 0),  # type: ignore[misc]
            "byte",
        )
        for label in (FORWARD, BACKWARD)
    ]


def _expert_findings(run: ExpertRun) -> list[_Finding]:
    of = _expert_prediction(run)
    sharing = run.ranks // run.split
    findings = _collective(of, ALL_TO_ALL, "expert_all_to_all", "expert_message_bytes", sharing)
    if run.split > 1:
        for kind, stem in (
            (ALL_GATHER, "expert_rows_all_gather"),
            (REDUCE_SCATTER, "expert_rows_reduce_scatter"),
        ):
            findings += _collective(of, kind, stem, "expert_rows_message_bytes", run.split)
    return [*findings, *_sent(of, "expert")]


def _context_findings(run: ContextRun) -> list[_Finding]:
    of = _context_prediction(run)
    if run.method == "ring":
        found = _collective(of, SEND, "context_send", "context_block_bytes", run.ranks)
    elif run.method == "all-gather":
        found = [
            finding
            for kind, stem in (
                (ALL_GATHER, "context_all_gather"),
                (REDUCE_SCATTER, "context_reduce_scatter"),
            )
            for finding in _collective(of, kind, stem, "context_gathered_bytes", run.ranks)
        ]
    else:
        exchanges = ("context_input", "context_output")
        found = [
            _Finding(
                "calls, all-to-all",
                "queries, keys and values go in one call, outputs in another, each way",
                sum(of(f"{stem}_all_to_all_calls") for stem in exchanges),
                lambda seen: len(_of(seen, ALL_TO_ALL)),
            ),
            *(
                _Finding(
                    f"payload, {stem.partition('_')[2]}",
                    "it is handed over whole",
                    of(f"{stem}_bytes"),
                    lambda seen, place=place: _of(seen, ALL_TO_ALL, FORWARD)[place].given_bytes,  # type: ignore[misc]
                    "byte",
                )
                for place, stem in enumerate(exchanges)
            ),
        ]
    return [*found, *_sent(of, "context")]


def exchange_cases() -> list[Case]:
    """Return calls, payload, group and bytes sent of exchanges, and that they are right.

    Returns
    -------
    list of Case
        Of expert and context parallelism. Needs torch; takes about half a minute.
    """
    runs: list[tuple[ExpertRun | ContextRun, list[_Finding]]] = [
        *((run, _expert_findings(run)) for run in EXPERT_RUNS),
        *((run, _context_findings(run)) for run in CONTEXT_RUNS),
    ]
    return [case for run, findings in runs for case in _cases(run, findings)]


def _cases(run: ExpertRun | ContextRun, findings: Iterable[_Finding]) -> list[Case]:
    seen = observe(run)
    cases = []
    for finding in findings:
        measured = [finding.measured(rank) for rank in seen]
        wrong = [value for value in measured if value != finding.prediction]
        cases.append(
            Case(
                suite=COLLECTIVES,
                name=f"{run.name}: {finding.what}",
                claim=finding.claim,
                prediction=finding.prediction,
                measurement=wrong[0] if wrong else finding.prediction,
                unit=finding.unit,
                tolerance_fraction=0,
                tolerance_reason="both count the same integers",
                method="calls of torch's dispatcher on gloo, recorded in a forward and backward",
                source="validation/torch_programs/exchanges.py",
            )
        )
    cases.append(
        Case(
            suite=COLLECTIVES,
            name=f"{run.name}: ranks whose result is wrong",
            claim="outputs and gradients are those of the same layer on one rank",
            prediction=0,
            measurement=sum(rank.error > _TOLERATED_ERROR for rank in seen),
            unit="count",
            tolerance_fraction=0,
            tolerance_reason=f"differences above {_TOLERATED_ERROR} in fp32 are counted",
            method="the same products without processes",
            source="validation/torch_programs/exchanges.py",
        )
    )
    return cases
