"""Claims on quantizers, decided by torch's own: ranges, scales, errors, bytes, gradients."""

from collections.abc import Iterator
from functools import partial

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from costmodels.number_formats.clipping import best_clip, clipped, outlier_sqnr_db, static_sqnr_db
from costmodels.number_formats.error import expected_sqnr_db
from costmodels.number_formats.layouts import stored_format
from validation.cases import Case
from validation.claim_cases import claim_case

Numbers = NDArray[np.float64]

_SHAPE = (256, 1024)
_DRAWS = "drawn numbers: 262,144 of them leave 0.03 dB, and the clipped tail 0.1"


_case = partial(
    claim_case,
    method="a small program, run",
    source="torch, of the version that the report states",
    reason="counts and bytes are equal or they are not",
)


def _drawn(seed: int = 3) -> Numbers:
    return np.random.default_rng(seed).normal(size=_SHAPE)


def _sqnr_db(values: Numbers, held: Numbers) -> float:
    noise, power = np.square(held - values).sum(), np.square(values).sum()
    return float(-10 * np.log10(noise / power))


def _int8_rows(values: Numbers) -> Numbers:
    """Return numbers as torch's INT8 with a scale for each row holds them."""
    from validation.torch_programs.quantized_tensors import made_by_library

    made = made_by_library(values.astype(np.float32), "int8_per_channel_torch_legacy")
    return np.asarray(made.numbers, dtype=np.float64)


def _e4m3_rows(values: Numbers) -> Numbers:
    """Return numbers as FP8 E4M3 with a scale for each row holds them, by ml_dtypes."""
    scales = np.abs(values).max(axis=1, keepdims=True) / 448
    cast = (values / scales).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    return np.asarray(cast.astype(np.float64) * scales)


def quantizer_cases() -> Iterator[Case]:
    """Yield what scales, ranges and formats do to drawn numbers."""
    yield from _scale_cases()
    yield from _uniform_cases()
    yield from _range_cases()


def _scale_cases() -> Iterator[Case]:
    stored = stored_format("int8_per_channel_sym")
    expected = expected_sqnr_db(stored, rows=_SHAPE[0], columns=_SHAPE[1])
    for scale in (0.01, 1.0, 100.0):
        values = scale * _drawn()
        yield _case(
            f"INT8 error of weights of deviation {scale:g}",
            "the ratio of signal to noise does not depend on the scale of the weights",
            expected,
            _sqnr_db(values, _int8_rows(values)),
            "dB",
            ("INT8-4",),
            tolerance=0.005,
            reason=_DRAWS,
        )


def _uniform_cases() -> Iterator[Case]:
    values = _drawn()
    held = {"int8_per_channel_sym": _int8_rows(values), "fp8_e4m3_row": _e4m3_rows(values)}
    for name, numbers in held.items():
        yield _case(
            f"error of {name} on Gaussian rows",
            "on Gaussian rows uniform codes are better than FP8",
            expected_sqnr_db(stored_format(name), rows=_SHAPE[0], columns=_SHAPE[1]),
            _sqnr_db(values, numbers),
            "dB",
            ("INT8-6",),
            tolerance=0.005,
            reason=_DRAWS,
        )
    outlying = values.copy()
    outlying[:, 0] = 60
    uniform = _sqnr_db(values[:, 1:], _int8_rows(outlying)[:, 1:])
    # A symmetric grid of 127 steps up to 60 rounds with the error of a step over sqrt(12).
    yield _case(
        "error of INT8 on Gaussian rows with an outlier of 60 deviations",
        "an outlier coarsens the whole row",
        float(-10 * np.log10((60 / 127) ** 2 / 12)),
        uniform,
        "dB",
        ("INT8-6",),
        tolerance=0.005,
        reason=_DRAWS,
    )
    floating = _sqnr_db(values[:, 1:], _e4m3_rows(outlying)[:, 1:])
    yield _case(
        "FP8 is better than INT8 on rows with an outlier",
        "floats keep what is small beside an outlier",
        1.0,
        float(floating > uniform),
        "truth",
        ("INT8-6",),
    )
    share = 1 / 256
    draws = np.random.default_rng(5)
    mixed = draws.normal(size=(1024, 256))
    mixed[:, 0] *= 30
    yield _case(
        "error of INT8 beside one number in 256 that is 30 times as large",
        "outliers decide the error of uniform codes",
        outlier_sqnr_db(8, 256, share=share, scale=30),
        _sqnr_db(mixed[:, 1:], _int8_rows(mixed)[:, 1:]),
        "dB",
        ("INT8-6",),
        tolerance=0.02,
        reason="1,024 outliers are drawn: their largest differ by 0.3 dB from run to run",
    )


