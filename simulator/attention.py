"""Answers about one layer's attention: work, state, traffic and reach at each length, beside dense."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from costmodels.attention import (
    chunked,
    delta,
    dense,
    dilated,
    exchange,
    infini,
    latent,
    linear,
    memories,
    patterns,
    per_head,
    reach,
    sliding,
)
from costmodels.attention.accounts import Account, Heads, key_value_bytes, memory_bytes
from costmodels.columns import exact
from costmodels.errors import SpecError
from simulator.attention_cases import AttentionCase, options_of

GROWTH = {
    "dense": "per token",
    "sliding": "constant once the window is full",
    "chunked": "saw-tooth, constant at most",
    "dilated": "constant once all segments are full",
    "dilated-heads": "constant once its span is full",
    "infini": "saw-tooth, constant at most",
    "linear": "constant",
    "gated-delta": "constant",
    "compressive": "saw-tooth, constant at most",
    "latent": "per token",
}
"""How the state of a decoder grows with the sequence."""


class AttentionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's attention at one length, all heads and sequences together, projections aside.

    Attributes
    ----------
    layout : str
        Name of the layout.
    layer_index : int
        Which of a layout's layers, where they differ [index].
    options : dict
        All sizes that decide the answer.
    sequence_length : int
        Tokens of a sequence [token].
    attended_pairs, unique_pairs, executed_pairs : int
        Not masked; the same, each counted once (None without a closed form); computed [pair].
    ideal_forward_flop, ideal_backward_flop, ideal_flash_backward_flop : int
        Matrix products that attended pairs and the memory need; flash computes scores again [FLOP].
    executed_forward_flop, executed_backward_flop, executed_flash_backward_flop : int
        What the matrix products of a program compute [FLOP].
    elementwise_flop, softmax_flop : int
        Between products: every operation one for each element, a softmax five; by Chinchilla's
        convention three for each score (Hoffmann et al. 2022, appendix F) [FLOP].
    saved_bytes, flash_saved_bytes : int
        Kept for the backward [byte].
    state_bytes, peak_state_bytes : int
        Of a decoder after the last token, and at most before [byte].
    state_growth : str
        How state grows with the sequence.
    decode_flop, decode_burst_flop : int
        Of the last token's step, and of a segment's end [FLOP].
    prefill_flop_per_byte, materialized_flop_per_byte, decode_flop_per_byte : float
        Arithmetic intensity: ideal work over the least traffic, executed work over traffic with
        scores in memory, a step's work over the state it moves [FLOP/byte].
    reached_tokens : int or None
        Tokens that the last one depends on after `layers`; None beyond what is followed [token].
    span_tokens : int or None
        How far back the farthest of them is; None where it is not known [token].
    sent_bytes : dict of str to int
        What a rank sends forward by each scheme that the layout has [byte].
    compressor_parameters : int
        Weights of a learned compressor [parameter].
    dense_flop_ratio, dense_state_ratio : float
        Dense causal attention's ideal forward, and its state, over this one's [1].
    """

    layout: str
    layer_index: int
    options: dict[str, Any]
    sequence_length: int
    attended_pairs: int
    unique_pairs: int | None
    executed_pairs: int
    ideal_forward_flop: int
    ideal_backward_flop: int
    ideal_flash_backward_flop: int
    executed_forward_flop: int
    executed_backward_flop: int
    executed_flash_backward_flop: int
    elementwise_flop: int
    softmax_flop: int
    saved_bytes: int
    flash_saved_bytes: int
    state_bytes: int
    peak_state_bytes: int
    state_growth: str
    decode_flop: int
    decode_burst_flop: int
    prefill_flop_per_byte: float
    materialized_flop_per_byte: float
    decode_flop_per_byte: float
    reached_tokens: int | None
    span_tokens: int | None
    sent_bytes: dict[str, int]
    compressor_parameters: int
    dense_flop_ratio: float
    dense_state_ratio: float


