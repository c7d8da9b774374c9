"""What decides which notes an answer needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from costmodels.compilation import Columns
from costmodels.pipelining.orderings import ScheduleName
from costmodels.scenario import Scenario
from costmodels.specs.plan import RankAxis
from simulator.sensitivity import PLACEMENT, insensitive

LINKS = (
    "scale_up_bandwidth_bytes_per_s",
    "scale_up_latency_s",
    "scale_up_efficiency_fraction",
    "network_bandwidth_bytes_per_s",
    "network_latency_s",
    "network_efficiency_fraction",
    "network_oversubscription_ratio",
)
"""Inputs of the links."""

ROOFLINE = (
    "accelerator_matmul_efficiency_fraction",
    "accelerator_memory_efficiency_fraction",
    "accelerator_memory_bandwidth_bytes_per_s",
)
"""Inputs of matrix products."""

OVERLAPS = ("overlap_gradient_reduction", "overlap_parameter_gather")
"""Switches of what runs at the same time."""

HOST = "stated_host_bytes_per_s"
"""Input of the link to the host."""

NEEDED = (
    "data_parallel_size",
    "microbatch_count",
    "reduction_size",
    "expert_sharding_size",
    "sharded_tokens",
    *PLACEMENT,
)
"""Quantities that notes are decided by."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A scenario, and the numbers that decide which of its fields matter.

    Attributes
    ----------
    scenario : Scenario
        What is asked about.
    columns : Columns
        Its inputs, of length one.
    values : mapping of str to object
        Quantities named in `NEEDED`.
    """

    scenario: Scenario
    columns: Columns
    values: Mapping[str, Any]

    @property
    def replicas(self) -> int:
        """Return the data-parallel size."""
        return int(self.values["data_parallel_size"])

    @property
    def copies(self) -> int:
        """Return the ranks that hold the same weights, of those that most ranks hold."""
        sizes = (self.values["reduction_size"], self.values["expert_sharding_size"])
        return max(int(size) for size in sizes)

    @property
    def microbatches(self) -> int:
        """Return the microbatches of a replica in a step."""
        return int(self.values["microbatch_count"])

    @property
    def most_chunk_layers(self) -> int:
        """Return the layers of the chunk that has most [count]."""
        stages = self.columns.values["chunk_layer_count"]
        return max(int(sum(kind[0] for kind in chunk)) for stage in stages for chunk in stage)

    def sizes(self) -> dict[RankAxis, int]:
        """Return the ranks of each axis that has more than one."""
        plan = self.scenario.plan
        every = {
            RankAxis.TENSOR: plan.tensor_parallel_size,
            RankAxis.CONTEXT: plan.context_parallel_size,
            RankAxis.DATA: self.replicas,
            RankAxis.PIPELINE: plan.pipeline_parallel_size,
        }
        return {axis: size for axis, size in every.items() if size > 1}

    @cached_property
    def insensitive(self) -> Mapping[str, tuple[bool, bool]]:
        """Return for each input of links, roofline and overlaps whether lowering and raising it move nothing."""
        names = [*LINKS, *ROOFLINE, *OVERLAPS, HOST, "parallel_residual"]
        if self.scenario.plan.schedule is ScheduleName.ZB_AUTO:
            # Each other value would take a search of its own: nothing is said to move nothing.
            return dict.fromkeys(names, (False, False))
        return insensitive(self.columns, names)

    def crossing(self) -> list[bool]:
        """Return for each axis with more than one rank whether its groups cross nodes."""
        return [
            int(self.values[f"{axis.value}_node_members"]) < size
            for axis, size in self.sizes().items()
        ]
