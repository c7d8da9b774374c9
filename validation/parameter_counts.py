"""Parameter counts of the presets, against transformers' modules and published totals."""

import csv
import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.scenario import scenario_from_table
from validation.cases import Case

BUILT, PUBLISHED = "parameters-built", "parameters-published"

CONFIGURATIONS: Mapping[str, str] = MappingProxyType(
    {
        "llama-3.1-8b": "Llama-3.1-8B",
        "llama-3.1-70b": "Llama-3.1-70B",
        "llama-3.1-405b": "Llama-3.1-405B",
        "mixtral-8x7b": "Mixtral-8x7B-v0.1",
    }
)
"""Presets, and the public `config.json` of each in validation/data/huggingface."""

GPT_3: Mapping[str, Any] = MappingProxyType(
    {
        "model_type": "gpt2",
        "n_layer": 96,
        "n_embd": 12288,
        "n_head": 96,
        "n_inner": 4 * 12288,
        "n_positions": 2048,
        "vocab_size": 50257,
        "tie_word_embeddings": True,
    }
)
"""GPT-3 175B, which has no published checkpoint: sizes of Table 2.1 in GPT-2's architecture."""

_GPT_3_SOURCE = (
    "Brown et al. 2020, arXiv:2005.14165, Table 2.1 and section 2.1: the architecture of GPT-2"
)
_QUANTITIES = {"total": "total_parameters", "active": "active_parameters"}


def predicted_parameters(model: str, quantity: str) -> int:
    """Return the parameters of a preset by the closed form [parameter].

    Parameters
    ----------
    model : str
        Name of the preset.
    quantity : str
        ``total``, or ``active`` for those that one token passes through.

    Returns
    -------
    int
        What a scenario with this model says [parameter].
    """
    scenario = scenario_from_table(
        {
            "model": model,
            "cluster": "a100-80gb-sxm:1",
            "workload": {"global_batch_size": 1, "sequence_length": 1024},
        }
    )
    name = _QUANTITIES[quantity]
    return int(evaluate(compile_columns(scenario), [name])[name][0])


def configuration(model: str) -> Mapping[str, Any]:
    """Return the public configuration of a preset's model, as transformers takes it."""
    if model not in CONFIGURATIONS:
        return GPT_3
    path = _data() / "huggingface" / f"{CONFIGURATIONS[model]}.json"
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def _data() -> Any:
    return resources.files("validation") / "data"


def _configuration_source(model: str) -> str:
    if model not in CONFIGURATIONS:
        return _GPT_3_SOURCE
    return f"validation/data/huggingface/{CONFIGURATIONS[model]}.json"


def built_cases() -> list[Case]:
    """Return for each preset its count against the modules that transformers builds.

    Returns
    -------
    list of Case
        Total parameters, and active ones where they differ. Needs torch and transformers.
    """
    from validation import torch_runtime

    cases = []
    for model in (*CONFIGURATIONS, "gpt-3-175b"):
        counts = torch_runtime.parameter_counts(configuration(model))
        measured = {"total": counts.total}
        if counts.active != counts.total:
            measured["active"] = counts.active
        for quantity, count in measured.items():
            case = Case(
                suite=BUILT,
                name=f"{model} {quantity}",
                claim=f"{model} has as many {quantity} parameters as its modules",
                prediction=predicted_parameters(model, quantity),
                measurement=count,
                unit="parameter",
                tolerance_fraction=0,
                tolerance_reason="both count the same integers",
                method=f"elements of all parameters on the meta device, {torch_runtime.versions()}",
                source=_configuration_source(model),
            )
            cases.append(case)
    return cases


def rounding_step(parameters: int, stated: str) -> int:
    """Return the step to which a published count is rounded [parameter].

    Parameters
    ----------
    parameters : int
        The published count [parameter].
    stated : str
        The step, where the row states it; else the place of the last digit that is not zero.

    Returns
    -------
    int
        One for an exact count [parameter].

    Examples
    --------
    >>> rounding_step(174_600_000_000, ""), rounding_step(12_900_000_000, "100000000")
    (100000000, 100000000)
    """
    if stated:
        return int(stated)
    digits = str(parameters)
    return int(10 ** (len(digits) - len(digits.rstrip("0"))))


def published_cases() -> list[Case]:
    """Return for each published count the preset's count against it.

    Returns
    -------
    list of Case
        One for each row of validation/data/published_parameters.csv.
    """
    text = (_data() / "published_parameters.csv").read_text(encoding="utf-8")
    return [_published_case(row) for row in csv.DictReader(text.splitlines())]


def _published_case(row: Mapping[str, str]) -> Case:
    model, quantity, measurement = row["model"], row["quantity"], int(row["parameters"])
    step = rounding_step(measurement, row["rounded_to"])
    exact = step == 1
    how = "stated" if row["rounded_to"] else "read from the last digit that is not zero"
    return Case(
        suite=PUBLISHED,
        name=f"{model} {quantity} {row['printed']}",
        claim=f"{model} has the {quantity} parameters that are published, {row['printed']}",
        prediction=predicted_parameters(model, quantity),
        measurement=measurement,
        unit="parameter",
        tolerance_fraction=0 if exact else step / 2 / measurement,
        tolerance_reason="an exact count" if exact else f"half of the rounding, {step:,}, {how}",
        method="published by the authors of the model",
        source=row["source"],
    )
