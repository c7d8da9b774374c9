"""The matrix of traffic against running programs: what each rank sends to each other in a step.

Recorded collectives run again on messages, whose receiver is known; hand-overs between stages are
messages anyhow. Left out are runs that send otherwise than the closed forms, each told of by a
case of `validation.collective_counts`: recomputation that stops early, options of FSDP2 that no plan
describes, and weights of which no number of ranks divides the rows.
"""

from simulator.matrix import traffic_matrix
from validation.cases import Case
from validation.collective_counts import COLLECTIVES, Prediction
from validation.collective_runs import (
    COMBINED_RUNS,
    DATA_RUNS,
    KEPT,
    ONCE,
    PIPELINE_RUNS,
    TENSOR_RUNS,
    Run,
    observe,
)

RUNS = (
    *(run for run in TENSOR_RUNS if "early-stop" not in str(run.option)),
    *(run for run in DATA_RUNS if run.option not in (KEPT, ONCE)),
    *COMBINED_RUNS,
    *PIPELINE_RUNS,
)
"""Programs whose pairs of ranks are compared."""


def pair_cases() -> list[Case]:
    """Return the bytes of every pair of ranks of every program. Needs torch."""
    return [case for run in RUNS for case in _pairs_of(run)]


def _pairs_of(run: Run) -> list[Case]:
    matrix = traffic_matrix(Prediction(run).scenario)
    pairs = zip(matrix.source, matrix.target, strict=True)
    predicted = dict(zip(pairs, matrix.sent_bytes, strict=True))
    measured = {
        (source, target): sent
        for source, observed in enumerate(observe(run))
        for target, sent in observed.sent_to.items()
    }
    return [
        Case(
            suite=COLLECTIVES,
            name=f"{run.name}: rank {source} to rank {target}",
            claim="a rank sends another so much in a step",
            prediction=int(predicted.get((source, target), 0)),
            measurement=measured.get((source, target), 0),
            unit="byte",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method="bytes of messages by receiver when the recorded collectives run again as rings",
            source=f"validation/torch_programs, {run.program}",
        )
        for source, target in sorted(predicted.keys() | measured.keys())
    ]
