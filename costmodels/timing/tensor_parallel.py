"""Times that ranks wait for each other's parts of matrices and sequences."""

from costmodels.collectives import ring_all_reduce_s, ring_pass_s
from costmodels.columns import Axis, Column, maximum, minimum, weighted_total
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_CHUNK = (STAGE, CHUNK)


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
    formula="chunk_forward_compressed_bytes / tensor_bandwidth_bytes_per_s"
    " + 3 * chunk_latent_layers * (tensor_parallel_size - 1) * tensor_latency_s",
    source=_RING + ": three gathers a layer",
)
def chunk_forward_compressed_s(
    chunk_forward_compressed_bytes: Column,
    tensor_bandwidth_bytes_per_s: Column,
    chunk_latent_layers: Column,
    tensor_parallel_size: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time to gather a chunk's compressed vectors, forward, for one microbatch [s]."""
    steps = 3 * chunk_latent_layers * (tensor_parallel_size - 1)
    return chunk_forward_compressed_bytes / tensor_bandwidth_bytes_per_s + steps * tensor_latency_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_compressed_again_bytes / tensor_bandwidth_bytes_per_s + sequence_parallel"
    " * 2 * chunk_latent_layers * (tensor_parallel_size - 1) * tensor_latency_s",
    source=_RING + ": two gathers a layer",
)
def chunk_compressed_again_s(
    chunk_compressed_again_bytes: Column,
    tensor_bandwidth_bytes_per_s: Column,
    sequence_parallel: Column,
    chunk_latent_layers: Column,
    tensor_parallel_size: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time to gather a chunk's compressed vectors again, for one microbatch [s]."""
    steps = sequence_parallel * 2 * chunk_latent_layers * (tensor_parallel_size - 1)
    return chunk_compressed_again_bytes / tensor_bandwidth_bytes_per_s + steps * tensor_latency_s


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_backward_compressed_bytes / tensor_bandwidth_bytes_per_s"
    " + 3 * ((2 - sequence_parallel) * chunk_latent_layers + sequence_parallel"
    " * chunk_repeated_latent_layers) * (tensor_parallel_size - 1) * tensor_latency_s",
    source=_RING + ": three scatters or sums a layer, three gathers of one that is computed again",
)
def chunk_backward_compressed_s(
    chunk_backward_compressed_bytes: Column,
    tensor_bandwidth_bytes_per_s: Column,
    sequence_parallel: Column,
    chunk_latent_layers: Column,
    chunk_repeated_latent_layers: Column,
    tensor_parallel_size: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of compressed vectors and gradients that a chunk's backward waits for [s]."""
    passes = (2 - sequence_parallel) * chunk_latent_layers
    passes = passes + sequence_parallel * chunk_repeated_latent_layers
    steps = 3 * passes * (tensor_parallel_size - 1)
    return chunk_backward_compressed_bytes / tensor_bandwidth_bytes_per_s + steps * tensor_latency_s


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
    " + chunk_backward_prediction_s + chunk_backward_compressed_s)",
    source="Shoeybi et al. 2019, arXiv:1909.08053: nothing to hide behind",
)
def chunk_backward_tensor_s(
    chunk_backward_compressed_s: Column,
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
    others = others + chunk_backward_compressed_s
    gathers = chunk_backward_handover_gather_count * hidden_all_gather_s
    reductions = backward_all_reduces * hidden_all_reduce_s + gathers
    return reductions + (1 - sequence_parallel) * others


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="forward_ring_passes * hidden_all_gather_s"
    " + sequence_parallel * (chunk_forward_prediction_s + chunk_forward_compressed_s)",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2",
)
def chunk_forward_sequence_s(
    chunk_forward_compressed_s: Column,
    forward_ring_passes: Column,
    hidden_all_gather_s: Column,
    sequence_parallel: Column,
    chunk_forward_prediction_s: Column,
) -> Column:
    """Return the sequence-parallel collectives that a chunk's forward waits for [s]."""
    further = sequence_parallel * (chunk_forward_prediction_s + chunk_forward_compressed_s)
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
    " * prediction_input_all_gather_s + chunk_compressed_again_s - chunk_input_gradient_s, 0.0)"
    " + sequence_parallel * ((zero_stage >= 2) * chunk_replicated_s + chunk_backward_prediction_s"
    " + chunk_backward_compressed_s)",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: what is gathered again for "
    "the weight gradient hides behind the products that give the input gradient",
)
def chunk_backward_sequence_s(
    chunk_compressed_again_s: Column,
    chunk_backward_compressed_s: Column,
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
    again = regathers * hidden_all_gather_s + pairs + chunk_compressed_again_s
    visible = maximum(again - chunk_input_gradient_s, 0.0)
    others = (zero_stage >= 2) * chunk_replicated_s + chunk_backward_prediction_s
    others = others + chunk_backward_compressed_s
    return backward_ring_passes * hidden_all_gather_s + visible + sequence_parallel * others
