"""`shardwise attention`: sizes in, the closed forms' numbers out, in every form."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.attention_flags import SIZES, TRUTHS
from simulator.attention_cases import OWN, PRESETS, AttentionCase
from tests.cli.running import run


def answers(*arguments: str) -> list[dict[str, Any]]:
    result = run("attention", *arguments, "--json")
    assert result.err == ""
    assert result.code == 0
    found: list[dict[str, Any]] = json.loads(result.out)["answers"]
    return found


def refused(*arguments: str) -> str:
    result = run("attention", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    return result.err


def test_every_size_of_a_case_is_an_option() -> None:
    assert [*SIZES, *TRUTHS] == sorted([*SIZES, *TRUTHS], key=[*SIZES, *TRUTHS].index)
    assert {*SIZES, *TRUTHS} == set(AttentionCase.__struct_fields__)


def test_the_longnet_paper_at_32k() -> None:
    (answer,) = answers("--layout", "longnet-paper", "--seq-len", "32k")
    assert answer["executed_forward_flop"] == 429_496_731_648
    assert answer["executed_backward_flop"] == 2 * 429_496_731_648
    assert answer["ideal_forward_flop"] == 214_849_029_120
    (padded,) = answers("--layout", "longnet-paper", "--seq-len", "32k", "--padded")
    assert padded["executed_forward_flop"] == 429_513_507_840


def test_counts_beyond_64_bits_keep_all_their_digits() -> None:
    (answer,) = answers("--layout", "dense", "--seq-len", "1B", "--heads", "32")
    assert answer["executed_forward_flop"] == 2 * (128 + 128) * 32 * 2**60


def test_the_memory_of_the_notes_after_each_segment() -> None:
    """32k segments over 1M and 10M tokens: 32 and 320 steps, one memory of d (d + 1) scalars."""
    short, long = answers("--layout", "notes-infini")
    assert (len(short["memory_steps"]), len(long["memory_steps"])) == (32, 320)
    steps = long["memory_steps"]
    assert {step["memory_bytes"] for step in steps} == {8 * 128 * 129 * 4}
    assert len({step["segment_flop"] for step in steps[1:]}) == 1
    assert steps[-1]["tokens"] == long["sequence_length"] == 10 * 2**20
    assert steps[-1]["total_flop"] > long["executed_forward_flop"] - steps[1]["segment_flop"]


def test_layers_of_the_notes_dilations_reach_far_with_holes() -> None:
    first, second, third = answers("--layout", "notes-dilated", "--seq-len", "1M")
    assert [first["layer_index"], second["layer_index"], third["layer_index"]] == [0, 1, 2]
    assert third["span_tokens"] == 597_725
    assert third["reached_tokens"] == 593_632
    assert (
        third["state_bytes"]
        == 4 * sum(min(2**20, 2047 * rate + 1) for rate in (64, 128, 256)) * (64 + 64) * 2
    )


def test_a_file_answers_many_cases(tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    cases = [
        {"layout": "sliding", "window": 4096, "seq_len": 32768, "heads": 1},
        {"layout": "infini", "segment": "2k", "seq_len": ["1M"], "update": "delta"},
        {"layout": "dilated", "segments": [4, 8], "dilations": [1, 2], "seq_len": 8, "heads": 2},
    ]
    file.write_text(json.dumps(cases))
    first, second, third = answers("--cases", str(file))
    assert first["attended_pairs"] == 125_831_168
    assert second["options"]["segment"] == 2048
    assert f"{second['executed_forward_flop']:.2e}" == "9.62e+12"
    assert third["unique_pairs"] < third["attended_pairs"]
    assert answers("--cases", str(file), "--batch", "2")[0]["attended_pairs"] == 2 * 125_831_168


def test_values_separated_by_commas_are_those_of_json() -> None:
    options = ("--layout", "sliding,latent", "--seq-len", "1k,1B", "--ranks", "4")
    rows = list(csv.DictReader(io.StringIO(run("attention", *options, "--csv").out)))
    found = answers(*options)
    assert len(rows) == len(found) == 4
    for row, answer in zip(rows, found, strict=True):
        assert int(row["executed_forward_flop"]) == answer["executed_forward_flop"]
        assert int(row["state_bytes"]) == answer["state_bytes"]


@pytest.mark.parametrize("layout", [*OWN, *PRESETS])
def test_every_layout_has_a_table_and_json(layout: str) -> None:
    lengths = ("--seq-len", "100,32k,1B")
    out = run("attention", "--layout", layout, *lengths).out
    assert layout in out
    assert "1,073,741,824" in out
    for answer in answers("--layout", layout, *lengths):
        assert answer["executed_forward_flop"] >= 0
        assert answer["attended_pairs"] > 0
        assert answer["state_bytes"] > 0
        assert answer["decode_flop"] > 0
        assert answer["decode_flop_per_byte"] > 0


def test_each_option_of_a_layout_changes_its_answer() -> None:
    """Nothing that can be said goes unheard."""
    other: dict[str, Any] = {
        "causal": False,
        "padded": True,
        "first_read": True,
        "last_update": True,
        "decayed": True,
        "normalized": False,
        "absorbed": True,
        "offsets": "grouped",
        "reading": "residue",
        "update": "delta",
        "kv_heads": 4,
        "ranks": 2,
        "layers": 3,
        "queries": 5,
        "tile": 16,
        "sink_tokens": 3,
        "window": 9,
        "keys": 6,
        "hidden_size": 24,
        "compression_rate": 2,
        "segment": 8,
        "memory_tokens": 32,
        "seq_len": 512,
        "segments": [16, 32, 128],
        "dilations": [1, 2, 4],
        "chunk": 12,
        "heads": 16,
    }
    base: dict[str, dict[str, Any]] = {
        "dilated": {"segments": [16, 32, 64], "dilations": [1, 2, 5]},
        "dilated-heads": {"dilations": [[1, 2, 3]], "keys": 5},
        "infini": {"segment": 16},
        "compressive": {"segment": 16, "memory_tokens": 16, "compressed_tokens": 8},
        "sliding": {"window": 20},
        "chunked": {"chunk": 20},
    }
    from simulator.attention import answers_of
    from simulator.attention_cases import attention_cases, options_of

    for layout in OWN:
        table = {"layout": layout, "seq_len": 256, **base.get(layout, {})}
        plain = [msgspec.to_builtins(each) for each in answers_of(attention_cases(table))]
        for option in options_of(layout):
            changed = {**table, option: other.get(option, 32)}
            if layout == "dilated-heads" and option in ("segments", "reading"):
                changed |= {"segments": [16, 32, 64], "reading": "segment"}
            if layout == "dilated" and option == "ranks":
                changed |= {"dilations": [1, 2, 4]}
            found = [msgspec.to_builtins(each) for each in answers_of(attention_cases(changed))]
            for answer in (*plain, *found):
                answer["options"] = {}
            assert found != plain, (layout, option)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layout", "slidng"), "did you mean 'sliding'"),
        (("--window", "3"), "window: dense attention has no such option"),
        (("--heads", "6", "--kv-heads", "4"), "multiple of kv_heads (4)"),
        (("--seq-len", "0"), "seq_len (0): must be from 1"),
        (("--seq-len", "1.5"), "whole number"),
        (("--seq-len", "many"), "cannot read 'many'"),
        (("--seq-len", "10", "--ranks", "4"), "multiple of ranks (4)"),
        (("--layout", "dilated", "--segments", "4,8", "--dilations", "1"), "as many as dilations"),
        (("--layout", "dilated-heads", "--segments", "4"), "need reading"),
        (("--layout", "infini", "--update", "none"), "one of linear, delta"),
        (("--layout", "compressive", "--segment", "6"), "multiple of compression_rate"),
        (("--queries", "9", "--seq-len", "8"), "at most seq_len (8)"),
        (("--tile", "128", "--no-causal"), "needs causal"),
        (("--pattern",), "at most 128 tokens"),
        (("--cases", "missing.json"), "missing.json"),
    ],
)
def test_wrong_options_are_refused_by_name(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


def test_a_wrong_case_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    file.write_text('[{"layout": "dense"}, {"layout": "dense", "heds": 3}]')
    assert "case 2: heds: is no option" in refused("--cases", str(file))
    file.write_text('{"layout": "dense"}')
    assert "must be a list" in refused("--cases", str(file))
    file.write_text("[")
    assert "is no JSON" in refused("--cases", str(file))


def test_a_pattern_is_drawn_with_a_mark_for_each_pair() -> None:
    out = run(
        "attention", "--layout", "sliding", "--window", "2", "--seq-len", "4", "--pattern"
    ).out
    assert out.splitlines()[1:] == ["#...", "##..", ".##.", "..##"]
    options = ("--layout", "dilated", "--segments", "4,8", "--dilations", "1,2", "--heads", "2")
    drawn = run("attention", *options, "--seq-len", "8", "--pattern").out
    (answer,) = answers(*options, "--seq-len", "8")
    lines = [line for line in drawn.splitlines() if "heads" not in line]
    marks = "".join(lines)
    assert marks.count("#") + 2 * marks.count("2") == answer["attended_pairs"]


def test_figures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    for number, more in enumerate(((), ("--seq-len", "16", "--pattern"))):
        file = tmp_path / f"{number}.html"
        result = run("attention", "--layout", "longnet-paper", *more, "--plot", str(file))
        assert result.code == 0
        assert "plotly" in file.read_text(encoding="utf-8")
