"""What a layer's attention costs, as one record that every layout fills in its own way."""

from typing import NamedTuple

from costmodels.columns import Column

ELEMENTWISE_PER_SCORE = 6
"""Scale, and maximum, difference, exponential, sum and quotient of a softmax, one FLOP each."""


class Heads(NamedTuple):
    """Sizes of a layer's heads, and of an element in memory.

    Attributes
    ----------
    batch_size : Column
        Sequences [count].
    query_heads, key_value_heads : Column
        Heads of queries; of keys and values [count].
    key_size, value_size : Column
        Width of a head's query and key; of its value [element].
    element_bytes : Column
        Of keys, values and what is kept for the backward [byte].
    memory_element_bytes : Column
        Of a compressive memory or recurrent state [byte].
    """

    batch_size: Column = 1
    query_heads: Column = 8
    key_value_heads: Column = 8
    key_size: Column = 128
    value_size: Column = 128
    element_bytes: Column = 2
    memory_element_bytes: Column = 4


class Work(NamedTuple):
    """Matrix products of a layer's attention for all its heads and sequences, projections aside.

    Attributes
    ----------
    forward_flop : Column
        One forward [FLOP].
    backward_flop : Column
        The backward that keeps probabilities: four products for a forward's two [FLOP].
    flash_backward_flop : Column
        The backward that computes scores again: five products [FLOP].
    """

    forward_flop: Column
    backward_flop: Column
    flash_backward_flop: Column

    def plus(self, other: "Work") -> "Work":
        """Return the work of both."""
        return Work(*(left + right for left, right in zip(self, other, strict=True)))


class Account(NamedTuple):
    """The cost of one layer's attention over sequences, all heads and sequences together.

    Attributes
    ----------
    attended_pairs : Column
        Pairs of query and key that are not masked, one that several branches see counted in each.
    unique_pairs : Column or None
        The same, each counted once; None where no closed form is known.
    executed_pairs : Column
        Pairs whose score is computed.
    ideal, executed : Work
        Of attended pairs and the memory a token needs; of what the matrix products of a program
        compute [FLOP].
    elementwise_flop : Column
        Everything between matrix products of the program, each output element of an operation one,
        a softmax five for each score [FLOP].
    saved_bytes, flash_saved_bytes : Column
        Kept for the backward with scores in memory, and with a flash kernel [byte].
    state_bytes, peak_state_bytes : Column
        Kept by a decoder after the last token, and at most on the way there [byte].
    decode_flop, decode_burst_flop : Column
        Matrix products of the step of the last token, and of a segment's end beside it [FLOP].
    prefill_traffic_bytes : Column
        Queries, keys, values and outputs once each, the least that a forward moves [byte].
    score_traffic_bytes : Column
        What it moves more if scores and probabilities are written and read [byte].
    decode_traffic_bytes : Column
        State that the step of the last token reads and writes [byte].
    """

    attended_pairs: Column
    unique_pairs: Column | None
    executed_pairs: Column
    ideal: Work
    executed: Work
    elementwise_flop: Column
    saved_bytes: Column
    flash_saved_bytes: Column
    state_bytes: Column
    peak_state_bytes: Column
    decode_flop: Column
    decode_burst_flop: Column
    prefill_traffic_bytes: Column
    score_traffic_bytes: Column
    decode_traffic_bytes: Column


def pairs_work(pairs: Column, heads: Heads) -> Work:
    """Return the matrix products of pairs that are counted over all heads and sequences.

    Notes
    -----
    Forward q k^T and p v; backward dv, dp, dq, dk; a flash kernel computes q k^T again
    (Dao 2023, arXiv:2307.08691, section 2.3.2).

    Examples
    --------
    >>> pairs_work(10, Heads(key_size=4, value_size=2))
    Work(forward_flop=120, backward_flop=240, flash_backward_flop=320)
    """
    key, value = heads.key_size, heads.value_size
    forward = 2 * (key + value) * pairs
    return Work(forward, 2 * forward, 2 * (3 * key + 2 * value) * pairs)


