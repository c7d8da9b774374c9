"""What makes a plan valid: boolean column functions beside their sentences.

A scenario refuses what breaks a rule; a search masks it. Sizes that divide nothing evenly are
refused rather than rounded.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from costmodels.analysis import evaluate
from costmodels.attention.in_layers import DELTA_CHUNK_LENGTH
from costmodels.attention.layouts import ATTENTION_QUERY_SIZE, LAYOUTS
from costmodels.columns import Axis, Column, largest, maximum, minimum, total, where
from costmodels.compilation import Columns, compile_fields
from costmodels.errors import NotModelledError, SpecError
from costmodels.formats import format_named
from costmodels.leaves import Sections, field_value
from costmodels.number_formats.native import native_accelerators
from costmodels.pipelining.schedules import SCHEDULES
from costmodels.presets import preset_names, preset_table
from costmodels.quantities import Rule, parameters_of
from costmodels.serving import CACHE_ELEMENTS
from costmodels.specs.cluster import Accelerator
from costmodels.specs.layouts import Compressive, Dense, Dilated, DilatedHeads, Layout, type_of
from costmodels.specs.model import Mixture, Model
from costmodels.specs.plan import RankAxis, RecomputeModule, SavedTensors
from costmodels.specs.precision import Adapters, Projection
from costmodels.specs.workload import Optimizer, WorkloadKind

LARGEST_COUNT = 2.0**62
"""Bound of every count for one GPU and microbatch, which are 64-bit integers."""


def ranks_fill_cluster(
    accelerator_count: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return whether replicas of a plan fill the accelerators."""
    ranks = tensor_parallel_size * pipeline_parallel_size * context_parallel_size
    return accelerator_count % ranks == 0


