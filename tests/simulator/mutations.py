"""Every way in which the test of silence changes a scenario, and what an answer says of it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, EnumMeta
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from costmodels.analysis import CATALOGUE
from costmodels.errors import ShardwiseError
from costmodels.formats import FORMATS
from costmodels.leaves import SECTIONS, field_value
from costmodels.scenario import Scenario, field_paths, scenario_from_table, scenario_to_table
from costmodels.specs.base import declaration, field_types, plain_type
from costmodels.specs.cluster import PEAK_FORMATS
from costmodels.specs.plan import RecomputeModule
from costmodels.stages import balanced_layers
from simulator import whatif
from simulator.accounting import MemoryAccount
from simulator.answer import GROUPS, Answer
from simulator.publishing import reached
from tests.simulator.witnesses import witness

MIXTURE = "model.mixture"
QUANTIZATION = "precision.quantization"
ADAPTERS = "precision.adapters"
PEAKS = "cluster.accelerator.peak_flop_per_s"
LABEL = "label"

QUANTIZED = {
    "method": "gptq",
    "weight_format": "int4",
    "group_rows": 1,
    "group_columns": 128,
    "scale_format": "fp16",
}
"""A description that training refuses as a whole, whatever its fields are."""

ROUNDING_FRACTION = 1e-12
"""Sums of a few hundred terms in another order, in double precision."""


ROUNDING_FLOOR = 1e-15
"""A difference of such sums that is zero but for rounding: seconds and fractions."""

CLOSE = 1 + 1e-9
"""Notes print twelve digits."""


class Effect(NamedTuple):
    """What became of an answer when one field changed: numbers moved, or the value was refused."""

    value: Any
    moved: frozenset[str]
    refusal: str


class Remark(NamedTuple):
    """A note that a field, or some values of it, would move no number."""

    fields: tuple[str, ...]
    values: str

    def names(self, path: str) -> bool:
        """Return whether it is about the field, or about a description that holds the field."""
        return any(path == field or path.startswith(field + ".") for field in self.fields)

    def covers(self, value: Any, old: Any, scenario: Scenario) -> bool:
        """Return whether it says that this value would move nothing."""
        if not self.values:
            return True
        if self.values == "as many others of the same layout on the same virtual stages":
            return places(scenario, value) == places(scenario, old)
        if is_number(value) and (is_number(old) or old is None):
            for first, last in re.findall(r"from ([\d.e+-]+) to ([\d.e+-]+)", self.values):
                if float(first) / CLOSE <= value <= float(last) * CLOSE:
                    return True
            if old is not None and (
                ("a larger" in self.values and value > old)
                or ("a smaller" in self.values and value < old)
            ):
                return True
        listed = re.split(r", | or | and ", self.values)
        if isinstance(value, list) and isinstance(value[0], str):
            return any(
                "-".join(axis for axis in value if axis in order) == order for order in listed
            )
        return spoken(value) in listed


def places(scenario: Scenario, layers: Any) -> list[tuple[int, int]]:
    """Return the virtual stage and the layout of some layers, sorted."""
    model, plan = scenario.model, scenario.plan
    stages = plan.pipeline_parallel_size * plan.virtual_stages
    counts = plan.layers_per_stage or balanced_layers(
        model.num_hidden_layers, stages, model.multi_token_prediction_layers
    )
    stage_of = [stage for stage, count in enumerate(counts) for _ in range(count)]
    return sorted((stage_of[layer], layer % len(model.layouts)) for layer in layers)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def spoken(value: Any) -> str:
    """Return how a note writes a value."""
    if value is None:
        return "leaving it out"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return str(value)


def declared_type(path: str) -> Any:
    """Return the declared type of a field, with its bounds and influences."""
    section, *parts = path.split(".")
    kind: Any = SECTIONS[section]
    declared: Any = None
    for part in parts:
        if get_origin(kind) is dict:
            return declared
        declared = field_types(kind)[part]
        kind = plain_type(declared)
    return declared


def influences(path: str) -> frozenset[str]:
    """Return the influences that a field declares."""
    meta = declaration(declared_type(path))
    assert meta is not None, path
    assert meta.extra is not None, path
    return frozenset(meta.extra["influences"])


def all_paths() -> tuple[str, ...]:
    """Return every field, whether a description is there at all included."""
    optional = [MIXTURE, QUANTIZATION, ADAPTERS]
    return tuple(path for path in (*field_paths(), *optional) if path != PEAKS) + tuple(
        f"{PEAKS}.{name}" for name in FORMATS if name in PEAK_FORMATS
    )


def effects(name: str, path: str) -> list[Effect]:
    """Return what each candidate for a field of a witness does to its answer."""
    scenario = witness(name)
    table = scenario_to_table(scenario)
    before = numbers(base_answer(name))
    found = []
    for value in candidates(scenario, path):
        holder = {QUANTIZATION: QUANTIZED} if path.startswith(QUANTIZATION + ".") else {}
        try:
            changed = scenario_from_table(table, {**holder, path: value})
            after = numbers(whatif.estimate(changed, ignore_memory=True))
        except ShardwiseError as error:
            found.append(Effect(value, frozenset(), str(error)))
            continue
        moved = {
            influence_of(*key)
            for key in before.keys() | after.keys()
            if differ(before.get(key), after.get(key))
        }
        found.append(Effect(value, frozenset(moved), ""))
    return found


def differ(old: Any, new: Any) -> bool:
    """Return whether two published values differ by more than rounding."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(map(differ, old, new))
    if isinstance(old, float) and isinstance(new, float):
        return not math.isclose(old, new, rel_tol=ROUNDING_FRACTION, abs_tol=ROUNDING_FLOOR)
    return bool(old != new)


