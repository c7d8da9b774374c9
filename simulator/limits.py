"""The largest or smallest value of a field with which a plan still fits, solved on the closed forms.

Every legal value is tried at once, as rows of columns; rules mask those that are not legal. Memory
never falls as sequences get longer, nor as inference holds more of them, so that of so many values
only some are tried: those between the largest known to fit and the smallest known not to. Layers
change what a model is made of, so each number of layers has columns of its own; where all layers
are alike memory never falls with their number either.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec
import numpy as np
import numpy.typing as npt

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns, compile_fields
from costmodels.errors import ShardwiseError, SpecError, not_found_message
from costmodels.leaves import declared_type, field_value
from costmodels.quantities import KIND
from costmodels.rules import valid
from costmodels.scenario import Scenario, scenario_from_table, scenario_hash, scenario_to_table
from costmodels.specs.workload import WorkloadKind
from costmodels.stages import part_count
from costmodels.version import VERSION
from simulator.accounting import MemoryAccount, memory_account, memory_of
from simulator.answer import SCHEMA_VERSION
from simulator.publishing import scalar

_Ints = npt.NDArray[np.int64]


class LimitCase(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the field that was asked about, and the memory that it takes.

    Attributes
    ----------
    value : int
        Value of the field.
    memory : MemoryAccount
        Memory by stage and component.
    """

    value: int
    memory: MemoryAccount


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an inverse question.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`, of the scenario as it was stated.
    sense : str
        largest or smallest.
    quantity : str
        What was asked for, such as micro-batch.
    field : str
        Field of the scenario that varies.
    stated_value : int
        Its value in the scenario.
    found : LimitCase or None
        The largest or smallest value that fits; None where none does.
    next : LimitCase or None
        The next legal value, which does not fit; None where there is none.
    closest : LimitCase or None
        Where nothing fits, the value that misses by least.
    growing_component : str
        Component of the next value's fullest stage that grows most on the way to it.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    sense: str
    quantity: str
    field: str
    stated_value: int
    found: LimitCase | None
    next: LimitCase | None
    closest: LimitCase | None
    growing_component: str


class _Tried(msgspec.Struct, frozen=True):
    """The values on the two sides of a limit, None where there is none on a side."""

    found: int | None
    next: int | None
    closest: int | None


def limit(scenario: Scenario, sense: str, quantity: str) -> Limit:
    """Return the largest or smallest value of a field with which a plan fits.

    Parameters
    ----------
    scenario : Scenario
        What is asked about; all its other fields stay.
    sense : str
        ``largest`` or ``smallest``.
    quantity : str
        ``micro-batch``, ``sequence-length``, which is ``context`` too, or ``layers``; in inference
        ``batch``, the sequences of all replicas; with ``smallest``, ``gpus`` or
        ``tensor-parallel-size``.

    Raises
    ------
    SpecError
        If there is no such question, or none of this kind of workload.
    """
    known = QUESTIONS[sense]
    if quantity not in known:
        raise SpecError(not_found_message(what=f"{sense} value", name=quantity, known=known))
    if quantity == "batch" and scenario.workload.kind is WorkloadKind.TRAINING:
        raise SpecError(
            "largest batch: in training the batch is computed in microbatches, one after the "
            "other; ask for the largest micro-batch, or set workload.kind = prefill or decode"
        )
    field, search = known[quantity]
    # Replicas follow from the other sizes; a number that is stated would allow one value only.
    plan = msgspec.structs.replace(scenario.plan, data_parallel_size=None)
    base = msgspec.structs.replace(scenario, plan=plan)
    tried = search(base)
    found, following, closest = (
        None if value is None else _case(base, field, value)
        for value in (tried.found, tried.next, tried.closest)
    )
    return Limit(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        scenario_hash=scenario_hash(scenario),
        sense=sense,
        quantity=quantity,
        field=field,
        stated_value=field_value(scenario, field),
        found=found,
        next=following,
        closest=closest,
        growing_component=_growing(found, following),
    )


def _case(base: Scenario, field: str, value: int) -> LimitCase:
    changed = scenario_from_table(scenario_to_table(base), {field: value})
    return LimitCase(value=value, memory=memory_account(changed))


def _growing(found: LimitCase | None, following: LimitCase | None) -> str:
    """Return the component that grows most on the stage that binds, empty where nothing does."""
    if found is None or following is None:
        return ""
    stage = following.memory.worst_stage_index
    if stage >= len(found.memory.stage_bytes):
        return ""

    def growth(name: str) -> int:
        after = following.memory.component(name).stage_bytes[stage]
        return after - found.memory.component(name).stage_bytes[stage]

    return max((entry.name for entry in following.memory.components), key=growth)


def _divisors(number: int) -> _Ints:
    """Return the divisors of a number, ascending."""
    small = np.arange(1, int(number**0.5) + 2, dtype=np.int64)
    small = small[number % small == 0]
    return np.unique(np.concatenate([small, number // small]))


def _most(field: str) -> int:
    """Return the upper bound of a field."""
    return next(int(meta.le) for meta in declared_type(field).__metadata__ if meta.le is not None)


def _headroom(base: Scenario, field: str, values: _Ints) -> _Ints:
    """Return the headroom of each value [byte]."""
    columns = compile_columns(base, {field: values})
    name = memory_of(base).headroom
    headroom = evaluate(columns, (name,))[name]
    return np.broadcast_to(np.asarray(headroom), values.shape).astype(np.int64)


def _legal(base: Scenario, field: str, values: _Ints) -> _Ints:
    """Return the values that obey every rule."""
    keep = np.broadcast_to(valid(compile_fields(base, {field: values})), values.shape)
    legal: _Ints = values[keep]
    return legal


def _among(values: _Ints, headroom: _Ints, *, largest: bool) -> _Tried:
    """Return where the limit lies among legal values in ascending order."""
    if not values.size:
        return _Tried(None, None, None)
    fitting = np.flatnonzero(headroom >= 0)
    if not fitting.size:
        return _Tried(None, None, int(values[int(np.argmax(headroom))]))
    place = int(fitting[-1] if largest else fitting[0])
    beyond = place + (1 if largest else -1)
    following = int(values[beyond]) if 0 <= beyond < values.size else None
    return _Tried(int(values[place]), following, None)


_MICRO, _LENGTH = "plan.micro_batch_size", "workload.sequence_length"
_BATCH, _TENSOR = "workload.global_batch_size", "plan.tensor_parallel_size"
_LAYERS, _COUNT = "model.num_hidden_layers", "cluster.accelerator_count"


def _micro_batch(base: Scenario) -> _Tried:
    """Return the largest microbatch: of the divisors of a replica's share of the batch."""
    replicas = scalar(evaluate(compile_fields(base), ("data_parallel_size",))["data_parallel_size"])
    values = _divisors(base.workload.global_batch_size // replicas)
    values = _legal(base, _MICRO, values[values <= _most(_MICRO)])
    return _among(values, _headroom(base, _MICRO, values), largest=True)


def _gpus(base: Scenario) -> _Tried:
    """Return the fewest accelerators: replicas that divide the batch into whole microbatches."""
    plan = base.plan
    ranks = plan.tensor_parallel_size * plan.pipeline_parallel_size * plan.context_parallel_size
    replicas = _divisors(base.workload.global_batch_size // plan.micro_batch_size)
    values = _legal(base, _COUNT, ranks * replicas[ranks * replicas <= _most(_COUNT)])
    return _among(values, _headroom(base, _COUNT, values), largest=False)


def _tensor(base: Scenario) -> _Tried:
    """Return the fewest ranks that share each matrix: of those that divide the accelerators."""
    plan = base.plan
    others = plan.pipeline_parallel_size * plan.context_parallel_size
    values = _legal(base, _TENSOR, _divisors(base.cluster.accelerator_count // others))
    return _among(values, _headroom(base, _TENSOR, values), largest=False)


_POINTS = 256
"""Values tried at once between two ends."""


def _sequence_length(base: Scenario) -> _Tried:
    """Return the longest sequence: of the multiples of the shortest legal one."""
    return _multiple(base, _LENGTH)


def _batch(base: Scenario) -> _Tried:
    """Return the most sequences: of the multiples of the fewest legal ones."""
    return _multiple(base, _BATCH)


def _multiple(base: Scenario, field: str) -> _Tried:
    """Return the largest multiple of the smallest legal value of a field."""
    unit = _least(base, field)

    def is_legal(multiples: _Ints) -> npt.NDArray[np.bool_]:
        values = unit * multiples
        return np.isin(values, _legal(base, field, values))

    def headroom(multiples: _Ints) -> _Ints:
        return _headroom(base, field, unit * multiples)

    most = _last(is_legal, 0, _most(field) // unit + 1)
    last = _last(lambda multiples: headroom(multiples) >= 0, 0, most + 1)
    if last == 0:
        return _Tried(None, None, unit)
    return _Tried(unit * last, unit * (last + 1) if last < most else None, None)


def _least(base: Scenario, field: str) -> int:
    """Return the smallest legal value of a field: what rules divide it by, all together."""
    divisors = _legal(base, field, _divisors(field_value(base, field)))
    return int(divisors[0])


def _last(holds: Callable[[_Ints], npt.NDArray[np.bool_]], low: int, high: int) -> int:
    """Return the last number between two, the first counting as good, up to which all hold."""
    while high - low > 1:
        points = np.unique(np.geomspace(low + 1, high, _POINTS).astype(np.int64))
        if high - low <= _POINTS:
            points = np.arange(low + 1, high, dtype=np.int64)
        points = points[(points > low) & (points < high)]
        good = points[holds(points)]
        bad = np.setdiff1d(points, good)
        low = int(good.max()) if good.size else low
        above = bad[bad > low]
        high = int(above.min()) if above.size else high
    return low


def _window(base: Scenario) -> int:
    """Return how far beyond a number of layers that does not fit a larger one still might.

    A number of layers that gives every stage a period of layouts more than it has now, all of them
    behind the layers without experts, gives it as many of each kind at least.
    """
    plan, model = base.plan, base.model
    dense = model.mixture.dense_layers if model.mixture else ()
    stages = part_count(plan)
    return stages * (len(model.layouts) + max(dense, default=-1) + 2)


def _layers(base: Scenario) -> _Tried:
    """Return the most layers, by rules alone which numbers are legal."""
    headrooms: dict[int, int | None] = {}

    def headroom(count: int) -> int | None:
        """Return the headroom with so many layers, None where rules refuse them."""
        if count not in headrooms:
            headrooms[count] = _headroom_of_layers(base, count)
        return headrooms[count]

    def next_legal(count: int, most: int) -> int | None:
        return next((n for n in range(count + 1, most + 1) if headroom(n) is not None), None)

    stated = base.model.num_hidden_layers
    if base.plan.layers_per_stage is not None:
        # They say how many layers there are.
        return _among(np.asarray([stated]), np.asarray([headroom(stated)]), largest=True)
    most = _most(_LAYERS)
    least = next(n for n in range(1, stated + 1) if headroom(n) is not None)
    low, high = least, least
    while high < most and _fits(headroom(high)):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(headroom(middle)) else (low, middle)
    candidates = {least, low, high}
    if compile_fields(base).sizes[KIND] > 1:
        candidates |= set(range(low, min(high + min(_window(base), high), most) + 1))
    legal = sorted(n for n in candidates if headroom(n) is not None)
    fitting = [n for n in legal if _fits(headroom(n))]
    if not fitting:
        return _Tried(None, None, max(legal, key=lambda n: headroom(n) or 0))
    return _Tried(fitting[-1], next_legal(fitting[-1], most), None)


def _fits(headroom: int | None) -> bool:
    return headroom is not None and headroom >= 0


def _headroom_of_layers(base: Scenario, count: int) -> int | None:
    try:
        model = msgspec.structs.replace(base.model, num_hidden_layers=count)
        changed = msgspec.structs.replace(base, model=model)
    except ShardwiseError:
        return None
    name = memory_of(base).headroom
    headroom: int = scalar(evaluate(compile_columns(changed), (name,))[name])
    return headroom


_Search = Callable[[Scenario], _Tried]

QUESTIONS: Mapping[str, Mapping[str, tuple[str, _Search]]] = MappingProxyType(
    {
        "largest": MappingProxyType(
            {
                "micro-batch": (_MICRO, _micro_batch),
                "sequence-length": (_LENGTH, _sequence_length),
                "context": (_LENGTH, _sequence_length),
                "batch": (_BATCH, _batch),
                "layers": (_LAYERS, _layers),
            }
        ),
        "smallest": MappingProxyType(
            {"gpus": (_COUNT, _gpus), "tensor-parallel-size": (_TENSOR, _tensor)}
        ),
    }
)
"""For each sense what can be asked for: the field that varies, and how it is searched."""
