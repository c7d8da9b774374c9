"""Commands about one layer without a scenario: linear layers and attention."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.attention_flags import describes_attention, given_options
from cli.flags import AsJson, flag
from cli.printing import print_json, write_figure


def linear(
    input_size: Annotated[str, flag("--in", "inputs: rows of the matrix")],
    output_size: Annotated[str, flag("--out", "outputs: columns of the matrix")],
    token_count: Annotated[str, flag("--tokens", "rows of the input, 8k")],
    rank_count: Annotated[str, flag("--tp", "ranks that share the layer")],
    element_bytes: Annotated[str, flag("--bytes", "bytes of an element")] = "2",
    has_bias: Annotated[
        bool, typer.Option("--bias/--no-bias", help="whether the layer adds a bias")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Account for one linear layer on several ranks, split by columns and by rows."""
    from cli.linear import read_layer, show_linear
    from simulator.linear import linear_account

    sizes = {
        "input_size": ("--in", input_size),
        "output_size": ("--out", output_size),
        "token_count": ("--tokens", token_count),
        "rank_count": ("--tp", rank_count),
        "element_bytes": ("--bytes", element_bytes),
    }
    account = linear_account(read_layer(sizes, has_bias=has_bias))
    if as_json:
        print_json(account)
    else:
        show_linear(account)


@describes_attention
def attention(
    context: typer.Context,
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases", metavar="CASES.json", help="a list of objects of these options, all answered"
        ),
    ] = None,
    pattern: Annotated[
        bool, typer.Option("--pattern", help="draw who attends whom at the first length, up to 128")
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print comma-separated values")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="OUT.html", help="also draw work, state, reach, or the pattern"
        ),
    ] = None,
) -> None:
    """Compare attention layouts by length: work, state, traffic and reach beside dense attention."""
    from cli import attention as views
    from cli.inputs import check_figure

    check_figure("--plot", plot)
    question = views.asked(given_options(context.params), cases)
    if plot:
        write_figure(plot, _attention_figure(question, pattern=pattern))
    if as_json:
        typer.echo(views.json_of(question))
    elif as_csv:
        typer.echo(views.csv_of(question), nl=False)
    elif pattern:
        views.show_pattern(question)
    else:
        views.show_attention(question)


def _attention_figure(question: Any, *, pattern: bool) -> Any:
    from cli.attention import drawn_answers, drawn_patterns
    from dashboard.figures import attention as figures

    if pattern:
        return figures.who_attends_whom(drawn_patterns(question))
    return figures.against_length(drawn_answers(question))
