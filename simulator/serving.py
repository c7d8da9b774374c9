"""What inference is answered about, and which fields of a scenario it does not depend on."""

from enum import StrEnum

from costmodels.analysis import evaluate
from costmodels.compilation import compile_columns
from costmodels.errors import NotModelledError
from costmodels.formats import FORMATS
from costmodels.scenario import Scenario
from costmodels.specs.layouts import Chunked, Latent, Sliding
from costmodels.specs.model import Positions, QueryKeyNorm
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
            f"workload.kind ({kind.value}): only the memory of inference is modelled yet: ask "
            "shardwise memory; every other command needs workload.kind = training"
        )


_OF_TRAINING = (
    "plan.schedule",
    "plan.recompute",
    "plan.saved_tensors",
    "plan.overlap_gradient_reduction",
    "plan.overlap_parameter_gather",
    "plan.cast_on_gather",
    "plan.gradient_bucket_parameters",
    "workload.optimizer",
    "workload.total_tokens",
    "precision.gradients",
    "precision.main_weights",
    "precision.moments",
    "precision.gradient_reduction",
    "model.dropout",
    "model.multi_token_prediction_layers",
)
_OF_TIME = (
    "precision.compute",
    "plan.rank_order",
    "cluster.scale_up",
    "cluster.network",
    "cluster.accelerators_per_node",
    "cluster.host_power_w",
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
        without_effect(list(_OF_TRAINING), "they are of training"),
        without_effect(list(_OF_TIME), "the answer is about memory, not about time or cost"),
        *_of_layouts(scenario),
        _without_weights(scenario),
        _padding(scenario),
        _blocks(scenario),
        _widths(scenario),
        _narrow(scenario),
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
    if scenario.plan.pipeline_parallel_size > 1:
        reason = "the last stage holds a head of its own"
        said.append(without_effect(["model.tied_embeddings"], reason))
    return said


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
    size, stated = scenario.workload.sequence_length, scenario.plan.kv_cache_block_length
    lengths = {size}
    for layout in scenario.model.layouts:
        if isinstance(layout, Sliding):
            lengths.add(min(size, layout.window))
        if isinstance(layout, Chunked):
            lengths.add(min(size, layout.chunk_length))

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


_BLOCKS = 64
"""Sizes of blocks that are tried."""


def _widths(scenario: Scenario) -> str:
    """Return for each role which other formats take as many bytes."""
    precision = scenario.precision
    roles = {role: getattr(precision, role) for role in ("weights", "activations", "logits")}
    if _narrow(scenario):
        del roles["weights"]
    roles["kv_cache"] = precision.kv_cache or precision.activations
    said = []
    for role, name in roles.items():
        size = FORMATS[name].tensor_bytes(1)
        twins = [
            other
            for other, entry in FORMATS.items()
            if entry.fills(role)
            and entry.tensor_bytes(1) == size
            and other != getattr(precision, role)
        ]
        if twins:
            said.append(f"precision.{role}: {' or '.join(twins)} would move nothing: it is as wide")
    return "; ".join([*said, *_as_stored(scenario)])


def _as_stored(scenario: Scenario) -> list[str]:
    """Return which plain formats of stored weights take as many bytes as the weights do."""
    stated, model = scenario.precision.stored_weights, scenario.model

    def size(name: str) -> int:
        return sum(entry.stored_bytes for entry in stored_tensors(model, weight_recipe(name)))

    if stated is None and scenario.precision.weights not in weight_recipes():
        return []
    kept = size(stated or scenario.precision.weights)
    names = [name for name, entry in FORMATS.items() if entry.stored and name != stated]
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
