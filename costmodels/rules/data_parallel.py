"""Replicas of a plan: how many there are, their batches, and the states that they shard."""

import numpy as np

from costmodels.columns import Column, maximum
from costmodels.errors import SpecError
from costmodels.leaves import Sections
from costmodels.rules.declaration import rule
from costmodels.specs.plan import RankAxis


@rule(
    "cluster.accelerator_count",
    "must be a multiple of plan.tensor_parallel_size ({tensor_parallel_size}) x "
    "plan.pipeline_parallel_size ({pipeline_parallel_size}) x plan.context_parallel_size "
    "({context_parallel_size})",
)
def ranks_fill_cluster(
    accelerator_count: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return whether replicas of a plan fill the accelerators."""
    ranks = tensor_parallel_size * pipeline_parallel_size * context_parallel_size
    return accelerator_count % ranks == 0


@rule(
    "plan.data_parallel_size",
    "must be {data_parallel_size} = cluster.accelerator_count / "
    "(plan.tensor_parallel_size x plan.pipeline_parallel_size x plan.context_parallel_size); "
    "leave it out to derive it",
)
def replicas_match(stated_data_parallel_size: Column, data_parallel_size: Column) -> Column:
    """Return whether stated replicas are those that the accelerators make."""
    stated = stated_data_parallel_size
    return (stated == 0) + (stated == data_parallel_size) > 0


@rule(
    "workload.global_batch_size",
    "must be a multiple of plan.micro_batch_size ({micro_batch_size}) x the "
    "{data_parallel_size} replicas that cluster.accelerator_count and the other parallel "
    "sizes leave",
)
def batch_divides(
    global_batch_size: Column, micro_batch_size: Column, data_parallel_size: Column
) -> Column:
    """Return whether replicas get whole microbatches, at least one."""
    return global_batch_size % (micro_batch_size * np.maximum(data_parallel_size, 1)) == 0


@rule(
    "plan.sharding_group_size",
    "shards nothing with plan.zero_stage={zero_stage}: set plan.zero_stage to at "
    "least 1, or leave it out",
)
def sharding_group_shards(stated_sharding_group_size: Column, zero_stage: Column) -> Column:
    """Return whether something is sharded where a sharding group is stated."""
    return (stated_sharding_group_size == 0) + (zero_stage >= 1) > 0


@rule(
    "plan.sharding_group_size",
    "must divide the {reduction_size} data- and context-parallel ranks",
)
def sharding_group_divides(stated_sharding_group_size: Column, reduction_size: Column) -> Column:
    """Return whether a stated sharding group fits the ranks with the same weights."""
    stated = stated_sharding_group_size
    return (stated == 0) + (reduction_size % maximum(stated, 1) == 0) > 0


@rule(
    "plan.gradient_buckets",
    "reduces whole gradients: set plan.zero_stage ({zero_stage}) to 0, or choose in-place",
)
def ddp_shards_nothing(gradient_buckets_is_torch_ddp: Column, zero_stage: Column) -> Column:
    """Return whether replicas that DistributedDataParallel reduces are whole."""
    return (1 - gradient_buckets_is_torch_ddp) + (zero_stage == 0) > 0


@rule(
    "plan.gradient_buckets",
    "knows the order of gradients of layers with four projections and one network, without experts, "
    "output gates, adapters or further tokens; in-place or copied ends buckets anywhere",
    modelled=False,
)
def ddp_order_is_known(
    gradient_buckets_is_torch_ddp: Column,
    gradient_order_is_known: Column,
    weights_are_frozen: Column,
) -> Column:
    """Return whether the tensors of DistributedDataParallel's buckets are known in their order."""
    known = gradient_order_is_known * (1 - weights_are_frozen)
    return (1 - gradient_buckets_is_torch_ddp) + known > 0


@rule(
    "plan.gradient_buckets",
    "needs gradients in the order of a whole backward, which plan.schedule splits: choose in-place "
    "or copied, or a schedule with whole backwards",
    modelled=False,
)
def ddp_backwards_are_whole(
    gradient_buckets_is_torch_ddp: Column, schedule_splits_backward: Column
) -> Column:
    """Return whether DistributedDataParallel's gradients arrive in the order of a whole backward."""
    return (1 - gradient_buckets_is_torch_ddp) + (1 - schedule_splits_backward) > 0


@rule(
    "plan.gradient_buckets",
    "are units whose weights are sharded: set plan.zero_stage ({zero_stage}) to 3, or choose in-place",
)
def fsdp_units_are_sharded(gradient_buckets_is_fsdp_units: Column, zero_stage: Column) -> Column:
    """Return whether weights are sharded where gradients go unit by unit."""
    return (1 - gradient_buckets_is_fsdp_units) + (zero_stage >= 3) > 0


@rule(
    "plan.gradient_bucket_parameters",
    "must be 0 with plan.gradient_buckets=fsdp-units, which are as large as layers",
)
def fsdp_units_have_own_sizes(
    gradient_buckets_is_fsdp_units: Column, gradient_bucket_parameters: Column
) -> Column:
    """Return whether no size is stated for buckets that are units."""
    return (1 - gradient_buckets_is_fsdp_units) + (gradient_bucket_parameters == 0) > 0


def check_rank_order(sections: Sections) -> None:
    """Raise unless the order of ranks names every axis once.

    Raises
    ------
    SpecError
        Naming the axes that are stated.
    """
    order = sections.plan.rank_order
    if sorted(order) != sorted(RankAxis):
        raise SpecError(
            f"plan.rank_order ({[axis.value for axis in order]}): must name each of tensor, "
            "context, data and pipeline once"
        )
