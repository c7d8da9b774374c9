"""Times of keys and values, or heads, between ranks that share sequences."""

from costmodels.collectives import all_to_all_s, ring_pass_s, send_s
from costmodels.columns import Axis, Column, maximum, minimum, weighted_total, where
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_EXCHANGE = "Hockney 1994, doi:10.1016/S0167-8191(06)80021-9, for each tier, all parts at once"
_HIDDEN = (
    "Liu et al. 2023, arXiv:2310.01889, section 3: a block arrives while the one before is used;"
    " what is gathered or exchanged hides behind nothing"
)
_CHUNK = (STAGE, CHUNK)


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
