"""Two validation runs side by side, and many over time."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from costmodels.errors import SpecError
from validation.running import SCHEMA_VERSION, Outcome, ValidationRun

RECORD = "report.json"
"""Name of a run's record in the folder of its report."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one case from one run to another.

    Attributes
    ----------
    suite, case : str
        Which case.
    change : str
        ``new``, ``gone``, ``now passes``, ``now fails``, ``prediction moved`` or
        ``measurement moved``.
    before, after : tuple of float or None
        Prediction, measurement and error; None where the case was not there.
    unit : str
        Unit of prediction and measurement.
    """

    suite: str
    case: str
    change: str
    before: tuple[float, float, float | None] | None
    after: tuple[float, float, float | None] | None
    unit: str


def load(place: Path) -> ValidationRun:
    """Return the run of a report: its folder, or its JSON file.

    Raises
    ------
    SpecError
        If there is none, or it was written by another version of the format.
    """
    file = place / RECORD if place.is_dir() else place
    try:
        run = msgspec.json.decode(file.read_bytes(), type=ValidationRun)
    except OSError as error:
        raise SpecError(f"report ({place}): cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise SpecError(f"report ({place}): is no record of a validation: {error}") from None
    if run.schema_version != SCHEMA_VERSION:
        raise SpecError(
            f"report ({place}): has format {run.schema_version}; this version reads {SCHEMA_VERSION}"
        )
    return run


def load_all(folder: Path) -> list[ValidationRun]:
    """Return all runs whose reports lie in a folder, the earliest first.

    Raises
    ------
    SpecError
        If there is none.
    """
    files = sorted(folder.glob(f"**/{RECORD}"))
    if not files:
        raise SpecError(f"folder ({folder}): holds no {RECORD} of a validation")
    return sorted((load(file) for file in files), key=lambda run: run.started)


def differences(before: ValidationRun, after: ValidationRun) -> list[Difference]:
    """Return the cases that changed from one run to another, in the order of the second."""
    old, new = _by_name(before), _by_name(after)
    found = [_difference(key, old.get(key), outcome) for key, outcome in new.items()]
    found += [_difference(key, outcome, None) for key, outcome in old.items() if key not in new]
    return [entry for entry in found if entry is not None]


def _by_name(run: ValidationRun) -> dict[tuple[str, str], Outcome]:
    return dict(_named(run))


def _named(run: ValidationRun) -> Iterator[tuple[tuple[str, str], Outcome]]:
    for suite in run.suites:
        for outcome in suite.outcomes:
            yield (suite.name, f"{outcome.job}: {outcome.case.name}"), outcome


def _difference(
    key: tuple[str, str], before: Outcome | None, after: Outcome | None
) -> Difference | None:
    change = _change(before, after)
    either = after or before
    if change is None or either is None:
        return None
    return Difference(
        suite=key[0],
        case=key[1],
        change=change,
        before=_values(before),
        after=_values(after),
        unit=either.case.unit,
    )


def _change(before: Outcome | None, after: Outcome | None) -> str | None:
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before.passed != after.passed:
        return "now passes" if after.passed else "now fails"
    if before.case.prediction != after.case.prediction:
        return "prediction moved"
    return "measurement moved" if before.case.measurement != after.case.measurement else None


def _values(outcome: Outcome | None) -> tuple[float, float, float | None] | None:
    if outcome is None:
        return None
    return outcome.case.prediction, outcome.case.measurement, outcome.error_fraction
