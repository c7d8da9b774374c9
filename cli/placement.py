"""Groups of ranks and the matrix of traffic, for people."""

from collections.abc import Sequence

from rich.console import Console

from cli.tables import console, print_table, table_of
from costmodels.errors import SpecError
from costmodels.units import (
    format_count,
    format_fraction,
    format_rate,
    format_seconds,
    format_traffic,
)
from simulator.groups import GroupsAccount
from simulator.matrix import NODE, TrafficMatrix

_WHOLE = 16
"""Rows up to which a matrix is printed whole."""

_HEAVIEST = 20
"""Pairs that are printed of a larger one."""

_SHOWN_MEMBERS = 4


def check_views(*, groups: bool, matrix: bool, by: str | None, csv: object, plot: object) -> None:
    """Raise where options of the views of communication do not go together.

    Raises
    ------
    SpecError
        If an option needs another, or two exclude each other.
    """
    if groups and matrix:
        raise SpecError("--groups --matrix: ask for one of them at a time")
    if not matrix and by is not None:
        raise SpecError(f"--by ({by}): says what the rows of --matrix are; add --matrix")
    if not matrix and csv is not None:
        raise SpecError(f"--csv ({csv}): writes the pairs of --matrix; add --matrix")
    if groups and plot is not None:
        raise SpecError(f"--plot ({plot}): draws bytes sent, or --matrix; leave --groups out")
    if by not in (None, "gpu", NODE):
        raise SpecError(f"--by ({by}): must be gpu or node")


def show_groups(account: GroupsAccount) -> None:
    """Print the groups of every axis, and the slowest links that they cross."""
    out = console()
    out.print(
        f"{account.rank_count:,} ranks on {account.node_count:,} nodes of "
        f"{account.accelerators_per_node:,}, from neighbours outwards: "
        f"{', '.join(account.rank_order)}"
    )
    table = table_of(
        "Groups by axis",
        "axis",
        "first group",
        "slowest links",
        "NICs shared with",
        "size",
        "groups",
        "that cross",
        "nodes at most",
        "members a node",
        "link",
        "latency",
        left=4,
    )
    for axis in account.axes:
        table.add_row(
            axis.axis,
            _pattern(axis.first_group),
            axis.tier if axis.group_size > 1 else "-",
            ", ".join(axis.shares_nic_with) or "-",
            *map(
                format_count,
                (axis.group_size, axis.group_count, axis.crossing_group_count, axis.most_nodes),
            ),
            format_count(axis.least_node_members),
            format_rate(axis.link_bandwidth_bytes_per_s, "B/s"),
            format_seconds(axis.latency_s),
        )
    print_table(out, table)
    out.print(
        "links are those of one GPU in one direction, as described; a GPU that is in groups of "
        "several axes across nodes sends for all of them through the same NIC",
        soft_wrap=True,
    )


def _pattern(ranks: Sequence[int]) -> str:
    """Return the ranks of a group, the middle of a long one left out."""
    if len(ranks) <= _SHOWN_MEMBERS:
        return " ".join(map(str, ranks))
    first = " ".join(map(str, ranks[: _SHOWN_MEMBERS - 1]))
    return f"{first} .. {ranks[-1]}"


def show_matrix(matrix: TrafficMatrix) -> None:
    """Print what GPUs or nodes send to each other in a step."""
    out = console()
    total = matrix.scale_up_bytes + matrix.network_bytes
    share = f" ({format_fraction(matrix.network_bytes / total)})" if total else ""
    what = "nodes" if matrix.by == NODE else "GPUs"
    out.print(
        f"{matrix.size:,} {what}, {len(matrix.source):,} pairs that exchange something; all GPUs "
        f"send {format_traffic(total)} in a step: {format_traffic(matrix.scale_up_bytes)} inside "
        f"nodes, {format_traffic(matrix.network_bytes)}{share} across",
        soft_wrap=True,
    )
    if matrix.network_bytes != matrix.account_network_bytes:
        out.print(
            f"the account of traffic takes {format_traffic(matrix.account_network_bytes)} for the "
            "latter: it counts a mean share of hops for each group",
            soft_wrap=True,
        )
    if not matrix.source:
        return
    if matrix.size <= _WHOLE:
        _show_whole(out, matrix, what)
    else:
        _show_heaviest(out, matrix, what)


def _show_whole(out: Console, matrix: TrafficMatrix, what: str) -> None:
    """Print every row, with what each sends and receives."""
    pairs = dict(
        zip(zip(matrix.source, matrix.target, strict=True), matrix.sent_bytes, strict=True)
    )
    places = range(matrix.size)
    table = table_of(f"Bytes from {what} (rows) to {what}", "", *map(str, places), "sent")
    for source, sent in zip(places, matrix.sums(), strict=True):
        cells = (pairs.get((source, target), 0.0) for target in places)
        table.add_row(str(source), *(_cell(value) for value in cells), format_traffic(sent))
    received = map(format_traffic, matrix.sums(received=True))
    table.add_row("received", *received, "", style="bold")
    print_table(out, table)


def _cell(size_bytes: float) -> str:
    return format_traffic(size_bytes) if size_bytes else "."


def _show_heaviest(out: Console, matrix: TrafficMatrix, what: str) -> None:
    """Print the pairs that exchange most."""
    order = sorted(range(len(matrix.source)), key=lambda place: -matrix.sent_bytes[place])
    table = table_of(
        f"Heaviest of {len(order):,} pairs of {what}", "from", "to", "nodes", "sent", left=3
    )
    per_node = 1 if matrix.by == NODE else matrix.accelerators_per_node
    for place in order[:_HEAVIEST]:
        source, target = matrix.source[place], matrix.target[place]
        nodes = f"{source // per_node} to {target // per_node}"
        table.add_row(f"{source:,}", f"{target:,}", nodes, format_traffic(matrix.sent_bytes[place]))
    print_table(out, table)
    sent = matrix.sums()
    busiest = max(range(matrix.size), key=lambda place: sent[place])
    out.print(
        f"busiest sender: {busiest:,}, {format_traffic(sent[busiest])}; all pairs: --csv FILE or "
        "--json, as a picture: --plot FILE.html"
    )


def matrix_csv(matrix: TrafficMatrix) -> str:
    """Return the pairs of a matrix as lines of numbers, in bytes."""
    rows = zip(matrix.source, matrix.target, matrix.sent_bytes, strict=True)
    lines = (f"{source},{target},{sent:.17g}" for source, target, sent in rows)
    return "\n".join(["source,target,sent_bytes", *lines]) + "\n"
