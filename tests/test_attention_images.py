"""Pictures of the page on attention are those that its command draws."""

from docs.make_attention_images import FOLDER, PICTURES


def test_pictures_of_patterns_and_growth_are_up_to_date() -> None:
    for name in ("attention-patterns.svg", "attention-growth.svg"):
        assert (FOLDER / name).read_text(encoding="utf-8") == PICTURES[name]()


def test_there_is_a_picture_for_each_name() -> None:
    assert {path.name for path in FOLDER.glob("attention-*.svg")} == set(PICTURES)
