r"""Expected error of formats on numbers of a known distribution.

The signal-to-quantization-noise ratio is -10 log10 (E[(w - Q(w))^2] / E[w^2]). For a list of numbers q
with cells between their midpoints the error is a sum of partial moments,

    MSE = sum_i [M2(cell_i) - 2 q_i M1(cell_i) + q_i^2 M0(cell_i)],

which are closed forms for Gaussian, Laplace and uniform numbers [1]_. A block that is scaled by its
largest magnitude M adds one integral over M, whose distribution function is F(m)^g for a block of g.

References
----------
.. [1] J. Max, "Quantizing for minimum distortion," IRE Trans. Inf. Theory 6 (1960) 7-12.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from statistics import NormalDist
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import NotModelledError
from costmodels.number_formats.elements import largest_exponent, levels
from costmodels.number_formats.encoding import finite_numbers
from costmodels.number_formats.layouts import StoredFormat, integer_bits
from costmodels.number_formats.scalars import scalar_formats

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_PIECES = 8
_FINE = 400
_NEGLIGIBLE = 1e-9
_erf_of_objects = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_of_objects(x), dtype=np.float64)


class Distribution(NamedTuple):
    """Numbers of mean 0 and variance 1.

    Attributes
    ----------
    name : str
        Name.
    partial : callable
        The integrals of x^0, x^1 and x^2 times the density from minus infinity to each point.
    magnitude : callable
        The magnitude below which a share of the numbers lies, from that share and from what is
        left to 1.
    below : callable
        The share of numbers whose magnitude is below each point.
    """

    name: str
    partial: Callable[[Array], tuple[Array, Array, Array]]
    magnitude: Callable[[Array, Array], Array]
    below: Callable[[Array], Array]


def _gauss(x: Array) -> tuple[Array, Array, Array]:
    finite = np.clip(x, -40.0, 40.0)
    density = np.exp(-(finite**2) / 2) / math.sqrt(2 * math.pi)
    share = (1 + _erf(finite / math.sqrt(2))) / 2
    return share, -density, share - finite * density


def _gauss_magnitude(_: Array, rest: Array) -> Array:
    inverse = NormalDist().inv_cdf
    return np.array([-inverse(max(value, 1e-300) / 2) for value in rest.ravel()]).reshape(
        rest.shape
    )


def _gauss_below(m: Array) -> Array:
    return _erf(m / math.sqrt(2))


_B = 1 / math.sqrt(2)


def _laplace(x: Array) -> tuple[Array, Array, Array]:
    x = np.clip(x, -700 * _B, 700 * _B)
    tail = np.exp(-np.abs(x) / _B) / 2
    positive = x > 0
    size = np.abs(x)
    share = np.where(positive, 1 - tail, tail)
    second = tail * (size**2 + 2 * _B * size + 2 * _B**2)
    return share, -tail * (size + _B), np.where(positive, 2 * _B**2 - second, second)


def _laplace_magnitude(_: Array, rest: Array) -> Array:
    return np.asarray(-_B * np.log(np.maximum(rest, 1e-300)))


def _laplace_below(m: Array) -> Array:
    return np.asarray(-np.expm1(-m / _B))


_A = math.sqrt(3)


def _uniform(x: Array) -> tuple[Array, Array, Array]:
    x = np.clip(x, -_A, _A)
    return (x + _A) / (2 * _A), (x**2 - _A**2) / (4 * _A), (x**3 + _A**3) / (6 * _A)


def _uniform_magnitude(share: Array, _: Array) -> Array:
    return np.asarray(_A * share)


def _uniform_below(m: Array) -> Array:
    return np.asarray(np.minimum(m / _A, 1.0))


DISTRIBUTIONS: Mapping[str, Distribution] = MappingProxyType(
    {
        "gaussian": Distribution("gaussian", _gauss, _gauss_magnitude, _gauss_below),
        "laplace": Distribution("laplace", _laplace, _laplace_magnitude, _laplace_below),
        "uniform": Distribution("uniform", _uniform, _uniform_magnitude, _uniform_below),
    }
)
"""Distributions of numbers whose error has a closed form."""


def decibel(noise_share: float) -> float:
    """Return a share of noise as a ratio of signal to noise [dB].

    Examples
    --------
    >>> decibel(0.001)
    30.0
    """
    return math.inf if noise_share <= 0 else -10 * math.log10(noise_share)


def codebook_error(
    numbers: Array, of: Distribution, *, within: float = math.inf, rounding: str = "nearest-even"
) -> float:
    """Return the mean squared error of rounding to a list of numbers.

    Parameters
    ----------
    numbers : ndarray
        The list, ascending.
    of : Distribution
        What is rounded.
    within : float
        Largest magnitude of what is rounded; the mean is over what lies within.
    rounding : str
        ``nearest-even``, ``truncate`` (toward zero) or ``stochastic``; what lies beyond the
        ends always goes to them.
    """
    if rounding == "nearest-even":
        return _nearest_error(numbers, of, within)
    inside = _between_error(numbers, of, within, truncate=rounding == "truncate")
    ends = np.array([-within, numbers[0], numbers[-1], within])
    ends = np.clip(ends, -within, within)
    m0, m1, m2 = (np.diff(moment) for moment in of.partial(ends))
    outer = np.array([numbers[0], 0.0, numbers[-1]])
    beyond = m2 - 2 * outer * m1 + outer**2 * m0
    return float((inside + beyond[0] + beyond[2]) / _mass(of, within))


def _mass(of: Distribution, within: float) -> float:
    ends = np.array([-within, within])
    share = of.partial(ends)[0]
    return float(share[1] - share[0])


def _nearest_error(numbers: Array, of: Distribution, within: float) -> float:
    edges = np.concatenate([[-within], (numbers[1:] + numbers[:-1]) / 2, [within]])
    m0, m1, m2 = (np.diff(moment) for moment in of.partial(np.clip(edges, -within, within)))
    return float(np.sum(m2 - 2 * numbers * m1 + numbers**2 * m0) / _mass(of, within))


def _between_error(numbers: Array, of: Distribution, within: float, *, truncate: bool) -> float:
    edges = np.clip(numbers, -within, within)
    m0, m1, m2 = (np.diff(moment) for moment in of.partial(edges))
    low, high = numbers[:-1], numbers[1:]
    if truncate:
        kept = np.where(np.abs(low) < np.abs(high), low, high)
        return float(np.sum(m2 - 2 * kept * m1 + kept**2 * m0))
    # Rounded up with the probability of the distance: variance (x - low)(high - x).
    return float(np.sum((low + high) * m1 - low * high * m0 - m2))


class _Scaled(NamedTuple):
    """How a block's list follows from its largest magnitude."""

    numbers: Array
    scale: Callable[[float], float]
    breaks: Array


