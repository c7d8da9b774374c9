"""The inputs of the closed forms: their names, and the fields of a scenario that they come from."""

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from costmodels.formats import format_named
from costmodels.quantities import BRANCH, CHUNK, KIND, STAGE
from costmodels.specs.base import Spec, declaration, field_types, plain_type
from costmodels.specs.cluster import Cluster
from costmodels.specs.layouts import LAYOUT_FIELDS, LAYOUT_LISTS, TRUTHS
from costmodels.specs.model import Mixture, Model
from costmodels.specs.plan import Plan, RankAxis, RecomputeModule
from costmodels.specs.precision import Precision, Projection
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

ROLE_LEAVES = {
    "weights": "weight_element_bytes",
    "gradients": "gradient_element_bytes",
    "main_weights": "main_weight_element_bytes",
    "moments": "moment_element_bytes",
    "activations": "activation_element_bytes",
    "gradient_reduction": "reduction_element_bytes",
    "logits": "logits_element_bytes",
}
"""The input that holds the bytes of an element, for each role of a precision recipe."""

KIND_FIELDS = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_size",
    "intermediate_size",
    "gated",
    "attention_bias",
    "attention_output_bias",
    "ffn_bias",
)
"""Fields of a model that may differ between kinds of layer."""

STRUCTURAL = {
    "model.layouts",
    "model.mixture",
    "model.mixture.dense_layers",
    "model.multi_token_prediction_layers",
    "model.notes",
    "precision.adapters",
    "precision.quantization",
    "precision.stored_weights",
    "plan.layers_per_stage",
    "plan.schedule",
    "plan.held_limit",
    "plan.recompute_modules",
    "plan.recompute_method",
    "plan.recompute_num_layers",
    "plan.rank_order",
    "plan.data_parallel_size",
    "plan.expert_tensor_parallel_size",
    "plan.expert_capacity_factor",
    "plan.sharding_group_size",
    "cluster.accelerator.peak_flop_per_s",
    "cluster.host_bandwidth_bytes_per_s",
}
"""Fields that enter through inputs of other names."""

_UNITS = {
    "bytes": "byte",
    "bytes_per_s": "byte/s",
    "flop_per_s": "FLOP/s",
    "usd_per_s": "USD/s",
    "w": "W",
}


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


def _unit(name: str) -> str:
    unit = unit_of_field(name)
    return "count" if unit == "length" else _UNITS.get(unit, unit)


def one_hot(name: str, member: Enum) -> str:
    """Return the name of the input that says whether a choice has this member."""
    return f"{name}_is_{str(member.value).replace('-', '_')}"


def fields_of(description: type[Spec], path: str, prefix: str) -> list[tuple[str, str, Any]]:
    """Return (leaf name, path, declared type) of every field, nested descriptions entered."""
    found: list[tuple[str, str, Any]] = []
    for field, declared in field_types(description).items():
        kind = plain_type(declared)
        if isinstance(kind, type) and issubclass(kind, Spec):
            if f"{path}.{field}" not in STRUCTURAL or kind is Mixture:
                found.extend(fields_of(kind, f"{path}.{field}", f"{prefix}{field}_"))
        elif field != "sources":
            found.append((prefix + field, f"{path}.{field}", declared))
    return found


@lru_cache(maxsize=1)
def leaves() -> Mapping[str, Leaf]:
    """Return every input of the closed forms by name."""
    found: dict[str, Leaf] = {}
    for section, description in SECTIONS.items():
        for name, path, declared in fields_of(description, section, ""):
            kind, meta = plain_type(declared), declaration(declared)
            text = (meta.description if meta else None) or ""
            if path in STRUCTURAL or section == "precision" or kind is str:
                continue
            if path.startswith("model.mixture.") or name in KIND_FIELDS:
                leaf = path.rsplit(".", 1)[1]
                unit = "truth" if kind is bool else "count"
                found[leaf] = Leaf(path, unit, text, (KIND,))
            elif isinstance(kind, type) and issubclass(kind, Enum):
                for member in kind:
                    found[one_hot(name, member)] = Leaf(path, "truth", f"{text}: {member.value}")
            else:
                found[name] = Leaf(path, "truth" if kind is bool else _unit(name), text)
    found |= _structural_leaves() | _layout_leaves()
    for role, name in ROLE_LEAVES.items():
        found[name] = Leaf(f"precision.{role}", "byte", f"bytes of one element of {role}")
    for axis in RankAxis:
        text = f"place of the {axis.value} axis in the rank order"
        found[f"{axis.value}_position"] = Leaf("plan.rank_order", "index", text)
    return found


def _layout_leaves() -> dict[str, Leaf]:
    found = {}
    for name, text in LAYOUT_FIELDS.items():
        unit = "truth" if name in TRUTHS else "count"
        found[name] = Leaf("model.layouts", unit, text, (KIND,))
    for name, text in LAYOUT_LISTS.items():
        found[name] = Leaf("model.layouts", "token", text, (KIND, BRANCH))
    return found


