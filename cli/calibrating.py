"""Calibration of this machine on the command line."""

from pathlib import Path
from statistics import median

from cli.inputs import write_text
from cli.tables import console, print_table, shown, table_of
from cli.validating import settings_of
from costmodels.errors import SpecError
from costmodels.units import format_fraction, format_rate, format_seconds
from validation.calibration import (
    QUICK_ROUNDS,
    ROUNDS,
    Calibration,
    calibrate,
    cluster_text,
    load_share,
)
from validation.jobs import UnavailableError

_BUSY = 0.3
"""Share of the cores from which on other programs disturb a calibration, and a warning is due."""


def calibrated(processes: int, *, device: str, quick: bool, out: Path | None) -> Calibration:
    """Measure this machine, and write what a scenario needs of it.

    Raises
    ------
    SpecError
        If it cannot be measured, or the file not written.
    """
    if out is not None and out.suffix != ".toml":
        raise SpecError(f"--out ({out}): is a TOML file, so the name must end in .toml")
    settings = settings_of(quick=quick, device=device, seed=0)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    busy = load_share()
    try:
        found = calibrate(processes, device=settings.device, rounds=rounds)
    except UnavailableError as error:
        raise SpecError(f"calibrate: {error}") from None
    if out is not None:
        write_text(out, cluster_text(found))
    if busy > _BUSY:
        console(error=True).print(
            f"other programs kept {format_fraction(busy)} of the cores busy before: "
            "the machine may be faster than this"
        )
    return found


def show_calibration(found: Calibration, out: Path | None) -> None:
    """Print what each operator attains, and the constants that follow."""
    to = console()
    table = table_of("Operators", "operator", "what", "time", "spread", "attained", left=2)
    for reading in found.readings:
        middle_s = median(reading.seconds)
        spread = (max(reading.seconds) - min(reading.seconds)) / middle_s
        unit = "FLOP/s" if reading.flop else "B/s"
        rate = (reading.flop or reading.moved_bytes) / middle_s
        table.add_row(
            reading.kind,
            reading.name,
            format_seconds(middle_s),
            format_fraction(spread),
            format_rate(rate, unit),
        )
    print_table(to, table)
    constants = table_of("Constants of the time model", "field", "value")
    for name, constant in found.constants.items():
        constants.add_row(name, shown(name, constant.value))
    print_table(to, constants)
    if out is not None:
        count = found.process_count
        to.print(f"use it: shardwise estimate --cluster {out}:{count} --precision fp32 ...")
