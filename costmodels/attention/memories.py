"""Transformers with a memory beside their segment: what each keeps, and Compressive Transformers.

Rows of Munkhdalai et al. 2024 (arXiv:2404.07143v2), Table 1, in scalars of a whole model. The table
leaves out keys and values of the current segment; a decoder holds them too.
"""

from typing import NamedTuple

from costmodels.attention.accounts import (
    Account,
    Heads,
    Work,
    flash_kept_bytes,
    key_value_bytes,
    softmax_account,
)
from costmodels.columns import Column, maximum, minimum


def cached_segment_elements(
    layers: Column, query_heads: Column, head_size: Column, cached_tokens: Column
) -> Column:
    """Return the memory of Transformer-XL: keys and values of the last segment [element].

    Notes
    -----
    (d_k + d_v) H N l. Dai et al. 2019, arXiv:1901.02860.

    Examples
    --------
    >>> cached_segment_elements(12, 8, 128, 2048)
    50331648
    """
    return 2 * head_size * query_heads * cached_tokens * layers


def compressive_elements(
    layers: Column, hidden_size: Column, memory_tokens: Column, compressed_tokens: Column
) -> Column:
    """Return the memories of a Compressive Transformer: hidden states of each layer [element].

    Notes
    -----
    d_model (c + N) l. Rae et al. 2019, arXiv:1911.05507.

    Examples
    --------
    >>> compressive_elements(12, 1024, 2048, 512)
    31457280
    """
    return hidden_size * (memory_tokens + compressed_tokens) * layers


def memorizing_elements(
    layers: Column,
    query_heads: Column,
    head_size: Column,
    cached_tokens: Column,
    stored_tokens: Column,
) -> Column:
    """Return the memory of a Memorizing Transformer: caches, and one layer with many more [element].

    Notes
    -----
    (d_k + d_v) H N S in one layer beside a Transformer-XL cache in each. Wu et al. 2022,
    arXiv:2203.08913.

    Examples
    --------
    >>> memorizing_elements(12, 8, 128, 2048, 65000)
    183451648
    """
    caches = cached_segment_elements(layers, query_heads, head_size, cached_tokens)
    return caches + 2 * head_size * query_heads * stored_tokens


def recurrent_elements(layers: Column, hidden_size: Column, summary_tokens: Column) -> Column:
    """Return the memory of a Recurrent Memory Transformer as the table counts it [element].

    Notes
    -----
    d_model p l 2, for p summary vectors (Bulatov et al. 2022, arXiv:2207.06881).

    Examples
    --------
    >>> recurrent_elements(12, 1024, 100)
    2457600
    """
    return 2 * hidden_size * summary_tokens * layers


def infini_elements(layers: Column, key_value_heads: Column, head_size: Column) -> Column:
    """Return the compressive memory of Infini-attention: d_k (d_v + 1) H l [element].

    Examples
    --------
    >>> infini_elements(12, 8, 128)
    1585152
    """
    return head_size * (head_size + 1) * key_value_heads * layers


def infini_decoder_elements(
    layers: Column, key_value_heads: Column, head_size: Column, segment_length: Column
) -> Column:
    """Return what a decoder holds: the compressive memory and a full segment's cache [element].

    Examples
    --------
    >>> infini_decoder_elements(12, 8, 128, 2048)
    51916800
    """
    cache = cached_segment_elements(layers, key_value_heads, head_size, segment_length)
    return infini_elements(layers, key_value_heads, head_size) + cache


def equivalent_tokens(key_size: Column, value_size: Column) -> Column:
    """Return the tokens whose keys and values a compressive memory is as large as [token].

    Examples
    --------
    >>> equivalent_tokens(128, 128)
    64.5
    """
    return key_size * (value_size + 1) / (key_size + value_size)


class Compression(NamedTuple):
    """Memories of a Compressive Transformer.

    Attributes
    ----------
    segment_length : Column
        Tokens of a segment n [token].
    memory_tokens : Column
        Hidden states kept as they are, a multiple of a segment [token].
    compressed_tokens : Column
        Compressed hidden states kept, at most [token].
    rate : Column
        States that one compressed one stands for c, a divisor of a segment [token].
    """

    segment_length: Column
    memory_tokens: Column
    compressed_tokens: Column
    rate: Column


def compressor_parameters(hidden_size: Column, rate: Column) -> Column:
    """Return the weights and biases of a convolution that compresses, of one layer [parameter].

    Notes
    -----
    Width and stride c from d_model to d_model channels (Rae et al. 2019, section 3.2).

    Examples
    --------
    >>> compressor_parameters(1024, 4)
    4195328
    """
    return hidden_size * hidden_size * rate + hidden_size


def compressor_flop(
    sequence_length: Column, batch_size: Column, hidden_size: Column, compression: Compression
) -> Column:
    """Return the work of compressing what memory drops, of one layer [FLOP].

    Notes
    -----
    Every dropped state meets c d_model^2 weights once for c of them: 2 d_model^2 each.
    """
    return 2 * batch_size * _dropped_tokens(sequence_length, compression) * hidden_size**2


