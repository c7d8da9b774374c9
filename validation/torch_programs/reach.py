"""Which tokens the last one depends on, by the gradient of running layers."""

from collections.abc import Sequence

import torch

from costmodels.attention.dilated import Branches
from costmodels.attention.per_head import Dilations
from validation.torch_programs import layouts

_WIDTH = 4


def reached_by_gradient(length: int, heads: int, each_layer: Sequence[Branches | Dilations]) -> int:
    """Return the tokens on which the output of the last one has a gradient.

    Parameters
    ----------
    length : int
        Tokens of a sequence [token].
    heads : int
        Heads, which all see the whole width [count].
    each_layer : sequence of Branches or Dilations
        Layers, each with a residual connection.
    """
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(1, 1, length, _WIDTH, dtype=torch.float64, generator=generator)
    states.requires_grad_()
    found = states
    for layer in each_layer:
        wide = found.expand(-1, heads, -1, -1)
        program = layouts.dilated if isinstance(layer, Branches) else layouts.per_head
        attended = program(wide, wide, wide, layer)  # type: ignore[arg-type]
        found = found + attended.mean(dim=1, keepdim=True)
    torch.autograd.backward(found[:, :, -1].sum())
    assert states.grad is not None  # noqa: S101 - tells the type checker
    return int((states.grad != 0).any(dim=-1).sum())
