"""The documentation is what the program says now, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from docs import generate, make_images

ROOT = generate.ROOT
WRITTEN = generate.written_pages()
PAGES = [*WRITTEN, *(generate.DOCS / name for name in generate.WHOLE_PAGES)]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_OUT_OF_DATE = "out of date: run python -m docs.generate"


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("name", generate.WHOLE_PAGES)
def test_pages_of_the_catalogue_are_up_to_date(name: str) -> None:
    written = (generate.DOCS / name).read_text(encoding="utf-8")
    assert written == generate.WHOLE_PAGES[name](), _OUT_OF_DATE


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_outputs_and_formulas_in_a_page_are_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.refreshed(text, tables=False) == text, _OUT_OF_DATE


@pytest.mark.slow
def test_computed_tables_are_up_to_date() -> None:
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        if "<!-- table: " in text:
            assert generate.refreshed(text) == text, _OUT_OF_DATE


def test_the_picture_shows_what_the_example_prints() -> None:
    svg = make_images.PICTURE.read_text(encoding="utf-8")
    shown = "".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    printed = re.sub(r"\x1b\[[0-9;]*m", "", make_images.output(make_images.example_arguments()))

    def words(text: str) -> str:
        return re.sub(r"\s|&#160;", "", text)

    assert words(printed) in words(shown), _OUT_OF_DATE


def test_the_pictures_of_schedules_are_drawn_by_the_simulator() -> None:
    for file, drawn in make_images.SCHEDULE_PICTURES.items():
        assert file.read_text(encoding="utf-8") == drawn(), _OUT_OF_DATE


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for link in _LINK.findall(_prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = (generate.DOCS / "index.md").read_text(encoding="utf-8")
    for page in generate.DOCS.rglob("*.md"):
        if page.name != "index.md":
            assert f"({page.relative_to(generate.DOCS)})" in index


def test_decisions_are_numbered_and_have_the_same_parts() -> None:
    pages = sorted((generate.DOCS / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        headings = re.findall(r"^#+ .+$", _prose(page), re.MULTILINE)
        assert headings[0].startswith(f"# {int(page.name[:4])}. ")
        assert headings[1:] == ["## Context", "## Decision", "## Consequences"]


@pytest.mark.parametrize(
    "command", ["ls", "shardwise list models | sort", "python -m cli.main --help"]
)
def test_pages_run_nothing_but_shardwise(command: str) -> None:
    with pytest.raises(ValueError, match="the documentation"):
        generate.run_command(command)


def test_a_page_that_lags_behind_is_brought_up_to_date() -> None:
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    assert generate.refreshed(page) == page.replace("3", "2")
    page = "```console\n$ shardwise --version\nan old one\n```\n"
    assert "an old one" not in generate.refreshed(page)
    formulas = "<!-- formulas: fits -->\n<!-- end -->\n"
    assert "`headroom_bytes >= 0`" in generate.refreshed(formulas)
