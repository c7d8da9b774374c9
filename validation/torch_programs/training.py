"""Steps of training that all programs share, and what they return."""

from collections.abc import Callable, Iterator, Sequence

import torch

from validation.torch_programs.decoder import Decoder, Whole
from validation.torch_programs.interception import Recorder, backend_calls, labelled
from validation.torch_programs.records import BACKWARD, FORWARD, LOSS, Observed
from validation.torch_programs.sizes import Sizes, Work
from validation.torch_programs.wire import replayed_by_label, replayed_by_target

LEARNING_RATE = 0.5
STEPS = 3
"""The last is recorded. DistributedDataParallel agrees on its buckets in the second, with broadcasts;
a pipeline agrees on shapes in the first."""


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
    """Run forward, loss and backward of one microbatch, and return its loss, further tokens added."""
    with labelled(FORWARD):
        decoder = model if isinstance(model, Decoder) and len(model.further) else None
        logits = [model(tokens)] if decoder is None else decoder.all_logits(tokens)
    with labelled(LOSS):
        losses = [
            split.loss(part, targets.roll(-depth, dims=1).T) for depth, part in enumerate(logits)
        ]
        loss = torch.stack(losses).sum()
    with labelled(BACKWARD):
        loss.backward()
    return float(loss.detach())


@torch.no_grad()
def descend(parameters: Sequence[torch.nn.Parameter], *, microbatch_count: int) -> None:
    """Take one step down the mean gradient of so many microbatches, and clear it."""
    for parameter in parameters:
        assert parameter.grad is not None  # noqa: S101 - every parameter takes part
        parameter.sub_(parameter.grad, alpha=LEARNING_RATE / microbatch_count)
        parameter.grad = None


def observed(run_step: Callable[[int], float]) -> Observed:
    """Return what this rank sees while it runs all steps, calls from the last one.

    Parameters
    ----------
    run_step : callable
        Runs the step of an index and returns its loss.
    """
    losses = [run_step(step) for step in range(STEPS - 1)]
    before = backend_calls()
    recorder = Recorder()
    with recorder:
        losses.append(run_step(STEPS - 1))
    counted = backend_calls() - before
    calls = tuple(recorder.calls)
    return Observed(
        tuple(losses), calls, counted, replayed_by_label(calls), replayed_by_target(calls)
    )


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
