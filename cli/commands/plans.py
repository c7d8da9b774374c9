"""Commands that ask about a plan: what it takes, by account, by case and by derivation."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import DOES_NOT_FIT
from cli.flags import (
    AllNotes,
    AsJson,
    IgnoreMemory,
    Largest,
    OptionalFile,
    Plot,
    PlotTraffic,
    PlotWork,
    RequireFit,
    ScenarioFile,
    Settings,
    Smallest,
    Strict,
    Text,
    describes_scenario,
    flag,
)
from cli.printing import print_json, write_figure


@describes_scenario
def estimate(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    strict: Strict = False,
    ignore_memory: IgnoreMemory = False,
    require_fit: RequireFit = False,
    all_notes: AllNotes = False,
    as_json: AsJson = False,
    plot: Plot = None,
) -> None:
    """Estimate memory, work, traffic, time, cost and energy of a training step and run."""
    from cli.inputs import check_figure, read_scenario
    from simulator import whatif

    check_figure("--plot", plot)
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    answer = whatif.estimate(described, ignore_memory=ignore_memory)
    if plot:
        from dashboard.figures import memory

        write_figure(plot, memory.memory_by_stage(answer))
    if as_json:
        print_json(answer)
    else:
        from cli.answers import show_answer

        show_answer(described, answer, all_notes=all_notes)
    if require_fit and not answer.fits:
        raise typer.Exit(DOES_NOT_FIT)


@describes_scenario
def memory(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    largest: Largest = None,
    smallest: Smallest = None,
    strict: Strict = False,
    require_fit: RequireFit = False,
    as_json: AsJson = False,
    plot: Plot = None,
    compare_formats: Annotated[
        bool,
        typer.Option("--compare-formats", help="the model's weights in every number format"),
    ] = False,
    storages: Annotated[
        Text, flag("--storages", "with --compare-formats: only these", "NAME,NAME")
    ] = None,
    formats: Annotated[
        Path | None,
        typer.Option("--formats", metavar="FILE.toml", help="file that describes more formats"),
    ] = None,
    accelerators: Annotated[
        Text, flag("--accelerators", "with --compare-formats: how many of these", "NAME,NAME")
    ] = None,
    distribution: Annotated[
        Text, flag("--distribution", "of weights: gaussian, laplace or uniform", "NAME")
    ] = None,
    storage_rate: Annotated[
        Text, flag("--storage-rate", "what storage reads, 7 GB/s", "RATE")
    ] = None,
    pcie_rate: Annotated[
        Text, flag("--pcie-rate", "what a link to an accelerator carries", "RATE")
    ] = None,
) -> None:
    """Account for the memory of each stage by component, or find the largest job that fits."""
    from cli.inputs import check_figure, one_question, read_scenario
    from simulator.accounting import memory_account
    from simulator.limits import limit

    check_figure("--plot", plot)
    question = one_question(largest, smallest)
    comparing = {
        "--storages": storages,
        "--formats": formats,
        "--accelerators": accelerators,
        "--distribution": distribution,
        "--storage-rate": storage_rate,
        "--pcie-rate": pcie_rate,
    }
    if compare_formats or any(value is not None for value in comparing.values()):
        from cli.format_comparison import check_options, compared, show_comparison

        check_options(comparing, asked=compare_formats, question=question, require_fit=require_fit)
        described = read_scenario(scenario, context.params, settings or (), strict=strict)
        comparison = compared(described, comparing)
        if plot:
            from dashboard.figures import formats as format_figures

            write_figure(plot, format_figures.memory_by_format(comparison))
        if as_json:
            print_json(comparison)
        else:
            show_comparison(described, comparison, accelerators)
        return
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    if question is None:
        account, found = memory_account(described), None
    else:
        found = limit(described, *question)
        case = found.found or found.closest
        account = case.memory if case else memory_account(described)
    if plot:
        from dashboard.figures import memory as figures

        write_figure(plot, figures.memory_by_component(account))
    if as_json:
        print_json(found or account)
    else:
        from cli.accounts import show_limit, show_memory

        if found is not None:
            show_limit(found)
        show_memory(account)
    if require_fit and not account.fits:
        raise typer.Exit(DOES_NOT_FIT)


@describes_scenario
def comm(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="groups of every axis: ranks, nodes, slowest links")
    ] = False,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="what each GPU or node sends to each other")
    ] = False,
    by: Annotated[Text, flag("--by", "rows of --matrix: gpu or node", "NAME")] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="OUT.csv", help="also write the pairs of --matrix"),
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
    plot: PlotTraffic = None,
) -> None:
    """Account for what a GPU of each stage sends in a step; --groups and --matrix: who to whom."""
    from cli.inputs import check_figure, read_scenario
    from cli.placement import check_views

    check_figure("--plot", plot)
    check_views(groups=groups, matrix=matrix, by=by, csv=csv, plot=plot)
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    if groups:
        _show_groups(described, as_json=as_json)
    elif matrix:
        _show_matrix(described, by or "gpu", as_json=as_json, csv=csv, plot=plot)
    else:
        _show_traffic(described, as_json=as_json, plot=plot)


def _show_traffic(described: Any, *, as_json: bool, plot: Path | None) -> None:
    from simulator.accounting import traffic_account

    account = traffic_account(described)
    if plot:
        from dashboard.figures import traffic

        write_figure(plot, traffic.sent_by_stage(account))
    if as_json:
        print_json(account)
    else:
        from cli.accounts import show_traffic

        show_traffic(account)


def _show_groups(described: Any, *, as_json: bool) -> None:
    from cli.placement import show_groups
    from simulator.groups import groups_account

    account = groups_account(described)
    if as_json:
        print_json(account)
    else:
        show_groups(account)


def _show_matrix(
    described: Any, by: str, *, as_json: bool, csv: Path | None, plot: Path | None
) -> None:
    from cli.inputs import write_text
    from cli.placement import matrix_csv, show_matrix
    from simulator.matrix import traffic_matrix

    found = traffic_matrix(described, by)
    if csv:
        write_text(csv, matrix_csv(found))
    if plot:
        from dashboard.figures.matrix import traffic_heat_map

        write_figure(plot, traffic_heat_map(found))
    if as_json:
        print_json(found)
    else:
        show_matrix(found)


@describes_scenario
def flops(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    strict: Strict = False,
    as_json: AsJson = False,
    plot: PlotWork = None,
) -> None:
    """Account for the work of a step by component, beside published conventions."""
    from cli.inputs import check_figure, read_scenario
    from simulator.accounting import work_account

    check_figure("--plot", plot)
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    account = work_account(described)
    if plot:
        from dashboard.figures import work

        write_figure(plot, work.work_by_stage(account))
    if as_json:
        print_json(account)
    else:
        from cli.accounts import show_work

        show_work(account)


@describes_scenario
def inference(
    context: typer.Context,
    scenario: OptionalFile = None,
    settings: Settings = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Work, traffic and time of a step of decode or prefill, by a roofline."""
    from cli.inputs import read_scenario
    from simulator.inference import inference_step

    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    step = inference_step(described)
    if as_json:
        print_json(step)
    else:
        from cli.inference import show_step

        show_step(step)


