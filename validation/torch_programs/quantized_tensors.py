"""Matrices in few bits as torch and torchao make them: their numbers, and the bytes of each part."""

import logging
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Made(NamedTuple):
    """What a library made of a matrix.

    Attributes
    ----------
    numbers : ndarray
        The numbers read back.
    part_bytes : dict of str to int
        Bytes of each tensor that it keeps, tables that are the same for all matrices left out.
    """

    numbers: NDArray[np.float32]
    part_bytes: dict[str, int]

    @property
    def stored_bytes(self) -> int:
        """Return the bytes together [byte]."""
        return sum(self.part_bytes.values())


_TABLES = ("nf4", "qmap")


def _parts(tensor: Any) -> dict[str, int]:
    if not hasattr(tensor, "__tensor_flatten__"):
        return {"tensor": tensor.numel() * tensor.element_size()}
    names, _ = tensor.__tensor_flatten__()
    found = {}
    for name in names:
        part = getattr(tensor, name)
        if name not in _TABLES and part is not None:
            found[name] = part.numel() * part.element_size()
    return found


def _mx(element: Any) -> Callable[[torch.Tensor], Made]:
    def make(matrix: torch.Tensor) -> Made:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor

        made = MXTensor.to_mx(matrix, element, 32)
        return Made(made.dequantize(torch.float32).numpy(), _parts(made))

    return make


def _nvfp4(matrix: torch.Tensor) -> Made:
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    scale = per_tensor_amax_to_scale(matrix.abs().max())
    made = NVFP4Tensor.to_nvfp4(matrix, per_tensor_scale=scale)
    return Made(made.dequantize(torch.float32).numpy(), _parts(made))


def _int8(matrix: torch.Tensor) -> Made:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer = torch.nn.Sequential(torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False))
    layer[0].weight = torch.nn.Parameter(matrix.clone())
    quantize_(layer, Int8WeightOnlyConfig())
    weight: Any = layer[0].weight.data
    return Made(weight.dequantize().float().numpy(), _parts(weight))


def _fp8_row(matrix: torch.Tensor) -> Made:
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    layer = torch.nn.Sequential(torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False))
    layer[0].weight = torch.nn.Parameter(matrix.clone())
    quantize_(layer, Float8WeightOnlyConfig())
    weight: Any = layer[0].weight.data
    return Made(weight.dequantize().float().numpy(), _parts(weight))


def _nf4(matrix: torch.Tensor) -> Made:
    from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import to_nf4

    made = to_nf4(matrix, 64, 256)
    return Made(made.get_original_weight().float().numpy(), _parts(made))


def _state8(matrix: torch.Tensor) -> Made:
    from torchao.optim.subclass_8bit import OptimState8bit

    made: Any = OptimState8bit.zeros(tuple(matrix.shape))
    made.copy_(matrix)
    return Made(made.dequantize().numpy(), _parts(made))


def _legacy(matrix: torch.Tensor) -> Made:
    scales = matrix.abs().amax(dim=1).double() / 127
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    made = torch.quantize_per_channel(matrix, scales, zeros, 0, torch.qint8)
    kept = {
        "codes": made.int_repr().numel() * made.int_repr().element_size(),
        "scales": made.q_per_channel_scales().numel() * 8,
        "zero points": made.q_per_channel_zero_points().numel() * 8,
    }
    return Made(made.dequantize().numpy(), kept)


def _cast(name: str) -> Callable[[torch.Tensor], Made]:
    def make(matrix: torch.Tensor) -> Made:
        made = matrix.to(getattr(torch, name))
        return Made(made.float().numpy(), _parts(made))

    return make


MAKERS: Mapping[str, Callable[[torch.Tensor], Made]] = MappingProxyType(
    {
        "bf16": _cast("bfloat16"),
        "fp16": _cast("float16"),
        "fp8_e4m3fn": _cast("float8_e4m3fn"),
        "fp8_e5m2": _cast("float8_e5m2"),
        "mxfp8_e4m3": _mx(torch.float8_e4m3fn),
        "mxfp8_e5m2": _mx(torch.float8_e5m2),
        "mxfp6_e2m3_bytes": _mx("fp6_e2m3"),
        "mxfp4": _mx(torch.float4_e2m1fn_x2),
        "nvfp4": _nvfp4,
        "int8_per_channel_torchao": _int8,
        "int8_per_channel_torch_legacy": _legacy,
        "fp8_e4m3_row": _fp8_row,
        "nf4_b64_dq": _nf4,
        "bnb_blockwise8_b256": _state8,
    }
)
"""How a library makes a matrix in a format, by the format's name."""


def made_by_library(matrix: NDArray[np.float32], name: str) -> Made:
    """Return a matrix as torch or torchao makes it.

    Parameters
    ----------
    matrix : ndarray of float32, shape (N, K)
        The matrix.
    name : str
        One of `MAKERS`.
    """
    # torchao says when it is loaded which of its CUDA libraries it does not find.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return MAKERS[name](torch.from_numpy(matrix.copy()))
    finally:
        logging.disable(logging.NOTSET)