def _block_error(scaled: _Scaled, of: Distribution, size: int) -> float:
    """Return the mean squared error of blocks that are scaled by their largest magnitude.

    The largest has the distribution function F(m)^g; the others lie below it. Between two breaks the
    scale is a smooth function of it.
    """
    others = own = total = 0.0
    for low, high in pairwise(_edges(scaled.breaks, of, size)):
        points: Array = np.asarray((high + low) / 2 + (high - low) / 2 * _NODES, dtype=np.float64)
        weights = _WEIGHTS * _density_of_largest(points, of, size) * (high - low) / 2
        total += float(weights.sum())
        for point, weight in zip(points, weights, strict=True):
            if weight > _NEGLIGIBLE:
                numbers = scaled.numbers * scaled.scale(float(point))
                others += weight * _nearest_error(numbers, of, float(point))
        own += _error_of_largest(scaled, of, size, low, high)
    return ((size - 1) * others + own) / size / total


def _density_of_largest(points: Array, of: Distribution, size: int) -> Array:
    return np.asarray(size * np.power(of.below(points), size - 1) * _density(points, of))


def _error_of_largest(
    scaled: _Scaled, of: Distribution, size: int, low: float, high: float
) -> float:
    """Return the squared error of the largest itself, which is none where it sets the scale."""
    if not scaled.breaks.size:
        return 0.0
    step = (high - low) / _FINE
    points: Array = low + step * (np.arange(_FINE, dtype=np.float64) + 0.5)
    numbers = scaled.numbers * scaled.scale((low + high) / 2)
    middles = (numbers[1:] + numbers[:-1]) / 2
    errors = np.square(points - numbers[np.searchsorted(middles, points)])
    return float(np.sum(step * _density_of_largest(points, of, size) * errors))


def _density(points: Array, of: Distribution) -> Array:
    """Return the density of magnitudes."""
    if of.name == "gaussian":
        return np.asarray(math.sqrt(2 / math.pi) * np.exp(-(points**2) / 2))
    if of.name == "laplace":
        return np.asarray(np.exp(-points / _B) / _B)
    return np.where(points <= _A, 1 / _A, 0.0)


