"""The same numbers as an estimate's, part by part: memory, messages and work of each stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from costmodels.analysis import CATALOGUE, evaluate, inputs_of
from costmodels.compilation import Columns, compile_columns
from costmodels.components import ACTIVATIONS
from costmodels.leaves import leaves
from costmodels.quantities import CHUNK, STAGE
from costmodels.scenario import Scenario, scenario_hash
from costmodels.specs.workload import WorkloadKind
from costmodels.version import VERSION
from costmodels.work import COMPONENTS
from simulator.answer import SCHEMA_VERSION
from simulator.publishing import by_stage, scalar
from simulator.serving import require_training, serving_notes
from simulator.training import classes_of


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the memory of a GPU.

    Attributes
    ----------
    name : str
        Quantity or input.
    part_of : str
        Quantity of the answer that it is a part of.
    definition : str
        One sentence.
    stage_bytes : list of int
        Its size on a GPU of each stage [byte].
    """

    name: str
    part_of: str
    definition: str
    stage_bytes: list[int]


class LayerCache(msgspec.Struct, frozen=True, kw_only=True):
    """What the layers of one kind keep in inference, each of them on one GPU.

    Attributes
    ----------
    layout : str
        Who attends to whom.
    layer_count : int
        Layers of the kind, of the whole model [count].
    cached_tokens : int
        Tokens of a sequence that are kept, in whole blocks [token].
    token_bytes : int
        Size of one of them [byte].
    state_bytes : int
        State of a sequence beside them [byte].
    sequence_bytes : int
        All that a layer keeps of one sequence [byte].
    """

    layout: str
    layer_count: int
    cached_tokens: int
    token_bytes: int
    state_bytes: int
    sequence_bytes: int


class MemoryAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of a GPU of every stage by component; components add up to the stage's total.

    In inference no microbatches are in flight: those lists are empty.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    kind : str
        training, prefill or decode.
    fits : bool
        Whether every stage fits the memory of its GPUs.
    accelerator_memory_bytes, headroom_bytes : int
        What a GPU has, and what is left of it on the fullest; negative where it does not fit [byte].
    worst_stage_index : int
        Stage of the fullest GPUs [index].
    worst_component : str
        Largest component there.
    saved_tensors, attention_kernel : str
        Whose list of kept activations is counted, and the kernel of attention.
    chunk_layers, chunk_in_flight_count : list of list of int
        Layers of each chunk, and its microbatches in flight when the GPU is fullest, by stage [count].
    in_flight_count : list of int
        Microbatches in flight at most, counted for each chunk, by stage [count].
    components : tuple of Component
        In the order of the catalogue.
    stage_bytes : list of int
        Their sum [byte].
    host_bytes : list of int
        What a GPU of each stage has in the memory of its host, in training, beside all this [byte].
    replica_sequence_count : int or None
        Sequences whose keys and values a replica keeps, in inference [count].
    serving_tokens : int or None
        Tokens that a replica computes at once, in inference [token].
    caches : tuple of LayerCache
        What each kind of layer keeps, in inference.
    notes : tuple of str
        What an inference's answer says beside its numbers, fields without effect included.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    kind: str
    fits: bool
    accelerator_memory_bytes: int
    headroom_bytes: int
    worst_stage_index: int
    worst_component: str
    saved_tensors: str
    attention_kernel: str
    chunk_layers: list[list[int]]
    in_flight_count: list[int]
    chunk_in_flight_count: list[list[int]]
    components: tuple[Component, ...]
    stage_bytes: list[int]
    host_bytes: list[int]
    replica_sequence_count: int | None = None
    serving_tokens: int | None = None
    caches: tuple[LayerCache, ...] = ()
    notes: tuple[str, ...] = ()

    def component(self, name: str) -> Component:
        """Return a component by its name."""
        return next(entry for entry in self.components if entry.name == name)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One collective of one GPU over a step; lists are by stage.

    Attributes
    ----------
    name : str
        What is sent.
    axis : str
        Axis of parallelism: tensor, sequence, context, expert, pipeline, tied embedding or data.
    collective : str
        all-reduce, all-gather, reduce-scatter, all-to-all or send.
    algorithm : str
        How it is done.
    group : str
        Ranks that take part: those of an axis, or the copies of a tied embedding.
    group_size : int
        Ranks that take part [count].
    tier : str
        The links of the group: inside the node, across nodes, or both.
    chunk_index : int or None
        Chunk whose weights or gradients they are; None where all chunks are taken together.
    calls : list of float
        Calls in a step [count].
    payload_bytes : list of float
        The whole tensor that one call works on; of buckets, of which the last may be smaller, the
        mean [byte].
    call_sent_bytes : list of float
        What a rank sends in one call, of buckets the mean [byte].
    sent_bytes, network_bytes, scale_up_bytes : list of float
        What it sends in all calls, and of it across nodes and inside the node [byte].
    """

    name: str
    axis: str
    collective: str
    algorithm: str
    group: str
    group_size: int
    tier: str
    chunk_index: int | None
    calls: list[float]
    payload_bytes: list[float]
    call_sent_bytes: list[float]
    sent_bytes: list[float]
    network_bytes: list[float]
    scale_up_bytes: list[float]


class TrafficAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What one GPU of every stage sends over a step, collective by collective.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    messages : tuple of Message
        Collectives that take place in some stage.
    network_bytes, scale_up_bytes, stage_sent_bytes : list of float
        What a GPU of each stage sends across nodes, inside the node and together [byte].
    busiest_stage_index : int
        Stage whose GPUs send most [index].
    sent_bytes, received_bytes : float
        What all GPUs send, and receive [byte].
    device_to_host_bytes, host_to_device_bytes : list of float
        What a GPU of each stage sends to the memory of its host, and takes back [byte].
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    messages: tuple[Message, ...]
    network_bytes: list[float]
    scale_up_bytes: list[float]
    stage_sent_bytes: list[float]
    busiest_stage_index: int
    sent_bytes: float
    received_bytes: float
    device_to_host_bytes: list[float]
    host_to_device_bytes: list[float]


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one component in a step, on all GPUs of each stage [FLOP].

    Attributes
    ----------
    name : str
        Component.
    model_forward_flop, model_backward_flop : list of float
        What the model needs, by stage.
    hardware_forward_flop, hardware_backward_flop : list of float
        What is executed, nothing repeated, by stage.
    """

    name: str
    model_forward_flop: list[float]
    model_backward_flop: list[float]
    hardware_forward_flop: list[float]
    hardware_backward_flop: list[float]


