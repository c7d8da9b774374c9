"""How errors add up: in the output of a layer, and along a chain of layers."""

import math
from collections.abc import Iterable

from costmodels.number_formats.error import decibel


def noise_share(sqnr_db: float) -> float:
    """Return the noise over the signal of a ratio in decibel.

    Examples
    --------
    >>> noise_share(20.0)
    0.01
    """
    return 0.0 if math.isinf(sqnr_db) else 10.0 ** (-sqnr_db / 10)


def output_sqnr_db(parts_db: Iterable[float]) -> float:
    """Return the ratio of a product's output from those of what it is made of [dB].

    Parameters
    ----------
    parts_db : iterable of float
        Weights, inputs, rounding of the output: each against its own signal [dB].

    Notes
    -----
    Independent errors of mean zero add in power, and a product of many independent terms keeps the
    ratio of each factor: 1 / SQNR_out = sum 1 / SQNR_i.

    Examples
    --------
    >>> round(output_sqnr_db([20.0, 20.0]), 2)
    16.99
    """
    return decibel(sum(noise_share(part) for part in parts_db))


def chain_sqnr_db(layer_sqnr_db: float, layers: int) -> float:
    """Return the ratio behind a chain of layers that each add the same error [dB].

    Parameters
    ----------
    layer_sqnr_db : float
        Ratio of one layer's output [dB].
    layers : int
        Layers of the chain [count].

    Notes
    -----
    SQNR - 10 log10 L: each layer's noise is carried on with the signal. Nonlinear layers carry on
    a little less, so that this is pessimistic by some tenths of a decibel.

    Examples
    --------
    >>> chain_sqnr_db(30.0, 10)
    20.0
    """
    return layer_sqnr_db - 10 * math.log10(layers)