def heads_divide(num_attention_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many query heads."""
    return total([heads % tensor_parallel_size for heads in num_attention_heads]) == 0


def key_value_heads_divide(num_key_value_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every rank has as many key and value heads, or a copy of one."""
    uneven = [
        (heads % tensor_parallel_size) * (tensor_parallel_size % heads)
        for heads in num_key_value_heads
    ]
    return total(uneven) == 0


def memories_are_split(
    segment_length: Axis,
    compression_rate: Axis,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether no memory of Infini-attention, one for each key head, has copies."""
    copied = [
        (segment > 0) * (rate == 0) * (heads < tensor_parallel_size)
        for segment, rate, heads in zip(
            segment_length, compression_rate, num_key_value_heads, strict=True
        )
    ]
    return total(copied) == 0


def state_heads_divide(key_heads: Axis, value_heads: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as many heads of a gated delta rule."""
    uneven = [heads % tensor_parallel_size for heads in (*key_heads, *value_heads)]
    return total(uneven) == 0


def copied_heads_have_own_norms(
    kind_is_training: Column,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
    query_key_norm_is_full: Column,
) -> Column:
    """Return whether ranks that share key and value heads normalize each head alone, in training."""
    shares = total([heads < tensor_parallel_size for heads in num_key_value_heads])
    return kind_is_training * query_key_norm_is_full * shares == 0


def ffn_divides(intermediate_size: Axis, is_mixture: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as much of the feed-forward network."""
    # Experts are another rule's.
    widths = zip(intermediate_size, is_mixture, strict=True)
    return total([(mixture == 0) * (w % tensor_parallel_size) for w, mixture in widths]) == 0


def shared_experts_divide(shared_intermediate_size: Axis, tensor_parallel_size: Column) -> Column:
    """Return whether every tensor-parallel rank has as much of the shared experts."""
    return total([width % tensor_parallel_size for width in shared_intermediate_size]) == 0


def serving_is_in_series(kind_is_training: Column, parallel_residual: Column) -> Column:
    """Return whether the network reads what attention wrote, in inference."""
    return (kind_is_training == 1) + (parallel_residual == 0) > 0


def norms_are_placed(norms_per_layer: Column, parallel_residual: Column) -> Column:
    """Return whether norms are before each half of a layer, or before and after, or one for both."""
    in_series = (parallel_residual == 0) * (norms_per_layer == 4)
    beside = (parallel_residual == 1) * (norms_per_layer == 1)
    return (norms_per_layer == 2) + in_series + beside > 0


def predictions_embed_tokens_alone(
    prediction_count: Column, positions_is_learned: Column, embedding_norm: Column
) -> Column:
    """Return whether layers that predict further tokens look up nothing but tokens."""
    return (prediction_count == 0) + (positions_is_learned + embedding_norm == 0) > 0


def predictions_are_repeated_alone(
    prediction_count: Column, recompute_group_size: Column, recompute_is_full: Column
) -> Column:
    """Return whether layers that predict further tokens are computed again one by one."""
    grouped = recompute_is_full * (recompute_group_size > 1)
    return (prediction_count == 0) + (grouped == 0) > 0


def mlp_has_layers(
    recompute_is_selective: Column, recomputes_mlp: Column, is_mixture: Axis
) -> Column:
    """Return whether a layer has the dense network that is to be computed again."""
    dense = total([1 - mixture for mixture in is_mixture])
    return (recompute_is_selective * recomputes_mlp == 0) + (dense > 0) > 0


def repeated_experts_have_layers(
    recompute_is_selective: Column,
    recomputes_moe: Column,
    recomputes_moe_act: Column,
    is_mixture: Axis,
) -> Column:
    """Return whether a layer has the experts that are to be computed again."""
    asked = recompute_is_selective * (recomputes_moe + recomputes_moe_act)
    return (asked == 0) + (largest(is_mixture) > 0) > 0


def experts_are_repeated_once(
    recompute_is_selective: Column, recomputes_moe: Column, recomputes_moe_act: Column
) -> Column:
    """Return whether the activation function of experts is not computed again twice."""
    return recompute_is_selective * recomputes_moe * recomputes_moe_act == 0


def up_projection_has_layers(
    recompute_is_selective: Column, recomputes_mla_up_proj: Column, key_value_rank: Axis
) -> Column:
    """Return whether a layer has the latent attention whose heads are to be computed again."""
    latent = largest(key_value_rank)
    return (recompute_is_selective * recomputes_mla_up_proj == 0) + (latent > 0) > 0


def up_projection_is_whole(
    recompute_is_selective: Column, recomputes_mla_up_proj: Column, sequence_parallel: Column
) -> Column:
    """Return whether up-projections that are computed again gather nothing."""
    return recompute_is_selective * recomputes_mla_up_proj * sequence_parallel == 0


def repeated_norms_are_apart(
    recompute_is_selective: Column,
    recomputes_layernorm: Column,
    saved_tensors_is_transformer_engine: Column,
    key_value_rank: Axis,
    is_mixture: Axis,
) -> Column:
    """Return whether a layer has a norm that no kernel computes together with a product."""
    asked = recompute_is_selective * recomputes_layernorm * saved_tensors_is_transformer_engine
    return (asked == 0) + (largest(key_value_rank) + largest(is_mixture) > 0) > 0


def repeated_networks_reduce_alone(
    recompute_is_selective: Column,
    recomputes_mlp: Column,
    recomputes_moe: Column,
    parallel_residual: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether a network that is computed again shares no collective with attention."""
    asked = recompute_is_selective * (recomputes_mlp + recomputes_moe)
    return (asked * parallel_residual == 0) + (tensor_parallel_size == 1) > 0


def repeated_modules_are_trained(
    recompute_is_selective: Column,
    weights_are_frozen: Column,
    recomputes_mlp: Column,
    recomputes_moe: Column,
    recomputes_layernorm: Column,
    recomputes_moe_act: Column,
    recomputes_mla_up_proj: Column,
) -> Column:
    """Return whether modules beside the inside of attention are computed again without adapters."""
    networks = recomputes_mlp + recomputes_moe + recomputes_moe_act
    asked = networks + recomputes_layernorm + recomputes_mla_up_proj
    return recompute_is_selective * weights_are_frozen * asked == 0


def predictions_divide(
    prediction_count: Column, hidden_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return whether tensor-parallel ranks share the projections to further tokens evenly."""
    return (prediction_count == 0) + (hidden_size % tensor_parallel_size == 0) > 0


def sequence_parallel_has_group(sequence_parallel: Column, tensor_parallel_size: Column) -> Column:
    """Return whether sequence parallelism has a tensor-parallel group to split over."""
    return (sequence_parallel == 0) + (tensor_parallel_size > 1) > 0


def handovers_have_parts(
    scatter_gather_handovers: Column, tensor_parallel_size: Column, pipeline_parallel_size: Column
) -> Column:
    """Return whether there are hand-overs, and ranks that could each take a part of one."""
    both = (tensor_parallel_size > 1) * (pipeline_parallel_size > 1)
    return (scatter_gather_handovers == 0) + both > 0


def handovers_are_whole(scatter_gather_handovers: Column, sequence_parallel: Column) -> Column:
    """Return whether ranks that are to hand over parts hold more than a part."""
    return scatter_gather_handovers * sequence_parallel == 0


def handovers_divide(
    scatter_gather_handovers: Column,
    microbatch_tokens: Column,
    hidden_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether parts of a hand-over are equal."""
    even = microbatch_tokens * hidden_size % tensor_parallel_size == 0
    return (scatter_gather_handovers == 0) + even > 0


def sequence_divides(
    sequence_parallel: Column,
    sequence_length: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return whether sequence parallelism splits a sequence evenly, or a rank's part of it."""
    ranks = tensor_parallel_size * context_parallel_size
    return (sequence_parallel == 0) + (sequence_length % ranks == 0) > 0


def batch_divides(
    global_batch_size: Column, micro_batch_size: Column, data_parallel_size: Column
) -> Column:
    """Return whether replicas get whole microbatches, at least one."""
    return global_batch_size % (micro_batch_size * np.maximum(data_parallel_size, 1)) == 0


def cast_has_shards(
    cast_on_gather: Column, zero_stage: Column, main_weight_element_bytes: Column
) -> Column:
    """Return whether what is cast as it is gathered is sharded, and kept as main weights."""
    return (cast_on_gather == 0) + (zero_stage >= 3) * (main_weight_element_bytes > 0) > 0


def cast_is_on_accelerator(cast_on_gather: Column, offload_optimizer: Column) -> Column:
    """Return whether main weights that are gathered lie on the accelerator."""
    return (cast_on_gather == 0) + (offload_optimizer == 0) > 0


def offload_has_link(
    kind_is_training: Column, offload_optimizer: Column, stated_host_bytes_per_s: Column
) -> Column:
    """Return whether states on the host have a link whose bandwidth is known."""
    stays = (kind_is_training == 0) + (offload_optimizer == 0)
    return stays + (stated_host_bytes_per_s > 0) > 0


def saved_tensors_have_kernel(
    saved_tensors_is_megatron: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    attention_kernel_is_naive: Column,
) -> Column:
    """Return whether the kernel of attention is the one whose tensors a convention lists."""
    return (
        saved_tensors_is_megatron + (saved_tensors_is_torch_eager_cpu == attention_kernel_is_naive)
        > 0
    )


def saved_tensors_have_format(
    saved_tensors_is_torch_eager_cpu: Column, activation_element_bytes: Column
) -> Column:
    """Return whether plain modules on a CPU compute in fp32, in which their list is proved."""
    return (saved_tensors_is_torch_eager_cpu == 0) + (activation_element_bytes == 4) > 0


def saved_tensors_have_dropout(
    saved_tensors_is_torch_eager_cpu: Column, saved_tensors_is_torch_cuda: Column, dropout: Column
) -> Column:
    """Return whether a model with dropout has a list of tensors that knows its masks."""
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    return plain_torch * dropout == 0


def stages_have_layers(
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    schedule_copies: Column,
    num_hidden_layers: Column,
) -> Column:
    """Return whether every virtual stage gets a layer, the ends counting as one each."""
    stages = pipeline_parallel_size * virtual_stages // schedule_copies
    return (stages == 1) + (stages <= num_hidden_layers + 2) > 0


def positions_suffice(
    positions_is_learned: Column, sequence_length: Column, max_position_embeddings: Column
) -> Column:
    """Return whether a table of learned positions is long enough."""
    return (positions_is_learned == 0) + (sequence_length <= max_position_embeddings) > 0


def experts_suffice(experts_per_token: Axis, expert_count: Axis) -> Column:
    """Return whether a token can visit as many experts as it should."""
    return largest([k - n for k, n in zip(experts_per_token, expert_count, strict=True)]) <= 0


def groups_divide(num_attention_heads: Axis, num_key_value_heads: Axis) -> Column:
    """Return whether query heads share key and value heads evenly."""
    pairs = zip(num_attention_heads, num_key_value_heads, strict=True)
    return total([heads % shared for heads, shared in pairs]) == 0


def context_divides(
    sequence_length: Column,
    context_parallel_size: Column,
    context_parallel_method_is_ulysses: Column,
) -> Column:
    """Return whether every context-parallel rank has as many tokens, and as many pairs of them.

    With a causal mask a rank takes two of 2 c parts, one from each end of the sequence; where heads
    are exchanged, one part.
    """
    parts = where(context_parallel_method_is_ulysses, 1, 2) * context_parallel_size
    return (context_parallel_size == 1) + (sequence_length % parts == 0) > 0


def context_heads_divide(
    num_attention_heads: Axis,
    num_key_value_heads: Axis,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
    context_parallel_method_is_ulysses: Column,
) -> Column:
    """Return whether ranks that exchange heads for tokens get as many heads."""
    ranks = tensor_parallel_size * context_parallel_size
    left = total([heads % ranks for heads in (*num_attention_heads, *num_key_value_heads)])
    return (context_parallel_method_is_ulysses == 0) + (context_parallel_size == 1) + (
        left == 0
    ) > 0


def context_blocks_are_equal(
    context_parallel_size: Column,
    num_attention_heads: Axis,
    num_key_value_heads: Axis,
    attention_query_size: Axis,
    attention_value_size: Axis,
) -> Column:
    """Return whether all layers have queries, keys and values of one size, where they are sent."""
    widths = [
        [heads * size for heads, size in zip(counts, sizes, strict=True)]
        for counts in (num_attention_heads, num_key_value_heads)
        for sizes in (attention_query_size, attention_value_size)
    ]
    uneven = total([largest(kinds) - kind for kinds in widths for kind in kinds])
    return (context_parallel_size == 1) + (uneven == 0) > 0


def experts_share_ranks(
    expert_count: Axis, is_mixture: Axis, expert_parallel_size: Column
) -> Column:
    """Return whether there are experts for the ranks that share them, and as many on each."""
    pairs = zip(expert_count, is_mixture, strict=True)
    uneven = total([mixture * (experts % expert_parallel_size) for experts, mixture in pairs])
    return (expert_parallel_size == 1) + (largest(is_mixture) > 0) * (uneven == 0) > 0


def expert_ranks_fit(
    experts_apart: Column,
    sharding_size: Column,
    tensor_parallel_size: Column,
    expert_tensor_size: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return whether ranks that split and share experts divide those of a sharding group."""
    ranks = sharding_size * tensor_parallel_size
    return (experts_apart == 0) + (ranks % (expert_tensor_size * expert_parallel_size) == 0) > 0


def expert_width_divides(
    expert_intermediate_size: Axis,
    intermediate_size: Axis,
    is_mixture: Axis,
    expert_tensor_size: Column,
) -> Column:
    """Return whether every rank that splits an expert has as much of it."""
    widths = zip(expert_intermediate_size, intermediate_size, is_mixture, strict=True)
    left = [
        mixture * (where(own > 0, own, width) % expert_tensor_size)
        for own, width, mixture in widths
    ]
    return total(left) == 0


def expert_split_has_experts(
    stated_expert_tensor_parallel_size: Column, is_mixture: Axis
) -> Column:
    """Return whether there are experts to split where a number of ranks is stated."""
    return (stated_expert_tensor_parallel_size == 0) + (largest(is_mixture) > 0) > 0


def capacity_has_experts(stated_capacity_factor: Column, is_mixture: Axis) -> Column:
    """Return whether there are experts where a capacity is stated."""
    return (stated_capacity_factor == 0) + (largest(is_mixture) > 0) > 0


def experts_apart_split_tokens(
    experts_apart: Column, tensor_parallel_size: Column, sequence_parallel: Column
) -> Column:
    """Return whether tensor-parallel ranks hold different tokens where experts are apart."""
    return (experts_apart == 0) + (tensor_parallel_size == 1) + (sequence_parallel == 1) > 0


def sharding_group_shards(stated_sharding_group_size: Column, zero_stage: Column) -> Column:
    """Return whether something is sharded where a sharding group is stated."""
    return (stated_sharding_group_size == 0) + (zero_stage >= 1) > 0


def sharding_group_divides(stated_sharding_group_size: Column, reduction_size: Column) -> Column:
    """Return whether a stated sharding group fits the ranks with the same weights."""
    stated = stated_sharding_group_size
    return (stated == 0) + (reduction_size % maximum(stated, 1) == 0) > 0


def serving_keeps_weights_whole(kind_is_training: Column, zero_stage: Column) -> Column:
    """Return whether replicas shard nothing in inference."""
    return (kind_is_training == 1) + (zero_stage == 0) > 0


def serving_has_one_chunk(kind_is_training: Column, virtual_stages: Column) -> Column:
    """Return whether a rank has one chunk of layers in inference."""
    return (kind_is_training == 1) + (virtual_stages == 1) > 0


def serving_keeps_sequences_whole(kind_is_training: Column, sequence_parallel: Column) -> Column:
    """Return whether activations of inference are not split along the sequence."""
    return (kind_is_training == 1) + (sequence_parallel == 0) > 0


def serving_keeps_contexts_whole(kind_is_training: Column, context_parallel_size: Column) -> Column:
    """Return whether sequences of inference stay on one rank."""
    return (kind_is_training == 1) + (context_parallel_size == 1) > 0


def serving_keeps_experts_whole(kind_is_training: Column, experts_apart: Column) -> Column:
    """Return whether inference has all experts on every rank."""
    return (kind_is_training == 1) + (experts_apart == 0) > 0


def serving_drops_no_token(kind_is_training: Column, stated_capacity_factor: Column) -> Column:
    """Return whether experts of inference take all tokens that choose them."""
    return (kind_is_training == 1) + (stated_capacity_factor == 0) > 0


def serving_is_fused(kind_is_training: Column, attention_kernel_is_flash: Column) -> Column:
    """Return whether inference computes attention in tiles."""
    return (kind_is_training == 1) + (attention_kernel_is_flash == 1) > 0


def layers_match(
    stated_stage_count: Column,
    stated_layer_count: Column,
    pipeline_parallel_size: Column,
    virtual_stages: Column,
    schedule_copies: Column,
    num_hidden_layers: Column,
) -> Column:
    """Return whether stated layers are those of the model, one number for each virtual stage."""
    stages = pipeline_parallel_size * virtual_stages // schedule_copies
    fit = (stated_stage_count == stages) * (stated_layer_count == num_hidden_layers)
    return (stated_stage_count == 0) + fit > 0


def replicas_match(stated_data_parallel_size: Column, data_parallel_size: Column) -> Column:
    """Return whether stated replicas are those that the accelerators make."""
    stated = stated_data_parallel_size
    return (stated == 0) + (stated == data_parallel_size) > 0


def _branches(dilation_rates: Axis) -> Column:
    """Return the most branches of a layer's dilated attention, one for other layouts [count]."""
    return largest([1.0, *[1.0 * len(rates) for rates in dilation_rates]])


def _state_elements(
    num_attention_heads: Axis,
    attention_query_size: Axis,
    segment_length: Axis,
    block_length: Axis,
    scan_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
) -> Column:
    """Return a bound of a layer's state, zero where no layer has one in chunks [element]."""
    softmax = [
        1.0 * minimum(segment + block + scan, 1) * heads * size * (size + 1)
        for heads, size, segment, block, scan in zip(
            num_attention_heads,
            attention_query_size,
            segment_length,
            block_length,
            scan_length,
            strict=True,
        )
    ]
    delta = [
        1.0 * heads * key * value
        for heads, key, value in zip(value_heads, key_head_size, value_head_size, strict=True)
    ]
    return largest([*softmax, *delta])


def _sums(*sizes: Axis) -> list[Column]:
    """Return the sum of some sizes for each kind of layer."""
    return [total([1.0 * size for size in each]) for each in zip(*sizes, strict=True)]


def _keys_of_query(
    sequence_length: Column,
    attention_kernel_is_flash: Column,
    *,
    masked: Axis,
    own: Axis,
    gathered: Axis,
) -> Column:
    """Return the most keys whose scores a query computes in any layer [count].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    attention_kernel_is_flash : Column
        Whether masked blocks are skipped.
    masked : Axis
        Keys of layouts that a naive kernel computes in the whole square: windows and chunks, by kind
        of layer, zero for others [token].
    own : Axis
        Keys of layouts that have a segment or a chunk of their own, zero for others [token].
    gathered : Axis
        Keys that are gathered for each query, more than there are tokens perhaps [token].
    """
    found = []
    for near, inside, apart in zip(masked, own, gathered, strict=True):
        local = 1.0 * near + inside + apart
        few = minimum(local, maximum(sequence_length, 1.0 * apart))
        skipped = where(attention_kernel_is_flash, few, 1.0 * sequence_length)
        some = where(near > 0, skipped, few)
        found.append(where(local > 0, some, 1.0 * sequence_length))
    return largest(found)


def _seen_again(segment_length: Axis, memory_tokens: Axis, compressed_tokens: Axis) -> Column:
    """Return the most states of memories that a token's segment projects, for each token [count]."""
    return largest(
        [
            (plain + squeezed) / maximum(segment, 1.0)
            for segment, plain, squeezed in zip(
                segment_length, memory_tokens, compressed_tokens, strict=True
            )
        ]
    )


def counts_fit(
    microbatch_tokens: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    attention_kernel_is_flash: Column,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    layer_intermediate_size: Axis,
    shared_intermediate_size: Axis,
    expert_count: Axis,
    experts_per_token: Axis,
    position_parameters: Column,
    segment_length: Axis,
    block_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
    dilation_rates: Axis,
    scan_length: Axis,
    keys_per_query: Axis,
    memory_tokens: Axis,
    compressed_tokens: Axis,
    compression_rate: Axis,
    window: Axis,
    sink_tokens: Axis,
    chunk_length: Axis,
    segment_lengths: Axis,
    kind_is_decode: Column,
    kind_is_training: Column,
    replica_sequence_count: Column,
) -> Column:
    """Return whether every count for one GPU and microbatch stays below 2^62.

    Notes
    -----
    The largest counts are products before they are divided among tensor-parallel ranks, and sums
    over the layers of a GPU: at most twenty times a layer's multiply-adds, sixteen bytes of state
    for each parameter, eight bytes for each score of a naive kernel. A query computes scores with
    the keys of its window, chunk or segments, padded ones counted twice; a step of decode has one
    token of each sequence, whose keys and values take less than 64 bytes an element of the heads. A
    state for each token bounds one for each chunk. A compressor multiplies each token at most once
    on every rank, and memories at most what their segments see.
    """
    tokens = 1.0 * where(kind_is_decode, replica_sequence_count, microbatch_tokens)
    heads = _branches(dilation_rates) * largest(
        [1.0 * a * d for a, d in zip(num_attention_heads, attention_query_size, strict=True)]
    )
    states = _state_elements(
        num_attention_heads,
        attention_query_size,
        segment_length,
        block_length,
        scan_length,
        value_heads,
        key_head_size,
        value_head_size,
    )
    active = largest(
        [1.0 * f * k for f, k in zip(layer_intermediate_size, experts_per_token, strict=True)]
    ) + largest(shared_intermediate_size)
    held = largest(
        [1.0 * f * e for f, e in zip(layer_intermediate_size, expert_count, strict=True)]
    ) + largest(shared_intermediate_size)
    # A scan token by token has as much work as one in chunks of one token.
    widest = [
        1.0 * a * d * (d + 1)
        for a, d in zip(num_attention_heads, attention_query_size, strict=True)
    ]
    states = maximum(states, largest(widest))
    rate = largest([1.0 * each for each in compression_rate])
    squeezed = minimum(rate, 1.0) * hidden_size * hidden_size
    again = _seen_again(segment_length, memory_tokens, compressed_tokens)
    keys = _keys_of_query(
        sequence_length,
        attention_kernel_is_flash,
        masked=_sums(window, sink_tokens, chunk_length),
        own=_sums(
            segment_length,
            memory_tokens,
            compressed_tokens,
            block_length,
            scan_length,
            [2.0 * total([0, *lengths]) for lengths in segment_lengths],
            [DELTA_CHUNK_LENGTH * minimum(heads, 1) for heads in value_heads],
        ),
        gathered=keys_per_query,
    )
    scores = tokens * where(kind_is_decode, 1.0, keys)
    kept = where(attention_kernel_is_flash, 0.0, 8.0 * scores * largest(num_attention_heads))
    kept = kept * _branches(dilation_rates)
    products = hidden_size * (4.0 * heads * (1.0 + again) + 3.0 * active) + states
    products = products + squeezed * tensor_parallel_size
    layer = 20.0 * (tokens * products + scores * heads) + kept
    layers = num_hidden_layers / pipeline_parallel_size + 2.0
    ends = 8.0 * (tokens + 16.0) * hidden_size * vocabulary_size
    state = 16.0 * (
        hidden_size * (4.0 * heads + 3.0 * held) + position_parameters + rate * squeezed
    )
    caches = 64.0 * (1 - kind_is_training) * replica_sequence_count * sequence_length * heads
    layer = layer + caches
    shared = layer * maximum(layers / tensor_parallel_size, 1.0)
    return shared + ends + state * maximum(layers, 1.0) < LARGEST_COUNT


def step_counts_fit(
    global_batch_size: Column,
    microbatch_count: Column,
    microbatch_tokens: Column,
    sequence_length: Column,
    num_hidden_layers: Column,
    hidden_size: Column,
    vocabulary_size: Column,
    attention_kernel_is_flash: Column,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    layer_intermediate_size: Axis,
    shared_intermediate_size: Axis,
    experts_per_token: Axis,
    expert_count: Axis,
    segment_length: Axis,
    block_length: Axis,
    value_heads: Axis,
    key_head_size: Axis,
    value_head_size: Axis,
    dilation_rates: Axis,
    scan_length: Axis,
    keys_per_query: Axis,
    memory_tokens: Axis,
    compressed_tokens: Axis,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether tokens of a step, and activations of all its microbatches, stay below 2^62.

    Notes
    -----
    GPipe keeps the activations of every microbatch. A token keeps at most twenty bytes for each
    element of a layer's activation, eight for each score of a naive kernel, and its logits.
    """
    branches = _branches(dilation_rates)
    states = _state_elements(
        num_attention_heads,
        attention_query_size,
        segment_length,
        block_length,
        scan_length,
        value_heads,
        key_head_size,
        value_head_size,
    )
    heads = branches * largest(
        [1.0 * a * d for a, d in zip(num_attention_heads, attention_query_size, strict=True)]
    )
    active = largest(
        [1.0 * f * k for f, k in zip(layer_intermediate_size, experts_per_token, strict=True)]
    ) + largest(shared_intermediate_size)
    routed = hidden_size * largest([1.0 * k for k in experts_per_token]) + largest(expert_count)
    scores = where(
        attention_kernel_is_flash, 0.0, 1.0 * sequence_length * largest(num_attention_heads)
    )
    elements = 5.0 * hidden_size + 4.0 * heads + 3.0 * active + 2.0 * routed
    again = _seen_again(segment_length, memory_tokens, compressed_tokens)
    gathered = largest([1.0 * keys for keys in keys_per_query])
    beside = heads * (again + gathered) + hidden_size * again * tensor_parallel_size
    elements = elements + scores * branches + states + beside
    token_bytes = 20.0 * (num_hidden_layers * elements + vocabulary_size)
    kept = 1.0 * microbatch_count * microbatch_tokens * token_bytes
    return maximum(kept, 1.0 * global_batch_size * sequence_length) < LARGEST_COUNT


_TENSOR = "plan.tensor_parallel_size"

RULES = (
    Rule(
        field="model.num_attention_heads",
        function=groups_divide,
        requirement="must be a multiple of model.num_key_value_heads ({num_key_value_heads})",
    ),
    Rule(
        field="model.mixture.experts_per_token",
        function=experts_suffice,
        requirement="must be at most model.mixture.expert_count ({expert_count})",
    ),
    Rule(
        field="workload.sequence_length",
        function=counts_fit,
        requirement="counts for one GPU and microbatch must stay below 2^62: shorten the "
        "sequence, lower plan.micro_batch_size (microbatches of {microbatch_tokens} tokens), or "
        "split the model over more ranks",
    ),
    Rule(
        field="workload.global_batch_size",
        function=step_counts_fit,
        requirement="tokens of a step, and bytes of the activations of all its microbatches, must "
        "stay below 2^62: lower the batch or workload.sequence_length ({sequence_length})",
    ),
    Rule(
        field="model.parallel_residual",
        function=serving_is_in_series,
        requirement="attention and feed-forward network side by side are not modelled in inference "
        "yet; parameters are counted (shardwise show model)",
        modelled=False,
    ),
    Rule(
        field="model.norms_per_layer",
        function=norms_are_placed,
        requirement="must be 2 (before each half of a layer), 4 (before and after, "
        "model.parallel_residual=false) or 1 (for both halves, model.parallel_residual=true)",
    ),
    Rule(
        field="model.multi_token_prediction_layers",
        function=predictions_embed_tokens_alone,
        requirement="further tokens are not modelled with model.positions=learned or "
        "model.embedding_norm=true; set model.multi_token_prediction_layers=0",
        modelled=False,
    ),
    Rule(
        field="plan.zero_stage",
        function=serving_keeps_weights_whole,
        requirement="inference with sharded weights is not modelled; use 0, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.virtual_stages",
        function=serving_has_one_chunk,
        requirement="inference with several chunks of layers on a rank is not modelled; use 1, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.sequence_parallel",
        function=serving_keeps_sequences_whole,
        requirement="inference with sequence parallelism is not modelled; use false, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.context_parallel_size",
        function=serving_keeps_contexts_whole,
        requirement="inference with shared sequences is not modelled yet; use 1, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.expert_parallel_size",
        function=serving_keeps_experts_whole,
        requirement="inference with experts apart from other matrices is not modelled yet; use 1, "
        "and leave plan.expert_tensor_parallel_size out, or workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.expert_capacity_factor",
        function=serving_drops_no_token,
        requirement="inference with a capacity of experts is not modelled yet; leave it out, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.attention_kernel",
        function=serving_is_fused,
        requirement="inference is modelled with a fused kernel only; use flash, or "
        "workload.kind=training",
        modelled=False,
    ),
    Rule(
        field="plan.context_parallel_size",
        function=context_blocks_are_equal,
        requirement="layers whose queries, keys or values differ in size are not modelled yet with "
        "context parallelism; use 1",
        modelled=False,
    ),
    Rule(
        field="cluster.accelerator_count",
        function=ranks_fill_cluster,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) x "
        "plan.pipeline_parallel_size ({pipeline_parallel_size}) x plan.context_parallel_size "
        "({context_parallel_size})",
    ),
    Rule(
        field="plan.data_parallel_size",
        function=replicas_match,
        requirement="must be {data_parallel_size} = cluster.accelerator_count / "
        "(plan.tensor_parallel_size x plan.pipeline_parallel_size x plan.context_parallel_size); "
        "leave it out to derive it",
    ),
    Rule(
        field="plan.layers_per_stage",
        function=layers_match,
        requirement="must have plan.pipeline_parallel_size ({pipeline_parallel_size}) x "
        "plan.virtual_stages ({virtual_stages}) members that sum to model.num_hidden_layers "
        "({num_hidden_layers}); half as many where plan.schedule has two copies of the layers",
    ),
    Rule(
        field="model.num_attention_heads",
        function=heads_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="model.layouts",
        function=state_heads_divide,
        requirement="key_heads and value_heads of a gated delta rule must be multiples of "
        "plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="model.num_key_value_heads",
        function=key_value_heads_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}), or a "
        "divisor, so that as many ranks have a copy of each; other ranks are not modelled yet",
        modelled=False,
    ),
    Rule(
        field="model.query_key_norm",
        function=copied_heads_have_own_norms,
        requirement="one weight over the keys of all heads is not modelled where ranks "
        "(plan.tensor_parallel_size, {tensor_parallel_size}) share key and value heads "
        "({num_key_value_heads})",
        modelled=False,
    ),
    Rule(
        field="plan.tensor_parallel_size",
        function=memories_are_split,
        requirement="must be at most model.num_key_value_heads ({num_key_value_heads}) with "
        "Infini-attention (model.layouts): its memory is one for each key head, and work on copies of "
        "it is not modelled yet",
        modelled=False,
    ),
    Rule(
        field="model.intermediate_size",
        function=ffn_divides,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="plan.recompute_num_layers",
        function=predictions_are_repeated_alone,
        requirement="groups of layers must be of 1 where further tokens are predicted, as Megatron-LM asks "
        "(model.multi_token_prediction_layers)",
    ),
    Rule(
        field="plan.recompute_modules",
        function=mlp_has_layers,
        requirement="mlp is the network of a layer without experts, and every layer has experts: "
        "name moe",
    ),
    Rule(
        field="plan.recompute_modules",
        function=repeated_experts_have_layers,
        requirement="moe and moe_act are of layers with experts, and the model has no "
        "model.mixture: name mlp",
    ),
    Rule(
        field="plan.recompute_modules",
        function=experts_are_repeated_once,
        requirement="moe computes the activation function of experts again too: leave out moe_act",
    ),
    Rule(
        field="plan.recompute_modules",
        function=up_projection_has_layers,
        requirement="mla_up_proj is of latent attention, which no layer has (model.layouts)",
    ),
    Rule(
        field="plan.recompute_modules",
        function=up_projection_is_whole,
        requirement="mla_up_proj is not modelled yet with plan.sequence_parallel=true, where "
        "compressed vectors are gathered again",
        modelled=False,
    ),
    Rule(
        field="plan.recompute_modules",
        function=repeated_norms_are_apart,
        requirement="layernorm: with plan.saved_tensors=transformer-engine norms are computed "
        "together with the product behind them, but before latent attention and experts; the model has "
        "neither",
    ),
    Rule(
        field="plan.recompute_modules",
        function=repeated_networks_reduce_alone,
        requirement="mlp and moe are not modelled yet with model.parallel_residual=true and "
        "plan.tensor_parallel_size ({tensor_parallel_size}) above 1, where attention and network "
        "are summed together",
        modelled=False,
    ),
    Rule(
        field="plan.recompute_modules",
        function=repeated_modules_are_trained,
        requirement="modules beside core_attn are not modelled yet with precision.adapters",
        modelled=False,
    ),
    Rule(
        field="model.hidden_size",
        function=predictions_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) "
        "where further tokens are predicted (model.multi_token_prediction_layers)",
    ),
    Rule(
        field="model.mixture.shared_intermediate_size",
        function=shared_experts_divide,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="plan.sequence_parallel",
        function=sequence_parallel_has_group,
        requirement="splits over the tensor-parallel group: plan.tensor_parallel_size "
        "({tensor_parallel_size}) must be at least 2",
    ),
    Rule(
        field="plan.scatter_gather_handovers",
        function=handovers_have_parts,
        requirement="needs stages that hand over to each other, and ranks that take a part each: "
        "plan.pipeline_parallel_size ({pipeline_parallel_size}) and plan.tensor_parallel_size "
        "({tensor_parallel_size}) must be at least 2",
    ),
    Rule(
        field="plan.scatter_gather_handovers",
        function=handovers_are_whole,
        requirement="changes nothing with plan.sequence_parallel=true: each tensor-parallel rank "
        "holds, and hands over, its part of the sequence already; leave one of them out",
    ),
    Rule(
        field="plan.scatter_gather_handovers",
        function=handovers_divide,
        requirement="cuts an activation into equal parts: tokens of a microbatch "
        "({microbatch_tokens}) x model.hidden_size ({hidden_size}) must be a multiple of "
        "plan.tensor_parallel_size ({tensor_parallel_size})",
    ),
    Rule(
        field="workload.sequence_length",
        function=sequence_divides,
        requirement="must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) x "
        "plan.context_parallel_size ({context_parallel_size}) with sequence parallelism",
    ),
    Rule(
        field="workload.sequence_length",
        function=context_divides,
        requirement="must be a multiple of 2 x plan.context_parallel_size "
        "({context_parallel_size}), of it alone with plan.context_parallel_method=ulysses",
    ),
    Rule(
        field="plan.context_parallel_size",
        function=context_heads_divide,
        requirement="exchanges heads (plan.context_parallel_method=ulysses): times "
        "plan.tensor_parallel_size ({tensor_parallel_size}) it must divide "
        "model.num_attention_heads ({num_attention_heads}) and model.num_key_value_heads "
        "({num_key_value_heads})",
    ),
    Rule(
        field="plan.expert_parallel_size",
        function=experts_share_ranks,
        requirement="must divide model.mixture.expert_count ({expert_count}); 1 without experts",
    ),
    Rule(
        field="plan.expert_tensor_parallel_size",
        function=expert_split_has_experts,
        requirement="splits experts: the model needs a mixture; leave it out",
    ),
    Rule(
        field="plan.expert_capacity_factor",
        function=capacity_has_experts,
        requirement="bounds the tokens of experts: the model needs a mixture; leave it out",
    ),
    Rule(
        field="plan.expert_tensor_parallel_size",
        function=expert_width_divides,
        requirement="must divide model.mixture.expert_intermediate_size "
        "({expert_intermediate_size}, zero for model.intermediate_size, {intermediate_size}); left out, it is "
        "plan.tensor_parallel_size ({expert_tensor_size})",
    ),
    Rule(
        field="plan.expert_parallel_size",
        function=experts_apart_split_tokens,
        requirement="sends tokens from parts of a sequence: with plan.tensor_parallel_size "
        "({tensor_parallel_size}) above 1 it needs plan.sequence_parallel=true, as another "
        "plan.expert_tensor_parallel_size does",
    ),
    Rule(
        field="plan.sharding_group_size",
        function=sharding_group_shards,
        requirement="shards nothing with plan.zero_stage={zero_stage}: set plan.zero_stage to at "
        "least 1, or leave it out",
    ),
    Rule(
        field="plan.sharding_group_size",
        function=sharding_group_divides,
        requirement="must divide the {reduction_size} data- and context-parallel ranks",
    ),
    Rule(
        field="plan.expert_parallel_size",
        function=expert_ranks_fit,
        requirement="times plan.expert_tensor_parallel_size ({expert_tensor_size}) must divide "
        "plan.tensor_parallel_size ({tensor_parallel_size}) x the {sharding_size} ranks over which "
        "states are sharded",
    ),
    Rule(
        field="workload.sequence_length",
        function=positions_suffice,
        requirement="must be at most model.max_position_embeddings ({max_position_embeddings}) "
        "with learned positions",
    ),
    Rule(
        field="workload.global_batch_size",
        function=batch_divides,
        requirement="must be a multiple of plan.micro_batch_size ({micro_batch_size}) x the "
        "{data_parallel_size} replicas that cluster.accelerator_count and the other parallel "
        "sizes leave",
    ),
    Rule(
        field="plan.cast_on_gather",
        function=cast_has_shards,
        requirement="makes weights of sharded main weights: it needs plan.zero_stage=3 (not "
        "{zero_stage}) and precision.main_weights, as precision=bf16-mixed has",
    ),
    Rule(
        field="plan.cast_on_gather",
        function=cast_is_on_accelerator,
        requirement="gathers from main weights on the host with plan.offload_optimizer=true, which "
        "is not modelled; leave one of them out",
        modelled=False,
    ),
    Rule(
        field="plan.offload_optimizer",
        function=offload_has_link,
        requirement="needs the bandwidth between an accelerator and its host, which no preset states: "
        "set cluster.host_bandwidth_bytes_per_s",
    ),
    Rule(
        field="plan.saved_tensors",
        function=saved_tensors_have_kernel,
        requirement="torch-eager-cpu keeps the scores of plan.attention_kernel=naive, torch-cuda "
        "and transformer-engine what plan.attention_kernel=flash keeps; megatron lists both",
    ),
    Rule(
        field="plan.saved_tensors",
        function=saved_tensors_have_format,
        requirement="what plain modules keep on a CPU is modelled for activations of 4 bytes only "
        "(not {activation_element_bytes}): set precision.activations=fp32, or use megatron",
        modelled=False,
    ),
    Rule(
        field="plan.saved_tensors",
        function=saved_tensors_have_dropout,
        requirement="masks of model.dropout are modelled for megatron and transformer-engine only",
        modelled=False,
    ),
    Rule(
        field="plan.pipeline_parallel_size",
        function=stages_have_layers,
        requirement="times plan.virtual_stages ({virtual_stages}) must be at most "
        "model.num_hidden_layers ({num_hidden_layers}) + 2, the ends counting as one layer each; "
        "half of it where plan.schedule has two copies of the layers",
    ),
)
"""Every rule, in the order in which a scenario is checked; rules that depend on a schedule apart."""


def check(sections: Sections) -> None:
    """Raise unless the descriptions go together.

    Raises
    ------
    SpecError
        Naming the field, its value and what would be valid.
    NotModelledError
        If they are legal but have no model yet.
    """
    _check_lists(sections)
    columns = compile_fields(sections)
    for rule in RULES:
        if not bool(np.all(_holds(rule, columns))):
            error = SpecError if rule.modelled else NotModelledError
            raise error(_sentence(rule, sections, columns))
    _check_schedule(sections, columns)


def valid(columns: Columns) -> Column:
    """Return whether each row of some columns obeys every rule, its schedule's included."""
    needed = {name for rule in RULES for name in parameters_of(rule.function)}
    values = evaluate(columns, sorted(needed))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        holds = [
            rule.function(**{name: values[name] for name in parameters_of(rule.function)})
            for rule in RULES
        ]
        holds.append(_schedule_is_legal(columns))
    result: Any = np.ones(columns.row_count, dtype=bool)
    for column in holds:
        result = np.logical_and(result, column)
    return result


def _holds(rule: Rule, columns: Columns) -> Column:
    return rule.function(**evaluate(columns, parameters_of(rule.function)))


def _schedule_is_legal(columns: Columns) -> Column:
    names = ("pipeline_parallel_size", "virtual_stages", "microbatch_count")
    return SCHEDULES[_schedule_name(columns)].legal(**evaluate(columns, names))


def _schedule_name(columns: Columns) -> Any:
    return next(name for name in SCHEDULES if name == columns.schedule)


def _shown(name: str, columns: Columns) -> str:
    value = evaluate(columns, (name,))[name]
    if isinstance(value, tuple):
        value = largest(value)
    return str(np.asarray(value).reshape(-1)[0])


def _sentence(rule: Rule, sections: Sections, columns: Columns) -> str:
    named = [name for name in parameters_of(rule.function) if f"{{{name}}}" in rule.requirement]
    inputs = {name: _shown(name, columns) for name in named}
    value = field_value(sections, rule.field)
    text = getattr(value, "value", value)
    if isinstance(value, tuple):
        text = [getattr(member, "value", member) for member in value]
    return f"{rule.field} ({text}): {rule.requirement.format(**inputs)}"


def _check_lists(sections: Sections) -> None:
    order = sections.plan.rank_order
    if sorted(order) != sorted(RankAxis):
        raise SpecError(
            f"plan.rank_order ({[axis.value for axis in order]}): must name each of tensor, "
            "context, data and pipeline once"
        )
    _check_modules(sections)
    check_model(sections.model)
    _check_layouts(sections)
    _check_shared_sequences(sections)
    _check_saved_tensors(sections)
    _check_storage(sections)


def _check_modules(sections: Sections) -> None:
    """Raise unless modules to compute again are named, each once."""
    named = sections.plan.recompute_modules
    if not named or len(set(named)) < len(named):
        raise SpecError(
            f"plan.recompute_modules ({[module.value for module in named]}): must name some of "
            f"{', '.join(RecomputeModule)}, each once"
        )


def _check_storage(sections: Sections) -> None:
    """Raise if weights are stored in few bits in two ways, or trained so."""
    _check_cache(sections)
    _check_units(sections)
    quantization, stored = sections.precision.quantization, sections.precision.stored_weights
    trains = sections.workload.kind is WorkloadKind.TRAINING
    if quantization is not None and trains:
        raise NotModelledError(
            f"precision.quantization ({quantization.weight_format}): training on quantized weights "
            "is not modelled yet; leave it out, choose a recipe such as precision = bf16-mixed, or "
            "set workload.kind to prefill or decode"
        )
    if quantization is not None and stored is not None:
        raise SpecError(
            f"precision.stored_weights ({stored}): precision.quantization states how weights are "
            "stored, too; leave one of them out"
        )
    if stored is not None and trains and sections.precision.adapters is None:
        raise NotModelledError(
            f"precision.stored_weights ({stored}): weights in few bits are not trained themselves; "
            "state precision.adapters, leave it out, or set workload.kind to prefill or decode"
        )
    if trains and sections.precision.adapters is not None:
        _check_adapters(sections, sections.precision.adapters)


def _check_units(sections: Sections) -> None:
    """Raise if products of blocks with scales are asked of an accelerator that has no units for them."""
    compute, accelerator = sections.precision.compute, sections.cluster.accelerator
    units = format_named(compute).units
    if units is not None and not _has_units(accelerator, units):
        raise NotModelledError(
            f"precision.compute ({compute}): {accelerator.name} has no units that scale the blocks of "
            f"its inputs; use fp8_e4m3fn where it has a peak for fp8, or bf16. Presets with them: "
            f"{', '.join(native_accelerators(units))}"
        )


def _has_units(accelerator: Accelerator, units: str) -> bool:
    """Return whether an accelerator scales blocks: as a list of presets says, else by its peaks."""
    native = {_accelerator_name(name) for name in native_accelerators(units)}
    known = {_accelerator_name(name) for name in preset_names("accelerator")}
    if accelerator.name in known:
        return accelerator.name in native
    return bool({"fp4", "fp6"} & set(accelerator.peak_flop_per_s))


@lru_cache(maxsize=256)
def _accelerator_name(preset: str) -> str:
    """Return the name in the description of an accelerator's preset."""
    return str(preset_table("accelerator", preset)["name"])


_BY_TOKEN = ("dense", "sliding", "chunked", "latent", "gated-delta", "lightning")
"""Layouts that cache whole tokens, or states in formats of their own."""


def _check_cache(sections: Sections) -> None:
    """Raise if keys and values that are cached in another way are packed or have scales."""
    precision = sections.precision
    others = sorted({type_of(layout) for layout in sections.model.layouts} - set(_BY_TOKEN))
    is_packed = precision.kv_cache is not None and format_named(precision.kv_cache).packed_count > 1
    if sections.workload.kind is WorkloadKind.TRAINING or not others:
        return
    for field, value, states in (
        ("kv_cache", precision.kv_cache, is_packed),
        ("kv_cache_group_size", precision.kv_cache_group_size, precision.kv_cache_group_size > 0),
    ):
        if states:
            raise NotModelledError(
                f"precision.{field} ({value}): packed or grouped caches of {', '.join(others)} "
                "attention are not modelled yet; modelled: " + ", ".join(_BY_TOKEN)
            )


_ADAPTED = ("dense", "sliding", "chunked")
"""Layouts whose projections are query, key, value and output."""


def _check_adapters(sections: Sections, adapters: Adapters) -> None:
    """Raise unless training of adapters on this model and with this plan is modelled."""
    model, plan, targets = sections.model, sections.plan, set(adapters.targets)
    named = ", ".join(target.value for target in adapters.targets)
    if Projection.GATE in targets and not model.gated:
        raise SpecError(
            f"precision.adapters.targets ({named}): the feed-forward network of {model.name} has no "
            "gate (model.gated is false); leave gate out"
        )
    others = sorted({type_of(layout) for layout in model.layouts} - set(_ADAPTED))
    sharded = plan.zero_stage >= 3 and sections.precision.stored_weights is not None
    unknown = {
        f"model.layouts ({', '.join(others)})": bool(others),
        "model.mixture": model.mixture is not None,
        f"model.multi_token_prediction_layers ({model.multi_token_prediction_layers})": (
            model.multi_token_prediction_layers > 0
        ),
        f"plan.tensor_parallel_size ({plan.tensor_parallel_size})": plan.tensor_parallel_size > 1,
        f"plan.saved_tensors ({plan.saved_tensors.value})": (
            plan.saved_tensors is SavedTensors.TRANSFORMER_ENGINE
        ),
        "plan.cast_on_gather (True)": plan.cast_on_gather,
        f"plan.zero_stage ({plan.zero_stage}) with precision.stored_weights": sharded,
    }
    for field, states in unknown.items():
        if states:
            raise NotModelledError(
                f"{field}: is not modelled yet with precision.adapters ({named}), which are modelled "
                "for dense, sliding and chunked attention without experts or further tokens, and with "
                "plan.tensor_parallel_size=1"
            )


def _check_branches(layout: Dilated | DilatedHeads) -> None:
    lengths, rates = layout.segment_lengths, layout.dilation_rates
    if len(lengths) != len(rates):
        raise SpecError(
            f"model.layouts ({type_of(layout)}, {len(lengths)} segment_lengths): must have as many "
            f"dilation_rates ({len(rates)})"
        )


def _check_dilations(model: Model, layout: DilatedHeads) -> None:
    """Raise unless keys are chosen in one way, and every dilation has as many heads."""
    keys, shares = layout.keys_per_query, len(layout.dilation_rates)
    if layout.segment_lengths:
        _check_branches(layout)
        if keys:
            raise SpecError(
                f"model.layouts (dilated-heads, keys_per_query {keys}): segment_lengths choose the "
                "keys already; leave one of them out"
            )
    elif not keys:
        raise SpecError(
            "model.layouts (dilated-heads, keys_per_query 0): must be at least 1 without "
            "segment_lengths"
        )
    elif layout.every_residue:
        raise SpecError("model.layouts (dilated-heads, every_residue true): needs segment_lengths")
    for field in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(model, field)
        if heads % shares:
            raise NotModelledError(
                f"model.layouts (dilated-heads, {shares} dilation_rates): model.{field} ({heads}) "
                "must be a multiple; other shares of heads are not modelled in a model's layers, see "
                "shardwise attention"
            )


def _check_compression(layout: Compressive) -> None:
    segment = layout.segment_length
    if segment % layout.compression_rate:
        raise SpecError(
            f"model.layouts (compressive, compression_rate {layout.compression_rate}): must divide "
            f"segment_length ({segment})"
        )
    if layout.memory_tokens % segment:
        raise SpecError(
            f"model.layouts (compressive, memory_tokens {layout.memory_tokens}): must be a multiple "
            f"of segment_length ({segment})"
        )


def check_model(model: Model) -> None:
    """Raise unless a model's layers are described without contradiction.

    Raises
    ------
    SpecError
        Naming the field, its value and what would be valid.
    """
    layers = model.num_hidden_layers
    if len(model.layouts) > layers:
        raise SpecError(
            f"model.layouts ({len(model.layouts)} members): must be at most "
            f"model.num_hidden_layers ({layers})"
        )
    for layout in model.layouts:
        _check_layout(model, layout)
    if model.mixture is not None:
        _check_mixture(model, model.mixture)


def _check_layout(model: Model, layout: Layout) -> None:
    if isinstance(layout, Dilated):
        _check_branches(layout)
    if isinstance(layout, DilatedHeads):
        _check_dilations(model, layout)
    if isinstance(layout, Compressive):
        _check_compression(layout)


def _check_mixture(model: Model, mixture: Mixture) -> None:
    if mixture.shared_gate and not mixture.shared_intermediate_size:
        raise SpecError(
            "model.mixture.shared_gate (True): weighs shared experts, so "
            "model.mixture.shared_intermediate_size (0) must be above 0"
        )
    dense, layers = mixture.dense_layers, model.num_hidden_layers
    for index in dense:
        if index >= layers:
            raise SpecError(
                f"model.mixture.dense_layers ({index}): must be below model.num_hidden_layers "
                f"({layers}); layers are counted from zero"
            )
    if len(set(dense)) != len(dense) or len(dense) == layers:
        raise SpecError(
            f"model.mixture.dense_layers ({len(dense)} members): must name each layer once, and "
            "leave some to experts"
        )


CACHED = tuple(name for name in CACHE_ELEMENTS.variants if name in ATTENTION_QUERY_SIZE.variants)
"""The layouts whose memory in inference is modelled."""


def _check_cached(model: Model) -> None:
    """Raise unless it is known what every layer caches."""
    for layout in model.layouts:
        tag = type_of(layout)
        if tag not in CACHED:
            raise NotModelledError(
                f"model.layouts ({tag}): what {tag} attention caches in inference is not modelled; "
                f"modelled: {', '.join(CACHED)}"
            )
        if isinstance(layout, Dense) and not layout.causal:
            raise SpecError(
                "model.layouts (dense, causal = false): a layer that attends to the future keeps "
                "no cache; inference needs causal = true"
            )


def _check_layouts(sections: Sections) -> None:
    model = sections.model
    if sections.workload.kind is not WorkloadKind.TRAINING:
        _check_cached(model)
        return
    for layout in model.layouts:
        tag = type_of(layout)
        if isinstance(layout, Compressive) and sections.workload.optimizer in _BY_SHAPE:
            raise NotModelledError(
                f"workload.optimizer ({sections.workload.optimizer.value}): its state of a compressor "
                "(model.layouts, compressive) is not modelled; use adam, sgd-momentum or sgd"
            )
        if tag not in LAYOUTS:
            raise NotModelledError(
                f"model.layouts ({tag}): work, memory and time of {tag} attention are not modelled "
                f"yet, parameters are (shardwise show model); modelled: {', '.join(LAYOUTS)}"
            )


_BY_SHAPE = (Optimizer.ADAFACTOR, Optimizer.MUON, Optimizer.ADAM_8BIT)
"""Optimizers whose state follows from the shape of each tensor."""

_TORCH_LAYOUTS = ("dense", "latent")


def _check_saved_tensors(sections: Sections) -> None:
    listed = sections.plan.saved_tensors
    if listed in (SavedTensors.MEGATRON, SavedTensors.TRANSFORMER_ENGINE):
        return
    for layout in sections.model.layouts:
        if type_of(layout) not in _TORCH_LAYOUTS:
            raise NotModelledError(
                f"plan.saved_tensors ({listed.value}): what torch keeps of {type_of(layout)} "
                f"attention (model.layouts) is not modelled yet; use megatron"
            )


def _check_shared_sequences(sections: Sections) -> None:
    size = sections.plan.context_parallel_size
    others = {type_of(layout) for layout in sections.model.layouts} - {"dense", "latent"}
    if size > 1 and others:
        raise NotModelledError(
            f"plan.context_parallel_size ({size}): {', '.join(sorted(others))} attention over "
            "shared sequences is not modelled yet; use 1"
        )


def _check_schedule(sections: Sections, columns: Columns) -> None:
    if sections.plan.schedule not in SCHEDULES:
        raise NotModelledError(
            f"plan.schedule ({sections.plan.schedule.value}): memory and time of it are not "
            f"modelled yet, only its order; modelled: {', '.join(SCHEDULES)}"
        )
    if not bool(np.all(_schedule_is_legal(columns))):
        plan = sections.plan
        microbatches = _shown("microbatch_count", columns)
        raise SpecError(
            f"plan.schedule ({plan.schedule.value}): {SCHEDULES[plan.schedule].requirement}; here "
            f"plan.pipeline_parallel_size is {plan.pipeline_parallel_size}, plan.virtual_stages "
            f"{plan.virtual_stages}, microbatches {microbatches}"
        )
