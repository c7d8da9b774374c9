"""From descriptions to the numbers and columns that closed forms take.

A model compiles to its kinds of layer, a plan to its classes of pipeline stages, and every other
field to a number: a truth to zero or one, a choice to a truth for each of its members.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from costmodels.errors import NoReferenceDataError, SpecError
from costmodels.formats import FORMATS, format_named
from costmodels.gradient_order import (
    NO_BUCKETS,
    BucketNumbers,
    arriving_parameters,
    bucket_numbers,
    caps_parameters,
    order_is_known,
    whole_buckets,
)
from costmodels.leaves import (
    KIND_FIELDS,
    ROLE_LEAVES,
    SECTIONS,
    STRUCTURAL,
    Sections,
    declared_type,
    fields_of,
    leaves,
    one_hot,
    value_at,
    wide_format,
)
from costmodels.model_tensors import Role
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from costmodels.quantities import CHUNK, KIND, STAGE
from costmodels.quantized_checkpoints import checkpoint_tensors
from costmodels.specs.base import Spec, check_field, plain_type
from costmodels.specs.layouts import LAYOUT_FIELDS, LAYOUT_LISTS, type_of
from costmodels.specs.model import Mixture, Model
from costmodels.specs.plan import Plan, RecomputeMethod, RecomputeModule
from costmodels.specs.precision import CAST_BLOCK_BYTES, Precision, Projection
from costmodels.specs.workload import WorkloadKind
from costmodels.stages import (
    ChunkBuckets,
    LayerKind,
    StageClass,
    layer_kinds,
    stage_classes,
    stage_columns,
)
from costmodels.weight_storage import StoredTensor, stored_tensors, weight_recipe


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

    values: dict[str, Any]
    schedule: str
    layouts: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def row_count(self) -> int:
        """Return the plans of the columns [count]."""
        return max(len(value) for value in self.values.values() if isinstance(value, np.ndarray))


def _section_values(description: Spec, section: str) -> dict[str, Any]:
    """Return the inputs that are fields of one section, or follow from one."""
    values: dict[str, Any] = {}
    for name, path, _ in fields_of(type(description), section, ""):
        value = value_at(description, path.split(".")[1:])
        if path in STRUCTURAL or isinstance(value, str | None):
            if isinstance(value, Enum) and path not in STRUCTURAL:
                for member in type(value):
                    values[one_hot(name, member)] = int(member is value)
            continue
        values[name] = int(value) if isinstance(value, bool) else value
    return values


def _field_values(sections: Sections) -> dict[str, Any]:
    """Return the inputs that are fields, or follow from one."""
    values: dict[str, Any] = {}
    for section in SECTIONS:
        if section != "precision":
            values |= _section_values(getattr(sections, section), section)
    cached = sections.precision.kv_cache or sections.precision.activations
    values["kv_cache_element_bits"] = format_named(cached).element_bits
    values["cast_block_bytes"] = CAST_BLOCK_BYTES[sections.precision.cached_casts]
    values["kv_cache_group_size"] = sections.precision.kv_cache_group_size
    values["kv_cache_scale_bytes"] = sections.precision.kv_cache_scale_bytes
    for role, leaf in ROLE_LEAVES.items():
        name = getattr(sections.precision, role)
        values[leaf] = 0 if name is None else format_named(name).tensor_bytes(1)
    plan = sections.plan
    ordering = ORDERINGS[plan.schedule]
    values["schedule_loops"] = int(ordering.loops)
    values["schedule_joins_ends"] = int(ordering.joins_ends)
    values["stated_held_limit"] = plan.held_limit or 0
    values["schedule_copies"] = ordering.copies
    values["schedule_splits_backward"] = int(ordering.splits)
    values["schedule_ends_in_turn"] = int(ordering.ends_in_turn)
    values["stated_data_parallel_size"] = plan.data_parallel_size or 0
    values["stated_expert_tensor_parallel_size"] = plan.expert_tensor_parallel_size or 0
    values["stated_capacity_factor"] = plan.expert_capacity_factor or 0.0
    values["stated_sharding_group_size"] = plan.sharding_group_size or 0
    values["gradient_order_is_known"] = int(order_is_known(sections.model))
    values["stated_host_bytes_per_s"] = sections.cluster.host_bandwidth_bytes_per_s or 0.0
    values |= _adapter_values(sections.precision)
    for module in RecomputeModule:
        values[f"recomputes_{module.value}"] = int(module in plan.recompute_modules)
    values["stated_stage_count"] = len(plan.layers_per_stage or ())
    values["stated_layer_count"] = sum(plan.layers_per_stage or ())
    for position, axis in enumerate(plan.rank_order):
        values[f"{axis.value}_position"] = position
    peaks = sections.cluster.accelerator.peak_flop_per_s
    wide = wide_format(sections.precision)
    needed = {"peak_flop_per_s": sections.precision.compute, "wide_peak_flop_per_s": wide}
    for leaf, name in needed.items():
        peak = format_named(name).peak_name
        if peak not in peaks:
            raise NoReferenceDataError(
                f"precision.{'compute' if leaf == 'peak_flop_per_s' else 'activations'} ({name}): "
                f"{sections.cluster.accelerator.name} has no sourced peak for it; "
                f"known: {', '.join(sorted(peaks))}"
            )
        values[leaf] = peaks[peak]
    return values | _stored_values(sections)


def _adapter_values(precision: Precision) -> dict[str, Any]:
    """Return the inputs that adapters give, zeros where the weights themselves are trained."""
    adapters = precision.adapters
    targets = () if adapters is None else adapters.targets
    return {
        "weights_are_frozen": int(adapters is not None),
        "adapter_rank": 0 if adapters is None else adapters.rank,
        "adapter_element_bytes": 0
        if adapters is None
        else format_named(adapters.weights).tensor_bytes(1),
        **{f"adapts_{target.value}": int(target in targets) for target in Projection},
    }


def _stored_values(sections: Sections) -> dict[str, Any]:
    """Return the weights and bytes of tensors that are stored in few bits, by kind of layer."""
    kinds, layers = layer_kinds(sections.model)
    counts = [kinds.count(kind) for kind in range(len(layers))]
    groups: dict[str, list[int]] = {}
    for group in ("layer_split", "layer_whole"):
        for what in ("bytes", "parameters"):
            groups[f"{group}_stored_{what}"] = [0] * len(layers)
    ends = {f"{end}_stored_{what}": 0 for end in ("embedding", "head") for what in _STORED}
    narrow = 0
    for entry in tensors_as_stored(sections.model, sections.precision):
        tensor = entry.tensor
        if tensor.layer is None:
            end = "embedding" if tensor.name in _FIRST else "head"
            ends[f"{end}_stored_bytes"] += entry.stored_bytes
            ends[f"{end}_stored_parameters"] += tensor.elements_count
            continue
        if entry.stored.name not in FORMATS:
            narrow = max(narrow, tensor.rows * tensor.columns)
        part = "layer_whole" if tensor.name in _WHOLE or tensor.role in _KEPT else "layer_split"
        groups[f"{part}_stored_bytes"][kinds[tensor.layer]] += entry.stored_bytes
        groups[f"{part}_stored_parameters"][kinds[tensor.layer]] += tensor.elements_count
    if sections.model.tied_embeddings:
        for what in _STORED:
            ends[f"head_stored_{what}"] += ends[f"embedding_stored_{what}"]
    shares = {
        leaf: tuple(-(-size // count) for size, count in zip(sizes, counts, strict=True))
        for leaf, sizes in groups.items()
    }
    return ends | shares | {"narrow_matrix_parameters": narrow}


def tensors_as_stored(model: Model, precision: Precision) -> tuple[StoredTensor, ...]:
    """Return every tensor of weights that are stored in few bits; none where they are not.

    Raises
    ------
    SpecError
        If a tensor cannot be stored so.
    """
    if precision.quantization is not None:
        return checkpoint_tensors(model, precision.quantization, wide=precision.weights)
    name = precision.stored_weights
    if name is None:
        return ()
    try:
        return stored_tensors(model, weight_recipe(name))
    except SpecError as error:
        raise SpecError(f"precision.stored_weights: {error}") from None


_STORED = ("bytes", "parameters")
_FIRST = frozenset({"embedding", "positions", "embedding norm"})
_WHOLE = frozenset({"query down", "key and value down", "compressor"})
_KEPT = frozenset({Role.VECTORS, Role.ROUTER})


_MIXTURE_FIELDS = tuple(Mixture.__struct_fields__)
_WITHOUT_EXPERTS = {"expert_count": 1, "experts_per_token": 1}
"""A layer without experts counts as one expert that every token visits."""


def _kind_values(model: Model, layers: Sequence[LayerKind], kinds: Sequence[int]) -> dict[str, Any]:
    """Return the inputs that have a value for each kind of layer."""
    values: dict[str, Any] = {
        name: (int(getattr(model, name)),) * len(layers) for name in KIND_FIELDS
    }
    for field in _MIXTURE_FIELDS:
        if field in ("dense_layers", "sources"):
            continue
        absent = _WITHOUT_EXPERTS.get(field, 0)
        stated = getattr(model.mixture, field, None)
        values[field] = tuple(
            int(stated) if kind.has_experts and stated is not None else absent for kind in layers
        )
    values["is_mixture"] = tuple(int(kind.has_experts) for kind in layers)
    for field in LAYOUT_FIELDS:
        values[field] = tuple(int(getattr(kind.layout, field, 0)) for kind in layers)
    for field in LAYOUT_LISTS:
        values[field] = tuple(tuple(getattr(kind.layout, field, ())) for kind in layers)
    values["kind_layer_count"] = tuple(kinds.count(kind) for kind in range(len(layers)))
    values["predicted_layer_count"] = tuple(
        model.multi_token_prediction_layers * (kind == kinds[-1]) for kind in range(len(layers))
    )
    return values


def compile_model(model: Model) -> Columns:
    """Return the inputs that a model alone gives: all that its parameters need.

    Parameters
    ----------
    model : Model
        Any description, whether a scenario could use it yet or not.
    """
    kinds, layers = layer_kinds(model)
    values = _section_values(model, "model")
    columns: dict[str, Any] = {
        name: np.asarray([value]) for name, value in values.items() if name not in _BY_KIND
    }
    columns |= _kind_values(model, layers, kinds)
    names = tuple(type_of(kind.layout) for kind in layers)
    return Columns(columns, "", names, {KIND: len(layers)})


_BY_KIND = frozenset(KIND_FIELDS) | {f"mixture_{field}" for field in _MIXTURE_FIELDS}


def trained_depth(sections: Sections) -> int:
    """Return the further tokens that a scenario predicts: those of its model, in training [count]."""
    trains = sections.workload.kind is WorkloadKind.TRAINING
    return sections.model.multi_token_prediction_layers if trains else 0


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
        (``plan.tensor_parallel_size``); None where a row leaves out a field that may be left out.
        The schedule is one for all rows.

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
    fields = compile_fields(sections, varied)
    kinds, _ = layer_kinds(sections.model)
    structure = _stage_values(
        fields.values,
        kinds=kinds,
        sections=sections,
        repeated_layers=_recomputed_layers(sections.plan, varied or {}).first_layers,
        prediction_count=trained_depth(sections),
    )
    sizes = {
        STAGE: len(structure["stage_index"]),
        CHUNK: len(structure["chunk_exists"][0]),
    }
    return fields._replace(values=fields.values | structure, sizes=fields.sizes | sizes)


def compile_fields(
    sections: Sections, varied: Mapping[str, npt.ArrayLike | Sequence[str]] | None = None
) -> Columns:
    """Return the inputs that have no stage axis: all that rules need.

    Parameters, errors: as `compile_columns`.
    """
    model = compile_model(sections.model)
    values = _field_values(sections)
    columns: dict[str, Any] = {
        name: value if isinstance(value, tuple) else np.asarray([value])
        for name, value in values.items()
        if name not in _BY_KIND
    }
    columns |= _varied_values(varied or {})
    columns["recompute_group_size"] = _recomputed_layers(sections.plan, varied or {}).group_size
    return model._replace(
        values=columns | {name: model.values[name] for name in model.values if name not in columns},
        schedule=sections.plan.schedule.value,
    )


OPTIONAL = {
    "plan.data_parallel_size": "stated_data_parallel_size",
    "plan.expert_tensor_parallel_size": "stated_expert_tensor_parallel_size",
    "plan.expert_capacity_factor": "stated_capacity_factor",
    "plan.sharding_group_size": "stated_sharding_group_size",
    "cluster.host_bandwidth_bytes_per_s": "stated_host_bytes_per_s",
}
"""Fields that may be left out, and the inputs that hold them, zero where they are."""

RECOMPUTED = ("plan.recompute_method", "plan.recompute_num_layers")
"""Fields that decide together which layers full recomputation is for."""


def _varied_values(varied: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, rows in varied.items():
        if path in OPTIONAL:
            values[OPTIONAL[path]] = _optional_rows(path, rows)
        elif path not in RECOMPUTED:
            values |= _values_of(path, rows)
    return values


def _values_of(path: str, rows: Any) -> dict[str, Any]:
    """Return the inputs that hold a field, in every row."""
    names = [name for name, leaf in leaves().items() if leaf.path == path and not leaf.axes]
    section = path.split(".", maxsplit=1)[0]
    if not names or section in ("model", "precision") or path in STRUCTURAL:
        raise SpecError(f"{path}: rows of columns cannot vary in it; make a base for each value")
    array = np.asarray(rows)
    _check_rows(path, array)
    if array.dtype.kind in "US":
        members = {name: name.split("_is_")[1].replace("_", "-") for name in names}
        return {name: (array == member).astype(np.int64) for name, member in members.items()}
    return {names[0]: array.astype(np.int64) if array.dtype.kind in "bui" else array}


def _optional_rows(path: str, rows: Any) -> npt.NDArray[Any]:
    """Return a field that may be left out, zero in the rows that do so."""
    array = np.asarray(rows)
    given = np.array([row is not None for row in array.tolist()], dtype=bool)
    stated = np.asarray(array[given].tolist())
    _check_rows(path, stated)
    whole = plain_type(declared_type(path)) is int
    values = np.zeros(array.shape, dtype=np.int64 if whole else np.float64)
    values[given] = stated
    return values


class _Recomputed(NamedTuple):
    """Which layers full recomputation is for, in every row."""

    group_size: npt.NDArray[np.int64]
    first_layers: npt.NDArray[np.int64]


def _recomputed_layers(plan: Plan, varied: Mapping[str, Any]) -> _Recomputed:
    """Return the layers computed again at once, and the first ones of a chunk; zero for all."""
    method_path, number_path = RECOMPUTED
    methods = np.asarray(varied.get(method_path, [plan.recompute_method.value]))
    _check_rows(method_path, methods)
    stated = _optional_rows(number_path, varied.get(number_path, [plan.recompute_num_layers]))
    methods, stated = np.broadcast_arrays(methods, stated)
    uniform = methods == RecomputeMethod.UNIFORM.value
    return _Recomputed(np.where(uniform, np.maximum(stated, 1), 1), np.where(uniform, 0, stated))


def _check_rows(path: str, array: npt.NDArray[Any]) -> None:
    """Raise unless every row holds what the field's declaration asks for."""
    declared = declared_type(path)
    if array.dtype.kind in "USO":
        for entry in set(array.tolist()):
            check_field(path, entry, declared)
        return
    # NaN is the largest of some numbers to numpy, and no declaration accepts it.
    for value in {array.min().item(), array.max().item()} if array.size else ():
        check_field(path, value, declared)


