"""Dense attention: how many pairs of query and key it has, and how many are computed."""

from costmodels.attention.accounts import Account, Heads, softmax_account
from costmodels.columns import Column, where


def attended_pairs(sequence_length: Column, causal: Column) -> Column:
    """Return the pairs of query and key that are not masked, for one head and sequence [pair].

    Examples
    --------
    >>> attended_pairs(4, causal=1), attended_pairs(4, causal=0)
    (10, 16)
    """
    square = sequence_length * sequence_length
    return where(causal, (square + sequence_length) // 2, square)


def executed_pairs(
    sequence_length: Column, causal: Column, attention_kernel_is_flash: Column
) -> Column:
    """Return the pairs whose score is computed, for one head and sequence [pair].

    Notes
    -----
    A naive kernel computes the whole square and masks it. A flash kernel skips blocks that are
    masked whole; the masked part of the blocks on the diagonal (a share of the order of block
    size over sequence length) is left out.

    Examples
    --------
    >>> executed_pairs(4, causal=1, attention_kernel_is_flash=0)
    16
    """
    return where(
        attention_kernel_is_flash,
        attended_pairs(sequence_length, causal),
        sequence_length * sequence_length,
    )


def appended_pairs(query_length: Column, sequence_length: Column) -> Column:
    """Return the causal pairs of the last queries of a sequence with its keys, of one head [pair].

    Parameters
    ----------
    query_length : Column
        Queries, the last of the sequence: one for a decoding step [token].
    sequence_length : Column
        Keys, those of the queries included [token].

    Examples
    --------
    >>> appended_pairs(1, 4), appended_pairs(4, 4)
    (4, 10)
    """
    return query_length * sequence_length - query_length * (query_length - 1) // 2


def tiled_pairs(sequence_length: Column, tile_length: Column) -> Column:
    """Return the pairs that a causal kernel computes which skips whole square tiles [pair].

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    tile_length : Column
        Queries of a tile, and keys [token].

    Examples
    --------
    >>> tiled_pairs(4, 1), tiled_pairs(4, 2), tiled_pairs(5, 2)
    (10, 12, 17)
    """
    whole = sequence_length // tile_length
    rest = sequence_length - whole * tile_length
    return tile_length * tile_length * (whole * (whole + 1) // 2) + rest * sequence_length


def account(
    sequence_length: Column,
    heads: Heads,
    *,
    causal: Column = 1,
    query_length: Column | None = None,
    tile_length: Column | None = None,
) -> Account:
    """Return the account of dense attention of (batch, heads, sequence, width).

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    causal : Column
        Whether the future is masked. A program without tiles computes the whole square either way.
    query_length : Column, optional
        Queries, the last of a causal sequence: as an append or a decoding step has [token].
    tile_length : Column, optional
        Queries and keys of a tile of a kernel that skips masked tiles [token].
    """
    attended = attended_pairs(sequence_length, causal)
    executed, queries = sequence_length * sequence_length, sequence_length
    if query_length is not None:
        queries = query_length + 0 * sequence_length
        attended = appended_pairs(queries, sequence_length)
        executed = queries * sequence_length
    if tile_length is not None:
        executed = tiled_pairs(sequence_length, tile_length)
    found = softmax_account(
        sequence_length,
        heads,
        attended_pairs=heads.query_heads * attended,
        executed_pairs=heads.query_heads * executed,
        state_tokens=sequence_length,
        peak_state_tokens=sequence_length,
        step_pairs=heads.query_heads * sequence_length,
    )
    if query_length is None:
        return found
    # Queries and outputs of the last tokens only.
    fewer = heads.batch_size * heads.query_heads * (sequence_length - queries)
    wide = (heads.key_size + heads.value_size) * heads.element_bytes
    return found._replace(
        saved_bytes=found.saved_bytes - fewer * heads.key_size * heads.element_bytes,
        flash_saved_bytes=found.flash_saved_bytes - fewer * (wide + 4),
        prefill_traffic_bytes=found.prefill_traffic_bytes - fewer * wide,
    )
