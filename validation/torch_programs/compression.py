"""Programs that decide claims on quantizers and experts: gradients, clamped rounding, a mixture."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Gradients(NamedTuple):
    """How many inputs have which gradient.

    Attributes
    ----------
    ones, zeros : int
        Inputs whose gradient through torch's fake quantization is one, and zero [count].
    of_rounding : int
        Inputs whose gradient through rounding is not zero [count].
    """

    ones: int
    zeros: int
    of_rounding: int


def fake_quantize_gradients(values: Numbers, step: float, least: int, most: int) -> Gradients:
    """Return the gradients of `torch.fake_quantize_per_tensor_affine` and of `torch.round`."""
    inputs = torch.from_numpy(values.astype(np.float32)).requires_grad_()
    faked = torch.fake_quantize_per_tensor_affine(inputs, step, 0, least, most)
    (through,) = torch.autograd.grad(faked.sum(), inputs)
    (rounding,) = torch.autograd.grad(torch.round(inputs / step).sum(), inputs)
    return Gradients(
        ones=int((through == 1).sum()),
        zeros=int((through == 0).sum()),
        of_rounding=int((rounding != 0).sum()),
    )


def held_in_cells(values: Numbers, bits: int, clip: float) -> Numbers:
    """Return numbers in the middles of 2^bits equal cells of a clipped range, by torch."""
    step, half = 2 * clip / 2**bits, 2 ** (bits - 1)
    moved = torch.from_numpy((values - step / 2).astype(np.float32))
    held = torch.fake_quantize_per_tensor_affine(moved, step, 0, -half, half - 1)
    found: Numbers = held.double().numpy() + step / 2
    return found


class Visited(NamedTuple):
    """What one token trains of a mixture.

    Attributes
    ----------
    router_parameters : int
        Weights of what chooses experts: one matrix [parameter].
    experts : int
        Experts that have a gradient [count].
    parameters : int
        Weights of these experts, and of the router [parameter].
    """

    router_parameters: int
    experts: int
    parameters: int


def one_token_through_experts(hidden: int, width: int, experts: int, chosen: int) -> Visited:
    """Return what has a gradient after one token went through a gated mixture (Mixtral's)."""
    torch.manual_seed(0)
    router = torch.nn.Linear(hidden, experts, bias=False)
    networks: Any = torch.nn.ModuleList(
        torch.nn.ModuleDict(
            {
                "gate": torch.nn.Linear(hidden, width, bias=False),
                "up": torch.nn.Linear(hidden, width, bias=False),
                "down": torch.nn.Linear(width, hidden, bias=False),
            }
        )
        for _ in range(experts)
    )
    token = torch.randn(hidden)
    weights, places = torch.topk(torch.softmax(router(token), dim=-1), chosen)
    output = torch.zeros(hidden)
    for weight, place in zip(weights / weights.sum(), places.tolist(), strict=True):
        expert = networks[place]
        inner = torch.nn.functional.silu(expert["gate"](token)) * expert["up"](token)
        output = output + weight * expert["down"](inner)
    torch.autograd.backward(output.square().sum())
    trained = [each for each in networks if each["up"].weight.grad is not None]
    counted = [sum(entry.numel() for entry in each.parameters()) for each in trained]
    own = sum(entry.numel() for entry in router.parameters() if entry.grad is not None)
    return Visited(router_parameters=own, experts=len(trained), parameters=own + sum(counted))
