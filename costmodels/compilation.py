"""From descriptions to the numbers and columns that closed forms take.

A model compiles to its kinds of layer; a plan to its classes of pipeline stages. Neighbours with
the same layers, ends and microbatches in flight form a class, and classes are in the order of
their stages. Where rows of a batch have fewer classes than others, one of them is repeated with
a count of zero, which moves neither a sum nor a maximum.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from costmodels.columns import Column
from costmodels.errors import NoReferenceDataError, SpecError
from costmodels.formats import format_named
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.quantities import CHUNK, KIND, STAGE
from costmodels.specs.base import Spec, declaration, field_types, plain_type
from costmodels.specs.cluster import Cluster
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan, RankAxis
from costmodels.specs.precision import Precision
from costmodels.specs.workload import Workload
from costmodels.units import unit_of_field

SECTIONS: Mapping[str, type[Spec]] = {
    "model": Model,
    "cluster": Cluster,
    "plan": Plan,
    "precision": Precision,
    "workload": Workload,
}
"""The sections of a scenario and their descriptions."""


class Sections(Protocol):
    """The five descriptions that make a scenario."""

    @property
    def model(self) -> Model:
        """Return the model."""

    @property
    def cluster(self) -> Cluster:
        """Return the cluster."""

    @property
    def plan(self) -> Plan:
        """Return the plan."""

    @property
    def precision(self) -> Precision:
        """Return the precision recipe."""

    @property
    def workload(self) -> Workload:
        """Return the workload."""


class Leaf(NamedTuple):
    """An input of the closed forms, and the field of the scenario that it comes from.

    Attributes
    ----------
    path : str
        Field, such as ``plan.tensor_parallel_size``.
    unit : str
        Unit of the number.
    definition : str
        One line.
    axes : tuple of str
        Axes along which it has a value for each member.
    """

    path: str
    unit: str
    definition: str
    axes: tuple[str, ...] = ()


class Columns(NamedTuple):
    """The inputs of the closed forms for some plans.

    Attributes
    ----------
    values : dict
        Inputs by name: a number, a column, or nested tuples of them along the input's axes.
    schedule : str
        Schedule of all the plans.
    layouts : tuple of str
        Layout of each kind of layer.
    sizes : dict of str to int
        Members of each axis.
    """

    values: Mapping[str, Any]
    schedule: str
    layouts: tuple[str, ...]
    sizes: Mapping[str, int]


_ROLE_LEAVES = {
    "weights": "weight_element_bytes",
    "gradients": "gradient_element_bytes",
    "main_weights": "main_weight_element_bytes",
    "moments": "moment_element_bytes",
    "activations": "activation_element_bytes",
    "gradient_reduction": "reduction_element_bytes",
    "logits": "logits_element_bytes",
}
_KIND_FIELDS = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_size",
    "intermediate_size",
    "gated",
    "attention_bias",
    "attention_output_bias",
    "ffn_bias",
)
_STRUCTURAL = {
    "model.layouts",
    "model.mixture",
    "plan.layers_per_stage",
    "plan.schedule",
    "plan.rank_order",
    "plan.data_parallel_size",
    "cluster.accelerator.peak_flop_per_s",
}
_UNITS = {
    "bytes": "byte",
    "bytes_per_s": "byte/s",
    "flop_per_s": "FLOP/s",
    "usd_per_s": "USD/s",
    "w": "W",
}


def _unit(name: str) -> str:
    unit = unit_of_field(name)
    return "count" if unit == "length" else _UNITS.get(unit, unit)


def _one_hot(name: str, member: Enum) -> str:
    return f"{name}_is_{str(member.value).replace('-', '_')}"


def _fields(description: type[Spec], path: str, prefix: str) -> list[tuple[str, str, Any]]:
    """Return (leaf name, path, declared type) of every field, nested descriptions entered."""
    found: list[tuple[str, str, Any]] = []
    for field, declared in field_types(description).items():
        kind = plain_type(declared)
        if isinstance(kind, type) and issubclass(kind, Spec):
            found.extend(_fields(kind, f"{path}.{field}", f"{prefix}{field}_"))
        elif field != "sources":
            found.append((prefix + field, f"{path}.{field}", declared))
    return found


@lru_cache(maxsize=1)
def leaves() -> Mapping[str, Leaf]:
    """Return every input of the closed forms by name."""
    found: dict[str, Leaf] = {}
    for section, description in SECTIONS.items():
        for name, path, declared in _fields(description, section, ""):
            kind, meta = plain_type(declared), declaration(declared)
            text = (meta.description if meta else None) or ""
            if path in _STRUCTURAL or section == "precision" or kind is str:
                continue
            if path.startswith("model.mixture.") or name in _KIND_FIELDS:
                leaf = path.rsplit(".", 1)[1]
                found[leaf] = Leaf(path, "count", text, (KIND,))
            elif isinstance(kind, type) and issubclass(kind, Enum):
                for member in kind:
                    found[_one_hot(name, member)] = Leaf(path, "truth", f"{text}: {member.value}")
            else:
                found[name] = Leaf(path, "truth" if kind is bool else _unit(name), text)
    found |= _structural_leaves()
    for role, name in _ROLE_LEAVES.items():
        found[name] = Leaf(f"precision.{role}", "byte", f"bytes of one element of {role}")
    for axis in RankAxis:
        text = f"place of the {axis.value} axis in the rank order"
        found[f"{axis.value}_position"] = Leaf("plan.rank_order", "index", text)
    return found


def _structural_leaves() -> dict[str, Leaf]:
    stages = "plan.layers_per_stage"
    return {
        "peak_flop_per_s": Leaf(
            "cluster.accelerator.peak_flop_per_s", "FLOP/s", "dense peak of the compute format"
        ),
        "kind_layer_count": Leaf("model.layouts", "count", "layers of each kind", (KIND,)),
        "is_mixture": Leaf("model.mixture", "truth", "whether layers have experts", (KIND,)),
        "causal": Leaf("model.layouts", "truth", "whether the future is masked", (KIND,)),
        "class_stage_count": Leaf(stages, "count", "stages of each class", (STAGE,)),
        "stage_index": Leaf(stages, "index", "first stage of each class", (STAGE,)),
        "stage_layer_count": Leaf(stages, "count", "layers of a stage by kind", (STAGE, KIND)),
        "chunk_layer_count": Leaf(
            stages, "count", "layers of a chunk by kind", (STAGE, CHUNK, KIND)
        ),
        "chunk_exists": Leaf(stages, "truth", "whether the stage has the chunk", (STAGE, CHUNK)),
        "chunk_holds_embedding": Leaf(
            stages, "truth", "whether the chunk holds the embedding", (STAGE, CHUNK)
        ),
        "chunk_holds_head": Leaf(
            stages, "truth", "whether the chunk holds the head", (STAGE, CHUNK)
        ),
    }


class StageClass(NamedTuple):
    """Stages of a plan that are equal in all that memory and time depend on.

    Attributes
    ----------
    stages : tuple of int
        The stages, ascending [index].
    layer_counts : tuple of tuple of int
        For each chunk, layers of each kind [count].
    holds_embedding, holds_head : tuple of int
        For each chunk, one if it holds that end of the model.
    """

    stages: tuple[int, ...]
    layer_counts: tuple[tuple[int, ...], ...]
    holds_embedding: tuple[int, ...]
    holds_head: tuple[int, ...]


def balanced_layers(num_hidden_layers: int, virtual_stage_count: int) -> tuple[int, ...]:
    """Return the layers of every virtual stage, embedding and head counting as one layer each.

    Where they don't divide, the stages after the first take one layer more, in order: the first
    stage already holds the most microbatches.

    Examples
    --------
    >>> balanced_layers(126, 16)
    (7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7)
    >>> balanced_layers(8, 3)
    (2, 4, 2)
    """
    base, extra = divmod(num_hidden_layers + 2, virtual_stage_count)
    if virtual_stage_count == 1:
        return (num_hidden_layers,)
    counts = [base + (1 <= index <= extra) for index in range(virtual_stage_count)]
    counts[0] -= 1
    counts[-1] -= 1
    return tuple(max(count, 0) for count in counts)


@lru_cache(maxsize=4096)
def stage_classes(
    layer_kinds: tuple[int, ...],
    pipeline_parallel_size: int,
    virtual_stages: int,
    microbatch_count: int,
    schedule: ScheduleName,
    layers_per_stage: tuple[int, ...] | None,
) -> tuple[StageClass, ...]:
    """Return the classes of a plan's stages, ordered by their first stage.

    Parameters
    ----------
    layer_kinds : tuple of int
        Kind of each layer of the model, in order.
    pipeline_parallel_size, virtual_stages, microbatch_count : int
        Sizes of the schedule [count].
    schedule : ScheduleName
        Decides how many microbatches are in flight.
    layers_per_stage : tuple of int or None
        Layers of every virtual stage; None balances them.

    Returns
    -------
    tuple of StageClass
        Every stage is in one of them.
    """
    virtual_count = pipeline_parallel_size * virtual_stages
    layers = layers_per_stage or balanced_layers(len(layer_kinds), virtual_count)
    kind_count = max(layer_kinds) + 1
    counts, start = [], 0
    for size in layers[:virtual_count]:
        chunk = layer_kinds[start : start + size]
        counts.append(tuple(chunk.count(kind) for kind in range(kind_count)))
        start += size
    counts += [(0,) * kind_count] * (virtual_count - len(counts))
    in_flight_count = SCHEDULES[schedule].in_flight_count
    classes: list[StageClass] = []
    latest: tuple[Any, ...] | None = None
    for rank in range(pipeline_parallel_size):
        virtual = range(rank, virtual_count, pipeline_parallel_size)
        key = (
            tuple(counts[stage] for stage in virtual),
            tuple(int(stage == 0) for stage in virtual),
            tuple(int(stage == virtual_count - 1) for stage in virtual),
            in_flight_count(
                pipeline_parallel_size=pipeline_parallel_size,
                virtual_stages=virtual_stages,
                microbatch_count=microbatch_count,
                stage_index=rank,
            ),
        )
        if key == latest:
            last = classes.pop()
            classes.append(last._replace(stages=(*last.stages, rank)))
        else:
            classes.append(StageClass((rank,), key[0], key[1], key[2]))
        latest = key
    return tuple(classes)


def layer_kinds(model: Model) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Return the kind of each layer, and the layout of each kind.

    Parameters
    ----------
    model : Model
        Its layouts repeat over its layers.

    Returns
    -------
    tuple
        For each layer the index of its kind, and for each kind its layout.
    """
    layouts = [
        model.layouts[index % len(model.layouts)] for index in range(model.num_hidden_layers)
    ]
    kinds = list(dict.fromkeys(layouts))
    return tuple(kinds.index(layout) for layout in layouts), tuple(kinds)


