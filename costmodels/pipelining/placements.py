"""Where the virtual stages of a pipeline are, and which of them follow each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from costmodels.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The rank of each virtual stage, its successor, and the part of the model that it holds.

    Attributes
    ----------
    ranks : tuple of int
        By virtual stage, its rank [index].
    following : tuple of int or None
        By virtual stage, the one that takes what it makes; None where the model ends [index].
    parts : tuple of int
        By virtual stage, the part of the model that it holds; stages of one part are copies of
        the same layers [index].
    """

    ranks: tuple[int, ...]
    following: tuple[int | None, ...]
    parts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.ranks) == len(self.following) == len(self.parts):
            raise SpecError(
                f"a placement has {len(self.ranks)} ranks, {len(self.following)} successors and "
                f"{len(self.parts)} parts: expected one of each for every virtual stage"
            )
        taken = [stage for stage in self.following if stage is not None]
        if len(set(taken)) != len(taken) or not set(taken) <= set(range(len(self.ranks))):
            raise SpecError(f"a placement's successors {taken} must be different virtual stages")

    @property
    def stage_count(self) -> int:
        """Virtual stages, copies counted apart [count]."""
        return len(self.ranks)

    @property
    def rank_count(self) -> int:
        """Ranks of the pipeline [count]."""
        return 1 + max(self.ranks)

    @property
    def part_count(self) -> int:
        """Parts of the model [count]."""
        return 1 + max(self.parts)

    def preceding(self) -> tuple[int | None, ...]:
        """Return for each virtual stage the one whose output it takes, None for the first."""
        found: list[int | None] = [None] * self.stage_count
        for stage, following in enumerate(self.following):
            if following is not None:
                found[following] = stage
        return tuple(found)

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """Return the virtual stages of a rank, its chunks, in the order of their numbers."""
        return tuple(stage for stage, own in enumerate(self.ranks) if own == rank)

    def stages_by_rank(self) -> tuple[tuple[int, ...], ...]:
        """Return for each rank its virtual stages, in the order of their numbers."""
        found: list[list[int]] = [[] for _ in range(self.rank_count)]
        for stage, rank in enumerate(self.ranks):
            found[rank].append(stage)
        return tuple(map(tuple, found))

    def stays(self) -> tuple[int, ...]:
        """Return for each virtual stage how many of its neighbours are on its own rank [count]."""
        counts = [0] * self.stage_count
        for stage, following in enumerate(self.following):
            if following is not None and self.ranks[stage] == self.ranks[following]:
                counts[stage] += 1
                counts[following] += 1
        return tuple(counts)

    def arrives(self) -> tuple[bool, ...]:
        """Return for each virtual stage whether its input comes from another rank."""
        return tuple(
            before is not None and self.ranks[before] != self.ranks[stage]
            for stage, before in enumerate(self.preceding())
        )

    def chains(self) -> tuple[tuple[int, ...], ...]:
        """Return the ways through the model: virtual stages that follow each other, first to last."""
        found = []
        for first, before in enumerate(self.preceding()):
            if before is None:
                chain: list[int] = []
                stage: int | None = first
                while stage is not None:
                    chain.append(stage)
                    stage = self.following[stage]
                found.append(tuple(chain))
        return tuple(found)


def linear(ranks: Sequence[int]) -> Placement:
    """Return the placement of virtual stages that follow each other in the order of their numbers.

    Examples
    --------
    >>> linear([0, 1, 0, 1]).following
    (1, 2, 3, None)
    """
    count = len(ranks)
    following = (*range(1, count), None) if count else ()
    return Placement(ranks=tuple(ranks), following=following, parts=tuple(range(count)))


def looped(*, pipeline_parallel_size: int, virtual_stages: int) -> Placement:
    """Return the placement of interleaved schedules: virtual stage c p + rank on each rank.

    Examples
    --------
    >>> looped(pipeline_parallel_size=2, virtual_stages=2).ranks
    (0, 1, 0, 1)
    """
    return linear([*range(pipeline_parallel_size)] * virtual_stages)


def v_shaped(*, pipeline_parallel_size: int, virtual_stages: int = 2) -> Placement:
    """Return the placement of ZB-V and DualPipe-V: down the ranks, and back up.

    Examples
    --------
    >>> v_shaped(pipeline_parallel_size=2).ranks
    (0, 1, 1, 0)
    """
    down = [*range(pipeline_parallel_size)]
    ways = [down if chunk % 2 == 0 else down[::-1] for chunk in range(virtual_stages)]
    return linear([rank for way in ways for rank in way])


def bidirectional(*, pipeline_parallel_size: int, virtual_stages: int = 2) -> Placement:
    """Return the placement of DualPipe: the whole model down the ranks, a copy of it up the ranks.

    Virtual stages 0 to p - 1 are on ranks 0 to p - 1; stages p to 2 p - 1, which hold the same
    layers again, are on ranks p - 1 to 0.

    Examples
    --------
    >>> placement = bidirectional(pipeline_parallel_size=2)
    >>> placement.ranks, placement.following, placement.parts
    ((0, 1, 1, 0), (1, None, 3, None), (0, 1, 0, 1))
    """
    p = pipeline_parallel_size
    v_placed = v_shaped(pipeline_parallel_size=p, virtual_stages=virtual_stages)
    return Placement(
        ranks=v_placed.ranks,
        following=tuple(
            None if (stage + 1) % p == 0 else stage + 1 for stage in range(virtual_stages * p)
        ),
        parts=(*range(p),) * virtual_stages,
    )
