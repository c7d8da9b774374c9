"""The numbers that an element of a block can be: of a float, an integer or a list."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import SpecError
from costmodels.number_formats.encoding import finite_numbers
from costmodels.number_formats.layouts import codebooks, integer_bits, is_integer
from costmodels.number_formats.scalars import scalar_formats


@lru_cache(maxsize=64)
def levels(element: str) -> NDArray[np.float64]:
    """Return the distinct numbers of an element, ascending.

    Parameters
    ----------
    element : str
        A float of at most 16 bits, ``int4`` (symmetric: its lowest code is left out), ``uint4``, or
        a codebook.

    Raises
    ------
    SpecError
        If there is no such element, or its numbers are too many.
    """
    found = _levels(element)
    found.setflags(write=False)
    return found


def _levels(element: str) -> NDArray[np.float64]:
    if element in scalar_formats():
        return finite_numbers(scalar_formats()[element])
    if is_integer(element):
        codes = 1 << integer_bits(element)
        lowest = 0 if element.startswith("u") else 1 - codes // 2
        return np.arange(lowest, codes // 2 if lowest else codes, dtype=np.float64)
    if element == "dynamic8":
        return _dynamic(signed=True)
    known = codebooks()
    if element not in known:
        raise SpecError(f"unknown element '{element}' of a number format")
    table = known[element]
    if "numbers" in table:
        return np.array(table["numbers"])
    stated = table["integers"]
    steps = np.arange(stated["lowest"], stated["highest"] + 1)
    return np.asarray(steps * stated["step"])


def _dynamic(*, signed: bool) -> NDArray[np.float64]:
    """Return the 8-bit dynamic numbers: decades, each with twice the fractions of the one below.

    Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv:2110.02861, section 2.2.
    """
    decades, positive = 7, []
    for decade in range(decades):
        pieces = 2 ** (decade + (not signed))
        edges = np.linspace(0.1, 1.0, pieces + 1)
        positive.append((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - decades + 1))
    numbers = np.concatenate(positive)
    negative = -numbers if signed else np.array([])
    return np.sort(np.concatenate([negative, [0.0], numbers, [1.0]]))


def largest_exponent(element: str) -> int:
    """Return the exponent of the largest power of two of an element.

    Examples
    --------
    >>> largest_exponent("fp4_e2m1"), largest_exponent("mxint8")
    (2, 0)
    """
    return int(np.frexp(levels(element).max())[1]) - 1
