"""What transformers keeps of keys and values after a forward of a small model."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache


class Kept(NamedTuple):
    """The cache of one layer.

    Attributes
    ----------
    tokens : int
        Tokens of each sequence whose keys are kept, zero where a state takes their place [token].
    cache_bytes : int
        Keys and values, or states, of all sequences [byte].
    """

    tokens: int
    cache_bytes: int


def kept_by_layer(configuration: Mapping[str, Any], batch: int, length: int) -> list[Kept]:
    """Return what each layer keeps after a forward on (batch, length) tokens, in bf16.

    Parameters
    ----------
    configuration : mapping
        Keys of a small model's ``config.json``, with `model_type`.
    batch, length : int
        Sequences, and tokens of each [count].
    """
    config = AutoConfig.for_model(**configuration)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    cache = DynamicCache(config=config)
    with torch.no_grad():
        model(torch.zeros(batch, length, dtype=torch.int64), cache=cache, use_cache=True)
    return [_kept(vars(layer)) for layer in cache.layers]


def _kept(layer: Mapping[str, Any]) -> Kept:
    """Return what a layer of the cache holds: keys and values, or states by their index."""
    if "keys" in layer:
        keys, values = layer["keys"], layer["values"]
        return Kept(keys.shape[-2], keys.nbytes + values.nbytes)
    states = [*layer["conv_states"].values(), *layer["recurrent_states"].values()]
    return Kept(0, sum(state.nbytes for state in states))