class MemoryStep(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder with a compressive memory when it has read some segments.

    Attributes
    ----------
    step : int
        Segments read [count].
    tokens : int
        Tokens read [token].
    memory_holds : str
        What the memory is a summary of.
    memory_bytes, window_bytes : int
        The memory after the segment is added, and the segment's own keys and values [byte].
    segment_flop : int
        Matrix products of the segment: attention inside, the read, the update [FLOP].
    total_flop : int
        Of all segments so far [FLOP].
    """

    step: int
    tokens: int
    memory_holds: str
    memory_bytes: int
    window_bytes: int
    segment_flop: int
    total_flop: int


def heads_of(case: AttentionCase) -> Heads:
    """Return the sizes of a case's heads."""
    return Heads(
        case.batch,
        case.heads,
        case.kv_heads,
        case.head_size,
        case.value_size,
        case.element_bytes,
        case.memory_element_bytes,
    )


def branches_of(case: AttentionCase) -> dilated.Branches:
    """Return the branches of a case of dilated attention."""
    grouped = int(case.offsets == "grouped")
    return dilated.Branches(case.segments, case.dilations[0], grouped)


def dilations_of(case: AttentionCase) -> list[per_head.Dilations]:
    """Return the dilations of a case's layers, from the first on."""
    keys = case.keys if case.reading == "sliding" else 0
    residue = int(case.reading == "residue")
    return [per_head.Dilations(rates, keys, case.segments, residue) for rates in case.dilations]


def memory_of(case: AttentionCase) -> infini.Memory:
    """Return how a case of Infini-attention uses its memory."""
    return infini.Memory(
        case.segment,
        int(case.update == "delta"),
        int(case.first_read),
        int(case.last_update),
        int(case.decayed),
    )


def compression_of(case: AttentionCase) -> memories.Compression:
    """Return the memories of a case of a Compressive Transformer."""
    return memories.Compression(
        case.segment, case.memory_tokens, case.compressed_tokens, case.compression_rate
    )


def _dense(case: AttentionCase, lengths: Any) -> Account:
    return dense.account(
        lengths,
        heads_of(case),
        causal=int(case.causal),
        query_length=case.queries or None,
        tile_length=case.tile or None,
    )


def accounts_of(case: AttentionCase, lengths: Any) -> list[Account]:
    """Return the account of each different layer of a case, at all lengths.

    Parameters
    ----------
    case : AttentionCase
        The layout and its sizes.
    lengths : int or array
        Tokens of a sequence; an array of Python integers stays exact at any size [token].
    """
    heads = heads_of(case)
    match case.layout:
        case "dense":
            found = _dense(case, lengths)
        case "sliding":
            found = sliding.account(
                lengths,
                heads,
                window=case.window,
                sink_tokens=case.sink_tokens,
                chunk_length=case.chunk,
            )
        case "chunked":
            found = chunked.account(lengths, heads, chunk_length=case.chunk)
        case "dilated":
            found = dilated.account(
                lengths,
                heads,
                branches=branches_of(case),
                causal=int(case.causal),
                padded=case.padded,
            )
        case "dilated-heads":
            return [per_head.account(lengths, heads, dilations=each) for each in dilations_of(case)]
        case _:
            found = _with_memory(case, lengths, heads)
    return [found]


def _with_memory(case: AttentionCase, lengths: Any, heads: Heads) -> Account:
    match case.layout:
        case "infini":
            return infini.account(lengths, heads, memory=memory_of(case))
        case "linear":
            scan = linear.Scan(case.chunk, int(case.normalized))
            return linear.account(lengths, heads, scan=scan)
        case "gated-delta":
            return delta.account(lengths, heads, chunk_length=case.chunk)
        case "compressive":
            return memories.account(
                lengths, heads, compression=compression_of(case), hidden_size=case.hidden_size
            )
        case _:
            widths = latent.Compressed(case.key_value_rank, case.unrotated_size, case.rotated_size)
            return latent.account(lengths, heads, compressed=widths, absorbed=case.absorbed)


def attention_answers(case: AttentionCase) -> list[AttentionAnswer]:
    """Return the answers of a case: for each of its lengths and different layers.

    Parameters
    ----------
    case : AttentionCase
        The layout and its sizes.

    Returns
    -------
    list of AttentionAnswer
        Layer by layer, the lengths in their order. Counts are exact integers at any length.
    """
    lengths = exact(np.array(case.seq_len))
    plain = dense.account(lengths, heads_of(case))
    columns = accounts_of(case, lengths)
    return [
        _answer(case, layer, row, column, plain)
        for layer, column in enumerate(columns)
        for row in range(len(case.seq_len))
    ]


def _row(value: Any, row: int) -> Any:
    return value[row] if isinstance(value, np.ndarray) else value


def _answer(
    case: AttentionCase, layer: int, row: int, column: Account, plain: Account
) -> AttentionAnswer:
    length = case.seq_len[row]
    numbers = {
        name: _row(value, row)
        for name, value in column._asdict().items()
        if name not in ("ideal", "executed")
    }
    work = {
        f"{kind}_{name}": _row(value, row)
        for kind, passes in (("ideal", column.ideal), ("executed", column.executed))
        for name, value in passes._asdict().items()
    }
    traffic = {name: numbers.pop(name) for name in list(numbers) if name.endswith("traffic_bytes")}
    moved = traffic["prefill_traffic_bytes"] + traffic["score_traffic_bytes"]
    plain_flop = _row(plain.ideal.forward_flop, row)
    plain_state = _row(plain.state_bytes, row)
    reached, span = _reach(case, length)
    return AttentionAnswer(
        layout=case.layout,
        layer_index=layer,
        options={name: getattr(case, name) for name in options_of(case.layout)},
        sequence_length=length,
        softmax_flop=3 * numbers["executed_pairs"],
        state_growth=GROWTH[case.layout],
        prefill_flop_per_byte=work["ideal_forward_flop"] / traffic["prefill_traffic_bytes"],
        materialized_flop_per_byte=work["executed_forward_flop"] / moved,
        decode_flop_per_byte=_quotient(numbers["decode_flop"], traffic["decode_traffic_bytes"]),
        reached_tokens=reached,
        span_tokens=span,
        sent_bytes=_sent(case, length),
        compressor_parameters=_compressor(case),
        dense_flop_ratio=_quotient(plain_flop, work["ideal_forward_flop"]),
        dense_state_ratio=_quotient(plain_state, numbers["state_bytes"]),
        **numbers,
        **work,
    )


def _quotient(top: int, bottom: int) -> float:
    return top / bottom if bottom else 0.0


def _compressor(case: AttentionCase) -> int:
    if case.layout != "compressive":
        return 0
    return int(memories.compressor_parameters(case.hidden_size, case.compression_rate))


def _reach(case: AttentionCase, length: int) -> tuple[int | None, int | None]:
    """Return the tokens that the last one depends on, and how far back the farthest is."""
    match case.layout:
        case "sliding":
            found = sliding.reached_tokens(length, case.window, case.layers, case.sink_tokens)
            return found, length if case.sink_tokens else found
        case "chunked":
            found = chunked.cached_tokens(length, case.chunk)
            return found, found
        case "compressive":
            own = (length - 1) % case.segment + 1
            found = reach.compressive_tokens(
                length,
                case.layers,
                case.memory_tokens,
                case.compressed_tokens,
                case.compression_rate,
                own,
            )
            return found, found
        case "dilated" | "dilated-heads":
            return _followed(case, length)
        case _:
            return length, length


def _followed(case: AttentionCase, length: int) -> tuple[int | None, int | None]:
    span = None
    if case.layout == "dilated-heads" and case.reading == "sliding":
        span = reach.sliding_span_tokens(length, case.layers, dilations_of(case))
        # What lies outside the span decides nothing.
        length = min(length, span)
    if case.layout == "dilated" and all(max(case.segments) % each == 0 for each in case.segments):
        # Segments lie inside the longest, whose start all of them share: earlier ones decide nothing.
        length = (length - 1) % max(case.segments) + 1
    if length > reach.LONGEST_FOLLOWED:
        return None, span
    if case.layout == "dilated":
        counts = reach.dilated_count(length, case.layers, case.heads, branches_of(case))
    else:
        counts = reach.per_head_count(length, case.layers, case.heads, dilations_of(case))
    return counts[-1], span


def _sent(case: AttentionCase, length: int) -> dict[str, int]:
    """Return the bytes that a rank sends in a forward, by scheme."""
    ranks, heads = case.ranks, heads_of(case)
    if ranks == 1:
        return {}
    match case.layout:
        case "infini" | "linear":
            normalizer = int(case.layout == "infini" or case.normalized)
            return {"state_passing": exchange.state_passing_bytes(heads, normalizer)}
        case "gated-delta":
            own = heads._replace(key_value_heads=heads.query_heads)
            return {"state_passing": exchange.state_passing_bytes(own, 0)}
        case "dilated":
            branches = branches_of(case)
            return {
                "segment_all_gather": exchange.dilated_bytes(length, heads, ranks, branches),
                "world_all_gather": exchange.dilated_world_bytes(length, heads, ranks, branches),
            }
        case "sliding" | "dilated-heads":
            return {"halo": exchange.halo_bytes(length, heads, ranks, _farthest(case))}
    return _rings(case, length, heads)


def _farthest(case: AttentionCase) -> int:
    """Return how many tokens before its own a query of any layer sees at most."""
    if case.layout == "sliding":
        return case.window - 1
    return (case.keys - 1) * max(max(rates) for rates in case.dilations)


def _rings(case: AttentionCase, length: int, heads: Heads) -> dict[str, int]:
    if case.layout == "latent":
        widths = latent.Compressed(case.key_value_rank, case.unrotated_size, case.rotated_size)
        part = latent.cached_bytes(length // case.ranks, heads, widths)
        return {"ring": (case.ranks - 1) * part}
    found = {"ring": exchange.ring_bytes(length, heads, case.ranks)}
    if case.kv_heads % case.ranks == 0:
        found["ulysses"] = exchange.ulysses_bytes(length, heads, case.ranks)
    return found


def memory_steps(case: AttentionCase, length: int) -> list[MemoryStep]:
    """Return the compressive memory after each segment of a sequence.

    Parameters
    ----------
    case : AttentionCase
        Of Infini-attention.
    length : int
        Tokens of the sequence [token].

    Raises
    ------
    SpecError
        If the layout has no such memory.
    """
    if case.layout != "infini":
        raise SpecError(f"layout ({case.layout}): only infini attention has a memory by segments")
    heads, memory = heads_of(case), memory_of(case)
    kept = int(memory_bytes(heads))
    steps, total = [], 0
    # Each segment's memory is updated, also the last: more may come.
    streaming = memory._replace(last_update=1)
    ends = range(0, length + case.segment, case.segment)
    for step, (start, end) in enumerate(pairwise(ends), start=1):
        read = min(end, length)
        upto = infini.account(read, heads, memory=streaming).executed.forward_flop
        steps.append(
            MemoryStep(
                step=step,
                tokens=read,
                memory_holds=f"tokens 0 to {read - 1}",
                memory_bytes=kept,
                window_bytes=int(key_value_bytes(read - start, heads)),
                segment_flop=upto - total,
                total_flop=upto,
            )
        )
        total = upto
    return steps


def pattern_of(case: AttentionCase, length: int, head: int, layer: int = 0) -> patterns.Pattern:
    """Return who attends whom in one head of a layer, for a small sequence.

    Parameters
    ----------
    case : AttentionCase
        The layout and its sizes.
    length : int
        Tokens of the sequence [token].
    head : int
        Which head [index].
    layer : int
        Which of the different layers [index].

    Returns
    -------
    array
        (length, length): how often a query counts a key. What a memory holds is not in it.
    """
    match case.layout:
        case "sliding":
            return patterns.sliding(length, case.window, case.sink_tokens)
        case "chunked":
            return patterns.chunked(length, case.chunk)
        case "infini" | "compressive":
            return patterns.chunked(length, case.segment)
        case "dilated":
            return patterns.dilated(length, head, case.heads, branches_of(case), causal=case.causal)
        case "dilated-heads":
            return patterns.per_head(length, head, case.heads, dilations_of(case)[layer])
    return patterns.dense(length, causal=case.causal)


def reached_by_layer(case: AttentionCase, length: int, layers: int) -> patterns.Pattern:
    """Return which tokens the last one depends on after each number of layers, by their patterns.

    Parameters
    ----------
    case : AttentionCase
        The layout and its sizes; layers that differ take turns, the first on the input.
    length : int
        Tokens of the sequence [token].
    layers : int
        Layers at most [count].

    Returns
    -------
    array
        (layers, length): 1 where the last token depends on a token through that many layers, the
        last of which is the layer that the count ends at. What a memory holds is not in it.
    """
    seen = [_by_any_head(case, length, layer) for layer in range(max(len(case.dilations), 1))]
    found = np.zeros((layers, length), dtype=np.int64)
    for count in range(1, layers + 1):
        reached = np.zeros(length, dtype=bool)
        reached[-1] = True
        for layer in reversed(range(count)):
            reached = reached @ seen[layer % len(seen)]
        found[count - 1] = reached
    return found


def _by_any_head(case: AttentionCase, length: int, layer: int) -> Any:
    """Return which keys each query counts in any head; a token that is passed on counts itself."""
    heads = [pattern_of(case, length, head, layer) > 0 for head in range(case.heads)]
    return np.any(heads, axis=0) | np.eye(length, dtype=bool)


def answers_of(cases: Sequence[AttentionCase]) -> Iterator[AttentionAnswer]:
    """Return the answers of several cases, one after the other."""
    for case in cases:
        yield from attention_answers(case)
