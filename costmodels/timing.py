"""Times of a chunk for one microbatch: its compute, and the communication it waits for.

Collectives are rings alone on their links. What does not hide behind compute adds to the chunk.
"""

from costmodels.collectives import (
    all_to_all_s,
    ring_all_reduce_bytes,
    ring_all_reduce_s,
    ring_pass_s,
    ring_reduce_scatter_bytes,
    send_s,
)
from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_ZHAO = "Zhao et al. 2023, arXiv:2304.11277, section 3.3: what does not hide behind compute"
_EXCHANGE = "Hockney 1994, doi:10.1016/S0167-8191(06)80021-9, for each tier, all parts at once"
_HIDDEN = (
    "Liu et al. 2023, arXiv:2310.01889, section 3: a block arrives while the one before is used;"
    " what is gathered or exchanged hides behind nothing"
)
_FIRST_UNIT = "; nothing runs before the first layer is gathered, here as large as the largest"
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_all_reduce_s(hidden_all_reduce_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def hidden_all_reduce_s(
    hidden_all_reduce_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of one all-reduce of a microbatch's activation [s]."""
    return ring_all_reduce_s(
        hidden_all_reduce_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_pass_s(hidden_all_gather_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def hidden_all_gather_s(
    hidden_all_gather_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of one all-gather or reduce-scatter of that activation [s]."""
    return ring_pass_s(
        hidden_all_gather_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="6 * (tensor_parallel_size - 1) * tensor_latency_s"
    " + loss_all_reduce_bytes / tensor_bandwidth_bytes_per_s",
    source=_RING + ": three all-reduces",
)
def loss_all_reduce_s(
    tensor_parallel_size: Column,
    tensor_latency_s: Column,
    loss_all_reduce_bytes: Column,
    tensor_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time of the vocabulary-parallel loss's all-reduces, for one microbatch [s]."""
    latency = 6 * (tensor_parallel_size - 1) * tensor_latency_s
    return latency + loss_all_reduce_bytes / tensor_bandwidth_bytes_per_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="forward_all_reduces * hidden_all_reduce_s + chunk_head_passes * loss_all_reduce_s"
    " + chunk_forward_handover_gather_count * hidden_all_gather_s"
    " + (1 - sequence_parallel) * chunk_forward_prediction_s",
    source="Shoeybi et al. 2019, arXiv:1909.08053: nothing to hide behind",
)
def chunk_forward_tensor_s(
    forward_all_reduces: Column,
    hidden_all_reduce_s: Column,
    chunk_head_passes: Column,
    loss_all_reduce_s: Column,
    chunk_forward_handover_gather_count: Column,
    hidden_all_gather_s: Column,
    sequence_parallel: Column,
    chunk_forward_prediction_s: Column,
) -> Column:
    """Return the tensor-parallel collectives that a chunk's forward waits for, for one microbatch [s]."""
    further = (1 - sequence_parallel) * chunk_forward_prediction_s
    ends = chunk_head_passes * loss_all_reduce_s + further
    gathers = chunk_forward_handover_gather_count * hidden_all_gather_s
    return forward_all_reduces * hidden_all_reduce_s + gathers + ends


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="minimum(chunk_summed_parameters, 1) * ring_all_reduce_s(chunk_replicated_bytes,"
    " group_size=tensor_parallel_size, bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,"
    " latency_s=tensor_latency_s) + minimum(chunk_shared_parameters, 1)"
    " * ring_all_reduce_s(chunk_shared_bytes, group_size=key_value_copies_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def chunk_replicated_s(
    chunk_summed_parameters: Column,
    chunk_replicated_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
    chunk_shared_parameters: Column,
    chunk_shared_bytes: Column,
    key_value_copies_size: Column,
) -> Column:
    """Return the time to sum a chunk's gradients of replicated and copied weights once [s]."""
    whole_s = ring_all_reduce_s(
        chunk_replicated_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )
    copies_s = ring_all_reduce_s(
        chunk_shared_bytes,
        group_size=key_value_copies_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )
    replicated_s = minimum(chunk_summed_parameters, 1) * whole_s
    return replicated_s + minimum(chunk_shared_parameters, 1) * copies_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="backward_all_reduces * hidden_all_reduce_s"
    " + chunk_backward_handover_gather_count * hidden_all_gather_s"
    " + (1 - sequence_parallel) * ((zero_stage >= 2) * chunk_replicated_s"
    " + chunk_backward_prediction_s)",
    source="Shoeybi et al. 2019, arXiv:1909.08053: nothing to hide behind",
)
def chunk_backward_tensor_s(
    backward_all_reduces: Column,
    hidden_all_reduce_s: Column,
    chunk_backward_handover_gather_count: Column,
    hidden_all_gather_s: Column,
    zero_stage: Column,
    sequence_parallel: Column,
    chunk_replicated_s: Column,
    chunk_backward_prediction_s: Column,
) -> Column:
    """Return the tensor-parallel collectives that a chunk's backward waits for, for one microbatch [s]."""
    others = (zero_stage >= 2) * chunk_replicated_s + chunk_backward_prediction_s
    gathers = chunk_backward_handover_gather_count * hidden_all_gather_s
    reductions = backward_all_reduces * hidden_all_reduce_s + gathers
    return reductions + (1 - sequence_parallel) * others


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="forward_ring_passes * hidden_all_gather_s"
    " + sequence_parallel * chunk_forward_prediction_s",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2",
)
def chunk_forward_sequence_s(
    forward_ring_passes: Column,
    hidden_all_gather_s: Column,
    sequence_parallel: Column,
    chunk_forward_prediction_s: Column,
) -> Column:
    """Return the sequence-parallel collectives that a chunk's forward waits for [s]."""
    further = sequence_parallel * chunk_forward_prediction_s
    return forward_ring_passes * hidden_all_gather_s + further


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * (layer_matmul_s + layer_adapter_s))"
    " + chunk_head_passes * head_product_s + chunk_prediction_count * prediction_product_s",
    source="one product for each of the forward, as long as that one",
)
def chunk_input_gradient_s(
    chunk_layer_count: Axis,
    layer_matmul_s: Axis,
    layer_adapter_s: Axis,
    chunk_head_passes: Column,
    head_product_s: Column,
    chunk_prediction_count: Column,
    prediction_product_s: Column,
) -> Column:
    """Return the products that give a chunk's input gradients, for one microbatch [s]."""
    further = chunk_prediction_count * prediction_product_s
    products = [
        own + adapters for own, adapters in zip(layer_matmul_s, layer_adapter_s, strict=True)
    ]
    layers = weighted_total(chunk_layer_count, products)
    return layers + chunk_head_passes * head_product_s + further


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="(1 - weights_are_frozen) * (total(chunk_layer_count * layer_matmul_s)"
    " + chunk_head_passes * head_product_s + chunk_prediction_count * prediction_product_s)"
    " + total(chunk_layer_count * layer_adapter_s)",
    source="one product for each of the forward of a weight that is trained, as long as that one; "
    "scores have no weights, and what is repeated, gathered or reduced counts with the input gradient",
)
def chunk_weight_gradient_s(
    weights_are_frozen: Column,
    layer_adapter_s: Axis,
    chunk_layer_count: Axis,
    layer_matmul_s: Axis,
    chunk_head_passes: Column,
    head_product_s: Column,
    chunk_prediction_count: Column,
    prediction_product_s: Column,
) -> Column:
    """Return the products that give a chunk's weight gradients, for one microbatch [s]."""
    further = chunk_prediction_count * prediction_product_s
    layers = weighted_total(chunk_layer_count, layer_matmul_s)
    own_s = layers + chunk_head_passes * head_product_s + further
    adapters_s = weighted_total(chunk_layer_count, layer_adapter_s)
    return (1 - weights_are_frozen) * own_s + adapters_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="backward_ring_passes * hidden_all_gather_s"
    " + maximum(regathers * hidden_all_gather_s + sequence_parallel * chunk_prediction_count"
    " * prediction_input_all_gather_s - chunk_input_gradient_s, 0.0)"
    " + sequence_parallel * ((zero_stage >= 2) * chunk_replicated_s + chunk_backward_prediction_s)",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: what is gathered again for "
    "the weight gradient hides behind the products that give the input gradient",
)
def chunk_backward_sequence_s(
    backward_ring_passes: Column,
    hidden_all_gather_s: Column,
    regathers: Column,
    chunk_prediction_count: Column,
    prediction_input_all_gather_s: Column,
    chunk_input_gradient_s: Column,
    zero_stage: Column,
    sequence_parallel: Column,
    chunk_replicated_s: Column,
    chunk_backward_prediction_s: Column,
) -> Column:
    """Return the sequence-parallel collectives that a chunk's backward waits for [s]."""
    pairs = sequence_parallel * chunk_prediction_count * prediction_input_all_gather_s
    again = regathers * hidden_all_gather_s + pairs
    visible = maximum(again - chunk_input_gradient_s, 0.0)
    others = (zero_stage >= 2) * chunk_replicated_s + chunk_backward_prediction_s
    return backward_ring_passes * hidden_all_gather_s + visible + sequence_parallel * others


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * ring_pass_s(chunk_dense_gather_bytes, group_size=sharding_size,"
    " bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s, latency_s=sharding_latency_s)"
    " + minimum(chunk_expert_parameters, 1) * ring_pass_s(chunk_expert_gather_bytes,"
    " group_size=expert_sharding_size,"
    " bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,"
    " latency_s=expert_sharding_latency_s)",
    source=_RING,
)
def chunk_gather_s(
    chunk_exists: Column,
    chunk_dense_gather_bytes: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    sharding_latency_s: Column,
    chunk_expert_parameters: Column,
    chunk_expert_gather_bytes: Column,
    expert_sharding_size: Column,
    expert_sharding_bandwidth_bytes_per_s: Column,
    expert_sharding_latency_s: Column,
) -> Column:
    """Return the time to gather a chunk's sharded weights once [s]."""
    dense = ring_pass_s(
        chunk_dense_gather_bytes,
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=sharding_latency_s,
    )
    experts = ring_pass_s(
        chunk_expert_gather_bytes,
        group_size=expert_sharding_size,
        bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,
        latency_s=expert_sharding_latency_s,
    )
    return chunk_exists * dense + minimum(chunk_expert_parameters, 1) * experts


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (ring_pass_s(chunk_dense_gradient_bytes, group_size=sharding_size,"
    " bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,"
    " latency_s=chunk_bucket_count * sharding_latency_s)"
    " + ring_all_reduce_s(chunk_replica_bytes, group_size=replication_size,"
    " bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,"
    " latency_s=chunk_replica_bucket_count * replication_latency_s))"
    " + minimum(chunk_expert_parameters, 1) * ring_pass_s(chunk_expert_gradient_bytes,"
    " group_size=expert_sharding_size,"
    " bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,"
    " latency_s=chunk_expert_bucket_count * expert_sharding_latency_s)",
    source=_RING + "; each bucket takes the steps of a ring",
)
def chunk_gradient_s(
    chunk_exists: Column,
    chunk_dense_gradient_bytes: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    chunk_bucket_count: Column,
    sharding_latency_s: Column,
    chunk_replica_bytes: Column,
    replication_size: Column,
    replication_bandwidth_bytes_per_s: Column,
    chunk_replica_bucket_count: Column,
    replication_latency_s: Column,
    chunk_expert_parameters: Column,
    chunk_expert_gradient_bytes: Column,
    expert_sharding_size: Column,
    expert_sharding_bandwidth_bytes_per_s: Column,
    chunk_expert_bucket_count: Column,
    expert_sharding_latency_s: Column,
) -> Column:
    """Return the time to reduce and scatter a chunk's gradients once [s]."""
    dense = ring_pass_s(
        chunk_dense_gradient_bytes,
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=chunk_bucket_count * sharding_latency_s,
    )
    replicas = ring_all_reduce_s(
        chunk_replica_bytes,
        group_size=replication_size,
        bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,
        latency_s=chunk_replica_bucket_count * replication_latency_s,
    )
    experts = ring_pass_s(
        chunk_expert_gradient_bytes,
        group_size=expert_sharding_size,
        bandwidth_bytes_per_s=expert_sharding_bandwidth_bytes_per_s,
        latency_s=chunk_expert_bucket_count * expert_sharding_latency_s,
    )
    return chunk_exists * (dense + replicas) + minimum(chunk_expert_parameters, 1) * experts


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (ring_pass_s(reduction_element_bytes"
    " * ring_reduce_scatter_bytes(chunk_last_bucket_parameters, sharding_size),"
    " group_size=sharding_size, bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,"
    " latency_s=sharding_latency_s)"
    " + ring_all_reduce_s(reduction_element_bytes"
    " * ring_all_reduce_bytes(ceil_div(chunk_last_bucket_parameters, sharding_size),"
    " replication_size), group_size=replication_size,"
    " bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s, latency_s=replication_latency_s))",
    source=_RING,
)
def chunk_last_bucket_s(
    chunk_exists: Column,
    reduction_element_bytes: Column,
    chunk_last_bucket_parameters: Column,
    sharding_size: Column,
    sharding_bandwidth_bytes_per_s: Column,
    sharding_latency_s: Column,
    replication_size: Column,
    replication_bandwidth_bytes_per_s: Column,
    replication_latency_s: Column,
) -> Column:
    """Return the time to reduce and scatter the last bucket of a chunk's gradients once [s]."""
    last = chunk_last_bucket_parameters
    dense = ring_pass_s(
        reduction_element_bytes * ring_reduce_scatter_bytes(last, sharding_size),
        group_size=sharding_size,
        bandwidth_bytes_per_s=sharding_bandwidth_bytes_per_s,
        latency_s=sharding_latency_s,
    )
    replicas = ring_all_reduce_s(
        reduction_element_bytes
        * ring_all_reduce_bytes(ceil_div(last, sharding_size), replication_size),
        group_size=replication_size,
        bandwidth_bytes_per_s=replication_bandwidth_bytes_per_s,
        latency_s=replication_latency_s,
    )
    return chunk_exists * (dense + replicas)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="minimum(expert_parallel_size - 1, 1) * all_to_all_s(expert_exchange_bytes,"
    " network_fraction=expert_network_fraction,"
    " inside_bytes_per_s=inside_bytes_per_s, network_bytes_per_s=nic_bytes_per_s,"
    " latency_s=expert_latency_s)",
    source=_EXCHANGE,
)
def expert_exchange_s(
    expert_parallel_size: Column,
    expert_exchange_bytes: Column,
    expert_network_fraction: Column,
    inside_bytes_per_s: Column,
    nic_bytes_per_s: Column,
    expert_latency_s: Column,
) -> Column:
    """Return the time of one exchange of rows between a layer's experts [s]."""
    exchange_s = all_to_all_s(
        expert_exchange_bytes,
        network_fraction=expert_network_fraction,
        inside_bytes_per_s=inside_bytes_per_s,
        network_bytes_per_s=nic_bytes_per_s,
        latency_s=expert_latency_s,
    )
    return minimum(expert_parallel_size - 1, 1) * exchange_s


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_pass_s(expert_rows_bytes, group_size=expert_stride,"
    " bandwidth_bytes_per_s=expert_tensor_bandwidth_bytes_per_s,"
    " latency_s=expert_tensor_latency_s)",
    source=_RING,
)
def expert_rows_s(
    expert_rows_bytes: Column,
    expert_stride: Column,
    expert_tensor_bandwidth_bytes_per_s: Column,
    expert_tensor_latency_s: Column,
) -> Column:
    """Return the time to gather rows over the ranks that split an expert, or to scatter them [s]."""
    return ring_pass_s(
        expert_rows_bytes,
        group_size=expert_stride,
        bandwidth_bytes_per_s=expert_tensor_bandwidth_bytes_per_s,
        latency_s=expert_tensor_latency_s,
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="2 * chunk_mixture_layers * (expert_exchange_s + expert_rows_s)",
    source="Rajbhandari et al. 2022, arXiv:2201.05596: nothing to hide behind",
)
def chunk_forward_expert_s(
    chunk_mixture_layers: Column, expert_exchange_s: Column, expert_rows_s: Column
) -> Column:
    """Return the exchanges with experts that a chunk's forward waits for, for one microbatch [s]."""
    return 2 * chunk_mixture_layers * (expert_exchange_s + expert_rows_s)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_expert_s + 2 * chunk_repeated_mixture_layers"
    " * (expert_exchange_s + expert_rows_s)",
    source="Rajbhandari et al. 2022, arXiv:2201.05596: nothing to hide behind",
)
def chunk_backward_expert_s(
    chunk_forward_expert_s: Column,
    chunk_repeated_mixture_layers: Column,
    expert_exchange_s: Column,
    expert_rows_s: Column,
) -> Column:
    """Return the exchanges with experts that a chunk's backward waits for, for one microbatch [s]."""
    again = 2 * chunk_repeated_mixture_layers * (expert_exchange_s + expert_rows_s)
    return chunk_forward_expert_s + again


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="send_s(context_block_bytes, bandwidth_bytes_per_s=context_bandwidth_bytes_per_s,"
    " latency_s=context_latency_s)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def context_send_s(
    context_block_bytes: Column, context_bandwidth_bytes_per_s: Column, context_latency_s: Column
) -> Column:
    """Return the time to pass a block of keys and values on to the next context-parallel rank [s]."""
    return send_s(
        context_block_bytes,
        bandwidth_bytes_per_s=context_bandwidth_bytes_per_s,
        latency_s=context_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(context_parallel_method_is_ulysses, minimum(context_parallel_size - 1, 1)"
    " * (all_to_all_s(context_input_exchange_bytes,"
    " network_fraction=context_exchange_fraction,"
    " inside_bytes_per_s=inside_bytes_per_s, network_bytes_per_s=nic_bytes_per_s,"
    " latency_s=context_latency_s) + all_to_all_s(context_output_exchange_bytes,"
    " network_fraction=context_exchange_fraction,"
    " inside_bytes_per_s=inside_bytes_per_s, network_bytes_per_s=nic_bytes_per_s,"
    " latency_s=context_latency_s)), ring_pass_s(context_pass_bytes,"
    " group_size=context_parallel_size,"
    " bandwidth_bytes_per_s=context_bandwidth_bytes_per_s,"
    " latency_s=context_latency_s))",
    source=_RING + "; " + _EXCHANGE,
)
def context_whole_s(
    context_parallel_method_is_ulysses: Column,
    context_parallel_size: Column,
    context_input_exchange_bytes: Column,
    context_exchange_fraction: Column,
    inside_bytes_per_s: Column,
    nic_bytes_per_s: Column,
    context_latency_s: Column,
    context_output_exchange_bytes: Column,
    context_pass_bytes: Column,
    context_bandwidth_bytes_per_s: Column,
) -> Column:
    """Return the time to gather keys and values of a layer, or to exchange its heads [s]."""
    inputs_s = all_to_all_s(
        context_input_exchange_bytes,
        network_fraction=context_exchange_fraction,
        inside_bytes_per_s=inside_bytes_per_s,
        network_bytes_per_s=nic_bytes_per_s,
        latency_s=context_latency_s,
    )
    output_s = all_to_all_s(
        context_output_exchange_bytes,
        network_fraction=context_exchange_fraction,
        inside_bytes_per_s=inside_bytes_per_s,
        network_bytes_per_s=nic_bytes_per_s,
        latency_s=context_latency_s,
    )
    gather_s = ring_pass_s(
        context_pass_bytes,
        group_size=context_parallel_size,
        bandwidth_bytes_per_s=context_bandwidth_bytes_per_s,
        latency_s=context_latency_s,
    )
    exchange_s = minimum(context_parallel_size - 1, 1) * (inputs_s + output_s)
    return where(context_parallel_method_is_ulysses, exchange_s, gather_s)


@quantity(
    "s",
    Scope.GPU,
    axes=(KIND,),
    basis=Basis.ASSUMED,
    formula="where(context_parallel_method_is_ring, (context_parallel_size - 1) *"
    " maximum(context_send_s - layer_attention_s / context_parallel_size, 0.0),"
    " context_whole_s)",
    source=_HIDDEN,
)
def layer_forward_context_s(
    context_parallel_method_is_ring: Column,
    context_parallel_size: Column,
    context_send_s: Column,
    layer_attention_s: Column,
    context_whole_s: Column,
) -> Column:
    """Return the context-parallel traffic that a layer's forward waits for, for one microbatch [s]."""
    visible = maximum(context_send_s - layer_attention_s / context_parallel_size, 0.0)
    ring_s = (context_parallel_size - 1) * visible
    return where(context_parallel_method_is_ring, ring_s, context_whole_s)


@quantity(
    "s",
    Scope.GPU,
    axes=(KIND,),
    basis=Basis.ASSUMED,
    formula="where(context_parallel_method_is_ring, (context_parallel_size - 1) * maximum(2 *"
    " context_send_s - layer_attention_backward_flop / attention_flop_per_s /"
    " context_parallel_size, 0.0) + minimum(context_parallel_size - 1, 1) *"
    " context_send_s, (2 - context_parallel_method_is_ulysses) * context_whole_s)",
    source=_HIDDEN + "; the last send of gradients shows",
)
def layer_backward_context_s(
    context_parallel_method_is_ring: Column,
    context_parallel_size: Column,
    context_send_s: Column,
    layer_attention_backward_flop: Column,
    attention_flop_per_s: Column,
    context_parallel_method_is_ulysses: Column,
    context_whole_s: Column,
) -> Column:
    """Return the context-parallel traffic that a layer's backward waits for, for one microbatch [s]."""
    block_s = layer_attention_backward_flop / attention_flop_per_s / context_parallel_size
    visible = (context_parallel_size - 1) * maximum(2 * context_send_s - block_s, 0.0)
    ring_s = visible + minimum(context_parallel_size - 1, 1) * context_send_s
    whole_s = (2 - context_parallel_method_is_ulysses) * context_whole_s
    return where(context_parallel_method_is_ring, ring_s, whole_s)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_forward_context_s)",
    source="the sum of its parts",
)
def chunk_forward_context_s(chunk_layer_count: Axis, layer_forward_context_s: Axis) -> Column:
    """Return the context-parallel traffic that a chunk's forward waits for, for one microbatch [s]."""
    return weighted_total(chunk_layer_count, layer_forward_context_s)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="total(chunk_layer_count * layer_backward_context_s"
    " + (recompute_is_full + core_is_repeated) * kind_repeated_layers"
    " * layer_forward_context_s)",
    source="the sum of its parts",
)
def chunk_backward_context_s(
    chunk_layer_count: Axis,
    layer_backward_context_s: Axis,
    recompute_is_full: Column,
    core_is_repeated: Column,
    kind_repeated_layers: Axis,
    layer_forward_context_s: Axis,
) -> Column:
    """Return the context-parallel traffic that a chunk's backward waits for, for one microbatch [s]."""
    again = recompute_is_full + core_is_repeated
    own_s = weighted_total(chunk_layer_count, layer_backward_context_s)
    return own_s + again * weighted_total(kind_repeated_layers, layer_forward_context_s)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_compute_s + chunk_forward_tensor_s + chunk_forward_sequence_s"
    " + chunk_forward_context_s + chunk_forward_expert_s",
    source="the sum of its parts",
)
def chunk_forward_work_s(
    chunk_forward_compute_s: Column,
    chunk_forward_tensor_s: Column,
    chunk_forward_sequence_s: Column,
    chunk_forward_context_s: Column,
    chunk_forward_expert_s: Column,
) -> Column:
    """Return the forward of a chunk inside its replica, behind which sharding can hide [s]."""
    inside = chunk_forward_compute_s + chunk_forward_tensor_s + chunk_forward_sequence_s
    return inside + chunk_forward_context_s + chunk_forward_expert_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_compute_s + chunk_recompute_s + chunk_backward_tensor_s"
    " + chunk_backward_sequence_s + chunk_backward_context_s + chunk_backward_expert_s",
    source="the sum of its parts",
)
def chunk_backward_work_s(
    chunk_backward_compute_s: Column,
    chunk_recompute_s: Column,
    chunk_backward_tensor_s: Column,
    chunk_backward_sequence_s: Column,
    chunk_backward_context_s: Column,
    chunk_backward_expert_s: Column,
) -> Column:
    """Return the backward of a chunk inside its replica, behind which sharding can hide [s]."""
    return (
        chunk_backward_compute_s
        + chunk_recompute_s
        + chunk_backward_tensor_s
        + chunk_backward_sequence_s
        + chunk_backward_context_s
        + chunk_backward_expert_s
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="(zero_stage >= 3) * chunk_exists * maximum(chunk_gather_s"
    " - overlap_parameter_gather * chunk_forward_work_s,"
    " chunk_gather_s * chunk_unit_parameters / maximum(chunk_parameters, 1))",
    source=_ZHAO + _FIRST_UNIT,
)
def chunk_forward_data_s(
    zero_stage: Column,
    chunk_exists: Column,
    chunk_gather_s: Column,
    overlap_parameter_gather: Column,
    chunk_forward_work_s: Column,
    chunk_unit_parameters: Column,
    chunk_parameters: Column,
) -> Column:
    """Return the gather of weights that a chunk's forward waits for, for one microbatch [s]."""
    visible = chunk_gather_s - overlap_parameter_gather * chunk_forward_work_s
    first = chunk_gather_s * chunk_unit_parameters / maximum(chunk_parameters, 1)
    return (zero_stage >= 3) * chunk_exists * maximum(visible, first)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_exists * (maximum((zero_stage >= 3) * overlap_parameter_gather * chunk_gather_s"
    " + (zero_stage >= 2) * overlap_gradient_reduction * chunk_gradient_s"
    " - chunk_backward_work_s, 0.0)"
    " + (zero_stage >= 3) * (1 - overlap_parameter_gather) * chunk_gather_s"
    " + (zero_stage >= 2) * (1 - overlap_gradient_reduction) * chunk_gradient_s)",
    source=_ZHAO + "; both use the same links",
)
def chunk_backward_data_s(
    chunk_exists: Column,
    zero_stage: Column,
    overlap_parameter_gather: Column,
    chunk_gather_s: Column,
    overlap_gradient_reduction: Column,
    chunk_gradient_s: Column,
    chunk_backward_work_s: Column,
) -> Column:
    """Return the traffic of sharding that a chunk's backward waits for, for one microbatch [s]."""
    gather = (zero_stage >= 3) * chunk_gather_s
    gradient = (zero_stage >= 2) * chunk_gradient_s
    hidden = overlap_parameter_gather * gather + overlap_gradient_reduction * gradient
    visible = (1 - overlap_parameter_gather) * gather + (1 - overlap_gradient_reduction) * gradient
    return chunk_exists * (maximum(hidden - chunk_backward_work_s, 0.0) + visible)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_forward_work_s + chunk_forward_data_s + chunk_forward_offload_s",
    source="the sum of its parts",
)
def chunk_forward_s(
    chunk_forward_work_s: Column, chunk_forward_data_s: Column, chunk_forward_offload_s: Column
) -> Column:
    """Return the time of a chunk's forward, for one microbatch [s]."""
    return chunk_forward_work_s + chunk_forward_data_s + chunk_forward_offload_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_work_s + chunk_backward_data_s + chunk_backward_offload_s",
    source="the sum of its parts",
)
def chunk_backward_s(
    chunk_backward_work_s: Column, chunk_backward_data_s: Column, chunk_backward_offload_s: Column
) -> Column:
    """Return the time of a chunk's backward with what it computes again, for one microbatch [s]."""
    return chunk_backward_work_s + chunk_backward_data_s + chunk_backward_offload_s


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    group="time",
    formula="total(chunk_forward_s + chunk_backward_s)",
    source="the sum of its parts",
)
def stage_microbatch_s(chunk_forward_s: Axis, chunk_backward_s: Axis) -> Column:
    """Return the time that a GPU works for one microbatch [s]."""
    return total(
        [
            forward + backward
            for forward, backward in zip(chunk_forward_s, chunk_backward_s, strict=True)
        ]
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_parallel_size > 1, hop_bytes / pipeline_bandwidth_bytes_per_s, 0.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def hop_occupancy_s(
    pipeline_parallel_size: Column, hop_bytes: Column, pipeline_bandwidth_bytes_per_s: Column
) -> Column:
    """Return the time for which a message between stages occupies its link [s]."""
    return where(pipeline_parallel_size > 1, hop_bytes / pipeline_bandwidth_bytes_per_s, 0.0)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(pipeline_parallel_size > 1, send_s(hop_bytes,"
    " bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s, latency_s=pipeline_latency_s), 0.0)",
    source="Hockney 1994, doi:10.1016/S0167-8191(06)80021-9",
)
def hop_s(
    pipeline_parallel_size: Column,
    hop_bytes: Column,
    pipeline_bandwidth_bytes_per_s: Column,
    pipeline_latency_s: Column,
) -> Column:
    """Return the time from the end of a chunk to the arrival of its output at the next [s]."""
    hop = send_s(
        hop_bytes,
        bandwidth_bytes_per_s=pipeline_bandwidth_bytes_per_s,
        latency_s=pipeline_latency_s,
    )
    return where(pipeline_parallel_size > 1, hop, 0.0)