class Convention(msgspec.Struct, frozen=True, kw_only=True):
    """A published way to count the work of a step, beside what Shardwise counts.

    Attributes
    ----------
    name, definition, source : str
        From the catalogue.
    flop : float
        Work of the step [FLOP].
    model_ratio, hardware_ratio : float
        Over model FLOP and over hardware FLOP [ratio].
    """

    name: str
    definition: str
    source: str
    flop: float
    model_ratio: float
    hardware_ratio: float


class WorkAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Work of a step by component and stage, and the published conventions beside it.

    Attributes
    ----------
    schema_version, shardwise_version, scenario_hash
        As of an `Answer`.
    components : tuple of Work
        In the order of a layer.
    recompute_flop : list of float
        Forwards that the backward repeats, by stage [FLOP].
    stage_gpu_count : int
        GPUs of a stage [count].
    model_flop, hardware_flop : float
        What the model needs and what is executed, of the whole step [FLOP].
    conventions : tuple of Convention
        Model FLOP, hardware FLOP and the published conventions.
    """

    schema_version: int
    shardwise_version: str
    scenario_hash: str
    components: tuple[Work, ...]
    recompute_flop: list[float]
    stage_gpu_count: int
    model_flop: float
    hardware_flop: float
    conventions: tuple[Convention, ...]


_DIVIDED: Mapping[str, tuple[str, ...]] = {
    "optimizer_bytes": ("main_weights_bytes", "moments_bytes"),
    "activations_bytes": tuple(entry.name for entry in ACTIVATIONS),
    "buffers_bytes": inputs_of("buffers_bytes"),
    "reserve_bytes": inputs_of("reserve_bytes"),
}
"""What the parts of a stage's memory are made of; other parts are components themselves."""


class _Memory(msgspec.Struct, frozen=True):
    """The quantities of a kind of workload: of a stage in all, and of the verdict."""

    total: str
    headroom: str
    worst_stage: str


