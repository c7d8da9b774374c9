"""Quantities of a simulated step, computed from its trace and nothing else."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simulator.resources import LinkSpec
from simulator.trace import Span, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineMetrics:
    """What a simulated step took; the pipeline phase goes from its first action to its last.

    Attributes
    ----------
    makespan_s : float
        End of the last span of any rank [s].
    pipeline_makespan_s : float
        Length of the pipeline phase [s].
    busy_s, idle_s : tuple of float
        By rank, within the pipeline phase [s].
    idle_fraction : float
        Idle share of all ranks' time in the pipeline phase: the bubble over the whole time, as
        GPipe counts it [fraction].
    idle_to_busy_fraction : float
        Idle over busy time of all ranks: the bubble over the ideal time, as Megatron-LM counts it
        [fraction].
    sent_bytes : mapping of str to int
        By axis, sent by all ranks together [byte].
    flop : tuple of int
        By rank [FLOP].
    peak_bytes : tuple of int
        By rank, the most that it held at any time [byte].
    """

    makespan_s: float
    pipeline_makespan_s: float
    busy_s: tuple[float, ...]
    idle_s: tuple[float, ...]
    idle_fraction: float
    idle_to_busy_fraction: float
    sent_bytes: Mapping[str, int]
    flop: tuple[int, ...]
    peak_bytes: tuple[int, ...]


def pipeline_metrics(trace: Trace) -> PipelineMetrics:
    """Return all quantities of a simulated step."""
    busy = busy_s(trace)
    phase_s = pipeline_makespan_s(trace)
    idle = tuple(max(phase_s - rank_busy_s, 0.0) for rank_busy_s in busy)
    return PipelineMetrics(
        makespan_s=makespan_s(trace),
        pipeline_makespan_s=phase_s,
        busy_s=busy,
        idle_s=idle,
        idle_fraction=sum(idle) / (trace.rank_count * phase_s) if phase_s else 0.0,
        idle_to_busy_fraction=sum(idle) / sum(busy) if sum(busy) else 0.0,
        sent_bytes=sent_bytes(trace),
        flop=flop(trace),
        peak_bytes=peak_bytes(trace),
    )


def makespan_s(trace: Trace) -> float:
    """Return the time from zero to the end of the last span [s]."""
    return max((span.end_s for span in trace.spans), default=0)


def pipeline_makespan_s(trace: Trace) -> float:
    """Return the time from the start of the first pipeline action to the end of the last [s]."""
    first_s, last_s = pipeline_phase(trace)
    return last_s - first_s


def pipeline_phase(trace: Trace) -> tuple[float, float]:
    """Return the start of the first pipeline action of any rank, and the end of the last [s]."""
    first_s = min((span.start_s for span in _pipeline_spans(trace)), default=0)
    last_s = max((span.end_s for span in _pipeline_spans(trace)), default=0)
    return first_s, last_s


def busy_s(trace: Trace) -> tuple[float, ...]:
    """Return for each rank the time in its pipeline actions, which never overlap [s]."""
    busy: list[float] = [0] * trace.rank_count
    for span in _pipeline_spans(trace):
        busy[span.rank] += span.end_s - span.start_s
    return tuple(busy)


def sent_bytes(trace: Trace) -> Mapping[str, int]:
    """Return for each axis the bytes that all ranks sent [byte]."""
    sent: Counter[str] = Counter()
    for send in trace.sends:
        sent[send.axis] += send.size_bytes
    return dict(sent)


def flop(trace: Trace) -> tuple[int, ...]:
    """Return for each rank its work [FLOP]."""
    done = [0] * trace.rank_count
    for span in trace.spans:
        done[span.rank] += span.flop
    return tuple(done)


def peak_bytes(trace: Trace) -> tuple[int, ...]:
    """Return for each rank the most bytes that it held at any time [byte]."""
    held = [0] * trace.rank_count
    peak = [0] * trace.rank_count
    for change in trace.memory_changes():
        held[change.rank] += change.delta_bytes
        peak[change.rank] = max(peak[change.rank], held[change.rank])
    return tuple(peak)


def link_utilisation(
    trace: Trace, links: Mapping[tuple[int, int], LinkSpec]
) -> Mapping[tuple[int, int], float]:
    """Return by source and destination rank which share of the pipeline phase a link is sending.

    Parameters
    ----------
    trace : Trace
        A step on private links.
    links : mapping of (int, int) to LinkSpec
        How fast they are.

    Returns
    -------
    mapping of (int, int) to float
        Of the links that carried something [fraction].
    """
    phase_s = pipeline_makespan_s(trace)
    carried: Counter[tuple[int, int]] = Counter()
    for send in trace.sends:
        if send.destination is not None:
            carried[send.source, send.destination] += send.size_bytes
    return {
        pair: size_bytes / links[pair].bandwidth_bytes_per_s / phase_s if phase_s else 0.0
        for pair, size_bytes in sorted(carried.items())
    }


def _pipeline_spans(trace: Trace) -> Iterator[Span]:
    return (span for span in trace.spans if span.stage is not None)
