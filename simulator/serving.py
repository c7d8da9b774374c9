"""What inference is answered about, and which fields of a scenario it does not depend on."""

from enum import StrEnum

import numpy as np
from msgspec.structs import replace

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError, SpecError
from costmodels.formats import FORMATS
from costmodels.number_formats.layouts import stored_formats
from costmodels.quantized_checkpoints import METHODS, checkpoint_format, checkpoint_tensors
from costmodels.scenario import Scenario
from costmodels.specs.fields import LARGEST_SIZE
from costmodels.specs.layouts import GatedDelta, Latent, Lightning, Linear
from costmodels.specs.model import Positions, QueryKeyNorm
from costmodels.specs.precision import (
    ACTIVATION_FORMATS,
    SCALE_FORMATS,
    WEIGHT_FORMATS,
    Quantization,
)
from costmodels.specs.workload import WorkloadKind
from costmodels.weight_storage import stored_tensors, weight_recipe, weight_recipes
from simulator.facts import NEEDED, Facts
from simulator.inert_fields import OF_MEMORY, without_effect
from simulator.publishing import scalar


def require_training(scenario: Scenario) -> None:
    """Raise unless a scenario describes training.

    Raises
    ------
    NotModelledError
        Naming what answers about inference.
    """
    kind = scenario.workload.kind
    if kind is not WorkloadKind.TRAINING:
        raise NotModelledError(
            f"workload.kind ({kind.value}): ask shardwise memory about what inference keeps, and "
            "shardwise inference about a step; every other command needs workload.kind = training"
        )


OF_TRAINING = (
    "plan.schedule",
    "plan.held_limit",
    "plan.recompute",
    "plan.recompute_modules",
    "plan.recompute_method",
    "plan.recompute_num_layers",
    "plan.offload_optimizer",
    "plan.offload_activations_num_layers",
    "plan.saved_tensors",
    "plan.overlap_gradient_reduction",
    "plan.overlap_parameter_gather",
    "plan.cast_on_gather",
    "plan.scatter_gather_handovers",
    "plan.gradient_bucket_parameters",
    "plan.gradient_buckets",
    "workload.optimizer",
    "workload.total_tokens",
    "precision.gradients",
    "precision.main_weights",
    "precision.moments",
    "precision.gradient_reduction",
    "precision.adapters",
    "precision.cached_casts",
    "model.dropout",
    "model.multi_token_prediction_layers",
)
"""Fields of training, which decide nothing in inference."""

_OF_TIME = (
    "precision.compute",
    "plan.rank_order",
    "cluster.scale_up",
    "cluster.network",
    "cluster.accelerators_per_node",
    "cluster.host_power_w",
    "cluster.host_bandwidth_bytes_per_s",
    "cluster.power_usage_effectiveness",
    "cluster.accelerator.peak_flop_per_s",
    "cluster.accelerator.memory_bandwidth_bytes_per_s",
    "cluster.accelerator.matmul_efficiency_fraction",
    "cluster.accelerator.attention_efficiency_fraction",
    "cluster.accelerator.memory_efficiency_fraction",
    "cluster.accelerator.power_w",
    "cluster.accelerator.price_usd_per_s",
)
_OF_SOFTMAX = ("model.num_key_value_heads", "model.head_size")


def serving_notes(scenario: Scenario) -> tuple[str, ...]:
    """Return what an answer about the memory of inference says beside its numbers."""
    columns = compile_columns(scenario)
    values = {name: scalar(value) for name, value in evaluate(columns, NEEDED).items()}
    facts = Facts(scenario=scenario, columns=columns, values=values)
    said = [
        _step(scenario),
        "activations of a step are an estimate by counting tensors: CUDA graphs and a serving "
        "engine's own pools belong into the reserve of the accelerator's description",
        without_effect(list(OF_TRAINING), "they are of training"),
        without_effect(list(_OF_TIME), "the answer is about memory, not about time or cost"),
        without_effect(["plan.context_parallel_method"], "a sequence of inference is not shared"),
        *_of_layouts(scenario),
        _without_weights(scenario),
        _padding(scenario),
        _blocks(scenario),
        _full(scenario),
        _widths(scenario),
        *_groups(scenario),
        _narrow(scenario),
        *_quantized(scenario),
        *(rule(facts) for rule in OF_MEMORY),
    ]
    return tuple(note for note in said if note)


