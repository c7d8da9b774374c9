"""One linear layer on several ranks, split by columns and by rows: work, bytes, what is sent."""

import msgspec

from costmodels import linear
from costmodels.errors import SpecError
from costmodels.version import VERSION
from simulator.answer import SCHEMA_VERSION

MOST = 2**28
"""Bound of every size: beyond any matrix that there is [count]."""


class LinearMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One collective of the layer.

    Attributes
    ----------
    phase : str
        forward or backward.
    of : str
        Tensor that it makes whole: the output, or the gradient of the input.
    combines_by : str
        concatenation, or addition.
    collective : str
        all-gather or all-reduce.
    calls : int
        Calls for one pass, zero on a single rank [count].
    payload_bytes : int
        The whole tensor of a call, uneven parts padded to the largest [byte].
    sent_bytes : int
        What each rank sends, idle ones too, in a ring [byte].
    avoidable : bool
        Whether a neighbouring layer that is split the other way makes it needless.
    """

    phase: str
    of: str
    combines_by: str
    collective: str
    calls: int
    payload_bytes: int
    sent_bytes: int
    avoidable: bool


class LinearRank(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank holds and computes.

    Attributes
    ----------
    rank : int
        Which [index].
    input_size, output_size : int
        Rows and columns of its part of the matrix [count].
    weight_bytes, bias_bytes, input_bytes, output_bytes : int
        Its part of the matrix; of the bias; of the input; of the output before it is combined
        [byte].
    forward_flop, backward_flop : int
        Work of its matrix products [FLOP].
    """

    rank: int
    input_size: int
    output_size: int
    weight_bytes: int
    bias_bytes: int
    input_bytes: int
    output_bytes: int
    forward_flop: int
    backward_flop: int


class LinearSplit(msgspec.Struct, frozen=True, kw_only=True):
    """The layer split along one dimension of its matrix.

    Attributes
    ----------
    by : str
        column (outputs are split) or row (inputs are split).
    bias : str
        What happens to the bias.
    ranks : tuple of LinearRank
        Every rank of the group.
    idle_rank_count : int
        Ranks that get nothing [count].
    load_ratio : float
        Work of the busiest rank over an equal share [ratio].
    messages : tuple of LinearMessage
        Where input, output and their gradients are whole on every rank.
    sent_bytes : int
        What each rank sends forward and backward [byte].
    paired_sent_bytes : int
        The same without what a neighbouring layer makes needless [byte].
    """

    by: str
    bias: str
    ranks: tuple[LinearRank, ...]
    idle_rank_count: int
    load_ratio: float
    messages: tuple[LinearMessage, ...]
    sent_bytes: int
    paired_sent_bytes: int


class LinearAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Both ways to split a layer, and which is better.

    Attributes
    ----------
    schema_version, shardwise_version
        As of an `Answer`.
    input_size, output_size, token_count, rank_count : int
        Sizes that were asked about [count].
    element_bytes : int
        Size of every element [byte].
    has_bias : bool
        Whether the layer adds a bias.
    column, row : LinearSplit
        The two splits.
    better : str
        column or row.
    reason : str
        Why.
    """

    schema_version: int
    shardwise_version: str
    input_size: int
    output_size: int
    token_count: int
    rank_count: int
    element_bytes: int
    has_bias: bool
    column: LinearSplit
    row: LinearSplit
    better: str
    reason: str


class LinearLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A linear layer and the ranks that share it.

    Attributes
    ----------
    input_size, output_size : int
        Rows and columns of its matrix [count].
    token_count : int
        Rows of its input [count].
    rank_count : int
        Ranks that share it [count].
    element_bytes : int
        Size of an element of matrix, input and output [byte].
    has_bias : bool
        Whether it adds a bias.

    Raises
    ------
    SpecError
        If a size is below one or too large.
    """

    input_size: int
    output_size: int
    token_count: int
    rank_count: int
    element_bytes: int = 2
    has_bias: bool = True

    def __post_init__(self) -> None:
        """Check every size."""
        bounds = {"rank_count": 2**16, "element_bytes": 8}
        for name in self.__struct_fields__:
            value, most = getattr(self, name), bounds.get(name, MOST)
            if not isinstance(value, bool) and not 1 <= value <= most:
                raise SpecError(f"{name} ({value}): must be from 1 to {most:,}")


