"""Closed forms of attention layouts, against torch programs counted operator by operator, and papers."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from costmodels.attention import (
    chunked,
    delta,
    dense,
    dilated,
    infini,
    latent,
    linear,
    memories,
    per_head,
    reach,
    sliding,
)
from costmodels.attention.accounts import Account, Heads
from validation.cases import Case

SUITE = "attention"

BATCH, QUERY_HEADS, SHARED_HEADS, LENGTH, KEY, VALUE = 2, 6, 3, 50, 5, 7
"""Sizes of the programs: shared keys, values wider than keys, a length that nothing divides."""

_HEADS = Heads(BATCH, QUERY_HEADS, SHARED_HEADS, KEY, VALUE, 8, 8)
_BRANCHES = dilated.Branches((8, 16, 32), (1, 3, 7))
_SLIDING = per_head.Dilations((1, 2, 8), 4)
_SEGMENTS = per_head.Dilations((1, 2, 8), 0, (16, 16, 16))
_LATENT = latent.Compressed(9, KEY, 4)
_PROGRAMS = "validation/torch_programs"
_SAME = "both count the same operations"


class Program(NamedTuple):
    """A layout with fixed sizes.

    Attributes
    ----------
    account : Account
        Its closed forms.
    run : callable
        Return a function that runs it, given its torch tensors. Needs torch.
    claims : tuple of str
        Claims of the notes that it decides.
    between : bool
        Whether elementwise work and kept tensors are exact, too.
    """

    account: Account
    run: Callable[[Any, Any, Any], Callable[[], Any]]
    claims: tuple[str, ...] = ()
    between: bool = True


def _softmax(name: str, *options: Any, **more: Any) -> Callable[[Any, Any, Any], Callable[[], Any]]:
    def start(query: Any, key: Any, value: Any) -> Callable[[], Any]:
        from validation.torch_programs import layouts

        program = getattr(layouts, name)
        return lambda: program(query, key, value, *options, **more)

    return start


def _memory(name: str, *options: Any) -> Callable[[Any, Any, Any], Callable[[], Any]]:
    def start(query: Any, key: Any, value: Any) -> Callable[[], Any]:
        from validation.torch_programs import memory_layouts

        program = getattr(memory_layouts, name)
        return lambda: program(query, key, value, *options)

    return start


def _of_tensors(name: str, *options: Any) -> Callable[[Any, Any, Any], Callable[[], Any]]:
    """Return what starts a program that needs more tensors than queries, keys and values."""

    def start(query: Any, key: Any, value: Any) -> Callable[[], Any]:
        from validation.torch_programs import started_layouts

        started: Callable[[], Any] = getattr(started_layouts, name)(query, key, value, *options)
        return started

    return start


PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {
        "dense": Program(dense.account(LENGTH, _HEADS), _softmax("dense")),
        "sliding window with sinks": Program(
            sliding.account(LENGTH, _HEADS, window=12, sink_tokens=3),
            _softmax("sliding", 12, chunk_length=12, sink_tokens=3),
        ),
        "chunked": Program(
            chunked.account(LENGTH, _HEADS, chunk_length=16), _softmax("chunked", 16)
        ),
        "dilated": Program(
            dilated.account(LENGTH, _HEADS, branches=_BRANCHES),
            _softmax("dilated", _BRANCHES),
            claims=("LN-1",),
        ),
        "a dilation for each head": Program(
            per_head.account(LENGTH, _HEADS, dilations=_SLIDING),
            _softmax("per_head", _SLIDING),
            claims=("LN-8",),
        ),
        "a segment for each head": Program(
            per_head.account(LENGTH, _HEADS, dilations=_SEGMENTS), _softmax("per_head", _SEGMENTS)
        ),
        "Infini, linear rule": Program(
            infini.account(LENGTH, _HEADS, memory=infini.Memory(16)),
            _of_tensors("infini", infini.Memory(16)),
            claims=("INF-1",),
            between=False,
        ),
        "Infini, delta rule": Program(
            infini.account(LENGTH, _HEADS, memory=infini.Memory(16, 1)),
            _of_tensors("infini", infini.Memory(16, 1)),
            between=False,
        ),
        "linear": Program(
            linear.account(LENGTH, _HEADS, scan=linear.Scan(16)), _memory("linear", linear.Scan(16))
        ),
        "gated delta": Program(
            delta.account(LENGTH, _HEADS, chunk_length=16),
            _of_tensors("gated_delta", 16),
            between=False,
        ),
        "latent": Program(
            latent.account(LENGTH, _HEADS, compressed=_LATENT),
            _of_tensors("latent", _LATENT),
            between=False,
        ),
    }
)
"""Layouts that are run and counted."""


def program_cases(name: str) -> list[Case]:
    """Return the counts of a program beside its closed forms.

    Parameters
    ----------
    name : str
        One of `PROGRAMS`.

    Returns
    -------
    list of Case
        Forward and backward products, elementwise work and kept bytes. Needs torch.
    """
    from validation.torch_programs.counting import one_thread, passes
    from validation.torch_programs.elementwise import elementwise_flop, saved_bytes
    from validation.torch_programs.started_layouts import drawn_heads

    program = PROGRAMS[name]
    sizes = ((QUERY_HEADS, KEY), (SHARED_HEADS, KEY), (SHARED_HEADS, VALUE))
    query, key, value = drawn_heads(BATCH, LENGTH, sizes)
    run = program.run(query, key, value)
    counted, account = passes(run), program.account
    found = [
        ("forward", account.executed.forward_flop, counted.forward.total, "FLOP"),
        ("backward", account.executed.backward_flop, counted.backward.total, "FLOP"),
    ]
    if program.between:
        with one_thread():
            work, kept = elementwise_flop(run), saved_bytes(run)
        found.append(("between products", account.elementwise_flop, work, "FLOP"))
        found.append(("kept for the backward", account.saved_bytes, kept, "byte"))
    return [
        _counted(f"{name}, {part}", prediction, measurement, unit, claims=program.claims)
        for part, prediction, measurement, unit in found
    ]


def _counted(
    name: str, prediction: int, measurement: int, unit: str, claims: tuple[str, ...] = ()
) -> Case:
    return Case(
        suite=SUITE,
        name=name,
        claim=f"the closed form of {name} is what a program does",
        prediction=int(prediction),
        measurement=int(measurement),
        unit=unit,
        tolerance_fraction=0,
        tolerance_reason=_SAME,
        method="torch's operator counter, or an operator-by-operator count, of a program in float64",
        source=_PROGRAMS,
        claims=claims,
    )


def behaviour_cases() -> list[Case]:
    """Return what running layers show of claims: reach, growth, state, parameters. Needs torch."""
    from validation.torch_programs.counting import one_thread

    with one_thread():
        return [*_reach_cases(), *_growth_cases(), *_state_cases(), *_parameter_cases()]


def _reach_cases() -> Iterable[Case]:
    from validation.torch_programs.reach import reached_by_gradient

    nested = dilated.Branches((16, 32, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32))
    for heads, claims in ((12, ("LN-6",)), (32, ("LN-6",))):
        predicted = reach.dilated_count(512, 2, heads, nested)
        for layers in (1, 2):
            yield _counted(
                f"LongNet reach, {heads} heads, {layers} layers of 512 tokens",
                predicted[layers - 1],
                reached_by_gradient(512, heads, [nested] * layers),
                "token",
                claims=claims,
            )
    notes = [per_head.Dilations(rates, 4) for rates in ((1, 2, 4), (8, 16, 32), (64, 128, 256))]
    predicted = reach.per_head_count(1024, 3, 3, notes)
    for count in (1, 2, 3):
        yield _counted(
            f"the notes' dilations, reach of {count} layers with 4 keys a head",
            predicted[count - 1],
            reached_by_gradient(1024, 3, notes[:count]),
            "token",
            claims=("LN-2", "LN-4", "LN-5"),
        )


def _growth_cases() -> Iterable[Case]:
    from validation.torch_programs.started_layouts import dilated_flop, infini_flop

    nested = dilated.Branches((64, 128, 256, 512), (1, 2, 4, 8))
    sizes, segment = Heads(1, 8, 8, 64, 64), infini.Memory(256)
    predicted = dilated.account(4096, sizes, branches=nested).executed.forward_flop
    twice, once = (dilated_flop(length, 8, 64, nested) for length in (4096, 2048))
    yield _counted("LongNet at 4,096 tokens", predicted, twice, "FLOP", ("LN-3", "LN-7"))
    yield _counted(
        "LongNet at 2,048 tokens, half the work", predicted // 2, once, "FLOP", ("LN-7",)
    )
    lengths = (512, 768, 1024)
    totals = [infini_flop(length, 8, 64, segment) for length in lengths]
    closed = [infini.account(n, sizes, memory=segment).executed.forward_flop for n in lengths]
    for place, number in ((1, "third"), (2, "fourth")):
        yield _counted(
            f"Infini, work of the {number} segment",
            closed[place] - closed[place - 1],
            totals[place] - totals[place - 1],
            "FLOP",
            claims=("INF-4",),
        )


def _state_cases() -> Iterable[Case]:
    from validation.torch_programs.started_layouts import infini_state_bytes

    heads = Heads(1, 2, 2, 16, 16, 8, 8)
    sizes = infini_state_bytes(60, 2, 16, infini.Memory(16))
    yield _counted(
        "Infini, most that a decoder keeps",
        infini.peak_state_bytes(60, heads, 16),
        max(sizes),
        "byte",
        claims=("INF-5",),
    )
    memory = sizes[48] - 2 * 2 * 16 * 8
    yield _counted(
        "Infini, the memory alone, (d + 1) / 2 tokens of keys and values",
        int(memories.equivalent_tokens(16, 16) * 2 * 2 * 16 * 8),
        memory,
        "byte",
        claims=("INF-3",),
    )


def _parameter_cases() -> Iterable[Case]:
    from validation.small_models import MODELS, scenario_of
    from validation.torch_programs.counting import block_elements

    plain = dict(MODELS["gated"])
    other = plain | {"layouts": [{"type": "infini", "segment_length": 4}]}
    more, less = (block_elements(scenario_of(table).model, 0) for table in (other, plain))
    yield _counted(
        "Infini, parameters that a layer has more",
        int(plain["num_attention_heads"]),
        more - less,
        "parameter",
        claims=("INF-10", "INF-11"),
    )


def recall_cases() -> list[Case]:
    """Return the error of stored values that a memory gives back, beside what is expected.

    Returns
    -------
    list of Case
        Keys without a map and of length one: crosstalk of n - 1 other keys of a random direction
        has a variance of (n - 1) / d. Keys by ELU + 1: with many of them a read is their mean.
        Needs torch.
    """
    from validation.torch_programs.recall import recall_error

    def case(name: str, expected: float, found: float, tolerance: float, reason: str) -> Case:
        return Case(
            suite=SUITE,
            name=name,
            claim="a compressive memory loses what it stores as keys come near the width of a key",
            prediction=expected,
            measurement=found,
            unit="1",
            tolerance_fraction=tolerance,
            tolerance_reason=reason,
            method="random keys and values stored and read by a torch program, seed 1",
            source=f"{_PROGRAMS}/recall.py",
            claims=("INF-7", "INF-8"),
        )

    found = []
    for load in (1, 2, 4, 8):
        stored = 128 * load
        error = recall_error(128, stored, is_delta=False, segment=1, orthogonal=True)
        found.append(
            case(
                f"linear rule, unit keys, {load} keys for each of 128 widths",
                memories.crosstalk_fraction(stored, 128),
                error,
                0.05,
                "an expectation for random keys: one draw of at least 128 differs by some percent",
            )
        )
    for rule, is_delta in (("linear", False), ("delta", True)):
        error = recall_error(128, 1024, is_delta=is_delta, segment=1)
        found.append(
            case(
                f"{rule} rule, ELU + 1, 8 keys for each of 128 widths: the mean of all values",
                1.0,
                error,
                0.01,
                "the mean of n values misses each by sqrt(1 - 1/n) of its norm, and keys still tell",
            )
        )
    return found


LOADS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Keys stored over key size at which recall is measured."""