def _step(scenario: Scenario) -> str:
    """Return what is computed at once."""
    if scenario.workload.kind is WorkloadKind.DECODE:
        reason = "a step of decode takes one token of every sequence of the replica"
        return without_effect(["plan.micro_batch_size"], reason)
    return (
        "a step of prefill takes the whole prompts of one microbatch "
        f"({scenario.plan.micro_batch_size} of them), and the cache holds those of all"
    )


def _of_layouts(scenario: Scenario) -> list[str]:
    """Return what no layer's layout depends on."""
    layouts = scenario.model.layouts
    latent = [isinstance(layout, Latent) for layout in layouts]
    said = []
    if not any(latent):
        said.append(without_effect(["plan.decompress_kv_cache"], "no layer has latent attention"))
    if all(latent):
        fields = [*_OF_SOFTMAX, "model.attention_output_gate", "model.attention_sinks"]
        fields.append("model.query_key_norm")
        said.append(without_effect(fields, "latent attention has widths of its own"))
    idle = _of_work(scenario)
    if idle:
        said.append(f"what a layout's {idle} says decides work and not what is kept")
    if scenario.plan.pipeline_parallel_size > 1:
        reason = "the last stage holds a head of its own"
        said.append(without_effect(["model.tied_embeddings"], reason))
    return said


def _full(scenario: Scenario) -> str:
    """Return which other lengths leave the states of all layers as large, in decode."""
    size = scenario.workload.sequence_length
    if scenario.workload.kind is not WorkloadKind.DECODE:
        return ""

    def same(lengths: list[int]) -> list[bool]:
        columns = compile_columns(scenario, {"workload.sequence_length": [size, *lengths]})
        kinds = evaluate(columns, ["layer_cache_bytes"])["layer_cache_bytes"]
        rows = [np.broadcast_to(np.asarray(kind), (len(lengths) + 1,)) for kind in kinds]
        return [all(row[0] == row[place] for row in rows) for place in range(1, len(lengths) + 1)]

    if not same([LARGEST_LENGTH])[0]:
        return ""
    shortest, step = 0, 1 << size.bit_length()
    # What is kept never falls as sequences grow: the last length that keeps less, by bisection.
    while step := step // 2:
        if shortest + step < size and not same([shortest + step])[0]:
            shortest += step
    return (
        f"workload.sequence_length: from {shortest + 1} to {LARGEST_LENGTH} would move nothing: "
        "the states of all layers are full"
    )


LARGEST_LENGTH = 1 << 40
"""The longest sequence that a workload may state [token]."""


def _of_work(scenario: Scenario) -> str:
    """Return the stated fields of layouts that decide nothing that a decoder keeps."""
    found = {
        field: None
        for layout in scenario.model.layouts
        for field in ("delta_rule", "first_read", "last_update", "scan_length")
        if getattr(layout, field, False)
    }
    return ", ".join(found)


def _without_weights(scenario: Scenario) -> str:
    """Return which other positions, and norms of queries and keys, hold as few parameters."""
    model = scenario.model
    said = []
    alike: tuple[tuple[str, StrEnum, tuple[StrEnum, ...]], ...] = (
        ("positions", model.positions, (Positions.ROTARY, Positions.ALIBI, Positions.NONE)),
        ("query_key_norm", model.query_key_norm, (QueryKeyNorm.NONE, QueryKeyNorm.UNSCALED)),
    )
    for field, stated, members in alike:
        if stated in members:
            others = " or ".join(member.value for member in members if member is not stated)
            said.append(f"model.{field}: {others} would move nothing: it has no parameters")
    return "; ".join(said)


