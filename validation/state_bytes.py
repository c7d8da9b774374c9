"""Weights, gradients and optimizer states by the closed forms, against the memory of real ones.

Measured is the memory behind the tensors that a process keeps between a backward and the update,
what several tensors share counted once. Recipe fp32: the optimizer updates the weights themselves.

What torch keeps beyond the closed forms, or in another way, is a term of its own with cases of its
own:

- Adam and Adafactor count their updates in a tensor of 4 bytes for each tensor that they update;
  beside Muon, so does the Adam of the other tensors.
- One flat vector of all weights is padded to a multiple of the replicas, so that whole weights
  that are parts of it take up to a byte count of one element for each replica but one more.
- FSDP2 splits each parameter by its rows, and pads these to a multiple of the replicas. Where they
  are one, its memory is that of the closed form, which pads the sum; else more. Moments of the
  last replicas have no padding.
- Where each matrix of all experts is one parameter, as grouped products take them, its rows are
  experts: replicas that do not divide these keep whole experts as padding.
- FSDP2 with a ``MixedPrecisionPolicy`` keeps shards in fp32 alone, and gathers them in bf16: its
  weights are the main weights.
- ZeroRedundancyOptimizer deals out whole parameters: their states add up to the whole, and
  replicas hold unequal parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

from costmodels.columns import ceil_div
from costmodels.scenario import Scenario
from validation.cases import Case
from validation.small_models import MODELS, model_table, predicted, scenario_of

SUITE = "states-counted"

OPTIMIZERS: Mapping[str, str] = MappingProxyType(
    {
        "adam": "adam",
        "adamw": "adam",
        "adafactor": "adafactor",
        "muon": "muon",
        "sgd-momentum": "sgd-momentum",
        "sgd": "sgd",
    }
)
"""Optimizers of torch, and the optimizer of a workload that each is."""

REPLICAS = (2, 3, 4)

SHARDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "rows that divide": model_table(
            gated=True, intermediate_size=48, vocabulary_size=48, num_key_value_heads=2
        ),
        "rows that do not": MODELS["dense"],
        "experts": MODELS["shared experts"],
    }
)
"""Models that replicas shard: with 2, 3 and 4 replicas the rows of the first divide by them."""

_ELEMENT = 4
_QUANTITIES = {
    "weights": "weights_bytes",
    "gradients": "gradients_bytes",
    "moments": "optimizer_bytes",
}

_CAST_QUANTITIES = {
    "weights": "main_weights_bytes",
    "gradients": "gradients_bytes",
    "moments": "moments_bytes",
}


class Compared(NamedTuple):
    """A prediction beside its measurement [byte]."""

    name: str
    claim: str
    prediction: int
    measurement: int


def state_cases() -> list[Case]:
    """Return the states of one process with each optimizer, and of replicas that shard.

    Returns
    -------
    list of Case
        Needs torch, and starts processes.
    """
    alone = (pair for name, table in MODELS.items() for pair in alone_compared(name, table))
    shared = (pair for replicas in REPLICAS for pair in sharded_compared(replicas))
    return [*_cases(alone, 1), *_cases(shared, max(REPLICAS))]


def alone_compared(name: str, table: Mapping[str, Any]) -> Iterator[Compared]:
    """Return the states of one process with each optimizer.

    Parameters
    ----------
    name : str
        Label of the model.
    table : mapping
        Table of the model.
    """
    from validation.torch_programs import states

    for optimizer, described in OPTIMIZERS.items():
        scenario = scenario_of(table, workload={"optimizer": described})
        (kept,) = states.whole(scenario.model, optimizer)
        where = f"{name}, {optimizer}"
        yield from _equal(where, said_bytes(scenario), kept)
        yield Compared(
            f"{where}: steps",
            "Adam and Adafactor count their updates in 4 bytes for each tensor, beyond "
            "optimizer_bytes",
            _ELEMENT * states.counted_tensors(scenario.model, optimizer),
            kept.steps,
        )


def sharded_compared(replicas: int) -> Iterator[Compared]:
    """Return the states of replicas that shard in each way.

    Parameters
    ----------
    replicas : int
        Processes [count].
    """
    from validation.torch_programs import processes, states

    models = tuple(scenario_of(table).model for table in SHARDED.values())
    ranks = processes.run(partial(states.all_sharded, models), replicas)
    for index, (name, table) in enumerate(SHARDED.items()):
        programs = ranks[0][index]
        kept = {program: [rank[index][program] for rank in ranks] for program in programs}
        where = f"{name}, {replicas} replicas"
        for stage in (1, 2):
            yield from _flat_compared(where, table, stage, kept[f"ZeRO-{stage}"])
        yield from _fully_sharded_compared(where, table, kept["FSDP2"])
        if states.STACKED in kept:
            yield from _fully_sharded_compared(where, table, kept[states.STACKED], stacked=True)
        if states.CAST in kept:
            yield from _cast_compared(where, table, kept[states.CAST])
        yield from _dealt_out_compared(where, table, kept["ZeroRedundancyOptimizer"])


def said_bytes(scenario: Scenario) -> dict[str, int]:
    """Return what the closed forms say of a process's states [byte]."""
    values = predicted(scenario, _QUANTITIES.values())
    return {part: int(values[quantity][0]) for part, quantity in _QUANTITIES.items()}


def _sharded_scenario(table: Mapping[str, Any], replicas: int, zero_stage: int) -> Scenario:
    return scenario_of(table, replicas=replicas, plan={"zero_stage": zero_stage})


def _equal(
    where: str,
    said: Mapping[str, int],
    kept: Any,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Compared]:
    """Return every part of a process's states beside what is said of it, with its own term."""
    for part, quantity in _QUANTITIES.items():
        term = beside.get(part, "")
        claim = f"{quantity}{term} is the memory of a process's {part}"
        yield Compared(f"{where}: {part}", claim, said[part], getattr(kept, part))