def peak_path(sections: Sections) -> str:
    """Return the field that holds the accelerator's peak for the precision's compute format."""
    return f"cluster.accelerator.peak_flop_per_s.{sections.precision.compute}"


def _field_values(sections: Sections) -> dict[str, Any]:
    """Return the inputs that are fields, or follow from one."""
    values: dict[str, Any] = {}
    for section, description in SECTIONS.items():
        for name, path, _ in _fields(description, section, ""):
            value = field_value(sections, path)
            if path in _STRUCTURAL or section == "precision" or isinstance(value, str | None):
                if isinstance(value, Enum) and path not in _STRUCTURAL:
                    for member in type(value):
                        values[_one_hot(name, member)] = int(member is value)
                continue
            values[name] = int(value) if isinstance(value, bool) else value
    for role, leaf in _ROLE_LEAVES.items():
        name = getattr(sections.precision, role)
        values[leaf] = 0 if name is None else format_named(name).tensor_bytes(1)
    for position, axis in enumerate(sections.plan.rank_order):
        values[f"{axis.value}_position"] = position
    peaks = sections.cluster.accelerator.peak_flop_per_s
    if sections.precision.compute not in peaks:
        raise NoReferenceDataError(
            f"precision.compute ({sections.precision.compute}): "
            f"{sections.cluster.accelerator.name} has no sourced peak for it; "
            f"known: {', '.join(sorted(peaks))}"
        )
    values["peak_flop_per_s"] = peaks[sections.precision.compute]
    return values


