"""Data parallelism with torch's DistributedDataParallel."""

from contextlib import nullcontext

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.records import Observed
from validation.torch_programs.sizes import Sizes, Work


def train(sizes: Sizes, work: Work, *, bucket_mib: float) -> Observed:
    """Train a replica on each rank, and return what this rank saw.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of a replica.
    bucket_mib : float
        Gradients that are reduced together [MiB].

    Notes
    -----
    Gradients are reduced in the backward of the last microbatch only, and averaged.
    """
    split = Whole()
    model = DistributedDataParallel(Decoder(sizes, split), bucket_cap_mb=bucket_mib)

    def run_step(step: int) -> float:
        losses = []
        pairs = list(training.microbatches(sizes, work, step=step, replica=dist.get_rank()))
        for index, (tokens, targets) in enumerate(pairs):
            with nullcontext() if index == len(pairs) - 1 else model.no_sync():
                losses.append(training.backpropagate(model, split, tokens, targets))
        training.descend(list(model.parameters()), microbatch_count=len(losses))
        return sum(losses) / len(losses)

    return training.observed(run_step)
