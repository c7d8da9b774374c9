"""Torch's own pipelining runtime over gloo, with stages that sleep or compute: when each action ran.

A stage that sleeps takes its time whatever the other processes do, so that a machine with few cores
shows the schedule and not the competition for cores. Stages of matrix products are for as many
processes as there are cores. Times come from a clock that is common to the
processes of a machine.
"""

import time
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage, schedules

from validation.real_schedules import Ran, Sleeps
from validation.torch_programs.processes import run
from validation.torch_programs.schedule_orders import CLASSES

_WIDTH = 8  # Of the tensors of a stage that sleeps: what travels is not what is measured.
_ROWS, _SIZE, _PRODUCTS = 256, 512, 16  # Of a stage that computes, all of a rank's together.


class _Slept(torch.autograd.Function):
    """Hands a tensor on, sleeping on the way there and on the way back."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, there_s: float, back_s: float) -> torch.Tensor:
        ctx.back_s = back_s
        time.sleep(there_s)
        return given.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        time.sleep(ctx.back_s)
        return gradients[0], None, None


class _SleepingLayer(torch.nn.Module):
    """A stage: the gradient of its weight sleeps apart from that of its input."""

    def __init__(self, sleeps: Sleeps) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(_WIDTH))
        self.sleeps = sleeps

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        weight = _Slept.apply(self.weight, 0.0, self.sleeps.weight_s)
        passed = _Slept.apply(given, self.sleeps.forward_s, self.sleeps.input_s)
        output: torch.Tensor = passed * weight
        return output


class _ComputingLayer(torch.nn.Module):
    """A stage of square matrices with tanh between."""

    def __init__(self, products: int) -> None:
        super().__init__()
        self.products = torch.nn.ModuleList(
            torch.nn.Linear(_SIZE, _SIZE, bias=False) for _ in range(products)
        )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for product in self.products:
            given = torch.tanh(product(given))
        return given


def ran_actions(
    schedule: str,
    *,
    ranks: int,
    virtual_stages: int,
    microbatch_count: int,
    sleeps: Sleeps | None,
    steps: int,
) -> list[Ran]:
    """Return when every action ran, over several steps after a first that does not count.

    Parameters
    ----------
    schedule : str
        Our name of one of torch's schedules.
    ranks, virtual_stages, microbatch_count : int
        Processes, stages of each, and microbatches [count].
    sleeps : Sleeps or None
        How long an action of a rank sleeps; of a virtual stage, its share. None for stages of matrix
        products.
    steps : int
        Steps that count [count].

    Returns
    -------
    list of Ran
        Of all ranks, rank by rank and in the order in which they ran.
    """
    share = sleeps and Sleeps(*(time_s / virtual_stages for time_s in sleeps))
    program = partial(_rank_program, schedule, virtual_stages, microbatch_count, share, steps)
    return [ran for of_rank in run(program, ranks, timeout_s=240) for ran in of_rank]


def _rank_program(
    schedule: str, virtual_stages: int, microbatch_count: int, sleeps: Sleeps | None, steps: int
) -> list[Ran]:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    stage_count = ranks * virtual_stages
    indices = [chunk * ranks + rank for chunk in range(virtual_stages)]
    if schedule in ("zb-v", "dualpipe-v"):
        indices = [rank, stage_count - 1 - rank]
    found: list[Ran] = []
    step = [-1]

    def layer() -> torch.nn.Module:
        return _SleepingLayer(sleeps) if sleeps else _ComputingLayer(_PRODUCTS // virtual_stages)

    made = [
        _timed(PipelineStage(layer(), index, stage_count, torch.device("cpu")), rank, step, found)
        for index in indices
    ]
    schedule_class = getattr(schedules, CLASSES[schedule])
    stages = made[0] if schedule in ("gpipe", "1f1b") else made
    player = schedule_class(stages, microbatch_count, loss_fn=_loss)
    size = (_WIDTH,) if sleeps else (_SIZE,)
    given = torch.ones(microbatch_count * (1 if sleeps else _ROWS), *size)
    # The way in and the way out are stages of one rank where the schedule is V-shaped.
    arguments = (given,) if 0 in indices else ()
    target = {"target": given} if stage_count - 1 in indices else {}
    for step[0] in range(-1, steps):
        dist.barrier()
        player.step(*arguments, **target)
    return [ran for ran in found if ran.step >= 0]


def _loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((output - target) ** 2).sum()


def _timed(stage: Any, rank: int, step: list[int], found: list[Ran]) -> Any:
    """Return a stage whose actions note when they run."""

    def note(name: str, kind: str) -> None:
        inner = getattr(stage, name)

        def timed(microbatch: int, *arguments: Any, **named: Any) -> Any:
            start_s = time.perf_counter()
            result = inner(microbatch, *arguments, **named)
            letter = "I" if kind == "B" and not named.get("full_backward", True) else kind
            action = f"{stage.stage_index}{letter}{microbatch}"
            found.append(Ran(step[0], rank, action, start_s, time.perf_counter()))
            return result

        setattr(stage, name, timed)

    note("forward_one_chunk", "F")
    note("backward_one_chunk", "B")
    note("backward_weight_one_chunk", "W")
    return stage