_TRAINING = _Memory("stage_bytes", "headroom_bytes", "worst_stage_index")
_SERVING = _Memory("serving_bytes", "serving_headroom_bytes", "serving_worst_stage_index")


def memory_of(scenario: Scenario) -> _Memory:
    """Return which quantities say what a scenario's stages hold, by the kind of its workload."""
    return _TRAINING if scenario.workload.kind is WorkloadKind.TRAINING else _SERVING


def memory_components(total: str = _TRAINING.total) -> tuple[tuple[str, str], ...]:
    """Return every component of a stage's memory with the part of the total that it belongs to."""
    return tuple((name, part) for part in inputs_of(total) for name in _DIVIDED.get(part, (part,)))


def memory_account(scenario: Scenario) -> MemoryAccount:
    """Return the memory of a GPU of every stage by component, of training or of inference."""
    names = memory_of(scenario)
    parts = memory_components(names.total)
    trains = names is _TRAINING
    kept = () if trains else _CACHE
    totals = msgspec.structs.astuple(names)
    table = _Table(scenario, [name for name, _ in parts], _MEMORY, totals, kept)
    components = tuple(
        Component(
            name=name,
            part_of=part,
            definition=_definition(name),
            stage_bytes=table.stages(name),
        )
        for name, part in parts
    )
    worst = table.one(names.worst_stage)
    largest = max(components, key=lambda entry: entry.stage_bytes[worst])
    headroom = table.one(names.headroom)
    return MemoryAccount(
        **_named(scenario),
        kind=scenario.workload.kind.value,
        fits=headroom >= 0,
        accelerator_memory_bytes=int(table.one("accelerator_memory_bytes")),
        headroom_bytes=headroom,
        worst_stage_index=worst,
        worst_component=largest.name,
        saved_tensors=scenario.plan.saved_tensors.value,
        attention_kernel=scenario.plan.attention_kernel.value,
        chunk_layers=table.stages("chunk_layers"),
        in_flight_count=table.stages("in_flight_count") if trains else [],
        chunk_in_flight_count=table.stages("chunk_in_flight_count") if trains else [],
        components=components,
        stage_bytes=table.stages(names.total),
        host_bytes=table.stages("host_bytes") if trains else [],
        replica_sequence_count=None if trains else table.one("replica_sequence_count"),
        serving_tokens=None if trains else table.one("serving_tokens"),
        caches=() if trains else _caches(table),
        notes=() if trains else (*scenario.model.notes, *serving_notes(scenario)),
    )


def _caches(table: "_Table") -> tuple[LayerCache, ...]:
    """Return what each kind of layer keeps."""
    layers, tokens, bytes_of_token, states = (table.kinds(name) for name in _CACHE)
    return tuple(
        LayerCache(
            layout=layout,
            layer_count=layers[kind],
            cached_tokens=tokens[kind],
            token_bytes=bytes_of_token[kind],
            state_bytes=states[kind],
            sequence_bytes=tokens[kind] * bytes_of_token[kind] + states[kind],
        )
        for kind, layout in enumerate(table.columns.layouts)
    )


_CACHE = ("kind_layer_count", "cached_tokens", "cache_token_bytes", "recurrent_state_bytes")
_MEMORY = (
    "accelerator_memory_bytes",
    "chunk_layers",
    "in_flight_count",
    "chunk_in_flight_count",
    "host_bytes",
    "replica_sequence_count",
    "serving_tokens",
)


