"""What a GPU holds over a step: every allocation and release, the peak, and what it consists of."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from simulator.trace import Trace


class MemoryPoint(NamedTuple):
    """What a rank holds after a change.

    Attributes
    ----------
    rank : int
        Rank in the pipeline [index].
    time_s : float
        When [s].
    what : str
        Part of the static memory, or the action that allocates or releases.
    delta_bytes : int
        What was allocated, or released if negative [byte].
    held_bytes : int
        What is held from then on [byte].
    """

    rank: int
    time_s: float
    what: str
    delta_bytes: int
    held_bytes: int


class StoredChunk(NamedTuple):
    """Activations of one virtual stage at a peak.

    Attributes
    ----------
    stage : int
        Virtual stage [index].
    microbatches : tuple of int
        Whose activations are held, whole or in part [index].
    size_bytes : int
        What they take together [byte].
    """

    stage: int
    microbatches: tuple[int, ...]
    size_bytes: int


class Peak(NamedTuple):
    """The most that a rank holds, when it first does, and what that is.

    Attributes
    ----------
    rank : int
        Rank in the pipeline [index].
    time_s : float
        When it is reached first [s].
    held_bytes : int
        How much [byte].
    static_bytes : mapping of str to int
        Parts that are held all the time [byte].
    chunks : tuple of StoredChunk
        Activations by virtual stage; with the static parts they add up to the peak.
    """

    rank: int
    time_s: float
    held_bytes: int
    static_bytes: Mapping[str, int]
    chunks: tuple[StoredChunk, ...]


def memory_timeline(trace: Trace) -> Iterator[MemoryPoint]:
    """Yield every allocation and release with what is held after it, rank by rank.

    Parameters
    ----------
    trace : Trace
        A simulated step.

    Yields
    ------
    MemoryPoint
        Static parts at the start of the step, then the changes of the actions in program order.
    """
    held = [0] * trace.rank_count
    for change in trace.memory_changes():
        held[change.rank] += change.delta_bytes
        yield MemoryPoint(
            change.rank, change.time_s, change.what, change.delta_bytes, held[change.rank]
        )


def memory_peaks(trace: Trace) -> tuple[Peak, ...]:
    """Return for each rank its peak and what it consists of.

    Parameters
    ----------
    trace : Trace
        A simulated step.

    Returns
    -------
    tuple of Peak
        By rank; the parts add up to the peak exactly.
    """
    stored: list[Counter[tuple[int, int]]] = [Counter() for _ in trace.static_bytes]
    held = list(trace.static_bytes)
    peaks = [_peak(trace, rank, 0, stored[rank]) for rank in range(trace.rank_count)]
    for span in trace.spans:
        if span.stage is None or span.microbatch is None:
            continue
        rank, key = span.rank, (span.stage, span.microbatch)
        held[rank] += span.allocated_bytes
        stored[rank][key] += span.allocated_bytes
        if held[rank] > peaks[rank].held_bytes:
            peaks[rank] = _peak(trace, rank, span.start_s, stored[rank])
        held[rank] -= span.released_bytes
        stored[rank][key] -= span.released_bytes
        if not stored[rank][key]:
            del stored[rank][key]
    return tuple(peaks)


def _peak(trace: Trace, rank: int, time_s: float, stored: Counter[tuple[int, int]]) -> Peak:
    chunks: dict[int, list[int]] = {}
    sizes: Counter[int] = Counter()
    for (stage, microbatch), size_bytes in sorted(stored.items()):
        chunks.setdefault(stage, []).append(microbatch)
        sizes[stage] += size_bytes
    return Peak(
        rank=rank,
        time_s=time_s,
        held_bytes=trace.static_bytes[rank] + sum(sizes.values()),
        static_bytes=trace.static_parts_of(rank),
        chunks=tuple(
            StoredChunk(stage, tuple(microbatches), sizes[stage])
            for stage, microbatches in chunks.items()
        ),
    )
