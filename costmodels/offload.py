"""States and activations on the host: what leaves the GPU, what lies there, what passes the link.

The first `plan.offload_activations_num_layers` layers of each chunk send their saved tensors to the
memory of the host, each storage once; weights stay [1]_. So does, beside its copy, an input whose
gradient is handed back (`activations.chunk_retained_input_bytes`). A GPU holds the layers that keep
their tensors, which are the last, and two more: one in use and one on its way. With N of L equal
layers, the copy of the i-th then has until the end of the forward of layer i + L - N + 1; copies that
follow each other meet all of these where N of them take no longer than the forward of L layers. So
they hide behind all of a chunk's forward, and coming back behind all of its backward; what they take
longer is waited for.

References
----------
.. [1] TransformerEngine, ``transformer_engine/pytorch/cpu_offload.py``: ``OffloadSynchronizer``,
   and ``get_cpu_offload_context``, which ``megatron/core/transformer/transformer_block.py`` of
   Megatron-LM calls. By default it holds no layers beside those that keep their tensors, so that
   copies have less time.
"""

from collections.abc import Callable
from types import MappingProxyType

from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    largest,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.quantities import (
    ALGORITHM,
    CHUNK,
    KIND,
    STAGE,
    Basis,
    Quantity,
    Scope,
    quantity,
    renamed,
)

_LAYERS = "Megatron-LM, megatron/core/model_parallel_config.py: cpu_offloading_num_layers"
_WINDOWS = (
    "with a layer in use and one on its way copies hide behind all of a chunk's layers, as if these "
    "were equal, over a link that no other GPU shares"
)
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 5"
_OFFLOAD = "Ren et al. 2021, arXiv:2101.06840, section 3; updated on the GPU, layer by layer"
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_offloaded_input_count * layer_input_bytes + total(kind_offloaded_layers"
    " * (layer_activation_bytes - layer_repeated_bytes))",
    source=_LAYERS,
)
def chunk_offloaded_bytes(
    chunk_offloaded_input_count: Column,
    layer_input_bytes: Column,
    kind_offloaded_layers: Axis,
    layer_activation_bytes: Axis,
    layer_repeated_bytes: Axis,
) -> Column:
    """Return the activations of a chunk that go to the host and come back, for one microbatch [byte].

    Examples
    --------
    Two layers of 100, of which modules compute 40 again.

    >>> chunk_offloaded_bytes(0, 10, [2], [100], [40])
    120
    """
    sent = [
        whole - again
        for whole, again in zip(layer_activation_bytes, layer_repeated_bytes, strict=True)
    ]
    inputs = chunk_offloaded_input_count * layer_input_bytes
    return inputs + weighted_total(kind_offloaded_layers, sent)


def _on_host(peak: Callable[..., Column]) -> Callable[..., Column]:
    """Return what a schedule holds at most, of what lies on the host."""
    names = {"chunk_activation_bytes": "chunk_offloaded_bytes"}
    return renamed(peak, "host_activation_bytes", names)


HOST_ACTIVATION_BYTES = Quantity(
    name="host_activation_bytes",
    unit="byte",
    scope=Scope.GPU,
    axes=_STAGE,
    group="memory",
    definition="Activations of a GPU in the memory of the host, at their peak.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="equal to the schedule's list of actions, replayed: from a forward until its backward",
    variants=MappingProxyType(
        {str(entry.name): _on_host(entry.peak_activation_bytes) for entry in SCHEDULES.values()}
    ),
    selector="schedule",
    zero_without="offload_activations_num_layers",
)


