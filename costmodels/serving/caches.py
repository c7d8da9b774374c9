"""What each layer caches in inference: tokens, elements of a token, states that do not grow."""

from types import MappingProxyType

from costmodels.attention import dilated, shares
from costmodels.attention.memories import Compression, largest_seen_tokens, largest_wide_tokens
from costmodels.columns import Axis, Column, ceil_div, maximum, minimum, weighted_total, where
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

_LAYER = (KIND,)
_STAGE = (STAGE,)
_SHAZEER = "Shazeer 2019, arXiv:1911.02150, section 2: keys and values of all tokens before"
_AINSLIE = "Ainslie et al. 2023, arXiv:2305.13245, section 2.2"
_LATENT = (
    "DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.2: the compressed vector and one rotated key"
)
_VLLM = "Kwon et al. 2023, arXiv:2309.06180, section 4.3: blocks of whole tokens"


@quantity(
    "count",
    Scope.REPLICA,
    basis=Basis.EXACT,
    formula="global_batch_size // data_parallel_size",
    source="by definition",
)
def replica_sequence_count(global_batch_size: Column, data_parallel_size: Column) -> Column:
    """Return the sequences that a replica holds [count]."""
    return global_batch_size // data_parallel_size


def whole_cached_tokens(sequence_length: Column, kv_cache_block_length: Column) -> Column:
    """Return the tokens of a sequence, in whole blocks [token].

    Examples
    --------
    >>> whole_cached_tokens(1000, 16)
    1008
    """
    return ceil_div(sequence_length, kv_cache_block_length) * kv_cache_block_length


def sliding_cached_tokens(
    sequence_length: Column, kv_cache_block_length: Column, window: Column, sink_tokens: Column
) -> Column:
    """Return the tokens of a sequence that are in the window or a sink, in whole blocks [token].

    Examples
    --------
    >>> sliding_cached_tokens(1000, 1, 128, 4)
    132
    """
    return whole_cached_tokens(
        minimum(sequence_length, window + sink_tokens), kv_cache_block_length
    )


def chunked_cached_tokens(
    sequence_length: Column, kv_cache_block_length: Column, chunk_length: Column
) -> Column:
    """Return the tokens of the longest chunk of a sequence, in whole blocks [token]."""
    return whole_cached_tokens(minimum(sequence_length, chunk_length), kv_cache_block_length)


def segment_cached_tokens(
    sequence_length: Column, kv_cache_block_length: Column, segment_length: Column
) -> Column:
    """Return the tokens of the longest segment of a sequence, in whole blocks [token]."""
    return whole_cached_tokens(minimum(sequence_length, segment_length), kv_cache_block_length)


def compressive_cached_tokens(
    sequence_length: Column,
    kv_cache_block_length: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
) -> Column:
    """Return the tokens of a segment, and the states of memories beside it, at most [token].

    Examples
    --------
    >>> compressive_cached_tokens(6, 1, 2, 2, 2, 2), compressive_cached_tokens(3, 1, 2, 2, 2, 2)
    (5, 3)
    """
    own = Compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return whole_cached_tokens(largest_seen_tokens(sequence_length, own), kv_cache_block_length)


def no_cached_tokens() -> Column:
    """Return zero: a state takes the place of keys and values [token]."""
    return 0


def softmax_cache_elements(rank_key_value_head_count: Column, head_size: Column) -> Column:
    """Return the elements of the keys and values of a token on one rank [element].

    Examples
    --------
    >>> softmax_cache_elements(8, 128)
    2048
    """
    return 2 * rank_key_value_head_count * head_size


def latent_cache_elements(
    key_value_rank: Column,
    rotated_size: Column,
    unrotated_size: Column,
    value_size: Column,
    num_attention_heads: Column,
    tensor_parallel_size: Column,
    decompress_kv_cache: Column,
) -> Column:
    """Return what latent attention caches of a token on one rank [element].

    Compressed, every rank holds the one vector that serves all heads; decompressed, each has the
    keys and values of its heads.

    Examples
    --------
    >>> latent_cache_elements(512, 64, 128, 128, 128, 8, 0)
    576
    >>> latent_cache_elements(512, 64, 128, 128, 128, 8, 1)
    5120
    """
    heads = num_attention_heads // tensor_parallel_size
    decompressed = heads * (unrotated_size + rotated_size + value_size)
    return where(decompress_kv_cache, decompressed, key_value_rank + rotated_size)


