"""Memory by the closed forms, against tables and figures of papers.

- ZeRO's Table 1: weights, gradients and optimizer of three models over replicas, in GB. The table
  cuts or rounds to the digits that it prints.
- Korthikanti's Figures 1 and 7: activations of the layers of the first stage of four models, in GiB
  as an analysis of the figure states them, and their percentages of tensor parallelism alone.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import Scenario, scenario_from_table
from costmodels.units import parse_quantity
from validation.cases import Case
from validation.published_memory import SUITE, rows_of

_STATES = ("weights_bytes", "gradients_bytes", "optimizer_bytes")
_PARAMETERS = ("stage_parameters", "stage_trained_parameters")
_LAYERS = (
    "layer_input_activations_bytes",
    "attention_activations_bytes",
    "attention_core_activations_bytes",
    "ffn_activations_bytes",
)


def printed_cases() -> list[Case]:
    """Return the rows of ZeRO's Table 1, and of Korthikanti's Figures 1 and 7."""
    return [*_zero_cases(), *_activation_cases()]


def _number(value: Any) -> int:
    return int(np.asarray(value).item())


def state_bytes(parameters: int, replicas: int, zero_stage: int) -> int:
    """Return weights, gradients and optimizer of a replica of a model of any size [byte].

    Parameters
    ----------
    parameters, replicas, zero_stage : int
        Parameters of the model; replicas that share its states; what they share [count].

    Examples
    --------
    >>> state_bytes(7_500_000_000, 64, 3)
    1875000000
    """
    scenario = scenario_from_table(
        {
            "model": "gpt-3-175b",
            "cluster": f"v100-sxm:{replicas}",
            "precision": "fp16-mixed",
            "plan": {"zero_stage": zero_stage},
            "workload": {"global_batch_size": replicas, "sequence_length": 1024},
        }
    )
    columns = compile_columns(scenario)
    stated = dict.fromkeys(_PARAMETERS, (np.asarray([parameters]),))
    known = columns.values | stated
    values = evaluate(columns._replace(values=known), _STATES)
    return sum(_number(values[name][0]) for name in _STATES)


def _zero_cases() -> Iterator[Case]:
    for row in rows_of("rajbhandari2020/table1.csv"):
        printed = row["state_gb"]
        digit = 10.0 ** -len(printed.partition(".")[2])
        parameters, replicas = int(row["parameters"]), int(row["replicas"])
        stage = int(row["zero_stage"])
        yield Case(
            suite=SUITE,
            name=f"ZeRO Table 1: {parameters:,} parameters, {replicas} replicas, stage {stage}",
            claim="weights_bytes + gradients_bytes + optimizer_bytes are the states in the table",
            prediction=state_bytes(parameters, replicas, stage),
            measurement=parse_quantity(f"{printed} GB", "bytes"),
            unit="byte",
            tolerance_fraction=digit / float(printed),
            tolerance_reason="one unit of the last printed digit: the table cuts some, rounds others",
            method="2 + 2 + 12 bytes a parameter",
            source="Rajbhandari et al. 2020, arXiv:1910.02054, Table 1",
        )


@cache
def _layers_of_first_stage(cells: tuple[tuple[str, str], ...]) -> int:
    """Return the activations of the layers of a row's first stage [byte]."""
    values = evaluate(compile_columns(_scenario(dict(cells))), _LAYERS)
    return sum(_number(values[name][0]) for name in _LAYERS)


def _scenario(row: Mapping[str, str]) -> Scenario:
    stages, chunks = int(row["pp"]), int(row["vpp"])
    layers, hidden, heads = (int(row[name]) for name in ("layers", "hidden", "heads"))
    plan: dict[str, Any] = {
        "tensor_parallel_size": int(row["tp"]),
        "pipeline_parallel_size": stages,
        "virtual_stages": chunks,
        "layers_per_stage": [layers // (stages * chunks)] * (stages * chunks),
        "schedule": "interleaved-1f1b" if chunks > 1 else "1f1b",
        "micro_batch_size": int(row["micro_batch"]),
        "sequence_parallel": row["sequence_parallel"] == "1",
        "recompute": row["recompute"],
        "attention_kernel": "naive",
    }
    return scenario_from_table(
        {
            "model": {
                "preset": "gpt-3-175b",
                "num_hidden_layers": layers,
                "hidden_size": hidden,
                "intermediate_size": int(row["ffn"]),
                "num_attention_heads": heads,
                "num_key_value_heads": heads,
                "head_size": hidden // heads,
                "vocabulary_size": int(row["vocabulary"]),
            },
            "cluster": f"a100-80gb-sxm:{row['gpus']}",
            "precision": "fp16-mixed",
            "plan": plan,
            "workload": {
                "global_batch_size": int(row["global_batch"]),
                "sequence_length": int(row["sequence_length"]),
            },
        }
    )


_WHAT = ("figure", "unit", "value", "split")


def _activation_cases() -> Iterator[Case]:
    for row in rows_of("korthikanti2022/activations.csv"):
        plan = {name: cell for name, cell in row.items() if name not in _WHAT}
        held = _layers_of_first_stage(tuple(plan.items()))
        words = f"{row['model']}, recompute {row['recompute']}" + (
            ", sequence parallel" if row["sequence_parallel"] == "1" else ""
        )
        printed = float(row["value"])
        if row["unit"] == "GiB":
            yield _figure_case(
                row, words, held, parse_quantity(f"{printed} GiB", "bytes"), "byte", 1e-5
            )
        else:
            alone = plan | {"recompute": "none", "sequence_parallel": "0"}
            percent = 100 * held / _layers_of_first_stage(tuple(alone.items()))
            yield _figure_case(row, words, percent, printed, "percent", 0.15 / printed)


def _figure_case(
    row: Mapping[str, str],
    words: str,
    prediction: float,
    measurement: float,
    unit: str,
    tolerance_fraction: float,
) -> Case:
    exact = unit == "byte"
    return Case(
        suite=SUITE,
        name=f"Korthikanti Figure {row['figure']}: {words}",
        claim="activations of the layers of the first stage are those of the figure",
        prediction=prediction,
        measurement=measurement,
        unit=unit,
        tolerance_fraction=tolerance_fraction,
        tolerance_reason="printed to seven digits"
        if exact
        else "read from the bars of a figure, to 0.15 percent",
        method="the figure, as github.com/calculon-ai/calculon@caa4b11f8f transcribes it",
        source="Korthikanti et al. 2022, arXiv:2205.05198, Figures 1 and 7",
    )