FEW_IN_FLIGHT = (
    ScheduleName.GPIPE,
    ScheduleName.ONE_F_ONE_B,
    ScheduleName.LOOPED_BFS,
    ScheduleName.ZB_AUTO,
)
"""Schedules whose classes of equal stages do not change beyond as many microbatches as ranks."""


def _stage_values(
    values: Mapping[str, Any],
    *,
    kinds: tuple[int, ...],
    sections: Sections,
    repeated_layers: npt.NDArray[np.int64],
    prediction_count: int,
) -> dict[str, Any]:
    """Return the inputs with a stage axis, for every row of the columns."""
    plan = sections.plan
    pipeline, virtual = values["pipeline_parallel_size"], values["virtual_stages"]
    ranks = pipeline * values["tensor_parallel_size"] * values["context_parallel_size"]
    replicas = np.maximum(values["accelerator_count"] // ranks, 1)
    microbatches = np.maximum(
        values["global_batch_size"] // (values["micro_batch_size"] * replicas), 1
    )
    bucketed = _bucketed_rows(values, replicas)
    # Classes depend on few microbatches only: on the first round or two.
    if plan.schedule == ScheduleName.INTERLEAVED_ONE_F_ONE_B:
        whole_rounds = microbatches % pipeline == 0
        microbatches = np.where(whole_rounds, np.minimum(microbatches, 2 * pipeline), microbatches)
    elif plan.schedule in FEW_IN_FLIGHT:
        microbatches = np.minimum(microbatches, pipeline)
    # More layers than a chunk can have are all of them.
    repeated = np.minimum(repeated_layers, len(kinds) + 1)
    offloaded = np.minimum(values["offload_activations_num_layers"], len(kinds))
    plans = (pipeline, virtual, repeated, offloaded, microbatches)
    rows = np.stack(np.broadcast_arrays(*plans, *bucketed))
    first, inverse = _distinct(rows)
    tables = [
        stage_classes(
            kinds,
            p,
            v,
            m,
            plan.schedule,
            plan.layers_per_stage,
            r or None,
            prediction_count,
            n,
        )
        for p, v, r, n, m in rows[: len(plans), first].T.tolist()
    ]
    element_bytes = int(values["weight_element_bytes"][0])
    buckets = [
        _chunk_buckets(sections.model, element_bytes, *own)
        for own in rows[len(plans) :, first].T.tolist()
    ]
    return stage_columns(tables, inverse, kind_count=max(kinds) + 1, buckets=buckets)


def _bucketed_rows(values: Mapping[str, Any], replicas: npt.NDArray[np.int64]) -> list[Any]:
    """Return what buckets of whole tensors depend on, zeros in the rows that have none."""
    whole = values["gradient_buckets_is_torch_ddp"] * values["gradient_order_is_known"]
    return [
        whole * values["gradient_bucket_parameters"],
        whole * values["tensor_parallel_size"],
        whole * replicas * values["context_parallel_size"],
    ]


def _chunk_buckets(
    model: Model, element_bytes: int, bucket_parameters: int, tensor_size: int, group_size: int
) -> ChunkBuckets:
    """Return a function of a class's chunk: its buckets of whole tensors, none without a group."""
    known: dict[tuple[int, int, int], BucketNumbers] = {}
    caps = caps_parameters(bucket_parameters, element_bytes)

    def numbers(stage: StageClass, chunk: int) -> BucketNumbers:
        held = (
            sum(stage.layer_counts[chunk]),
            stage.holds_embedding[chunk],
            stage.holds_head[chunk],
        )
        if not group_size:
            return NO_BUCKETS
        if held not in known:
            layers, first, last = held
            arriving = arriving_parameters(
                model,
                layer_count=layers,
                holds_embedding=bool(first),
                holds_head=bool(last),
                tensor_parallel_size=tensor_size,
            )
            known[held] = bucket_numbers(whole_buckets(arriving, caps), group_size)
        return known[held]

    return numbers


def _distinct(
    rows: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first of all equal columns of some rows, and for each column which one it equals.

    The numbers of a column become one integer: sorting that is several times faster than sorting
    columns. Those before the last are numbered anew, so that their product with the last, up to
    2^40 microbatches, stays below 2^62.
    """
    key = rows[0]
    for numbers in rows[1:]:
        if numbers.max() != numbers.min():
            _, key = np.unique(key, return_inverse=True)
            key = key * (numbers.max() + 1) + numbers
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse
