"""How many plans a second the column functions answer on one core.

Everything that `estimate` prints but the simulation, over random legal plans of one model, and
beside it a numpy expression of thirty terms over as many rows in the same run::

    python benchmarks/plans_per_second.py
"""

import os

# One core: set before numpy starts its threads.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import random
import time

import numpy as np

from costmodels import rules
from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from simulator.publishing import available

ROWS = 200_000
BLOCK = 16_384
REPEATS = 3
TERMS = 30


def base_scenario() -> Scenario:
    """Return the scenario that the plans vary: Llama-3.1-405B on 16,384 H100."""
    return scenario_from_table(
        {
            "model": "llama-3.1-405b",
            "cluster": "h100-sxm:16384",
            "plan": {"tensor_parallel_size": 8, "pipeline_parallel_size": 16},
            "workload": {
                "global_batch_size": 2048,
                "sequence_length": 8192,
                "total_tokens": 15_600_000_000_000,
            },
        }
    )


def random_plans(rows: int, *, seed: int) -> dict[str, np.ndarray]:
    """Return fields of random plans, ordered by pipeline size so that blocks are alike."""
    draw = random.Random(seed)
    pipeline = sorted(draw.choices((1, 2, 4, 8, 16, 32), k=rows))
    return {
        "plan.pipeline_parallel_size": np.array(pipeline),
        "plan.tensor_parallel_size": np.array(draw.choices((1, 2, 4, 8), k=rows)),
        "plan.micro_batch_size": np.array(draw.choices((1, 2, 4), k=rows)),
        "plan.zero_stage": np.array(draw.choices((0, 1, 2, 3), k=rows)),
        "plan.recompute": np.array(draw.choices(("none", "selective", "full"), k=rows)),
        "workload.global_batch_size": np.array(draw.choices((2048, 4096, 8192), k=rows)),
        "workload.sequence_length": np.array(draw.choices((4096, 8192, 16384), k=rows)),
        "cluster.accelerator_count": np.array(draw.choices((4096, 8192, 16384), k=rows)),
    }


def answer_all(scenario: Scenario, plans: dict[str, np.ndarray]) -> int:
    """Evaluate all published quantities and the rules for every plan, block by block."""
    rows = len(plans["plan.zero_stage"])
    legal = 0
    for start in range(0, rows, BLOCK):
        block = {path: column[start : start + BLOCK] for path, column in plans.items()}
        columns = compile_columns(scenario, block)
        evaluate(columns, available(columns))
        legal += int(np.sum(rules.valid(columns)))
    return legal


def thirty_terms(rows: int) -> None:
    """Evaluate an expression of thirty terms, block by block."""
    values = np.linspace(1.0, 2.0, rows)
    for start in range(0, rows, BLOCK):
        block = values[start : start + BLOCK]
        result = block * 1.0
        for term in range(1, TERMS):
            result = result + block * term


def main() -> None:
    """Print plans per second, and the ratio to the bare expression."""
    scenario = base_scenario()
    plans = random_plans(ROWS, seed=1)
    answer_all(scenario, {path: column[:BLOCK] for path, column in plans.items()})
    best = bare = float("inf")
    legal = 0
    for _ in range(REPEATS):
        start = time.perf_counter()
        legal = answer_all(scenario, plans)
        best = min(best, time.perf_counter() - start)
        start = time.perf_counter()
        thirty_terms(ROWS)
        bare = min(bare, time.perf_counter() - start)
    published = len(available(compile_columns(scenario)))
    print(f"{ROWS:,} plans ({legal:,} legal), {published} published quantities each")
    print(f"column functions: {ROWS / best:,.0f} plans/s")
    print(f"{TERMS}-term numpy expression: {ROWS / bare:,.0f} rows/s")
    print(f"ratio: {best / bare:,.1f} expressions of {TERMS} terms for each plan")


if __name__ == "__main__":
    main()
