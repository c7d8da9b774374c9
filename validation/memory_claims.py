"""Claims on compressive memories and the networks they are compared with, decided by torch."""

from collections.abc import Iterator
from functools import partial

from costmodels.attention import infini, reach
from costmodels.attention.accounts import Heads
from validation.cases import Case
from validation.claim_cases import claim_case

_PROGRAM = "validation/torch_programs/remembering.py"
_INFINI = "Munkhdalai et al. 2024, arXiv:2404.07143"
_ROUNDED = "sums of floating-point numbers in another order"


_case = partial(
    claim_case, method=f"a torch program, {_PROGRAM}", source=_INFINI, reason="both are counts"
)


def segment_cases() -> Iterator[Case]:
    """Yield the share of a segment's work that is attention inside it. Needs torch."""
    from validation.torch_programs.started_layouts import infini_flop

    width, heads = 128, 2
    sizes = Heads(1, heads, heads, width, width)
    for segment in (2048, 4096):
        memory = infini.Memory(segment)
        counted, closed = (
            [count(segments * segment) for segments in (2, 3)]
            for count in (
                lambda length, memory=memory: infini_flop(length, heads, width, memory),
                lambda length, memory=memory: (
                    infini.account(length, sizes, memory=memory).executed.forward_flop
                ),
            )
        )
        inside = 4 * heads * width * segment**2
        yield _case(
            f"share of work inside a segment of {segment:,} tokens",
            "the segment is a free parameter: s / (s + d + 1/2) of the work is inside it, 94.1 % at "
            "2,048 tokens of 128 wide heads and 99.6 % at 32,768",
            inside / (closed[1] - closed[0]),
            inside / (counted[1] - counted[0]),
            "fraction",
            ("INF-2",),
            source=f"{_INFINI}, section 3: trained with segments of 2,048",
        )


def order_cases() -> Iterator[Case]:
    """Yield what order and age are to a memory, by both rules. Needs torch."""
    from validation.torch_programs.remembering import (
        order_difference,
        recall_by_age,
        weight_of_first,
    )

    yield _case(
        "memory of 512 tokens in order, and in reverse",
        "an update adds each token with weight one: the sum has no order and no salient part",
        1.0,
        1.0 + order_difference(512, 64),
        "1",
        ("INF-9", "INF-12", "INF-13"),
        tolerance=1e-12,
        reason=_ROUNDED,
        source=f"{_INFINI}, equation 8",
    )
    drawn = "random keys and values: quarters of 128 differ by some percent"
    for kind, unit_keys in (("ELU + 1 of keys", False), ("unit keys", True)):
        old, new = recall_by_age(512, 64, is_delta=False, unit_keys=unit_keys)
        yield _case(
            f"likeness of what is read back, oldest quarter over newest, linear rule, {kind}",
            "old and new blur alike",
            1.0,
            old / new,
            "1",
            ("INF-9",),
            tolerance=0.1,
            reason=drawn,
            source=f"{_INFINI}, equation 8",
        )
    old, new = recall_by_age(512, 64, is_delta=True)
    yield _case(
        "likeness of what is read back, oldest quarter over newest, delta rule, ELU + 1 of keys",
        "features that are all positive and a division hide what the delta rule takes off",
        1.0,
        old / new,
        "1",
        ("INF-9",),
        tolerance=0.1,
        reason=drawn,
        source=f"{_INFINI}, equation 9",
    )
    old, new = recall_by_age(512, 64, is_delta=True, unit_keys=True)
    yield _case(
        "delta rule, unit keys: the oldest quarter below 0.1, the newest above 0.4",
        "the delta rule over unit keys forgets the old and keeps the new better",
        1,
        int(old < 0.1 and new > 0.4),
        "count",
        ("INF-9",),
        source=f"{_INFINI}, equation 9; likeness of the oldest {old:.3f}, of the newest {new:.3f}",
    )
    for decay in (1.0, 0.9):
        yield _case(
            f"weight of the first of 17 segments where {decay:g} is kept",
            "nothing decays as published; by the decayed form of the notes a segment fades",
            decay**16,
            weight_of_first(17, decay),
            "1",
            ("INF-12",),
            tolerance=1e-12,
            reason=_ROUNDED,
            source=f"{_INFINI}, equation 8; the decayed form is an option",
        )


def autoencoder_cases() -> Iterator[Case]:
    """Yield gradients and noise of autoencoders, plain and variational. Needs torch."""
    from validation.torch_programs.remembering import equal_codes, sampled_gradients

    by_mean, by_log = sampled_gradients(1000)
    source = "Kingma and Welling 2013, arXiv:1312.6114, section 2.4"
    for name, expected, found in (
        ("mean", 1000.0, by_mean),
        ("logarithm of the deviation, over exp(s) times the noise", 1.0, by_log),
    ):
        yield _case(
            f"gradient of 1,000 reparameterized draws by their {name}",
            "a draw mu + exp(s) e passes ordinary gradients to both of its parameters",
            expected,
            found,
            "1",
            ("INF-14",),
            tolerance=1e-12,
            reason=_ROUNDED,
            source=source,
        )
    for name, sampled, expected in (("plain", False, 64), ("variational", True, 0)):
        yield _case(
            f"inputs of 64 that a {name} autoencoder encodes alike twice",
            "noise is of variational autoencoders only",
            expected,
            equal_codes(64, sampled=sampled),
            "count",
            ("INF-15",),
            source=source,
        )


def compression_cases() -> Iterator[Case]:
    """Yield the tokens that a layer of a Compressive Transformer looks back on. Needs torch."""
    from validation.torch_programs.remembering import compressed_reach

    for own, memory, compressed, rate in ((8, 8, 4, 3), (16, 16, 16, 2)):
        yield _case(
            f"reach with {own} own tokens, {memory} of memory, {compressed} slots of {rate}",
            "each compressed slot stands for c tokens, so that a layer looks back on m + c cm",
            reach.compressive_tokens(1 << 20, 1, memory, compressed, rate, own),
            compressed_reach(own, memory, compressed, rate),
            "token",
            ("INF-16",),
            source="Rae et al. 2019, arXiv:1911.05507, section 3",
        )