def _flat_compared(
    where: str, table: Mapping[str, Any], zero_stage: int, kept: list[Any]
) -> Iterator[Compared]:
    """Return the states of replicas that shard one flat vector, on every rank."""
    said = said_bytes(_sharded_scenario(table, len(kept), zero_stage))
    padding = -(said["weights"] // _ELEMENT) % len(kept) * _ELEMENT
    said["weights"] += padding
    for rank, own in enumerate(kept):
        place = f"{where}, ZeRO-{zero_stage}, rank {rank}"
        yield from _equal(place, said, own, beside={"weights": " and the flat vector's padding"})


def _fully_sharded_compared(
    where: str, table: Mapping[str, Any], kept: list[Any], *, stacked: bool = False
) -> Iterator[Compared]:
    """Return the states of FSDP2: on the first rank, which is never less, and of all ranks."""
    from validation.torch_programs import states

    scenario = _sharded_scenario(table, len(kept), 3)
    said = said_bytes(scenario)
    shapes = states.parameter_shapes(scenario.model, stacked=stacked)
    program = states.STACKED if stacked else "FSDP2"
    extra = row_padding_elements(shapes, len(kept)) * _ELEMENT
    whole = said_bytes(scenario_of(table))["moments"]
    padded = {part: bytes_ + extra * (1 + (part == "moments")) for part, bytes_ in said.items()}
    term = dict.fromkeys(said, " and the padding of rows")
    yield from _equal(f"{where}, {program}, rank 0", padded, kept[0], beside=term)
    yield Compared(
        f"{where}, {program}: padding of rows",
        "rows that all divide by the replicas are split as the closed form splits their sum",
        extra,
        kept[0].weights - said["weights"],
    )
    yield Compared(
        f"{where}, {program}: moments of all replicas",
        "moments of all replicas together are optimizer_bytes without sharding",
        whole,
        sum(own.moments for own in kept),
    )


def _cast_compared(where: str, table: Mapping[str, Any], kept: list[Any]) -> Iterator[Compared]:
    """Return the states of FSDP2 that gathers in bf16, on the first rank, which is never less."""
    from validation.torch_programs import states

    plan = {"zero_stage": 3, "cast_on_gather": True}
    scenario = scenario_of(table, replicas=len(kept), plan=plan)
    said = predicted(scenario, _CAST_QUANTITIES.values())
    extra = row_padding_elements(states.parameter_shapes(scenario.model), len(kept)) * _ELEMENT
    for part, quantity in _CAST_QUANTITIES.items():
        yield Compared(
            f"{where}, FSDP2 that gathers in bf16, rank 0: {part}",
            f"{quantity} and the padding of rows is the memory of {part}; there are no others",
            int(said[quantity][0]) + extra * (1 + (part == "moments")),
            getattr(kept[0], part),
        )


def row_padding_elements(shapes: Iterable[tuple[int, ...]], replicas: int) -> int:
    """Return by how much padding each parameter's rows takes more than padding their sum.

    Parameters
    ----------
    shapes : iterable of tuple of int
        Shapes of the parameters; the first size is the rows [count].
    replicas : int
        Replicas that share them [count].

    Returns
    -------
    int
        On one replica; zero where all rows divide [parameter].

    Examples
    --------
    >>> row_padding_elements([(8, 3), (4,)], 4), row_padding_elements([(7, 3), (5,)], 4)
    (0, 1)
    """
    sizes = list(shapes)
    by_rows = sum(ceil_div(rows, replicas) * prod(rest) for rows, *rest in sizes)
    return int(by_rows - ceil_div(sum(map(prod, sizes)), replicas))


def _dealt_out_compared(
    where: str, table: Mapping[str, Any], kept: list[Any]
) -> Iterator[Compared]:
    """Return the states that ZeroRedundancyOptimizer deals out."""
    from validation.torch_programs import states

    scenario = scenario_of(table)
    said = said_bytes(scenario)
    place = f"{where}, ZeroRedundancyOptimizer"
    shares = dealt_elements(map(prod, states.parameter_shapes(scenario.model)), len(kept))
    yield Compared(
        f"{place}: moments of all replicas",
        "moments of all replicas together are optimizer_bytes without sharding",
        said["moments"],
        sum(own.moments for own in kept),
    )
    yield Compared(
        f"{place}: largest share",
        "the largest share is that of dealing out parameters, largest first, to who has least",
        2 * _ELEMENT * max(shares),
        max(own.moments for own in kept),
    )


def dealt_elements(sizes: Iterable[int], replicas: int) -> list[int]:
    """Return the elements of each replica when whole parameters are dealt out.

    Parameters
    ----------
    sizes : iterable of int
        Elements of the parameters [parameter].
    replicas : int
        Replicas that get them [count].

    Returns
    -------
    list of int
        Largest first, each to the replica that has least [parameter].

    Examples
    --------
    >>> dealt_elements([1, 2, 3, 4], 2)
    [5, 5]
    """
    shares = [0] * replicas
    for size in sorted(sizes, reverse=True):
        shares[shares.index(min(shares))] += size
    return shares


def _cases(compared: Iterable[Compared], most: int) -> Iterator[Case]:
    from validation.torch_programs import counting

    where = "one process" if most == 1 else f"gloo, up to {most} processes"
    for pair in compared:
        yield Case(
            suite=SUITE,
            name=pair.name,
            claim=pair.claim,
            prediction=pair.prediction,
            measurement=pair.measurement,
            unit="byte",
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method=f"memory behind the tensors of a training step, {where}, "
            f"{counting.torch_version()}",
            source="validation/torch_programs/states.py",
        )
