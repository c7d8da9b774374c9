"""Formulas broken on purpose: validation catches every one of them.

Each mutant changes one function of the catalogue as a careless edit would. The cases of the named
job pass before, so that a case that fails is the mutant's doing.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest

from costmodels import analysis
from validation import (
    collective_counts,
    exchange_counts,
    flop_counts,
    kv_cache_bytes,
    module_parameters,
    offloaded_tensors,
    parallel_claims,
    saved_tensors,
    state_bytes,
)
from validation.cases import Case, passed
from validation.small_models import MODELS

Given = Mapping[str, Any]


class Mutant(NamedTuple):
    """A broken formula, and the comparisons that must notice."""

    mistake: str
    quantity: str
    change: Callable[[Any, Given], Any]
    compared: Callable[[], Iterable[Any]]


def differences(pairs: Iterable[Any]) -> list[str]:
    """Return the names of cases that fail, or of pairs that differ."""
    return [
        pair.name
        for pair in pairs
        if not (passed(pair) if isinstance(pair, Case) else pair.prediction == pair.measurement)
    ]


def _small(function: Callable[[Any], list[Case]], name: str) -> Callable[[], list[Case]]:
    return partial(function, {name: MODELS[name]})


def _tensor() -> list[Case]:
    return collective_counts.kind_cases("tensor and sequence parallel")


def _alone() -> Iterable[Any]:
    return state_bytes.alone_compared("gated", MODELS["gated"])


def _sharded() -> Iterable[Any]:
    return state_bytes.sharded_compared(2)


def _data() -> list[Case]:
    return collective_counts.kind_cases("data parallel", 4)


def _pipeline() -> list[Case]:
    return collective_counts.kind_cases("pipeline parallel", 1)


def _sequence_claims() -> list[Case]:
    return list(parallel_claims.sequence_cases())


def _pipeline_claims() -> list[Case]:
    return list(parallel_claims.three_dimensional_cases())


MUTANTS = (
    Mutant(
        "a factor of two in the products of a layer",
        "layer_matmul_flop",
        lambda value, _: 2 * value,
        _small(flop_counts.flop_cases, "gated"),
    ),
    Mutant(
        "an off-by-one in the count of scores",
        "executed_pairs",
        lambda value, given: value - given["sequence_length"],
        _small(flop_counts.flop_cases, "gated"),
    ),
    Mutant(
        "the head forgotten in its backward's twin",
        "head_flop",
        lambda value, _: value // 2,
        _small(flop_counts.flop_cases, "dense"),
    ),
    Mutant(
        "the router forgotten",
        "router_parameters",
        lambda value, _: 0 * value,
        _small(module_parameters.parameter_cases, "mixture"),
    ),
    Mutant(
        "the bias of a layer norm forgotten",
        "norm_parameters",
        lambda _, given: given["hidden_size"],
        _small(module_parameters.parameter_cases, "dense"),
    ),
    Mutant(
        "weights sharded twice",
        "wide_weights_bytes",
        lambda value, given: value // (1 + (given["zero_stage"] >= 3)),
        _sharded,
    ),
    Mutant(
        "a moment forgotten",
        "optimizer_bytes",
        lambda value, _: value // 2,
        _alone,
    ),
    Mutant(
        "gathered again forgotten",
        "regathers",
        lambda value, _: 0 * value,
        _tensor,
    ),
    Mutant(
        "an all-reduce counted as one pass",
        "loss_all_reduce_bytes",
        lambda value, _: value // 2,
        _tensor,
    ),
    Mutant(
        "reductions of the whole, not of a shard",
        "chunk_dense_gradient_bytes",
        lambda value, given: value * given["sharding_size"],
        _data,
    ),
    Mutant(
        "elements of a message taken for bytes",
        "hop_bytes",
        lambda value, given: value // given["activation_element_bytes"],
        _pipeline,
    ),
    Mutant(
        "experts' rows sent as if nothing stayed",
        "expert_message_bytes",
        lambda value, _: 2 * value,
        exchange_counts.exchange_cases,
    ),
    Mutant(
        "the core of attention kept though recomputed",
        "layer_repeated_bytes",
        lambda value, given: value - given["core_is_repeated"] * given["attention_core_bytes"],
        _sequence_claims,
    ),
    Mutant(
        "bubble over ideal time rather than all time",
        "ideal_idle_fraction",
        lambda value, _: value / (1 - value),
        _pipeline_claims,
    ),
    Mutant(
        "a tensor saved twice",
        "torch_ffn_bytes",
        lambda value, given: value + given["microbatch_tokens"],
        _small(saved_tensors.saved_cases, "gated"),
    ),
    Mutant(
        "a layer on the host that never left",
        "kind_offloaded_layers",
        lambda value, _: 0 * value,
        _small(offloaded_tensors.offloaded_cases, "gated"),
    ),
    Mutant(
        "keys without values in the cache",
        "layer_cache_bytes",
        lambda value, _: value // 2,
        kv_cache_bytes.cache_cases,
    ),
)


def broken(mutant: Mutant) -> Mapping[str, Any]:
    """Return the catalogue with one function changed."""
    entry = analysis.CATALOGUE[mutant.quantity]

    def wrong(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def changed(**given: Any) -> Any:
            return mutant.change(function(**given), given)

        return changed

    if entry.function is None:
        variants = {name: wrong(function) for name, function in entry.variants.items()}
        replaced = msgspec.structs.replace(entry, variants=MappingProxyType(variants))
    else:
        replaced = msgspec.structs.replace(entry, function=wrong(entry.function))
    return MappingProxyType({**analysis.CATALOGUE, mutant.quantity: replaced})


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_validation_catches_a_broken_formula(
    mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert differences(mutant.compared()) == []
    monkeypatch.setattr(analysis, "CATALOGUE", broken(mutant))
    assert differences(mutant.compared())
