"""What torch and transformers say: the only module that imports them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch


class ParameterCounts(NamedTuple):
    """Parameters of a model as transformers builds it.

    Attributes
    ----------
    total : int
        Parameters of all modules, a shared one counted once [parameter].
    active : int
        Those that one token passes through: of the experts, as many as it visits [parameter].
    """

    total: int
    active: int


def parameter_counts(configuration: Mapping[str, Any]) -> ParameterCounts:
    """Return the parameters of a causal language model, built on torch's meta device.

    Parameters
    ----------
    configuration : mapping
        Keys of the model's ``config.json``, with `model_type`.

    Returns
    -------
    ParameterCounts
        Counted over the modules; no weight is allocated.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**configuration)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    experts = sum(
        parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name
    )
    if experts == 0:
        return ParameterCounts(total, total)
    count, chosen = int(config.num_local_experts), int(config.num_experts_per_tok)
    return ParameterCounts(total, total - experts // count * (count - chosen))


def versions() -> str:
    """Return the versions of torch and transformers, for the record of a case."""
    import transformers

    return f"torch {torch.__version__}, transformers {transformers.__version__}"