def linear_account(layer: LinearLayer) -> LinearAccount:
    """Return both ways to split a layer over its ranks, and which is better."""
    column, row = _split(layer, by_column=True), _split(layer, by_column=False)
    better, reason = _better(layer, column, row)
    return LinearAccount(
        schema_version=SCHEMA_VERSION,
        shardwise_version=VERSION,
        column=column,
        row=row,
        better=better,
        reason=reason,
        **msgspec.structs.asdict(layer),
    )


def _split(layer: LinearLayer, *, by_column: bool) -> LinearSplit:
    dimension = layer.output_size if by_column else layer.input_size
    messages = _messages(layer, by_column=by_column)
    sent = [message.sent_bytes for message in messages]
    bias = "each rank adds its part" if by_column else "whole on every rank, added once to the sum"
    return LinearSplit(
        by="column" if by_column else "row",
        bias=bias if layer.has_bias else "none",
        ranks=tuple(_rank(layer, rank, by_column=by_column) for rank in range(layer.rank_count)),
        idle_rank_count=linear.idle_rank_count(dimension, layer.rank_count),
        load_ratio=linear.load_ratio(dimension, layer.rank_count),
        messages=messages,
        sent_bytes=sum(sent),
        paired_sent_bytes=sum(entry.sent_bytes for entry in messages if not entry.avoidable),
    )


def _rank(layer: LinearLayer, rank: int, *, by_column: bool) -> LinearRank:
    inputs, outputs = layer.input_size, layer.output_size
    if by_column:
        outputs = linear.shard_size(outputs, layer.rank_count, rank)
    else:
        inputs = linear.shard_size(inputs, layer.rank_count, rank)
    forward = linear.product_flop(layer.token_count, inputs, outputs)
    return LinearRank(
        rank=rank,
        input_size=inputs,
        output_size=outputs,
        weight_bytes=inputs * outputs * layer.element_bytes,
        bias_bytes=layer.has_bias * outputs * layer.element_bytes,
        input_bytes=layer.token_count * inputs * layer.element_bytes,
        output_bytes=layer.token_count * outputs * layer.element_bytes,
        forward_flop=forward,
        backward_flop=2 * forward,
    )


def _messages(layer: LinearLayer, *, by_column: bool) -> tuple[LinearMessage, ...]:
    """Return what is sent forward and backward: one concatenation and one addition."""
    shared = layer.token_count, layer.rank_count, layer.element_bytes
    tokens, ranks, element_bytes = shared
    calls = int(ranks > 1)
    ends = (("forward", "output", layer.output_size), ("backward", "input gradient", 0))
    found = []
    for phase, tensor, size in ends:
        width = size or layer.input_size
        concatenates = (phase == "forward") == by_column
        elements = tokens * width
        if concatenates:
            elements = linear.concatenated_elements(tokens, width, ranks)
        sending = linear.concatenating_bytes if concatenates else linear.adding_bytes
        found.append(
            LinearMessage(
                phase=phase,
                of=tensor,
                combines_by="concatenation" if concatenates else "addition",
                collective="all-gather" if concatenates else "all-reduce",
                calls=calls,
                payload_bytes=calls * elements * element_bytes,
                sent_bytes=sending(tokens, width, ranks, element_bytes),
                avoidable=concatenates,
            )
        )
    return tuple(found)


def _better(layer: LinearLayer, column: LinearSplit, row: LinearSplit) -> tuple[str, str]:
    """Return the split with less work on its busiest rank, of equal ones that which sends less."""
    if layer.rank_count == 1:
        return "column", "one rank: nothing is split or sent"
    if column.load_ratio != row.load_ratio:
        chosen, other = sorted((column, row), key=lambda split: split.load_ratio)
        less = "less" if chosen.sent_bytes < other.sent_bytes else "no less"
        reason = (
            f"its busiest rank has {chosen.load_ratio:.6g} times an equal share, by {other.by} "
            f"{other.load_ratio:.6g} times"
        )
        if other.idle_rank_count > chosen.idle_rank_count:
            reason += f" (idle ranks: {chosen.idle_rank_count} and {other.idle_rank_count})"
        return chosen.by, f"{reason}; it sends {less}"
    if column.sent_bytes == row.sent_bytes:
        return "column", "both have equal work and send as much"
    chosen = min((column, row), key=lambda split: split.sent_bytes)
    whole = "outputs" if chosen.by == "column" else "inputs"
    return chosen.by, (
        f"both have equal work; it concatenates the wider side ({whole}) and adds the narrower, "
        "and adding sends twice as much as concatenating"
    )
