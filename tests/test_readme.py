"""What the README shows works: its example, its commands, its Python."""

import re
import shlex
from pathlib import Path

import msgspec
import pytest

from docs import generate, make_images

README = (generate.ROOT / "README.md").read_text(encoding="utf-8")


def _table_commands() -> list[str]:
    return re.findall(r"^\| `(shardwise [^`]*)` \|", README, re.MULTILINE)


def _example() -> str:
    return shlex.join(["shardwise", *make_images.example_arguments()])


def test_the_example_fits_and_is_simulated() -> None:
    answer = msgspec.json.decode(generate.run_command(f"{_example()} --json"))
    assert answer["fits"] is True
    assert answer["parameters"]["total_parameters"] == 405_853_388_800
    assert answer["time"]["simulated_step_s"] == pytest.approx(answer["time"]["step_s"], rel=0.02)


# They take minutes, run until they are stopped, or look into the user's store; tests of their own start them.
RUN_ELSEWHERE = {"calibrate", "dashboard", "jobs", "validate", "worker"}


def test_the_first_command_runs_the_example() -> None:
    script = (generate.ROOT / "quickstart").read_text(encoding="utf-8")
    match = re.search(r"set -- (estimate (?:[^\n]*\\\n)*[^\n]*)", script)
    assert match is not None
    assert shlex.split(match[1].replace("\\\n", " ")) == make_images.example_arguments()


def test_the_commands_of_the_table_run_and_their_plans_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "validation").symlink_to(generate.ROOT / "validation")
    commands = _table_commands()
    assert len(commands) >= 8
    for command in commands:
        if command.split()[1] in RUN_ELSEWHERE:
            continue
        shown = generate.run_command(command)
        assert not shown.startswith("error:"), f"{command}: {shown}"
        assert "does not fit" not in shown, command
        assert shown or ">" in command
    written = {file.name for file in tmp_path.iterdir()}
    assert {"scenario.toml", "memory.html", "trace.json"} <= written


def test_every_command_of_the_program_is_in_the_table() -> None:
    known = re.findall(r"^  ([a-z-]+)  ", generate.run_command("shardwise --help"), re.MULTILINE)
    shown = {command.split()[1] for command in _table_commands()}
    assert {name for name in known if not name.startswith("-")} == shown


def test_the_python_example_prints_what_it_shows() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert generate.run_python(code, {}) == shown
    assert shown.startswith("True ")