def _edges(breaks: Array, of: Distribution, size: int) -> Array:
    """Return where to cut the largest magnitudes into pieces that integrate well."""
    levels_of = np.concatenate([[1e-12], np.linspace(0, 1, _PIECES + 1)[1:-1], [1 - 1e-10]])
    logs = np.log(levels_of) / size
    quantiles = of.magnitude(np.exp(logs), -np.expm1(logs))
    inside = breaks[(breaks > quantiles[0]) & (breaks < quantiles[-1])]
    return np.unique(np.concatenate([quantiles, inside]))


_NONE = np.array([])


def expected_sqnr_db(
    stored: StoredFormat,
    distribution: str = "gaussian",
    *,
    rows: int = 4096,
    columns: int = 4096,
    sigma: float = 1.0,
) -> float:
    """Return the expected signal-to-quantization-noise ratio of a format [dB].

    Parameters
    ----------
    stored : StoredFormat
        The format.
    distribution : str
        One of `DISTRIBUTIONS`.
    rows, columns : int
        Shape of the matrix: blocks of whole sides have its size [count].
    sigma : float
        Standard deviation of the numbers, which matters where nothing is scaled.

    Raises
    ------
    NotModelledError
        If the codes of the format are found by search.
    """
    of = DISTRIBUTIONS[distribution]
    element = str(stored.element)
    if stored.scaling == "none" and element in scalar_formats():
        return decibel(_cast_error(element, of, sigma))
    if stored.scaling not in _MODELS or stored.element is None:
        raise NotModelledError(
            f"{stored.name}: its codes are found by search; only measured errors are known"
        )
    size = _block_size(stored, rows, columns)
    return decibel(_MODELS[stored.scaling](stored, of, size, rows * columns))


def _block_size(stored: StoredFormat, rows: int, columns: int) -> int:
    if stored.flat:
        return min(stored.flat, rows * columns)
    return min(stored.block[0] or rows, rows) * min(stored.block[1] or columns, columns)


def _cast_error(name: str, of: Distribution, sigma: float) -> float:
    entry = scalar_formats()[name]
    if entry.bits > 16:
        # Numbers of one binade are as good as uniform in the mantissa: 3/(96 ln 2) 4^-m.
        return 3 / (96 * math.log(2)) * 4.0**-entry.mantissa_bits
    return codebook_error(finite_numbers(entry) / sigma, of)


def _absmax(stored: StoredFormat, of: Distribution, size: int, _: int) -> float:
    numbers = levels(str(stored.element))
    numbers = numbers / numbers.max()
    return _block_error(_Scaled(numbers, lambda most: most, _NONE), of, size)


def _signed_max(stored: StoredFormat, of: Distribution, size: int, _: int) -> float:
    half = 1 << (integer_bits(str(stored.element)) - 1)
    numbers = np.arange(-half, half) / half
    # The largest lies on the lowest code, whichever its sign.
    return _block_error(_Scaled(numbers[::-1] * -1.0, lambda most: most, _NONE), of, size)


def _power_of_two(stored: StoredFormat, of: Distribution, size: int, _: int) -> float:
    element = str(stored.element)
    shift = largest_exponent(element)

    def scale(most: float) -> float:
        return 2.0 ** (math.frexp(most)[1] - 1 - shift)

    breaks = np.ldexp(1.0, np.arange(-40, 12))
    return _block_error(_Scaled(levels(element), scale, breaks), of, size)


def _two_scales(stored: StoredFormat, of: Distribution, size: int, elements: int) -> float:
    entry = scalar_formats()[stored.scale_format]
    scales = finite_numbers(entry)
    scales = scales[scales > 0]
    numbers = levels(str(stored.element))
    share = np.array([0.5 ** (1 / elements)])
    most_of_all = float(of.magnitude(share, -np.expm1(np.array([math.log(0.5) / elements])))[0])
    whole = most_of_all / (entry.largest * numbers.max())
    middles = (scales[1:] + scales[:-1]) / 2 * whole * numbers.max()

    def scale(most: float) -> float:
        wanted = most / numbers.max() / whole
        return float(scales[int(np.argmin(np.abs(scales - wanted)))] * whole)

    return _block_error(_Scaled(numbers, scale, middles), of, size)


