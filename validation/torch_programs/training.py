"""Steps of training that all programs share, and what they return."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import Call, labelled
from validation.torch_programs.sizes import Sizes, Work

LEARNING_RATE = 0.5
STEPS = 2
"""The first step warms up, as torch makes buckets and buffers in it; the last is recorded."""


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
    """

    losses: tuple[float, ...]
    calls: tuple[Call, ...]
    backend_calls: int
    sent_bytes: dict[str, int]


def batch(sizes: Sizes, work: Work, *, step: int, replica: int = 0) -> tuple[torch.Tensor, ...]:
    """Return tokens and targets of a replica's step, (sequences, tokens) each."""
    generator = torch.Generator().manual_seed(7919 * step + replica)
    shape = (work.microbatch_count * work.micro_batch_size, work.sequence_length)
    tokens = torch.randint(sizes.vocabulary_size, shape, generator=generator)
    targets = torch.randint(sizes.vocabulary_size, shape, generator=generator)
    return tokens, targets


def microbatches(
    sizes: Sizes, work: Work, *, step: int, replica: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return tokens and targets of each microbatch."""
    tokens, targets = batch(sizes, work, step=step, replica=replica)
    count = work.microbatch_count
    return zip(tokens.chunk(count), targets.chunk(count), strict=True)


def backpropagate(
    model: torch.nn.Module, split: Whole, tokens: torch.Tensor, targets: torch.Tensor
) -> float:
    """Run forward, loss and backward of one microbatch, and return its loss."""
    with labelled("forward"):
        logits = model(tokens)
    with labelled("loss"):
        loss = split.loss(logits, targets.T)
    with labelled("backward"):
        loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


@torch.no_grad()
def descend(parameters: Sequence[torch.nn.Parameter], *, microbatch_count: int) -> None:
    """Take one step down the mean gradient of so many microbatches, and clear it."""
    for parameter in parameters:
        assert parameter.grad is not None  # noqa: S101 - every parameter takes part
        parameter -= LEARNING_RATE / microbatch_count * parameter.grad
        parameter.grad = None


def reference_losses(sizes: Sizes, work: Work, replicas: int = 1) -> tuple[float, ...]:
    """Return the losses of each step of the same training on one rank."""
    model, split = Decoder(sizes, Whole()), Whole()
    losses = []
    for step in range(STEPS):
        found = [
            backpropagate(model, split, tokens, targets)
            for replica in range(replicas)
            for tokens, targets in microbatches(sizes, work, step=step, replica=replica)
        ]
        descend(list(model.parameters()), microbatch_count=len(found))
        losses.append(sum(found) / len(found))
    return tuple(losses)
