"""Orders as comma-separated values, a row for each rank, in the form of torch's `pipeline_order`.

Text to an order and back; no file is opened here.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from io import StringIO

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, Order, Row, format_row, parse_slot
from costmodels.pipelining.placements import Placement, bidirectional, linear
from costmodels.pipelining.playing import check_order


def order_to_csv(rows: Sequence[Row]) -> str:
    """Return an order as text that torch's `_load_csv` reads.

    Parameters
    ----------
    rows : sequence of Row
        For each rank, its actions and which of them overlap.

    Returns
    -------
    str
        A line for each rank, a value for each slot; ranks that do less have fewer values.
    """
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(format_row(row) for row in rows)
    return text.getvalue()


def rows_from_csv(text: str) -> tuple[Row, ...]:
    """Return for each rank its actions and which of them overlap; empty values are idle slots.

    Raises
    ------
    SpecError
        If a value is no action; the message names its line.
    """
    rows = []
    for line, values in enumerate(csv.reader(StringIO(text)), start=1):
        actions: list[Action] = []
        overlapped = set()
        for value in values:
            try:
                slot = parse_slot(value)
            except SpecError as error:
                raise SpecError(f"line {line}: {error}") from None
            if len(slot) > 1:
                overlapped.add(len(actions))
            actions.extend(slot)
        rows.append(Row(tuple(actions), frozenset(overlapped)))
    return tuple(rows)


def order_of(rows: Sequence[Row]) -> Order:
    """Return the actions of some rows alone."""
    return tuple(row.actions for row in rows)


def checked_csv(text: str) -> tuple[tuple[Row, ...], Placement]:
    r"""Return a user's order and where it puts the virtual stages.

    Parameters
    ----------
    text : str
        A line for each rank.

    Returns
    -------
    tuple
        The rows, and a placement in which virtual stages follow each other by their numbers; in two
        ways through two copies of the model, as in DualPipe, where no microbatch takes both.

    Raises
    ------
    SpecError
        If a value is no action, a stage is on two ranks or on none, an action is missing or
        repeated, or the ranks would wait for each other in a circle.

    Examples
    --------
    >>> rows, placement = checked_csv("0F0,,0B0\n1F0,1B0\n")
    >>> placement.ranks
    (0, 1)
    """
    rows = rows_from_csv(text)
    placement = _placed(rows)
    check_order(order_of(rows), placement)
    return rows, placement


def _placed(rows: Sequence[Row]) -> Placement:
    ranks: dict[int, int] = {}
    for rank, row in enumerate(rows):
        for action in row.actions:
            if ranks.setdefault(action.stage, rank) != rank:
                raise SpecError(
                    f"virtual stage {action.stage} is on rank {ranks[action.stage]} and on rank "
                    f"{rank}: expected one rank for each"
                )
    if not ranks:
        raise SpecError("the order is empty: expected a line of actions for each rank")
    absent = sorted(set(range(max(ranks) + 1)) - ranks.keys())
    if absent:
        raise SpecError(f"the order lacks virtual stages {absent}, below {max(ranks)}")
    return _followed(tuple(ranks[stage] for stage in range(len(ranks))), rows)


def _followed(ranks: tuple[int, ...], rows: Sequence[Row]) -> Placement:
    """Return who follows whom: one way through all stages, or two where no microbatch takes both."""
    two_ways = bidirectional(pipeline_parallel_size=len(rows))
    if ranks == two_ways.ranks:
        seen = Counter(
            (action.stage < len(rows), action.microbatch) for row in rows for action in row.actions
        )
        down = {microbatch for is_down, microbatch in seen if is_down}
        if down.isdisjoint(microbatch for is_down, microbatch in seen if not is_down):
            return two_ways
    return linear(ranks)
