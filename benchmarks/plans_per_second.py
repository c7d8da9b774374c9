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
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from costmodels import rules
from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from simulator.publishing import available

Plans: TypeAlias = dict[str, npt.NDArray[Any]]

ROWS = 200_000
BLOCK = 16_384
REPEATS = 3
TERMS = 30


def base_scenario(*, schedule: str, virtual_stages: int) -> Scenario:
    """Return the scenario that the plans vary: Llama-3.1-405B on 16,384 H100."""
    return scenario_from_table(
        {
            "model": "llama-3.1-405b",
            "cluster": "h100-sxm:16384",
            "plan": {
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 16,
                "schedule": schedule,
                "virtual_stages": virtual_stages,
            },
            "workload": {
                "global_batch_size": 2048,
                "sequence_length": 8192,
                "total_tokens": 15_600_000_000_000,
            },
        }
    )


def random_plans(rows: int, *, seed: int, stages: tuple[int, ...]) -> Plans:
    """Return fields of random plans, in random order."""
    draw = random.Random(seed)
    return {
        "plan.pipeline_parallel_size": np.array(draw.choices(stages, k=rows)),
        "plan.tensor_parallel_size": np.array(draw.choices((1, 2, 4, 8), k=rows)),
        "plan.micro_batch_size": np.array(draw.choices((1, 2, 4), k=rows)),
        "plan.zero_stage": np.array(draw.choices((0, 1, 2, 3), k=rows)),
        "plan.recompute": np.array(draw.choices(("none", "selective", "full"), k=rows)),
        "workload.global_batch_size": np.array(draw.choices((2048, 4096, 8192), k=rows)),
        "workload.sequence_length": np.array(draw.choices((4096, 8192, 16384), k=rows)),
        "cluster.accelerator_count": np.array(draw.choices((4096, 8192, 16384), k=rows)),
    }


def sorted_by_stages(plans: Plans) -> Plans:
    """Return the plans ordered by pipeline size, so that the plans of a block are alike."""
    order = np.argsort(plans["plan.pipeline_parallel_size"], kind="stable")
    return {path: column[order] for path, column in plans.items()}


def answer_all(scenario: Scenario, plans: Plans) -> int:
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


def best_s(work: Callable[[], object]) -> float:
    """Return the shortest time of some repeats [s]."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print plans per second, and the ratio to the bare expression."""
    bare_s = best_s(lambda: thirty_terms(ROWS))
    print(f"{TERMS}-term numpy expression: {ROWS / bare_s:,.0f} rows/s")
    one_f_one_b = base_scenario(schedule="1f1b", virtual_stages=1)
    plans = random_plans(ROWS, seed=1, stages=(1, 2, 4, 8, 16, 32))
    interleaved = base_scenario(schedule="interleaved-1f1b", virtual_stages=2)
    chunked = random_plans(ROWS, seed=1, stages=(2, 4, 8, 16, 32))
    cases = {
        "1F1B, sorted by stages": (one_f_one_b, sorted_by_stages(plans)),
        "1F1B, in random order": (one_f_one_b, plans),
        "interleaved, sorted by stages": (interleaved, sorted_by_stages(chunked)),
    }
    published = len(available(compile_columns(one_f_one_b)))
    print(f"{ROWS:,} random plans, {published} published quantities each:")
    for name, (scenario, rows) in cases.items():
        legal = answer_all(scenario, rows)
        seconds = best_s(partial(answer_all, scenario, rows))
        print(
            f"  {name}: {ROWS / seconds:,.0f} plans/s ({legal:,} legal), "
            f"{seconds / bare_s:,.0f} expressions of {TERMS} terms for each plan"
        )


if __name__ == "__main__":
    main()
