"""Tensor and sequence parallelism inside, sharded data parallelism outside."""

import torch.distributed as dist

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder
from validation.torch_programs.records import Observed
from validation.torch_programs.sharded import FlatShards
from validation.torch_programs.sizes import Sizes, Work
from validation.torch_programs.tensor_parallel import (
    SequenceParallel,
    TensorParallel,
    reduce_replicated,
)


def train(
    sizes: Sizes, work: Work, *, tensor_parallel_size: int, sequence_parallel: bool
) -> Observed:
    """Train with neighbouring ranks tensor-parallel and ZeRO stage 1 across, as this rank saw it.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of a replica.
    tensor_parallel_size : int
        Neighbours that share each matrix [count].
    sequence_parallel : bool
        Whether they split sequences too.
    """
    rank, ranks, t = dist.get_rank(), dist.get_world_size(), tensor_parallel_size
    inside = [dist.new_group(list(range(first, first + t))) for first in range(0, ranks, t)]
    across = [dist.new_group(list(range(first, ranks, t))) for first in range(t)]
    tensor_group, data_group = inside[rank // t], across[rank % t]
    split = SequenceParallel(tensor_group) if sequence_parallel else TensorParallel(tensor_group)
    model = Decoder(sizes, split)
    shards = FlatShards(model, data_group)

    def run_step(step: int) -> float:
        losses = [
            training.backpropagate(model, split, tokens, targets)
            for tokens, targets in training.microbatches(sizes, work, step=step, replica=rank // t)
        ]
        if sequence_parallel:
            reduce_replicated(model, tensor_group)
        gradient = shards.scattered_gradient()
        shards.update(gradient, microbatch_count=len(losses) * shards.size)
        return sum(losses) / len(losses)

    return training.observed(run_step)
