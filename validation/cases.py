"""The record of a validation case and its verdict.

A case compares one prediction with one value that this project did not produce. It states before
the comparison how far the two may differ, and why, so that it can fail.
"""

import math

import msgspec

from costmodels.errors import SpecError


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison of a prediction with a published or measured value.

    Attributes
    ----------
    suite : str
        Group of cases that are reported together.
    name : str
        Name within the suite.
    claim : str
        What holds if the case passes, as a sentence.
    prediction : int or float
        What Shardwise says [unit].
    measurement : int or float
        What was published or measured [unit].
    unit : str
        Unit of both.
    tolerance_fraction : float
        Largest error that passes, as a share of the measurement; zero asks for equality [fraction].
    tolerance_reason : str
        Why this and no other tolerance.
    method : str
        How the measurement was made.
    source : str
        Where it can be found.
    command : str or None
        Shows the prediction; None where running the case again is all there is.
    claims : tuple of str
        Claims of the notes that the case decides.

    Raises
    ------
    SpecError
        If a text is empty, or the tolerance is no share from zero to below one.
    """

    suite: str
    name: str
    claim: str
    prediction: int | float
    measurement: int | float
    unit: str
    tolerance_fraction: float
    tolerance_reason: str
    method: str
    source: str
    command: str | None = None
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the case says all that a reader needs, and that it can fail."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str) and not value.strip():
                raise SpecError(f"{name}: is empty; a validation case states it")
        if not 0 <= self.tolerance_fraction < 1:
            raise SpecError(
                f"tolerance_fraction ({self.tolerance_fraction}): must be at least 0 and below 1"
            )


def error_fraction(case: Case) -> float:
    """Return by what share of the measurement the prediction is too large [fraction].

    Parameters
    ----------
    case : Case
        The comparison.

    Returns
    -------
    float
        Negative where the prediction is too small; infinite where a measured zero is missed
        [fraction].
    """
    difference = case.prediction - case.measurement
    if difference == 0:
        return 0.0
    if case.measurement == 0:
        return math.copysign(math.inf, difference)
    return difference / abs(case.measurement)


def passed(case: Case) -> bool:
    """Return whether the prediction is within the tolerance; a prediction that is no number fails."""
    return abs(error_fraction(case)) <= case.tolerance_fraction
