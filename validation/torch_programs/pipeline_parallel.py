"""Pipeline parallelism with the schedules of torch.distributed.pipelining."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
)

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import TIED, Observed
from validation.torch_programs.sizes import Sizes, Work

_SCHEDULES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "gpipe": ScheduleGPipe,
        "1f1b": Schedule1F1B,
        "interleaved-1f1b": ScheduleInterleaved1F1B,
    }
)


def _chunks(sizes: Sizes, layers_per_stage: Sequence[int]) -> dict[int, Decoder]:
    """Return the chunks of this rank by virtual stage."""
    count, ranks = len(layers_per_stage), dist.get_world_size()
    held = {}
    for stage in range(dist.get_rank(), count, ranks):
        first = sum(layers_per_stage[:stage])
        held[stage] = Decoder(
            sizes,
            Whole(),
            layers=range(first, first + layers_per_stage[stage]),
            holds_embedding=stage == 0,
            holds_head=stage == count - 1,
        )
    return held


def _tied_copy(chunks: Sequence[Decoder]) -> torch.nn.Parameter | None:
    """Return this rank's copy of a tied embedding, if it has one."""
    for chunk in chunks:
        end = chunk.embedding or chunk.head
        if end is not None:
            return end.weight
    return None


def train(
    sizes: Sizes, work: Work, *, schedule: str, layers_per_stage: tuple[int, ...]
) -> Observed:
    """Train with a pipeline over all ranks, and return what this rank saw.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of the pipeline.
    schedule : str
        Our name of the schedule.
    layers_per_stage : tuple of int
        Layers of every virtual stage, of which each rank has as many.
    """
    ranks, count = dist.get_world_size(), len(layers_per_stage)
    chunks = _chunks(sizes, layers_per_stage)
    stages = [
        PipelineStage(chunk, index, count, torch.device("cpu")) for index, chunk in chunks.items()
    ]
    runner = _SCHEDULES[schedule](
        stages if count > ranks else stages[0],
        n_microbatches=work.microbatch_count,
        loss_fn=lambda logits, targets: Whole().loss(logits, targets.T),
    )
    ends = dist.new_group([0, ranks - 1])
    copy = _tied_copy(list(chunks.values())) if sizes.tied_embeddings else None
    parameters = [weight for chunk in chunks.values() for weight in chunk.parameters()]

    def run_step(step: int) -> float:
        tokens, targets = training.batch(sizes, work, step=step)
        losses: list[torch.Tensor] = []
        entering = (tokens,) if 0 in chunks else ()
        leaving = {"target": targets, "losses": losses} if count - 1 in chunks else {}
        runner.step(*entering, **leaving)
        if copy is not None and copy.grad is not None:
            with labelled(TIED):
                dist.all_reduce(copy.grad, group=ends)
        # The schedule divides gradients by the microbatches.
        training.descend(parameters, microbatch_count=1)
        return float(torch.stack(losses).detach().mean()) if losses else float("nan")

    return training.observed(run_step)
