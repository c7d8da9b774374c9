"""What the programs say of themselves, in plain values: no torch here."""

from typing import NamedTuple

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all-reduce", "all-gather", "reduce-scatter"
ALL_TO_ALL, BROADCAST, SEND, RECEIVE = "all-to-all", "broadcast", "send", "receive"

FORWARD, LOSS, BACKWARD = "forward", "loss", "backward"
"""Labels: parts of a microbatch."""

REPLICATED, REGATHER = "replicated", "regather"
"""Labels of sequence parallelism: gradients of weights that every rank holds are summed; inputs are
gathered again for weight gradients."""

COPIED = "copied"
"""Label: gradients of key and value heads that several ranks have a copy of are summed."""

REDUCTION, UPDATE = "reduction", "update"
"""Labels of ZeRO stages 1 and 2: gradients are scattered; updated weights are gathered."""

GATHERED = "gathered"
"""Label: what arrives from another stage in parts is gathered."""

TIED = "tied"
"""Label: gradients of the two copies of a tied embedding are summed."""


class Call(NamedTuple):
    """One collective, or one message sent or received, as one rank sees it.

    Attributes
    ----------
    kind : str
        What it does, such as ``all-reduce``; torch's name where it has no other.
    label : str
        Part of the program that made it, see `labelled`.
    ranks : tuple of int
        The group.
    peer : int
        The other rank of a message, -1 for a collective [index].
    dtype : str
        Format of the elements.
    element_bytes : int
        Size of one [byte].
    given_elements : int
        Elements that the rank hands over [count].
    gained_elements : int
        Elements that it gets [count].
    """

    kind: str
    label: str
    ranks: tuple[int, ...]
    peer: int
    dtype: str
    element_bytes: int
    given_elements: int
    gained_elements: int

    @property
    def given_bytes(self) -> int:
        """Return the bytes that the rank hands over [byte]."""
        return self.given_elements * self.element_bytes

    @property
    def message_bytes(self) -> int:
        """Return the whole tensor: before it is scattered, or once it is gathered [byte]."""
        return max(self.given_elements, self.gained_elements) * self.element_bytes


class Observed(NamedTuple):
    """What one rank saw.

    Attributes
    ----------
    losses : tuple of float
        Of each step, the mean over this rank's microbatches; NaN where the rank has no loss.
    calls : tuple of Call
        Communication of the recorded step.
    backend_calls : int
        Operations of that step on the group of all ranks, as the backend counts them [count].
    sent_bytes : dict of str to int
        Bytes that the rank sends when the calls run again as rings, by label [byte].
    sent_to : dict of int to int
        The same bytes by the rank that they are sent to [byte].
    """

    losses: tuple[float, ...]
    calls: tuple[Call, ...]
    backend_calls: int
    sent_bytes: dict[str, int]
    sent_to: dict[int, int]