def no_cache_elements() -> Column:
    """Return zero: nothing is cached of single tokens [element]."""
    return 0


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ceil_div(cache_elements * kv_cache_element_bits, 8)"
    " + minimum(kv_cache_group_size, 1) * ceil_div(cache_elements, maximum(kv_cache_group_size, 1))"
    " * kv_cache_scale_bytes",
    source="Hooper et al. 2024, arXiv:2401.18079, and Liu et al. 2024, arXiv:2402.02750, section 3: "
    "bits of the elements, and a scale for each group of a token's",
)
def cache_token_bytes(
    cache_elements: Column,
    kv_cache_element_bits: Column,
    kv_cache_group_size: Column,
    kv_cache_scale_bytes: Column,
) -> Column:
    """Return what one layer caches of a token on one rank, scales included [byte].

    Examples
    --------
    Keys and values of eight heads of 128: in 16 bits, and in 4 with two bytes for each head.

    >>> cache_token_bytes(2048, 16, 0, 2), cache_token_bytes(2048, 4, 128, 2)
    (4096, 1056)
    """
    codes = ceil_div(cache_elements * kv_cache_element_bits, 8)
    groups = ceil_div(cache_elements, maximum(kv_cache_group_size, 1))
    return codes + minimum(kv_cache_group_size, 1) * groups * kv_cache_scale_bytes


def no_state_bytes() -> Column:
    """Return zero: keys and values are all there is [byte]."""
    return 0


