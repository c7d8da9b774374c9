"""What a page shows of a simulated step, small enough to be kept: arrays, not a record a span."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from costmodels.errors import SpecError
from dashboard.figures.schedule import Held, IdleTime, Prepared, Spans, idle_by_cause, prepared
from simulator.training import Simulation


class Played(NamedTuple):
    """A simulated step.

    Attributes
    ----------
    drawing : Prepared
        What its drawings start from.
    makespan_s : float
        Time of the step [s].
    idle_fraction : float
        Share of the pipeline's time in which ranks wait [fraction].
    idle : list of IdleTime
        Why each rank waits.
    """

    drawing: Prepared
    makespan_s: float
    idle_fraction: float
    idle: list[IdleTime]

    @property
    def span_count(self) -> int:
        """Return how many spans it has [count]."""
        return len(self.drawing.spans.start_s)


def played_of(simulation: Simulation) -> Played:
    """Return what is shown of a simulation."""
    metrics = simulation.metrics
    return Played(
        drawing=prepared(simulation.trace),
        makespan_s=metrics.makespan_s,
        idle_fraction=metrics.idle_fraction,
        idle=idle_by_cause(simulation.trace),
    )


# Indices of ranks, stages and microbatches of a million actions fit 32 bits.
_KEPT = {"rank": np.int32, "stage": np.int32, "microbatch": np.int32, "kind": np.int16}


def packed(played: Played) -> bytes:
    """Return a simulated step as bytes that `unpacked` reads."""
    spans, held = played.drawing.spans, played.drawing.held
    rest = {
        "names": spans.names,
        "makespan_s": played.makespan_s,
        "idle_fraction": played.idle_fraction,
        "idle": [tuple(cause) for cause in played.idle],
        "held": [len(each.time_s) for each in held],
    }
    arrays = {
        "start_s": spans.start_s,
        "end_s": spans.end_s,
        "computes": spans.computes,
        "time_s": np.asarray([time_s for each in held for time_s in each.time_s], dtype=float),
        "held_bytes": np.asarray(
            [size for each in held for size in each.held_bytes], dtype=np.int64
        ),
        "rest": np.frombuffer(msgspec.json.encode(rest), dtype=np.uint8),
    } | {name: getattr(spans, name).astype(kind) for name, kind in _KEPT.items()}
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def unpacked(content: bytes) -> Played:
    """Return the simulated step that `packed` wrote.

    Raises
    ------
    SpecError
        If it cannot be read.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        rest = msgspec.json.decode(arrays["rest"].tobytes())
        return _unpacked(arrays, rest)
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SpecError(f"the kept simulation cannot be read: {error}") from None


def _unpacked(arrays: Mapping[str, Any], rest: Mapping[str, Any]) -> Played:
    ends = np.cumsum(rest["held"])[:-1]
    held = [
        Held(time_s.tolist(), size_bytes.tolist())
        for time_s, size_bytes in zip(
            np.split(arrays["time_s"], ends), np.split(arrays["held_bytes"], ends), strict=True
        )
    ]
    spans = Spans(
        start_s=arrays["start_s"],
        end_s=arrays["end_s"],
        computes=arrays["computes"],
        names=tuple(rest["names"]),
        **{name: arrays[name].astype(np.int64) for name in _KEPT},
    )
    return Played(
        drawing=Prepared(spans, held),
        makespan_s=float(rest["makespan_s"]),
        idle_fraction=float(rest["idle_fraction"]),
        idle=[IdleTime(*causes) for causes in rest["idle"]],
    )
