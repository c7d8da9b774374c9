"""Work and time of a step of inference: a roofline of weights, states and activations.

A step of decode computes one token of every sequence of a replica, that of the workload's length, or
the costliest on the way there where work rises and falls (chunks, segments). A step of prefill
computes the whole prompts of a microbatch. Every product takes the longer of its work at an attained
peak and what it reads at an attained bandwidth; weights are read once a step, a state once, or
twice where it is written back. Nothing is compared with a measurement.

Sampling, scheduling, transfers between prefill and decode, and starts of kernels are left out.
"""

from types import MappingProxyType

from costmodels.attention import delta, infini, linear, shares
from costmodels.attention.accounts import Heads
from costmodels.attention.memories import Compression, largest_seen_tokens
from costmodels.collectives import ring_all_reduce_bytes, ring_all_reduce_s
from costmodels.columns import (
    Axis,
    Column,
    as_float,
    ceil_div,
    largest,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import (
    ALGORITHM,
    KIND,
    OF_SOFTMAX_HEADS,
    STAGE,
    Basis,
    Quantity,
    Scope,
    quantity,
)
from costmodels.serving.caches import cache_token_bytes

_LAYER = (KIND,)
_STAGE = (STAGE,)
_WILLIAMS = "Williams et al. 2009, doi:10.1145/1498765.1498785: no measurement is compared with"
_STEP = "by counting the matrix products of decoders: docs/attention.md, decode step"
_READ = "by counting what decoders read: docs/attention.md, decode step"
_KERNELS = "as layer_matmul_flop and layer_attention_flop, of the tokens of a step"


def dense_step_flop(
    sequence_length: Column, num_attention_heads: Column, head_size: Column
) -> Column:
    """Return the work of a token that sees all tokens before it [FLOP].

    Examples
    --------
    >>> dense_step_flop(8192, 32, 128)
    134217728
    """
    return 4 * num_attention_heads * head_size * sequence_length


def sliding_step_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    window: Column,
    sink_tokens: Column,
) -> Column:
    """Return the work of a token that sees a window and sinks [FLOP]."""
    seen = minimum(sequence_length, window + sink_tokens)
    return 4 * num_attention_heads * head_size * seen


def chunked_step_flop(
    sequence_length: Column, num_attention_heads: Column, head_size: Column, chunk_length: Column
) -> Column:
    """Return the work of the last token of a chunk [FLOP]."""
    return 4 * num_attention_heads * head_size * minimum(sequence_length, chunk_length)


def dilated_step_tokens(
    sequence_length: Column,
    num_attention_heads: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
) -> Column:
    """Return the keys of all heads and branches that a token reads, at most [token].

    Examples
    --------
    >>> dilated_step_tokens(8, 2, (4, 8), (1, 2))
    12
    """
    rows = [
        ceil_div(num_attention_heads, rate) * ceil_div(minimum(length, sequence_length), rate)
        for length, rate in zip(segment_lengths, dilation_rates, strict=True)
    ]
    return total(rows)


def dilated_step_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
) -> Column:
    """Return the work of a token at the end of its segments, on as many offsets as can be [FLOP]."""
    rows = dilated_step_tokens(
        sequence_length, num_attention_heads, segment_lengths, dilation_rates
    )
    return 4 * head_size * rows