@describes_scenario
def what_if(
    context: typer.Context,
    scenario: OptionalFile = None,
    case: Annotated[
        list[str],
        typer.Option(
            "--case",
            metavar="'FIELD=VALUE ...'",
            help="fields or presets that a case changes; a value with spaces in quotes",
        ),
    ] = ...,  # type: ignore[assignment]
    settings: Settings = None,
    strict: Strict = False,
    ignore_memory: IgnoreMemory = False,
    as_json: AsJson = False,
) -> None:
    """Compare cases that change a scenario: before, after, and the terms that caused it."""
    from cli.inputs import read_case, read_scenario
    from simulator import whatif

    stated, cases = zip(*(read_case(entry, strict=strict) for entry in case), strict=True)
    described = read_scenario(scenario, context.params, settings or (), strict=strict)
    comparison = whatif.what_if(described, cases, stated=stated, ignore_memory=ignore_memory)
    if as_json:
        print_json(comparison)
    else:
        from cli.views import show_comparison

        show_comparison(comparison)


def explain(
    scenario: ScenarioFile,
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY", help="such as time.step_s")],
    settings: Settings = None,
    depth: Annotated[
        int, typer.Option("--depth", metavar="N", min=0, help="levels of inputs to show")
    ] = 100,
    strict: Strict = False,
    ignore_memory: IgnoreMemory = False,
    as_json: AsJson = False,
) -> None:
    """Derive a number: formula, values put in, source, down to the inputs."""
    from cli.inputs import read_scenario
    from simulator import whatif

    described = read_scenario(scenario, {}, settings or (), strict=strict)
    derivation = whatif.explain(described, quantity, ignore_memory=ignore_memory)
    if as_json:
        print_json(derivation)
    else:
        from cli.views import show_derivation

        show_derivation(derivation, depth)
