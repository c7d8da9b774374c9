"""A simulated step as pandas frames; pandas is optional and loaded here only."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from costmodels.errors import SpecError
from simulator.idle import idle_causes
from simulator.memory_timeline import MemoryPoint, memory_timeline
from simulator.metrics import pipeline_metrics
from simulator.program import PipelineProgram
from simulator.trace import Send, Span, Trace

if TYPE_CHECKING:
    from pandas import DataFrame


def spans_frame(trace: Trace) -> "DataFrame":
    """Return a row for each span, with the fields of `Span` as columns.

    Raises
    ------
    SpecError
        If pandas is not installed; so for all frames.
    """
    return _frame(trace.spans, Span._fields)


def sends_frame(trace: Trace) -> "DataFrame":
    """Return a row for each send, with the fields of `Send` as columns."""
    return _frame(trace.sends, Send._fields)


def memory_frame(trace: Trace) -> "DataFrame":
    """Return a row for each allocation and release, with what is held after it."""
    return _frame(list(memory_timeline(trace)), MemoryPoint._fields)


def ranks_frame(program: PipelineProgram, trace: Trace) -> "DataFrame":
    """Return a row for each rank: busy and idle time by cause, FLOP, peak memory."""
    metrics = pipeline_metrics(trace)
    rows = [
        {
            "rank": rank,
            "busy_s": metrics.busy_s[rank],
            "idle_s": metrics.idle_s[rank],
            **asdict(causes),
            "flop": metrics.flop[rank],
            "peak_bytes": metrics.peak_bytes[rank],
        }
        for rank, causes in enumerate(idle_causes(program, trace))
    ]
    return _frame(rows, None)


def _frame(rows: object, columns: tuple[str, ...] | None) -> "DataFrame":
    try:
        import pandas as pd
    except ImportError:
        raise SpecError("frames need pandas, of the extra 'frames': pip install pandas") from None
    return pd.DataFrame(rows, columns=None if columns is None else list(columns))