def field_value(sections: Sections, path: str) -> Any:
    """Return the value of a field, None where a description on its way is absent."""
    value: Any = sections
    for part in path.split("."):
        value = None if value is None else getattr(value, part)
    return value


def _kind_values(model: Model, layouts: Sequence[Any], kinds: Sequence[int]) -> dict[str, Any]:
    mixture = model.mixture
    per_layer = {name: int(getattr(model, name)) for name in _KIND_FIELDS} | {
        "expert_count": mixture.expert_count if mixture else 1,
        "experts_per_token": mixture.experts_per_token if mixture else 1,
        "is_mixture": int(mixture is not None),
    }
    values: dict[str, Any] = {name: (value,) * len(layouts) for name, value in per_layer.items()}
    values["causal"] = tuple(int(layout.causal) for layout in layouts)
    values["kind_layer_count"] = tuple(kinds.count(kind) for kind in range(len(layouts)))
    return values


def compile_columns(
    sections: Sections, varied: Mapping[str, npt.ArrayLike | Sequence[str]] | None = None
) -> Columns:
    """Return the inputs of the closed forms for one scenario, or for many that vary it.

    Parameters
    ----------
    sections : Sections
        The scenario, or the base that rows vary.
    varied : mapping of str to array, optional
        Values of fields of plan, workload and cluster, one for each row, by path
        (``plan.tensor_parallel_size``). The schedule is one for all rows.

    Returns
    -------
    Columns
        Columns of length one for one scenario.

    Raises
    ------
    SpecError
        If a varied field cannot vary within columns.
    NoReferenceDataError
        If the accelerator has no peak for the compute format.
    """
    kinds, layouts = layer_kinds(sections.model)
    values = _field_values(sections)
    for name in (*_KIND_FIELDS, "mixture_expert_count", "mixture_experts_per_token"):
        values.pop(name, None)
    values = {name: np.asarray([value]) for name, value in values.items()}
    values |= _varied_values(varied or {})
    values |= _kind_values(sections.model, layouts, kinds)
    plan = sections.plan
    structure = _stage_values(values, kinds=kinds, plan=plan)
    sizes = {
        KIND: len(layouts),
        STAGE: len(structure["stage_index"]),
        CHUNK: len(structure["chunk_exists"][0]),
    }
    names = tuple(_tag(layout) for layout in layouts)
    return Columns(values | structure, plan.schedule.value, names, sizes)


