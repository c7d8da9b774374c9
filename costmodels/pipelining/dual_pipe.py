"""DualPipe and DualPipe-V: microbatches from both ends, forwards and backwards in pairs.

Both are one order for half the pipeline. In DualPipe a rank holds the part of the model that it
meets early on the way down and the part that it meets late on the way up, for microbatches of its
own each way; in DualPipe-V the same microbatches come by twice, on a model cut into twice as many
parts.
"""

from collections import deque

from costmodels.columns import Column
from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order, Row

DUAL_PIPE_V_REQUIREMENT = (
    "requires exactly 2 virtual stages per rank and a microbatch_count of at least "
    "2 pipeline_parallel_size"
)
DUAL_PIPE_REQUIREMENT = (
    "requires exactly 2 virtual stages per rank (two copies of the model's parts), an even "
    "pipeline_parallel_size, and an even microbatch_count of at least 2 pipeline_parallel_size"
)

_F, _B = ActionKind.FORWARD, ActionKind.BACKWARD
_I, _W = ActionKind.INPUT_GRADIENT, ActionKind.WEIGHT_GRADIENT


def dual_pipe_v_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether DualPipe-V exists for these sizes, row by row."""
    return (virtual_stages == 2) & (microbatch_count >= 2 * pipeline_parallel_size)


def dual_pipe_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether DualPipe exists for these sizes, row by row."""
    return (
        (virtual_stages == 2)
        & (pipeline_parallel_size % 2 == 0)
        & (microbatch_count % 2 == 0)
        & (microbatch_count >= 2 * pipeline_parallel_size)
    )


