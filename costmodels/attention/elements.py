"""Elements of attention for one token, in each layout: projected, normalized or rotated, and kept.

What belongs to heads is split over tensor-parallel ranks; what serves all heads is not.
"""

from costmodels.columns import Column


def softmax_query_size(head_size: Column) -> Column:
    """Return the width of a head's query and key [element]."""
    return head_size


def latent_query_size(unrotated_size: Column, rotated_size: Column) -> Column:
    """Return the width of a head's query and key, both parts [element]."""
    return unrotated_size + rotated_size


def softmax_value_size(head_size: Column) -> Column:
    """Return the width of a head's value [element]."""
    return head_size


def latent_value_size(value_size: Column) -> Column:
    """Return the width of a head's value [element]."""
    return value_size


def softmax_projected_elements(
    num_attention_heads: Column,
    held_key_value_head_count: Column,
    attention_output_gate: Column,
    head_size: Column,
) -> Column:
    """Return what the projections write to heads and read from them, for one token [element].

    Examples
    --------
    >>> softmax_projected_elements(32, 8, 0, 128)
    10240
    """
    queries = (2 + attention_output_gate) * num_attention_heads
    return (queries + 2 * held_key_value_head_count) * head_size


def latent_projected_elements(
    num_attention_heads: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
) -> Column:
    """Return what the projections write to heads and read from them, for one token [element].

    Examples
    --------
    >>> latent_projected_elements(128, 128, 64, 128)
    73728
    """
    return num_attention_heads * (2 * unrotated_size + rotated_size + 2 * value_size)


def softmax_compressed_elements() -> Column:
    """Return zero: nothing is compressed [element]."""
    return 0


def latent_compressed_elements(
    query_rank: Column, key_value_rank: Column, rotated_size: Column
) -> Column:
    """Return the compressed vectors that projections write and read, for one token [element]."""
    return 2 * (query_rank + key_value_rank) + rotated_size


def softmax_rotated_elements(
    positions_is_rotary: Column,
    query_key_norm_is_none: Column,
    num_attention_heads: Column,
    held_key_value_head_count: Column,
    attention_output_gate: Column,
    head_size: Column,
) -> Column:
    """Return what rotation, norms and gate of heads read and write, for one token [element]."""
    passes = 2 * (positions_is_rotary + 1 - query_key_norm_is_none)
    heads = passes * (num_attention_heads + held_key_value_head_count)
    return (heads + 3 * attention_output_gate * num_attention_heads) * head_size


def latent_rotated_elements(
    num_attention_heads: Column, unrotated_size: Column, rotated_size: Column
) -> Column:
    """Return what rotation reads and writes, and the joined keys, for one token [element].

    Notes
    -----
    Queries are rotated in part; the rotated part of the key, one for all heads, is copied to each
    beside its own part.
    """
    return num_attention_heads * (3 * rotated_size + 2 * unrotated_size)


def softmax_kept_elements(
    query_key_norm_is_none: Column,
    num_attention_heads: Column,
    held_key_value_head_count: Column,
    attention_output_gate: Column,
    head_size: Column,
) -> Column:
    """Return what heads keep for the backward beside scores, for one token [element].

    Notes
    -----
    Query, key, value and output; queries and keys before their norm; a gate and its product.
    """
    projected = (3 - query_key_norm_is_none) * (num_attention_heads + held_key_value_head_count)
    return (projected + 2 * attention_output_gate * num_attention_heads) * head_size


def latent_kept_elements(
    num_attention_heads: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
) -> Column:
    """Return what heads keep for the backward beside scores, for one token [element].

    Notes
    -----
    Query and joined key; the expanded keys and values, of which the value is a view; output.
    """
    query = unrotated_size + rotated_size
    return num_attention_heads * (2 * query + unrotated_size + 2 * value_size)


def softmax_kept_compressed_elements() -> Column:
    """Return zero: nothing is compressed [element]."""
    return 0


def latent_kept_compressed_elements(
    query_rank: Column, key_value_rank: Column, rotated_size: Column
) -> Column:
    """Return the compressed vectors before and after their norm, for one token [element]."""
    return 2 * (query_rank + key_value_rank) + rotated_size


def softmax_compressing_parameters() -> Column:
    """Return zero: nothing is compressed [parameter]."""
    return 0


def latent_compressing_parameters(
    hidden_size: Column, query_rank: Column, key_value_rank: Column, rotated_size: Column
) -> Column:
    """Return the weights that compress a token for all heads [parameter].

    Examples
    --------
    >>> latent_compressing_parameters(7168, 1536, 512, 64)
    15138816
    """
    return hidden_size * (query_rank + key_value_rank + rotated_size)


def gated_delta_query_size(key_head_size: Column) -> Column:
    """Return the width of a head's query and key [element]."""
    return key_head_size


def gated_delta_value_size(value_head_size: Column) -> Column:
    """Return the width of a head's value [element]."""
    return value_head_size


def gated_delta_projected_elements(
    key_heads: Column, value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return queries, keys, values, gate, step and decay, and the output, for one token [element].

    Examples
    --------
    >>> gated_delta_projected_elements(16, 48, 128, 128)
    22624
    """
    values = value_heads * value_head_size
    return 2 * key_heads * key_head_size + 3 * values + 2 * value_heads


def gated_delta_rotated_elements(
    key_heads: Column, value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return what convolution, norms and gates read and write, for one token [element].

    Notes
    -----
    A convolution with its activation reads and writes queries, keys and values; a norm queries and
    keys, which are repeated for each value head; a gated norm output, gate and its result.
    """
    keys, values = key_heads * key_head_size, value_heads * value_head_size
    repeated = 2 * value_heads * key_head_size
    return 2 * (2 * keys + values) + 2 * keys + repeated + 3 * values + 4 * value_heads


def gated_delta_kept_elements(
    key_heads: Column, value_heads: Column, key_head_size: Column, value_head_size: Column
) -> Column:
    """Return what heads keep for the backward beside chunks, for one token [element].

    Notes
    -----
    Before and after the convolution; normalized queries and keys; output, gate and their product;
    decay and step.
    """
    keys, values = key_heads * key_head_size, value_heads * value_head_size
    return 2 * (2 * keys + values) + 2 * keys + 3 * values + 4 * value_heads


def lightning_projected_elements(num_attention_heads: Column, head_size: Column) -> Column:
    """Return queries, keys, values, gate, and the output, for one token [element]."""
    return 5 * num_attention_heads * head_size


def lightning_rotated_elements(num_attention_heads: Column, head_size: Column) -> Column:
    """Return what activations, norm and gate read and write, for one token [element].

    Notes
    -----
    Queries, keys and values pass an activation; the output a norm, and a product with its gate.
    """
    return 11 * num_attention_heads * head_size


def lightning_kept_elements(num_attention_heads: Column, head_size: Column) -> Column:
    """Return what heads keep for the backward, for one token [element].

    Notes
    -----
    Queries, keys and values before and after their activation; output, its norm, gate, product.
    """
    return 10 * num_attention_heads * head_size
