"""`shardwise comm --groups` and `--matrix`, as a user types them."""

import json
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.simulator.witnesses import FILES

FILE, LARGE = str(FILES["interleaved"]), str(FILES["llama-405b-example"])


def printed(*arguments: str) -> str:
    result = run("comm", *arguments)
    assert (result.code, result.err) == (0, "")
    return result.out


def test_groups_say_ranks_nodes_and_links() -> None:
    out = printed(LARGE, "--groups")
    for words in ("16,384 ranks on 2,048 nodes of 8", "0 8 16 .. 1016", "across nodes"):
        assert words in out, words
    axes = json.loads(printed(LARGE, "--groups", "--json"))["axes"]
    assert [axis["axis"] for axis in axes] == ["tensor", "context", "data", "pipeline"]


def test_a_small_matrix_is_whole_and_a_large_one_its_heaviest_pairs() -> None:
    assert "Bytes from GPUs (rows) to GPUs" in printed(FILE, "--matrix")
    assert "Bytes from nodes (rows) to nodes" in printed(FILE, "--matrix", "--by", "node")
    out = printed(LARGE, "--matrix")
    for words in ("16,384 GPUs, 63,488 pairs", "Heaviest of 63,488 pairs", "busiest sender"):
        assert words in out, words


def test_pairs_and_picture_are_written(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed: the dashboard extra")
    pairs, page = tmp_path / "pairs.csv", tmp_path / "matrix.html"
    out = printed(FILE, "--matrix", "--csv", str(pairs), "--plot", str(page), "--json")
    found = json.loads(out)
    header, *lines = pairs.read_text(encoding="utf-8").splitlines()
    assert header == "source,target,sent_bytes"
    assert [float(line.split(",")[2]) for line in lines] == found["sent_bytes"]
    assert "Bytes between GPUs" in page.read_text(encoding="utf-8")


def test_one_gpu_sends_nothing() -> None:
    assert "0 pairs" in printed(str(FILES["one-gpu"]), "--matrix")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--groups", "--matrix"), "--groups --matrix: ask for one"),
        (("--by", "node"), "--by (node): says what the rows of --matrix are"),
        (("--csv", "a.csv"), "--csv (a.csv): writes the pairs of --matrix"),
        (("--matrix", "--by", "rack"), "--by (rack): must be gpu or node"),
        (("--groups", "--plot", "a.html"), "--plot (a.html): draws bytes sent, or --matrix"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: tuple[str, ...], said: str) -> None:
    result = run("comm", FILE, *options)
    assert result.code == 2
    assert result.err.startswith(f"error: {said}")
