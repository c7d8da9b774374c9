"""Computing a function again in the backward so that its output is not kept, as Megatron-LM does.

A plain checkpoint keeps the inputs of a function, and what reads its output keeps that. Here the
storages of the output are emptied once it has been read, and filled again, with what the function
gives for its inputs, when the gradient of a tensor behind its readers arrives.
"""

from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., tuple[torch.Tensor, ...]]


class _Repeated(torch.autograd.Function):
    """A function without a graph, whose inputs are kept, and whose backward is that of another run."""

    @staticmethod
    def forward(
        ctx: Any, discarded: "Discarded", function: Function, *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs of the function."""
        discarded.context, discarded.function = ctx, function
        ctx.discarded = discarded
        ctx.save_for_backward(*inputs)
        with torch.no_grad():
            return function(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of the inputs, through the graph of the second run."""
        entering, outputs = ctx.discarded.second_run()
        torch.autograd.backward(outputs, gradients)
        return None, None, *(tensor.grad for tensor in entering)


class Discarded:
    """One run of a function whose output is given up, and made again.

    Parameters
    ----------
    function : callable
        Of tensors, to a tuple of tensors.
    inputs : Tensor
        Kept for the backward.
    """

    def __init__(self, function: Function, *inputs: torch.Tensor) -> None:
        self.context: Any = None
        self.function = function
        self._again: tuple[list[torch.Tensor], tuple[torch.Tensor, ...]] | None = None
        self.outputs: tuple[torch.Tensor, ...] = _Repeated.apply(self, function, *inputs)

    def discard(self, behind: torch.Tensor) -> None:
        """Empty the outputs, until the gradient of a tensor behind all that reads them arrives."""
        for output in self.outputs:
            output.untyped_storage().resize_(0)
        behind.register_hook(self._fill)

    def second_run(self) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Return the inputs and outputs of the second run, which is done once."""
        if self._again is None:
            entering = [
                tensor.detach().requires_grad_(tensor.requires_grad)
                for tensor in self.context.saved_tensors
            ]
            with torch.enable_grad():
                self._again = entering, self.function(*entering)
        return self._again

    def _fill(self, gradient: torch.Tensor) -> torch.Tensor:
        for given_up, made in zip(self.outputs, self.second_run()[1], strict=True):
            storage = made.detach().untyped_storage()
            given_up.untyped_storage().resize_(storage.nbytes())
            given_up.untyped_storage().copy_(storage)
        return gradient
