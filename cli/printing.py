"""Answers as JSON and as figures."""

from pathlib import Path
from typing import Any

import typer


def json_text(value: Any) -> str:
    """Return an answer as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def print_json(value: Any) -> None:
    """Print an answer as indented JSON."""
    typer.echo(json_text(value))


def write_figure(file: Path, figure: Any) -> None:
    """Write a figure as a page that needs no network."""
    from cli.inputs import write_text

    write_text(file, figure.to_html(include_plotlyjs=True, full_html=True))
