"""Simulated steps on the command line: their options, their tables, their JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cli.tables import console, print_table, show_verdict, table_of
from costmodels.errors import SpecError
from costmodels.pipelining.given_orders import GivenOrder
from costmodels.scenario import Scenario
from costmodels.units import (
    format_bytes,
    format_flop,
    format_fraction,
    format_seconds,
    format_traffic,
    parse_quantity,
)
from simulator.answer import Verdict
from simulator.idle import idle_causes
from simulator.inert_fields import counted
from simulator.memory_timeline import Peak, memory_peaks
from simulator.metrics import link_utilisation
from simulator.shared_step import Contention
from simulator.topology import Sharing
from simulator.training import Simulation
from simulator.variation import Variation

LOSSES_SHOWN = 5
"""Reasons for late messages that a table shows."""


def read_variation(
    jitter: float, stragglers: Sequence[str], scales: str | None, seed: int
) -> Variation:
    """Return what the options of chance and size say.

    Raises
    ------
    SpecError
        If a value cannot be read.
    """
    return Variation(
        jitter_fraction=jitter,
        stragglers=dict(_straggler(text) for text in stragglers),
        microbatch_scales=() if scales is None else tuple(map(_scale, scales.split(","))),
        seed=seed,
    )


def _straggler(text: str) -> tuple[int, float]:
    rank, _, factor = text.partition("=")
    try:
        return int(rank), float(factor)
    except ValueError:
        raise SpecError(f"--straggler ({text}): expected RANK=FACTOR, such as 2=1.3") from None


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"--microbatch-sizes ({text}): expected a number") from None


def read_sharing(nics_per_node: int | None, pcie: str | None, *, contention: bool) -> Sharing:
    """Return what GPUs of a node share.

    Raises
    ------
    SpecError
        If a value cannot be read, or is given without ``--contention``, which alone it changes.
    """
    if not contention and (nics_per_node is not None or pcie is not None):
        option = "--pcie" if nics_per_node is None else "--nics-per-node"
        raise SpecError(f"{option} says what traffic shares: it needs --contention")
    pcie_bytes_per_s = None if pcie is None else parse_quantity(pcie, "bytes_per_s")
    return Sharing(nics_per_node=nics_per_node, pcie_bytes_per_s=pcie_bytes_per_s)


def simulation_object(played: Simulation | None) -> dict[str, Any]:
    """Return a simulated step as an object of JSON, empty where times are withheld."""
    if played is None:
        return {"metrics": None, "spans": []}
    pairs = link_utilisation(played.trace, played.program.links)
    return {
        "metrics": played.metrics,
        "idle_causes": [asdict(one) for one in idle_causes(played.program, played.trace)],
        "link_utilisation": [
            {"source": source, "destination": destination, "fraction": fraction}
            for (source, destination), fraction in pairs.items()
        ],
        "peaks": [_peak_object(peak) for peak in memory_peaks(played.trace)],
        "spans": [span._asdict() for span in played.trace.spans],
    }


def _peak_object(peak: Peak) -> dict[str, Any]:
    return peak._asdict() | {"chunks": [chunk._asdict() for chunk in peak.chunks]}


def contention_object(contended: Contention) -> dict[str, Any]:
    """Return a step on shared links as an object of JSON."""
    return {
        "contention": {
            "metrics": contended.metrics,
            "alone_s": contended.alone_s,
            "without_data_s": contended.without_data_s,
            "cause": contended.cause,
            "utilisation": contended.utilisation,
            "losses": [
                loss._asdict() | {"lost_s": lost_s} for loss, lost_s in contended.losses.items()
            ],
        }
    }


def show_order_used(scenario: Scenario, order: GivenOrder | None) -> None:
    """Print whose order is played, where it is not the schedule's."""
    if order is not None:
        console().print(
            f"order of {order.name}: {counted(order.rank_count, 'rank')}, "
            f"{counted(order.chunk_count, 'virtual stage')} on each, "
            f"{counted(order.microbatch_count, 'microbatch', 'microbatches')}; "
            f"plan.schedule ({scenario.plan.schedule.value}) is not used"
        )