def compressor_backward_flop(
    sequence_length: Column, batch_size: Column, hidden_size: Column, compression: Compression
) -> Column:
    """Return the work of the compressor's gradient: of its weights alone, states have none [FLOP].

    Notes
    -----
    Memory is detached (Rae et al. 2019, section 3). A compressor whose results nobody keeps has no
    gradient. A loss of its own (section 3.3) would come on top.
    """
    forward = compressor_flop(sequence_length, batch_size, hidden_size, compression)
    return forward * minimum(compression.compressed_tokens, 1)


def _segments(sequence_length: Column, compression: Compression) -> Column:
    return -(-sequence_length // compression.segment_length)


def _dropped_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states that memory has dropped when the last segment is processed [token]."""
    before = (_segments(sequence_length, compression) - 1) * compression.segment_length
    return maximum(before - compression.memory_tokens, 0)


def _filling_tokens(segments: Column, step: Column, most: Column) -> Column:
    """Return the sum of min(most, i step) for i from zero to segments less one [token]."""
    growing = minimum(segments, most // step + 1)
    return step * (growing * (growing - 1) // 2) + (segments - growing) * most


def remembered_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states that segments see before their own, the last one's aside [token].

    Returns
    -------
    Column
        Sum over all segments but the last [token].
    """
    segments = _segments(sequence_length, compression) - 1
    segment = compression.segment_length
    plain = _filling_tokens(segments, segment, compression.memory_tokens)
    late = maximum(segments - compression.memory_tokens // segment, 0)
    squeezed = _filling_tokens(late, segment // compression.rate, compression.compressed_tokens)
    return plain + squeezed


def last_remembered_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states that the last segment sees before its own [token]."""
    before = (_segments(sequence_length, compression) - 1) * compression.segment_length
    squeezed = _dropped_tokens(sequence_length, compression) // compression.rate
    plain = minimum(before, compression.memory_tokens)
    return plain + minimum(squeezed, compression.compressed_tokens)


def projected_again_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states of memories whose keys and values segments project, all together [token].

    Examples
    --------
    >>> projected_again_tokens(6, Compression(2, 2, 2, 2))
    5
    """
    before = remembered_tokens(sequence_length, compression)
    return before + last_remembered_tokens(sequence_length, compression)


def dropped_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states that have been compressed when the last segment is processed [token].

    Examples
    --------
    >>> dropped_tokens(6, Compression(2, 2, 2, 2))
    2
    """
    return _dropped_tokens(sequence_length, compression)


def plain_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the states that are kept as they are when the last segment is processed [token]."""
    before = (_segments(sequence_length, compression) - 1) * compression.segment_length
    return minimum(before, compression.memory_tokens)


def _seen_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the tokens of the open segment and the states of memories beside it [token]."""
    own = (sequence_length - 1) % compression.segment_length + 1
    return own + last_remembered_tokens(sequence_length, compression)


def _wide_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the hidden states that a later segment's end compresses [token]."""
    own = (sequence_length - 1) % compression.segment_length + 1
    return own + plain_tokens(sequence_length, compression)


def _end_before(sequence_length: Column, compression: Compression) -> Column:
    """Return the tokens of a sequence up to the end of the segment before its last [token]."""
    before = (_segments(sequence_length, compression) - 1) * compression.segment_length
    return maximum(before, 1)


def state_bytes(
    sequence_length: Column, heads: Heads, compression: Compression, hidden_size: Column
) -> Column:
    """Return what a decoder keeps after some tokens [byte].

    Parameters
    ----------
    sequence_length : Column
        Tokens read so far [token].
    heads : Heads
        Sizes.
    compression : Compression
        Memories.
    hidden_size : Column
        Width of hidden states [element].

    Notes
    -----
    Keys and values of memories and of the open segment, projected once, and the hidden states that
    a later segment's end will compress: those of the segment and of the plain memory. A segment
    goes into memory when the next token comes. Table 1 of the Infini paper counts hidden states of
    memories alone (`compressive_elements`).

    Examples
    --------
    >>> one = Heads(query_heads=1, key_value_heads=1, key_size=4, value_size=4)
    >>> [state_bytes(n, one, Compression(2, 2, 2, 2), 8) for n in (1, 2, 3, 5)]
    [32, 64, 96, 112]
    """
    seen = _seen_tokens(sequence_length, compression)
    wide = _wide_tokens(sequence_length, compression)
    hidden = heads.batch_size * wide * hidden_size * heads.element_bytes
    return key_value_bytes(seen, heads) + hidden


def largest_seen_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the most tokens and states of memories that a decoder reads on its way [token].

    Examples
    --------
    >>> [largest_seen_tokens(n, Compression(2, 2, 2, 2)) for n in (1, 2, 3, 5, 6, 7)]
    [1, 2, 3, 4, 5, 5]
    """
    before = _end_before(sequence_length, compression)
    return maximum(_seen_tokens(sequence_length, compression), _seen_tokens(before, compression))


def largest_wide_tokens(sequence_length: Column, compression: Compression) -> Column:
    """Return the most hidden states that a decoder keeps on its way [token].

    Examples
    --------
    >>> [largest_wide_tokens(n, Compression(2, 2, 2, 2)) for n in (1, 2, 3, 5, 6, 7)]
    [1, 2, 3, 4, 4, 4]
    """
    before = _end_before(sequence_length, compression)
    return maximum(_wide_tokens(sequence_length, compression), _wide_tokens(before, compression))


def peak_state_bytes(
    sequence_length: Column, heads: Heads, compression: Compression, hidden_size: Column
) -> Column:
    """Return the most that a decoder keeps on its way, parameters as of `state_bytes` [byte].

    Notes
    -----
    Now, or at the end of the segment before.
    """
    before = _end_before(sequence_length, compression)
    now = state_bytes(sequence_length, heads, compression, hidden_size)
    return maximum(now, state_bytes(before, heads, compression, hidden_size))


def executed_pairs(sequence_length: Column, compression: Compression) -> Column:
    """Return the pairs of one head whose score is computed: with memories and own segment [pair].

    Examples
    --------
    >>> executed_pairs(6, Compression(2, 2, 2, 2))
    22
    """
    segment = compression.segment_length
    earlier = (_segments(sequence_length, compression) - 1) * segment
    last = sequence_length - earlier
    own = earlier * segment + last * last
    seen = segment * remembered_tokens(sequence_length, compression)
    return own + seen + last * last_remembered_tokens(sequence_length, compression)


def attended_pairs(sequence_length: Column, compression: Compression) -> Column:
    """Return the pairs of one head that are not masked [pair]."""
    segment = compression.segment_length
    whole = _segments(sequence_length, compression) - 1
    last = sequence_length - whole * segment
    masked = whole * (segment * (segment - 1) // 2) + last * (last - 1) // 2
    return executed_pairs(sequence_length, compression) - masked


def account(
    sequence_length: Column, heads: Heads, *, compression: Compression, hidden_size: Column
) -> Account:
    """Return the account of a Compressive Transformer's attention, its compressor included.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    compression : Compression
        Memories.
    hidden_size : Column
        Width of the hidden states that are kept d_model [element].

    Notes
    -----
    Memories hold no gradient (as in the paper): the compressor's backward is that of its weights.
    Keys and values of memories are projected again in each segment (not counted here, as all
    projections). Kept for the backward are operands of products, keys and values of memories in
    each segment that sees them, probabilities, and what was compressed.
    """
    last = last_remembered_tokens(sequence_length, compression)
    own = (sequence_length - 1) % compression.segment_length + 1
    executed = heads.query_heads * executed_pairs(sequence_length, compression)
    found = softmax_account(
        sequence_length,
        heads,
        attended_pairs=heads.query_heads * attended_pairs(sequence_length, compression),
        executed_pairs=executed,
        state_tokens=last + own,
        peak_state_tokens=last + own,
        step_pairs=heads.query_heads * (last + own),
    )
    forward = compressor_flop(sequence_length, heads.batch_size, hidden_size, compression)
    backward = compressor_backward_flop(sequence_length, heads.batch_size, hidden_size, compression)
    compressing = Work(forward, backward, backward)
    again = projected_again_tokens(sequence_length, compression)
    widths = heads.key_size + heads.value_size
    dropped = heads.batch_size * dropped_tokens(sequence_length, compression) * hidden_size
    squeezed = dropped * minimum(compression.compressed_tokens, 1) * heads.element_bytes
    shared = heads.batch_size * again * heads.key_value_heads * widths * heads.element_bytes
    keys = heads.query_heads * (sequence_length * heads.key_size + again * widths)
    values = heads.query_heads * sequence_length * widths
    kept = heads.batch_size * (keys + values + executed) * heads.element_bytes
    end = 2 * heads.batch_size * compression.segment_length * hidden_size**2
    return found._replace(
        ideal=found.ideal.plus(compressing),
        executed=found.executed.plus(compressing),
        saved_bytes=kept + squeezed,
        flash_saved_bytes=flash_kept_bytes(sequence_length, heads) + shared + squeezed,
        state_bytes=state_bytes(sequence_length, heads, compression, hidden_size),
        peak_state_bytes=peak_state_bytes(sequence_length, heads, compression, hidden_size),
        decode_burst_flop=end + 0 * forward,
    )


def crosstalk_fraction(stored: int, key_size: int) -> float:
    """Return the expected error of a value that a linear memory of random unit keys gives back.

    Parameters
    ----------
    stored : int
        Keys stored n [count].
    key_size : int
        Width of a key d [element].

    Returns
    -------
    float
        sqrt((n - 1) / d) of the value's norm: each other value comes with the product of two random
        unit vectors, whose variance is 1 / d [1].

    Examples
    --------
    >>> crosstalk_fraction(129, 128)
    1.0
    """
    return float(((stored - 1) / key_size) ** 0.5)