@cache
def base_answer(name: str) -> Answer:
    """Return the answer to a witness."""
    return whatif.estimate(witness(name), ignore_memory=True)


def numbers(answer: Answer) -> Mapping[tuple[str, str], Any]:
    """Return every published number by group and name."""
    found = {
        (group, name): value
        for group in GROUPS
        for name, value in getattr(answer, group).items()
        if name != "basis"
    }
    return found | {("memory", "fits"): answer.fits}


@cache
def influence_of(group: str, name: str) -> str:
    """Return the influence under which a published number moves."""
    if group == "compute" and "step_s" in reached(name, "1f1b"):
        return "time"
    if group == "pipeline" and (name not in CATALOGUE or "pipeline_s" in reached(name, "1f1b")):
        return "time"
    return group


def remarks(answer: Answer | MemoryAccount) -> list[Remark]:
    """Return what the notes of an answer say to be without effect."""
    found = []
    for note in answer.notes:
        for clause in note.split("; "):
            head, absolute, _ = clause.partition(" no effect")
            if absolute:
                found.append(Remark(_fields(head), ""))
            head, conditional, _ = clause.partition(" would move nothing")
            if conditional:
                subject, _, values = head.partition(": ")
                found.append(Remark(_fields(subject), values))
    return found


def _fields(text: str) -> tuple[str, ...]:
    sections = "|".join(SECTIONS)
    return tuple(match[0] for match in re.finditer(rf"\b(?:{sections})(?:\.\w+)+", text))