def dual_pipe_v(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> Order:
    """Return the order of DualPipe-V; two actions that overlap follow each other.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be two: virtual stages rank and 2 p - 1 - rank [count].
    microbatch_count : int
        Microbatches in a step, at least 2 p [count].

    Returns
    -------
    Order
        For each rank, its actions; `dual_pipe_v_rows` also says which overlap.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.

    References
    ----------
    .. [1] DeepSeek-AI, "DualPipe," 2025, github.com/deepseek-ai/DualPipe; the half of DualPipe
       ("cut-in-half") by Sea AI Lab.

    Examples
    --------
    >>> order = dual_pipe_v(pipeline_parallel_size=1, virtual_stages=2, microbatch_count=2)
    >>> " ".join(map(str, order[0]))
    '0F0 1F0 0F1 1B0 1F1 0B0 1B1 0I1 0W1'
    """
    rows = dual_pipe_v_rows(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
    return tuple(row.actions for row in rows)


def dual_pipe_v_rows(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> tuple[Row, ...]:
    """Return the order of DualPipe-V with its overlapped pairs; parameters as `dual_pipe_v`."""
    p, m = pipeline_parallel_size, microbatch_count
    sizes = {
        "pipeline_parallel_size": p,
        "virtual_stages": virtual_stages,
        "microbatch_count": m,
    }
    if not dual_pipe_v_is_legal(**sizes):
        raise SpecError(f"DualPipe-V {DUAL_PIPE_V_REQUIREMENT}, but {_stated(sizes)}")
    return tuple(_Half(early=rank, late=2 * p - 1 - rank).row(p, rank, m) for rank in range(p))


def dual_pipe(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of DualPipe; two actions that overlap follow each other.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline, even [count].
    virtual_stages : int
        Chunks of a rank, which must be two: virtual stage `rank` on the way down, and the copy
        2 p - 1 - rank on the way up [count].
    microbatch_count : int
        Microbatches in a step, even and at least 2 p: the first half goes down, the second half
        up [count].

    Returns
    -------
    Order
        For each rank, its actions; `dual_pipe_rows` also says which overlap.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V3 technical report," 2024, section 3.2.1. arXiv:2412.19437.

    Examples
    --------
    >>> order = dual_pipe(pipeline_parallel_size=2, virtual_stages=2, microbatch_count=4)
    >>> [" ".join(map(str, row)) for row in order]
    ['0F0 3F2 0F1 3B2 3F3 0B0 3B3 0I1 0W1', '2F2 1F0 2F3 1B0 1F1 2B2 1B1 2I3 2W3']
    """
    rows = dual_pipe_rows(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
    return tuple(row.actions for row in rows)


def dual_pipe_rows(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> tuple[Row, ...]:
    """Return the order of DualPipe with its overlapped pairs; parameters as `dual_pipe`."""
    p, m = pipeline_parallel_size, microbatch_count
    sizes = {
        "pipeline_parallel_size": p,
        "virtual_stages": virtual_stages,
        "microbatch_count": m,
    }
    if not dual_pipe_is_legal(**sizes):
        raise SpecError(f"DualPipe {DUAL_PIPE_REQUIREMENT}, but {_stated(sizes)}")
    rows = []
    for rank in range(p):
        down, up = rank, 2 * p - 1 - rank
        second = rank >= p // 2
        half = _Half(
            early=up if second else down,
            late=down if second else up,
            early_first=m // 2 if second else 0,
            late_first=0 if second else m // 2,
        )
        rows.append(half.row(p // 2, min(rank, p - 1 - rank), m // 2))
    return tuple(rows)


class _Half:
    """What a rank does: its chunk that microbatches meet early, and the one they meet late."""

    def __init__(self, *, early: int, late: int, early_first: int = 0, late_first: int = 0) -> None:
        self._stages = (early, late)
        self._first = (early_first, late_first)
        self._forwards = [0, 0]
        self._backwards = [0, 0]
        self._pending: deque[Action] = deque()
        self._actions: list[Action] = []
        self._overlapped: set[int] = set()

    def row(self, half_ranks: int, place: int, count: int) -> Row:
        """Return the actions of the rank at a place of half a pipeline, ends first."""
        inner = half_ranks - 1 - place
        self._fill(inner, place)
        for step in range(count - 2 * half_ranks + place + 1):
            if step == 0 and not inner:
                # Apart, these two shorten the bubble: nothing else is ready in the middle.
                self._forward(0)
                self._backward(1)
            else:
                self._pair(0, 1)
            self._pair(1, 0)
        for _ in range(inner):
            self._backward(1)
            self._pair(1, 0)
        self._drain(inner, place)
        return Row(tuple(self._actions), frozenset(self._overlapped))

    def _fill(self, inner: int, place: int) -> None:
        for _ in range(2 * inner):
            self._forward(0)
        for _ in range(place + 1):
            self._forward(0)
            self._forward(1)
        for _ in range(inner):
            self._backward(1, split=True)
            self._weight()
            self._forward(1)

    def _drain(self, inner: int, place: int) -> None:
        """Do the last backwards, from the middle of them on in halves."""
        for number in range(2 * (place + 1)):
            self._backward(1 - number % 2, split=number > place)
        for _ in range(inner):
            self._weight()
            self._backward(0, split=True)
        while self._pending:
            self._weight()

    def _forward(self, chunk: int) -> None:
        microbatch = self._first[chunk] + self._forwards[chunk]
        self._actions.append(Action(self._stages[chunk], _F, microbatch))
        self._forwards[chunk] += 1

    def _backward(self, chunk: int, *, split: bool = False) -> None:
        microbatch = self._first[chunk] + self._backwards[chunk]
        stage = self._stages[chunk]
        self._actions.append(Action(stage, _I if split else _B, microbatch))
        if split:
            self._pending.append(Action(stage, _W, microbatch))
        self._backwards[chunk] += 1

    def _pair(self, forward: int, backward: int) -> None:
        self._overlapped.add(len(self._actions))
        self._forward(forward)
        self._backward(backward)

    def _weight(self) -> None:
        self._actions.append(self._pending.popleft())


def _stated(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in sizes.items())
