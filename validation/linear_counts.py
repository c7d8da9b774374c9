"""One linear layer over several ranks, against a program over gloo: work, bytes, what is sent."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from simulator.linear import LinearAccount, LinearLayer, LinearSplit, linear_account
from validation.cases import Case
from validation.torch_programs.records import BACKWARD, FORWARD

SUITE = "linear-layer"

_ELEMENT_BYTES = 8


class Layer(NamedTuple):
    """Sizes of a layer and its ranks [count]."""

    input_size: int
    output_size: int
    tokens: int
    ranks: int
    has_bias: bool = True

    @property
    def account(self) -> LinearAccount:
        """Return the closed forms."""
        return linear_account(
            LinearLayer(
                input_size=self.input_size,
                output_size=self.output_size,
                token_count=self.tokens,
                rank_count=self.ranks,
                element_bytes=_ELEMENT_BYTES,
                has_bias=self.has_bias,
            )
        )


LAYERS = (
    Layer(12, 24, 5, 2),
    Layer(24, 12, 5, 3, has_bias=False),
    Layer(12, 23, 5, 3),  # uneven columns
    Layer(13, 8, 4, 4),  # uneven rows, the last of one
    Layer(9, 3, 4, 4),  # an idle rank by columns
    Layer(2, 7, 3, 4, has_bias=False),  # two idle ranks by rows
)


class _Found(NamedTuple):
    name: str
    claim: str
    prediction: int
    measurement: float
    unit: str


def linear_cases() -> list[Case]:
    """Return work, bytes and communication of every layer, split both ways. Needs torch."""
    return [
        Case(
            suite=SUITE,
            name=f"{layer.input_size} x {layer.output_size}, {layer.tokens} tokens on "
            f"{layer.ranks}, by {split.by}, {found.name}",
            claim=found.claim,
            prediction=found.prediction,
            measurement=found.measurement,
            unit=found.unit,
            tolerance_fraction=0,
            tolerance_reason="both count the same integers",
            method="a program over gloo whose output and gradients are those of one rank",
            source="validation/torch_programs/linear.py",
        )
        for layer in LAYERS
        for split in (layer.account.column, layer.account.row)
        for found in _found(layer, split)
    ]


def _found(layer: Layer, split: LinearSplit) -> Iterator[_Found]:
    from validation.torch_programs.linear import share_layer
    from validation.torch_programs.processes import run

    program = partial(
        share_layer,
        layer.input_size,
        layer.output_size,
        layer.tokens,
        by_column=split.by == "column",
        has_bias=layer.has_bias,
    )
    for rank, seen in zip(split.ranks, run(program, layer.ranks), strict=True):
        where = f"rank {rank.rank}"
        yield _Found(f"{where}: error", "output and gradients are equal", 0, seen.error, "1")
        for name in ("forward_flop", "backward_flop"):
            yield _Found(
                f"{where}: {name}",
                "a rank does so much work",
                getattr(rank, name),
                getattr(seen, name),
                "FLOP",
            )
        for name in ("weight_bytes", "bias_bytes", "input_bytes", "output_bytes"):
            yield _Found(
                f"{where}: {name}",
                "a rank's tensor is so large",
                getattr(rank, name),
                getattr(seen, name),
                "byte",
            )
        for message, label in zip(split.messages, (FORWARD, BACKWARD), strict=True):
            calls = [call for call in seen.calls if call.label == label]
            matching = [call for call in calls if call.kind == message.collective]
            yield _Found(
                f"{where}: {label} calls",
                "the pass makes so many calls, all of this collective",
                message.calls,
                len(matching) + 1000 * (len(calls) - len(matching)),
                "count",
            )
            yield _Found(
                f"{where}: {label} payload",
                "the whole tensor of a call is so large",
                message.payload_bytes,
                sum(call.message_bytes for call in matching),
                "byte",
            )
            yield _Found(
                f"{where}: {label} sent",
                "a rank sends so much when the call runs as a ring",
                message.sent_bytes,
                seen.sent_bytes.get(label, 0),
                "byte",
            )
