"""The orders of pipeline schedules, action for action, against what torch executes."""

from collections.abc import Iterable, Iterator
from itertools import product, zip_longest

from costmodels.errors import SpecError
from costmodels.pipelining.orderings import ORDERINGS, ScheduleName
from validation.cases import Case

SUITE = "schedules-ordered"

_OWN = (
    ScheduleName.ZB_H2,
    ScheduleName.DUAL_PIPE,
    ScheduleName.ZB_AUTO,
    ScheduleName.PIPEDREAM,
)
TORCHS = tuple(name for name in ScheduleName if name not in _OWN)
"""Schedules that torch has too."""

QUICK_RANKS, QUICK_MICROBATCHES = (1, 2, 4, 5), (1, 2, 4, 7, 8, 10, 16)
ALL_RANKS, ALL_MICROBATCHES = tuple(range(1, 17)), tuple(range(1, 65))
CHUNKS = (1, 2, 3, 4)

_METHOD = (
    "schedules of torch.distributed.pipelining made without processes; those of one stage for each "
    "rank run with stages that note what they are told, the others by the list that they execute"
)
_SOURCE = "torch 2.13, torch.distributed.pipelining.schedules"


def order_cases(
    ranks: Iterable[int] = QUICK_RANKS, microbatches: Iterable[int] = QUICK_MICROBATCHES
) -> Iterator[Case]:
    """Yield for each schedule and number of ranks how many actions are in torch's place.

    Parameters
    ----------
    ranks, microbatches : iterable of int, optional
        Sizes, each with one to four chunks [count].

    Yields
    ------
    Case
        Actions in the same place, over all sizes, and all actions; sizes that torch refuses and
        ours refuse alike. Needs torch.
    """
    counts = tuple(microbatches)
    for name, p in product(TORCHS, tuple(ranks)):
        same, executed, refused_alike, refused = _compared(name, p, counts)
        if executed:
            yield _case(
                f"{name.value}, {p} ranks",
                "every rank does the actions that torch executes, in their order",
                same,
                executed,
                "action",
            )
        if refused:
            yield _case(
                f"{name.value}, {p} ranks, refused",
                "sizes that torch refuses are refused",
                refused_alike,
                refused,
                "plan",
            )


def _compared(name: ScheduleName, p: int, microbatches: tuple[int, ...]) -> tuple[int, ...]:
    """Return actions in the same place, all of torch's, sizes refused by both, and by torch."""
    from validation.torch_programs.schedule_orders import executed_order

    same = executed = refused_alike = refused = 0
    for v, m in product(CHUNKS, microbatches):
        sizes = {"pipeline_parallel_size": p, "virtual_stages": v, "microbatch_count": m}
        if name is ScheduleName.ZB_H1 and v > 1:
            # Torch's class has these sizes under our other name.
            continue
        try:
            theirs = executed_order(name.value, **sizes, with_sends=False)
        except ValueError:
            # Torch refuses 1F1B with fewer microbatches than ranks; ours does what it would do.
            if name is not ScheduleName.ONE_F_ONE_B or v > 1:
                refused += 1
                refused_alike += _refused(name, sizes)
            continue
        ours = [] if _refused(name, sizes) else ORDERINGS[name].order(**sizes)
        executed += sum(map(len, theirs))
        same += sum(
            str(mine) == their
            for row, their_row in zip_longest(ours, theirs, fillvalue=())
            for mine, their in zip_longest(row, their_row)
        )
    return same, executed, refused_alike, refused


def _refused(name: ScheduleName, sizes: dict[str, int]) -> bool:
    try:
        ORDERINGS[name].order(**sizes)
    except SpecError:
        return True
    return False


def _case(name: str, claim: str, prediction: int, measurement: int, unit: str) -> Case:
    return Case(
        suite=SUITE,
        name=name,
        claim=claim,
        prediction=prediction,
        measurement=measurement,
        unit=unit,
        tolerance_fraction=0,
        tolerance_reason="an order is the same or it is not",
        method=_METHOD,
        source=_SOURCE,
    )