def _padding(scenario: Scenario) -> str:
    """Return which other vocabularies have as many rows on each rank."""
    ranks, rows = scenario.plan.tensor_parallel_size, scenario.model.vocabulary_size
    most = -(-rows // ranks) * ranks
    if ranks == 1 or scenario.model.head_bias:
        return ""
    return (
        f"model.vocabulary_size: from {most - ranks + 1} to {most} would move nothing: the rows "
        "are padded to equal parts"
    )


def _blocks(scenario: Scenario) -> str:
    """Return which other blocks round every length up to the same."""
    stated = scenario.plan.kv_cache_block_length
    lengths = _cached_lengths(scenario)
    if not lengths:
        reason = "no layer keeps keys and values of single tokens"
        return without_effect(["plan.kv_cache_block_length"], reason)

    def kept(block: int) -> list[int]:
        return [-(-length // block) * block for length in sorted(lengths)]

    same = [
        block for block in range(1, _BLOCKS + 1) if block != stated and kept(block) == kept(stated)
    ]
    if not same:
        return ""
    return (
        f"plan.kv_cache_block_length: {' or '.join(map(str, same))} would move nothing: sequences "
        "are as many tokens in such blocks"
    )


def _cached_lengths(scenario: Scenario) -> set[int]:
    """Return the tokens that layers keep keys and values of, blocks aside."""
    columns = compile_columns(
        replace(scenario, plan=replace(scenario.plan, kv_cache_block_length=1))
    )
    kinds = evaluate(columns, ["cached_tokens"])["cached_tokens"]
    return {int(scalar(kind)) for kind in kinds} - {0}


_BLOCKS = 64
"""Sizes of blocks that are tried."""


_RECURRENT = (GatedDelta, Lightning, Linear)


def _widths(scenario: Scenario) -> str:
    """Return for each role which other formats take as many bytes."""
    precision = scenario.precision
    roles = {role: getattr(precision, role) for role in ("weights", "activations", "logits")}
    if _narrow(scenario):
        del roles["weights"]
    roles["kv_cache"] = precision.kv_cache or precision.activations
    said = []
    if all(isinstance(layout, _RECURRENT) for layout in scenario.model.layouts):
        del roles["kv_cache"]
        reason = "states of all layers are in fp32"
        said.append(without_effect(["precision.kv_cache"], reason))
    for role, name in roles.items():
        size = FORMATS[name].element_bits
        twins = [
            other
            for other, entry in FORMATS.items()
            if entry.fills(role)
            and entry.element_bits == size
            and other != getattr(precision, role)
        ]
        if twins:
            said.append(f"precision.{role}: {' or '.join(twins)} would move nothing: it is as wide")
    return "; ".join([*said, *_as_stored(scenario)])


def _groups(scenario: Scenario) -> list[str]:
    """Return which other groups of the cache have as many scales, and scales without effect."""
    precision = scenario.precision
    stated = precision.kv_cache_group_size
    if precision.kv_cache_scale_bytes == 0:
        reason = "the scale of a group takes no bytes"
        return [without_effect(["precision.kv_cache_group_size"], reason)]
    if not stated:
        reason = "one scale serves a tensor (precision.kv_cache_group_size = 0)"
        return [without_effect(["precision.kv_cache_scale_bytes"], reason)]
    columns = compile_columns(scenario)
    kinds = evaluate(columns, ("cache_elements",))["cache_elements"]
    bounds = [_same_pieces(int(scalar(kind)), stated) for kind in kinds if int(scalar(kind))]
    least = max((low for low, _ in bounds), default=1)
    most = min((high for _, high in bounds), default=LARGEST_SIZE)
    if least >= most:
        return []
    return [
        f"precision.kv_cache_group_size: from {least} to {most} would move nothing: as many groups"
    ]


def _as_stored(scenario: Scenario) -> list[str]:
    """Return which plain formats of stored weights take as many bytes as the weights do."""
    stated, model = scenario.precision.stored_weights, scenario.model

    def size(name: str) -> int:
        return sum(entry.stored_bytes for entry in stored_tensors(model, weight_recipe(name)))

    if scenario.precision.quantization is not None or (
        stated is None and scenario.precision.weights not in weight_recipes()
    ):
        return []
    kept = size(stated or scenario.precision.weights)
    known = {*weight_recipes(), *stored_formats()}
    names = [
        name for name, entry in FORMATS.items() if entry.stored and name != stated and name in known
    ]
    twins = [name for name in names if size(name) == kept]
    if not twins:
        return []
    return [f"precision.stored_weights: {' or '.join(twins)} would move nothing: it is as large"]


def _narrow(scenario: Scenario) -> str:
    """Return that the format of weights has no effect where one rank stores all in another."""
    stored = scenario.precision.stored_weights
    if stored is None or scenario.plan.tensor_parallel_size > 1:
        return ""
    return without_effect(["precision.weights"], f"weights are stored as {stored}")


def _quantized(scenario: Scenario) -> list[str]:
    """Return which other quantizations of a checkpoint take as many bytes."""
    stated = scenario.precision.quantization
    if stated is None:
        return []
    kept = _checkpoint_bytes(scenario, stated)
    said = []
    for field, values in _ALTERNATIVES.items():
        twins = [
            _SPOKEN.get(str(value), str(value))
            for value in values
            if value != getattr(stated, field)
            and _checkpoint_bytes(scenario, replace(stated, **{field: value})) == kept
        ]
        if twins:
            said.append(
                f"precision.quantization.{field}: {' or '.join(twins)} would move nothing: weights "
                "take as many bytes"
            )
    names = [
        name
        for name in ("lm_head", "model.embed_tokens")
        if _checkpoint_bytes(scenario, replace(stated, excluded=(name,))) == kept
    ]
    if names and stated.excluded != tuple(names):
        said.append(
            f"precision.quantization.excluded: {' or '.join(names)} would move nothing: the method "
            "leaves them as they are"
        )
    return [*said, *_as_many_groups(scenario, stated)]


_ALTERNATIVES: dict[str, tuple[str | bool | None, ...]] = {
    "method": tuple(METHODS),
    "weight_format": WEIGHT_FORMATS,
    "scale_format": SCALE_FORMATS,
    "zero_points": (False, True),
    "activation_format": (None, *ACTIVATION_FORMATS),
}
_SPOKEN = {"None": "leaving it out", "True": "true", "False": "false"}


def _checkpoint_bytes(scenario: Scenario, quantization: Quantization) -> int | None:
    """Return the bytes of a model under a quantization; None where it is refused."""
    wide = scenario.precision.weights
    try:
        tensors = checkpoint_tensors(scenario.model, quantization, wide=wide)
    except SpecError:
        return None
    return sum(entry.stored_bytes for entry in tensors)


def _as_many_groups(scenario: Scenario, stated: Quantization) -> list[str]:
    """Return which other sizes of groups cut the sides of every matrix into as many pieces."""
    if stated.method == "bitsandbytes" and stated.group_columns:
        return []
    narrow = checkpoint_format(stated).name
    tensors = checkpoint_tensors(scenario.model, stated, wide=scenario.precision.weights)
    shapes = [entry.tensor for entry in tensors if entry.stored.name == narrow]
    said = []
    for side in ("rows", "columns"):
        size = getattr(stated, f"group_{side}")
        bounds = [_same_pieces(getattr(tensor, side), size) for tensor in shapes]
        least, most = max(low for low, _ in bounds), min(high for _, high in bounds)
        if least < most:
            said.append(
                f"precision.quantization.group_{side}: from {least} to {most} would move nothing: "
                "as many groups"
            )
    return said


def _same_pieces(side: int, size: int) -> tuple[int, int]:
    """Return the sizes of groups that cut a side into as many pieces."""
    pieces = 1 if size == 0 else -(-side // size)
    return -(-side // pieces), LARGEST_SIZE if pieces == 1 else -(-side // (pieces - 1)) - 1
