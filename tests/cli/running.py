"""Runs the command line in this process, as a shell would see it."""

import contextlib
import io
import sys
from typing import NamedTuple
from unittest import mock

from cli.main import main


class Result(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def run(*arguments: str, stdin: str = "") -> Result:
    """Return what a command prints and its exit code; an exception that leaves it is a defect."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["shardwise", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
    ):
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return Result(code, out.getvalue(), err.getvalue())
