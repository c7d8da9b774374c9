"""An order that somebody wrote, in place of a schedule that has a name."""

from dataclasses import dataclass

from costmodels.errors import SpecError
from costmodels.pipelining.actions import ActionKind, Order, Row
from costmodels.pipelining.csv_orders import checked_csv, order_of
from costmodels.pipelining.orderings import ScheduleName
from costmodels.pipelining.placements import Placement, looped, v_shaped


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOrder:
    """What each rank of a pipeline does, as a file says, and where its virtual stages are.

    Attributes
    ----------
    name : str
        What it is called in answers.
    rows : tuple of Row
        For each rank, its actions and which of them overlap.
    placement : Placement
        Rank of each virtual stage.
    """

    name: str
    rows: tuple[Row, ...]
    placement: Placement

    @property
    def order(self) -> Order:
        """Return the actions of each rank."""
        return order_of(self.rows)

    @property
    def rank_count(self) -> int:
        """Ranks of the pipeline [count]."""
        return len(self.rows)

    @property
    def chunk_count(self) -> int:
        """Virtual stages of a rank [count]."""
        return self.placement.stage_count // self.rank_count

    @property
    def microbatch_count(self) -> int:
        """Microbatches of a step [count]."""
        return 1 + max(action.microbatch for row in self.rows for action in row.actions)

    @property
    def action_count(self) -> int:
        """Actions of all ranks [count]."""
        return sum(len(row.actions) for row in self.rows)

    @property
    def splits(self) -> bool:
        """Return whether some backwards are two actions."""
        halves = ActionKind.WEIGHT_GRADIENT
        return any(action.kind is halves for row in self.rows for action in row.actions)

    @property
    def copies(self) -> int:
        """Copies of the layers that the ranks hold [count]."""
        return self.placement.stage_count // self.placement.part_count

    @property
    def like(self) -> ScheduleName:
        """Return a schedule that has its virtual stages on the same ranks, and takes its sizes."""
        if self.placement.part_count < self.placement.stage_count:
            return ScheduleName.DUAL_PIPE
        loops = self.placement.ranks == _looped(self).ranks
        return ScheduleName.LOOPED_BFS if loops else ScheduleName.ZB_V


def given_order(text: str, *, name: str) -> GivenOrder:
    r"""Return the order that a text describes, in torch's `pipeline_order` format.

    Parameters
    ----------
    text : str
        A line for each rank, comma-separated.
    name : str
        What the order is called in answers.

    Returns
    -------
    GivenOrder
        It can be played to its end.

    Raises
    ------
    SpecError
        If a value is no action, an action is missing or repeated, ranks would wait for each other
        in a circle, or virtual stages are on other ranks than torch puts them: round the ranks, or
        down the ranks and back up.

    Examples
    --------
    >>> given_order("0F0,0B0\n1F0,1B0\n", name="mine").like.value
    'looped-bfs'
    """
    rows, placement = checked_csv(text)
    order = GivenOrder(name=name, rows=rows, placement=placement)
    known = [_looped(order)]
    if order.chunk_count == 2:
        known.append(v_shaped(pipeline_parallel_size=order.rank_count))
    if placement.ranks not in [each.ranks for each in known]:
        expected = " or ".join(str(list(each.ranks)) for each in known)
        raise SpecError(
            f"the order has its virtual stages on ranks {list(placement.ranks)}: expected "
            f"{expected}, as torch places them"
        )
    return order


def _looped(order: GivenOrder) -> Placement:
    return looped(pipeline_parallel_size=order.rank_count, virtual_stages=order.chunk_count)
