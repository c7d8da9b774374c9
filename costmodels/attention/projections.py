"""Parameters of attention in each layout: matrices that are split, vectors that are, and the rest.

Tensor parallelism splits heads. What feeds all heads (the compression of latent attention) or
serves each of them (norms of queries and keys with one weight for all heads) is on every rank.
"""

from costmodels.attention.memories import compressor_parameters
from costmodels.columns import Column


def softmax_matrix_parameters(
    hidden_size: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    attention_output_gate: Column,
) -> Column:
    """Return the weights of query, key, value and output projections, and of a gate [parameter].

    Examples
    --------
    >>> softmax_matrix_parameters(4096, 32, 8, 128, 0)
    41943040
    """
    heads = (2 + attention_output_gate) * num_attention_heads + 2 * num_key_value_heads
    return hidden_size * heads * head_size


def latent_matrix_parameters(
    hidden_size: Column,
    num_attention_heads: Column,
    query_rank: Column,
    key_value_rank: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
) -> Column:
    """Return the weights from the compressed vectors to heads, and of the output [parameter].

    Examples
    --------
    >>> latent_matrix_parameters(7168, 128, 1536, 512, 128, 64, 128)
    171966464
    """
    source = query_rank + (query_rank == 0) * hidden_size
    head = source * (unrotated_size + rotated_size) + key_value_rank * (unrotated_size + value_size)
    return num_attention_heads * (head + value_size * hidden_size)


def gated_delta_matrix_parameters(
    hidden_size: Column,
    key_heads: Column,
    value_heads: Column,
    key_head_size: Column,
    value_head_size: Column,
) -> Column:
    """Return the weights of queries, keys, values, gates, decay, step and output [parameter].

    Examples
    --------
    >>> gated_delta_matrix_parameters(5120, 16, 48, 128, 128)
    115834880
    """
    keys, values = key_heads * key_head_size, value_heads * value_head_size
    return hidden_size * (2 * keys + 3 * values + 2 * value_heads)


def lightning_matrix_parameters(
    hidden_size: Column, num_attention_heads: Column, head_size: Column
) -> Column:
    """Return the weights of queries, keys, values, output gate and output [parameter]."""
    return 5 * hidden_size * num_attention_heads * head_size


def softmax_vector_parameters(
    attention_bias: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    attention_output_gate: Column,
    attention_sinks: Column,
    query_key_norm_is_full: Column,
    norm_is_layernorm: Column,
) -> Column:
    """Return biases of the projections, norms of all heads together, and sinks [parameter]."""
    gate = attention_output_gate * num_attention_heads
    heads = num_attention_heads + num_key_value_heads
    biases = attention_bias * (gate + heads + num_key_value_heads) * head_size
    norms = query_key_norm_is_full * heads * head_size * (1 + norm_is_layernorm)
    return biases + norms + attention_sinks * num_attention_heads


def infini_vector_parameters(
    attention_bias: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    attention_output_gate: Column,
    attention_sinks: Column,
    query_key_norm_is_full: Column,
    norm_is_layernorm: Column,
    decayed: Column,
) -> Column:
    """Return what softmax attention has, and a gate between memory and segment [parameter].

    Notes
    -----
    Munkhdalai et al. 2024, arXiv:2404.07143, equation 10: one learned scalar for each head. Where
    updates are decayed, two learned factors for each memory.
    """
    softmax = softmax_vector_parameters(
        attention_bias,
        num_attention_heads,
        num_key_value_heads,
        head_size,
        attention_output_gate,
        attention_sinks,
        query_key_norm_is_full,
        norm_is_layernorm,
    )
    return softmax + num_attention_heads + 2 * decayed * num_key_value_heads


def latent_vector_parameters() -> Column:
    """Return zero: biases of latent attention are on every rank [parameter]."""
    return 0


def gated_delta_vector_parameters(
    key_heads: Column,
    value_heads: Column,
    key_head_size: Column,
    value_head_size: Column,
    convolution_width: Column,
) -> Column:
    """Return the convolution, and bias and scale of the decay of each head [parameter]."""
    channels = 2 * key_heads * key_head_size + value_heads * value_head_size
    return channels * convolution_width + 2 * value_heads


def lightning_vector_parameters(num_attention_heads: Column, head_size: Column) -> Column:
    """Return the norm of the output of all heads [parameter]."""
    return num_attention_heads * head_size


def softmax_whole_parameters(
    attention_output_bias: Column,
    hidden_size: Column,
    query_key_norm_is_head: Column,
    head_size: Column,
    norm_is_layernorm: Column,
) -> Column:
    """Return the output's bias, and the norm of a query's and a key's head [parameter]."""
    norms = query_key_norm_is_head * 2 * head_size * (1 + norm_is_layernorm)
    return attention_output_bias * hidden_size + norms


def compressive_whole_parameters(
    attention_output_bias: Column,
    hidden_size: Column,
    query_key_norm_is_head: Column,
    head_size: Column,
    norm_is_layernorm: Column,
    compression_rate: Column,
) -> Column:
    """Return what softmax attention has, and a convolution that compresses [parameter].

    Notes
    -----
    As wide as its stride, with a bias (Rae et al. 2019, arXiv:1911.05507, section 3.2).

    Examples
    --------
    >>> compressive_whole_parameters(0, 1024, 0, 64, 0, 4)
    4195328
    """
    softmax = softmax_whole_parameters(
        attention_output_bias, hidden_size, query_key_norm_is_head, head_size, norm_is_layernorm
    )
    return softmax + compressor_parameters(hidden_size, compression_rate)


def latent_whole_parameters(
    hidden_size: Column,
    query_rank: Column,
    key_value_rank: Column,
    rotated_size: Column,
    attention_bias: Column,
    attention_output_bias: Column,
) -> Column:
    """Return the compressing projections with their biases, their norms, and the output's bias.

    Returns
    -------
    Column
        Parameters that every tensor-parallel rank holds [parameter].

    Examples
    --------
    >>> latent_whole_parameters(7168, 1536, 512, 64, 0, 0)
    15140864
    """
    width = query_rank + key_value_rank + rotated_size
    norms = query_rank + key_value_rank
    return (hidden_size + attention_bias) * width + norms + attention_output_bias * hidden_size


def gated_delta_whole_parameters(value_head_size: Column) -> Column:
    """Return the norm of a head's output [parameter]."""
    return value_head_size


def lightning_whole_parameters() -> Column:
    """Return zero: nothing of lightning attention serves all heads [parameter]."""
    return 0