def show_simulation(
    verdict: Verdict, played: Simulation | None, contended: Contention | None
) -> None:
    """Print whether the plan fits, and what a simulated step took, GPU by GPU."""
    out = console()
    show_verdict(
        out,
        fits=verdict.fits,
        headroom_bytes=verdict.headroom_bytes,
        stage=verdict.worst_stage_index,
    )
    if played is None:
        out.print("times are withheld: the plan does not fit (--ignore-memory gives them)")
        return
    if not verdict.fits:
        out.print("times are given all the same, as asked")
    metrics = played.metrics
    out.print(f"step {format_seconds(metrics.makespan_s)} (basis: {verdict.basis.value})")
    out.print(
        f"pipeline {format_seconds(metrics.pipeline_makespan_s)}, idle "
        f"{format_fraction(metrics.idle_fraction)} of the whole time, "
        f"{format_fraction(metrics.idle_to_busy_fraction)} of the ideal time; "
        f"{counted(len(played.trace.spans), 'span')}"
    )
    print_table(out, _stage_table(played))
    print_table(out, _idle_table(played))
    print_table(out, _peak_table(played))
    sent = table_of("Bytes sent, one GPU of each stage together", "axis", "bytes")
    for axis, size_bytes in metrics.sent_bytes.items():
        sent.add_row(axis, format_traffic(size_bytes))
    print_table(out, sent)
    if contended is not None:
        _show_contention(out, contended)


def _stage_table(played: Simulation) -> Any:
    table = table_of(
        "One GPU of each stage", "stage", "busy", "idle", "idle share", "work", "peak memory"
    )
    metrics = played.metrics
    for stage, busy_s in enumerate(metrics.busy_s):
        table.add_row(
            str(stage),
            format_seconds(busy_s),
            format_seconds(metrics.idle_s[stage]),
            format_fraction(metrics.idle_s[stage] / metrics.pipeline_makespan_s),
            format_flop(metrics.flop[stage]),
            format_bytes(metrics.peak_bytes[stage]),
        )
    return table


def _idle_table(played: Simulation) -> Any:
    titles = ("warm-up", "drain", "dependency", "link", "straggler")
    table = table_of("Idle time by cause", "stage", *titles)
    for stage, causes in enumerate(idle_causes(played.program, played.trace)):
        table.add_row(str(stage), *map(format_seconds, asdict(causes).values()))
    return table


def _peak_table(played: Simulation) -> Any:
    peaks = memory_peaks(played.trace)
    parts = list(peaks[0].static_bytes)
    table = table_of("Memory at its peak", "stage", *parts, "activations", "microbatches")
    for peak in peaks:
        stored = sum(chunk.size_bytes for chunk in peak.chunks)
        count = sum(len(chunk.microbatches) for chunk in peak.chunks)
        static = [format_bytes(peak.static_bytes[part]) for part in parts]
        table.add_row(str(peak.rank), *static, format_bytes(stored), str(count))
    return table


def _show_contention(out: Any, contended: Contention) -> None:
    whole_s, alone_s = contended.metrics.makespan_s, contended.alone_s
    out.print(
        f"on shared links: step {format_seconds(whole_s)}, "
        f"{format_seconds(whole_s - alone_s)} longer than with every message as fast as alone "
        f"({format_seconds(alone_s)}); {contended.cause}"
    )
    table = table_of("Messages later than alone", "traffic", "waited for", "beside", "in all")
    worst = sorted(contended.losses.items(), key=lambda entry: (-entry[1], entry[0]))
    for loss, lost_s in worst[:LOSSES_SHOWN]:
        table.add_row(loss.axis, loss.resource, ", ".join(loss.others), format_seconds(lost_s))
    if worst:
        print_table(out, table)
