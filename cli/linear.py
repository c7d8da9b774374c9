"""The account of one linear layer for people."""

from rich.console import Console

from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError, UnitError
from costmodels.units import (
    format_bytes,
    format_count,
    format_flop,
    format_traffic,
    parse_quantity,
)
from simulator.linear import LinearAccount, LinearLayer, LinearRank, LinearSplit


def read_layer(sizes: dict[str, tuple[str, str]], *, has_bias: bool) -> LinearLayer:
    """Return the layer that flags describe.

    Parameters
    ----------
    sizes : dict of str to tuple
        For each field the flag and its text.
    has_bias : bool
        Whether the layer adds a bias.

    Raises
    ------
    SpecError
        If a text is no whole number, or out of bounds.
    """
    read = {}
    for field, (option, text) in sizes.items():
        try:
            value = parse_quantity(text, "length" if field == "token_count" else "count")
        except UnitError as error:
            raise SpecError(f"{option}: {error}") from None
        if value != int(value):
            raise SpecError(f"{option} ({text}): must be a whole number")
        read[field] = int(value)
    try:
        return LinearLayer(**read, has_bias=has_bias)
    except SpecError as error:
        field = str(error).partition(" ")[0]
        raise SpecError(f"{sizes[field][0]}: {error}") from None


def show_linear(account: LinearAccount) -> None:
    """Print both splits of a layer, the better one first said."""
    out = console()
    out.print(
        f"Y = X W{' + b' if account.has_bias else ''}: {account.token_count:,} tokens, "
        f"{account.input_size:,} inputs, {account.output_size:,} outputs, "
        f"{account.rank_count:,} ranks, {account.element_bytes} bytes an element"
    )
    out.print(f"better: by {account.better}; {account.reason}", style="green")
    for split in (account.column, account.row):
        _show_ranks(out, split)
        _show_messages(out, split)
    out.print(
        "a layer by columns, then one by rows, need neither concatenation: the parts of the first "
        "layer's outputs are the second's inputs"
    )


def _show_ranks(out: Console, split: LinearSplit) -> None:
    idle = f", idle ranks: {split.idle_rank_count}" if split.idle_rank_count else ""
    what = "outputs are split" if split.by == "column" else "inputs are split"
    table = table_of(
        f"By {split.by}: {what}; busiest rank {split.load_ratio:.6g} times an equal share{idle}; "
        f"bias: {split.bias}",
        "ranks",
        "matrix",
        "weights",
        "bias",
        "input",
        "output",
        "forward",
        "backward",
    )
    for label, rank in _ranges(split.ranks):
        sizes = (rank.weight_bytes, rank.bias_bytes, rank.input_bytes, rank.output_bytes)
        table.add_row(
            label,
            f"{rank.input_size:,} x {rank.output_size:,}",
            *map(format_bytes, sizes),
            format_flop(rank.forward_flop),
            format_flop(rank.backward_flop),
        )
    print_table(out, table)


def _ranges(ranks: tuple[LinearRank, ...]) -> list[tuple[str, LinearRank]]:
    """Return ranges of neighbouring ranks that are equal, and one of each."""
    found: list[list[LinearRank]] = []
    for rank in ranks:
        sizes = (rank.input_size, rank.output_size)
        if found and (found[-1][0].input_size, found[-1][0].output_size) == sizes:
            found[-1].append(rank)
        else:
            found.append([rank])
    return [
        (f"{part[0].rank}-{part[-1].rank}" if len(part) > 1 else str(part[0].rank), part[0])
        for part in found
    ]


def _show_messages(out: Console, split: LinearSplit) -> None:
    table = table_of(
        f"By {split.by}: sent by each rank, input and output whole on all",
        "pass",
        "of",
        "combined by",
        "collective",
        "calls",
        "payload",
        "sent",
        left=4,
    )
    for message in split.messages:
        sizes = (message.payload_bytes, message.sent_bytes)
        table.add_row(
            message.phase,
            message.of,
            message.combines_by,
            f"{message.collective} (ring)",
            format_count(message.calls),
            *map(format_traffic, sizes),
        )
    table.add_row("both", *[""] * 5, format_traffic(split.sent_bytes), style="bold")
    table.add_row("between split layers", *[""] * 5, format_traffic(split.paired_sent_bytes))
    print_table(out, table)
