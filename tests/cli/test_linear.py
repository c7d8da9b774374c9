"""The command `shardwise linear`."""

import json

import pytest

from tests.cli.running import run

LAYER = ("linear", "--in", "4096", "--out", "11008", "--tokens", "2k", "--tp", "3")


def test_both_splits_are_shown() -> None:
    result = run(*LAYER)
    assert (result.code, result.err) == (0, "")
    for text in ("better: by column", "4,096 x 3,668", "all-gather (ring)", "addition"):
        assert text in result.out


def test_json_holds_the_same_numbers() -> None:
    account = json.loads(run(*LAYER, "--no-bias", "--json").out)
    assert account["token_count"] == 2048
    assert [rank["output_size"] for rank in account["column"]["ranks"]] == [3670, 3670, 3668]
    assert {rank["bias_bytes"] for rank in account["row"]["ranks"]} == {0}


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--tp", "0", "--tp: rank_count (0): must be from 1 to 65,536"),
        ("--bytes", "16", "--bytes: element_bytes (16): must be from 1 to 8"),
        ("--in", "many", "--in: "),
        ("--out", "2.5", "--out (2.5): must be a whole number"),
    ],
)
def test_bad_sizes_are_refused_by_flag(flag: str, value: str, said: str) -> None:
    result = run(*LAYER, flag, value)
    assert result.code == 2
    assert result.err.startswith(f"error: {said}")
