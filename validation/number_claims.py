"""Claims on number formats and INT8, decided by the libraries that hold such numbers."""

import struct
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from costmodels.number_formats.encoding import decode, encode, finite_numbers, round_to
from costmodels.number_formats.scalars import ScalarFormat, scalar_formats
from validation.cases import Case
from validation.claim_cases import claim_case

_DTYPES: Mapping[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "fp32": np.dtype(np.float32),
        "fp16": np.dtype(np.float16),
        "bf16": np.dtype(ml_dtypes.bfloat16),
    }
)
_STATED = "of the version that the report states"
_in_bits = partial(claim_case, reason="bits and the numbers they mean are exact")
_by_numpy = partial(_in_bits, method="what numpy encodes and decodes", source=f"numpy, {_STATED}")
_by_ml_dtypes = partial(
    _in_bits, method="what ml_dtypes encodes and decodes", source=f"ml_dtypes, {_STATED}"
)


def _held(number: float, name: str) -> np.generic:
    """Return a number as a library holds it, from fp32."""
    with np.errstate(over="ignore"):
        held: np.generic = np.array([number], dtype=np.float32).astype(_DTYPES[name])[0]
    return held


def _numbers(held: NDArray[np.generic]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return held.astype(np.float64)


def _finfo(name: str) -> Any:
    info: Any = ml_dtypes.finfo
    return info(_DTYPES[name])


def format_cases() -> Iterator[Case]:
    """Yield ranges, codes and roundings of fp32, fp16 and bf16."""
    formats = scalar_formats()
    yield from _layout_cases(formats)
    yield from _range_cases(formats)
    yield from _code_cases(formats)
    yield from _rounding_cases(formats)


def _layout_cases(formats: Mapping[str, ScalarFormat]) -> Iterator[Case]:
    for name in _DTYPES:
        info, own = _finfo(name), formats[name]
        yield _by_ml_dtypes(
            f"exponent bits of {name}",
            "the field widths of the notes' table",
            own.exponent_bits,
            info.nexp,
            "bit",
            ("FLT-2",),
        )
        yield _by_ml_dtypes(
            f"mantissa bits of {name}",
            "the field widths of the notes' table",
            own.mantissa_bits,
            info.nmant,
            "bit",
            ("FLT-2",),
        )
    for name in ("fp16", "bf16"):
        codes = np.arange(1 << 16, dtype=np.uint16)
        theirs = _numbers(codes.view(_DTYPES[name]))
        ours = decode(codes, formats[name])
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        yield _by_ml_dtypes(
            f"codes of {name} that decode alike",
            "sign, fraction and biased exponent give the number, with the exceptions of both ends",
            1 << 16,
            int(same.sum()),
            "count",
            ("FLT-1",),
        )
    shifted = np.arange(1 << 16, dtype=np.uint32) << 16
    theirs = _numbers(shifted.view(np.float32))
    ours = decode(np.arange(1 << 16), formats["bf16"])
    yield _by_numpy(
        "codes of bf16 that are fp32 after a shift by 16 bits",
        "bfloat16 is a shortened float32",
        1 << 16,
        int(((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).sum()),
        "count",
        ("FLT-14", "FLT-10"),
    )


def _range_cases(formats: Mapping[str, ScalarFormat]) -> Iterator[Case]:
    half, brain = (finite_numbers(formats[name]) for name in ("fp16", "bf16"))
    half_info, brain_info = (_finfo(name) for name in ("fp16", "bf16"))
    yield _by_numpy(
        "largest number of fp16",
        "the highest field is kept for infinity, so 65,536 is none",
        float(half.max()),
        float(half_info.max),
        "number",
        ("FLT-3", "FLT-4"),
    )
    yield _by_numpy(
        "65,536 in fp16",
        "what is too large becomes infinite",
        float(np.isinf(round_to(65536.0, formats["fp16"]))),
        float(np.isinf(_held(65536.0, "fp16"))),
        "truth",
        ("FLT-3", "FLT-4"),
    )
    yield _by_numpy(
        "least normal number of fp16",
        "exponents of normal numbers begin at -14",
        2.0 ** formats["fp16"].least_exponent,
        float(half_info.smallest_normal),
        "number",
        ("FLT-3",),
    )
    yield _by_numpy(
        "numbers of fp16 between 0.5 and 2 that are powers of two",
        "two to the zero is one, not zero",
        3,
        sum(float(power) in half for power in (0.5, 1.0, 2.0)),
        "count",
        ("FLT-4",),
    )
    yield _by_ml_dtypes(
        "least normal number of bf16",
        "exponents of normal numbers begin at -126",
        2.0 ** formats["bf16"].least_exponent,
        float(brain_info.smallest_normal),
        "number",
        ("FLT-7",),
    )
    yield _by_ml_dtypes(
        "largest number of bf16",
        "the range of float32, but for the last 0.4 %",
        float(brain.max()),
        float(brain_info.max),
        "number",
        ("FLT-7", "FLT-12"),
    )
    largest = decode(np.array([0x7F7FFFFF]), formats["fp32"])
    yield _by_numpy(
        "largest number of fp32",
        "24 bits of significand and exponents up to 127",
        float(largest[0]),
        float(np.finfo(np.float32).max),
        "number",
        ("FLT-8",),
    )
    steps = [2.0 ** -formats[name].mantissa_bits for name in ("bf16", "fp16")]
    yield _by_ml_dtypes(
        "unit of bf16 over that of fp16",
        "fp16 is eight times finer inside its normal range",
        steps[0] / steps[1],
        float(brain_info.eps) / float(half_info.eps),
        "ratio",
        ("FLT-13",),
    )


_CODES = (
    (3.14, "fp32", 0x4048F5C3, ("FLT-9", "FLT-16")),
    (3.14, "bf16", 0x4049, ("FLT-10", "FLT-11")),
    (3.14, "fp16", 0x4248, ("FLT-15",)),
    (420.0, "fp32", 0x43D20000, ("FLT-18",)),
    (420.89938, "fp32", 0x43D2731F, ("FLT-18",)),
)
"""Numbers of the notes with the codes that they have in libraries."""


def _library_code(number: float, name: str) -> int:
    return int.from_bytes(_held(number, name).tobytes(), "little")


def _code_cases(formats: Mapping[str, ScalarFormat]) -> Iterator[Case]:
    for number, name, code, claims in _CODES:
        ours = int(encode(np.float32(number), formats[name]))
        yield _by_ml_dtypes(
            f"code of {number} in {name}",
            f"{number} in {name} is 0x{code:x}",
            ours,
            _library_code(number, name),
            "code",
            claims,
        )
    upper = struct.unpack("<I", struct.pack("<f", 3.14))[0] >> 16
    yield _by_ml_dtypes(
        "code of 3.14 in bf16, truncated",
        "the first 16 bits of fp32, as the notes' program prints them",
        int(encode(np.float32(3.14), formats["bf16"], rounding="truncate")),
        upper,
        "code",
        ("FLT-10", "FLT-16"),
    )
    yield _by_numpy(
        "leading bits of 3.14 that fp32 and fp16 share",
        "the first six bits agree",
        _shared_bits(
            int(encode(np.float32(3.14), formats["fp32"])) >> 16,
            int(encode(3.14, formats["fp16"])),
        ),
        _shared_bits(_library_code(3.14, "fp32") >> 16, _library_code(3.14, "fp16")),
        "bit",
        ("FLT-17",),
    )


def _shared_bits(first: int, second: int) -> int:
    return 16 - (first ^ second).bit_length()


def _rounding_cases(formats: Mapping[str, ScalarFormat]) -> Iterator[Case]:
    examples = (
        (8.43535, "fp16", ("FLT-6",)),
        (8.43535, "bf16", ("FLT-6",)),
        (420.89938, "fp32", ("FLT-18",)),
        (420.89938, "fp16", ("FLT-19",)),
        (420.89938, "bf16", ("FLT-19",)),
    )
    for number, name, claims in examples:
        yield _by_ml_dtypes(
            f"{number} as {name} holds it",
            f"{number} rounds to the nearest number of {name}",
            float(round_to(np.float32(number), formats[name])),
            float(_held(number, name)),
            "number",
            claims,
        )
    code = int(encode(np.float32(8.43535), formats["fp32"]))
    mantissa, exponent = np.frexp(np.float32(8.43535))
    yield _by_numpy(
        "exponent of 8.43535",
        "8.43535 is 8 (1 + m)",
        ((code >> 23) & 0xFF) - 127,
        int(exponent) - 1,
        "count",
        ("FLT-5",),
    )
    yield _by_numpy(
        "mantissa field of 8.43535",
        "m is 0.0544, not 0.577",
        (code & 0x7FFFFF) / 2**23,
        float(2 * mantissa - 1),
        "number",
        ("FLT-5", "FLT-6"),
    )


def _quantized(values: NDArray[np.float64], *, signed: bool) -> NDArray[np.float64]:
    """Return the notes' sample: codes from the least value, kept as they say, and back."""
    scale = (values.max() - values.min()) / 255
    steps = np.round((values - values.min()) / scale)
    codes = steps.astype(np.uint8)
    kept = codes.view(np.int8) if signed else codes
    return np.asarray(kept * scale + values.min())


def integer_cases() -> Iterator[Case]:
    """Yield what eight bits hold, and what the notes' sample does with them."""
    values = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    scale = 3.0 / 255
    codes = np.round(values / scale)
    wrapped = (codes + 128) % 256 - 128
    for value, own, theirs in zip(
        values, wrapped, codes.astype(np.int64).astype(np.int8), strict=True
    ):
        yield _by_numpy(
            f"signed code of {value} in the notes' sample",
            "codes above 127 wrap around",
            float(own),
            float(theirs),
            "code",
            ("INT8-2", "INT8-3"),
        )
    yield _by_numpy(
        "worst error of the notes' sample over 256 scales",
        "a wrapped code is wrong by exactly 256 scales, beside half a step of rounding",
        1.0,
        float(np.round(np.abs(_quantized(values, signed=True) - values).max() / (256 * scale))),
        "ratio",
        ("INT8-2", "INT8-3"),
    )
    yield _by_numpy(
        "values of the sample within half a step, with unsigned codes",
        "unsigned codes hold them all",
        len(values),
        int((np.abs(_quantized(values, signed=False) - values) <= scale / 2 + 1e-12).sum()),
        "count",
        ("INT8-3",),
    )
    yield _by_numpy(
        "codes of eight bits",
        "two's complement runs from -128 to 127",
        2**8,
        int(np.iinfo(np.int8).max) - int(np.iinfo(np.int8).min) + 1,
        "count",
        ("INT8-1",),
    )
    finite = 2**32 - 2 * 2**23 - 1
    yield _by_numpy(
        "distinct finite numbers of fp32",
        "all codes but those of the highest exponent, the two zeros being one",
        finite,
        2 * int(np.float32(np.finfo(np.float32).max).view(np.uint32)) + 1,
        "count",
        ("INT8-1",),
    )
    generator = np.random.default_rng(0)
    gaussian = generator.normal(size=100_000)
    for outlier, claims in ((1000.0, ("INT8-7",)),):
        step = outlier / 127
        inside = int(np.abs(gaussian).max() / step + 0.5)
        yield _by_numpy(
            f"codes left to Gaussian numbers beside an outlier of {outlier:g}",
            "a scale that holds the outlier leaves few codes to the rest",
            2 * inside + 1,
            len(np.unique(np.round(gaussian / step).astype(np.int8))),
            "count",
            claims,
        )
    codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    own = decode(np.arange(256), scalar_formats()["fp8_e4m3fn"])
    yield _by_ml_dtypes(
        "codes of fp8 e4m3 within one of zero",
        "a format that hardware multiplies, with nearly half of its codes in [-1, 1]",
        int((np.abs(own) <= 1).sum()),
        int((np.abs(codes) <= 1).sum()),
        "count",
        ("INT8-5",),
    )
