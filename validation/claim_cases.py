"""Cases that decide claims of the notes."""

from validation.cases import Case

SUITE = "notes-claims"


def claim_case(
    name: str,
    claim: str,
    prediction: float,
    measurement: float,
    unit: str,
    claims: tuple[str, ...],
    *,
    method: str,
    source: str,
    reason: str,
    tolerance: float = 0.0,
) -> Case:
    """Return the case that decides some claims; parameters are as the fields of `Case`.

    Modules of claims set what their cases share by `functools.partial`. Without a tolerance
    prediction and measurement must be equal.
    """
    return Case(
        suite=SUITE,
        name=name,
        claim=claim,
        prediction=prediction,
        measurement=measurement,
        unit=unit,
        tolerance_fraction=tolerance,
        tolerance_reason=reason,
        method=method,
        source=source,
        claims=claims,
    )
