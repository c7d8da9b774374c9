"""Why ranks are idle while the pipeline runs: every idle second has one cause."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

from costmodels.pipelining.actions import ActionKind
from simulator.metrics import pipeline_phase
from simulator.program import PipelineProgram
from simulator.trace import Span, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleCauses:
    """The idle time of a rank in the pipeline phase, by cause; the parts add up to it.

    Attributes
    ----------
    warm_up_s : float
        Before its first action [s].
    drain_s : float
        After its last action [s].
    dependency_s : float
        While an action that it waits for runs, or waits itself [s].
    link_s : float
        While what it waits for is on its way, or waits for the link [s].
    straggler_s : float
        While an action that it waits for runs longer than it should [s].
    """

    warm_up_s: float
    drain_s: float
    dependency_s: float
    link_s: float
    straggler_s: float

    def total_s(self) -> float:
        """Return the idle time [s]."""
        return sum(float(getattr(self, field.name)) for field in fields(self))


def idle_causes(program: PipelineProgram, trace: Trace) -> tuple[IdleCauses, ...]:
    """Return for each rank why it was idle between the first and the last action of any rank.

    Parameters
    ----------
    program : PipelineProgram
        What was played; what its actions should take is their work.
    trace : Trace
        What happened.

    Returns
    -------
    tuple of IdleCauses
        By rank.

    Notes
    -----
    Before an action that waited, the time until its input was made is a wait for a dependency, and
    the rest, until it arrived, a wait for the link. Of the wait for a dependency, what the action
    that made it took longer than its work is due to a straggler, as far as the rank was idle then.
    The delays of what came still earlier are not followed.
    """
    start_s, end_s = pipeline_phase(trace)
    excess_s = _excess(program)
    made_s = _made(program, trace)
    found = {
        rank: _of_rank(trace, list(spans), start_s, end_s, excess_s, made_s)
        for rank, spans in groupby(_pipeline_spans(trace), key=lambda span: span.rank)
    }
    nothing = IdleCauses(
        warm_up_s=end_s - start_s, drain_s=0, dependency_s=0, link_s=0, straggler_s=0
    )
    return tuple(found.get(rank, nothing) for rank in range(trace.rank_count))


def _pipeline_spans(trace: Trace) -> Iterator[Span]:
    return (span for span in trace.spans if span.stage is not None)


def _excess(program: PipelineProgram) -> Callable[[Span], float]:
    """Return by how much an action takes longer than its work; no rounding where none varies."""
    scales = program.microbatch_scales

    def excess_s(span: Span) -> float:
        kind = ActionKind(span.name)
        if span.stage is None or span.microbatch is None or kind not in program.durations_s:
            return 0
        scale = scales[span.microbatch] if scales else 1
        nominal_s = scale * program.works(kind)[span.stage].duration_s
        return max(program.durations_s[kind][span.stage][span.microbatch] - nominal_s, 0)

    return excess_s


def _made(program: PipelineProgram, trace: Trace) -> list[float]:
    """Return for each span when its output is made: with its partner's, where two run together."""
    made = [span.end_s for span in trace.spans]
    if any(program.overlapped):
        places: Counter[int] = Counter()
        for index, span in enumerate(trace.spans):
            if span.stage is not None and places[span.rank] in program.overlapped[span.rank]:
                made[index] = trace.spans[index + 1].end_s
            places[span.rank] += 1
    return made


def _of_rank(
    trace: Trace,
    spans: list[Span],
    start_s: float,
    end_s: float,
    excess_s: Callable[[Span], float],
    made_at_s: Sequence[float],
) -> IdleCauses:
    dependency_s: float = 0
    link_s: float = 0
    straggler_s: float = 0
    free_s = spans[0].end_s
    for span in spans[1:]:
        if span.start_s > free_s:
            made_s, longer_s = span.start_s, 0.0
            if span.received_send is not None:
                send = trace.sends[span.received_send]
                maker = trace.spans[send.sending_span]
                made_s = min(max(made_at_s[send.sending_span], free_s), span.start_s)
                longer_s = excess_s(maker)
            late_s = min(longer_s, made_s - free_s)
            straggler_s += late_s
            dependency_s += made_s - free_s - late_s
            link_s += span.start_s - made_s
        free_s = span.end_s
    return IdleCauses(
        warm_up_s=spans[0].start_s - start_s,
        drain_s=end_s - spans[-1].end_s,
        dependency_s=dependency_s,
        link_s=link_s,
        straggler_s=straggler_s,
    )
