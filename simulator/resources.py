"""Links that carry one transfer after the other."""

import math
from dataclasses import dataclass

from simpy import Event

from costmodels.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """How fast a private link is, in one direction.

    Attributes
    ----------
    latency_s : float
        From the last byte sent to its arrival [s].
    bandwidth_bytes_per_s : float
        Bytes that leave the sender in a second; infinite for a free link [byte/s].
    """

    latency_s: float
    bandwidth_bytes_per_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.latency_s < math.inf:
            raise SpecError(f"latency_s ({self.latency_s}) must be finite and not negative")
        if not self.bandwidth_bytes_per_s > 0:
            raise SpecError(
                f"bandwidth_bytes_per_s ({self.bandwidth_bytes_per_s}) must be positive"
            )


FREE_LINK = LinkSpec(latency_s=0, bandwidth_bytes_per_s=math.inf)
"""A link that takes no time."""


class Arrival(Event):
    """A hand-over that somebody waits for: happens once, when what was sent is there."""

    __slots__ = ()

    def succeed_after(self, delay_s: float) -> None:
        """Let the hand-over happen later.

        SimPy can trigger an event at once or make one that happens later; a hand-over is waited for
        before it is known when it happens, and a second event for each would cost as much again.
        """
        self._ok = True
        self._value = None
        self.env.schedule(self, delay=delay_s)


class Link:
    """A link that sends what it is given in order; nobody waits for it but the receiver.

    It keeps the time at which it is free instead of a queue, because a queue in SimPy costs twice
    as much as the single event of an arrival.

    Parameters
    ----------
    spec : LinkSpec
        How fast the link is.

    Attributes
    ----------
    free_at_s : float
        When the last byte so far will have left [s].
    """

    __slots__ = ("_bandwidth_bytes_per_s", "_is_free", "_latency_s", "free_at_s")

    def __init__(self, spec: LinkSpec) -> None:
        self._latency_s = spec.latency_s
        self._bandwidth_bytes_per_s = spec.bandwidth_bytes_per_s
        # Dividing by infinity would turn exact integer times into floating point.
        self._is_free = math.isinf(spec.bandwidth_bytes_per_s)
        self.free_at_s: float = 0

    def send(self, now_s: float, size_bytes: int) -> tuple[float, float]:
        """Send bytes as soon as the link is free.

        Parameters
        ----------
        now_s : float
            Not before the last call [s].
        size_bytes : int
            How much to send [byte].

        Returns
        -------
        tuple of float
            When the transfer starts and when it arrives [s].
        """
        start_s = max(self.free_at_s, now_s)
        if self._is_free:
            self.free_at_s = start_s
        else:
            self.free_at_s = start_s + size_bytes / self._bandwidth_bytes_per_s
        return start_s, self.free_at_s + self._latency_s