def _range_cases() -> Iterator[Case]:
    from validation.torch_programs.compression import held_in_cells

    values = _drawn()
    for bits in (4, 8):
        best = best_clip(bits)
        for said, clip in (("best", best), ("half the best", best / 2), ("twice", 2 * best)):
            yield _case(
                f"error of {bits} bits in a range of {said}",
                "too small a range clips, too large a one rounds coarsely",
                clipped(bits, clip).sqnr_db,
                _sqnr_db(values, held_in_cells(values, bits, clip)),
                "dB",
                ("INT8-9",),
                tolerance=0.02,
                reason=_DRAWS,
            )
    best = best_clip(8)
    for spread in (0.5, 2.0):
        shifted = spread * values
        yield _case(
            f"static range on numbers of {spread:g} times the calibration's spread",
            "a static range is fixed by calibration; numbers that spread further are clipped",
            static_sqnr_db(8, best, spread),
            _sqnr_db(shifted, held_in_cells(shifted, 8, best)),
            "dB",
            ("INT8-8",),
            tolerance=0.02,
            reason=_DRAWS,
        )
        dynamic = best * float(shifted.std())
        yield _case(
            f"dynamic range on numbers of {spread:g} times the spread",
            "a dynamic range is found from the numbers at run time, and as good for any spread",
            clipped(8, best).sqnr_db,
            _sqnr_db(shifted, held_in_cells(shifted, 8, dynamic)),
            "dB",
            ("INT8-8",),
            tolerance=0.02,
            reason=_DRAWS,
        )


def training_cases() -> Iterator[Case]:
    """Yield bytes after quantization, and gradients of fake quantization."""
    from validation.torch_programs.compression import fake_quantize_gradients
    from validation.torch_programs.quantized_tensors import made_by_library

    rows, columns = _SHAPE
    values = _drawn()
    name = "int8_per_channel_torch_legacy"
    made = made_by_library(values.astype(np.float32), name).stored_bytes
    saved = values.astype(np.float32).nbytes - made
    yield _case(
        "bytes that INT8 saves of fp32",
        "three of four bytes a weight, less scales and zero points",
        3 * rows * columns - 16 * rows,
        saved,
        "byte",
        ("PTQ-1",),
    )
    wide = made_by_library(values.astype(np.float32), "bf16").stored_bytes
    for name in ("fp8_e4m3_row", "int8_per_channel_torchao", "mxfp4"):
        stored = stored_format(name)
        yield _case(
            f"weights read in bf16 over {name}",
            "weight-only formats save reading: 16 bits over those of a weight",
            16 / stored.bits_per_weight(rows, columns),
            wide / made_by_library(values.astype(np.float32), name).stored_bytes,
            "ratio",
            ("PTQ-2",),
            tolerance=1e-12,
            reason="a quotient of whole numbers",
        )
    step, least, most = 0.02, -128, 127
    found = fake_quantize_gradients(values, step, least, most)
    codes = np.round(values.astype(np.float32) / np.float32(step))
    inside = int(((codes >= least) & (codes <= most)).sum())
    counts = {
        "inputs with gradient one through fake quantization": (inside, found.ones),
        "inputs with gradient zero through it": (values.size - inside, found.zeros),
        "inputs with a gradient through rounding itself": (0, found.of_rounding),
    }
    for said, pair in counts.items():
        yield _case(
            said,
            "the backward passes gradients straight through inside the range, none outside",
            *pair,
            "count",
            ("QAT-2",),
        )
