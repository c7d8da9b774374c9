"""What torch and transformers say: the only module that imports them."""

from collections.abc import Mapping
from types import MappingProxyType
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


CLASSES: Mapping[str, str] = MappingProxyType(
    {"kimi_k2": "deepseek_v3", "minimax_m1": "minimax", "minimax_text_01": "minimax"}
)
"""Families without a class in transformers, and the family whose modules they have."""

_EXPERT_COUNTS = ("num_local_experts", "n_routed_experts", "num_experts")
_NEEDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "deepseek_v2": {"num_experts_per_tok": 6},
        "glm4_moe": {"head_dim": 128},
        "ministral": {"head_dim": 128, "layer_types": ["full_attention", "sliding_attention"] * 16},
    }
)
"""Keys without which the default configuration of a family builds no model."""


def has_cuda() -> bool:
    """Return whether torch finds a CUDA device."""
    return torch.cuda.is_available()


def default_configuration(family: str) -> dict[str, Any]:
    """Return the keys that the configuration of a family has where nothing is stated."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(CLASSES.get(family, family), **_NEEDED.get(family, {}))
    return {**config.to_dict(), "model_type": family}


def _text_config(configuration: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    family = configuration["model_type"]
    table = {**configuration, "model_type": CLASSES.get(family, family)}
    return AutoConfig.for_model(**table).get_text_config()


def kinds_of_layers(configuration: Mapping[str, Any]) -> list[str] | None:
    """Return what transformers takes each layer's attention for, None where all are alike."""
    kinds = getattr(_text_config(configuration), "layer_types", None)
    return None if kinds is None else list(kinds)


def parameter_counts(configuration: Mapping[str, Any]) -> ParameterCounts:
    """Return the parameters of a causal language model, built on torch's meta device.

    Parameters
    ----------
    configuration : mapping
        Keys of the model's ``config.json``, with `model_type`; of a multimodal model, the text
        model is built.

    Returns
    -------
    ParameterCounts
        Counted over the modules; no weight is allocated.
    """
    from transformers import AutoModelForCausalLM

    config = _text_config(configuration)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    experts = sum(
        parameter.numel() for name, parameter in model.named_parameters() if ".experts." in name
    )
    if experts == 0:
        return ParameterCounts(total, total)
    stated = (getattr(config, key, None) for key in _EXPERT_COUNTS)
    count, chosen = int(next(filter(None, stated))), int(config.num_experts_per_tok)
    return ParameterCounts(total, total - experts // count * (count - chosen))


def versions() -> str:
    """Return the versions of torch and transformers, for the record of a case."""
    import transformers

    return f"torch {torch.__version__}, transformers {transformers.__version__}"
