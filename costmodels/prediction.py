"""Layers that predict further tokens, in training: their ends, projection, messages and time.

A depth normalizes the hidden state of the one before and the embedding of the next token, projects
both to one vector, and passes it through a layer of the last kind, a norm of its own and the head
[1]_. All depths are on the stage of the head, as Megatron-LM places them [2]_: it looks tokens up
in a copy of the embedding, whose gradient is added to that of the first stage, as those of a tied
head are; a rank that holds both ends of the model has one copy for all. The projection is split by
columns and its output gathered; with sequence parallelism its input is gathered before and its
output scattered behind. A depth takes as many tokens as the model.

References
----------
.. [1] DeepSeek-AI, "DeepSeek-V3 Technical Report," 2024, section 2.2. arXiv:2412.19437.
.. [2] Megatron-LM, ``megatron/core/transformer/multi_token_prediction.py`` and
   ``megatron/core/distributed/finalize_model_grads.py``, github.com/NVIDIA/Megatron-LM.
"""

from costmodels.collectives import (
    ring_all_gather_bytes,
    ring_all_reduce_bytes,
    ring_all_reduce_s,
    ring_pass_s,
)
from costmodels.columns import Axis, Column, as_float, maximum, minimum, total, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_DEEPSEEK = "DeepSeek-AI 2024, arXiv:2412.19437, section 2.2"
_MEGATRON = _DEEPSEEK + "; Megatron-LM, megatron/core/transformer/multi_token_prediction.py"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521"
_CHUNK = (STAGE, CHUNK)
_STAGE = (STAGE,)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="kind_is_training * total(predicted_layer_count)",
    source=_DEEPSEEK + "; inference leaves them out",
)
def prediction_count(kind_is_training: Column, predicted_layer_count: Axis) -> Column:
    """Return the further tokens that training predicts behind the next one [count]."""
    return kind_is_training * total(predicted_layer_count)


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_holds_head * prediction_count",
    source=_MEGATRON,
)
def chunk_prediction_count(chunk_holds_head: Column, prediction_count: Column) -> Column:
    """Return the further tokens that a chunk predicts [count]."""
    return chunk_holds_head * prediction_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_holds_embedding + chunk_prediction_count",
    source=_DEEPSEEK,
)
def chunk_embedding_passes(chunk_holds_embedding: Column, chunk_prediction_count: Column) -> Column:
    """Return how often a chunk embeds the tokens of a microbatch [count]."""
    return chunk_holds_embedding + chunk_prediction_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_holds_head + chunk_prediction_count",
    source=_DEEPSEEK,
)
def chunk_head_passes(chunk_holds_head: Column, chunk_prediction_count: Column) -> Column:
    """Return the heads and losses of a chunk for a microbatch [count]."""
    return chunk_holds_head + chunk_prediction_count


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="recompute_is_full * (total(chunk_repeated_layer_count) == total(chunk_layer_count))"
    " * chunk_prediction_count",
    source=_MEGATRON + ": all of them, or none where only the first layers of a chunk are",
)
def chunk_prediction_repeated_count(
    recompute_is_full: Column,
    chunk_repeated_layer_count: Axis,
    chunk_layer_count: Axis,
    chunk_prediction_count: Column,
) -> Column:
    """Return the projections to further tokens that a chunk's backward computes again [count]."""
    every = total(chunk_repeated_layer_count) == total(chunk_layer_count)
    return recompute_is_full * every * chunk_prediction_count


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="maximum(tied_embeddings, minimum(prediction_count, 1)) * separate_ends_count",
    source="Narayanan et al. 2021, arXiv:2104.04473, section 2.2 (tied); " + _MEGATRON,
)
def embedding_copy_count(
    tied_embeddings: Column, prediction_count: Column, separate_ends_count: Column
) -> Column:
    """Return the copies of the embedding beside that of the first stage: one on the last, or none [count]."""
    needed = maximum(tied_embeddings, minimum(prediction_count, 1))
    return needed * separate_ends_count


