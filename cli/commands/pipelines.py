"""Commands that play a step in the event simulator, and compare schedules."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import DOES_NOT_FIT
from cli.flags import (
    AsJson,
    IgnoreMemory,
    OptionalFile,
    OrderFile,
    RequireFit,
    Settings,
    Strict,
    describes_scenario,
)
from cli.printing import json_text, print_json, write_figure


@describes_scenario
def simulate(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    order: OrderFile = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="OUT.json", help="write a trace for Perfetto or Chrome"),
    ] = None,
    gantt: Annotated[
        Path | None,
        typer.Option("--gantt", metavar="OUT.html|OUT.svg", help="draw the schedule"),
    ] = None,
    contention: Annotated[
        bool,
        typer.Option("--contention", help="also play the step on links that its traffic shares"),
    ] = False,
    nics_per_node: Annotated[
        int | None,
        typer.Option(
            "--nics-per-node",
            metavar="N",
            help="network cards that GPUs of a node share evenly; its bandwidth stays",
        ),
    ] = None,
    pcie: Annotated[
        str | None,
        typer.Option("--pcie", metavar="RATE", help="from a GPU to its network card: 64 GB/s"),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option("--jitter", metavar="FRACTION", help="standard deviation of an action's time"),
    ] = 0.0,
    stragglers: Annotated[
        list[str] | None,
        typer.Option("--straggler", metavar="RANK=FACTOR", help="a rank that is slower"),
    ] = None,
    scales: Annotated[
        str | None,
        typer.Option(
            "--microbatch-sizes",
            metavar="S,S,...",
            help="tokens of each microbatch over the mean (average 1)",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="of the jitter")] = 0,
    strict: Strict = False,
    ignore_memory: IgnoreMemory = False,
    require_fit: RequireFit = False,
    as_json: AsJson = False,
) -> None:
    """Play one step of one replica in the event simulator: spans, idle time, a trace."""
    from cli.inputs import check_drawing, read_order, read_scenario
    from cli.simulations import read_sharing, read_variation
    from simulator import whatif

    check_drawing("--gantt", gantt)
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    variation = read_variation(jitter, stragglers or (), scales, seed)
    sharing = read_sharing(nics_per_node, pcie, contention=contention)
    whatif.refuse_options(described, variation, sharing)
    given = read_order(order)
    verdict = whatif.verdict(described, order=given)
    shown = verdict.fits or ignore_memory
    played = whatif.simulate(described, variation, order=given) if shown else None
    contended = None
    if shown and contention:
        contended = whatif.contention(described, sharing, variation, order=given)
    if played is not None:
        _write_simulation(played, trace, gantt)
    elif trace or gantt:
        files = " and ".join(str(file) for file in (trace, gantt) if file)
        typer.echo(f"not written: {files}, since the plan does not fit", err=True)
    if as_json:
        print_json(_simulation_object(verdict, played, contended, given))
    else:
        from cli.simulations import show_order_used, show_simulation

        show_order_used(described, given)
        show_simulation(verdict, played, contended)
    if require_fit and not verdict.fits:
        raise typer.Exit(DOES_NOT_FIT)


def _simulation_object(verdict: Any, played: Any, contended: Any, given: Any) -> dict[str, Any]:
    import msgspec

    from cli.simulations import contention_object, simulation_object

    found = msgspec.to_builtins(verdict) | simulation_object(played)
    return (
        dict(found)
        | ({} if given is None else {"order": given.name})
        | ({} if contended is None else contention_object(contended))
    )


def _write_simulation(played: Any, trace: Path | None, gantt: Path | None) -> None:
    from cli.inputs import write_text
    from simulator.trace import chrome_trace

    if trace:
        write_text(trace, json_text(chrome_trace(played.trace)))
    if gantt and gantt.suffix.lower() == ".svg":
        from simulator.drawing import gantt_svg

        write_text(gantt, gantt_svg(played.trace))
    elif gantt:
        from dashboard.figures import pipeline

        write_figure(gantt, pipeline.gantt(played.trace))


@describes_scenario
def schedules(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    equal: Annotated[
        str,
        typer.Option("--equal", metavar="devices|copies|memory", help="what all must share"),
    ] = "devices",
    show: Annotated[
        str | None, typer.Option("--show", metavar="NAME", help="print the order of a schedule")
    ] = None,
    ranks: Annotated[
        int, typer.Option("-p", min=1, help="with --show or --search: pipeline ranks")
    ] = 4,
    chunks: Annotated[
        int | None, typer.Option("-v", min=1, help="with --show: chunks on each rank")
    ] = None,
    microbatches: Annotated[
        int, typer.Option("-m", min=1, help="with --show or --search: microbatches")
    ] = 8,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="OUT.csv", help="with --show or --search: write it in torch's format"
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="F,I,W[,HOP]",
            help="search an order for these times of a stage's forward, input gradient, weight "
            "gradient and hand-over, in any one unit",
        ),
    ] = None,
    held_limit: Annotated[
        int | None,
        typer.Option(
            "--held-limit",
            min=1,
            help="with --search: microbatches that a rank may hold; left out, the pipeline ranks",
        ),
    ] = None,
    order: OrderFile = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare all pipeline schedules for a scenario, show one, or search one for given times."""
    from cli import schedules as views
    from cli.inputs import states_scenario

    described = True if states_scenario(scenario, context.params, settings) else None
    if [show, described, search].count(None) != 2:
        raise typer.BadParameter(
            "give one of a scenario to compare schedules for, --show NAME or --search F,I,W[,HOP]"
        )
    if order is not None and described is None:
        raise typer.BadParameter("--order needs a scenario to compare schedules for")
    if held_limit is not None and search is None:
        raise typer.BadParameter("--held-limit needs --search F,I,W[,HOP]")
    if search is not None:
        if chunks not in (None, 1):
            raise typer.BadParameter(f"-v {chunks}: --search has one chunk on each rank")
        views.show_search(
            search, ranks=ranks, microbatches=microbatches, held_limit=held_limit, csv=csv
        )
        return
    if show is not None:
        views.show_order(show, ranks=ranks, chunks=chunks, microbatches=microbatches, csv=csv)
        return
    if csv is not None:
        raise typer.BadParameter("--csv needs --show NAME or --search F,I,W[,HOP]")
    from cli.inputs import read_order, read_scenario
    from simulator.schedule_choices import compare_schedules

    asked = read_scenario(scenario, context.params, settings or (), strict=strict)
    comparison = compare_schedules(asked, equal=equal, order=read_order(order))
    if as_json:
        print_json(comparison)
    else:
        views.show_choices(comparison)
