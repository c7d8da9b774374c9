"""From measured operators of this machine to the description of an accelerator and its links.

The time model takes one attained share of each peak. It is the median over the measured shapes;
the spread beside it says how well one constant can do.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from statistics import median, quantiles
from typing import Any, NamedTuple

import numpy as np

from costmodels.errors import SpecError
from validation.jobs import UnavailableError
from validation.machine import Machine, this_machine
from validation.operators import Reading

ROUNDS, QUICK_ROUNDS = 9, 3
"""How often each operator is timed [count]."""


class Constant(NamedTuple):
    """A value of a description with how it was found.

    Attributes
    ----------
    value : float
        In the unit of its field.
    source : str
        What was measured, and its spread.
    """

    value: float
    source: str


class Calibration(NamedTuple):
    """What a machine attains, for each of some processes that run at once.

    Attributes
    ----------
    process_count : int
        Processes that ran at once, of one thread each on a CPU [count].
    device : str
        ``cpu`` or ``cuda``.
    constants : dict of str to Constant
        By field of the accelerator, or ``latency_s`` and ``bandwidth_bytes_per_s`` of its links.
    readings : list of Reading
        What they were found from.
    machine : Machine
        Where.
    measured : str
        When, in UTC, as ISO 8601.
    """

    process_count: int
    device: str
    constants: dict[str, Constant]
    readings: list[Reading]
    machine: Machine
    measured: str


def rates(readings: Iterable[Reading], *kinds: str) -> list[float]:
    """Return what operators of some kinds attain: FLOP, or bytes without any, per second.

    Parameters
    ----------
    readings : iterable of Reading
        Operators with their times, of which the median counts.
    *kinds : str
        Kinds.
    """
    return [
        (reading.flop or reading.moved_bytes) / median(reading.seconds)
        for reading in readings
        if reading.kind in kinds
    ]


def constants_of(readings: Sequence[Reading], process_count: int) -> dict[str, Constant]:
    """Return the constants of the time model that some readings give.

    Parameters
    ----------
    readings : sequence of Reading
        Of every kind; all-reduces only where processes are several.
    process_count : int
        Processes that ran at once [count].

    Raises
    ------
    SpecError
        If a kind is missing.
    """
    products, attended = rates(readings, "matmul"), rates(readings, "attention")
    moved = rates(readings, "elementwise", "optimizer")
    if not (products and attended and moved):
        raise SpecError("readings: lack products, attention or elementwise operators")
    peak, bandwidth = max(products), max(moved)
    found = {
        "peak_flop_per_s": Constant(peak, _text("best product", products)),
        "matmul_efficiency_fraction": _share("products", products, peak),
        "attention_efficiency_fraction": _share("attention", attended, peak),
        "memory_bandwidth_bytes_per_s": Constant(
            bandwidth, _text("best elementwise operator or optimizer", moved)
        ),
        "memory_efficiency_fraction": _share(
            "elementwise operators and optimizer", moved, bandwidth
        ),
    }
    reduced = [reading for reading in readings if reading.kind == "all-reduce"]
    return found | (_link(reduced, process_count) if reduced else {})


def _share(what: str, attained: Sequence[float], peak: float) -> Constant:
    return Constant(min(1.0, median(attained) / peak), _text(f"median of {what}", attained))


def _text(what: str, attained: Sequence[float]) -> str:
    low, high = min(attained), max(attained)
    if len(attained) > 2:
        *_, high = quantiles(attained, n=10, method="inclusive")
        low = quantiles(attained, n=10, method="inclusive")[0]
    return (
        f"{what} over {len(attained)} shapes, median {median(attained):.4g}/s; 10th to 90th "
        f"percentile {low:.4g} to {high:.4g}/s"
    )


def _link(reduced: Sequence[Reading], ranks: int) -> dict[str, Constant]:
    """Return latency and bandwidth of a hop, the least squares of relative errors over all sizes."""
    hops, share = 2 * (ranks - 1), 2 * (ranks - 1) / ranks
    taken = np.array([median(reading.seconds) for reading in reduced])
    sent = np.array([share * reading.moved_bytes for reading in reduced])
    terms = np.stack([hops / taken, sent / taken], axis=1)
    (latency_s, byte_s), *_ = np.linalg.lstsq(terms, np.ones(len(taken)), rcond=None)
    latency_s, byte_s = max(float(latency_s), 1e-9), max(float(byte_s), 1e-15)
    worst = max(abs((hops * latency_s + sent * byte_s) / taken - 1))
    source = (
        f"all-reduces of {len(reduced)} sizes up to {max(r.moved_bytes for r in reduced)} bytes over "
        f"{hops} hops of a ring, fitted; the worst is {worst:.0%} off"
    )
    return {
        "latency_s": Constant(latency_s, source),
        "bandwidth_bytes_per_s": Constant(1 / byte_s, source),
    }


def calibrate(process_count: int, *, device: str = "cpu", rounds: int = ROUNDS) -> Calibration:
    """Measure operators of this machine on some processes at once.

    Parameters
    ----------
    process_count : int
        Processes, of one thread each on a CPU [count].
    device : str
        ``cpu`` or ``cuda``.
    rounds : int
        How often each operator is timed [count].

    Raises
    ------
    SpecError
        If there are not so many cores.
    UnavailableError
        If torch is not installed.
    """
    cores = this_machine().core_count
    if not 1 <= process_count <= cores:
        raise SpecError(
            f"processes ({process_count}): must be from 1 to the {cores} cores of this machine"
        )
    try:
        from validation.torch_programs import measuring, processes
    except ImportError as error:
        raise UnavailableError(f"calibration needs torch: {error}") from None
    program = partial(measuring.operator_readings, rounds, device)
    readings = processes.run(program, process_count, timeout_s=600.0, device=device)[0]
    return Calibration(
        process_count=process_count,
        device=device,
        constants=constants_of(readings, process_count),
        readings=readings,
        machine=this_machine(),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def cluster_table(calibration: Calibration) -> dict[str, Any]:
    """Return the description of a cluster of this machine, as a scenario states it.

    Parameters
    ----------
    calibration : Calibration
        What was measured; power and price stay those of the preset ``cpu``, which are assumed.

    Returns
    -------
    dict
        Built on the preset; every measured value with its source.
    """
    found, machine = calibration.constants, calibration.machine
    where = (
        f"{machine.processor}, {calibration.process_count} of {machine.core_count} cores busy, "
        f"torch {machine.packages.get('torch', 'unknown')}, {calibration.measured}"
    )

    def value(constant: Constant) -> dict[str, Any]:
        return {
            "value": constant.value,
            "basis": "measured",
            "source": f"{constant.source}; {where}",
        }

    fields = (
        "memory_bandwidth_bytes_per_s",
        "matmul_efficiency_fraction",
        "attention_efficiency_fraction",
        "memory_efficiency_fraction",
    )
    accelerator: dict[str, Any] = {name: value(found[name]) for name in fields}
    accelerator |= {
        "preset": "cpu",
        "name": f"one core of {machine.processor}",
        "peak_flop_per_s": {"fp32": value(found["peak_flop_per_s"])},
    }
    if machine.memory_bytes:
        accelerator["memory_bytes"] = {
            "value": machine.memory_bytes // machine.core_count,
            "basis": "measured",
            "source": f"memory of the machine over its cores; {where}",
        }
    table: dict[str, Any] = {
        "preset": "cpu",
        "name": "this machine",
        "accelerators_per_node": {
            "value": machine.core_count,
            "basis": "measured",
            "source": where,
        },
        "accelerator": accelerator,
    }
    if "latency_s" in found:
        table["scale_up"] = {
            "latency_s": value(found["latency_s"]),
            "bandwidth_bytes_per_s": value(found["bandwidth_bytes_per_s"]),
            "efficiency_fraction": value(Constant(1.0, "the bandwidth beside it is attained")),
        }
    return table


def load_share() -> float:
    """Return by how much of a core other programs kept each core busy in the last minute [ratio]."""
    cores = this_machine().core_count
    return os.getloadavg()[0] / cores if hasattr(os, "getloadavg") else 0.0


def cluster_text(calibration: Calibration) -> str:
    """Return the description of a cluster as TOML, which ``--cluster FILE:N`` reads."""
    import tomli_w

    heading = (
        f"# Measured by shardwise calibrate, {calibration.measured}: {calibration.process_count} "
        "processes at once.\n# Use it as --cluster FILE:N. Power and price are the preset's.\n\n"
    )
    return heading + tomli_w.dumps(cluster_table(calibration))