def dilated_heads_step_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
) -> Column:
    """Return the work of a token whose heads have a dilation each, at most [FLOP]."""
    keys = shares.step_tokens(
        sequence_length,
        num_attention_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    return 4 * head_size * keys


def infini_step_flop(
    sequence_length: Column, num_attention_heads: Column, head_size: Column, segment_length: Column
) -> Column:
    """Return the work of the last token of a segment, and its read of memory [FLOP].

    Examples
    --------
    >>> infini_step_flop(4096, 8, 128, 2048)
    8652800
    """
    heads = Heads(1, num_attention_heads, num_attention_heads, head_size, head_size)
    ends = sequence_length // segment_length * segment_length
    own = infini.step_flop(sequence_length, heads, segment_length)
    return maximum(own, infini.step_flop(maximum(ends, 1), heads, segment_length))


def linear_step_flop(
    num_attention_heads: Column, num_key_value_heads: Column, head_size: Column, normalized: Column
) -> Column:
    """Return the work of one addition to a state and one read [FLOP]."""
    heads = Heads(1, num_attention_heads, num_key_value_heads, head_size, head_size)
    return linear.recurrent_flop(1, heads, linear.Scan(0, normalized))


def compressive_step_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Column:
    """Return the work of a token that sees its segment and memories, compressing aside [FLOP]."""
    own = Compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return 4 * num_attention_heads * head_size * largest_seen_tokens(sequence_length, own)


def latent_step_flop(
    sequence_length: Column,
    num_attention_heads: Column,
    key_value_rank: Column,
    rotated_size: Column,
    unrotated_size: Column,
    value_size: Column,
    decompress_kv_cache: Column,
) -> Column:
    """Return the work of a token, its query absorbed where the cache is compressed [FLOP].

    Examples
    --------
    >>> latent_step_flop(4096, 128, 512, 64, 128, 128, 0)
    1140850688
    """
    narrow = 2 * key_value_rank + rotated_size
    width = where(decompress_kv_cache, unrotated_size + rotated_size + value_size, narrow)
    return 2 * num_attention_heads * width * sequence_length


def gated_delta_step_flop(
    value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return the work of one update of a gated delta rule and one read [FLOP]."""
    heads = Heads(1, value_heads, value_heads, key_head_size, value_head_size)
    return delta.recurrent_flop(1, heads)


def lightning_step_flop(num_attention_heads: Column, head_size: Column) -> Column:
    """Return the work of one addition to a state and one read [FLOP]."""
    heads = Heads(1, num_attention_heads, num_attention_heads, head_size, head_size)
    return linear.recurrent_flop(1, heads, linear.Scan(0, 0))


STEP_FLOP = Quantity(
    name="attention_step_flop",
    unit="FLOP",
    scope=Scope.LAYER,
    axes=_LAYER,
    definition="Work of a layer's attention for one token in decode, projections aside, at most.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_STEP,
    variants=MappingProxyType(
        {
            "dense": dense_step_flop,
            "sliding": sliding_step_flop,
            "chunked": chunked_step_flop,
            "dilated": dilated_step_flop,
            "dilated-heads": dilated_heads_step_flop,
            "infini": infini_step_flop,
            "linear": linear_step_flop,
            "compressive": compressive_step_flop,
            "latent": latent_step_flop,
            "gated-delta": gated_delta_step_flop,
            "lightning": lightning_step_flop,
        }
    ),
    selector="layout",
)


def cached_step_bytes(cached_tokens: Column, cache_token_bytes: Column) -> Column:
    """Return the keys and values of a sequence, each read once [byte]."""
    return cached_tokens * cache_token_bytes


def infini_step_bytes(
    cached_tokens: Column, cache_token_bytes: Column, recurrent_state_bytes: Column
) -> Column:
    """Return the keys and values of a segment, and the memory of those before, read once [byte]."""
    return cached_tokens * cache_token_bytes + recurrent_state_bytes


def recurrent_step_bytes(recurrent_state_bytes: Column) -> Column:
    """Return a state read and written back [byte]."""
    return 2 * recurrent_state_bytes


def dilated_step_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
    head_size: Column,
    segment_lengths: Axis,
    dilation_rates: Axis,
    tensor_parallel_size: Column,
    kv_cache_element_bits: Column,
    kv_cache_group_size: Column,
    kv_cache_scale_bytes: Column,
) -> Column:
    """Return the keys and values that heads and branches read, one rank's [byte]."""
    rows = dilated_step_tokens(
        sequence_length, num_attention_heads, segment_lengths, dilation_rates
    )
    token = cache_token_bytes(
        2 * head_size, kv_cache_element_bits, kv_cache_group_size, kv_cache_scale_bytes
    )
    return ceil_div(rows, tensor_parallel_size) * token


def dilated_heads_step_bytes(
    sequence_length: Column,
    num_key_value_heads: Column,
    head_size: Column,
    dilation_rates: Axis,
    segment_lengths: Axis,
    keys_per_query: Column,
    every_residue: Column,
    tensor_parallel_size: Column,
    kv_cache_element_bits: Column,
    kv_cache_group_size: Column,
    kv_cache_scale_bytes: Column,
) -> Column:
    """Return the keys and values that heads of them give a token, one rank's at most [byte]."""
    rows = shares.step_tokens(
        sequence_length,
        num_key_value_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    token = cache_token_bytes(
        2 * head_size, kv_cache_element_bits, kv_cache_group_size, kv_cache_scale_bytes
    )
    return ceil_div(rows, tensor_parallel_size) * token


STEP_BYTES = Quantity(
    name="attention_step_bytes",
    unit="byte",
    scope=Scope.GPU,
    axes=_LAYER,
    definition="What a layer's attention reads and writes of one sequence's state for a token.",
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source=_READ,
    variants=MappingProxyType(
        dict.fromkeys((*OF_SOFTMAX_HEADS, "latent"), cached_step_bytes)
        | dict.fromkeys(("gated-delta", "lightning", "linear"), recurrent_step_bytes)
        | {
            "infini": infini_step_bytes,
            "dilated": dilated_step_bytes,
            "dilated-heads": dilated_heads_step_bytes,
        }
    ),
    selector="layout",
)


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * serving_tokens * (layer_multiplied_parameters // tensor_parallel_size"
    " + copied_parameters + router_parameters + attention_compressing_parameters)"
    " + where(kind_is_decode, 0, serving_sequence_count * attention_repeated_flop"
    " // tensor_parallel_size)",
    source=_KERNELS,
)
def serving_matmul_flop(
    serving_tokens: Column,
    layer_multiplied_parameters: Column,
    tensor_parallel_size: Column,
    copied_parameters: Column,
    router_parameters: Column,
    attention_compressing_parameters: Column,
    kind_is_decode: Column,
    serving_sequence_count: Column,
    attention_repeated_flop: Column,
) -> Column:
    """Return the work of a layer's weights in a step of inference [FLOP]."""
    whole = copied_parameters + router_parameters + attention_compressing_parameters
    parameters = layer_multiplied_parameters // tensor_parallel_size + whole
    again = serving_sequence_count * attention_repeated_flop // tensor_parallel_size
    return 2 * serving_tokens * parameters + where(kind_is_decode, 0, again)


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="serving_sequence_count * where(kind_is_decode, attention_step_flop, 2"
    " * executed_pairs * num_attention_heads * (attention_query_size + attention_value_size)"
    " + attention_state_flop) // tensor_parallel_size",
    source=_KERNELS,
)
def serving_attention_flop(
    serving_sequence_count: Column,
    kind_is_decode: Column,
    attention_step_flop: Column,
    executed_pairs: Column,
    num_attention_heads: Column,
    attention_query_size: Column,
    attention_value_size: Column,
    attention_state_flop: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the work of a layer's scores, values and states in a step of inference [FLOP]."""
    widths = num_attention_heads * (attention_query_size + attention_value_size)
    prompt = 2 * executed_pairs * widths + attention_state_flop
    return (
        serving_sequence_count
        * where(kind_is_decode, attention_step_flop, prompt)
        // tensor_parallel_size
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source="weights once a step; of experts those that some token visits, if each is as likely: "
    "E (1 - (1 - k / E)^n) of n tokens",
)
def serving_weight_bytes(
    layer_gpu_parameters: Column,
    copied_parameters: Column,
    weight_element_bytes: Column,
    layer_narrowed_bytes: Column,
    layer_expert_parameters: Column,
    is_mixture: Column,
    expert_count: Column,
    experts_per_token: Column,
    serving_tokens: Column,
) -> Column:
    """Return the weights of a layer that a GPU reads in a step of inference [byte].

    Examples
    --------
    >>> serving_weight_bytes(100, 0, 2, 0, 80, 1, 4, 2, 1)
    120.0
    """
    kept = (layer_gpu_parameters + copied_parameters) * weight_element_bytes - layer_narrowed_bytes
    unvisited = (1.0 - experts_per_token / expert_count) ** as_float(serving_tokens)
    share = is_mixture * layer_expert_parameters / layer_gpu_parameters
    return kept * (1.0 - share * unvisited)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="serving_sequence_count * where(kind_is_decode, attention_step_bytes,"
    " cached_tokens * cache_token_bytes + recurrent_state_bytes"
    " + attention_state_traffic_bytes // tensor_parallel_size)",
    source=_READ + "; a prompt writes what is kept, and moves states between segments or chunks",
)
def serving_state_bytes(
    serving_sequence_count: Column,
    kind_is_decode: Column,
    attention_step_bytes: Column,
    cached_tokens: Column,
    cache_token_bytes: Column,
    recurrent_state_bytes: Column,
    attention_state_traffic_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return what a layer's attention moves of caches and states in a step [byte]."""
    kept = cached_tokens * cache_token_bytes + recurrent_state_bytes
    prompt = kept + attention_state_traffic_bytes // tensor_parallel_size
    return serving_sequence_count * where(kind_is_decode, attention_step_bytes, prompt)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="serving_tokens * (2 * (attention_serving_elements + ffn_serving_elements)"
    " + (4 + 2 * norms_per_layer) * hidden_size) * activation_element_bytes",
    source="by counting tensors: each inside a layer written and read once, two residual additions, "
    "norms",
)
def serving_operand_bytes(
    serving_tokens: Column,
    attention_serving_elements: Column,
    ffn_serving_elements: Column,
    norms_per_layer: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the activations that a layer writes and reads in a step of inference [byte]."""
    inner = 2 * (attention_serving_elements + ffn_serving_elements)
    outer = (4 + 2 * norms_per_layer) * hidden_size
    return serving_tokens * (inner + outer) * activation_element_bytes


@quantity(
    "s",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="2 * ring_all_reduce_s(ring_all_reduce_bytes(serving_tokens * hidden_size"
    " * activation_element_bytes, group_size=tensor_parallel_size),"
    " group_size=tensor_parallel_size, bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,"
    " latency_s=tensor_latency_s)",
    source="Shoeybi et al. 2019, arXiv:1909.08053, section 3: two all-reduces of a layer",
)
def serving_reduce_s(
    serving_tokens: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
    tensor_bandwidth_bytes_per_s: Column,
    tensor_latency_s: Column,
) -> Column:
    """Return the time of a layer's two all-reduces in a step of inference [s]."""
    message = serving_tokens * hidden_size * activation_element_bytes
    return 2 * ring_all_reduce_s(
        ring_all_reduce_bytes(message, group_size=tensor_parallel_size),
        group_size=tensor_parallel_size,
        bandwidth_bytes_per_s=tensor_bandwidth_bytes_per_s,
        latency_s=tensor_latency_s,
    )


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(serving_matmul_flop / matmul_flop_per_s, serving_weight_bytes"
    " / memory_bytes_per_s) + maximum(serving_attention_flop / attention_flop_per_s,"
    " serving_state_bytes / memory_bytes_per_s) + serving_operand_bytes / memory_bytes_per_s"
    " + serving_reduce_s",
    source=_WILLIAMS,
)
def serving_layer_s(
    serving_matmul_flop: Column,
    matmul_flop_per_s: Column,
    serving_weight_bytes: Column,
    memory_bytes_per_s: Column,
    serving_attention_flop: Column,
    attention_flop_per_s: Column,
    serving_state_bytes: Column,
    serving_operand_bytes: Column,
    serving_reduce_s: Column,
) -> Column:
    """Return the time of a layer in a step of inference [s]."""
    weights = maximum(
        serving_matmul_flop / matmul_flop_per_s, serving_weight_bytes / memory_bytes_per_s
    )
    attention = maximum(
        serving_attention_flop / attention_flop_per_s, serving_state_bytes / memory_bytes_per_s
    )
    return weights + attention + serving_operand_bytes / memory_bytes_per_s + serving_reduce_s


@quantity(
    "FLOP",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="2 * serving_sequence_count * hidden_size * vocabulary_rows",
    source="of the last token of each sequence",
)
def serving_head_flop(
    serving_sequence_count: Column, hidden_size: Column, vocabulary_rows: Column
) -> Column:
    """Return the work of the head in a step of inference [FLOP]."""
    return 2 * serving_sequence_count * hidden_size * vocabulary_rows


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(head_stored_bytes > 0, ceil_div(head_stored_bytes, tensor_parallel_size),"
    " vocabulary_rows * hidden_size * weight_element_bytes)",
    source="the matrix once a step, as it is stored",
)
def serving_head_bytes(
    head_stored_bytes: Column,
    tensor_parallel_size: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    weight_element_bytes: Column,
) -> Column:
    """Return the head that a GPU reads in a step of inference [byte]."""
    plain = vocabulary_rows * hidden_size * weight_element_bytes
    return where(head_stored_bytes > 0, ceil_div(head_stored_bytes, tensor_parallel_size), plain)


@quantity(
    "s",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="total(stage_layer_count * serving_layer_s) + largest(chunk_holds_head)"
    " * maximum(serving_head_flop / wide_matmul_flop_per_s, serving_head_bytes"
    " / memory_bytes_per_s)",
    source=_WILLIAMS,
)
def serving_stage_s(
    stage_layer_count: Axis,
    serving_layer_s: Axis,
    chunk_holds_head: Axis,
    serving_head_flop: Column,
    wide_matmul_flop_per_s: Column,
    serving_head_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a stage in a step of inference [s]."""
    head = maximum(
        serving_head_flop / wide_matmul_flop_per_s, serving_head_bytes / memory_bytes_per_s
    )
    layers = weighted_total(stage_layer_count, serving_layer_s)
    return layers + largest(chunk_holds_head) * head


@quantity(
    "s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    formula="total(class_stage_count * serving_stage_s)",
    source="stages one after the other; hops between several are left out, and refused",
)
def serving_step_s(class_stage_count: Axis, serving_stage_s: Axis) -> Column:
    """Return the time of a step of inference [s]."""
    return weighted_total(class_stage_count, serving_stage_s)


@quantity(
    "token/s",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    formula="serving_tokens / serving_step_s",
    source="by definition",
)
def serving_tokens_per_s(serving_tokens: Column, serving_step_s: Column) -> Column:
    """Return the tokens that a replica computes in a second: made in decode, read in prefill [token/s]."""
    return serving_tokens / serving_step_s
