"""Description of accelerators, nodes and links."""

from typing import Annotated, ClassVar

import msgspec

from costmodels.errors import SpecError, not_found_message
from costmodels.specs.base import SourcedSpec
from costmodels.specs.fields import choice, fraction, label, nonnegative, positive, size

_COUNT = ("memory", "communication", "time", "pipeline")


class Accelerator(SourcedSpec, frozen=True, kw_only=True):
    """One accelerator: what it holds, how fast it computes, what it draws and costs.

    Attributes
    ----------
    name : str
        Label.
    memory_bytes : int
        Memory that programs can address [byte].
    memory_bandwidth_bytes_per_s : float
        Bandwidth of that memory, as on the datasheet [byte/s].
    peak_flop_per_s : dict of str to float
        Dense peak of multiply-adds by number format, two FLOP each [FLOP/s].
    matmul_efficiency_fraction, attention_efficiency_fraction : float
        Attained share of the peak in large matrix products, and in attention [fraction].
    memory_efficiency_fraction : float
        Attained share of the memory bandwidth [fraction].
    context_bytes : int
        Memory of the framework's context and libraries, outside its allocator [byte].
    allocator_reserve_bytes : int
        Memory that the allocator holds beyond what tensors need [byte].
    power_w : float
        Power at full load [watt].
    price_usd_per_s : float or None
        Rent [USD/s].
    """

    section: ClassVar[str] = "cluster.accelerator"

    name: Annotated[str, label("label of the accelerator")]
    memory_bytes: Annotated[int, size("memory that programs can address", "memory", most=2**50)]
    memory_bandwidth_bytes_per_s: Annotated[float, positive("memory bandwidth", "time")]
    peak_flop_per_s: Annotated[
        dict[str, Annotated[float, msgspec.Meta(gt=0, lt=1e30)]],
        choice("dense peak by number format", "time"),
    ]
    matmul_efficiency_fraction: Annotated[
        float, fraction("attained share of the peak in matrix products", "time")
    ]
    attention_efficiency_fraction: Annotated[
        float, fraction("attained share of the peak in attention", "time")
    ]
    memory_efficiency_fraction: Annotated[
        float, fraction("attained share of the memory bandwidth", "time")
    ]
    context_bytes: Annotated[
        int, size("memory of the framework's context", "memory", least=0, most=2**50)
    ]
    allocator_reserve_bytes: Annotated[
        int, size("memory held by the allocator beyond tensors", "memory", least=0, most=2**50)
    ]
    power_w: Annotated[float, nonnegative("power at full load", "cost")]
    price_usd_per_s: Annotated[float, nonnegative("rent of one accelerator", "cost")] | None = None

    def __post_init__(self) -> None:
        """Check that peaks are given for formats that there are."""
        super().__post_init__()
        for name in self.peak_flop_per_s:
            if name not in PEAK_FORMATS:
                path = f"{self.section}.peak_flop_per_s"
                raise SpecError(not_found_message(what=path, name=name, known=PEAK_FORMATS))


PEAK_FORMATS = ("fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4")
"""Formats of multiplication units for which an accelerator may have a peak."""


class Link(SourcedSpec, frozen=True, kw_only=True):
    """A tier of links, seen from one accelerator and in one direction.

    Attributes
    ----------
    bandwidth_bytes_per_s : float
        Bandwidth as on the datasheet [byte/s].
    latency_s : float
        Time of an empty message [s].
    efficiency_fraction : float
        Attained share of the bandwidth in large messages [fraction].
    """

    section: ClassVar[str] = "cluster.link"

    bandwidth_bytes_per_s: Annotated[float, positive("bandwidth in one direction", "time")]
    latency_s: Annotated[float, nonnegative("time of an empty message", "time")]
    efficiency_fraction: Annotated[float, fraction("attained share of the bandwidth", "time")]


class ScaleUp(Link, frozen=True, kw_only=True):
    """Links among the accelerators of a node (attributes as `Link`)."""

    section: ClassVar[str] = "cluster.scale_up"


class Network(Link, frozen=True, kw_only=True):
    """Links between nodes, the share of one accelerator (attributes as `Link`).

    Attributes
    ----------
    oversubscription_ratio : float
        Bandwidth of all nodes into the fabric over what it carries across [ratio].
    """

    section: ClassVar[str] = "cluster.network"

    oversubscription_ratio: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=1000,
            description="bandwidth into the fabric over what it carries across",
            extra={"influences": ("time",)},
        ),
    ] = 1.0


class Cluster(SourcedSpec, frozen=True, kw_only=True):
    """Equal accelerators in equal nodes.

    Attributes
    ----------
    name : str
        Label.
    accelerator_count : int
        Accelerators that the plan uses [count].
    accelerators_per_node : int
        Accelerators of a node, joined by the scale-up links [count].
    accelerator : Accelerator
        Each of them.
    scale_up : ScaleUp
        Links inside a node.
    network : Network
        Links between nodes.
    host_power_w : float
        Power of the rest of a node, for each accelerator [watt].
    host_bandwidth_bytes_per_s : float or None
        Between an accelerator and the memory of its host, one direction; None where it is not known
        [byte/s].
    power_usage_effectiveness : float
        Power of the site over power of its machines [ratio].
    """

    section: ClassVar[str] = "cluster"

    name: Annotated[str, label("label of the cluster")]
    accelerator_count: Annotated[int, size("accelerators that the plan uses", *_COUNT, most=2**24)]
    accelerators_per_node: Annotated[
        int, size("accelerators of a node", "communication", "time", most=2**16)
    ]
    accelerator: Annotated[Accelerator, choice("each accelerator", "time")]
    scale_up: Annotated[ScaleUp, choice("links inside a node", "time")]
    network: Annotated[Network, choice("links between nodes", "time")]
    host_power_w: Annotated[float, nonnegative("power of a node beside its accelerators", "cost")]
    host_bandwidth_bytes_per_s: (
        Annotated[float, positive("bandwidth between an accelerator and its host's memory", "time")]
        | None
    ) = None
    power_usage_effectiveness: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=10,
            description="power of the site over power of its machines",
            extra={"influences": ("cost",)},
        ),
    ]
