"""How the fields of descriptions are declared: type, bounds, one-line definition, influence."""

from msgspec import Meta

LARGEST_SIZE = 2**40
LARGEST_COUNT = 10**18


def size(definition: str, *influences: str, least: int = 1, most: int = LARGEST_SIZE) -> Meta:
    """Return the declaration of an integer field.

    Parameters
    ----------
    definition : str
        One line for people.
    *influences : str
        Groups of the answer whose numbers move with the field.
    least, most : int
        Bounds, inclusive.

    Returns
    -------
    msgspec.Meta
        What `Annotated` takes.
    """
    return Meta(ge=least, le=most, description=definition, extra={"influences": influences})


def positive(definition: str, *influences: str) -> Meta:
    """Return the declaration of a real field above zero (arguments as `size`)."""
    return Meta(gt=0, lt=1e30, description=definition, extra={"influences": influences})


def nonnegative(definition: str, *influences: str) -> Meta:
    """Return the declaration of a real field of at least zero (arguments as `size`)."""
    return Meta(ge=0, lt=1e30, description=definition, extra={"influences": influences})


def fraction(definition: str, *influences: str) -> Meta:
    """Return the declaration of a fraction above zero, one at most (arguments as `size`)."""
    return Meta(gt=0, le=1, description=definition, extra={"influences": influences})


def choice(definition: str, *influences: str) -> Meta:
    """Return the declaration of a flag, a choice or a nested description (arguments as `size`)."""
    return Meta(description=definition, extra={"influences": influences})


def label(definition: str) -> Meta:
    """Return the declaration of a name, which enters no number."""
    return Meta(
        min_length=1, max_length=200, description=definition, extra={"influences": ("label",)}
    )
