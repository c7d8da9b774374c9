"""Pipeline hand-overs in parts: each tensor-parallel rank sends its own, the next stage gathers.

After Megatron-LM's ``scatter_gather_tensors_in_pipeline``, where activations are whole on every
tensor-parallel rank (D. Narayanan et al., 2021, arXiv:2104.04473, section 4.1).
"""

import torch
import torch.distributed as dist

from validation.torch_programs import training
from validation.torch_programs.decoder import Decoder
from validation.torch_programs.interception import labelled
from validation.torch_programs.records import BACKWARD, FORWARD, GATHERED, LOSS, Observed
from validation.torch_programs.sizes import Sizes, Work
from validation.torch_programs.tensor_parallel import TensorParallel

_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


class _Neighbours:
    """The stages before and after this one, and its tensor-parallel group."""

    def __init__(self, shape: tuple[int, ...], tensor_parallel_size: int) -> None:
        rank, ranks, t = dist.get_rank(), dist.get_world_size(), tensor_parallel_size
        groups = [dist.new_group(list(range(first, first + t))) for first in range(0, ranks, t)]
        self.group, self._shape, self._size = groups[rank // t], shape, t
        self.stage, self.count = rank // t, ranks // t
        self._rank = rank

    def send(self, whole: torch.Tensor, *, steps: int) -> None:
        """Send this rank's part of a tensor so many stages on."""
        part = whole.detach().flatten().chunk(self._size)[self._rank % self._size]
        dist.send(part.clone(), self._rank + steps * self._size)

    def receive(self, *, steps: int) -> torch.Tensor:
        """Return the tensor whose parts come from so many stages back."""
        whole = torch.empty(self._shape)
        part = torch.empty(whole.numel() // self._size)
        dist.recv(part, self._rank - steps * self._size)
        with labelled(GATHERED):
            _all_gather(whole.flatten(), part, group=self.group)
        return whole


def train(
    sizes: Sizes, work: Work, *, tensor_parallel_size: int, layers_per_stage: tuple[int, ...]
) -> Observed:
    """Train with GPipe over stages of neighbouring tensor-parallel ranks, as this rank saw it.

    Parameters
    ----------
    sizes, work : Sizes, Work
        The model, and the work of the pipeline.
    tensor_parallel_size : int
        Ranks of a stage [count].
    layers_per_stage : tuple of int
        Layers of every stage.
    """
    shape = (work.sequence_length, work.micro_batch_size, sizes.hidden_size)
    near = _Neighbours(shape, tensor_parallel_size)
    split = TensorParallel(near.group)
    first, last = near.stage == 0, near.stage == near.count - 1
    start = sum(layers_per_stage[: near.stage])
    model = Decoder(
        sizes,
        split,
        layers=range(start, start + layers_per_stage[near.stage]),
        holds_embedding=first,
        holds_head=last,
    )

    def forward(tokens: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        entering = tokens if first else near.receive(steps=1).requires_grad_()
        with labelled(FORWARD):
            leaving = model(entering)
        if last:
            with labelled(LOSS):
                leaving = split.loss(leaving, targets.T)
        else:
            near.send(leaving, steps=1)
        return entering, leaving

    def backward(entering: torch.Tensor, leaving: torch.Tensor) -> None:
        gradient = None if last else near.receive(steps=-1)
        with labelled(BACKWARD):
            leaving.backward(gradient)
        if not first:
            assert entering.grad is not None  # noqa: S101 - it takes part
            near.send(entering.grad, steps=-1)

    def run_step(step: int) -> float:
        parts = list(training.microbatches(sizes, work, step=step))
        held = [forward(tokens, targets) for tokens, targets in parts]
        for entering, leaving in held:
            backward(entering, leaving)
        training.descend(list(model.parameters()), microbatch_count=len(held))
        losses = [float(leaving.detach()) for _, leaving in held] if last else [float("nan")]
        return sum(losses) / len(losses)

    return training.observed(run_step)
