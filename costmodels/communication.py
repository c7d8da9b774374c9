"""Messages of one GPU: what a chunk sends for one microbatch, and at the end of a step.

Tensor parallelism reduces the output of attention and of the feed-forward network in the forward
and their input's gradient in the backward [1]_. With sequence parallelism each all-reduce becomes
a reduce-scatter and an all-gather, and the gathered input is gathered once more for the weight
gradient [2]_. Pipeline ranks send an activation forward and a gradient back for each boundary
[3]_; replicas reduce gradients and, where sharded, gather weights [4]_.

References
----------
.. [1] M. Shoeybi et al., "Megatron-LM," 2019, section 3. arXiv:1909.08053.
.. [2] V. Korthikanti et al., 2022, section 4.2.2. arXiv:2205.05198.
.. [3] D. Narayanan et al., 2021, section 2.2. arXiv:2104.04473.
.. [4] S. Rajbhandari et al., "ZeRO," 2020, section 7. arXiv:1910.02054.
"""

from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
)
from costmodels.columns import (
    Axis,
    Column,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_SHOEYBI = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_SCATTER = "Narayanan et al. 2021, arXiv:2104.04473, section 4.1: scattered, sent, gathered"
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7; ring: Patarasuk and Yuan 2009"
_FOLDED = "Liu et al. 2025, arXiv:2504.14960, section 3; Rajbhandari et al. 2022, arXiv:2201.05596"
_BESIDE = (
    "side by side: GPT-NeoX, megatron/model/transformer.py (gpt_j_residual): one reduction of both;"
    " one norm: Chowdhery et al. 2022, arXiv:2204.02311, section 2"
)
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens * hidden_size * activation_element_bytes",
    source=_SHOEYBI,
)
def hidden_message_bytes(
    microbatch_tokens: Column, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return the activation of a whole microbatch, the message of tensor parallelism [byte]."""
    return microbatch_tokens * hidden_size * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(hidden_message_bytes, tensor_parallel_size)",
    source=_SHOEYBI,
)
def hidden_all_reduce_bytes(hidden_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-reduce of a microbatch's activation [byte]."""
    return ring_all_reduce_bytes(hidden_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(hidden_message_bytes, tensor_parallel_size)",
    source=_KORTHIKANTI,
)
def hidden_all_gather_bytes(hidden_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-gather or reduce-scatter of that activation [byte]."""
    return ring_all_gather_bytes(hidden_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="3 * ring_all_reduce_bytes(4 * microbatch_tokens, tensor_parallel_size)",
    source=_SHOEYBI + ": maximum, sum of exponentials and label's logit, in fp32",
)
def loss_all_reduce_bytes(microbatch_tokens: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent by the vocabulary-parallel loss, for one microbatch [byte]."""
    return 3 * ring_all_reduce_bytes(4 * microbatch_tokens, tensor_parallel_size)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    group="pipeline",
    basis=Basis.EXACT,
    formula="total(chunk_layer_count)",
    source="by definition",
)
def chunk_layers(chunk_layer_count: Axis) -> Column:
    """Return the layers of a chunk [count]."""
    return total(chunk_layer_count)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="recompute_is_full * total(chunk_repeated_layer_count)",
    source=_KORTHIKANTI,
)
def chunk_repeated_layers(recompute_is_full: Column, chunk_repeated_layer_count: Axis) -> Column:
    """Return the layers of a chunk that its backward computes again as a whole [count]."""
    return recompute_is_full * total(chunk_repeated_layer_count)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_repeated_layers + core_is_repeated * chunk_layers",
    source=_KORTHIKANTI,
)
def chunk_attention_repeated_layers(
    chunk_repeated_layers: Column, core_is_repeated: Column, chunk_layers: Column
) -> Column:
    """Return the layers of a chunk whose attention its backward computes again [count]."""
    return chunk_repeated_layers + core_is_repeated * chunk_layers


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * (1 - experts_apart * is_mixture *"
    " (shared_intermediate_size == 0)))",
    source=_FOLDED,
)
def chunk_split_layers(
    chunk_layer_count: Axis, experts_apart: Column, is_mixture: Axis, shared_intermediate_size: Axis
) -> Column:
    """Return the layers of a chunk whose feed-forward network all tensor-parallel ranks share [count].

    Notes
    -----
    Tokens go straight from a part of the sequence to experts that have groups of their own; only
    shared experts still take the whole.
    """
    networks = [
        count * (1 - experts_apart * mixture * (shared == 0))
        for count, mixture, shared in zip(
            chunk_layer_count, is_mixture, shared_intermediate_size, strict=True
        )
    ]
    return total(networks)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="recompute_is_full * total(chunk_repeated_layer_count * (1 - experts_apart * is_mixture *"
    " (shared_intermediate_size == 0))) + total(chunk_layer_count * (network_is_repeated"
    " + shared_ffn_is_repeated)"
    " * (1 - experts_apart * is_mixture * (shared_intermediate_size == 0)))",
    source=_FOLDED,
)
def chunk_repeated_split_layers(
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    experts_apart: Column,
    is_mixture: Axis,
    shared_intermediate_size: Axis,
    chunk_layer_count: Axis,
    network_is_repeated: Axis,
    shared_ffn_is_repeated: Axis,
) -> Column:
    """Return those of `chunk_split_layers` that the chunk's backward computes again [count]."""
    split = [
        1 - experts_apart * mixture * (shared == 0)
        for mixture, shared in zip(is_mixture, shared_intermediate_size, strict=True)
    ]
    networks = [
        count * (network + shared)
        for count, network, shared in zip(
            chunk_layer_count, network_is_repeated, shared_ffn_is_repeated, strict=True
        )
    ]
    whole = recompute_is_full * weighted_total(chunk_repeated_layer_count, split)
    return whole + weighted_total(networks, split)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_layers + (1 - parallel_residual * (norms_per_layer == 1))"
    " * (chunk_split_layers - chunk_latent_layers)",
    source=_SHOEYBI + ": f before attention and before the network; " + _BESIDE,
)
def chunk_entry_count(
    chunk_layers: Column,
    parallel_residual: Column,
    norms_per_layer: Column,
    chunk_split_layers: Column,
    chunk_latent_layers: Column,
) -> Column:
    """Return the inputs of split matrices in a chunk's layers, whose gradients are sums [count].

    Notes
    -----
    Where attention and network read the same normalized input, there is one for both. Latent
    attention splits no matrix that reads the hidden state whole (`costmodels.messages.latent`).
    """
    one_norm = parallel_residual * (norms_per_layer == 1)
    return chunk_layers + (1 - one_norm) * (chunk_split_layers - chunk_latent_layers)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_layers + (1 - parallel_residual) * chunk_split_layers",
    source=_SHOEYBI + ": g behind attention and behind the network; " + _BESIDE,
)
def chunk_exit_count(
    chunk_layers: Column,
    parallel_residual: Column,
    chunk_split_layers: Column,
) -> Column:
    """Return the outputs of split matrices in a chunk's layers, which are sums [count].

    Notes
    -----
    Side by side, what attention and network add to the stream is summed over ranks together.
    """
    return chunk_layers + (1 - parallel_residual) * chunk_split_layers


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_repeated_layers + (1 - parallel_residual * (norms_per_layer == 1))"
    " * (chunk_repeated_split_layers - chunk_repeated_latent_layers)",
    source=_SHOEYBI + ": f before attention and before the network; " + _BESIDE,
)
def chunk_repeated_entry_count(
    chunk_repeated_layers: Column,
    parallel_residual: Column,
    norms_per_layer: Column,
    chunk_repeated_split_layers: Column,
    chunk_repeated_latent_layers: Column,
) -> Column:
    """Return those of `chunk_entry_count` that the chunk's backward computes again [count]."""
    one_norm = parallel_residual * (norms_per_layer == 1)
    others = chunk_repeated_split_layers - chunk_repeated_latent_layers
    return chunk_repeated_layers + (1 - one_norm) * others


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_repeated_layers + (1 - parallel_residual) * chunk_repeated_split_layers",
    source=_SHOEYBI + ": g behind attention and behind the network; " + _BESIDE,
)
def chunk_repeated_exit_count(
    chunk_repeated_layers: Column,
    parallel_residual: Column,
    chunk_repeated_split_layers: Column,
) -> Column:
    """Return those of `chunk_exit_count` that the chunk's backward computes again [count]."""
    return chunk_repeated_layers + (1 - parallel_residual) * chunk_repeated_split_layers


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, 0, chunk_exit_count + chunk_embedding_passes)",
    source=_SHOEYBI,
)
def forward_all_reduces(
    sequence_parallel: Column, chunk_exit_count: Column, chunk_embedding_passes: Column
) -> Column:
    """Return the all-reduces of activations in a chunk's forward [count]."""
    return where(sequence_parallel, 0, chunk_exit_count + chunk_embedding_passes)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(sequence_parallel, 0, chunk_entry_count + chunk_head_passes"
    " + chunk_repeated_exit_count)",
    source=_SHOEYBI + "; recomputed layers reduce again",
)
def backward_all_reduces(
    sequence_parallel: Column,
    chunk_entry_count: Column,
    chunk_head_passes: Column,
    chunk_repeated_exit_count: Column,
) -> Column:
    """Return the all-reduces of activations and gradients in a chunk's backward [count]."""
    layers = chunk_entry_count + chunk_repeated_exit_count
    return where(sequence_parallel, 0, layers + chunk_head_passes)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (chunk_entry_count + chunk_exit_count"
    " + chunk_embedding_passes + chunk_head_passes)",
    source=_KORTHIKANTI,
)
def forward_ring_passes(
    sequence_parallel: Column,
    chunk_entry_count: Column,
    chunk_exit_count: Column,
    chunk_embedding_passes: Column,
    chunk_head_passes: Column,
) -> Column:
    """Return the all-gathers and reduce-scatters of activations in a chunk's forward [count]."""
    layers = chunk_entry_count + chunk_exit_count
    return sequence_parallel * (layers + chunk_embedding_passes + chunk_head_passes)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (chunk_entry_count + chunk_exit_count"
    " + chunk_repeated_entry_count + chunk_repeated_exit_count + chunk_embedding_passes + chunk_head_passes)",
    source=_KORTHIKANTI + "; recomputed layers gather again",
)
def backward_ring_passes(
    sequence_parallel: Column,
    chunk_entry_count: Column,
    chunk_exit_count: Column,
    chunk_embedding_passes: Column,
    chunk_head_passes: Column,
    chunk_repeated_entry_count: Column,
    chunk_repeated_exit_count: Column,
) -> Column:
    """Return the all-gathers and reduce-scatters in a chunk's backward that it waits for [count]."""
    repeated = chunk_repeated_entry_count + chunk_repeated_exit_count
    layers = chunk_entry_count + chunk_exit_count + repeated
    return sequence_parallel * (layers + chunk_embedding_passes + chunk_head_passes)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="sequence_parallel * (chunk_entry_count + chunk_head_passes)",
    source=_KORTHIKANTI + ": inputs of split matrices, gathered again for the weight gradient, "
    "behind the product that gives the input gradient",
)
def regathers(
    sequence_parallel: Column,
    chunk_entry_count: Column,
    chunk_head_passes: Column,
) -> Column:
    """Return the all-gathers in a chunk's backward that a matrix product hides [count]."""
    return sequence_parallel * (chunk_entry_count + chunk_head_passes)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_exists - chunk_holds_embedding - chunk_holds_head - chunk_stays_count",
    source=_NARAYANAN + ": forward unless it is the last, back unless it is the first, and nothing "
    "to a chunk of the same rank",
)
def chunk_hops(
    chunk_exists: Column,
    chunk_holds_embedding: Column,
    chunk_holds_head: Column,
    chunk_stays_count: Column,
) -> Column:
    """Return the sends of a chunk for one microbatch, forward and back [count]."""
    return 2 * chunk_exists - chunk_holds_embedding - chunk_holds_head - chunk_stays_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="scatter_gather_handovers * chunk_input_arrives",
    source=_SCATTER,
)
def chunk_forward_handover_gather_count(
    scatter_gather_handovers: Column, chunk_input_arrives: Column
) -> Column:
    """Return the gathers of an activation that a chunk receives in parts, for a microbatch [count]."""
    return scatter_gather_handovers * chunk_input_arrives


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="scatter_gather_handovers * (chunk_hops - chunk_input_arrives)",
    source=_SCATTER + ": a gradient comes back from where an activation went",
)
def chunk_backward_handover_gather_count(
    scatter_gather_handovers: Column, chunk_hops: Column, chunk_input_arrives: Column
) -> Column:
    """Return the gathers of a gradient that a chunk receives in parts, for a microbatch [count]."""
    return scatter_gather_handovers * (chunk_hops - chunk_input_arrives)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="forward_all_reduces * hidden_all_reduce_bytes"
    " + chunk_head_passes * loss_all_reduce_bytes"
    " + chunk_forward_handover_gather_count * hidden_all_gather_bytes"
    " + (1 - sequence_parallel) * chunk_forward_prediction_bytes",
    source=_SHOEYBI,
)
def chunk_forward_tensor_bytes(
    forward_all_reduces: Column,
    hidden_all_reduce_bytes: Column,
    chunk_head_passes: Column,
    loss_all_reduce_bytes: Column,
    chunk_forward_handover_gather_count: Column,
    hidden_all_gather_bytes: Column,
    sequence_parallel: Column,
    chunk_forward_prediction_bytes: Column,
) -> Column:
    """Return the bytes sent in a chunk's forward between tensor-parallel ranks, for one microbatch [byte]."""
    hidden = forward_all_reduces * hidden_all_reduce_bytes
    hidden = hidden + chunk_forward_handover_gather_count * hidden_all_gather_bytes
    further = (1 - sequence_parallel) * chunk_forward_prediction_bytes
    return hidden + chunk_head_passes * loss_all_reduce_bytes + further


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="backward_all_reduces * hidden_all_reduce_bytes"
    " + chunk_backward_handover_gather_count * hidden_all_gather_bytes"
    " + (1 - sequence_parallel) * (chunk_backward_prediction_bytes"
    " + chunk_backward_compressed_bytes)",
    source=_SHOEYBI,
)
def chunk_backward_tensor_bytes(
    chunk_backward_compressed_bytes: Column,
    backward_all_reduces: Column,
    hidden_all_reduce_bytes: Column,
    chunk_backward_handover_gather_count: Column,
    hidden_all_gather_bytes: Column,
    sequence_parallel: Column,
    chunk_backward_prediction_bytes: Column,
) -> Column:
    """Return the bytes sent in a chunk's backward between tensor-parallel ranks, for one microbatch [byte]."""
    others = chunk_backward_prediction_bytes + chunk_backward_compressed_bytes
    further = (1 - sequence_parallel) * others
    gathers = chunk_backward_handover_gather_count * hidden_all_gather_bytes
    return backward_all_reduces * hidden_all_reduce_bytes + gathers + further


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="forward_ring_passes * hidden_all_gather_bytes"
    " + sequence_parallel * chunk_forward_prediction_bytes + chunk_forward_compressed_bytes",
    source=_KORTHIKANTI,
)
def chunk_forward_sequence_bytes(
    chunk_forward_compressed_bytes: Column,
    forward_ring_passes: Column,
    hidden_all_gather_bytes: Column,
    sequence_parallel: Column,
    chunk_forward_prediction_bytes: Column,
) -> Column:
    """Return the bytes sent for sequence parallelism in a chunk's forward, for a microbatch [byte]."""
    further = sequence_parallel * chunk_forward_prediction_bytes
    further = further + chunk_forward_compressed_bytes
    return forward_ring_passes * hidden_all_gather_bytes + further


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(backward_ring_passes + regathers) * hidden_all_gather_bytes"
    " + sequence_parallel * (chunk_backward_prediction_bytes + chunk_backward_compressed_bytes)"
    " + chunk_compressed_again_bytes",
    source=_KORTHIKANTI,
)
def chunk_backward_sequence_bytes(
    chunk_backward_compressed_bytes: Column,
    chunk_compressed_again_bytes: Column,
    backward_ring_passes: Column,
    regathers: Column,
    hidden_all_gather_bytes: Column,
    sequence_parallel: Column,
    chunk_backward_prediction_bytes: Column,
) -> Column:
    """Return the bytes sent for sequence parallelism in a chunk's backward, for a microbatch [byte]."""
    others = chunk_backward_prediction_bytes + chunk_backward_compressed_bytes
    further = sequence_parallel * others + chunk_compressed_again_bytes
    return (backward_ring_passes + regathers) * hidden_all_gather_bytes + further


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * ring_all_reduce_bytes(chunk_summed_parameters,"
    " tensor_parallel_size)",
    source=_KORTHIKANTI + ": each rank has seen its part of the sequence",
)
def chunk_replicated_bytes(
    reduction_element_bytes: Column, chunk_summed_parameters: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to sum a chunk's gradients of replicated weights once [byte]."""
    return reduction_element_bytes * ring_all_reduce_bytes(
        chunk_summed_parameters, tensor_parallel_size
    )


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduction_element_bytes * ring_all_reduce_bytes(chunk_shared_parameters,"
    " key_value_copies_size)",
    source="each rank has seen its own query heads of a key and value head that it shares",
)
def chunk_shared_bytes(
    reduction_element_bytes: Column, chunk_shared_parameters: Column, key_value_copies_size: Column
) -> Column:
    """Return the bytes sent to sum a chunk's gradients of copied key and value heads once [byte]."""
    return reduction_element_bytes * ring_all_reduce_bytes(
        chunk_shared_parameters, key_value_copies_size
    )


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 2) * (chunk_replicated_bytes + chunk_shared_bytes)",
    source=_ZERO + "; gradients that are scattered after every backward are summed before",
)
def chunk_backward_replicated_bytes(
    zero_stage: Column, chunk_replicated_bytes: Column, chunk_shared_bytes: Column
) -> Column:
    """Return the bytes sent to sum gradients of replicated and copied weights after one backward [byte]."""
    return (zero_stage >= 2) * (chunk_replicated_bytes + chunk_shared_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(zero_stage < 2) * (total(chunk_replicated_bytes) + total(chunk_shared_bytes))",
    source=_KORTHIKANTI + "; once, when gradients have accumulated",
)
def end_replicated_bytes(
    zero_stage: Column, chunk_replicated_bytes: Axis, chunk_shared_bytes: Axis
) -> Column:
    """Return the bytes sent to sum gradients of replicated and copied weights at the end of a step [byte]."""
    return (zero_stage < 2) * (total(chunk_replicated_bytes) + total(chunk_shared_bytes))


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="sharded_tokens * hidden_size * activation_element_bytes"
    " // where(scatter_gather_handovers, tensor_parallel_size, 1)",
    source=_NARAYANAN + "; parts of it: section 4.1",
)
def hop_bytes(
    sharded_tokens: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    scatter_gather_handovers: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the bytes that one GPU sends across one stage boundary, for a microbatch [byte].

    Examples
    --------
    >>> hop_bytes(16, 8, 2, 0, 4), hop_bytes(16, 8, 2, 1, 4)
    (256, 64)
    """
    parts = where(scatter_gather_handovers, tensor_parallel_size, 1)
    return sharded_tokens * hidden_size * activation_element_bytes // parts


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(1 - weights_are_frozen) * embedding_copy_count"
    " * (total(chunk_holds_embedding) + total(chunk_holds_head))"
    " * ring_all_reduce_bytes(vocabulary_rows * hidden_size * reduction_element_bytes, 2)",
    source="Narayanan et al. 2021, arXiv:2104.04473: the two copies of a tied embedding",
)
def tied_embedding_bytes(
    weights_are_frozen: Column,
    embedding_copy_count: Column,
    chunk_holds_embedding: Axis,
    chunk_holds_head: Axis,
    vocabulary_rows: Column,
    hidden_size: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the bytes sent to add the gradients of a tied embedding's copies, in a step [byte]."""
    holders = total(chunk_holds_embedding) + total(chunk_holds_head)
    message = vocabulary_rows * hidden_size * reduction_element_bytes
    copies = (1 - weights_are_frozen) * embedding_copy_count
    return copies * holders * ring_all_reduce_bytes(message, 2)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_dense_gradient_bytes + chunk_expert_gradient_bytes + chunk_replica_bytes",
    source="the sum of its parts",
)
def chunk_gradient_bytes(
    chunk_dense_gradient_bytes: Column,
    chunk_expert_gradient_bytes: Column,
    chunk_replica_bytes: Column,
) -> Column:
    """Return the bytes sent to reduce and scatter a chunk's gradients once [byte]."""
    return chunk_dense_gradient_bytes + chunk_expert_gradient_bytes + chunk_replica_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes"
    " * ring_all_gather_bytes(chunk_parameters - chunk_expert_parameters, sharding_size)"
    " + weights_are_frozen * adapter_element_bytes"
    " * ring_all_gather_bytes(chunk_adapter_parameters, sharding_size)",
    source=_ZERO + "; frozen weights only where they are sharded themselves",
)
def chunk_dense_gather_bytes(
    weights_are_frozen: Column,
    zero_stage: Column,
    weight_element_bytes: Column,
    chunk_parameters: Column,
    chunk_expert_parameters: Column,
    sharding_size: Column,
    adapter_element_bytes: Column,
    chunk_adapter_parameters: Column,
) -> Column:
    """Return the bytes sent to gather a chunk's weights once, experts apart left out [byte]."""
    elements = chunk_parameters - chunk_expert_parameters
    happens = where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes
    adapters = weights_are_frozen * adapter_element_bytes
    return happens * ring_all_gather_bytes(
        elements, sharding_size
    ) + adapters * ring_all_gather_bytes(chunk_adapter_parameters, sharding_size)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="weight_element_bytes * ring_all_gather_bytes(chunk_trained_expert_parameters,"
    " expert_sharding_size)",
    source=_ZERO,
)
def chunk_expert_gather_bytes(
    weight_element_bytes: Column,
    chunk_trained_expert_parameters: Column,
    expert_sharding_size: Column,
) -> Column:
    """Return the bytes sent to gather the weights of a chunk's experts once [byte]."""
    return weight_element_bytes * ring_all_gather_bytes(
        chunk_trained_expert_parameters, expert_sharding_size
    )


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_dense_gather_bytes + chunk_expert_gather_bytes",
    source="the sum of its parts",
)
def chunk_gather_bytes(
    chunk_dense_gather_bytes: Column, chunk_expert_gather_bytes: Column
) -> Column:
    """Return the bytes sent to gather a chunk's sharded weights once [byte]."""
    return chunk_dense_gather_bytes + chunk_expert_gather_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 3) * chunk_gather_bytes",
    source=_ZERO,
)
def chunk_forward_data_bytes(zero_stage: Column, chunk_gather_bytes: Column) -> Column:
    """Return the bytes sent to gather a chunk's weights for one forward [byte]."""
    return (zero_stage >= 3) * chunk_gather_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(zero_stage >= 3) * chunk_gather_bytes + (zero_stage >= 2) * chunk_gradient_bytes",
    source=_ZERO + "; sharded gradients are scattered after every backward",
)
def chunk_backward_data_bytes(
    zero_stage: Column, chunk_gather_bytes: Column, chunk_gradient_bytes: Column
) -> Column:
    """Return the bytes sent to gather weights and scatter gradients for one backward [byte]."""
    return (zero_stage >= 3) * chunk_gather_bytes + (zero_stage >= 2) * chunk_gradient_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 0, (2 - minimum(zero_stage, 1)) * total(chunk_gradient_bytes))",
    source=_ZERO + "; an all-reduce is two passes of the ring",
)
def reduction_bytes(zero_stage: Column, chunk_gradient_bytes: Axis) -> Column:
    """Return the bytes that a GPU sends to reduce gradients at the end of a step [byte]."""
    passes = 2 - minimum(zero_stage, 1)
    return where(zero_stage >= 2, 0, passes * total(chunk_gradient_bytes))


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where((zero_stage == 1) + (zero_stage == 2), total(chunk_gather_bytes), 0)",
    source=_ZERO,
)
def update_gather_bytes(zero_stage: Column, chunk_gather_bytes: Axis) -> Column:
    """Return the bytes that a GPU sends to gather updated weights at the end of a step [byte]."""
    return where((zero_stage == 1) + (zero_stage == 2), total(chunk_gather_bytes), 0)
