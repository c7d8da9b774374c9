"""Parameters by the closed forms, against the elements of real modules of every kind of layer."""

from collections.abc import Iterator, Mapping
from typing import Any

from costmodels.scenario import Scenario
from costmodels.stages import layer_kinds
from validation.cases import Case
from validation.small_models import MODELS, predicted, scenario_of

SUITE = "parameters-counted"


def parameter_cases(models: Mapping[str, Mapping[str, Any]] = MODELS) -> list[Case]:
    """Return the parameters of each kind of layer of each model, and of the whole model.

    Parameters
    ----------
    models : mapping of str to mapping
        Tables of models by name.

    Returns
    -------
    list of Case
        Needs torch.
    """
    from validation.torch_programs import counting

    return [
        Case(
            suite=SUITE,
            name=f"{model}: {part}",
            claim=f"{quantity} is the elements of all parameters of the module",
            prediction=prediction,
            measurement=measurement,
            unit="parameter",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"elements of all parameters on the meta device, {counting.torch_version()}",
            source="validation/torch_programs/blocks.py",
        )
        for model, table in models.items()
        for part, quantity, prediction, measurement in parameters_compared(scenario_of(table))
    ]


def parameters_compared(scenario: Scenario) -> Iterator[tuple[str, str, int, int]]:
    """Return part, quantity, prediction and measurement of the layers and of the whole.

    Parameters
    ----------
    scenario : Scenario
        Any with the model.
    """
    from validation.torch_programs import counting

    names = ("layer_parameters", "total_parameters", "multi_token_prediction_parameters")
    said = predicted(scenario, (*names, "stage_parameters"))
    kinds, _ = layer_kinds(scenario.model)
    for kind in range(max(kinds) + 1):
        counted = counting.block_elements(scenario.model, kinds.index(kind))
        yield f"kind {kind}", "layer_parameters", said["layer_parameters"][kind], counted
    whole = counting.decoder_elements(scenario.model)
    further = said["multi_token_prediction_parameters"]
    yield "model", "total_parameters", said["total_parameters"], whole - further
    yield "one GPU", "stage_parameters", said["stage_parameters"][0], whole
