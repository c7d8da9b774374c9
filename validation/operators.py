"""Times of single operators, as numbers: no torch here."""

from typing import NamedTuple

from validation.torch_programs.sizes import Sizes, Work


class Reading(NamedTuple):
    """Times of one operator.

    Attributes
    ----------
    kind : str
        ``matmul``, ``attention``, ``elementwise``, ``optimizer`` or ``all-reduce``.
    name : str
        Operator and shape.
    flop : int
        Multiply-adds, two FLOP each; zero where memory is what counts [FLOP].
    moved_bytes : int
        Tensors read and written once each, as the closed forms count them; of an all-reduce its
        payload [byte].
    seconds : tuple of float
        Of each round [s].
    """

    kind: str
    name: str
    flop: int
    moved_bytes: int
    seconds: tuple[float, ...]


class Training(NamedTuple):
    """A training run whose steps are timed.

    Attributes
    ----------
    sizes : Sizes
        The decoder.
    work : Work
        Of one replica's step.
    axis : str
        ``one`` process, or two that are ``tensor``, ``data`` or ``pipeline`` parallel.
    """

    sizes: Sizes
    work: Work
    axis: str = "one"