def recall_curves(key_size: int = 64) -> dict[str, tuple[list[float], list[float]]]:
    """Return measured errors of recall by rule and kind of key. Needs torch.

    Parameters
    ----------
    key_size : int
        Width of keys and values, a multiple of 16 [element].

    Returns
    -------
    dict of str to tuple
        Loads of `LOADS`, and the mean relative error at each [1].
    """
    from validation.torch_programs.recall import recall_error

    kinds = {
        "linear rule, ELU + 1": (False, False),
        "delta rule, ELU + 1": (True, False),
        "linear rule, unit keys": (False, True),
        "delta rule, unit keys": (True, True),
    }
    return {
        label: (
            list(LOADS),
            [
                recall_error(
                    key_size, int(load * key_size), is_delta=is_delta, segment=1, orthogonal=unit
                )
                for load in LOADS
            ],
        )
        for label, (is_delta, unit) in kinds.items()
    }


def published_cases() -> list[Case]:
    """Return memories of the Infini paper's Table 2, and the work of the LongNet paper's layout."""
    rows = (
        ("Transformer-XL", 50e6, memories.cached_segment_elements(12, 8, 128, 2048)),
        ("Memorizing Transformer", 183e6, memories.memorizing_elements(12, 8, 128, 2048, 65_000)),
        ("RMT", 2.5e6, memories.recurrent_elements(12, 1024, 100)),
        ("Infini-Transformer", 1.6e6, memories.infini_elements(12, 8, 128)),
    )
    infini_table = "Munkhdalai et al. 2024, arXiv:2404.07143v2, Tables 1 and 2"
    found = [
        _published(f"memory of {name}", value, printed, "element", 0.02, infini_table)
        for name, printed, value in rows
    ]
    ratio = rows[1][2] / rows[3][2]
    found.append(_published("memory over Infini's", ratio, 114, "1", 0.02, infini_table))
    branches = dilated.Branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
    executed = dilated.account(32768, Heads(1, 12, 12, 64, 64), branches=branches).executed
    # Equation 17 counts multiply-adds, and takes w / r for whole.
    equation = sum(2 * 32768 * 768 * w / r**2 for w, r in zip(*branches[:2], strict=True))
    found.append(
        _published(
            "LongNet at 32,768 tokens, multiply-adds",
            executed.forward_flop / 2,
            equation,
            "MAC",
            1e-7,
            "Ding et al. 2023, arXiv:2307.02486, equation 17",
        )
    )
    return found


def _published(
    name: str, prediction: float, printed: float, unit: str, tolerance: float, source: str
) -> Case:
    return Case(
        suite=SUITE,
        name=name,
        claim=f"the closed form gives the paper's number: {name}",
        prediction=prediction,
        measurement=printed,
        unit=unit,
        tolerance_fraction=tolerance,
        tolerance_reason="printed to two or three digits; the equation takes quotients for whole",
        method="read from the paper",
        source=source,
    )
