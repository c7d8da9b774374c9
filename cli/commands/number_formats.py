"""Commands about number formats: one number in them, and the error of weights."""

from pathlib import Path
from typing import Annotated

import typer

from cli.flags import AsJson, Text, flag
from cli.printing import print_json


def number_format(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="such as 3.14, -1e-8, inf")],
    formats: Annotated[
        str, flag("--as", "formats (see: shardwise list formats)", "NAME,NAME")
    ] = "fp32,bf16,fp16,fp8_e4m3fn,fp8_e5m2",
    library: Annotated[
        Text, flag("--library", "whose casts: torch or ml_dtypes; else as specified", "NAME")
    ] = None,
    rounding: Annotated[
        Text, flag("--rounding", "nearest-even, truncate or stochastic", "NAME")
    ] = None,
    draw: Annotated[
        float | None,
        typer.Option("--draw", metavar="U", help="number from 0 to 1 for stochastic rounding"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--formats", metavar="FILE.toml", help="file that describes more formats"),
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="show the conversion worked by hand")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a number in number formats: bits, code, value, error, neighbours, range."""
    from cli.formats import explained, show_formats

    found = explained(number, formats, library=library, rounding=rounding, draw=draw, file=file)
    if as_json:
        print_json(found)
    else:
        show_formats(found, steps=steps)


def sqnr(
    on: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="gaussian, laplace, uniform, FILE.npy or FILE.safetensors[:TENSOR]",
        ),
    ] = "gaussian",
    formats: Annotated[
        Text, flag("--as", "formats; left out, all that have a known error", "NAME,NAME")
    ] = None,
    shape: Annotated[
        Text, flag("--shape", "outputs and inputs of a matrix, 4096x4096", "NxK")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--formats", metavar="FILE.toml", help="file that describes more formats"),
    ] = None,
    inputs: Annotated[
        Text, flag("--inputs", "format of the products' inputs: the error of outputs", "NAME")
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="layers in a chain: the error behind them"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare formats by bits per weight and by their error, expected or on a given tensor."""
    from cli.format_error import Chain, errors, show_errors

    chain = Chain(inputs, layers)
    found = errors(on, formats=formats, shape=shape, file=file, chain=chain)
    if as_json:
        print_json(found)
    else:
        show_errors(found)