def candidates(scenario: Scenario, path: str) -> Iterator[Any]:
    """Return other values for a field, legal by its own declaration."""
    parts = (MIXTURE + ".", PEAKS + ".", ADAPTERS + ".")
    if path.startswith(parts) and _absent(scenario, path):
        return
    old = _value(scenario, path)
    if path in _SPECIAL:
        yield from _SPECIAL[path](scenario, old)
        return
    if path.startswith(QUANTIZATION + "."):
        old = QUANTIZED.get(path.rsplit(".", 1)[1])
    declared = declared_type(path)
    kind = plain_type(declared)
    if get_origin(kind) is dict:
        declared = kind = get_args(kind)[1]
    if isinstance(kind, EnumMeta):
        members: Mapping[str, Enum] = kind.__members__
        yield from (str(member.value) for member in members.values() if member is not old)
    elif path.startswith("precision.") and path.count(".") == 1 and path != "precision.name":
        yield from (name for name in FORMATS if name != old)
    elif plain_type(kind) is bool:
        yield not old
    elif plain_type(kind) is str:
        yield f"{old} otherwise"
    elif plain_type(kind) is int:
        yield from _within(declared, old, (old + 1, old - 1, old * 2, old // 2, old * 3))
    else:
        yield from _within(declared, old, (old * 1.5, old / 1.5))


def _absent(scenario: Scenario, path: str) -> bool:
    if path.startswith(MIXTURE):
        return scenario.model.mixture is None
    if path.startswith(ADAPTERS):
        return scenario.precision.adapters is None
    return path.rsplit(".", 1)[1] not in scenario.cluster.accelerator.peak_flop_per_s


def _value(scenario: Scenario, path: str) -> Any:
    if path.startswith(PEAKS + "."):
        return scenario.cluster.accelerator.peak_flop_per_s[path.rsplit(".", 1)[1]]
    return field_value(scenario, path)


def old_value(name: str, path: str) -> Any:
    """Return the value of a field of a witness, None where it is absent."""
    scenario = witness(name)
    return None if _absent_member(scenario, path) else _value(scenario, path)


def _absent_member(scenario: Scenario, path: str) -> bool:
    return path.startswith(PEAKS + ".") and _absent(scenario, path)


def _within(declared: Any, old: Any, values: tuple[Any, ...]) -> Iterator[Any]:
    for value in dict.fromkeys(values):
        if value == old:
            continue
        try:
            msgspec.convert(value, declared)
        except msgspec.ValidationError:
            continue
        yield value


def _layers(scenario: Scenario, old: Any) -> Iterator[Any]:
    plan, layers = scenario.plan, scenario.model.num_hidden_layers
    stages = plan.pipeline_parallel_size * plan.virtual_stages
    further = scenario.model.multi_token_prediction_layers
    balanced = list(balanced_layers(layers, stages, further))
    if old is None:
        yield balanced
    else:
        yield None
    if stages > 1:
        first, second, *rest = balanced
        yield [first + 1, second - 1, *rest]
        yield [layers] + [0] * (stages - 1)
    yield [*balanced, 1]


def _replicas(scenario: Scenario, old: Any) -> Iterator[Any]:
    plan = scenario.plan
    derived = scenario.cluster.accelerator_count // (
        plan.tensor_parallel_size * plan.pipeline_parallel_size * plan.context_parallel_size
    )
    yield derived if old is None else None
    yield derived + 1


def _expert_split(scenario: Scenario, old: Any) -> Iterator[Any]:
    plan = scenario.plan
    values = (None, 1, plan.tensor_parallel_size, 2 * plan.tensor_parallel_size, 3)
    yield from (value for value in dict.fromkeys(values) if value != old)


def _held_limit(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (None, 1, 4, 9) if value != old)


def _sharding_group(scenario: Scenario, old: Any) -> Iterator[Any]:
    plan = scenario.plan
    copies = scenario.cluster.accelerator_count // (
        plan.tensor_parallel_size * plan.pipeline_parallel_size
    )
    values = (None, copies, copies // 2 or 1, 2 * copies, 3)
    yield from (value for value in dict.fromkeys(values) if value != old)


def _capacity(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (None, 1.0, 1.25, 0.5) if value != old)


def _recomputed(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (1, 2, 3, 1000, None) if value != old)


def _modules(scenario: Scenario, old: Any) -> Iterator[Any]:
    names = [module.value for module in RecomputeModule]
    yield from ([name] for name in names if [name] != [module.value for module in old])
    # Refused: no module, one named twice.
    yield from ([], [names[0], names[0]], names)


def _orders(scenario: Scenario, old: Any) -> Iterator[Any]:
    """Yield the order with each two neighbours exchanged, and the reverse."""
    names = [axis.value for axis in old]
    for at in range(len(names) - 1):
        yield [*names[:at], names[at + 1], names[at], *names[at + 2 :]]
    yield names[::-1]


def _layouts(scenario: Scenario, old: Any) -> Iterator[Any]:
    masked, open_ = {"type": "dense", "causal": True}, {"type": "dense", "causal": False}
    yield [open_]
    yield [masked, open_]
    yield [masked] * (scenario.model.num_hidden_layers + 1)


def _mixture(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield {"expert_count": 4, "experts_per_token": 2} if old is None else None


def _quantization(scenario: Scenario, old: Any) -> Iterator[Any]:
    if old is None:
        yield QUANTIZED


def _adapters(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield {"rank": 8, "targets": ["query", "value"]} if old is None else None


def _adapted(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (["down"], ["key", "output"], ["up"]) if value != list(old))


def _group_sizes(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (0, 1, 32, 64, 128, 2**30) if value != old)


def _scales(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (value for value in (0, 2, 4, 8) if value != old)


def _adapter_formats(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (name for name in FORMATS if name != old)


def _quantized(*values: Any) -> Callable[[Scenario, Any], Iterator[Any]]:
    """Return candidates that hold wherever there is a quantization."""

    def choose(scenario: Scenario, old: Any) -> Iterator[Any]:
        yield from values

    return choose


def _expert_width(scenario: Scenario, old: Any) -> Iterator[Any]:
    width = scenario.model.intermediate_size
    yield from (value for value in (None, width, 2 * width, width // 2, width + 1) if value != old)


def _dense_layers(scenario: Scenario, old: Any) -> Iterator[Any]:
    layers = scenario.model.num_hidden_layers
    others = ([0], [1], [layers - 1], list(range(layers // 2)))
    yield from (value for value in others if value != list(old))
    # Refused: a layer that is not there, one named twice, no layer with experts.
    yield from ([layers], [0, 0], list(range(layers)))


def _notes(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield [*old, "one note more"]


def _source(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield "another paper"


def _main_weights(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (name for name in FORMATS if name != old)
    if old is not None:
        yield None


def _tokens(scenario: Scenario, old: Any) -> Iterator[Any]:
    if old is None:
        yield 10**12
    else:
        yield from (old + 1, old - 1, old * 2, None)


def _price(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (1e-3,) if old is None else (old * 1.5, old / 1.5, None)


def _host(scenario: Scenario, old: Any) -> Iterator[Any]:
    yield from (50e9,) if old is None else (old * 1.5, old / 1.5, None)


_SPECIAL = {
    "plan.layers_per_stage": _layers,
    "plan.data_parallel_size": _replicas,
    "plan.expert_tensor_parallel_size": _expert_split,
    "plan.sharding_group_size": _sharding_group,
    "plan.held_limit": _held_limit,
    "plan.expert_capacity_factor": _capacity,
    "plan.rank_order": _orders,
    "plan.recompute_modules": _modules,
    "plan.recompute_num_layers": _recomputed,
    "model.layouts": _layouts,
    "model.mixture": _mixture,
    "model.mixture.expert_intermediate_size": _expert_width,
    "model.mixture.dense_layers": _dense_layers,
    "model.notes": _notes,
    "model.source": _source,
    "precision.quantization": _quantization,
    "precision.quantization.method": _quantized("awq"),
    "precision.quantization.weight_format": _quantized("nf4", "fp8-e4m3"),
    "precision.quantization.scale_format": _quantized("bf16"),
    "precision.quantization.zero_points": _quantized(True),
    "precision.quantization.activation_format": _quantized("int8"),
    "precision.quantization.excluded": _quantized(["lm_head"]),
    "precision.adapters": _adapters,
    "precision.kv_cache_group_size": _group_sizes,
    "precision.kv_cache_scale_bytes": _scales,
    "precision.adapters.targets": _adapted,
    "precision.adapters.weights": _adapter_formats,
    "precision.main_weights": _main_weights,
    "workload.total_tokens": _tokens,
    "cluster.accelerator.price_usd_per_s": _price,
    "cluster.host_bandwidth_bytes_per_s": _host,
}
