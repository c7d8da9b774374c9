"""Commands that list, show, import and start descriptions."""

from pathlib import Path
from typing import Annotated

import typer

from cli.flags import AsJson, Strict, Text, flag
from cli.printing import print_json


def init(
    model: Annotated[
        str, flag("--model", "preset of a model, or a config.json", "NAME|FILE")
    ] = "llama-3.1-8b",
    cluster: Annotated[
        str, flag("--cluster", "preset and number of accelerators", "NAME:N")
    ] = "h100-sxm:8",
    precision: Annotated[
        Text, flag("--precision", "preset of a recipe; left out, one that fits", "NAME")
    ] = None,
) -> None:
    """Print a commented scenario file to start from."""
    from cli.inputs import named_model, scenario_of_text
    from cli.templates import scenario_template

    named = named_model(model)
    text = scenario_template(
        model=model,
        longest=named.max_position_embeddings,
        predicts=named.multi_token_prediction_layers > 0,
        cluster=cluster,
        precision=precision,
    )
    scenario_of_text(text, Path())
    typer.echo(text, nl=False)


def schema() -> None:
    """Print the JSON Schema of a scenario file."""
    from costmodels.leaves import SECTIONS
    from costmodels.presets import FOLDERS, preset_names
    from costmodels.specs.schema import scenario_schema

    print_json(scenario_schema(SECTIONS, {name: preset_names(name) for name in FOLDERS}))


def import_model(
    file: Annotated[
        Path, typer.Argument(metavar="CONFIG.json", help="file, - for standard input, or folder")
    ],
    name: Annotated[Text, flag("--name", "label of the model", "NAME")] = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Print the sections of a scenario file that a Hugging Face config.json describes."""
    from cli.descriptions import imported_toml
    from cli.inputs import import_file

    imported = import_file(file, name=name, strict=strict)
    if as_json:
        print_json(imported)
    else:
        typer.echo(imported_toml(imported), nl=False)


def show(
    what: Annotated[str, typer.Argument(metavar="model|accelerator|cluster|plan|precision")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="preset, or a model's config.json")],
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Print a description with the source of each value; of a model, its parameters too."""
    from cli.descriptions import described

    found = described(what, name, strict=strict)
    if as_json:
        print_json(found)
    else:
        from cli.views import show_description

        show_description(found)


def list_known(
    what: Annotated[
        str,
        typer.Argument(
            metavar="models|accelerators|clusters|plans|precisions|formats|storages|schedules|quantities"
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD...]", help="only rows that hold every word"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what scenarios can name."""
    from cli.listings import listing

    table = listing(what, words or ())
    if as_json:
        print_json(table.as_records())
    else:
        from cli.views import show_listing

        show_listing(table)