_STORED = (("bytes", "byte", "bytes"), ("parameters", "parameter", "weights"))


def _structural_leaves() -> dict[str, Leaf]:
    stages = "plan.layers_per_stage"
    return {
        "peak_flop_per_s": Leaf(
            "cluster.accelerator.peak_flop_per_s", "FLOP/s", "dense peak of the compute format"
        ),
        "wide_peak_flop_per_s": Leaf(
            "cluster.accelerator.peak_flop_per_s",
            "FLOP/s",
            "dense peak of products that stay in 16 bits or more: attention and head",
        ),
        **{
            f"layer_{part}_stored_{what}": Leaf(
                "precision.stored_weights",
                unit,
                f"{said} of a layer's tensors that tensor parallelism {part_said}, as stored; zero "
                "where weights are not stored in few bits",
                (KIND,),
            )
            for part, part_said in (("split", "splits"), ("whole", "leaves whole"))
            for what, unit, said in _STORED
        },
        **{
            f"{end}_stored_{what}": Leaf(
                "precision.stored_weights", unit, f"{said} of the {end}'s tensors, as stored"
            )
            for end in ("embedding", "head")
            for what, unit, said in _STORED
        },
        "kv_cache_element_bits": Leaf(
            "precision.kv_cache", "bit", "bits of one element of cached keys and values"
        ),
        "kv_cache_group_size": Leaf(
            "precision.kv_cache_group_size",
            "count",
            "elements of a cached key or value that share a scale, zero where all do",
        ),
        "kv_cache_scale_bytes": Leaf(
            "precision.kv_cache_scale_bytes", "byte", "bytes of a group's scale and zero point"
        ),
        "cast_block_bytes": Leaf(
            "precision.cached_casts", "byte", "bytes of the kept casts of 32 weights"
        ),
        "narrow_matrix_parameters": Leaf(
            "precision.stored_weights",
            "parameter",
            "weights of the largest matrix of a layer that is stored in few bits",
        ),
        "weights_are_frozen": Leaf(
            "precision.adapters.rank",
            "truth",
            "whether adapters are trained in place of the weights",
        ),
        "adapter_rank": Leaf("precision.adapters.rank", "count", "rank of the adapters"),
        "adapter_element_bytes": Leaf(
            "precision.adapters.weights", "byte", "bytes of one element of the adapters"
        ),
        **{
            f"adapts_{target.value}": Leaf(
                "precision.adapters.targets",
                "truth",
                f"whether the {target.value} projection has an adapter",
            )
            for target in Projection
        },
        "kind_layer_count": Leaf("model.layouts", "count", "layers of each kind", (KIND,)),
        "is_mixture": Leaf("model.mixture", "truth", "whether layers have experts", (KIND,)),
        "predicted_layer_count": Leaf(
            "model.multi_token_prediction_layers",
            "count",
            "layers of each kind that predict further tokens",
            (KIND,),
        ),
        "stated_data_parallel_size": Leaf(
            "plan.data_parallel_size", "count", "replicas, zero where they are derived"
        ),
        "stated_expert_tensor_parallel_size": Leaf(
            "plan.expert_tensor_parallel_size",
            "count",
            "ranks that share each expert, zero where as many as share each matrix",
        ),
        "stated_capacity_factor": Leaf(
            "plan.expert_capacity_factor",
            "ratio",
            "rows of an expert over its equal share, zero where none is dropped",
        ),
        "stated_sharding_group_size": Leaf(
            "plan.sharding_group_size",
            "count",
            "ranks over which states are sharded, zero where all that hold the same weights",
        ),
        "stated_host_bytes_per_s": Leaf(
            "cluster.host_bandwidth_bytes_per_s",
            "byte/s",
            "bandwidth to the host's memory, zero where it is not known",
        ),
        "stated_stage_count": Leaf(stages, "count", "virtual stages, zero where not stated"),
        "stated_layer_count": Leaf(stages, "count", "layers of all stages, zero where not stated"),
        "class_stage_count": Leaf(stages, "count", "stages of each class", (STAGE,)),
        "run_stage_count": Leaf(
            stages,
            "count",
            "stages of each run of neighbours with equal work, at its first class; zero elsewhere",
            (STAGE,),
        ),
        "stage_index": Leaf(stages, "index", "first stage of each class", (STAGE,)),
        "stage_layer_count": Leaf(stages, "count", "layers of a stage by kind", (STAGE, KIND)),
        "chunk_layer_count": Leaf(
            stages, "count", "layers of a chunk by kind", (STAGE, CHUNK, KIND)
        ),
        **{
            f"recomputes_{module.value}": Leaf(
                "plan.recompute_modules",
                "truth",
                f"whether selective recomputation is for {module.value}",
            )
            for module in RecomputeModule
        },
        "stage_repeated_layer_count": Leaf(
            "plan.recompute_num_layers",
            "count",
            "layers of a stage by kind that full recomputation is for",
            (STAGE, KIND),
        ),
        "chunk_repeated_layer_count": Leaf(
            "plan.recompute_num_layers",
            "count",
            "layers of a chunk by kind that full recomputation is for",
            (STAGE, CHUNK, KIND),
        ),
        "chunk_offloaded_layer_count": Leaf(
            "plan.offload_activations_num_layers",
            "count",
            "layers of a chunk by kind whose saved tensors go to the host",
            (STAGE, CHUNK, KIND),
        ),
        "chunk_offloaded_repeated_count": Leaf(
            "plan.offload_activations_num_layers",
            "count",
            "layers of a chunk by kind whose saved tensors go to the host, and that full "
            "recomputation is for",
            (STAGE, CHUNK, KIND),
        ),
        "recompute_group_size": Leaf(
            "plan.recompute_num_layers",
            "count",
            "layers that full recomputation computes again at once",
        ),
        "chunk_exists": Leaf(stages, "truth", "whether the stage has the chunk", (STAGE, CHUNK)),
        "chunk_index": Leaf(
            stages, "index", "place of a chunk among those of its rank", (STAGE, CHUNK)
        ),
        "chunk_holds_embedding": Leaf(
            stages, "truth", "whether the chunk holds the embedding", (STAGE, CHUNK)
        ),
        "chunk_holds_head": Leaf(
            stages, "truth", "whether the chunk holds the head", (STAGE, CHUNK)
        ),
        "gradient_order_is_known": Leaf(
            "model.layouts",
            "truth",
            "whether the order in which gradients arrive follows from the description",
        ),
        **{
            f"chunk_whole_{name}": Leaf(
                "plan.gradient_buckets",
                unit,
                f"{said} of a chunk's buckets of whole tensors, zero where buckets end anywhere",
                (STAGE, CHUNK),
            )
            for name, unit, said in (
                ("bucket_count", "count", "number"),
                ("last_bucket_parameters", "parameter", "parameters of the last"),
                (
                    "bucket_shard_parameters",
                    "parameter",
                    "sum of the largest parts, for a GPU each,",
                ),
            )
        },
        "chunk_input_arrives": Leaf(
            "plan.schedule",
            "truth",
            "whether a chunk's input comes from another rank",
            (STAGE, CHUNK),
        ),
        "chunk_stays_count": Leaf(
            "plan.schedule", "count", "neighbours of a chunk on its own rank", (STAGE, CHUNK)
        ),
        "schedule_joins_ends": Leaf(
            "plan.schedule",
            "truth",
            "whether the rank that holds the embedding holds the head too",
        ),
        "schedule_loops": Leaf(
            "plan.schedule",
            "truth",
            "whether chunks go round the ranks, from the last to the first",
        ),
        "stated_held_limit": Leaf(
            "plan.held_limit",
            "count",
            "microbatches that a rank may hold under zb-auto, zero where as many as ranks",
        ),
        "schedule_copies": Leaf(
            "plan.schedule", "count", "copies of the layers that the ranks of a pipeline hold"
        ),
        "schedule_splits_backward": Leaf(
            "plan.schedule",
            "truth",
            "whether input and weight gradients are actions of their own",
        ),
        "schedule_ends_in_turn": Leaf(
            "plan.schedule",
            "truth",
            "whether each rank ends its last backward before the rank before it does",
        ),
    }


def peak_path(sections: Sections) -> str:
    """Return the field that holds the accelerator's peak for the precision's compute format."""
    name = format_named(sections.precision.compute).peak_name
    return f"cluster.accelerator.peak_flop_per_s.{name}"


def wide_format(precision: Precision) -> str:
    """Return the format of products that stay wide: attention's and the head's."""
    compute = format_named(precision.compute)
    return precision.activations if compute.roles else precision.compute


def wide_peak_path(sections: Sections) -> str:
    """Return the field that holds the accelerator's peak for products that stay wide."""
    return f"cluster.accelerator.peak_flop_per_s.{wide_format(sections.precision)}"


def field_value(sections: Sections, path: str) -> Any:
    """Return the value of a field, None where a description on its way is absent."""
    return value_at(sections, path.split("."))


def value_at(description: Any, parts: Iterable[str]) -> Any:
    """Return what a path within a description leads to, None where it ends before."""
    value = description
    for part in parts:
        value = None if value is None else getattr(value, part)
    return value


def declared_type(path: str) -> Any:
    """Return the declared type of a field, with its bounds."""
    section, *parts = path.split(".")
    declared: Any = SECTIONS[section]
    for part in parts:
        declared = field_types(plain_type(declared))[part]
    return declared
