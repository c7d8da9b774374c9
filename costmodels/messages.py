"""Messages of one GPU over a step, collective by collective: calls, payload, bytes on the wire.

The *payload* of a call is the whole tensor that a collective works on: what each rank has before
an all-reduce or a reduce-scatter, and after an all-gather; for a send, what is sent. The bytes on
the wire are those that one rank sends, by the ring algorithm [1]_.

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, 2005, section 4. doi:10.1177/1094342005051521.
"""

from costmodels.collectives import ring_all_reduce_bytes
from costmodels.columns import Axis, Column, as_float, minimum, total, where
from costmodels.quantities import ALGORITHM, CHUNK, STAGE, Basis, Quantity, Scope, quantity, renamed

_SHOEYBI = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 7"
_BUCKETS = "; one for each bucket"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521, section 4: a ring"
_CONTEXT = "Liu et al. 2023, arXiv:2310.01889, section 3; Jacobs et al. 2023, arXiv:2309.14509"
_FOLDED = "Liu et al. 2025, arXiv:2504.14960, section 3; Rajbhandari et al. 2022, arXiv:2201.05596"
_COPIES = "each rank has seen its own query heads of a key and value head that it shares"
_MIRROR = "DeepSeek-AI 2024, arXiv:2412.19437, section 3.2.1: two copies of the layers"
_STAGE = (STAGE,)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="4 * microbatch_tokens",
    source=_SHOEYBI + ": one number of fp32 for each token",
)
def loss_message_bytes(microbatch_tokens: Column) -> Column:
    """Return the payload of one all-reduce of the vocabulary-parallel loss [byte]."""
    return 4 * microbatch_tokens


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(loss_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def loss_call_bytes(loss_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-reduce of the vocabulary-parallel loss [byte]."""
    return ring_all_reduce_bytes(loss_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="vocabulary_rows * hidden_size * reduction_element_bytes",
    source=_NARAYANAN,
)
def tied_message_bytes(
    vocabulary_rows: Column, hidden_size: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of the all-reduce of a tied embedding's gradient [byte]."""
    return vocabulary_rows * hidden_size * reduction_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(tied_message_bytes, 2)",
    source=_RING,
)
def tied_call_bytes(tied_message_bytes: Column) -> Column:
    """Return the bytes sent in the all-reduce of a tied embedding's gradient [byte]."""
    return ring_all_reduce_bytes(tied_message_bytes, 2)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(chunk_trained_parameters - chunk_trained_expert_parameters)"
    " * reduction_element_bytes",
    source=_ZERO,
)
def chunk_gradient_message_bytes(
    chunk_trained_parameters: Column,
    chunk_trained_expert_parameters: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the payload of a chunk's gradients in all their buckets, experts apart left out [byte]."""
    elements = chunk_trained_parameters - chunk_trained_expert_parameters
    return elements * reduction_element_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes"
    " * (chunk_parameters - chunk_expert_parameters)"
    " + weights_are_frozen * adapter_element_bytes * chunk_adapter_parameters",
    source=_ZERO,
)
def chunk_weight_message_bytes(
    weights_are_frozen: Column,
    zero_stage: Column,
    weight_element_bytes: Column,
    chunk_parameters: Column,
    chunk_expert_parameters: Column,
    adapter_element_bytes: Column,
    chunk_adapter_parameters: Column,
) -> Column:
    """Return the payload of one all-gather of a chunk's weights, experts apart left out [byte]."""
    happens = where(weights_are_frozen, zero_stage >= 3, 1) * weight_element_bytes
    adapters = weights_are_frozen * adapter_element_bytes * chunk_adapter_parameters
    return happens * (chunk_parameters - chunk_expert_parameters) + adapters


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_dense_gradient_bytes",
    source=_RING + ": an all-reduce is a reduce-scatter and an all-gather",
)
def chunk_gradient_call_bytes(chunk_dense_gradient_bytes: Column) -> Column:
    """Return the bytes sent to all-reduce a chunk's gradients once [byte]."""
    return 2 * chunk_dense_gradient_bytes


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * (total(forward_all_reduces) + total(backward_all_reduces))",
    source=_SHOEYBI,
)
def hidden_all_reduce_calls(
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    forward_all_reduces: Axis,
    backward_all_reduces: Axis,
) -> Column:
    """Return the all-reduces of activations and of their gradients, over a step [count]."""
    calls = total(forward_all_reduces) + total(backward_all_reduces)
    return as_float(chunk_microbatch_count) * minimum(tensor_parallel_size - 1, 1) * calls


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="3.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * total(chunk_head_passes)",
    source=_SHOEYBI + ": maximum, sum of exponentials, label's logit",
)
def loss_all_reduce_calls(
    chunk_microbatch_count: Column, tensor_parallel_size: Column, chunk_head_passes: Axis
) -> Column:
    """Return the all-reduces of the vocabulary-parallel loss, over a step [count]."""
    return (
        3.0
        * chunk_microbatch_count
        * minimum(tensor_parallel_size - 1, 1)
        * total(chunk_head_passes)
    )


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (2 * total(chunk_entry_count)"
    " + total(chunk_exit_count) + total(chunk_repeated_entry_count) + 2 * total(chunk_head_passes)"
    " + total(chunk_embedding_passes))",
    source=_KORTHIKANTI + ": two a layer forward, of them again for weight gradients, two backward",
)
def sequence_all_gather_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_entry_count: Axis,
    chunk_exit_count: Axis,
    chunk_repeated_entry_count: Axis,
    chunk_head_passes: Axis,
    chunk_embedding_passes: Axis,
) -> Column:
    """Return the all-gathers of sequence parallelism, over a step [count]."""
    inputs = 2 * total(chunk_entry_count) + total(chunk_repeated_entry_count)
    layers = inputs + total(chunk_exit_count)
    ends = 2 * total(chunk_head_passes) + total(chunk_embedding_passes)
    return as_float(chunk_microbatch_count) * sequence_parallel * (layers + ends)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (total(chunk_exit_count)"
    " + total(chunk_entry_count) + total(chunk_repeated_exit_count)"
    " + total(chunk_head_passes) + total(chunk_embedding_passes))",
    source=_KORTHIKANTI + ": two a layer forward, two backward",
)
def sequence_reduce_scatter_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_entry_count: Axis,
    chunk_exit_count: Axis,
    chunk_repeated_exit_count: Axis,
    chunk_head_passes: Axis,
    chunk_embedding_passes: Axis,
) -> Column:
    """Return the reduce-scatters of sequence parallelism, over a step [count]."""
    outputs = total(chunk_exit_count) + total(chunk_repeated_exit_count)
    layers = outputs + total(chunk_entry_count)
    ends = total(chunk_head_passes) + total(chunk_embedding_passes)
    return as_float(chunk_microbatch_count) * sequence_parallel * (layers + ends)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_summed_parameters * reduction_element_bytes",
    source=_KORTHIKANTI,
)
def replicated_message_bytes(
    chunk_summed_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of one sum of a chunk's gradients of replicated weights [byte]."""
    return chunk_summed_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0)"
    " * minimum(tensor_parallel_size - 1, 1) * minimum(chunk_summed_parameters, 1)",
    source=_KORTHIKANTI + "; once a step, or before gradients are scattered",
)
def replicated_all_reduce_calls(
    zero_stage: Column,
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    chunk_summed_parameters: Column,
) -> Column:
    """Return the all-reduces of a chunk's gradients of replicated weights, over a step [count]."""
    calls = where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0)
    return calls * minimum(tensor_parallel_size - 1, 1) * minimum(chunk_summed_parameters, 1)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_shared_parameters * reduction_element_bytes",
    source=_COPIES,
)
def shared_message_bytes(
    chunk_shared_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of one sum of a chunk's gradients of copied heads [byte]."""
    return chunk_shared_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0)"
    " * minimum(chunk_shared_parameters, 1)",
    source=_COPIES + "; once a step, or before gradients are scattered",
)
def shared_all_reduce_calls(
    zero_stage: Column, chunk_microbatch_count: Column, chunk_shared_parameters: Column
) -> Column:
    """Return the all-reduces of a chunk's gradients of copied heads, over a step [count]."""
    calls = where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0)
    return calls * minimum(chunk_shared_parameters, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_hops)",
    source=_NARAYANAN,
)
def hop_calls(chunk_microbatch_count: Column, chunk_hops: Axis) -> Column:
    """Return the sends of activations and of gradients to other stages, over a step [count]."""
    return as_float(chunk_microbatch_count) * total(chunk_hops)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_hops)",
    source=_NARAYANAN + ": an activation unless it is the first chunk, a gradient unless the last, "
    "and nothing from a chunk of the same rank: as many as it sends",
)
def hop_receive_calls(chunk_microbatch_count: Column, chunk_hops: Axis) -> Column:
    """Return the activations and gradients that a GPU receives from stages, over a step [count]."""
    return as_float(chunk_microbatch_count) * total(chunk_hops)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * microbatch_count * (total(chunk_forward_handover_gather_count)"
    " + total(chunk_backward_handover_gather_count))",
    source="Narayanan et al. 2021, arXiv:2104.04473, section 4.1",
)
def handover_all_gather_calls(
    microbatch_count: Column,
    chunk_forward_handover_gather_count: Axis,
    chunk_backward_handover_gather_count: Axis,
) -> Column:
    """Return the all-gathers of activations and gradients that arrive in parts, over a step [count]."""
    both = total(chunk_forward_handover_gather_count) + total(chunk_backward_handover_gather_count)
    return as_float(microbatch_count) * both


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * embedding_copy_count * (total(chunk_holds_embedding) + total(chunk_holds_head))",
    source=_NARAYANAN,
)
def tied_all_reduce_calls(
    embedding_copy_count: Column,
    chunk_holds_embedding: Axis,
    chunk_holds_head: Axis,
) -> Column:
    """Return the all-reduces of a tied embedding's gradient, over a step [count]."""
    return as_float(embedding_copy_count) * (total(chunk_holds_embedding) + total(chunk_holds_head))


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * (zero_stage == 0)",
    source=_ZERO,
)
def all_reduce_passes(zero_stage: Column) -> Column:
    """Return how often all gradients are all-reduced, over a step [count]."""
    return 1.0 * (zero_stage == 0)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0 * (zero_stage == 1))",
    source=_ZERO + "; sharded gradients are scattered after every backward",
)
def reduce_scatter_passes(zero_stage: Column, chunk_microbatch_count: Column) -> Column:
    """Return how often all gradients are scattered, over a step [count]."""
    return where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0 * (zero_stage == 1))


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="all_reduce_passes * minimum(sharding_size - 1, 1) * chunk_exists * chunk_bucket_count",
    source=_ZERO + _BUCKETS,
)
def gradient_all_reduce_calls(
    all_reduce_passes: Column,
    sharding_size: Column,
    chunk_exists: Column,
    chunk_bucket_count: Column,
) -> Column:
    """Return the all-reduces of a chunk's gradients, over a step [count]."""
    happens = all_reduce_passes * minimum(sharding_size - 1, 1) * chunk_exists
    return happens * chunk_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(sharding_size - 1, 1) * chunk_exists"
    " * chunk_bucket_count",
    source=_ZERO + _BUCKETS,
)
def gradient_reduce_scatter_calls(
    reduce_scatter_passes: Column,
    sharding_size: Column,
    chunk_exists: Column,
    chunk_bucket_count: Column,
) -> Column:
    """Return the reduce-scatters of a chunk's gradients, over a step [count]."""
    happens = reduce_scatter_passes * minimum(sharding_size - 1, 1) * chunk_exists
    return happens * chunk_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))"
    " * minimum(sharding_size - 1, 1) * chunk_exists",
    source=_ZERO + "; sharded weights are gathered for every forward and every backward",
)
def weight_all_gather_calls(
    zero_stage: Column, chunk_microbatch_count: Column, sharding_size: Column, chunk_exists: Column
) -> Column:
    """Return the all-gathers of a chunk's weights, over a step [count]."""
    calls = where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1))
    return calls * minimum(sharding_size - 1, 1) * chunk_exists


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="all_reduce_passes * minimum(expert_sharding_size - 1, 1)"
    " * minimum(chunk_expert_parameters, 1) * chunk_expert_bucket_count",
    source=_ZERO + _BUCKETS,
)
def expert_gradient_all_reduce_calls(
    all_reduce_passes: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
) -> Column:
    """Return the all-reduces of the gradients of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return all_reduce_passes * has_group * chunk_expert_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(expert_sharding_size - 1, 1)"
    " * minimum(chunk_expert_parameters, 1) * chunk_expert_bucket_count",
    source=_ZERO + _BUCKETS,
)
def expert_gradient_reduce_scatter_calls(
    reduce_scatter_passes: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
    chunk_expert_bucket_count: Column,
) -> Column:
    """Return the reduce-scatters of the gradients of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return reduce_scatter_passes * has_group * chunk_expert_bucket_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1)) *"
    " minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)",
    source=_ZERO,
)
def expert_weight_all_gather_calls(
    zero_stage: Column,
    chunk_microbatch_count: Column,
    expert_sharding_size: Column,
    chunk_expert_parameters: Column,
) -> Column:
    """Return the all-gathers of the weights of a chunk's experts, over a step [count]."""
    has_group = minimum(expert_sharding_size - 1, 1) * minimum(chunk_expert_parameters, 1)
    return where(zero_stage >= 3, 2.0 * chunk_microbatch_count, 1.0 * (zero_stage >= 1)) * has_group


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="reduce_scatter_passes * minimum(replication_size - 1, 1) * chunk_exists"
    " * chunk_replica_bucket_count",
    source=_ZERO + "; after each reduce-scatter, as FSDP2 does",
)
def replica_all_reduce_calls(
    reduce_scatter_passes: Column,
    replication_size: Column,
    chunk_exists: Column,
    chunk_replica_bucket_count: Column,
) -> Column:
    """Return the all-reduces of a chunk's scattered gradients over sharding groups, over a step [count]."""
    happens = reduce_scatter_passes * minimum(replication_size - 1, 1) * chunk_exists
    return happens * chunk_replica_bucket_count


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_expert_parameters * reduction_element_bytes",
    source=_ZERO,
)
def chunk_expert_gradient_message_bytes(
    chunk_expert_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of the gradients of a chunk's experts in all their buckets [byte]."""
    return chunk_expert_parameters * reduction_element_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="2 * chunk_expert_gradient_bytes",
    source=_RING + ": an all-reduce is a reduce-scatter and an all-gather",
)
def chunk_expert_gradient_call_bytes(chunk_expert_gradient_bytes: Column) -> Column:
    """Return the bytes sent to all-reduce the gradients of a chunk's experts once [byte]."""
    return 2 * chunk_expert_gradient_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_expert_parameters * weight_element_bytes",
    source=_ZERO,
)
def chunk_expert_weight_message_bytes(
    chunk_expert_parameters: Column, weight_element_bytes: Column
) -> Column:
    """Return the payload of one all-gather of the weights of a chunk's experts [byte]."""
    return chunk_expert_parameters * weight_element_bytes


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_shard_parameters * reduction_element_bytes",
    source=_ZERO,
)
def replica_message_bytes(
    chunk_shard_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of a chunk's scattered gradients in all their buckets [byte]."""
    return chunk_shard_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_parallel_size - 1, 1)",
    source=_FOLDED + ": to the experts and back, forward and backward",
)
def expert_all_to_all_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return the exchanges of rows between experts, over a step [count]."""
    layers = 4.0 * total(chunk_mixture_layers) + 2.0 * total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_stride - 1, 1)",
    source=_FOLDED,
)
def expert_rows_all_gather_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_stride: Column,
) -> Column:
    """Return the all-gathers of rows over ranks that split an expert, over a step [count]."""
    layers = 2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_stride - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers))"
    " * chunk_microbatch_count * minimum(expert_stride - 1, 1)",
    source=_FOLDED,
)
def expert_rows_reduce_scatter_calls(
    chunk_mixture_layers: Axis,
    chunk_repeated_mixture_layers: Axis,
    chunk_microbatch_count: Column,
    expert_stride: Column,
) -> Column:
    """Return the reduce-scatters of rows over ranks that split an expert, over a step [count]."""
    layers = 2.0 * total(chunk_mixture_layers) + total(chunk_repeated_mixture_layers)
    return layers * chunk_microbatch_count * minimum(expert_stride - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ring * (total(chunk_layers) * (3"
    " * (context_parallel_size - 1) + minimum(context_parallel_size - 1, 1))"
    " + total(chunk_attention_repeated_layers) * (context_parallel_size - 1))",
    source=_CONTEXT,
)
def context_send_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ring: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the blocks of keys and values, and of their gradients, sent around rings over a step [count]."""
    passes = 3 * (context_parallel_size - 1) + minimum(context_parallel_size - 1, 1)
    again = total(chunk_attention_repeated_layers) * (context_parallel_size - 1)
    rings = as_float(chunk_microbatch_count) * context_parallel_method_is_ring
    return rings * (total(chunk_layers) * passes + again)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_all_gather *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_all_gather_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_all_gather: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the all-gathers of keys and values, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_all_gather
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_all_gather *"
    " total(chunk_layers) * minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_reduce_scatter_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_all_gather: Column,
    chunk_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the reduce-scatters of the gradients of keys and values, over a step [count]."""
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_all_gather
    return layers * total(chunk_layers) * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ulysses *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_input_all_to_all_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ulysses: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the exchanges of queries, keys and values by heads, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_ulysses
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * context_parallel_method_is_ulysses *"
    " (2 * total(chunk_layers) + total(chunk_attention_repeated_layers)) *"
    " minimum(context_parallel_size - 1, 1)",
    source=_CONTEXT,
)
def context_output_all_to_all_calls(
    chunk_microbatch_count: Column,
    context_parallel_method_is_ulysses: Column,
    chunk_layers: Axis,
    chunk_attention_repeated_layers: Axis,
    context_parallel_size: Column,
) -> Column:
    """Return the exchanges of the output of heads by heads, over a step [count]."""
    repeated = total(chunk_attention_repeated_layers)
    layers = as_float(chunk_microbatch_count) * context_parallel_method_is_ulysses
    layers = layers * (2 * total(chunk_layers) + repeated)
    return layers * minimum(context_parallel_size - 1, 1)


@quantity(
    "fraction",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * (pipeline_node_members < pipeline_parallel_size)",
    source="the copies of a tied embedding are on the first and the last rank",
)
def tied_network_fraction(pipeline_node_members: Column, pipeline_parallel_size: Column) -> Column:
    """Return the share of a tied embedding's hops that cross nodes: all or none [fraction]."""
    return 1.0 * (pipeline_node_members < pipeline_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="minimum(schedule_copies - 1, 1) * where(zero_stage >= 1, shard_parameters,"
    " stage_parameters) * reduction_element_bytes",
    source=_MIRROR + "; sharded gradients are scattered before",
)
def mirror_message_bytes(
    schedule_copies: Column,
    zero_stage: Column,
    shard_parameters: Column,
    stage_parameters: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the gradients that a rank adds to those of the other copy of its layers [byte]."""
    held = where(zero_stage >= 1, shard_parameters, stage_parameters)
    return minimum(schedule_copies - 1, 1) * held * reduction_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(mirror_message_bytes, 2)",
    source=_RING,
)
def mirror_call_bytes(mirror_message_bytes: Column) -> Column:
    """Return the bytes sent in the all-reduce of the gradients of two copies of layers [byte]."""
    return ring_all_reduce_bytes(mirror_message_bytes, 2)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * minimum(schedule_copies - 1, 1) * minimum(total(chunk_exists), 1)",
    source=_MIRROR + "; one for all chunks of a rank",
)
def mirror_all_reduce_calls(schedule_copies: Column, chunk_exists: Axis) -> Column:
    """Return the all-reduces between copies of layers, over a step [count]."""
    return 1.0 * minimum(schedule_copies - 1, 1) * minimum(total(chunk_exists), 1)


@quantity(
    "fraction",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="ranks r and p - 1 - r hold the same layers: both are in one node where the middle of the "
    "pipeline is",
)
def mirror_network_fraction(
    pipeline_node_members: Column, pipeline_parallel_size: Column
) -> Column:
    """Return the share of the pairs of ranks with copies of the same layers that cross nodes [fraction].

    Examples
    --------
    Eight ranks, four in a node: rank 3 and rank 4 are in two nodes too. Three in a node: they share
    the second one, with neighbours that have their copy elsewhere.

    >>> mirror_network_fraction(4, 8), mirror_network_fraction(3, 8), mirror_network_fraction(8, 8)
    (1.0, 0.75, 0.0)
    """
    half = pipeline_parallel_size // 2
    before = half % pipeline_node_members
    after = minimum(pipeline_node_members - before, half)
    return 1.0 - 2.0 * minimum(before, after) / pipeline_parallel_size


def wire_bytes(calls: Column, call_bytes: Column) -> Column:
    """Return the bytes that a rank sends in all calls of a collective [byte].

    Examples
    --------
    >>> wire_bytes(3.0, 100)
    300.0
    """
    return calls * call_bytes


def crossing_bytes(sent_bytes: Column, network_fraction: Column) -> Column:
    """Return the bytes of a collective that cross nodes [byte].

    Examples
    --------
    >>> crossing_bytes(300.0, 0.25)
    75.0
    """
    return sent_bytes * network_fraction


def _sent(
    name: str, what: str, *, calls: str, call: str, fraction: str, axes: tuple[str, ...] = _STAGE
) -> tuple[Quantity, Quantity]:
    """Return the bytes that a collective sends over a step, and those of them that cross nodes."""
    scope = Scope.CHUNK if axes == _CHUNK else Scope.GPU
    sent, crossing = f"{name}_sent_bytes", f"{name}_network_bytes"
    return (
        Quantity(
            name=sent,
            unit="byte",
            scope=scope,
            axes=axes,
            definition=f"Bytes that a GPU sends in {what}, over a step.",
            basis=Basis.EXACT,
            formula=f"{calls} * {call}",
            source=_RING,
            function=renamed(wire_bytes, sent, {"calls": calls, "call_bytes": call}),
        ),
        Quantity(
            name=crossing,
            unit="byte",
            scope=scope,
            axes=axes,
            definition=f"Bytes that a GPU sends across nodes in {what}, over a step.",
            basis=Basis.ASSUMED,
            formula=f"{sent} * {fraction}",
            source="the share of the group's hops that cross nodes, a mean over the group",
            function=renamed(
                crossing_bytes, crossing, {"sent_bytes": sent, "network_fraction": fraction}
            ),
        ),
    )


SENT = (
    *_sent(
        "hidden_all_reduce",
        "all-reduces of activations",
        calls="hidden_all_reduce_calls",
        call="hidden_all_reduce_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "loss_all_reduce",
        "all-reduces of the loss",
        calls="loss_all_reduce_calls",
        call="loss_call_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "sequence_all_gather",
        "all-gathers of sequence parallelism",
        calls="sequence_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "sequence_reduce_scatter",
        "reduce-scatters of sequence parallelism",
        calls="sequence_reduce_scatter_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_all_gather",
        "all-gathers of projections to further tokens",
        calls="prediction_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_all_reduce",
        "all-reduces of gradients of the inputs of projections to further tokens",
        calls="prediction_input_all_reduce_calls",
        call="prediction_input_all_reduce_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_all_gather",
        "all-gathers of the inputs of projections to further tokens",
        calls="prediction_input_all_gather_calls",
        call="prediction_input_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_reduce_scatter",
        "reduce-scatters of gradients of the inputs of projections to further tokens",
        calls="prediction_input_reduce_scatter_calls",
        call="prediction_input_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "replicated_all_reduce",
        "all-reduces of a chunk's gradients of replicated weights",
        calls="replicated_all_reduce_calls",
        call="chunk_replicated_bytes",
        fraction="tensor_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "shared_all_reduce",
        "all-reduces of a chunk's gradients of copied key and value heads",
        calls="shared_all_reduce_calls",
        call="chunk_shared_bytes",
        fraction="tensor_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "handover_all_gather",
        "all-gathers of what arrives from other stages in parts",
        calls="handover_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "hop",
        "hand-overs to other stages",
        calls="hop_calls",
        call="hop_bytes",
        fraction="pipeline_network_fraction",
    ),
    *_sent(
        "tied_all_reduce",
        "all-reduces of a tied embedding",
        calls="tied_all_reduce_calls",
        call="tied_call_bytes",
        fraction="tied_network_fraction",
    ),
    *_sent(
        "mirror_all_reduce",
        "all-reduces of gradients over the copies of layers in a pipeline",
        calls="mirror_all_reduce_calls",
        call="mirror_call_bytes",
        fraction="mirror_network_fraction",
    ),
    *_sent(
        "context_send",
        "blocks of keys and values",
        calls="context_send_calls",
        call="context_block_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_all_gather",
        "all-gathers of keys and values",
        calls="context_all_gather_calls",
        call="context_pass_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_reduce_scatter",
        "reduce-scatters of gradients of keys and values",
        calls="context_reduce_scatter_calls",
        call="context_pass_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_input_all_to_all",
        "exchanges of queries, keys and values",
        calls="context_input_all_to_all_calls",
        call="context_input_exchange_bytes",
        fraction="context_exchange_fraction",
    ),
    *_sent(
        "context_output_all_to_all",
        "exchanges of the output of heads",
        calls="context_output_all_to_all_calls",
        call="context_output_exchange_bytes",
        fraction="context_exchange_fraction",
    ),
    *_sent(
        "expert_all_to_all",
        "exchanges of rows between experts",
        calls="expert_all_to_all_calls",
        call="expert_exchange_bytes",
        fraction="expert_network_fraction",
    ),
    *_sent(
        "expert_rows_all_gather",
        "all-gathers of rows over ranks that split an expert",
        calls="expert_rows_all_gather_calls",
        call="expert_rows_bytes",
        fraction="expert_tensor_network_fraction",
    ),
    *_sent(
        "expert_rows_reduce_scatter",
        "reduce-scatters of rows over ranks that split an expert",
        calls="expert_rows_reduce_scatter_calls",
        call="expert_rows_bytes",
        fraction="expert_tensor_network_fraction",
    ),
    *_sent(
        "gradient_all_reduce",
        "all-reduces of a chunk's gradients",
        calls="all_reduce_passes",
        call="chunk_gradient_call_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "gradient_reduce_scatter",
        "reduce-scatters of a chunk's gradients",
        calls="reduce_scatter_passes",
        call="chunk_dense_gradient_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "weight_all_gather",
        "all-gathers of a chunk's weights",
        calls="weight_all_gather_calls",
        call="chunk_dense_gather_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_gradient_all_reduce",
        "all-reduces of the gradients of a chunk's experts",
        calls="all_reduce_passes",
        call="chunk_expert_gradient_call_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_gradient_reduce_scatter",
        "reduce-scatters of the gradients of a chunk's experts",
        calls="reduce_scatter_passes",
        call="chunk_expert_gradient_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_weight_all_gather",
        "all-gathers of the weights of a chunk's experts",
        calls="expert_weight_all_gather_calls",
        call="chunk_expert_gather_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "replica_all_reduce",
        "all-reduces of a chunk's scattered gradients over sharding groups",
        calls="reduce_scatter_passes",
        call="chunk_replica_bytes",
        fraction="replication_network_fraction",
        axes=_CHUNK,
    ),
)
"""For each collective the bytes that a GPU sends, and those that cross nodes."""


@quantity(
    "byte",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="stage_gpu_count * total(class_stage_count * (tensor_bytes + sequence_bytes"
    " + context_bytes + expert_bytes + hop_receive_calls * hop_bytes + tied_embedding_bytes"
    " + mirror_call_bytes + data_bytes))",
    source=_RING + " brings a rank as many bytes as it sends",
)
def received_bytes(
    stage_gpu_count: Column,
    class_stage_count: Axis,
    tensor_bytes: Axis,
    sequence_bytes: Axis,
    context_bytes: Axis,
    expert_bytes: Axis,
    hop_receive_calls: Axis,
    hop_bytes: Column,
    tied_embedding_bytes: Axis,
    mirror_call_bytes: Axis,
    data_bytes: Axis,
) -> Column:
    """Return the bytes that all GPUs receive, over a step [byte]."""
    stages = [
        count * (tensor + sequence + context + expert + calls * hop_bytes + tied + mirror + data)
        for count, tensor, sequence, context, expert, calls, tied, mirror, data in zip(
            class_stage_count,
            tensor_bytes,
            sequence_bytes,
            context_bytes,
            expert_bytes,
            hop_receive_calls,
            tied_embedding_bytes,
            mirror_call_bytes,
            data_bytes,
            strict=True,
        )
    ]
    return stage_gpu_count * total(stages)
