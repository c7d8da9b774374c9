"""The picture of the README: the real output of its example. Run ``python -m docs.make_images``."""

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.main import app

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "estimate.svg"
WIDTH = 116
_END = "What this rests on"


class _Terminal(io.StringIO):
    """Text that passes for a terminal, so that the command prints as it does for people."""

    def isatty(self) -> bool:
        return True


def example_arguments() -> list[str]:
    """Return the arguments of the README's example, without the program's name."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^(?:\$ )?shardwise (estimate (?:[^\n]*\\\n)*[^\n]*)", text, re.MULTILINE)
    if found is None:
        raise ValueError("README.md has no example that starts with 'shardwise estimate'")
    return shlex.split(found[1].replace("\\\n", " "))


def output(arguments: Sequence[str]) -> str:
    """Return what a command prints on a terminal, with its colours, up to what it rests on."""
    terminal = _Terminal()
    given = {name: os.environ.get(name) for name in ("COLUMNS", "TERM", "NO_COLOR")}
    os.environ.update({"COLUMNS": str(WIDTH), "TERM": "xterm-256color"})
    os.environ.pop("NO_COLOR", None)
    try:
        with contextlib.redirect_stdout(terminal):
            app(list(arguments), standalone_mode=False)
    finally:
        for name, value in given.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    lines = terminal.getvalue().splitlines()
    shown = next((n for n, line in enumerate(lines) if _END in line), len(lines))
    return "\n".join(lines[:shown])


def picture() -> str:
    """Return the picture as SVG."""
    recorder = Console(width=WIDTH, record=True, file=io.StringIO(), highlight=False)
    recorder.print(Text.from_ansi(output(example_arguments())))
    svg = recorder.export_svg(title="shardwise estimate", unique_id="estimate")
    # The reader's own font, in place of one from the network; each text states its length.
    svg = re.sub(r"@font-face \{.*?\n    \}\n", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "DejaVu Sans Mono") + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the picture; with ``--check`` say whether it is out of date."""
    new = picture()
    if PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == new:
        return 0
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}\n")
    if "--check" in arguments:
        return 1
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