def linear_work(forward_flop: Column) -> Work:
    """Return the work of products without a softmax: backward twice, nothing computed again."""
    return Work(forward_flop, 2 * forward_flop, 2 * forward_flop)


def key_value_bytes(tokens: Column, heads: Heads) -> Column:
    """Return the keys and values of tokens [byte].

    Examples
    --------
    >>> key_value_bytes(1, Heads(key_value_heads=8))
    4096
    """
    width = heads.key_value_heads * (heads.key_size + heads.value_size)
    return heads.batch_size * tokens * width * heads.element_bytes


def memory_bytes(heads: Heads, *, normalizer: Column = 1) -> Column:
    """Return a matrix of keys by values for each key-value head, and a sum of keys [byte].

    Examples
    --------
    >>> memory_bytes(Heads(key_value_heads=8)) // 4
    132096
    """
    elements = heads.key_value_heads * heads.key_size * (heads.value_size + normalizer)
    return heads.batch_size * elements * heads.memory_element_bytes


def operand_bytes(tokens: Column, heads: Heads) -> Column:
    """Return queries, keys, values and outputs of tokens [byte].

    Examples
    --------
    >>> operand_bytes(1, Heads(query_heads=8, key_value_heads=2))
    5120
    """
    width = heads.key_size + heads.value_size
    elements = (heads.query_heads + heads.key_value_heads) * width
    return heads.batch_size * tokens * elements * heads.element_bytes


def naive_saved_bytes(tokens: Column, executed_pairs: Column, heads: Heads) -> Column:
    """Return what a program with scores in memory keeps: operands of each product [byte].

    Notes
    -----
    Queries, keys and values of each query head (grouped ones are expanded first), and
    probabilities. `executed_pairs` counts all heads and sequences. Masks are left out.
    """
    operands = heads.batch_size * heads.query_heads * (2 * heads.key_size + heads.value_size)
    return (operands * tokens + executed_pairs) * heads.element_bytes


def flash_kept_bytes(tokens: Column, heads: Heads) -> Column:
    """Return what a flash kernel keeps: operands, output, one logsumexp of a query in fp32 [byte].

    Examples
    --------
    >>> flash_kept_bytes(1, Heads(query_heads=8, key_value_heads=2))
    5152
    """
    return operand_bytes(tokens, heads) + 4 * heads.batch_size * heads.query_heads * tokens


def softmax_account(
    sequence_length: Column,
    heads: Heads,
    *,
    attended_pairs: Column,
    executed_pairs: Column,
    state_tokens: Column,
    peak_state_tokens: Column,
    step_pairs: Column,
) -> Account:
    """Return the account of a layout that is one softmax over some keys for each query.

    Parameters
    ----------
    sequence_length : Column
        Tokens of a sequence [token].
    heads : Heads
        Sizes.
    attended_pairs, executed_pairs : Column
        For all heads of one sequence [pair].
    state_tokens, peak_state_tokens : Column
        Tokens whose keys and values a decoder keeps after the last token, and at most [token].
    step_pairs : Column
        Keys that the last token's queries read, all heads of one sequence [pair].

    Returns
    -------
    Account
        Of all sequences.
    """
    attended, executed = heads.batch_size * attended_pairs, heads.batch_size * executed_pairs
    return Account(
        attended_pairs=attended,
        unique_pairs=attended,
        executed_pairs=executed,
        ideal=pairs_work(attended, heads),
        executed=pairs_work(executed, heads),
        elementwise_flop=ELEMENTWISE_PER_SCORE * executed,
        saved_bytes=naive_saved_bytes(sequence_length, executed, heads),
        flash_saved_bytes=flash_kept_bytes(sequence_length, heads),
        state_bytes=key_value_bytes(state_tokens, heads),
        peak_state_bytes=key_value_bytes(peak_state_tokens, heads),
        decode_flop=pairs_work(heads.batch_size * step_pairs, heads).forward_flop,
        decode_burst_flop=0 * executed,
        prefill_traffic_bytes=operand_bytes(sequence_length, heads),
        score_traffic_bytes=4 * executed * heads.element_bytes,
        decode_traffic_bytes=key_value_bytes(state_tokens, heads),
    )
