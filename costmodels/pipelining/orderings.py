"""Every schedule as an order: what each rank does, where its chunks are, which sizes are legal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from costmodels.columns import Column
from costmodels.pipelining.actions import Order, Row
from costmodels.pipelining.asynchronous import pipedream
from costmodels.pipelining.automatic import zb_auto
from costmodels.pipelining.dual_pipe import (
    DUAL_PIPE_REQUIREMENT,
    DUAL_PIPE_V_REQUIREMENT,
    dual_pipe,
    dual_pipe_is_legal,
    dual_pipe_rows,
    dual_pipe_v,
    dual_pipe_v_is_legal,
    dual_pipe_v_rows,
)
from costmodels.pipelining.orders import (
    LOOPED_BFS_REQUIREMENT,
    ONE_CHUNK_REQUIREMENT,
    ROUNDS_REQUIREMENT,
    gpipe,
    interleaved_one_f_one_b,
    looped_bfs,
    looped_bfs_is_legal,
    one_chunk_is_legal,
    one_f_one_b,
    whole_rounds_is_legal,
)
from costmodels.pipelining.placements import Placement, bidirectional, looped, v_shaped
from costmodels.pipelining.zero_bubble import (
    TWO_CHUNKS_REQUIREMENT,
    ZB_H1_REQUIREMENT,
    interleaved_zero_bubble,
    two_chunks_is_legal,
    zb_h1,
    zb_h1_is_legal,
    zb_h2,
    zb_v,
)


class ScheduleName(StrEnum):
    """The name of a pipeline schedule in files and on the command line."""

    GPIPE = "gpipe"
    ONE_F_ONE_B = "1f1b"
    INTERLEAVED_ONE_F_ONE_B = "interleaved-1f1b"
    LOOPED_BFS = "looped-bfs"
    ZB_H1 = "zb-h1"
    ZB_H2 = "zb-h2"
    INTERLEAVED_ZERO_BUBBLE = "interleaved-zb"
    ZB_V = "zb-v"
    DUAL_PIPE_V = "dualpipe-v"
    DUAL_PIPE = "dualpipe"
    ZB_AUTO = "zb-auto"
    PIPEDREAM = "pipedream"


class OrderFunction(Protocol):
    """Make the order of a schedule."""

    def __call__(
        self, *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
    ) -> Order:
        """Return for each rank its actions; raise `SpecError` for sizes that are not legal."""


class PlacementFunction(Protocol):
    """Place the virtual stages of a schedule."""

    def __call__(self, *, pipeline_parallel_size: int, virtual_stages: int) -> Placement:
        """Return the rank of each virtual stage, and what follows it."""


class LegalFunction(Protocol):
    """Say where a schedule exists."""

    def __call__(
        self, *, pipeline_parallel_size: Column, virtual_stages: Column, microbatch_count: Column
    ) -> Column:
        """Return whether the schedule exists for these sizes, row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What one schedule does.

    Attributes
    ----------
    name : ScheduleName
        Its name.
    description : str
        What it does, in one line.
    source : str
        The publication that proposed it.
    requirement : str
        Which sizes are legal, as the predicate of a sentence about the schedule.
    legal : LegalFunction
        The same as a column function.
    order : OrderFunction
        What each rank does, in order.
    placement : PlacementFunction
        Where its virtual stages are.
    rows : callable or None
        Where some actions overlap: for each rank the order with the pairs.
    copies : int
        How many copies of the model's layers the ranks of one pipeline hold [count].
    ends_in_turn : bool
        Whether each rank ends its last backward a backward before the rank before it; else all
        end at about the same time.
    splits : bool
        Whether some backwards are two actions.
    """

    name: ScheduleName
    description: str
    source: str
    requirement: str
    legal: LegalFunction
    order: OrderFunction
    placement: PlacementFunction = looped
    rows: Callable[..., tuple[Row, ...]] | None = None
    copies: int = 1
    ends_in_turn: bool = False
    splits: bool = False

    @property
    def loops(self) -> bool:
        """Whether chunks go round the ranks, from the last to the first."""
        return self.placement is looped

    @property
    def joins_ends(self) -> bool:
        """Whether the rank of the first virtual stage holds the last one too, on several ranks."""
        return not self.loops

    def rows_of(
        self, *, pipeline_parallel_size: int, virtual_stages: int, microbatch_count: int
    ) -> tuple[Row, ...]:
        """Return for each rank its actions and which of them overlap."""
        sizes = {
            "pipeline_parallel_size": pipeline_parallel_size,
            "virtual_stages": virtual_stages,
            "microbatch_count": microbatch_count,
        }
        if self.rows is not None:
            return self.rows(**sizes)
        return tuple(Row(actions, frozenset()) for actions in self.order(**sizes))


_QI = 'P. Qi et al., "Zero bubble pipeline parallelism," ICLR, 2024. arXiv:2401.10241'
_DEEPSEEK = 'DeepSeek-AI, "DeepSeek-V3 technical report," 2024. arXiv:2412.19437'

ORDERINGS: Mapping[ScheduleName, Ordering] = MappingProxyType(
    {
        ordering.name: ordering
        for ordering in (
            Ordering(
                name=ScheduleName.GPIPE,
                description="all forwards, then all backwards",
                source='Y. Huang et al., "GPipe: Efficient training of giant neural networks '
                'using pipeline parallelism," NeurIPS, 2019. arXiv:1811.06965.',
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=gpipe,
                ends_in_turn=True,
            ),
            Ordering(
                name=ScheduleName.ONE_F_ONE_B,
                description="one forward and one backward in turn, after a short warm-up",
                source='D. Narayanan et al., "Memory-efficient pipeline-parallel DNN training," '
                "ICML, 2021 (there PipeDream-Flush). arXiv:2006.09503.",
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=one_f_one_b,
                ends_in_turn=True,
            ),
            Ordering(
                name=ScheduleName.INTERLEAVED_ONE_F_ONE_B,
                description="1F1B over several chunks of the model on each rank",
                source='D. Narayanan et al., "Efficient large-scale language model training on '
                'GPU clusters using Megatron-LM," SC, 2021. arXiv:2104.04473.',
                requirement=ROUNDS_REQUIREMENT,
                legal=whole_rounds_is_legal,
                order=interleaved_one_f_one_b,
                ends_in_turn=True,
            ),
            Ordering(
                name=ScheduleName.LOOPED_BFS,
                description="GPipe over several chunks: all microbatches through a chunk, then "
                "the next",
                source='J. Lamy-Poirier, "Breadth-first pipeline parallelism," MLSys, 2023. '
                "arXiv:2211.05953.",
                requirement=LOOPED_BFS_REQUIREMENT,
                legal=looped_bfs_is_legal,
                order=looped_bfs,
                ends_in_turn=True,
            ),
            Ordering(
                name=ScheduleName.ZB_H1,
                description="1F1B whose weight gradients wait, at the memory of 1F1B's first rank",
                source=f"{_QI}, section 2.1; the order is torch's.",
                requirement=ZB_H1_REQUIREMENT,
                legal=zb_h1_is_legal,
                order=zb_h1,
                splits=True,
            ),
            Ordering(
                name=ScheduleName.ZB_H2,
                description="as zb-h1 with twice the warm-up: no bubble where F = I = W",
                source=f"{_QI}, section 2.2.",
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=zb_h2,
                splits=True,
            ),
            Ordering(
                name=ScheduleName.INTERLEAVED_ZERO_BUBBLE,
                description="zb-h1 over several chunks of the model on each rank",
                source=f"{_QI}; the order is torch's.",
                requirement=ROUNDS_REQUIREMENT,
                legal=whole_rounds_is_legal,
                order=interleaved_zero_bubble,
                splits=True,
            ),
            Ordering(
                name=ScheduleName.ZB_V,
                description="zero-bubble down the ranks and back up, two chunks on each",
                source=f"{_QI}, section 6.",
                requirement=TWO_CHUNKS_REQUIREMENT,
                legal=two_chunks_is_legal,
                order=zb_v,
                splits=True,
                placement=v_shaped,
            ),
            Ordering(
                name=ScheduleName.DUAL_PIPE_V,
                description="half of DualPipe: down the ranks and back up, forwards and backwards "
                "in pairs",
                source=f"{_DEEPSEEK}, section 3.2.1; the half by Sea AI Lab, 2025.",
                requirement=DUAL_PIPE_V_REQUIREMENT,
                legal=dual_pipe_v_is_legal,
                order=dual_pipe_v,
                splits=True,
                placement=v_shaped,
                rows=dual_pipe_v_rows,
            ),
            Ordering(
                name=ScheduleName.DUAL_PIPE,
                description="microbatches from both ends through two copies of the model, forwards "
                "and backwards in pairs",
                source=f"{_DEEPSEEK}, section 3.2.1.",
                requirement=DUAL_PIPE_REQUIREMENT,
                legal=dual_pipe_is_legal,
                order=dual_pipe,
                splits=True,
                placement=bidirectional,
                rows=dual_pipe_rows,
                copies=2,
            ),
            Ordering(
                name=ScheduleName.ZB_AUTO,
                description="an order searched for the times of the stages, within "
                "plan.held_limit microbatches on a rank; as a list, for F = I = W and the ranks' "
                "number of microbatches",
                source=f"{_QI}, section 3.1; the search is Shardwise's.",
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=zb_auto,
                splits=True,
            ),
            Ordering(
                name=ScheduleName.PIPEDREAM,
                description="1F1B that updates weights after every backward and never flushes; old "
                "versions of weights are kept",
                source='D. Narayanan et al., "PipeDream: Generalized pipeline parallelism for DNN '
                'training," SOSP, 2019. doi:10.1145/3341301.3359646.',
                requirement=ONE_CHUNK_REQUIREMENT,
                legal=one_chunk_is_legal,
                order=pipedream,
                ends_in_turn=True,
            ),
        )
    }
)
"""Every schedule by its name."""