def _tag(layout: msgspec.Struct) -> str:
    return str(type(layout).__struct_config__.tag)


def _varied_values(varied: Mapping[str, Any]) -> dict[str, Any]:
    by_path = {leaf.path: name for name, leaf in leaves().items() if not leaf.axes}
    values: dict[str, Any] = {}
    for path, rows in varied.items():
        section = path.split(".")[0]
        if path not in by_path or section in ("model", "precision") or path in _STRUCTURAL:
            raise SpecError(
                f"{path}: rows of columns cannot vary in it; make a base for each value"
            )
        array = np.asarray(rows)
        if array.dtype.kind in "US":
            names = [name for name, leaf in leaves().items() if leaf.path == path]
            for name in names:
                member = name.split("_is_")[1].replace("_", "-")
                values[name] = (array == member).astype(np.int64)
        else:
            values[by_path[path]] = array.astype(np.int64) if array.dtype.kind in "bui" else array
    return values


def _stage_values(
    values: Mapping[str, Any], *, kinds: tuple[int, ...], plan: Plan
) -> dict[str, Any]:
    """Return the inputs with a stage axis, for every row of the columns."""
    pipeline, virtual = values["pipeline_parallel_size"], values["virtual_stages"]
    ranks = pipeline * values["tensor_parallel_size"] * values["context_parallel_size"]
    replicas = np.maximum(values["accelerator_count"] // ranks, 1)
    microbatches = np.maximum(
        values["global_batch_size"] // (values["micro_batch_size"] * replicas), 1
    )
    if plan.schedule != ScheduleName.INTERLEAVED_ONE_F_ONE_B:
        microbatches = np.minimum(microbatches, pipeline)
    # Three sizes in one integer: sorting that is several times faster than sorting rows.
    rows = np.stack(np.broadcast_arrays(pipeline, virtual, microbatches))
    span = rows.max(axis=1) + 1
    _, first, inverse = np.unique(
        (rows[0] * span[1] + rows[1]) * span[2] + rows[2], return_index=True, return_inverse=True
    )
    tables = [
        stage_classes(kinds, p, v, m, plan.schedule, plan.layers_per_stage)
        for p, v, m in rows[:, first].T.tolist()
    ]
    return _gathered(tables, inverse, kind_count=max(kinds) + 1)


def _padded(members: tuple[Any, ...], size: int, *, filler: int | None = None) -> tuple[Any, ...]:
    """Return the members with fillers before the last, by default copies of the one before it.

    So the last stage, which differs most, has the same place in every row, and columns that hold
    the same for every row stay one object.
    """
    copy = members[-2:][0] if filler is None else filler
    return (*members[:-1], *(copy,) * (size - len(members)), members[-1])


def _gathered(
    tables: Sequence[tuple[StageClass, ...]], inverse: npt.NDArray[np.intp], *, kind_count: int
) -> dict[str, Any]:
    class_count = max(len(table) for table in tables)
    chunk_count = max(len(table[0].layer_counts) for table in tables)
    padded = [_padded(table, class_count) for table in tables]
    counts = [
        _padded(tuple(len(entry.stages) for entry in table), class_count, filler=0)
        for table in tables
    ]
    shared: dict[bytes, Column] = {}

    def column(entries: Sequence[int]) -> Column:
        table = np.asarray(entries, dtype=np.int64)
        rows = table[:1] if (table == table[0]).all() else table[inverse]
        # Equal columns become one object: what is computed from one is not computed again.
        return shared.setdefault(rows.tobytes(), rows)

    def chunked(field: str, index: int) -> tuple[Column, ...]:
        return tuple(
            column([_entry(getattr(table[index], field), chunk) for table in padded])
            for chunk in range(chunk_count)
        )

    layer_counts = tuple(
        tuple(
            tuple(
                column([_kind_entry(table[index].layer_counts, chunk, kind) for table in padded])
                for kind in range(kind_count)
            )
            for chunk in range(chunk_count)
        )
        for index in range(class_count)
    )
    members = range(class_count)
    return {
        "class_stage_count": tuple(column([count[index] for count in counts]) for index in members),
        "stage_index": tuple(column([t[index].stages[0] for t in padded]) for index in members),
        "stage_layer_count": tuple(
            tuple(
                column(
                    [sum(chunk[kind] for chunk in table[index].layer_counts) for table in padded]
                )
                for kind in range(kind_count)
            )
            for index in members
        ),
        "chunk_layer_count": layer_counts,
        "chunk_exists": tuple(
            tuple(
                column([int(chunk < len(table[0].layer_counts)) for table in padded])
                for chunk in range(chunk_count)
            )
            for _ in members
        ),
        "chunk_holds_embedding": tuple(chunked("holds_embedding", index) for index in members),
        "chunk_holds_head": tuple(chunked("holds_head", index) for index in members),
    }


def _entry(chunks: tuple[int, ...], chunk: int) -> int:
    return chunks[chunk] if chunk < len(chunks) else 0


def _kind_entry(chunks: tuple[tuple[int, ...], ...], chunk: int, kind: int) -> int:
    return chunks[chunk][kind] if chunk < len(chunks) else 0
