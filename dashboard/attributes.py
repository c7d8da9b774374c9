"""Attributes of elements whose names are no names of Python."""

from typing import Any


def aria(**values: str) -> dict[str, Any]:
    """Return attributes for screen readers.

    Examples
    --------
    >>> aria(label="pages")
    {'aria-label': 'pages'}
    """
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: str) -> dict[str, Any]:
    """Return attributes that scripts read.

    Examples
    --------
    >>> data(value="8")
    {'data-value': '8'}
    """
    return {f"data-{name}": value for name, value in values.items()}
