"""Pictures of the documentation: run ``python -m docs.make_images``.

The README's is the real output of its example; those of schedules are drawn by the simulator.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.main import app
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.units import format_fraction
from simulator.drawing import gantt_svg
from simulator.metrics import pipeline_metrics
from simulator.pipeline import simulate_pipeline
from simulator.program import ActionWork, PipelineProgram, StepEnd
from simulator.resources import FREE_LINK

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


def schedule_picture(name: str, microbatch_count: int) -> str:
    """Return a schedule of 4 GPUs as the simulator plays it: forwards of 1 s, backwards of 2 s."""
    ranks = 4
    order = SCHEDULES[ScheduleName(name)].order(
        pipeline_parallel_size=ranks, virtual_stages=1, microbatch_count=microbatch_count
    )
    none = StepEnd(
        reduction_s=0,
        reduction_last_s=0,
        overlaps_backward=False,
        reduction_bytes=0,
        optimizer_s=0,
        gather_s=0,
        gather_bytes=0,
    )
    program = PipelineProgram(
        order=order,
        forward=[ActionWork(duration_s=1, flop=0, hand_over_bytes=0)] * ranks,
        backward=[ActionWork(duration_s=2, flop=0, hand_over_bytes=0)] * ranks,
        activation_bytes=[1] * ranks,
        static_bytes=[0] * ranks,
        step_ends=[none] * ranks,
        links={(one, two): FREE_LINK for one in range(ranks) for two in range(ranks)},
    )
    trace = simulate_pipeline(program)
    idle = format_fraction(pipeline_metrics(trace).idle_fraction)
    count = f"{microbatch_count} microbatch{'es' if microbatch_count > 1 else ''}"
    return gantt_svg(trace, title=f"{name}, 4 GPUs, {count}: {idle} idle")


SCHEDULE_PICTURES: Mapping[Path, Callable[[], str]] = {
    ROOT / "docs" / "images" / f"{name}-{count}.svg": partial(schedule_picture, name, count)
    for name in ("gpipe", "1f1b")
    for count in (1, 4)
}
"""By file, how it is drawn."""


def main(arguments: Sequence[str]) -> int:
    """Write the pictures; with ``--check`` say which are out of date."""
    code = 0
    for file, drawn in {PICTURE: picture, **SCHEDULE_PICTURES}.items():
        new = drawn()
        if file.exists() and file.read_text(encoding="utf-8") == new:
            continue
        sys.stdout.write(f"{file.relative_to(ROOT)}\n")
        if "--check" in arguments:
            code = 1
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(new, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
