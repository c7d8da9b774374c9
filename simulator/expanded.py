"""Every rank of a plan, simulated: replicas and tensor-parallel ranks that may differ.

A step is simulated once for identical replicas. Here each rank plays: a chain of virtual stages for
each replica and tensor-parallel rank. The ranks of a tensor-parallel group work in step, since
their collectives hold up all for the slowest; replicas meet when gradients are reduced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from costmodels.errors import SpecError
from costmodels.pipelining.actions import Action, ActionKind
from simulator.metrics import makespan_s, pipeline_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import PipelineProgram
from simulator.step_ends import step_end_parts
from simulator.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """How many ranks stand behind each simulated one, and which of them are slow.

    Attributes
    ----------
    replicas, tensor_ranks : int
        Data-parallel replicas, and tensor-parallel ranks of each stage [count].
    stragglers : mapping of (int, int, int) to float
        By replica, stage's rank and tensor rank, how many times longer its actions take [ratio].
    """

    replicas: int
    tensor_ranks: int
    stragglers: Mapping[tuple[int, int, int], float]

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.tensor_ranks < 1:
            raise SpecError(
                f"an expansion needs at least one replica ({self.replicas}) and one "
                f"tensor-parallel rank ({self.tensor_ranks})"
            )
        for place, factor in self.stragglers.items():
            if not factor > 0:
                raise SpecError(f"straggler {place} ({factor}) must be a positive factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """What every rank did.

    Attributes
    ----------
    trace : Trace
        Ranks count through replicas, then tensor-parallel ranks, then pipeline ranks.
    makespan_s : float
        End of the step, after the replicas have met [s].
    ends_s : tuple of float
        By rank, when its step ends [s].
    """

    trace: Trace
    makespan_s: float
    ends_s: tuple[float, ...]


def expanded_program(program: PipelineProgram, expansion: Expansion) -> PipelineProgram:
    """Return the program of all ranks: a copy for each replica and tensor-parallel rank.

    Parameters
    ----------
    program : PipelineProgram
        What the ranks of one replica do, tensor-parallel ranks as one.
    expansion : Expansion
        How many there are.

    Returns
    -------
    PipelineProgram
        With stages and ranks of its own for each copy.
    """
    stages, ranks = program.stage_count, len(program.order)
    copies = expansion.replicas * expansion.tensor_ranks
    following = program.next_stages()
    return replace(
        program,
        order=tuple(
            tuple(Action(copy * stages + stage, kind, batch) for stage, kind, batch in actions)
            for copy in range(copies)
            for actions in program.order
        ),
        forward=tuple(program.forward) * copies,
        backward=tuple(program.backward) * copies,
        input_gradient=tuple(program.input_gradient) * copies,
        weight_gradient=tuple(program.weight_gradient) * copies,
        activation_bytes=tuple(program.activation_bytes) * copies,
        early_released_bytes=tuple(program.early_released_bytes) * copies,
        static_bytes=tuple(program.static_bytes) * copies,
        static_parts=tuple(program.static_parts) * copies,
        step_ends=tuple(program.step_ends) * copies,
        overlapped=tuple(program.overlapped) * copies,
        links={
            (copy * ranks + source, copy * ranks + destination): link
            for copy in range(copies)
            for (source, destination), link in program.links.items()
        },
        successors=[
            None if other is None else copy * stages + other
            for copy in range(copies)
            for other in following
        ],
        durations_s={
            kind: _durations_s(program, expansion, kind)
            for kind in _varied_kinds(program, expansion)
        },
    )


def simulate_expanded(program: PipelineProgram, expansion: Expansion) -> Expanded:
    """Return what every rank does.

    Parameters
    ----------
    program : PipelineProgram
        What the ranks of one replica do, tensor-parallel ranks as one.
    expansion : Expansion
        How many there are, and which are slow.

    Returns
    -------
    Expanded
        Where nothing differs, each copy does exactly what the one does that stands for all.
    """
    trace = simulate_pipeline(expanded_program(program, expansion))
    ranks = len(program.order)
    last: dict[int, tuple[float, float]] = {
        span.rank: (span.start_s, span.end_s) for span in trace.spans if span.stage is not None
    }
    ends: list[float] = []
    for rank in range(trace.rank_count):
        # A reduction goes at the pace of the replica that comes last to it.
        group = [last[one] for one in range(rank % ranks, trace.rank_count, ranks) if one in last]
        start_s = max((start for start, _ in group), default=0)
        end_s = max((end for _, end in group), default=0)
        parts = step_end_parts(
            program.step_ends[rank % ranks], last_start_s=start_s, last_end_s=end_s
        )
        ends.append(parts[-1].end_s if parts else end_s)
    return Expanded(trace=trace, makespan_s=max(ends, default=0), ends_s=tuple(ends))


def agrees_with_folded(program: PipelineProgram, expanded: Expanded) -> bool:
    """Return whether every copy did exactly what the simulation of one replica does."""
    folded = simulate_pipeline(program)
    ranks = len(program.order)
    one, all_ranks = pipeline_metrics(folded), pipeline_metrics(expanded.trace)
    times = [(span.start_s, span.end_s) for span in folded.spans]
    copies = expanded.trace.rank_count // ranks
    return (
        [(span.start_s, span.end_s) for span in expanded.trace.spans] == times * copies
        and all_ranks.peak_bytes == one.peak_bytes * copies
        and all_ranks.flop == one.flop * copies
        and all_ranks.idle_s == one.idle_s * copies
        and expanded.makespan_s == makespan_s(folded)
    )


def _varied_kinds(program: PipelineProgram, expansion: Expansion) -> Sequence[ActionKind]:
    return program.kinds() if expansion.stragglers or program.durations_s else ()


def _durations_s(
    program: PipelineProgram, expansion: Expansion, kind: ActionKind
) -> list[list[float]]:
    ranks, tensor_ranks = program.stage_ranks(), range(expansion.tensor_ranks)
    count = program.microbatch_count()
    found = []
    for replica in range(expansion.replicas):
        of_replica = []
        for stage, work in enumerate(program.works(kind)):
            given = program.durations_s.get(kind)
            base = [work.duration_s] * count if given is None else given[stage]
            slowest = max(
                expansion.stragglers.get((replica, ranks[stage], tensor), 1)
                for tensor in tensor_ranks
            )
            of_replica.append([duration_s * slowest for duration_s in base])
        found += of_replica * expansion.tensor_ranks
    return found