class _Kind(msgspec.Struct, frozen=True):
    """What is known of a collective beside its numbers; `name` is the stem of its quantities.

    Without an axis it is of sequence parallelism where that is on, else of tensor parallelism.
    With `passes`, payload and bytes sent are those of all the calls of a pass.
    """

    name: str
    axis: str
    collective: str
    payload: str
    call: str
    group: str
    passes: str = ""

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the quantities that count it."""
        return (
            f"{self.name}_calls",
            self.payload,
            self.call,
            f"{self.name}_sent_bytes",
            f"{self.name}_network_bytes",
        )


_MESSAGES = (
    _Kind(
        "hidden_all_reduce",
        "tensor",
        "all-reduce",
        "hidden_message_bytes",
        "hidden_all_reduce_bytes",
        "tensor",
    ),
    _Kind(
        "loss_all_reduce", "tensor", "all-reduce", "loss_message_bytes", "loss_call_bytes", "tensor"
    ),
    _Kind(
        "sequence_all_gather",
        "sequence",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    _Kind(
        "sequence_reduce_scatter",
        "sequence",
        "reduce-scatter",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    _Kind(
        "prediction_all_gather",
        "",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    _Kind(
        "prediction_input_all_reduce",
        "tensor",
        "all-reduce",
        "prediction_input_message_bytes",
        "prediction_input_all_reduce_bytes",
        "tensor",
    ),
    _Kind(
        "prediction_input_all_gather",
        "sequence",
        "all-gather",
        "prediction_input_message_bytes",
        "prediction_input_all_gather_bytes",
        "tensor",
    ),
    _Kind(
        "prediction_input_reduce_scatter",
        "sequence",
        "reduce-scatter",
        "prediction_input_message_bytes",
        "prediction_input_all_gather_bytes",
        "tensor",
    ),
    _Kind(
        "replicated_all_reduce",
        "",
        "all-reduce",
        "replicated_message_bytes",
        "chunk_replicated_bytes",
        "tensor",
    ),
    _Kind(
        "shared_all_reduce",
        "",
        "all-reduce",
        "shared_message_bytes",
        "chunk_shared_bytes",
        "copies",
    ),
    _Kind(
        "context_send", "context", "send", "context_block_bytes", "context_block_bytes", "context"
    ),
    _Kind(
        "context_all_gather",
        "context",
        "all-gather",
        "context_gathered_bytes",
        "context_pass_bytes",
        "context",
    ),
    _Kind(
        "context_reduce_scatter",
        "context",
        "reduce-scatter",
        "context_gathered_bytes",
        "context_pass_bytes",
        "context",
    ),
    _Kind(
        "context_input_all_to_all",
        "context",
        "all-to-all",
        "context_input_bytes",
        "context_input_exchange_bytes",
        "context",
    ),
    _Kind(
        "context_output_all_to_all",
        "context",
        "all-to-all",
        "context_output_bytes",
        "context_output_exchange_bytes",
        "context",
    ),
    _Kind(
        "expert_all_to_all",
        "expert",
        "all-to-all",
        "expert_message_bytes",
        "expert_exchange_bytes",
        "expert",
    ),
    _Kind(
        "expert_rows_all_gather",
        "expert",
        "all-gather",
        "expert_rows_message_bytes",
        "expert_rows_bytes",
        "expert_tensor",
    ),
    _Kind(
        "expert_rows_reduce_scatter",
        "expert",
        "reduce-scatter",
        "expert_rows_message_bytes",
        "expert_rows_bytes",
        "expert_tensor",
    ),
    _Kind(
        "handover_all_gather",
        "tensor",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    _Kind("hop", "pipeline", "send", "hop_bytes", "hop_bytes", "pipeline"),
    _Kind(
        "tied_all_reduce",
        "tied embedding",
        "all-reduce",
        "tied_message_bytes",
        "tied_call_bytes",
        "",
    ),
    _Kind(
        "mirror_all_reduce",
        "pipeline",
        "all-reduce",
        "mirror_message_bytes",
        "mirror_call_bytes",
        "mirror",
    ),
    _Kind(
        "gradient_all_reduce",
        "data",
        "all-reduce",
        "chunk_gradient_message_bytes",
        "chunk_gradient_call_bytes",
        "sharding",
        "all_reduce_passes",
    ),
    _Kind(
        "gradient_reduce_scatter",
        "data",
        "reduce-scatter",
        "chunk_gradient_message_bytes",
        "chunk_dense_gradient_bytes",
        "sharding",
        "reduce_scatter_passes",
    ),
    _Kind(
        "weight_all_gather",
        "data",
        "all-gather",
        "chunk_weight_message_bytes",
        "chunk_dense_gather_bytes",
        "sharding",
    ),
    _Kind(
        "expert_gradient_all_reduce",
        "data",
        "all-reduce",
        "chunk_expert_gradient_message_bytes",
        "chunk_expert_gradient_call_bytes",
        "expert_sharding",
        "all_reduce_passes",
    ),
    _Kind(
        "expert_gradient_reduce_scatter",
        "data",
        "reduce-scatter",
        "chunk_expert_gradient_message_bytes",
        "chunk_expert_gradient_bytes",
        "expert_sharding",
        "reduce_scatter_passes",
    ),
    _Kind(
        "expert_weight_all_gather",
        "data",
        "all-gather",
        "chunk_expert_weight_message_bytes",
        "chunk_expert_gather_bytes",
        "expert_sharding",
    ),
    _Kind(
        "replica_all_reduce",
        "data",
        "all-reduce",
        "replica_message_bytes",
        "chunk_replica_bytes",
        "replication",
        "reduce_scatter_passes",
    ),
)
_SIZES = {
    "tensor": "tensor_parallel_size",
    "copies": "key_value_copies_size",
    "context": "context_parallel_size",
    "pipeline": "pipeline_parallel_size",
    "expert": "expert_parallel_size",
    "expert_tensor": "expert_stride",
    "expert_sharding": "expert_sharding_size",
    "sharding": "sharding_size",
    "replication": "replication_size",
}
"""Quantity or input that says how many ranks a group has."""

_COPIES = 2
"""Ranks that hold a copy of a tied embedding, or of the same layers."""


def traffic_account(scenario: Scenario) -> TrafficAccount:
    """Return what one GPU of every stage sends over a step, collective by collective."""
    require_training(scenario)
    names = [name for kind in _MESSAGES for name in (*kind.numbers, kind.passes) if name]
    sizes = list(_SIZES.values())
    fractions = [_fraction(kind) for kind in _MESSAGES]
    table = _Table(scenario, names, sizes, fractions, _TRAFFIC, ("sequence_parallel",))
    messages = [entry for kind in _MESSAGES for entry in _messages(kind, table)]
    network, inside = table.stages("network_bytes"), table.stages("scale_up_bytes")
    return TrafficAccount(
        **_named(scenario),
        messages=tuple(entry for entry in messages if any(entry.calls)),
        network_bytes=network,
        scale_up_bytes=inside,
        stage_sent_bytes=[first + second for first, second in zip(network, inside, strict=True)],
        busiest_stage_index=table.one("busiest_stage_index"),
        sent_bytes=float(table.one("sent_bytes")),
        received_bytes=float(table.one("received_bytes")),
        device_to_host_bytes=table.numbers("device_to_host_bytes"),
        host_to_device_bytes=table.numbers("host_to_device_bytes"),
    )


_TRAFFIC = (
    "network_bytes",
    "scale_up_bytes",
    "busiest_stage_index",
    "sent_bytes",
    "received_bytes",
    "device_to_host_bytes",
    "host_to_device_bytes",
)


_ALGORITHMS = {"send": "point to point", "all-to-all": "in pairs"}


def _fraction(kind: _Kind) -> str:
    if (kind.group, kind.collective) == ("context", "all-to-all"):
        return "context_exchange_fraction"
    group = "tensor" if kind.group == "copies" else kind.group
    return f"{group or 'tied'}_network_fraction"


def _messages(kind: _Kind, table: "_Table") -> list[Message]:
    """Return the rows of a collective: one, or one for each chunk that has its own."""
    calls, payload, call, sent, network = kind.numbers
    share = table.one(_fraction(kind))
    tier = "across nodes" if share == 1 else "both" if share else "inside the node"
    size = table.one(_SIZES[kind.group]) if kind.group in _SIZES else _COPIES
    by_chunk = CHUNK in CATALOGUE[calls].axes
    found = []
    for chunk in range(table.columns.sizes[CHUNK]) if by_chunk else (None,):
        numbers = {name: table.numbers(name, chunk) for name in (calls, payload, call, sent)}
        if kind.passes:
            passes = table.one(kind.passes)
            for name in (payload, call):
                numbers[name] = _means(numbers[name], passes, numbers[calls])
        crossing = table.numbers(network, chunk)
        found.append(
            Message(
                name=kind.name,
                axis=kind.axis or ("sequence" if table.one("sequence_parallel") else "tensor"),
                collective=kind.collective,
                algorithm=_ALGORITHMS.get(kind.collective, "ring"),
                group=kind.group or "tied embedding",
                group_size=size,
                tier=tier,
                chunk_index=chunk,
                calls=numbers[calls],
                payload_bytes=numbers[payload],
                call_sent_bytes=numbers[call],
                sent_bytes=numbers[sent],
                network_bytes=crossing,
                scale_up_bytes=[
                    whole - outside for whole, outside in zip(numbers[sent], crossing, strict=True)
                ],
            )
        )
    return found


def _means(whole: Sequence[float], passes: float, calls: Sequence[float]) -> list[float]:
    """Return what one call carries on average, of what its passes carry; nothing without calls."""
    return [
        size * passes / count if count else 0.0 for size, count in zip(whole, calls, strict=True)
    ]


_CONVENTIONS = (
    "model_flop",
    "hardware_flop",
    "full_attention_flop",
    "six_nd_flop",
    "six_active_nd_flop",
    "palm_flop",
    "palm_causal_flop",
    "megatron_flop",
    "megatron_recompute_flop",
)


def work_account(scenario: Scenario) -> WorkAccount:
    """Return the work of a step by component and stage, and published conventions beside it."""
    require_training(scenario)
    names = [name for component in COMPONENTS for name in _phases(component).values()]
    table = _Table(scenario, names, _CONVENTIONS, ("stage_gpu_count",), ("stage_recompute_flop",))
    components = tuple(
        Work(
            name=component,
            **{field: table.numbers(name) for field, name in _phases(component).items()},
        )
        for component in COMPONENTS
    )
    model, hardware = table.one("model_flop"), table.one("hardware_flop")
    return WorkAccount(
        **_named(scenario),
        components=components,
        recompute_flop=table.numbers("stage_recompute_flop"),
        stage_gpu_count=table.one("stage_gpu_count"),
        model_flop=model,
        hardware_flop=hardware,
        conventions=tuple(
            Convention(
                name=name,
                definition=CATALOGUE[name].definition,
                source=CATALOGUE[name].source,
                flop=table.one(name),
                model_ratio=table.one(name) / model,
                hardware_ratio=table.one(name) / hardware,
            )
            for name in _CONVENTIONS
        ),
    )


def _phases(component: str) -> dict[str, str]:
    """Return the quantity of each number of a component's work."""
    return {
        "model_forward_flop": f"stage_model_{component}_forward_flop",
        "model_backward_flop": f"stage_model_{component}_backward_flop",
        "hardware_forward_flop": f"stage_{component}_forward_flop",
        "hardware_backward_flop": f"stage_{component}_backward_flop",
    }


