"""Closed forms of attention layouts against matrices of who attends to whom, and in their limits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.analysis import evaluate
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
    sliding,
)
from costmodels.attention.accounts import Account, Heads
from costmodels.columns import exact
from costmodels.compilation import compile_columns
from tests.costmodels.witnesses import witness

BILLION = 10**9
SIZES = st.integers(1, 40)


def brute(pattern: Any) -> tuple[int, int, int]:
    """Return pairs, pairs each counted once, and those of the last query."""
    return int(pattern.sum()), int((pattern > 0).sum()), int(pattern[-1].sum())


@given(SIZES, SIZES, st.integers(0, 9), SIZES)
def test_sliding_pairs_are_those_of_the_matrix(
    length: int, window: int, sinks: int, chunk: int
) -> None:
    pairs, _, last = brute(patterns.sliding(length, window, sinks))
    assert sliding.attended_pairs(length, window, sinks) == pairs
    assert sliding.cached_tokens(length, window, sinks) == last
    executed = 0
    for start in range(0, length, chunk):
        end, first = min(start + chunk, length), max(0, start - window + 1)
        executed += (end - start) * (end - first + min(sinks, first))
    assert sliding.chunked_pairs(length, window, chunk, sinks) == executed


@given(SIZES, SIZES)
def test_chunked_pairs_are_those_of_the_matrix(length: int, chunk: int) -> None:
    pairs, _, last = brute(patterns.chunked(length, chunk))
    assert chunked.attended_pairs(length, chunk) == pairs
    assert chunked.cached_tokens(length, chunk) == last


@st.composite
def branches(draw: st.DrawFn) -> dilated.Branches:
    """Return branches of any sizes, or nested ones."""
    count = draw(st.integers(1, 3))
    if draw(st.booleans()):
        ratio, first = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        base = first * ratio ** (count - 1)
        return dilated.Branches(
            tuple(base * ratio**i for i in range(count)), tuple(ratio**i for i in range(count))
        )
    sizes = st.tuples(*[st.integers(1, 30)] * count)
    rates = st.tuples(*[st.integers(1, 6)] * count)
    return dilated.Branches(draw(sizes), draw(rates), draw(st.integers(0, 1)))


@given(SIZES, st.integers(1, 7), branches(), st.booleans())
def test_dilated_pairs_are_those_of_the_matrices(
    length: int, heads: int, own: dilated.Branches, causal: bool
) -> None:
    found = [
        brute(patterns.dilated(length, head, heads, own, causal=causal)) for head in range(heads)
    ]
    pairs, unique, last = (sum(column) for column in zip(*found, strict=True))
    assert dilated.attended_pairs(length, heads, own, causal=causal) == pairs
    if causal:
        assert dilated.step_pairs(length, heads, own) == last
    if dilated.branches_nest(own):
        assert dilated.unique_pairs(length, heads, own, causal=causal) == unique
    assert dilated.ragged_pairs(length, heads, own) == dilated.attended_pairs(
        length, heads, own, causal=0
    )
    assert dilated.padded_pairs(length, heads, own) >= dilated.ragged_pairs(length, heads, own)


@given(SIZES, st.integers(1, 5), branches())
def test_what_a_dilated_decoder_keeps_stays_below_its_bound(
    length: int, heads: int, own: dilated.Branches
) -> None:
    bound = dilated.cached_rows_limit_tokens(length, heads, own)
    kept = [sum(dilated.live_tokens(token, heads, own)) for token in range(length)]
    assert max(kept) <= bound


@given(
    SIZES,
    st.integers(1, 5),
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    st.integers(1, 8),
    st.integers(1, 20),
    st.sampled_from(("sliding", "segment", "residue")),
)
def test_dilations_of_heads_have_the_pairs_of_their_matrices(
    length: int, heads: int, rates: tuple[int, ...], keys: int, segment: int, reading: str
) -> None:
    segments = () if reading == "sliding" else (segment,) * len(rates)
    own = per_head.Dilations(rates, keys, segments, int(reading == "residue"))
    found = [brute(patterns.per_head(length, head, heads, own)) for head in range(heads)]
    pairs, _, last = (sum(column) for column in zip(*found, strict=True))
    sizes = Heads(1, heads, heads, 2, 3)
    account = per_head.account(length, sizes, dilations=own)
    assert account.attended_pairs == pairs
    assert account.decode_flop == 2 * (2 + 3) * last
    assert account.executed_pairs >= pairs


NESTED = dilated.Branches(tuple(2048 * 2**i for i in range(20)), tuple(2**i for i in range(20)))
HEADS = Heads(2, 32, 8, 128, 128)
ACCOUNTS: dict[str, Callable[[Any], Account]] = {
    "dense": lambda n: dense.account(n, HEADS),
    "sliding": lambda n: sliding.account(n, HEADS, window=4096, sink_tokens=4),
    "chunked": lambda n: chunked.account(n, HEADS, chunk_length=8192),
    "dilated": lambda n: dilated.account(n, HEADS, branches=NESTED),
    "padded": lambda n: dilated.account(n, HEADS, branches=NESTED, padded=True),
    "per head": lambda n: per_head.account(
        n, HEADS, dilations=per_head.Dilations((64, 128, 256), 2048)
    ),
    "segments": lambda n: per_head.account(
        n, HEADS, dilations=per_head.Dilations((1, 2), 0, (64, 128))
    ),
    "infini": lambda n: infini.account(n, HEADS, memory=infini.Memory(2048, 1)),
    "linear": lambda n: linear.account(n, HEADS, scan=linear.Scan(64)),
    "gated delta": lambda n: delta.account(n, HEADS, chunk_length=64),
    "latent": lambda n: latent.account(n, HEADS, compressed=latent.Compressed(512, 128, 64)),
    "compressive": lambda n: memories.account(
        n, HEADS, compression=memories.Compression(512, 512, 512, 4), hidden_size=4096
    ),
}


def flat(account: Account) -> list[Any]:
    found: list[Any] = []
    for value in account:
        found.extend(value if isinstance(value, tuple) else [value])
    return [value for value in found if value is not None]


@pytest.mark.parametrize("layout", ACCOUNTS)
def test_arrays_of_lengths_give_the_integers_of_each_length_up_to_a_billion(layout: str) -> None:
    lengths = [1, 2, 63, 64, 65, 2047, 2048, 2049, 4097, 2**20, BILLION - 1, BILLION]
    columns = flat(ACCOUNTS[layout](exact(np.array(lengths))))
    for row, length in enumerate(lengths):
        alone = flat(ACCOUNTS[layout](length))
        assert [int(value) == value for value in alone]
        for column, value in zip(columns, alone, strict=True):
            each = np.broadcast_to(np.asarray(column, dtype=object), (len(lengths),))[row]
            assert isinstance(each, int)
            assert each == value


def test_work_at_a_billion_tokens_is_beyond_64_bits_and_exact() -> None:
    account = dense.account(exact(np.array([BILLION])), HEADS)
    assert account.executed.forward_flop[0] == 2 * 32 * 4 * 128 * 10**18
    assert account.executed.forward_flop[0] > 2**63
    assert account.attended_pairs[0] == 2 * 32 * (10**18 + 10**9) // 2


def test_numbers_of_one_head_fit_64_bits_at_a_billion_tokens() -> None:
    lengths = np.array([BILLION])
    assert dense.attended_pairs(lengths, 1)[0] == BILLION * (BILLION + 1) // 2
    assert sliding.attended_pairs(lengths, 4096)[0] == sliding.attended_pairs(BILLION, 4096)
    assert dilated.ragged_pairs(lengths, 32, NESTED)[0] == dilated.ragged_pairs(BILLION, 32, NESTED)


@given(SIZES, SIZES)
def test_a_window_as_long_as_the_sequence_is_dense(length: int, more: int) -> None:
    heads = Heads(1, 2, 1, 3, 5)
    wide = sliding.account(length, heads, window=length + more)
    whole = dense.account(length, heads)
    assert wide.ideal == whole.ideal
    assert wide.executed == whole.executed
    assert wide.state_bytes == whole.state_bytes


@given(SIZES, st.integers(1, 4))
def test_one_branch_of_every_token_is_dense(length: int, heads: int) -> None:
    one = dilated.Branches((64,), (1,))
    assert dilated.attended_pairs(length, heads, one) == heads * dense.attended_pairs(length, 1)


@given(SIZES, SIZES, st.integers(0, 1))
def test_a_single_segment_of_infini_attention_is_dense(
    length: int, more: int, is_delta: int
) -> None:
    heads = Heads(1, 4, 2, 3, 5)
    found = infini.account(length, heads, memory=infini.Memory(length + more, is_delta))
    whole = dense.account(length, heads)
    assert found.executed == whole.executed
    assert found.state_bytes == whole.state_bytes


@given(SIZES, SIZES)
def test_decoding_costs_what_the_ideal_forward_does(length: int, segment: int) -> None:
    heads = Heads(1, 3, 3, 2, 4)
    memory = infini.Memory(segment)
    steps = sum(infini.step_flop(n, heads, segment) for n in range(1, length + 1))
    bursts = (infini.segment_count(length, segment) - 1) * infini.burst_flop(heads, memory)
    assert steps + bursts == infini.account(length, heads, memory=memory).ideal.forward_flop


@given(SIZES, st.integers(1, 20), st.integers(0, 3), st.integers(0, 9), st.integers(1, 4))
def test_segments_with_memories_see_what_a_queue_holds(
    length: int, parts: int, kept: int, most: int, rate: int
) -> None:
    segment = rate * parts
    own = memories.Compression(segment, kept * segment, most, rate)
    plain = squeezed = pairs = 0
    for start in range(0, length, segment):
        size = min(segment, length - start)
        pairs += size * (plain + squeezed + size)
        plain += segment
        while plain > own.memory_tokens:
            plain, squeezed = plain - rate, squeezed + 1
        squeezed = min(squeezed, most)
    assert memories.executed_pairs(length, own) == pairs


def test_the_layout_of_the_longnet_paper_at_32k() -> None:
    """429,496,731,648 FLOP: twice 214,748,365,824 multiply-adds, of which equation 17 drops some."""
    paper = dilated.Branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
    heads = Heads(1, 12, 12, 64, 64)
    account = dilated.account(32768, heads, branches=paper)
    assert account.executed.forward_flop == 429_496_731_648
    assert account.ideal.forward_flop == 214_849_029_120
    padded = dilated.account(32768, heads, branches=paper, padded=True)
    assert padded.executed.forward_flop == 429_513_507_840
    assert dense.account(32768, heads).executed.forward_flop == 3_298_534_883_328


def test_published_memories_of_the_infini_paper() -> None:
    """Table 2 of arXiv:2404.07143v2: 50M, 183M, 2.5M and 1.6M, and 114 times as small."""
    longer = memories.cached_segment_elements(12, 8, 128, 2048)
    memorizing = memories.memorizing_elements(12, 8, 128, 2048, 65_000)
    recurrent = memories.recurrent_elements(12, 1024, 100)
    own = memories.infini_elements(12, 8, 128)
    rounded = [round(count / 1e6, 1) for count in (longer, memorizing, recurrent, own)]
    assert rounded == [50.3, 183.5, 2.5, 1.6]
    assert round(183 / 1.6) == 114
    decoder = memories.infini_decoder_elements(12, 8, 128, 2048)
    assert round(memorizing / decoder, 1) == 3.5
    assert memories.infini_decoder_elements(12, 8, 128, 32_768) > memorizing


def test_decoding_reads_twice_the_group_over_the_bytes_of_an_element() -> None:
    for query, shared in ((8, 8), (64, 8)):
        account = dense.account(4096, Heads(1, query, shared, 128, 128, 2))
        assert account.decode_flop / account.decode_traffic_bytes == query / shared


def test_absorbed_latent_attention_decodes_at_many_flop_a_byte() -> None:
    """2 H (2 d_c + d_R) / (b (d_c + d_R)): 241.8 of DeepSeek-V2 in 16 bits, the cache alone."""
    heads = Heads(1, 128, 128, 192, 128, 2)
    own = latent.Compressed(512, 128, 64)
    account = latent.account(10**6, heads, compressed=own)
    cores = account.decode_flop - latent.expanding_flop(1, heads, own)
    assert round(cores / account.decode_traffic_bytes, 1) == 241.8


def test_exchange_volumes() -> None:
    heads = Heads(1, 32, 32, 128, 128, 2)
    nested = dilated.Branches(tuple(2048 * 2**i for i in range(10)), tuple(2**i for i in range(10)))
    assert exchange.ring_bytes(2**20, heads, 8) == 14 * 2**30
    assert exchange.ulysses_bytes(2**20, heads, 8) == 3.5 * 2**30
    world = exchange.dilated_world_bytes(2**20, heads, 8, nested)
    assert round(world / 2**30, 3) == 0.191
    assert exchange.ring_bytes(2**20, heads, 1) == 0


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 8))
def test_ranks_send_what_others_of_their_segment_hold_for_them(
    parts: int, heads: int, rank_tokens: int
) -> None:
    ranks, part = 2**parts, 8 * rank_tokens
    branches = dilated.Branches((part, part * ranks), (1, 4))
    sent = exchange.dilated_bytes(part * ranks, Heads(1, heads, heads, 2, 3, 2), ranks, branches)
    assert sent == (ranks - 1) * (part // 4) * heads * (2 + 3) * 2


LAYERS: dict[str, dict[str, Any]] = {
    "sliding": {"window": 100},
    "chunked": {"chunk_length": 100},
    "dilated": {"segment_lengths": [64, 256, 1000], "dilation_rates": [1, 3, 12]},
    "infini": {"segment_length": 100},
    "gated-delta": {
        "key_heads": 8,
        "value_heads": 16,
        "key_head_size": 32,
        "value_head_size": 64,
        "convolution_width": 4,
    },
    "lightning": {"block_length": 48},
    "dilated-heads": {"dilation_rates": [3, 100], "keys_per_query": 30},
    "linear": {"scan_length": 48},
    "compressive": {
        "segment_length": 60,
        "memory_tokens": 120,
        "compressed_tokens": 90,
        "compression_rate": 3,
    },
}
WANTED = (
    "attended_pairs",
    "executed_pairs",
    "layer_attention_flop",
    "layer_attention_backward_flop",
    "layer_model_flop",
    "attention_core_bytes",
    "attention_saved_bytes",
    "layer_score_bytes",
    "layer_forward_s",
)


@pytest.mark.parametrize("kernel", ["flash", "naive"])
@pytest.mark.parametrize("layout", LAYERS)
def test_layers_in_columns_are_layers_alone(layout: str, kernel: str) -> None:
    layouts = [{"type": layout, **LAYERS[layout]}, {"type": "dense"}]
    scenario = witness("small", model__layouts=layouts, plan__attention_kernel=kernel)
    lengths = [1, 64, 99, 100, 101, 1000, 1001, 4096]
    columns = compile_columns(scenario, {"workload.sequence_length": lengths})
    together = evaluate(columns, WANTED)
    for row, length in enumerate(lengths):
        one = witness(
            "small",
            model__layouts=layouts,
            plan__attention_kernel=kernel,
            workload__sequence_length=length,
        )
        alone = evaluate(compile_columns(one), WANTED)
        for name in WANTED:
            for column, value in zip(together[name], alone[name], strict=True):
                many = np.broadcast_to(np.asarray(column), (len(lengths),))
                assert many[row] == np.asarray(value).reshape(-1)[0], (name, length)


def test_a_layer_of_dilated_attention_does_less_than_dense_and_infini_keeps_states() -> None:
    """At 32k: dense attention's work over the layout's, and what is kept beside dense tensors."""
    found = {}
    for name in ("dilated", "infini", "sliding"):
        layouts = [{"type": name, **LAYERS[name]}, {"type": "dense"}]
        scenario = witness("small", model__layouts=layouts, workload__sequence_length=32768)
        own, plain = evaluate(compile_columns(scenario), ["layer_attention_flop"])[
            "layer_attention_flop"
        ]
        found[name] = float(np.asarray(plain)[0] / np.asarray(own)[0])
    assert found["sliding"] > 100
    assert found["dilated"] > 50
    assert found["infini"] > 50


def test_tensor_parallel_ranks_share_a_state_by_heads() -> None:
    layouts = [{"type": "gated-delta", **LAYERS["gated-delta"]}]
    whole, part = (
        evaluate(
            compile_columns(
                witness("small", model__layouts=layouts, plan__tensor_parallel_size=ranks)
            ),
            ["layer_attention_flop"],
        )["layer_attention_flop"][0]
        for ranks in (1, 4)
    )
    assert int(whole[0]) == 4 * int(part[0])