@quantity(
    "byte",
    Scope.GPU,
    axes=(KIND,),
    basis=Basis.EXACT,
    formula="(ceil_div(where(weights_are_frozen, layer_adapter_parameters, layer_gpu_parameters"
    " - experts_apart * layer_expert_parameters), where(zero_stage >= 1, sharding_size, 1))"
    " + ceil_div((1 - weights_are_frozen) * experts_apart * layer_expert_parameters,"
    " where(zero_stage >= 1, expert_sharding_size, 1)))"
    " * (main_weight_element_bytes + moment_count * moment_element_bytes)"
    " + ceil_div(where(weights_are_frozen, adapter_state_bytes, layer_state_bytes"
    " + (1 - experts_apart * is_mixture) * ffn_state_bytes),"
    " where(zero_stage >= 1, sharding_size, 1))"
    " + ceil_div((1 - weights_are_frozen) * experts_apart * is_mixture * ffn_state_bytes,"
    " where(zero_stage >= 1, expert_sharding_size, 1))",
    source=_ZERO + "; experts apart over the ranks that hold the same experts",
)
def layer_optimizer_bytes(
    weights_are_frozen: Column,
    layer_adapter_parameters: Column,
    layer_gpu_parameters: Column,
    experts_apart: Column,
    is_mixture: Column,
    layer_expert_parameters: Column,
    adapter_state_bytes: Column,
    layer_state_bytes: Column,
    ffn_state_bytes: Column,
    zero_stage: Column,
    sharding_size: Column,
    expert_sharding_size: Column,
    main_weight_element_bytes: Column,
    moment_count: Column,
    moment_element_bytes: Column,
) -> Column:
    """Return the main weights and moments of one layer on a GPU, sharded as they are [byte].

    Examples
    --------
    800 of a layer's 1,000 parameters are experts, shared by 2 ranks, all else by 8; Adam in fp32.

    >>> sharded = {"zero_stage": 1, "sharding_size": 8, "expert_sharding_size": 2}
    >>> elements = {"main_weight_element_bytes": 4, "moment_count": 2, "moment_element_bytes": 4}
    >>> layer_optimizer_bytes(0, 0, 1000, 1, 1, 800, 0, 0, 0, **sharded, **elements)
    5100
    """
    routed = (1 - weights_are_frozen) * experts_apart * is_mixture
    trained = where(weights_are_frozen, layer_adapter_parameters, layer_gpu_parameters)
    moments = where(weights_are_frozen, adapter_state_bytes, layer_state_bytes + ffn_state_bytes)
    ranks = where(zero_stage >= 1, sharding_size, 1)
    expert_ranks = where(zero_stage >= 1, expert_sharding_size, 1)
    experts = (1 - weights_are_frozen) * experts_apart * layer_expert_parameters
    elements = ceil_div(trained - experts, ranks) + ceil_div(experts, expert_ranks)
    by_shapes = ceil_div(moments - routed * ffn_state_bytes, ranks)
    by_shapes = by_shapes + ceil_div(routed * ffn_state_bytes, expert_ranks)
    element_bytes = main_weight_element_bytes + moment_count * moment_element_bytes
    return elements * element_bytes + by_shapes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="offload_optimizer * 2 * maximum(largest(minimum(stage_layer_count, 1)"
    " * layer_optimizer_bytes), (1 - weights_are_frozen)"
    " * maximum(total(chunk_holds_embedding) * (ceil_div(embedding_gpu_parameters,"
    " where(zero_stage >= 1, sharding_size, 1))"
    " * (main_weight_element_bytes + moment_count * moment_element_bytes)"
    " + ceil_div(embedding_state_bytes, where(zero_stage >= 1, sharding_size, 1))),"
    " total(chunk_holds_head) * (ceil_div(head_gpu_parameters,"
    " where(zero_stage >= 1, sharding_size, 1))"
    " * (main_weight_element_bytes + moment_count * moment_element_bytes)"
    " + ceil_div(head_state_bytes, where(zero_stage >= 1, sharding_size, 1)))))",
    source=_OFFLOAD + ": states of the largest layer, embedding or head, one set in use and one on "
    "its way",
)
def offload_buffer_bytes(
    offload_optimizer: Column,
    stage_layer_count: Axis,
    layer_optimizer_bytes: Axis,
    weights_are_frozen: Column,
    chunk_holds_embedding: Axis,
    embedding_gpu_parameters: Column,
    embedding_state_bytes: Column,
    chunk_holds_head: Axis,
    head_gpu_parameters: Column,
    head_state_bytes: Column,
    zero_stage: Column,
    sharding_size: Column,
    main_weight_element_bytes: Column,
    moment_count: Column,
    moment_element_bytes: Column,
) -> Column:
    """Return the buffers through which states of the host pass in an update [byte]."""
    ranks = where(zero_stage >= 1, sharding_size, 1)
    element_bytes = main_weight_element_bytes + moment_count * moment_element_bytes
    layers = [
        minimum(count, 1) * own
        for count, own in zip(stage_layer_count, layer_optimizer_bytes, strict=True)
    ]
    ends = [
        (1 - weights_are_frozen)
        * total(held)
        * (ceil_div(parameters, ranks) * element_bytes + ceil_div(moments, ranks))
        for held, parameters, moments in (
            (chunk_holds_embedding, embedding_gpu_parameters, embedding_state_bytes),
            (chunk_holds_head, head_gpu_parameters, head_state_bytes),
        )
    ]
    return offload_optimizer * 2 * largest([*layers, *ends])


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="host_state_bytes + host_activation_bytes",
    source="the sum of its parts",
)
def host_bytes(host_state_bytes: Column, host_activation_bytes: Column) -> Column:
    """Return the memory of the host that the states and activations of a GPU take [byte]."""
    return host_state_bytes + host_activation_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source="one layer in use and one on its way: the two largest that there are",
    zero_without="offload_activations_num_layers",
)
def offload_staging_bytes(
    chunk_in_flight_count: Axis,
    chunk_offloaded_input_count: Axis,
    kind_offloaded_layers: Axis,
    layer_input_bytes: Column,
    layer_activation_bytes: Axis,
    layer_repeated_bytes: Axis,
) -> Column:
    """Return the activations of offloaded layers in use and on their way, on the GPU [byte].

    Examples
    --------
    One chunk with one microbatch in flight: no layer, one of 60, one of 60 and one of 100, two.

    >>> layers = {"layer_input_bytes": 10, "layer_repeated_bytes": [0, 0]}
    >>> layers["layer_activation_bytes"] = [60, 100]
    >>> [
    ...     offload_staging_bytes([1], [0], [counts], **layers)
    ...     for counts in ([0, 0], [1, 0], [1, 1], [1, 2])
    ... ]
    [0, 60, 160, 200]
    """
    sizes = [
        layer_input_bytes,
        *(
            whole - again
            for whole, again in zip(layer_activation_bytes, layer_repeated_bytes, strict=True)
        ),
    ]
    by_chunk = [
        (inputs, *layers)
        for inputs, layers in zip(chunk_offloaded_input_count, kind_offloaded_layers, strict=True)
    ]
    counts = [
        weighted_total(chunk_in_flight_count, of_chunks)
        for of_chunks in zip(*by_chunk, strict=True)
    ]
    one = [minimum(count, 1) * size for count, size in zip(counts, sizes, strict=True)]
    two = [minimum(count, 2) * size for count, size in zip(counts, sizes, strict=True)]
    different = [first + second for place, first in enumerate(one) for second in one[place + 1 :]]
    return largest([*two, *different])


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_offloaded_bytes)",
    source="every microbatch goes to the host once and comes back once",
)
def offloaded_step_bytes(chunk_microbatch_count: Column, chunk_offloaded_bytes: Axis) -> Column:
    """Return the activations that a GPU sends to the host over a step, as many as come back [byte]."""
    return 1.0 * chunk_microbatch_count * total(chunk_offloaded_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="offloaded_step_bytes + host_state_bytes",
    source="activations beside the forward, the optimizer's states after their update",
)
def device_to_host_bytes(offloaded_step_bytes: Column, host_state_bytes: Column) -> Column:
    """Return the bytes from a GPU to its host, over a step [byte]."""
    return offloaded_step_bytes + host_state_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="offloaded_step_bytes + host_state_bytes",
    source="activations beside the backward, the optimizer's states for their update",
)
def host_to_device_bytes(offloaded_step_bytes: Column, host_state_bytes: Column) -> Column:
    """Return the bytes from its host to a GPU, over a step [byte]."""
    return offloaded_step_bytes + host_state_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="communication",
    basis=Basis.EXACT,
    formula="device_to_host_bytes + host_to_device_bytes",
    source="the sum of its parts",
)
def host_traffic_bytes(device_to_host_bytes: Column, host_to_device_bytes: Column) -> Column:
    """Return the bytes between a GPU and its host, over a step, in both directions [byte]."""
    return device_to_host_bytes + host_to_device_bytes


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_offloaded_bytes / maximum(stated_host_bytes_per_s, 1.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9, without latency",
)
def chunk_offload_s(chunk_offloaded_bytes: Column, stated_host_bytes_per_s: Column) -> Column:
    """Return the time to copy a chunk's offloaded activations one way, for one microbatch [s]."""
    return chunk_offloaded_bytes / maximum(stated_host_bytes_per_s, 1.0)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="maximum(chunk_offload_s - chunk_forward_work_s - chunk_forward_data_s, 0.0)",
    source=_WINDOWS,
)
def chunk_forward_offload_s(
    chunk_offload_s: Column, chunk_forward_work_s: Column, chunk_forward_data_s: Column
) -> Column:
    """Return the copies to the host that a chunk's forward waits for, for one microbatch [s].

    Examples
    --------
    >>> chunk_forward_offload_s(5.0, 3.0, 0.5), chunk_forward_offload_s(2.0, 3.0, 0.5)
    (1.5, 0.0)
    """
    return maximum(chunk_offload_s - chunk_forward_work_s - chunk_forward_data_s, 0.0)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="maximum(chunk_offload_s - chunk_backward_work_s - chunk_backward_data_s, 0.0)",
    source=_WINDOWS,
)
def chunk_backward_offload_s(
    chunk_offload_s: Column, chunk_backward_work_s: Column, chunk_backward_data_s: Column
) -> Column:
    """Return the copies from the host that a chunk's backward waits for, for one microbatch [s]."""
    return maximum(chunk_offload_s - chunk_backward_work_s - chunk_backward_data_s, 0.0)
