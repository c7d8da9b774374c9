"""The command that shows a number in number formats."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import run


def test_bits_and_error_of_a_number() -> None:
    found = json.loads(run("format", "3.14", "--as", "bf16,fp16,fp8_e4m3fn", "--json").out)
    assert [entry["hexadecimal"] for entry in found] == ["0x4049", "0x4248", "0x45"]
    assert [entry["mantissa"] for entry in found] == ["1001001", "1001001000", "101"]
    assert [entry["value"] for entry in found] == [3.140625, 3.140625, 3.25]
    cut = json.loads(run("format", "3.14", "--as", "bf16", "--rounding", "truncate", "--json").out)
    assert cut[0]["hexadecimal"] == "0x4048"


def test_the_table_and_the_steps() -> None:
    out = run("format", "420.89938", "--as", "fp16,fp32,fp64,e8m0", "--steps").out
    for text in ("0x5e94", "0x43d2731f", "420.899383544921875", "65504", "step by step"):
        assert text in out


@pytest.mark.parametrize("number", ["-3.14", "-1e-8", "inf", "-inf", "nan", "0", "-0", "1e999"])
def test_any_number_is_shown(number: str) -> None:
    result = run("format", number, "--steps")
    assert (result.code, result.err) == (0, "")
    assert json.loads(run("format", number, "--json").out)


def test_libraries_and_draws_change_codes() -> None:
    def code(*options: str) -> str:
        found = json.loads(run("format", "460.1", "--as", "fp8_e4m3fn", "--json", *options).out)
        return str(found[0]["hexadecimal"])

    assert code("--library", "ml_dtypes") == "0x7e"
    assert code("--library", "torch") == "0x7e"
    assert code("--rounding", "stochastic", "--draw", "0") == "0x7f"
    assert code("--rounding", "stochastic", "--draw", "0.99") == "0x7e"


def test_a_file_adds_formats(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        "[fp5]\nexponent_bits = 2\nmantissa_bits = 2\nbias = 1\nnan = 'none'\n"
        "infinity = false\noverflow = 'saturate'\nsource = 'mine'\n",
        encoding="utf-8",
    )
    found = json.loads(run("format", "9", "--as", "fp5", "--formats", str(own), "--json").out)
    assert found[0]["value"] == 7.0
    own.write_text(own.read_text(encoding="utf-8").replace("fp5", "bf16"), encoding="utf-8")
    assert "bf16 is the name of a known format" in run("format", "9", "--formats", str(own)).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x",), "expected a number"),
        (("1", "--as", "bf17"), "did you mean 'bf16'"),
        (("1", "--as", ""), "unknown number format"),
        (("1", "--as", ",".join(["bf16"] * 101)), "names 101 formats"),
        (("1", "--rounding", "up"), "unknown --rounding 'up'"),
        (("1", "--rounding", "stochastic"), "--draw: needed"),
        (("1", "--draw", "0.5"), "--draw: needed"),
        (("1", "--rounding", "stochastic", "--draw", "1"), "must be at least 0 and below 1"),
        (("1", "--library", "jax"), "unknown library 'jax'"),
        (("1", "--as", "tf32", "--library", "torch"), "torch has no type for tf32"),
        (("1", "--formats", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    result = run("format", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


JOB = (
    "--model",
    "llama-3.1-8b",
    "--cluster",
    "h100-sxm:1",
    "--global-batch",
    "1",
    "--seq-len",
    "1k",
)


def test_the_weights_of_a_model_in_every_format(tmp_path: Path) -> None:
    plot = tmp_path / "formats.html"
    pytest.importorskip("plotly", reason="plotly is not installed: the dashboard extra")
    result = run("memory", *JOB, "--compare-formats", "--plot", str(plot))
    assert (result.code, result.err) == (0, "")
    for text in ("gguf-Q4_K_M", "4.8944", "Fewest accelerators", "rtx-4090", "measured"):
        assert text in result.out
    assert plot.stat().st_size > 1000


def test_some_formats_on_some_accelerators() -> None:
    options = ("--storages", "bf16, nf4", "--accelerators", "b200-sxm", "--distribution", "laplace")
    rates = ("--storage-rate", "1 GB/s", "--pcie-rate", "10 GB/s")
    found = json.loads(run("memory", *JOB, "--compare-formats", *options, *rates, "--json").out)
    assert [entry["name"] for entry in found["storages"]] == ["bf16", "nf4"]
    assert found["storages"][0]["storage_load_s"] == found["storages"][0]["weights_bytes"] / 1e9
    assert found["distribution"] == "laplace"
    out = run("memory", *JOB, "--compare-formats", *options).out
    assert "b200-sxm" in out
    assert "rtx-4090" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--storages", "bf16"), "--storages: needs --compare-formats"),
        (("--pcie-rate", "1 GB/s"), "--pcie-rate: needs --compare-formats"),
        (("--compare-formats", "--largest", "micro-batch"), "--largest: cannot be asked together"),
        (("--compare-formats", "--require-fit"), "--require-fit: no plan is judged"),
        (("--compare-formats", "--storages", "q4"), "unknown storage of weights 'q4'"),
        (("--compare-formats", "--distribution", "cauchy"), "unknown --distribution 'cauchy'"),
        (("--compare-formats", "--storage-rate", "fast"), "--storage-rate: cannot read"),
        (("--compare-formats", "--storage-rate", "0 GB/s"), "must be above 0"),
        (("--compare-formats", "--accelerators", "h1000"), "unknown accelerator 'h1000'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], said: str) -> None:
    result = run("memory", *JOB, *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_error_on_a_distribution() -> None:
    out = run("sqnr", "laplace", "--as", "nf4_b64,int4_sym_g32,gguf_q4_k,hqq4_g64_fp16meta").out
    assert "19.69 dB" in out
    assert out.index("gguf_q4_k") < out.index("nf4_b64") < out.index("int4_sym_g32")
    found = json.loads(run("sqnr", "--shape", "64x256", "--json").out)
    assert len(found["formats"]) > 50
    assert (found["rows"], found["columns"]) == (64, 256)


def test_error_on_the_tensor_of_a_file(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(scale=0.02, size=(64, 512)).astype(np.float32)
    np.save(tmp_path / "w.npy", matrix)
    found = json.loads(
        run("sqnr", str(tmp_path / "w.npy"), "--as", "nf4_b64,gguf_q4_k", "--json").out
    )
    first = found["formats"][0]
    assert first["name"] == "gguf_q4_k"
    assert first["tensor_sqnr_db"] is None
    assert found["formats"][1]["tensor_sqnr_db"] == pytest.approx(20.73, abs=0.1)
    assert found["kurtosis"] == pytest.approx(3, abs=0.2)
    assert "kurtosis" in run("sqnr", str(tmp_path / "w.npy"), "--as", "nf4_b64").out


def safetensors(**tensors: tuple[str, list[int], bytes]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place, data = 0, b""
    for name, (kind, shape, raw) in tensors.items():
        offsets = [place, place + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        place, data = place + len(raw), data + raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors_of_any_float(tmp_path: Path) -> None:
    numbers = np.arange(64, dtype=np.float32).reshape(2, 32)
    brain = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    file = tmp_path / "w.safetensors"
    file.write_bytes(
        safetensors(
            a=("F32", [2, 32], numbers.tobytes()),
            b=("BF16", [1, 2, 32], brain),
            c=("I32", [1], b"1234"),
            d=("F32", [2, 2], b"1234"),
        )
    )
    for name in ("a", "b"):
        found = json.loads(run("sqnr", f"{file}:{name}", "--as", "fp32", "--json").out)
        assert (found["rows"], found["columns"]) == (2, 32)
        assert found["largest"] == pytest.approx(63 / np.sqrt(np.mean(numbers**2)), rel=1e-6)
    for name, said in (("c", "holds I32"), ("d", "4 bytes for 4 numbers"), ("e", "unknown tensor")):
        assert said in run("sqnr", f"{file}:{name}", "--as", "fp32").err
    assert "several tensors" in run("sqnr", str(file), "--as", "fp32").err
    file.write_bytes(safetensors(only=("F32", [2, 32], numbers.tobytes()))[:-4])
    assert "the file ends before it" in run("sqnr", str(file), "--as", "fp32").err
    file.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    assert "is no safetensors file" in run("sqnr", str(file), "--as", "fp32").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cauchy",), "expected gaussian, laplace, uniform, or"),
        (("w.csv",), "ends with .npy or .safetensors"),
        (("nowhere.npy",), "cannot be read"),
        (("gaussian", "--shape", "4096"), "expected two whole numbers"),
        (("w.npy", "--shape", "4x4"), "has its own"),
        (("gaussian", "--as", "gguf_q4_0", "--shape", "4x10"), "a multiple of 32"),
        (("gaussian", "--as", "int9_sym_row"), "unknown number format"),
    ],
)
def test_bad_weights_are_refused(arguments: tuple[str, ...], said: str) -> None:
    result = run("sqnr", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_arrays_without_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.npy"
    for array, said in (
        (np.array(["a"]), "holds no numbers"),
        (np.array([1.0, np.inf]), "infinite or none"),
        (np.array([], dtype=np.float32), "holds no numbers"),
        (np.array([{}]), "cannot be read"),
    ):
        np.save(file, array, allow_pickle=True)
        assert said in run("sqnr", str(file), "--as", "fp32").err


def test_errors_are_followed_through_a_product_and_a_chain() -> None:
    """Noise of weights and inputs adds; sixteen layers add 12.04 dB of it."""
    asked = ("--as", "int4_sym_g128", "--inputs", "int4_sym_g128", "--layers", "16", "--json")
    found = json.loads(run("sqnr", "gaussian", *asked).out)
    (entry,) = found["formats"]
    own = entry["sqnr_db"]["gaussian"]
    assert entry["output_sqnr_db"] == pytest.approx(own - 3.01, abs=0.01)
    assert entry["chain_sqnr_db"] == pytest.approx(own - 3.01 - 12.04, abs=0.01)
    assert (found["inputs"], found["layers"]) == ("int4_sym_g128", 16)
    alone = json.loads(run("sqnr", "gaussian", "--as", "nf4_b64", "--json").out)["formats"][0]
    assert (alone["output_sqnr_db"], alone["chain_sqnr_db"]) == (None, None)
    assert run("sqnr", "gaussian", "--inputs", "nf5").code == 2
