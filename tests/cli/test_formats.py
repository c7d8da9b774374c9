"""The command that shows a number in number formats."""

import json
from pathlib import Path

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
