"""Expected error of formats, against what libraries make of drawn numbers."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from costmodels.number_formats.error import DISTRIBUTIONS, expected_sqnr_db
from costmodels.number_formats.layouts import stored_format
from costmodels.number_formats.quantizers import quantized, sqnr_db
from validation.cases import Case
from validation.format_bytes import sample

SUITE = "format-errors"

SHAPE = (512, 4096)
"""Outputs and inputs of the drawn matrices."""

GGUF = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq2_0", "mxfp4")
"""Blocks that the gguf package can write and read."""

OWN = (
    *("int8_sym_row", "int8_sym_g128", "int4_sym_g128", "int4_sym_g32", "int3_sym_g32"),
    *("int2_sym_g32", "int8_affine_row", "int4_affine_g128", "int4_affine_g32"),
    *("awq_int4_g128", "fp4_bnb_b64", "nf4_b64", "mxint8", "ternary_2bit", "fp8_block128x128"),
)
"""Formats that only the quantizers here make."""

_LEAST_DB, _ERRORS = 0.1, 3


def library_cases(shape: tuple[int, int] = SHAPE) -> list[Case]:
    """Return formats that torch and torchao make, on each distribution. Needs torchao."""
    from validation.torch_programs.quantized_tensors import MAKERS, made_by_library

    return [
        _case(name, kind, matrix, made_by_library(matrix, name).numbers, "torch, torchao, run")
        for kind, matrix in _samples(shape)
        for name in MAKERS
    ]


def gguf_cases(shape: tuple[int, int] = SHAPE) -> list[Case]:
    """Return formats that the gguf package makes, on each distribution. Needs gguf."""
    import gguf

    cases = []
    for kind, matrix in _samples(shape):
        for name in GGUF:
            block = gguf.GGMLQuantizationType[name.upper()]
            held = gguf.quants.dequantize(gguf.quants.quantize(matrix, block), block)
            cases.append(_case(f"gguf_{name}", kind, matrix, held, "gguf.quants, run"))
    return cases


def own_cases(shape: tuple[int, int] = SHAPE) -> list[Case]:
    """Return formats that the quantizers of this project make: formula against experiment."""
    return [
        _case(
            name,
            kind,
            matrix,
            quantized(matrix, stored_format(name)),
            "costmodels.number_formats.quantizers, run: the closed form against an experiment",
        )
        for kind, matrix in _samples(shape)
        for name in OWN
    ]


def _samples(shape: tuple[int, int]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for kind in DISTRIBUTIONS:
        yield kind, sample(shape, kind, seed=3)


def _case(
    name: str, kind: str, matrix: NDArray[np.float32], held: NDArray[np.float32], source: str
) -> Case:
    rows, columns = matrix.shape
    measured = sqnr_db(matrix, held)
    allowed = max(_LEAST_DB, _ERRORS * standard_error_db(matrix, held))
    return Case(
        suite=SUITE,
        name=f"{name}, {kind}",
        claim="the closed form gives the error that the numbers show",
        prediction=expected_sqnr_db(stored_format(name), kind, rows=rows, columns=columns),
        measurement=measured,
        unit="dB",
        tolerance_fraction=allowed / measured,
        tolerance_reason="0.1 dB, or three standard errors of the sample where they are more",
        method=f"{rows} x {columns} numbers drawn, stored and read back",
        source=source,
    )


def standard_error_db(matrix: NDArray[np.float32], held: NDArray[np.float32]) -> float:
    """Return the standard error of a measured ratio, from the spread of its rows [dB].

    Parameters
    ----------
    matrix, held : ndarray
        Before and after.
    """
    signal = np.square(matrix, dtype=np.float64).sum(axis=1)
    noise = np.square(np.subtract(matrix, held, dtype=np.float64)).sum(axis=1)
    ratio = noise.sum() / signal.sum()
    spread = np.std(noise - ratio * signal, ddof=1) * math.sqrt(len(noise))
    return float(10 / math.log(10) * spread / noise.sum())
