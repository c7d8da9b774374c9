"""Zero-bubble orders: the gradient of the weights waits, and fills the bubble.

Three of them are one rule: some forwards to warm up, then a forward and an input gradient in turn,
and each weight gradient a fixed number of input gradients after its own. They differ in how many
forwards warm up and in how far weight gradients lag. ZB-V goes down the ranks and back up.
"""

from collections.abc import Sequence

from costmodels.columns import Column
from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind, Order
from costmodels.pipelining.interleaving import microbatches_per_round
from costmodels.pipelining.orders import ROUNDS_REQUIREMENT, whole_rounds_is_legal

_F, _I, _W = ActionKind.FORWARD, ActionKind.INPUT_GRADIENT, ActionKind.WEIGHT_GRADIENT

ZB_H1_REQUIREMENT = f"takes one virtual stage per rank and {ROUNDS_REQUIREMENT}"
TWO_CHUNKS_REQUIREMENT = "requires exactly 2 virtual stages per rank"


def zb_h1_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether ZB-H1 exists for these sizes, row by row."""
    in_rounds = whole_rounds_is_legal(
        pipeline_parallel_size=pipeline_parallel_size,
        virtual_stages=virtual_stages,
        microbatch_count=microbatch_count,
    )
    return in_rounds & (virtual_stages == 1)


def two_chunks_is_legal(
    *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
) -> Column:
    """Return whether ZB-V exists for these sizes, row by row."""
    return (virtual_stages == 2) & (pipeline_parallel_size >= 1) & (microbatch_count >= 1)


def zb_h1(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of ZB-H1: as 1F1B, with weight gradients `rank` input gradients late.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches in a step, a multiple of the number of rounds, as torch requires [count].

    Returns
    -------
    Order
        For each rank, its actions: what torch's ScheduleInterleavedZeroBubble does with one stage
        for each rank. It has the bubble and the memory that the paper gives for its ZB-H1; the
        paper draws the schedule and lists no actions.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.

    Examples
    --------
    >>> order = zb_h1(pipeline_parallel_size=2, virtual_stages=1, microbatch_count=2)
    >>> [" ".join(map(str, row)) for row in order]
    ['0F0 0F1 0I0 0W0 0I1 0W1', '1F0 1I0 1F1 1I1 1W0 1W1']
    """
    sizes = {
        "pipeline_parallel_size": pipeline_parallel_size,
        "virtual_stages": virtual_stages,
        "microbatch_count": microbatch_count,
    }
    _refuse(bool(zb_h1_is_legal(**sizes)), f"ZB-H1 {ZB_H1_REQUIREMENT}", sizes)
    return _interleaved_zero_bubble(**sizes)


