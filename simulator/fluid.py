"""Links that several messages cross at once: bytes flow at max-min fair rates.

A flow takes from each resource on its way a share of its rate, and all flows get as much as they
can without taking from one that has less: the rates of progressive filling [1]_. Rates change
only when a flow starts or ends, so that nothing happens in between.

References
----------
.. [1] D. Bertsekas and R. Gallager, "Data Networks," 2nd ed., Prentice Hall, 1992, section 6.5.2.
"""

from collections import defaultdict
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
    left_bytes, left_at_s : float
        What was left when its rate was last set, and when that was [byte], [s].
    finish_s : float
        When the last byte leaves if the rate stays [s].
    number : int
        How many flows started before it [count].
    share, alone : Share
        What it gets now, and what it would get without any other flow.
    arrival : Event or None
        Of its last byte.
    """

    axis: str
    size_bytes: float
    uses: Mapping[str, float]
    latency_s: float
    start_s: float = 0
    end_s: float = 0
    alone_s: float = 0
    left_bytes: float = 0
    left_at_s: float = 0
    finish_s: float = 0
    number: int = 0
    share: Share = _NO_SHARE
    alone: Share = _NO_SHARE
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
    _users: dict[str, dict[int, Flow]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, capacity in self.capacities.items():
            if not capacity > 0:
                raise SpecError(f"capacity of {name} ({capacity}) must be positive")

    def alone_s(self, size_bytes: float, uses: Mapping[str, float]) -> float:
        """Return how long bytes take without any other flow, latency left out [s]."""
        return size_bytes / self._alone(uses).rate_bytes_per_s

    def _alone(self, uses: Mapping[str, float]) -> Share:
        if not uses:
            return Share(float("inf"), "")
        return Share(*min((self.capacities[name] / amount, name) for name, amount in uses.items()))

    def start(self, flow: Flow) -> Event:
        """Send a message; the event happens when the last byte has arrived."""
        flow.start_s = flow.left_at_s = self.env.now
        flow.left_bytes = flow.size_bytes
        flow.arrival = self.env.event()
        flow.alone = self._alone(flow.uses)
        flow.number = len(self.flows)
        sending_s = flow.size_bytes / flow.alone.rate_bytes_per_s
        flow.alone_s = sending_s + flow.latency_s
        self.flows.append(flow)
        for name, amount in flow.uses.items():
            self.carried_bytes[name] += flow.size_bytes * amount
        if sending_s:
            met = self._met_by(flow)
            self._advance(met)
            for name in flow.uses:
                self._users.setdefault(name, {})[flow.number] = flow
            self._share([*met, flow])
        else:
            self._deliver(flow)
        return flow.arrival

    def _met_by(self, flow: Flow) -> list[Flow]:
        """Return the flows whose rates one may change: that share with it, with them, and so on."""
        if not self.is_shared:
            return []
        met: dict[int, Flow] = {}
        names, known = list(flow.uses), set(flow.uses)
        while names:
            for number, other in self._users.get(names.pop(), {}).items():
                if number not in met and other is not flow:
                    met[number] = other
                    names += other.uses.keys() - known
                    known |= other.uses.keys()
        return [met[number] for number in sorted(met)]

    def _advance(self, flows: Sequence[Flow]) -> None:
        """Take what has flowed since the rates were last set from what is left."""
        for flow in flows:
            passed_s = self.env.now - flow.left_at_s
            flow.left_at_s = self.env.now
            flow.left_bytes -= flow.share.rate_bytes_per_s * passed_s
            if not self.is_shared:
                continue
            share = flow.share.rate_bytes_per_s / flow.alone.rate_bytes_per_s
            lost_s = passed_s * (1 - share)
            if lost_s > 0:
                loss = Loss(flow.axis, flow.share.bottleneck, self._others(flow))
                self.losses[loss] += lost_s

    def _others(self, flow: Flow) -> tuple[str, ...]:
        """Return the axes of the flows that a flow meets at its bottleneck."""
        users = self._users[flow.share.bottleneck].values()
        return tuple(sorted({other.axis for other in users if other is not flow}))

    def _share(self, flows: Sequence[Flow]) -> None:
        """Set the rates of flows that meet no others, and wait for each to end."""
        shares = [flow.alone for flow in flows]
        if self.is_shared and len(flows) > 1:
            shares = max_min_shares([flow.uses for flow in flows], self.capacities)
        for flow, share in zip(flows, shares, strict=True):
            # A rate that stays keeps its end, so that a flow alone takes its bytes over bandwidth
            # to the bit, whatever happens elsewhere.
            if share != flow.share:
                flow.share = share
                flow.finish_s = self.env.now + flow.left_bytes / share.rate_bytes_per_s
                self._wait(flow, flow.finish_s)

    def _wait(self, flow: Flow, finish_s: float) -> None:
        timer = self.env.timeout(max(finish_s - self.env.now, 0))

        def end(_: Event) -> None:
            if flow.finish_s == finish_s and flow.number in self._users[next(iter(flow.uses))]:
                self._end(flow)

        timer.callbacks.append(end)

    def _end(self, flow: Flow) -> None:
        """End a flow and those that end with it, and share what they leave."""
        met = self._met_by(flow)
        self._advance([*met, flow])
        ended = [other for other in [*met, flow] if other.finish_s <= flow.finish_s]
        for other in sorted(ended, key=lambda one: one.number):
            for name in other.uses:
                del self._users[name][other.number]
            self._deliver(other)
        self._share([other for other in met if other.finish_s > flow.finish_s])

    def _deliver(self, flow: Flow) -> None:
        flow.end_s = self.env.now + flow.latency_s
        arrival = flow.arrival

        def arrive(_: Event) -> None:
            if arrival is not None:
                arrival.succeed()

        self.env.timeout(flow.latency_s).callbacks.append(arrive)