class _Table:
    """Quantities of one scenario, evaluated together and read by stage."""

    def __init__(self, scenario: Scenario, *names: Sequence[str]) -> None:
        self.columns: Columns = compile_columns(scenario)
        wanted = dict.fromkeys(name for group in names for name in group)
        self._values = evaluate(self.columns, (*wanted, "microbatch_count"))
        self._classes = classes_of(scenario, scalar(self._values["microbatch_count"]))

    def one(self, name: str) -> Any:
        """Return a quantity without axes."""
        return scalar(self._values[name])

    def stages(self, name: str) -> list[Any]:
        """Return a quantity for each stage, the same for all where it has no such axis."""
        axes = _axes(name)
        value = by_stage(self._values[name], axes, self._classes)
        return list(value) if axes[:1] == (STAGE,) else [value] * len(self._classes)

    def kinds(self, name: str) -> list[int]:
        """Return a quantity for each kind of layer."""
        return [scalar(value) for value in self._values[name]]

    def numbers(self, name: str, chunk: int | None = None) -> list[float]:
        """Return a quantity for each stage as floats, of one chunk where it has some."""
        stages = self.stages(name)
        if chunk is not None and CHUNK in _axes(name):
            stages = [value[chunk] for value in stages]
        return [float(value) for value in stages]


def _axes(name: str) -> tuple[str, ...]:
    return CATALOGUE[name].axes if name in CATALOGUE else leaves()[name].axes


def _definition(name: str) -> str:
    if name in CATALOGUE:
        return CATALOGUE[name].definition
    text = leaves()[name].definition
    return text[:1].upper() + text[1:] + "."


def _named(scenario: Scenario) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "shardwise_version": VERSION,
        "scenario_hash": scenario_hash(scenario),
    }
