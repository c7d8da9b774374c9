"""The command `shardwise`: what a training run takes, before anyone rents a GPU."""

import sys
from typing import Annotated

import typer

from cli.commands import (
    descriptions,
    layers,
    measurements,
    number_formats,
    pipelines,
    plans,
    server,
)
from cli.exits import BAD_INPUT, INTERRUPTED
from costmodels.errors import ShardwiseError
from costmodels.version import VERSION

app = typer.Typer(
    name="shardwise",
    help="Predict memory, time, traffic, cost and energy of training a large language model.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# In the order of `shardwise --help`.
app.command()(plans.estimate)
app.command()(server.dashboard)
app.command()(server.worker)
app.command()(server.jobs)
app.command()(plans.memory)
app.command()(plans.comm)
app.command()(plans.flops)
app.command()(plans.inference)
app.command()(layers.linear)
app.command()(layers.attention)
app.command()(pipelines.simulate)
app.command()(pipelines.schedules)
app.command("what-if")(plans.what_if)
app.command()(plans.explain)
app.command()(descriptions.init)
app.command("format", context_settings={"ignore_unknown_options": True})(
    number_formats.number_format
)
app.command()(number_formats.sqnr)
app.command()(descriptions.schema)
app.command("import-model")(descriptions.import_model)
app.command()(descriptions.show)
app.command()(measurements.validate)
app.command()(measurements.calibrate)
app.command("list")(descriptions.list_known)


def _version(*, value: bool) -> None:
    if value:
        typer.echo(f"shardwise {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="print the version",
            is_eager=True,
            callback=lambda value: _version(value=value),
        ),
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# Click's error of wrong options and arguments, which Typer shows under other names by version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except (ShardwiseError, _UsageError) as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        typer.echo(f"error: {' '.join(said.split())}", err=True)
        sys.exit(BAD_INPUT)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.exit(code)


if __name__ == "__main__":
    main()
