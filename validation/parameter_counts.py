"""Parameter counts of presets and imported models, against modules and published totals."""

import csv
import json
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

from costmodels.analysis import evaluate
from costmodels.compilation import compile_model
from costmodels.huggingface.families import FAMILIES
from costmodels.huggingface.importing import import_config
from costmodels.presets import preset_table
from costmodels.specs.model import Model
from costmodels.specs.tables import build
from validation.cases import Case

BUILT, PUBLISHED = "parameters-built", "parameters-published"

CONFIGURATIONS: Mapping[str, str] = MappingProxyType(
    {
        "llama-3.1-8b": "Llama-3.1-8B",
        "llama-3.1-70b": "Llama-3.1-70B",
        "llama-3.1-405b": "Llama-3.1-405B",
        "mixtral-8x7b": "Mixtral-8x7B-v0.1",
        "mixtral-8x22b": "Mixtral-8x22B-v0.1",
        "qwen3-8b": "Qwen3-8B",
        "qwen3-32b": "Qwen3-32B",
        "qwen3-30b-a3b": "Qwen3-30B-A3B",
        "qwen3-235b-a22b": "Qwen3-235B-A22B",
        "qwen3.5-27b": "Qwen3.5-27B",
        "deepseek-v3": "DeepSeek-V3",
        "gpt-oss-20b": "gpt-oss-20b",
        "gpt-oss-120b": "gpt-oss-120b",
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


def parameters_of_model(model: Model) -> dict[str, int]:
    """Return the parameters of a model by the closed forms: ``total`` and ``active`` [parameter].

    Parameters
    ----------
    model : Model
        Any description; its parameters need neither cluster nor plan.
    """
    values = evaluate(compile_model(model), list(_QUANTITIES.values()))
    return {quantity: int(values[name][0]) for quantity, name in _QUANTITIES.items()}


def predicted_parameters(model: str, quantity: str) -> int:
    """Return the parameters of a preset by the closed form [parameter].

    Parameters
    ----------
    model : str
        Name of the preset.
    quantity : str
        ``total``, or ``active`` for those that one token passes through.
    """
    description = build(Model, preset_table("model", model), "model")
    return parameters_of_model(description)[quantity]


def imported_parameters(table: Mapping[str, Any]) -> dict[str, int]:
    """Return the parameters of the model that a `config.json` describes [parameter].

    Parameters
    ----------
    table : mapping
        Its keys.
    """
    return parameters_of_model(import_config(json.dumps(dict(table)), name="imported").model)


def configuration(model: str) -> Mapping[str, Any]:
    """Return the public configuration of a preset's model, as transformers takes it."""
    return published_configuration(CONFIGURATIONS[model]) if model in CONFIGURATIONS else GPT_3


def published_files() -> list[str]:
    """Return the names of the published configurations, without their ending."""
    files = (_data() / "huggingface").iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if ".json" in file.name)


def published_configuration(name: str) -> Mapping[str, Any]:
    """Return a published configuration by the name of its file."""
    path = _data() / "huggingface" / f"{name}.json"
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def _data() -> Any:
    return resources.files("validation") / "data"


def _configuration_source(model: str) -> str:
    if model not in CONFIGURATIONS:
        return _GPT_3_SOURCE
    return f"validation/data/huggingface/{CONFIGURATIONS[model]}.json"


def built_cases() -> list[Case]:
    """Return for each model its count against the modules that transformers builds.

    Returns
    -------
    list of Case
        Total parameters, and active ones where they differ: of presets, of the published
        configurations without a preset, and of the default configuration of each family that is
        imported. Needs torch and transformers.
    """
    from validation import torch_runtime

    cases = []
    for model in (*CONFIGURATIONS, "gpt-3-175b"):
        predicted = {quantity: predicted_parameters(model, quantity) for quantity in _QUANTITIES}
        cases += _built_cases(model, predicted, configuration(model), _configuration_source(model))
    for name in published_files():
        if name not in CONFIGURATIONS.values():
            table = published_configuration(name)
            source = f"validation/data/huggingface/{name}.json"
            cases += _built_cases(name, imported_parameters(table), table, source)
    for family in FAMILIES:
        table = torch_runtime.default_configuration(family)
        source = "default configuration of the family in transformers"
        cases += _built_cases(f"{family} by default", imported_parameters(table), table, source)
    return cases


def _built_cases(
    name: str, predicted: Mapping[str, int], table: Mapping[str, Any], source: str
) -> list[Case]:
    from validation import torch_runtime

    counts = torch_runtime.parameter_counts(table)
    measured = {"total": counts.total}
    if counts.active != counts.total:
        measured["active"] = counts.active
    return [
        Case(
            suite=BUILT,
            name=f"{name} {quantity}",
            claim=f"{name} has as many {quantity} parameters as its modules",
            prediction=predicted[quantity],
            measurement=count,
            unit="parameter",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"elements of all parameters on the meta device, {torch_runtime.versions()}",
            source=source,
        )
        for quantity, count in measured.items()
    ]


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
