"""Bytes of matrices in every format, and the numbers that come back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.errors import NotModelledError, SpecError
from costmodels.number_formats.elements import largest_exponent, levels
from costmodels.number_formats.ggml import BLOCKS_WITH_A_FORMULA, block_bytes
from costmodels.number_formats.layouts import (
    StoredFormat,
    formats_of_text,
    integer_bits,
    stored_format,
    stored_formats,
)
from costmodels.number_formats.quantizers import is_quantizable, quantized, sqnr_db

FORMATS = stored_formats()
QUANTIZABLE = sorted(name for name, entry in FORMATS.items() if is_quantizable(entry))
N, K = 512, 4096

# Bits of a weight of an N x K matrix, worked from the layouts.
PUBLISHED = {
    "fp32": 32,
    "bf16": 16,
    "fp8_e4m3fn": 8,
    "mxfp8_e4m3": 8.25,
    "mxfp6_e3m2": 6.25,
    "mxfp6_e2m3_bytes": 8.25,
    "mxfp4": 4.25,
    "nvfp4": 4.5 + 32 / (N * K),
    "fp8_e4m3_tensor": 8 + 32 / (N * K),
    "fp8_e4m3_row": 8 + 32 / K,
    "fp8_block128x128": 8.001953125,
    "int8_per_tensor": 8 + 64 / (N * K),
    "int8_per_channel_sym": 8 + 32 / K,
    "int8_per_channel_torchao": 8 + 40 / K,
    "int8_per_channel_torch_legacy": 8 + 128 / K,
    "llm_int8": 8 + 32 / K,
    "awq_int4_g128": 4.15625,
    "gptq_int4_g128": 4.15625 + 32 / N,
    "w4a16_sym_g128": 4.125,
    "int4_tinygemm_g32": 5.0,
    "int4_tinygemm_g128": 4.25,
    "nf4_b64": 4.5,
    "nf4_b64_dq": 4.126953125 + 32 / (N * K),
    "bnb_blockwise8_b256": 8.125,
    "hqq4_g64_fp16meta": 4.5,
    "quanto_qint4_g128": 4.5,
    "ternary_2bit": 2 + 32 / (N * K),
    "int4_sym_g32": 4.5,
    "int4_affine_g128": 4 + 24 / 128,
    "gguf_q4_k": 4.5,
    "gguf_q6_k": 6.5625,
    "gguf_iq1_s": 1.5625,
    "gguf_iq3_xxs": 3.0625,
    "gguf_tq1_0": 1.6875,
    "gguf_mxfp4": 4.25,
    "gguf_nvfp4": 4.5,
    "gguf_q1_0": 1.125,
}


@pytest.mark.parametrize(("name", "bits"), PUBLISHED.items())
def test_bits_of_a_weight(name: str, bits: float) -> None:
    assert stored_format(name).bits_per_weight(N, K) == pytest.approx(bits, rel=1e-12)


def test_ten_codes_of_three_bits_stand_in_a_word() -> None:
    assert stored_format("hqq3_g64_fp16meta").bits_per_weight(640, 640) == pytest.approx(3.7)
    assert stored_format("ternary_5per_byte").bits_per_weight(500, 500) == pytest.approx(
        1.6, rel=1e-3
    )


def test_partial_blocks_are_rounded_up() -> None:
    parts = stored_format("nf4_b64_dq").part_bytes(7, 9)
    assert list(parts.values()) == [32, 1, 4, 4]
    assert stored_format("nf4_b64_dq").tensor_bytes(7, 9) == 41
    assert stored_format("awq_int4_g128").part_bytes(7, 130) == {
        "codes": 130 * 4,
        "zero points": 2 * 4,
        "scales": 2 * 7 * 2,
    }


def test_ideal_bits_leave_out_words_and_what_is_not_needed() -> None:
    narrow = stored_format("fp6_e2m3")
    assert (narrow.ideal_bits(4, 4), 8 * narrow.tensor_bytes(4, 4)) == (6 * 16, 8 * 16)
    with_index = stored_format("gptq_int4_g128")
    stored, ideal = 8 * with_index.tensor_bytes(64, 128), with_index.ideal_bits(64, 128)
    assert stored - ideal == 32 * 128


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(max_examples=10)
@given(rows=st.integers(1, 3000), columns=st.integers(1, 3000), count=st.integers(1, 9))
def test_bytes_hold_what_is_needed(name: str, rows: int, columns: int, count: int) -> None:
    stored = FORMATS[name]
    size = stored.tensor_bytes(rows, columns)
    assert 8 * size >= stored.ideal_bits(rows, columns)
    assert size == sum(stored.part_bytes(rows, columns).values())
    assert stored.tensor_bytes(rows, columns, count) == count * size
    assert stored.tensor_bytes(rows + 1, columns) >= size
    columns_of = stored.tensor_bytes(np.array([rows, 2 * rows]), np.array([columns, columns]))
    assert columns_of.tolist() == [size, stored.tensor_bytes(2 * rows, columns)]


def test_every_format_says_what_it_is() -> None:
    for stored in FORMATS.values():
        assert stored.description
        assert stored.library
        assert stored.source
    assert not FORMATS["tf32"].storable
    assert "bits a weight" in FORMATS["mxfp4"].description


@pytest.mark.parametrize(
    "name", ["int9_sym_row", "int4_sym_g0", "int4_both_row", "int4_sym_column", "q4_0"]
)
def test_an_unknown_format_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="unknown number format"):
        stored_format(name)


def test_a_format_of_ones_own() -> None:
    text = """
    [mine]
    element = "int4"
    scaling = "absmax"
    block = [1, 16]
    library = "mine"
    source = "mine"
    parts = [{ name = "codes", bits = 4 }, { name = "scales", bits = 8, columns = 16 }]

    [fp5]
    exponent_bits = 2
    mantissa_bits = 2
    bias = 1
    nan = "none"
    infinity = false
    overflow = "saturate"
    source = "mine"
    """
    own = formats_of_text(text, where_from="own.toml")
    assert stored_format("mine", own).bits_per_weight(16, 64) == 4.5
    assert stored_format("fp5", own).bits_per_weight(16, 64) == 8
    for broken in ("[", "[a]\nparts = 3", "[a]\nparts = []\nlibrary = 'x'\nsource = 'x'", "x = 1"):
        with pytest.raises(SpecError, match=r"^own.toml"):
            formats_of_text(broken, where_from="own.toml")


def drawn(rows: int, columns: int) -> Any:
    return np.random.default_rng(5).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize("name", QUANTIZABLE)
def test_numbers_come_back_in_their_shape_and_near(name: str) -> None:
    matrix = drawn(48, 512)
    held = quantized(matrix, FORMATS[name])
    assert held.shape == matrix.shape
    assert held.dtype == np.float32
    least = {"e8m0": -3.0, "gguf_tq1_0": 1.0, "gguf_tq2_0": 1.0, "fp8_e4m3b11fnuz": 20.0}
    if name != "e8m0":
        assert sqnr_db(matrix, held) > least.get(name, 5.0)


@pytest.mark.parametrize("name", sorted(set(QUANTIZABLE) - {"e8m0"}))
def test_zeros_stay_zeros_whatever_the_shape(name: str) -> None:
    for shape in ((1, 1), (3, 70), (130, 130)):
        assert not quantized(np.zeros(shape, dtype=np.float32), FORMATS[name]).any()


@pytest.mark.parametrize("name", ["int8_per_channel_sym", "mxfp4", "nf4_b64", "mxfp8_e4m3"])
def test_what_is_held_is_held_again(name: str) -> None:
    once = quantized(drawn(16, 256), FORMATS[name])
    assert quantized(once, FORMATS[name]) == pytest.approx(once, rel=1e-6)


def test_a_wider_block_or_fewer_bits_are_worse() -> None:
    matrix = drawn(64, 1024)

    def ratio(name: str) -> float:
        return sqnr_db(matrix, quantized(matrix, stored_format(name)))

    groups = [ratio(f"int4_sym_{over}") for over in ("g32", "g128", "row", "tensor")]
    assert groups == sorted(groups, reverse=True)
    bits = [ratio(f"int{count}_sym_g64") for count in range(2, 9)]
    assert bits == sorted(bits)
    assert sqnr_db(matrix, matrix) == float("inf")


def test_search_has_no_formula() -> None:
    for name in ("gguf_q4_k", "hqq4_g64_fp16meta", "gguf_i8"):
        assert not is_quantizable(stored_format(name))
        with pytest.raises(NotModelledError, match="found by search"):
            quantized(drawn(1, 256), stored_format(name))


def test_elements() -> None:
    assert levels("int4").tolist() == list(range(-7, 8))
    assert levels("uint3").tolist() == list(range(8))
    assert levels("fp4_e2m1")[-3:].tolist() == [3, 4, 6]
    assert levels("nf4").size == 16
    dynamic = levels("dynamic8")
    assert (dynamic.size, dynamic[-1], dynamic[0]) == (256, 1.0, pytest.approx(-0.99296875))
    assert (largest_exponent("fp8_e4m3fn"), largest_exponent("fp8_e5m2")) == (8, 15)
    for wrong in ("int1", "fp3"):
        with pytest.raises(SpecError):
            levels(wrong)
    with pytest.raises(SpecError, match="expected int2 to int8"):
        integer_bits("fp4_e2m1")


def test_blocks_that_do_not_divide_a_row_are_refused() -> None:
    assert block_bytes(drawn(3, 64), "q4_0").shape == (3, 36)
    with pytest.raises(SpecError, match="no whole number of blocks of 32"):
        block_bytes(drawn(3, 60), "q4_0")
    with pytest.raises(SpecError, match="unknown GGUF block"):
        block_bytes(drawn(3, 256), "q4_k")


@pytest.mark.parametrize("name", BLOCKS_WITH_A_FORMULA)
def test_blocks_take_their_bytes(name: str) -> None:
    packed = block_bytes(drawn(5, 512), name)
    assert packed.size == stored_format(f"gguf_{name}").tensor_bytes(5, 512)


def test_q4_0_by_hand() -> None:
    row = np.zeros((1, 32), dtype=np.float32)
    row[0, 0], row[0, 1], row[0, 16] = -8.0, 4.0, 7.0
    packed = block_bytes(row, "q4_0")[0]
    assert packed[:2].view(np.float16)[0] == 1.0
    assert packed[2] == 0 | 15 << 4
    assert packed[3] == 12 | 8 << 4


def test_a_stored_format_needs_its_fields() -> None:
    with pytest.raises(TypeError):
        StoredFormat(name="x", library="x", source="x")  # type: ignore[call-arg]
