"""The few operations that closed forms use, alike on numbers and on numpy columns.

A closed form takes numbers, or arrays with one entry for each plan, and returns the same. These
helpers keep plain Python numbers plain, so that a formula worked by hand gives the exact integer,
and give a row the same bits whether it is computed alone or among thousands: no branch on a
value, and sums that add from left to right.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

Column: TypeAlias = Any
"""A number, or a numpy array with one entry for each plan.

Numbers and arrays share operators but no type that a checker knows: hence ``Any``.
"""

Axis: TypeAlias = Sequence[Column]
"""One column for each member of an axis: kinds of layer, chunks of a rank, stage classes."""


def _is_plain(value: Column) -> bool:
    return isinstance(value, (bool, int, float))


def exact(value: Column) -> Column:
    """Return integers as Python integers, which never wrap: a number, or an array of objects.

    Examples
    --------
    >>> (exact(np.array([2**40])) * 2**40 == 2**80).item()
    True
    """
    if _is_plain(value):
        return value
    return np.asarray(value).astype(object)


def minimum(first: Column, second: Column) -> Column:
    """Return the smaller of two columns, row by row.

    Examples
    --------
    >>> minimum(3, 2)
    2
    """
    if _is_plain(first) and _is_plain(second):
        return min(first, second)
    return np.minimum(first, second)


def maximum(first: Column, second: Column) -> Column:
    """Return the larger of two columns, row by row.

    Examples
    --------
    >>> maximum(3, 2)
    3
    """
    if _is_plain(first) and _is_plain(second):
        return max(first, second)
    return np.maximum(first, second)


def where(condition: Column, chosen: Column, otherwise: Column) -> Column:
    """Return `chosen` in the rows where `condition` holds, else `otherwise`.

    Both are computed for every row: neither may fail where it is not chosen.

    Examples
    --------
    >>> where(2 > 1, "yes", "no")
    'yes'
    """
    if _is_plain(condition):
        return chosen if condition else otherwise
    return np.where(condition, chosen, otherwise)


def ceil_div(numerator: Column, denominator: Column) -> Column:
    """Return the quotient of two integers, rounded up.

    Examples
    --------
    >>> ceil_div(7, 2)
    4
    """
    return -(-numerator // denominator)


def ceiling(value: Column) -> Column:
    """Return a real number rounded up, as an integer.

    Examples
    --------
    >>> ceiling(2.5)
    3
    """
    if _is_plain(value):
        return math.ceil(value)
    return np.ceil(value).astype(np.int64)


def as_float(value: Column) -> Column:
    """Return `value` in double precision, before a product that 63 bits could not hold.

    Examples
    --------
    >>> as_float(3)
    3.0
    """
    if _is_plain(value):
        return float(value)
    return np.asarray(value, dtype=np.float64)


def total(values: Axis) -> Column:
    """Return the sum over an axis, added from left to right.

    A member that is absent from a row holds zero there, which changes no bit of the sum.

    Examples
    --------
    >>> total([1, 2, 3])
    6
    """
    return reduce(lambda left, right: left + right, values)


def weighted_total(counts: Axis, values: Axis) -> Column:
    """Return the sum over an axis of count times value, added from left to right.

    Examples
    --------
    >>> weighted_total([1, 2], [10, 100])
    210
    """
    return total([count * value for count, value in zip(counts, values, strict=True)])


def largest(values: Axis) -> Column:
    """Return the largest column of an axis, row by row.

    Examples
    --------
    >>> largest([1, 3, 2])
    3
    """
    return reduce(maximum, values)


def first_of_largest(labels: Axis, values: Axis) -> Column:
    """Return the label of the first member of an axis that has its largest value, row by row.

    Examples
    --------
    >>> first_of_largest([0, 1, 2], [5, 7, 7])
    1
    """
    greatest = largest(values)
    label = labels[-1]
    for candidate, value in zip(reversed(labels), reversed(values), strict=True):
        label = where(value >= greatest, candidate, label)
    return label


def present(counts: Axis, values: Axis) -> list[tuple[Column, Column]]:
    """Return the members of an axis that some row counts, each with its value.

    For sums and maxima that a member with a count of zero does not move.

    Examples
    --------
    >>> present([2, 0, 1], ["first", "absent", "last"])
    [(2, 'first'), (1, 'last')]
    """
    pairs = zip(counts, values, strict=True)
    return [(count, value) for count, value in pairs if np.any(np.asarray(count) != 0)]