def gated_delta_state_bytes(
    key_heads: Column,
    value_heads: Column,
    key_head_size: Column,
    value_head_size: Column,
    convolution_width: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the matrix of each head in fp32, and the tokens under the convolution [byte].

    Examples
    --------
    >>> gated_delta_state_bytes(16, 48, 128, 128, 4, 1, 2)
    3227648
    """
    keys, values = (
        ceil_div(key_heads, tensor_parallel_size),
        ceil_div(value_heads, tensor_parallel_size),
    )
    channels = 2 * keys * key_head_size + values * value_head_size
    matrices = 4 * values * key_head_size * value_head_size
    return matrices + channels * convolution_width * activation_element_bytes


def lightning_state_bytes(
    num_attention_heads: Column, head_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return the matrix of each head in fp32 [byte]."""
    return 4 * (num_attention_heads // tensor_parallel_size) * head_size * head_size


def dilated_state_bytes(
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
    """Return keys and values of each head's tokens in every branch, one rank's at most [byte].

    Notes
    -----
    A token that branches share counts in each, as in `dilated.cached_rows_limit_tokens`; torchscale
    keeps all tokens.

    Examples
    --------
    >>> dilated_state_bytes(8, 2, 64, (4, 8), (1, 2), 1, 16, 0, 0)
    4096
    """
    branches = dilated.Branches(segment_lengths, dilation_rates)
    rows = dilated.cached_rows_limit_tokens(sequence_length, num_attention_heads, branches)
    own = shares.rank_cached_tokens(rows, tensor_parallel_size)
    token = cache_token_bytes(
        2 * head_size, kv_cache_element_bits, kv_cache_group_size, kv_cache_scale_bytes
    )
    return own * token


def dilated_heads_state_bytes(
    sequence_length: Column,
    num_attention_heads: Column,
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
    """Return keys and values of all tokens that heads may still read, one rank's [byte].

    Notes
    -----
    Ranks share the heads of each dilation as evenly as they can, rounded up.

    Examples
    --------
    >>> dilated_heads_state_bytes(100, 2, 2, 64, (1, 8), (), 4, 0, 1, 16, 0, 0)
    7424
    """
    tokens = shares.all_cached_tokens(
        sequence_length,
        num_attention_heads,
        num_key_value_heads,
        dilation_rates,
        segment_lengths,
        keys_per_query,
        every_residue,
    )
    own = shares.rank_cached_tokens(tokens, tensor_parallel_size)
    token = cache_token_bytes(
        2 * head_size, kv_cache_element_bits, kv_cache_group_size, kv_cache_scale_bytes
    )
    return own * token


def infini_state_bytes(
    sequence_length: Column,
    segment_length: Column,
    rank_key_value_head_count: Column,
    head_size: Column,
    cache_token_bytes: Column,
) -> Column:
    """Return what memory in fp32 adds to the most keys and values of a segment, of one rank [byte].

    Notes
    -----
    The first segment is full before there is a memory; in the second, memory and the segment's own
    tokens are together what is kept (`infini.peak_state_bytes`). From two segments on that is the
    whole memory.

    Examples
    --------
    >>> infini_state_bytes(4096, 2048, 8, 128, 4096), infini_state_bytes(2048, 2048, 8, 128, 4096)
    (528384, 0)
    """
    memory = 4 * rank_key_value_head_count * head_size * (head_size + 1)
    first = minimum(sequence_length, segment_length) * cache_token_bytes
    behind = minimum(maximum(sequence_length - segment_length, 0), segment_length)
    later = minimum(behind, 1) * memory + behind * cache_token_bytes
    return maximum(first, later) - first


def linear_state_bytes(
    rank_key_value_head_count: Column, head_size: Column, normalized: Column
) -> Column:
    """Return the matrix of each head in fp32, and its sum of keys, of one rank [byte].

    Examples
    --------
    >>> linear_state_bytes(8, 128, 1)
    528384
    """
    return 4 * rank_key_value_head_count * head_size * (head_size + normalized)


def compressive_state_bytes(
    sequence_length: Column,
    hidden_size: Column,
    segment_length: Column,
    memory_tokens: Column,
    compressed_tokens: Column,
    compression_rate: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the hidden states that will be compressed, at most: of memory and a segment [byte].

    Examples
    --------
    >>> compressive_state_bytes(6, 8, 2, 2, 2, 2, 2)
    64
    """
    own = Compression(segment_length, memory_tokens, compressed_tokens, compression_rate)
    return largest_wide_tokens(sequence_length, own) * hidden_size * activation_element_bytes


CACHED_TOKENS = Quantity(
    name="cached_tokens",
    unit="token",
    scope=Scope.LAYER,
    axes=_LAYER,
    definition="Tokens of a sequence that a layer keeps keys and values of, in inference.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAZEER + "; Beltagy et al. 2020, arXiv:2004.05150, section 3.1: a window; " + _VLLM,
    variants=MappingProxyType(
        {
            "dense": whole_cached_tokens,
            "latent": whole_cached_tokens,
            "sliding": sliding_cached_tokens,
            "chunked": chunked_cached_tokens,
            "infini": segment_cached_tokens,
            "compressive": compressive_cached_tokens,
            "dilated": no_cached_tokens,
            "dilated-heads": no_cached_tokens,
            "linear": no_cached_tokens,
            "gated-delta": no_cached_tokens,
            "lightning": no_cached_tokens,
        }
    ),
    selector="layout",
)


CACHE_ELEMENTS = Quantity(
    name="cache_elements",
    unit="element",
    scope=Scope.GPU,
    axes=_LAYER,
    definition="Elements that a layer keeps of one token on one rank, in inference.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=f"{_SHAZEER}; {_AINSLIE}; {_LATENT}",
    variants=MappingProxyType(
        dict.fromkeys(OF_SOFTMAX_HEADS, softmax_cache_elements)
        | {"latent": latent_cache_elements}
        | dict.fromkeys(("gated-delta", "lightning"), no_cache_elements)
    ),
    selector="layout",
)


STATE_BYTES = Quantity(
    name="recurrent_state_bytes",
    unit="byte",
    scope=Scope.GPU,
    axes=_LAYER,
    definition="What a layer keeps of one sequence beside cached tokens of all heads, in inference.",
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source="Yang et al. 2024, arXiv:2412.06464, section 3.3; MiniMax 2025, arXiv:2501.08313, "
    "section 2.2; Munkhdalai et al. 2024, arXiv:2404.07143, Table 1; Katharopoulos et al. 2020, "
    "arXiv:2006.16236, section 3.4; Rae et al. 2019, arXiv:1911.05507, section 3; states in fp32 and the "
    "whole width of the convolution, as transformers keeps them; dilated: keys that are read again",
    variants=MappingProxyType(
        dict.fromkeys((*OF_SOFTMAX_HEADS, "latent"), no_state_bytes)
        | {
            "dilated": dilated_state_bytes,
            "dilated-heads": dilated_heads_state_bytes,
            "infini": infini_state_bytes,
            "linear": linear_state_bytes,
            "compressive": compressive_state_bytes,
            "gated-delta": gated_delta_state_bytes,
            "lightning": lightning_state_bytes,
        }
    ),
    selector="layout",
)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="replica_sequence_count * (cached_tokens * cache_token_bytes + recurrent_state_bytes)",
    source=_SHAZEER,
)
def layer_cache_bytes(
    replica_sequence_count: Column,
    cached_tokens: Column,
    cache_token_bytes: Column,
    recurrent_state_bytes: Column,
) -> Column:
    """Return what one layer keeps of every sequence on one rank, in inference [byte].

    Examples
    --------
    >>> layer_cache_bytes(1, 8192, 4096, 0)
    33554432
    """
    return replica_sequence_count * (cached_tokens * cache_token_bytes + recurrent_state_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(stage_layer_count * layer_cache_bytes)",
    source="the sum over the layers of the stage",
)
def kv_cache_bytes(stage_layer_count: Axis, layer_cache_bytes: Axis) -> Column:
    """Return the cache of a stage's layers on one rank, in inference [byte]."""
    return weighted_total(stage_layer_count, layer_cache_bytes)