def interleaved_zero_bubble(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> Order:
    """Return the order of interleaved zero-bubble: rounds of microbatches through the chunks.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank; with one it is ZB-H1 [count].
    microbatch_count : int
        Microbatches in a step, a multiple of the number of rounds [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If the sizes are not those that the schedule requires.

    Examples
    --------
    >>> order = interleaved_zero_bubble(
    ...     pipeline_parallel_size=2, virtual_stages=2, microbatch_count=2
    ... )
    >>> " ".join(map(str, order[1]))
    '1F0 1F1 3F0 3I0 3F1 3I1 3W0 1I0 3W1 1I1 1W0 1W1'
    """
    sizes = {
        "pipeline_parallel_size": pipeline_parallel_size,
        "virtual_stages": virtual_stages,
        "microbatch_count": microbatch_count,
    }
    requirement = f"interleaved zero-bubble {ROUNDS_REQUIREMENT}"
    _refuse(bool(whole_rounds_is_legal(**sizes)), requirement, sizes)
    return _interleaved_zero_bubble(**sizes)


def _interleaved_zero_bubble(
    *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
) -> Order:
    p, v, m = pipeline_parallel_size, virtual_stages, microbatch_count
    size = microbatches_per_round(pipeline_parallel_size=p, microbatch_count=m)
    passes = [
        (chunk, microbatch)
        for first in range(0, m, size)
        for chunk in range(v)
        for microbatch in range(first, first + size)
    ]
    rows = []
    for rank in range(p):
        forwards = [(chunk * p + rank, microbatch) for chunk, microbatch in passes]
        backwards = [((v - 1 - chunk) * p + rank, microbatch) for chunk, microbatch in passes]
        warmup_count = min((v - 1) * size + p - 1 - rank, v * m)
        rows.append(_lagging(forwards, backwards, warmup_count=warmup_count, lag=rank))
    return tuple(rows)


def zb_h2(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of ZB-H2: warm-up and lag twice as long as those of ZB-H1.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be one [count].
    microbatch_count : int
        Microbatches in a step; the bubble of the paper needs 2 p - 1 [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If `virtual_stages` is not one.

    Notes
    -----
    The paper [1]_ draws the schedule. 2 (p - 1 - rank) forwards before the first pair fill the time
    until the first gradient arrives, and weight gradients that lag 2 rank input gradients leave
    nothing to wait for at the end: with equal F, B and W every rank works without a break.

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, section 2.2.
       arXiv:2401.10241.

    Examples
    --------
    >>> order = zb_h2(pipeline_parallel_size=2, virtual_stages=1, microbatch_count=3)
    >>> [" ".join(map(str, row)) for row in order]
    ['0F0 0F1 0F2 0I0 0W0 0I1 0W1 0I2 0W2', '1F0 1I0 1F1 1I1 1F2 1I2 1W0 1W1 1W2']
    """
    if virtual_stages != 1:
        raise SpecError(
            f"ZB-H2 requires one virtual stage per rank, but virtual_stages is {virtual_stages}"
        )
    p, m = pipeline_parallel_size, microbatch_count
    return tuple(
        _lagging(
            [(rank, microbatch) for microbatch in range(m)],
            [(rank, microbatch) for microbatch in range(m)],
            warmup_count=min(2 * (p - 1 - rank), m),
            lag=2 * rank,
        )
        for rank in range(p)
    )


def _lagging(
    forwards: Sequence[tuple[int, int]],
    backwards: Sequence[tuple[int, int]],
    *,
    warmup_count: int,
    lag: int,
) -> tuple[Action, ...]:
    """Return warm-up, then forwards and input gradients in turn, weight gradients `lag` later."""
    row = [Action(stage, _F, microbatch) for stage, microbatch in forwards[:warmup_count]]
    late = iter(backwards)
    for place, (stage, microbatch) in enumerate(backwards):
        if warmup_count + place < len(forwards):
            following, number = forwards[warmup_count + place]
            row.append(Action(following, _F, number))
        row.append(Action(stage, _I, microbatch))
        if place >= lag:
            own, number = next(late)
            row.append(Action(own, _W, number))
    row.extend(Action(stage, _W, microbatch) for stage, microbatch in late)
    return tuple(row)


def zb_v(*, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int) -> Order:
    """Return the order of ZB-V: two chunks on a rank, the first and the last of its half.

    Parameters
    ----------
    pipeline_parallel_size : int
        Ranks of the pipeline [count].
    virtual_stages : int
        Chunks of a rank, which must be two: virtual stages rank and 2 p - 1 - rank [count].
    microbatch_count : int
        Microbatches in a step; fewer than 2 p - 1 leave holes in the order of 2 p - 1 [count].

    Returns
    -------
    Order
        For each rank, its actions.

    Raises
    ------
    SpecError
        If `virtual_stages` is not two.

    References
    ----------
    .. [1] P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024, section 6.
       arXiv:2401.10241.

    Examples
    --------
    >>> order = zb_v(pipeline_parallel_size=2, virtual_stages=2, microbatch_count=2)
    >>> " ".join(map(str, order[1]))
    '1F0 2F0 1F1 2F1 2I0 2W0 1I0 1W0 2I1 2W1 1I1 1W1'
    """
    if virtual_stages != 2:
        raise SpecError(f"ZB-V {TWO_CHUNKS_REQUIREMENT}, but virtual_stages is {virtual_stages}")
    p, m = pipeline_parallel_size, microbatch_count
    rows = (_zb_v_row(p, rank, max(2 * p - 1, m)) for rank in range(p))
    return tuple(tuple(action for action in row if action.microbatch < m) for row in rows)


def _zb_v_row(p: int, rank: int, count: int) -> list[Action]:
    """Return what a rank does with at least 2 p - 1 microbatches."""
    queue = _Queue((rank, 2 * p - 1 - rank))
    queue.do(_F, 0, times=2 * (p - rank) - 1)
    for _ in range(rank):
        queue.do(_F, 1)
        queue.do(_F, 0)
    for _ in range(p - rank):
        queue.do(_F, 1)
        queue.do_whole(1)
    while queue.done(_F, 1) < count:
        if queue.done(_F, 0) < count:
            queue.do(_F, 0)
        queue.do_whole(0)
        queue.do(_F, 1)
        queue.do_whole(1)
    for _ in range(rank):
        queue.do(_I, 0)
        queue.do(_I, 1)
    for _ in range(p - rank):
        queue.do(_I, 0)
        queue.do(_W, 0)
    for chunk in (1, 0):
        queue.do(_W, chunk, times=count - queue.done(_W, chunk))
    return queue.row


class _Queue:
    """A rank's actions so far; each kind takes the microbatches of a chunk in their order."""

    def __init__(self, stages: tuple[int, int]) -> None:
        self.row: list[Action] = []
        self._stages = stages
        self._done = {(kind, chunk): 0 for kind in ActionKind for chunk in (0, 1)}

    def done(self, kind: ActionKind, chunk: int) -> int:
        return self._done[kind, chunk]

    def do(self, kind: ActionKind, chunk: int, *, times: int = 1) -> None:
        for _ in range(times):
            self.row.append(Action(self._stages[chunk], kind, self._done[kind, chunk]))
            self._done[kind, chunk] += 1

    def do_whole(self, chunk: int) -> None:
        """Do both halves of the next backward, one after the other."""
        self.do(_I, chunk)
        self.do(_W, chunk)


def _refuse(legal: bool, requirement: str, sizes: dict[str, int]) -> None:  # noqa: FBT001
    if not legal:
        stated = ", ".join(f"{name} is {value}" for name, value in sizes.items())
        raise SpecError(f"{requirement}, but {stated}")
