"""Memory of a GPU of each stage by component, of training or of inference."""

from collections.abc import Mapping

import msgspec

from costmodels.analysis import inputs_of
from costmodels.components import ACTIVATIONS
from costmodels.scenario import Scenario
from costmodels.specs.workload import WorkloadKind
from simulator.accounting.table import Table, definition_of, identity
from simulator.serving import serving_notes


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


def memory_account(scenario: Scenario) -> MemoryAccount:
    """Return the memory of a GPU of every stage by component, of training or of inference."""
    names = memory_of(scenario)
    parts = memory_components(names.total)
    trains = names is _TRAINING
    kept = () if trains else _CACHE
    totals = msgspec.structs.astuple(names)
    table = Table(scenario, [name for name, _ in parts], _MEMORY, totals, kept)
    components = tuple(
        Component(
            name=name,
            part_of=part,
            definition=definition_of(name),
            stage_bytes=table.stages(name),
        )
        for name, part in parts
    )
    worst = table.one(names.worst_stage)
    largest = max(components, key=lambda entry: entry.stage_bytes[worst])
    headroom = table.one(names.headroom)
    return MemoryAccount(
        **identity(scenario),
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


def _caches(table: Table) -> tuple[LayerCache, ...]:
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