def _affine(stored: StoredFormat, of: Distribution, size: int, _: int) -> float:
    """Return steps of R / (2^b - 1) for a range R of a block: R^2 / 12 each, but at both ends.

    E[R^2] = 2 E[X^2] + 2 E[X]^2 with X the largest of the block, taken as independent of the least.
    """
    steps = (1 << integer_bits(str(stored.element))) - 1
    first = second = mass = 0.0
    nodes = (1 + _NODES) / 2
    for piece in range(_PIECES):
        shares = (piece + nodes) / _PIECES
        points = _largest_signed(shares, of, size)
        weights = _WEIGHTS / 2 / _PIECES
        first += float(np.sum(weights * points))
        second += float(np.sum(weights * points**2))
        mass += float(np.sum(weights))
    range_squared = 2 * second / mass + 2 * (first / mass) ** 2
    return float(range_squared / (12 * steps * steps) * (size - 2) / size)


def _largest_signed(shares: Array, of: Distribution, size: int) -> Array:
    """Return the largest of a block (with its sign) below which it lies with a probability."""
    logs = np.log(shares) / size
    rest = -np.expm1(logs)
    # P(x > v) = rest; above the median the magnitude is exceeded by both signs.
    upper = rest < 0.5
    high = of.magnitude(1 - 2 * np.where(upper, rest, 0.25), 2 * np.where(upper, rest, 0.25))
    low = of.magnitude(2 * np.where(upper, 0.75, rest) - 1, 2 * (1 - np.where(upper, 0.75, rest)))
    return np.where(upper, high, -low)


def _absmean(stored: StoredFormat, of: Distribution, size: int, _: int) -> float:
    del size
    mean = -2.0 * float(of.partial(np.array([0.0]))[1][0])
    return codebook_error(levels(str(stored.element)) * mean, of)


_Model = Callable[[StoredFormat, Distribution, int, int], float]

_MODELS: Mapping[str, _Model] = MappingProxyType(
    {
        "absmax": _absmax,
        "affine": _affine,
        "signed-max": _signed_max,
        "power-of-two": _power_of_two,
        "nvfp4": _two_scales,
        "absmean": _absmean,
    }
)


class Ratio(NamedTuple):
    """A ratio of signal to quantization noise, and how it is known.

    Attributes
    ----------
    sqnr_db : float or None
        The ratio; None where nobody knows it [dB].
    basis : str
        ``exact`` for a closed form, ``measured`` for an experiment, ``unknown``.
    """

    sqnr_db: float | None
    basis: str


@lru_cache(maxsize=1)
def measured_errors() -> Mapping[str, Mapping[str, float]]:
    """Return measured ratios of formats that are found by search, by format and distribution [dB]."""
    file = resources.files(__package__) / "data" / "measured_errors.toml"
    return MappingProxyType(tomllib.loads(file.read_text(encoding="utf-8")))


def known_sqnr_db(
    stored: StoredFormat, distribution: str = "gaussian", rows: int = 4096, columns: int = 4096
) -> Ratio:
    """Return what is known of a format's error: the closed form, else a measurement.

    Parameters
    ----------
    stored : StoredFormat
        The format.
    distribution : str
        One of `DISTRIBUTIONS`.
    rows, columns : int
        Shape of the matrix [count].
    """
    if has_expected_error(stored):
        return Ratio(_expected(stored, distribution, *_deciding(stored, rows, columns)), "exact")
    measured = measured_errors().get(stored.name)
    return Ratio(None, "unknown") if measured is None else Ratio(measured[distribution], "measured")


def _deciding(stored: StoredFormat, rows: int, columns: int) -> tuple[int, int]:
    """Return the shape on which the error depends: that of a block where it is one block's."""
    if 0 < stored.flat <= rows * columns:
        return 1, stored.flat
    height, width = stored.block
    whole = 0 < height <= rows and 0 < width <= columns
    return (height, width) if whole and stored.scaling in _OF_A_BLOCK else (rows, columns)


_OF_A_BLOCK = frozenset({"none", "absmax", "affine", "signed-max", "power-of-two"})
"""Scalings whose error is that of one block, whatever the matrix."""


@lru_cache(maxsize=4096)
def _expected(stored: StoredFormat, distribution: str, rows: int, columns: int) -> float:
    return expected_sqnr_db(stored, distribution, rows=rows, columns=columns)


def has_expected_error(stored: StoredFormat) -> bool:
    """Return whether the error of a format has a closed form."""
    scalar = stored.scaling == "none" and stored.element in scalar_formats()
    return scalar or (stored.scaling in _MODELS and stored.element is not None)
