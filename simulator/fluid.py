"""Links that several messages cross at once: bytes flow at max-min fair rates.

A flow takes from each resource on its way a share of its rate, and all flows get as much as they
can without taking from one that has less: the rates of progressive filling [1]_. Rates change
only when a flow starts or ends, so that nothing happens in between.

References
----------
.. [1] D. Bertsekas and R. Gallager, "Data Networks," 2nd ed., Prentice Hall, 1992, section 6.5.2.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from simpy import Environment, Event

from costmodels.errors import SpecError


class Share(NamedTuple):
    """What a flow gets.

    Attributes
    ----------
    rate_bytes_per_s : float
        Its rate; infinite where it crosses nothing [byte/s].
    bottleneck : str
        The resource that allows no more, empty where there is none.
    """

    rate_bytes_per_s: float
    bottleneck: str


_NO_SHARE = Share(0, "")


def max_min_shares(
    uses: Sequence[Mapping[str, float]], capacities: Mapping[str, float]
) -> list[Share]:
    """Return the max-min fair rates of flows that cross resources at the same time.

    Parameters
    ----------
    uses : sequence of mapping of str to float
        For each flow, how much of each resource a byte of it takes: 1 for a link that all of it
        crosses, 0.5 where it goes over two such links in equal parts [ratio].
    capacities : mapping of str to float
        What each resource carries [byte/s].

    Returns
    -------
    list of Share
        For each flow.

    Examples
    --------
    One flow crosses both links, of 10 and of 4; the others one each. On the narrow link the two
    get 2 each, and the flow on the wide link takes the rest.

    >>> shares = max_min_shares([{"a": 1, "b": 1}, {"a": 1}, {"b": 1}], {"a": 10, "b": 4})
    >>> [share.rate_bytes_per_s for share in shares]
    [2.0, 8.0, 2.0]
    """
    shares = [Share(float("inf"), "")] * len(uses)
    left = dict(capacities)
    waiting = {index for index, used in enumerate(uses) if used}
    while waiting:
        taken: defaultdict[str, float] = defaultdict(float)
        for index in sorted(waiting):
            for name, amount in uses[index].items():
                taken[name] += amount
        # The name settles ties, so that the same flows always get the same bits.
        level, bottleneck = min((left[name] / taken[name], name) for name in taken)
        for index in sorted(waiting):
            if bottleneck in uses[index]:
                shares[index] = Share(level, bottleneck)
                waiting.remove(index)
                for name, amount in uses[index].items():
                    left[name] = max(left[name] - level * amount, 0.0)
    return shares


@dataclass(slots=True, kw_only=True, eq=False)
class Flow:
    """A message on its way.

    Attributes
    ----------
    axis : str
        The parallel dimension that it belongs to.
    size_bytes : float
        How much it carries; an equal part of a message need not be whole [byte].
    uses : mapping of str to float
        What a byte of it takes of each resource [ratio].
    latency_s : float
        From the last byte sent to its arrival [s].
    start_s, end_s : float
        From the first byte sent to the arrival of the last [s].
    alone_s : float
        How long it would take without any other flow [s].
    """

    axis: str
    size_bytes: float
    uses: Mapping[str, float]
    latency_s: float
    start_s: float = 0
    end_s: float = 0
    alone_s: float = 0
    left_bytes: float = 0
    finish_s: float = 0
    share: Share = _NO_SHARE
    alone_bytes_per_s: float = 0
    arrival: Event | None = None


class Loss(NamedTuple):
    """Why flows were late.

    Attributes
    ----------
    axis : str
        Whose they are.
    resource : str
        What they waited for.
    others : tuple of str
        Axes of the other flows there, their own if they were more than one.
    """

    axis: str
    resource: str
    others: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Network:
    """Resources and the flows that cross them.

    Attributes
    ----------
    env : Environment
        The simulation.
    capacities : mapping of str to float
        What each resource carries [byte/s].
    is_shared : bool
        Whether flows share; if not, each goes as fast as alone.
    carried_bytes : dict of str to float
        By resource, what it carried so far [byte].
    losses : dict of Loss to float
        By reason, the time by which flows were later than alone [s].
    flows : list of Flow
        All that have started.
    """

    env: Environment
    capacities: Mapping[str, float]
    is_shared: bool = True
    carried_bytes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    losses: defaultdict[Loss, float] = field(default_factory=lambda: defaultdict(float))
    flows: list[Flow] = field(default_factory=list)
    _active: list[Flow] = field(default_factory=list)
    _shared_at_s: float = 0
    _version: int = 0

    def __post_init__(self) -> None:
        for name, capacity in self.capacities.items():
            if not capacity > 0:
                raise SpecError(f"capacity of {name} ({capacity}) must be positive")

    def alone_s(self, size_bytes: float, uses: Mapping[str, float]) -> float:
        """Return how long bytes take without any other flow, latency left out [s]."""
        (alone,) = max_min_shares([uses], self.capacities)
        return size_bytes / alone.rate_bytes_per_s

    def start(self, flow: Flow) -> Event:
        """Send a message; the event happens when the last byte has arrived."""
        flow.start_s = self.env.now
        flow.left_bytes = flow.size_bytes
        flow.arrival = self.env.event()
        (alone,) = max_min_shares([flow.uses], self.capacities)
        flow.alone_bytes_per_s = alone.rate_bytes_per_s
        sending_s = flow.size_bytes / alone.rate_bytes_per_s
        flow.alone_s = sending_s + flow.latency_s
        self.flows.append(flow)
        for name, amount in flow.uses.items():
            self.carried_bytes[name] += flow.size_bytes * amount
        if sending_s:
            self._advance()
            self._active.append(flow)
            self._share()
        else:
            self._deliver(flow)
        return flow.arrival

    def _advance(self) -> None:
        """Take what has flowed since the rates were last set from what is left."""
        passed_s = self.env.now - self._shared_at_s
        self._shared_at_s = self.env.now
        if not passed_s:
            return
        axes = self._axes_on()
        for flow in self._active:
            flow.left_bytes -= flow.share.rate_bytes_per_s * passed_s
            lost_s = passed_s * (1 - flow.share.rate_bytes_per_s / flow.alone_bytes_per_s)
            if lost_s > 0:
                others = axes[flow.share.bottleneck].copy()
                others[flow.axis] -= 1
                names = tuple(sorted(axis for axis, count in others.items() if count))
                self.losses[Loss(flow.axis, flow.share.bottleneck, names)] += lost_s

    def _axes_on(self) -> Mapping[str, Counter[str]]:
        axes: dict[str, Counter[str]] = {}
        for flow in self._active:
            for name in flow.uses:
                axes.setdefault(name, Counter())[flow.axis] += 1
        return axes

    def _share(self) -> None:
        """Set the rates of all flows, and wait for the next to end."""
        self._version += 1
        if not self._active:
            return
        if self.is_shared:
            shares = max_min_shares([flow.uses for flow in self._active], self.capacities)
        else:
            shares = [max_min_shares([flow.uses], self.capacities)[0] for flow in self._active]
        for flow, share in zip(self._active, shares, strict=True):
            # A rate that stays keeps its end, so that a flow alone takes its bytes over bandwidth
            # to the bit, whatever happens elsewhere.
            if share != flow.share or not flow.finish_s:
                flow.share = share
                flow.finish_s = self.env.now + flow.left_bytes / share.rate_bytes_per_s
        next_s = min(flow.finish_s for flow in self._active)
        version = self._version
        timer = self.env.timeout(max(next_s - self.env.now, 0))

        def end(_: Event) -> None:
            if version == self._version:
                self._end(next_s)

        timer.callbacks.append(end)

    def _end(self, finish_s: float) -> None:
        ended = [flow for flow in self._active if flow.finish_s <= finish_s]
        self._advance()
        self._active = [flow for flow in self._active if flow.finish_s > finish_s]
        for flow in ended:
            self._deliver(flow)
        self._share()

    def _deliver(self, flow: Flow) -> None:
        flow.end_s = self.env.now + flow.latency_s
        arrival = flow.arrival

        def arrive(_: Event) -> None:
            if arrival is not None:
                arrival.succeed()

        self.env.timeout(flow.latency_s).callbacks.append(arrive)