@quantity(
    "parameter",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="2 * hidden_size * hidden_size // tensor_parallel_size + 3 * norm_parameters",
    source=_MEGATRON,
)
def prediction_gpu_parameters(
    hidden_size: Column, tensor_parallel_size: Column, norm_parameters: Column
) -> Column:
    """Return projection and norms of one depth on one GPU, its layer apart [parameter]."""
    return 2 * hidden_size * hidden_size // tensor_parallel_size + 3 * norm_parameters


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_prediction_count * prediction_gpu_parameters"
    " + minimum(chunk_prediction_count, 1) * (1 - tied_embeddings) * embedding_copy_count"
    " * vocabulary_rows * hidden_size",
    source=_MEGATRON + "; a tied head is that copy already",
)
def chunk_prediction_parameters(
    chunk_prediction_count: Column,
    prediction_gpu_parameters: Column,
    tied_embeddings: Column,
    embedding_copy_count: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
) -> Column:
    """Return what a chunk holds to predict further tokens beside layers and head [parameter]."""
    copies = minimum(chunk_prediction_count, 1) * (1 - tied_embeddings) * embedding_copy_count
    own = chunk_prediction_count * prediction_gpu_parameters
    return own + copies * vocabulary_rows * hidden_size


@quantity(
    "FLOP",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * 2 * hidden_size * hidden_size // tensor_parallel_size",
    source=_MEGATRON,
)
def prediction_flop(
    microbatch_tokens: Column, hidden_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return the forward work of the projection of one depth, for one microbatch [FLOP]."""
    return 2 * microbatch_tokens * 2 * hidden_size * hidden_size // tensor_parallel_size


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_head_passes * head_flop + chunk_prediction_count * prediction_flop",
    source=_DEEPSEEK,
)
def chunk_head_flop(
    chunk_head_passes: Column,
    head_flop: Column,
    chunk_prediction_count: Column,
    prediction_flop: Column,
) -> Column:
    """Return the forward work of a chunk's heads and projections before them, for a microbatch [FLOP]."""
    return chunk_head_passes * head_flop + chunk_prediction_count * prediction_flop


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_prediction_repeated_count * prediction_flop",
    source=_MEGATRON + ": computed again with its layer",
)
def chunk_prediction_recompute_flop(
    chunk_prediction_repeated_count: Column, prediction_flop: Column
) -> Column:
    """Return the projections that a chunk's backward repeats, for one microbatch [FLOP]."""
    return chunk_prediction_repeated_count * prediction_flop


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="2 * sequence_length * ((1 + prediction_count) * embedding_parameters"
    " + prediction_count * 2 * hidden_size * hidden_size)",
    source="Narayanan et al. 2021, arXiv:2104.04473, appendix; " + _DEEPSEEK,
)
def model_head_flop(
    sequence_length: Column,
    prediction_count: Column,
    embedding_parameters: Column,
    hidden_size: Column,
) -> Column:
    """Return the forward work that heads and projections before them need, for one sequence [FLOP]."""
    heads = (1 + prediction_count) * embedding_parameters
    return 2 * sequence_length * (heads + prediction_count * 2 * hidden_size * hidden_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="3 * layer_input_bytes + saved_tensors_is_transformer_engine * 8 * (2 - norm_is_rmsnorm)"
    " * sharded_tokens",
    source=_MEGATRON + ": embedding, and both normalized vectors",
)
def megatron_prediction_bytes(
    layer_input_bytes: Column,
    saved_tensors_is_transformer_engine: Column,
    norm_is_rmsnorm: Column,
    sharded_tokens: Column,
) -> Column:
    """Return what Megatron-LM keeps before the layer of a depth, for one microbatch [byte]."""
    statistics = saved_tensors_is_transformer_engine * 8 * (2 - norm_is_rmsnorm) * sharded_tokens
    return 3 * layer_input_bytes + statistics


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="2 * torch_norm_bytes + layer_input_bytes",
    source="two norms, of which one reads what the head before keeps; both outputs beside each "
    "other: equal to saved-tensor hooks",
)
def torch_prediction_bytes(torch_norm_bytes: Column, layer_input_bytes: Column) -> Column:
    """Return what torch keeps before the layer of a depth, for one microbatch [byte]."""
    return 2 * torch_norm_bytes + layer_input_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda,"
    " torch_prediction_bytes, megatron_prediction_bytes)",
    source="the convention that plan.saved_tensors names",
)
def prediction_saved_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_prediction_bytes: Column,
    megatron_prediction_bytes: Column,
) -> Column:
    """Return the activations kept before the layer of a depth, for one microbatch [byte]."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    return where(plain_torch, torch_prediction_bytes, megatron_prediction_bytes)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_head_passes * head_saved_bytes"
    " + (chunk_prediction_count - chunk_prediction_repeated_count) * prediction_saved_bytes",
    source=_MEGATRON + "; where a depth is computed again, its embedding is the input that is "
    "kept, and counts with the layers",
)
def chunk_head_bytes(
    chunk_head_passes: Column,
    head_saved_bytes: Column,
    chunk_prediction_count: Column,
    chunk_prediction_repeated_count: Column,
    prediction_saved_bytes: Column,
) -> Column:
    """Return what a chunk keeps for heads, losses and projections, for one microbatch [byte]."""
    kept = chunk_prediction_count - chunk_prediction_repeated_count
    return chunk_head_passes * head_saved_bytes + kept * prediction_saved_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="2 * hidden_message_bytes",
    source=_MEGATRON,
)
def prediction_input_message_bytes(hidden_message_bytes: Column) -> Column:
    """Return the input of a depth's projection, hidden state and embedding of a microbatch [byte]."""
    return 2 * hidden_message_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_gather_bytes(prediction_input_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def prediction_input_all_gather_bytes(
    prediction_input_message_bytes: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to gather a projection's input, or to scatter its gradient [byte]."""
    return ring_all_gather_bytes(prediction_input_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(prediction_input_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def prediction_input_all_reduce_bytes(
    prediction_input_message_bytes: Column, tensor_parallel_size: Column
) -> Column:
    """Return the bytes sent to sum the gradient of a projection's input [byte]."""
    return ring_all_reduce_bytes(prediction_input_message_bytes, tensor_parallel_size)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_prediction_count * (hidden_all_gather_bytes"
    " + sequence_parallel * prediction_input_all_gather_bytes)",
    source=_MEGATRON,
)
def chunk_forward_prediction_bytes(
    chunk_prediction_count: Column,
    hidden_all_gather_bytes: Column,
    sequence_parallel: Column,
    prediction_input_all_gather_bytes: Column,
) -> Column:
    """Return the bytes sent around projections in a chunk's forward, for one microbatch [byte]."""
    inputs = sequence_parallel * prediction_input_all_gather_bytes
    return chunk_prediction_count * (hidden_all_gather_bytes + inputs)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_prediction_count * ((1 - sequence_parallel) * prediction_input_all_reduce_bytes"
    " + sequence_parallel * (2 * prediction_input_all_gather_bytes + hidden_all_gather_bytes))"
    " + chunk_prediction_repeated_count * (hidden_all_gather_bytes"
    " + sequence_parallel * prediction_input_all_gather_bytes)",
    source=_MEGATRON + ": gradient of the input summed; with sequence parallelism scattered, the "
    "input gathered again, the gradient of the scattered output gathered",
)
def chunk_backward_prediction_bytes(
    chunk_prediction_count: Column,
    sequence_parallel: Column,
    prediction_input_all_reduce_bytes: Column,
    prediction_input_all_gather_bytes: Column,
    hidden_all_gather_bytes: Column,
    chunk_prediction_repeated_count: Column,
) -> Column:
    """Return the bytes sent around projections in a chunk's backward, for one microbatch [byte]."""
    scattered = sequence_parallel * (
        2 * prediction_input_all_gather_bytes + hidden_all_gather_bytes
    )
    own = (1 - sequence_parallel) * prediction_input_all_reduce_bytes + scattered
    again = hidden_all_gather_bytes + sequence_parallel * prediction_input_all_gather_bytes
    return chunk_prediction_count * own + chunk_prediction_repeated_count * again


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * ((1 + sequence_parallel) * total(chunk_prediction_count)"
    " + total(chunk_prediction_repeated_count))",
    source=_MEGATRON,
)
def prediction_all_gather_calls(
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    sequence_parallel: Column,
    chunk_prediction_count: Axis,
    chunk_prediction_repeated_count: Axis,
) -> Column:
    """Return the all-gathers of projections' outputs, over a step [count]."""
    calls = as_float(chunk_microbatch_count) * minimum(tensor_parallel_size - 1, 1)
    own = (1 + sequence_parallel) * total(chunk_prediction_count)
    return calls * (own + total(chunk_prediction_repeated_count))


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * (1 - sequence_parallel) * total(chunk_prediction_count)",
    source=_MEGATRON,
)
def prediction_input_all_reduce_calls(
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    sequence_parallel: Column,
    chunk_prediction_count: Axis,
) -> Column:
    """Return the all-reduces of gradients of projections' inputs, over a step [count]."""
    calls = as_float(chunk_microbatch_count) * minimum(tensor_parallel_size - 1, 1)
    return calls * (1 - sequence_parallel) * total(chunk_prediction_count)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (2 * total(chunk_prediction_count)"
    " + total(chunk_prediction_repeated_count))",
    source=_MEGATRON + ": again for the gradient of its weight",
)
def prediction_input_all_gather_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_prediction_count: Axis,
    chunk_prediction_repeated_count: Axis,
) -> Column:
    """Return the all-gathers of projections' inputs, over a step [count]."""
    calls = 2 * total(chunk_prediction_count) + total(chunk_prediction_repeated_count)
    return as_float(chunk_microbatch_count) * sequence_parallel * calls


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * total(chunk_prediction_count)",
    source=_MEGATRON,
)
def prediction_input_reduce_scatter_calls(
    chunk_microbatch_count: Column, sequence_parallel: Column, chunk_prediction_count: Axis
) -> Column:
    """Return the reduce-scatters of gradients of projections' inputs, over a step [count]."""
    return as_float(chunk_microbatch_count) * sequence_parallel * total(chunk_prediction_count)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_pass_s(prediction_input_all_gather_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def prediction_input_all_gather_s(
    prediction_input_all_gather_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time to gather a projection's input, or to scatter its gradient [s]."""
    return ring_pass_s(
        prediction_input_all_gather_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="ring_all_reduce_s(prediction_input_all_reduce_bytes, group_size=tensor_parallel_size,"
    " bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s, latency_s=tensor_latency_s)",
    source=_RING,
)
def prediction_input_all_reduce_s(
    prediction_input_all_reduce_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time to sum the gradient of a projection's input [s]."""
    return ring_all_reduce_s(
        prediction_input_all_reduce_bytes,
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_prediction_count * (hidden_all_gather_s + sequence_parallel * prediction_input_all_gather_s)",
    source=_MEGATRON + ": nothing to hide behind",
)
def chunk_forward_prediction_s(
    chunk_prediction_count: Column,
    hidden_all_gather_s: Column,
    sequence_parallel: Column,
    prediction_input_all_gather_s: Column,
) -> Column:
    """Return the collectives around projections that a chunk's forward waits for [s]."""
    inputs = sequence_parallel * prediction_input_all_gather_s
    return chunk_prediction_count * (hidden_all_gather_s + inputs)


@quantity(
    "s",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.ASSUMED,
    formula="chunk_prediction_count * ((1 - sequence_parallel) * prediction_input_all_reduce_s"
    " + sequence_parallel * (prediction_input_all_gather_s + hidden_all_gather_s))"
    " + chunk_prediction_repeated_count * (hidden_all_gather_s"
    " + sequence_parallel * prediction_input_all_gather_s)",
    source=_MEGATRON + "; the input gathered again hides behind a product",
)
def chunk_backward_prediction_s(
    chunk_prediction_count: Column,
    sequence_parallel: Column,
    prediction_input_all_reduce_s: Column,
    prediction_input_all_gather_s: Column,
    hidden_all_gather_s: Column,
    chunk_prediction_repeated_count: Column,
) -> Column:
    """Return the collectives around projections that a chunk's backward waits for [s]."""
    scattered = sequence_parallel * (prediction_input_all_gather_s + hidden_all_gather_s)
    own = (1 - sequence_parallel) * prediction_input_all_reduce_s + scattered
    again = hidden_all_gather_s + sequence_parallel * prediction_input_all_gather_s
    return chunk_prediction_count * own + chunk_prediction_repeated_count * again


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="maximum(prediction_flop / matmul_flop_per_s, (2 * hidden_size * hidden_size"
    " // tensor_parallel_size * weight_element_bytes + microbatch_tokens * (2 * hidden_size"
    " + hidden_size // tensor_parallel_size) * activation_element_bytes) / memory_bytes_per_s)",
    source="Williams et al. 2009, doi:10.1145/1498765.1498785",
)
def prediction_product_s(
    prediction_flop: Column,
    matmul_flop_per_s: Column,
    hidden_size: Column,
    tensor_parallel_size: Column,
    weight_element_bytes: Column,
    microbatch_tokens: Column,
    activation_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of the projection of one depth, forward, for one microbatch [s]."""
    weights = 2 * hidden_size * hidden_size // tensor_parallel_size * weight_element_bytes
    vectors = microbatch_tokens * (2 * hidden_size + hidden_size // tensor_parallel_size)
    operands = weights + vectors * activation_element_bytes
    return maximum(prediction_flop / matmul_flop_per_s, operands / memory_bytes_per_s)


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="prediction_product_s + 8 * layer_input_bytes / memory_bytes_per_s",
    source="by counting the tensors that each operation reads and writes, once each: two norms, "
    "and their outputs brought beside each other",
)
def prediction_forward_s(
    prediction_product_s: Column, layer_input_bytes: Column, memory_bytes_per_s: Column
) -> Column:
    """Return the time of a depth before its layer, forward, for one microbatch [s]."""
    return prediction_product_s + 8 * layer_input_bytes / memory_bytes_per_s
