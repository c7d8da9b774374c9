"""Each layout as a torch program: its work to the FLOP, its output by definition, its state to the byte."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.attention import (
    chunked,
    delta,
    dense,
    dilated,
    infini,
    latent,
    linear,
    memories,
    patterns,
    per_head,
    sliding,
)
from costmodels.attention.accounts import Account, Heads

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

DOUBLE = 8
EXAMPLES = settings(max_examples=15)


class Shape(NamedTuple):
    """Sizes of tensors; values may be wider than keys, queries share keys."""

    batch: int
    heads: int
    shared: int
    length: int
    key: int
    value: int

    @property
    def sizes(self) -> Heads:
        return Heads(self.batch, self.heads, self.shared, self.key, self.value, DOUBLE, DOUBLE)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    shared = draw(st.integers(1, 3))
    width = st.integers(1, 5)
    return Shape(
        batch=draw(st.integers(1, 2)),
        heads=shared * draw(st.integers(1, 3)),
        shared=shared,
        length=draw(st.integers(1, 14)),
        key=draw(width),
        value=draw(width),
    )


def random(*size: int) -> Any:
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


def tensors(shape: Shape) -> tuple[Any, Any, Any]:
    torch.manual_seed(sum(shape))
    return (
        random(shape.batch, shape.heads, shape.length, shape.key),
        random(shape.batch, shape.shared, shape.length, shape.key),
        random(shape.batch, shape.shared, shape.length, shape.value),
    )


def assert_work(run: Callable[[], Any], account: Account) -> None:
    from validation.torch_programs.counting import passes

    counted = passes(run)
    assert counted.forward.total == account.executed.forward_flop
    assert counted.backward.total == account.executed.backward_flop


def assert_between(run: Callable[[], Any], account: Account) -> None:
    """Assert the work between matrix products, and what autograd keeps."""
    from validation.torch_programs.elementwise import elementwise_flop, saved_bytes

    assert elementwise_flop(run) == account.elementwise_flop
    assert saved_bytes(run) == account.saved_bytes


def assert_defined(
    run: Callable[[], Any], given_tensors: tuple[Any, Any, Any], pattern: Callable[[int], Any]
) -> None:
    from validation.torch_programs.layouts import by_definition

    expected = by_definition(*given_tensors, pattern)
    torch.testing.assert_close(run(), expected, atol=1e-12, rtol=1e-12)


def assert_decoded(
    decoder: Any, given_tensors: tuple[Any, Any, Any], output: Any, state: Callable[[int], int]
) -> int:
    """Assert outputs and state token by token; return the most that was kept."""
    from validation.torch_programs.decoders import decoded

    found = decoded(decoder, *given_tensors)
    torch.testing.assert_close(found.output, output, atol=1e-10, rtol=1e-10)
    assert found.state_bytes == [state(n) for n in range(1, len(found.state_bytes) + 1)]
    return max(found.state_bytes)


@EXAMPLES
@given(shapes(), st.booleans())
def test_dense(shape: Shape, causal: bool) -> None:
    from validation.torch_programs import decoders, layouts

    given_tensors = tensors(shape)
    account = dense.account(shape.length, shape.sizes, causal=causal)

    def run() -> Any:
        return layouts.dense(*given_tensors, causal=causal)

    assert_work(run, account)
    assert_between(run, account)
    assert_defined(run, given_tensors, lambda _: patterns.dense(shape.length, causal=causal))
    if causal:
        peak = assert_decoded(
            decoders.dense_decoder(),
            given_tensors,
            run(),
            lambda n: dense.account(n, shape.sizes).state_bytes,
        )
        assert peak == account.peak_state_bytes


@EXAMPLES
@given(shapes(), st.integers(1, 14))
def test_the_last_queries_of_a_sequence(shape: Shape, queries: int) -> None:
    from validation.torch_programs import layouts
    from validation.torch_programs.counting import passes

    query, key, value = tensors(shape)
    last = min(queries, shape.length)
    whole = layouts.dense(query, key, value)
    part = layouts.dense(query[:, :, -last:], key, value)
    torch.testing.assert_close(part, whole[:, :, -last:])
    counted = passes(lambda: layouts.dense(query[:, :, -last:], key, value))
    pairs = shape.batch * shape.heads * last * shape.length
    assert counted.forward.total == 2 * (shape.key + shape.value) * pairs
    seen = int(patterns.dense(shape.length)[-last:].sum())
    assert dense.appended_pairs(last, shape.length) == seen


@EXAMPLES
@given(shapes(), st.integers(1, 16), st.integers(1, 16), st.integers(0, 4))
def test_sliding(shape: Shape, window: int, chunk: int, sinks: int) -> None:
    from validation.torch_programs import decoders, layouts

    given_tensors = tensors(shape)
    options = {"window": window, "sink_tokens": sinks}
    account = sliding.account(shape.length, shape.sizes, **options, chunk_length=chunk)

    def run() -> Any:
        return layouts.sliding(*given_tensors, window, chunk_length=chunk, sink_tokens=sinks)

    assert_work(run, account)
    assert_between(run, account)
    assert_defined(run, given_tensors, lambda _: patterns.sliding(shape.length, window, sinks))
    peak = assert_decoded(
        decoders.sliding_decoder(window, sinks),
        given_tensors,
        run(),
        lambda n: sliding.account(n, shape.sizes, **options).state_bytes,
    )
    assert peak == account.peak_state_bytes


@EXAMPLES
@given(shapes(), st.integers(1, 16))
def test_chunked(shape: Shape, chunk: int) -> None:
    from validation.torch_programs import decoders, layouts

    given_tensors = tensors(shape)
    account = chunked.account(shape.length, shape.sizes, chunk_length=chunk)

    def run() -> Any:
        return layouts.chunked(*given_tensors, chunk)

    assert_work(run, account)
    assert_between(run, account)
    assert_defined(run, given_tensors, lambda _: patterns.chunked(shape.length, chunk))
    peak = assert_decoded(
        decoders.chunked_decoder(chunk),
        given_tensors,
        run(),
        lambda n: chunked.account(n, shape.sizes, chunk_length=chunk).state_bytes,
    )
    assert peak == account.peak_state_bytes


@st.composite
def branches(draw: st.DrawFn) -> dilated.Branches:
    """Return branches of any sizes: dilations may exceed the heads, or divide nothing."""
    count = draw(st.integers(1, 3))
    sizes, rates = st.tuples(*[st.integers(1, 17)] * count), st.tuples(*[st.integers(1, 6)] * count)
    return dilated.Branches(draw(sizes), draw(rates))


@EXAMPLES
@given(shapes(), branches(), st.booleans(), st.booleans(), st.booleans())
def test_dilated(
    shape: Shape, own: dilated.Branches, causal: bool, padded: bool, grouped: bool
) -> None:
    from validation.torch_programs import layouts
    from validation.torch_programs.elementwise import elementwise_flop, saved_bytes

    given_tensors, own = tensors(shape), own._replace(grouped_offsets=int(grouped))
    account = dilated.account(shape.length, shape.sizes, branches=own, causal=causal, padded=padded)

    def run() -> Any:
        return layouts.dilated(*given_tensors, own, causal=causal, padded=padded)

    def pattern(head: int) -> Any:
        return patterns.dilated(shape.length, head, shape.heads, own, causal=causal)

    assert_work(run, account)
    assert elementwise_flop(run) == account.elementwise_flop
    assert saved_bytes(run) == account.saved_bytes
    assert_defined(run, given_tensors, pattern)


@settings(max_examples=12)
@given(shapes(), branches())
def test_a_dilated_decoder(shape: Shape, own: dilated.Branches) -> None:
    from validation.torch_programs import decoders, layouts

    given_tensors = tensors(shape)
    width = shape.batch * (shape.key + shape.value) * DOUBLE
    peak = assert_decoded(
        decoders.dilated_decoder(shape.heads, own),
        given_tensors,
        layouts.dilated(*given_tensors, own),
        lambda n: sum(dilated.live_tokens(n - 1, shape.heads, own)) * width,
    )
    account = dilated.account(shape.length, shape.sizes, branches=own)
    assert peak <= account.peak_state_bytes


@settings(max_examples=20)
@given(
    shapes(),
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    st.integers(1, 5),
    st.integers(1, 16),
    st.sampled_from(("sliding", "segment", "residue")),
)
def test_dilations_of_heads(
    shape: Shape, rates: tuple[int, ...], keys: int, segment: int, reading: str
) -> None:
    from validation.torch_programs import decoders, layouts

    segments = () if reading == "sliding" else (segment,) * len(rates)
    own = per_head.Dilations(rates, keys, segments, int(reading == "residue"))
    given_tensors = tensors(shape)
    account = per_head.account(shape.length, shape.sizes, dilations=own)

    def run() -> Any:
        return layouts.per_head(*given_tensors, own)

    assert_work(run, account)
    assert_between(run, account)
    assert_defined(
        run,
        given_tensors,
        lambda head: patterns.per_head(shape.length, head, shape.heads, own),
    )
    if reading == "sliding":
        unshared = shape.sizes._replace(key_value_heads=shape.heads)
        peak = assert_decoded(
            decoders.per_head_decoder(shape.heads, own),
            given_tensors,
            run(),
            lambda n: per_head.account(n, unshared, dilations=own).state_bytes,
        )
        assert peak == per_head.account(shape.length, unshared, dilations=own).peak_state_bytes


def shares(heads: int) -> tuple[Any, Any]:
    parts = torch.rand(heads, 1, 1, dtype=torch.float64)
    return parts.clone().requires_grad_(), (1 - parts).requires_grad_()


@EXAMPLES
@given(
    shapes(),
    st.integers(1, 16),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_infini(
    shape: Shape, segment: int, delta_rule: bool, first: bool, last: bool, decayed: bool
) -> None:
    from validation.torch_programs.elementwise import elementwise_flop, saved_bytes
    from validation.torch_programs.memory_layouts import Decay
    from validation.torch_programs.memory_layouts import infini as program

    given_tensors, mix = tensors(shape), shares(shape.heads)
    own = infini.Memory(segment, int(delta_rule), int(first), int(last), int(decayed))
    account = infini.account(shape.length, shape.sizes, memory=own)
    factors = torch.rand(2, shape.shared, 1, 1, dtype=torch.float64, requires_grad=True)
    decay = Decay(*factors.unbind(0)) if decayed else None

    def run() -> Any:
        return program(*given_tensors, own, mix, decay)

    assert_work(run, account)
    if not first and not last:
        assert elementwise_flop(run) == account.elementwise_flop
    if not last:
        parts = shape.heads * (1 + (first or shape.length > segment))
        parts += decayed * (shape.length > segment) * factors.numel()
        assert saved_bytes(run) - parts * DOUBLE == account.saved_bytes


@settings(max_examples=20)
@given(shapes(), st.integers(1, 16), st.booleans())
def test_an_infini_decoder(shape: Shape, segment: int, delta_rule: bool) -> None:
    from validation.torch_programs.decoders import InfiniDecoder
    from validation.torch_programs.memory_layouts import infini as program

    given_tensors, mix = tensors(shape), shares(shape.heads)
    own = infini.Memory(segment, int(delta_rule))
    peak = assert_decoded(
        InfiniDecoder(own, mix),
        given_tensors,
        program(*given_tensors, own, mix),
        lambda n: infini.state_bytes(n, shape.sizes, segment),
    )
    assert peak == infini.peak_state_bytes(shape.length, shape.sizes, segment)


def test_the_linear_rule_is_softmax_free_attention_to_all_segments_before() -> None:
    """The memory read equals sums over keys of earlier segments, from their definition."""
    from validation.torch_programs.memory_layouts import infini as program
    from validation.torch_programs.memory_layouts import mapped

    shape = Shape(1, 2, 2, 11, 3, 4)
    query, key, value = tensors(shape)
    mix = (torch.ones(2, 1, 1, dtype=torch.float64), torch.zeros(2, 1, 1, dtype=torch.float64))
    found = program(query, key, value, infini.Memory(4), mix)
    weights = mapped(query) @ mapped(key).transpose(-1, -2)
    places = np.arange(11)
    earlier = torch.from_numpy(places[:, None] // 4 > places[None, :] // 4)
    weights = weights * earlier
    expected = (weights / weights.sum(-1, keepdim=True)).nan_to_num() @ value
    torch.testing.assert_close(found, expected)


@EXAMPLES
@given(shapes(), st.integers(0, 16), st.booleans())
def test_linear(shape: Shape, chunk: int, normalized: bool) -> None:
    from validation.torch_programs import decoders, memory_layouts

    given_tensors = tensors(shape)
    scan = linear.Scan(chunk, int(normalized))
    account = linear.account(shape.length, shape.sizes, scan=scan)

    def run() -> Any:
        return memory_layouts.linear(*given_tensors, scan)

    assert_work(run, account)
    if chunk:
        assert_between(run, account)
    query, key, value = given_tensors
    heads = shape.heads // shape.shared
    features = memory_layouts.mapped(key).repeat_interleave(heads, dim=1)
    weights = (memory_layouts.mapped(query) @ features.transpose(-1, -2)).tril()
    if normalized:
        weights = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(run(), weights @ value.repeat_interleave(heads, dim=1))
    peak = assert_decoded(
        decoders.linear_decoder(normalizer=normalized),
        given_tensors,
        run(),
        lambda _: account.state_bytes,
    )
    assert peak == account.peak_state_bytes


def test_linear_attention_without_a_mask() -> None:
    from validation.torch_programs import memory_layouts
    from validation.torch_programs.counting import passes

    shape = Shape(2, 6, 3, 9, 4, 5)
    given_tensors = tensors(shape)
    counted = passes(lambda: memory_layouts.linear_full(*given_tensors))
    assert counted.forward.total == linear.full_flop(9, shape.sizes)
    assert counted.backward.total == 2 * linear.full_flop(9, shape.sizes)


@EXAMPLES
@given(shapes(), st.integers(1, 16))
def test_gated_delta(shape: Shape, chunk: int) -> None:
    from validation.torch_programs.decoders import DeltaDecoder
    from validation.torch_programs.memory_layouts import gated_delta

    shape = shape._replace(shared=shape.heads)
    query, key, value = tensors(shape)
    key = torch.nn.functional.normalize(key, dim=-1).detach().requires_grad_()
    rate = (shape.batch, shape.heads, shape.length)
    steps = torch.rand(*rate, dtype=torch.float64, requires_grad=True)
    logs = (-torch.rand(*rate, dtype=torch.float64)).requires_grad_()
    account = delta.account(shape.length, shape.sizes, chunk_length=chunk)

    def run() -> Any:
        return gated_delta(query, key, value, steps, logs, chunk)

    assert_work(run, account)
    peak = assert_decoded(
        DeltaDecoder(steps, logs), (query, key, value), run(), lambda _: account.state_bytes
    )
    assert peak == account.peak_state_bytes


@settings(max_examples=20)
@given(shapes(), st.integers(1, 6), st.integers(1, 4))
def test_latent(shape: Shape, rank: int, rotated: int) -> None:
    from validation.torch_programs import layouts
    from validation.torch_programs.decoders import LatentDecoder
    from validation.torch_programs.elementwise import saved_bytes

    torch.manual_seed(sum(shape))
    plain, turned = (
        random(shape.batch, shape.heads, shape.length, width) for width in (shape.key, rotated)
    )
    queries = (plain, turned)
    compressed, rotation = (random(shape.batch, shape.length, width) for width in (rank, rotated))
    to_keys, to_values = (random(shape.heads, rank, width) for width in (shape.key, shape.value))
    expanding = (to_keys, to_values)
    own = latent.Compressed(rank, shape.key, rotated)
    outputs = {}
    for absorbed, program in (
        (False, layouts.latent_decompressed),
        (True, layouts.latent_absorbed),
    ):
        account = latent.account(shape.length, shape.sizes, compressed=own, absorbed=absorbed)

        def run(program: Any = program) -> Any:
            return program(queries, compressed, rotation, expanding)

        assert_work(run, account)
        weights = to_keys.numel() + to_values.numel()
        assert saved_bytes(run) == account.saved_bytes + DOUBLE * weights
        outputs[absorbed] = run()
    torch.testing.assert_close(outputs[True], outputs[False], atol=1e-10, rtol=1e-10)
    decoder = LatentDecoder(expanding)
    steps = [decoder.step(queries, compressed, rotation, at) for at in range(shape.length)]
    torch.testing.assert_close(torch.cat(steps, dim=2), outputs[False], atol=1e-10, rtol=1e-10)
    kept = sum(each.numel() * DOUBLE for each in decoder.tensors())
    assert kept == latent.cached_bytes(shape.length, shape.sizes, own)


@settings(max_examples=20)
@given(shapes(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 5))
def test_a_compressive_transformer(
    shape: Shape, rate: int, parts: int, kept: int, most: int
) -> None:
    from validation.torch_programs.counting import passes
    from validation.torch_programs.decoders import CompressiveDecoder
    from validation.torch_programs.elementwise import saved_bytes
    from validation.torch_programs.memory_layouts import Compressor, compressive

    hidden, segment = 4, rate * parts
    own = memories.Compression(segment, kept * segment, most, rate)
    widths = (shape.key, shape.key, shape.value)
    query, key, value = (random(hidden, shape.heads * width) for width in widths)
    weights = Compressor(query, key, value, random(rate * hidden, hidden))
    states = random(shape.batch, shape.length, hidden)

    def run() -> Any:
        return compressive(states, shape.heads, own, weights)

    counted = passes(run)
    unshared = shape.sizes._replace(key_value_heads=shape.heads)
    account = memories.account(shape.length, unshared, compression=own, hidden_size=hidden)
    pairs = shape.batch * shape.heads * memories.executed_pairs(shape.length, own)
    core = 2 * (shape.key + shape.value) * pairs
    assert counted.forward.scores == core
    assert counted.backward.scores == 2 * core
    keys = shape.length + memories.projected_again_tokens(shape.length, own)
    widths = shape.length * shape.key + keys * (shape.key + shape.value)
    projected = 2 * shape.batch * hidden * shape.heads * widths
    assert counted.forward.total == account.executed.forward_flop + projected
    assert counted.backward.total == account.executed.backward_flop + 2 * projected
    dropped = memories.dropped_tokens(shape.length, own)
    if shape.batch == 1 and not dropped:
        # What projections read, their weights too; a batch of slices would be copied.
        entering = (shape.length + keys) * hidden + query.numel() + key.numel() + value.numel()
        assert saved_bytes(run) == account.saved_bytes + DOUBLE * entering
    parameters = weights.squeeze.numel() + hidden
    assert memories.compressor_parameters(hidden, rate) == parameters
    decoder = CompressiveDecoder(shape.heads, own, weights)
    outputs, kept_bytes = [], []
    for at in range(shape.length):
        outputs.append(decoder.step(states, at))
        kept_bytes.append(sum(each.numel() * DOUBLE for each in decoder.tensors()))
    torch.testing.assert_close(torch.cat(outputs, dim=2), run(), atol=1e-10, rtol=1e-10)
    said = [memories.state_bytes(n, unshared, own, hidden) for n in range(1, shape.length + 1)]
    assert kept_bytes == said
    assert max(kept_bytes) == account.peak_state_bytes


def test_the_program_of_dilated_attention_on_shapes_alone_has_the_papers_work() -> None:
    """429,496,731,648 FLOP of 12 heads of 64 on 32,768 tokens, on torch's meta device."""
    from validation.torch_programs import layouts
    from validation.torch_programs.counting import WorkCounter

    paper = dilated.Branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
    heads = torch.empty(1, 12, 32768, 64, device="meta")
    with WorkCounter() as counter:
        layouts.dilated(heads, heads, heads, paper)
    assert counter.work.total == 429_496_731_648
