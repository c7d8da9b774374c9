"""The command `shardwise`: what a training run takes, before anyone rents a GPU."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.attention_flags import describes_attention, given_options
from cli.flags import (
    AllNotes,
    AsJson,
    IgnoreMemory,
    Largest,
    OptionalFile,
    OrderFile,
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
from costmodels.errors import ShardwiseError
from costmodels.version import VERSION

BAD_INPUT, DOES_NOT_FIT, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    name="shardwise",
    help="Predict memory, time, traffic, cost and energy of training a large language model.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
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

        _write_figure(plot, memory.memory_by_stage(answer))
    if as_json:
        _print_json(answer)
    else:
        from cli.answers import show_answer

        show_answer(described, answer, all_notes=all_notes)
    if require_fit and not answer.fits:
        raise typer.Exit(DOES_NOT_FIT)


@app.command()
def dashboard(
    scenario: OptionalFile = None,
    settings: Settings = None,
    host: Annotated[str, flag("--host", "address to listen on", "ADDRESS")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 for any free one")
    ] = 8050,
    auth: Annotated[Text, flag("--auth", "who may ask, where others reach it", "USER:PASSWORD")] = (
        None
    ),
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="let everybody in who reaches the address")
    ] = False,
    database: Annotated[Text, flag("--database", "where scenarios are saved", "ADDRESS")] = None,
    reports: Annotated[
        Path | None, typer.Option("--reports", metavar="FOLDER", help="of validation reports")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="whether to open a browser")
    ] = True,
    strict: Strict = False,
) -> None:
    """Look at plans in a browser; everything stays on this machine."""
    from cli.serving import serve_dashboard

    serve_dashboard(
        scenario,
        settings or (),
        host=host,
        port=port,
        auth=auth,
        no_auth=no_auth,
        database=database,
        reports=reports,
        opens_browser=browser,
        strict=strict,
    )


@app.command()
def worker(
    database: Annotated[Text, flag("--database", "where jobs are, as of dashboard", "ADDRESS")] = (
        None
    ),
    reports: Annotated[
        Path | None, typer.Option("--reports", metavar="FOLDER", help="of validation reports")
    ] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="end once no job waits")] = False,
    parent: Annotated[
        int | None,
        typer.Option("--parent", metavar="PID", help="end after this process has", hidden=True),
    ] = None,
) -> None:
    """Do the dashboard's jobs, one after the other, beside a server or several."""
    from cli.jobs import do_jobs

    do_jobs(database, reports, until_idle=until_idle, parent=parent)


@app.command()
def jobs(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[cancel N...]", help="jobs to end; all are listed where none is"),
    ] = None,
    database: Annotated[Text, flag("--database", "where they are, as of dashboard", "ADDRESS")] = (
        None
    ),
    as_json: AsJson = False,
) -> None:
    """List the dashboard's jobs, large simulations and validation runs, or cancel some."""
    from cli.jobs import chosen, show_jobs

    found = chosen(words or (), database)
    if as_json:
        _print_json(found)
    else:
        show_jobs(found)


@app.command()
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

            _write_figure(plot, format_figures.memory_by_format(comparison))
        if as_json:
            _print_json(comparison)
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

        _write_figure(plot, figures.memory_by_component(account))
    if as_json:
        _print_json(found or account)
    else:
        from cli.accounts import show_limit, show_memory

        if found is not None:
            show_limit(found)
        show_memory(account)
    if require_fit and not account.fits:
        raise typer.Exit(DOES_NOT_FIT)


@app.command()
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

        _write_figure(plot, traffic.sent_by_stage(account))
    if as_json:
        _print_json(account)
    else:
        from cli.accounts import show_traffic

        show_traffic(account)


def _show_groups(described: Any, *, as_json: bool) -> None:
    from cli.placement import show_groups
    from simulator.groups import groups_account

    account = groups_account(described)
    if as_json:
        _print_json(account)
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

        _write_figure(plot, traffic_heat_map(found))
    if as_json:
        _print_json(found)
    else:
        show_matrix(found)


@app.command()
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

        _write_figure(plot, work.work_by_stage(account))
    if as_json:
        _print_json(account)
    else:
        from cli.accounts import show_work

        show_work(account)


@app.command()
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
        _print_json(step)
    else:
        from cli.inference import show_step

        show_step(step)


@app.command()
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
        _print_json(account)
    else:
        show_linear(account)


@app.command()
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
        _write_figure(plot, _attention_figure(question, pattern=pattern))
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


@app.command()
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
        _print_json(_simulation_object(verdict, played, contended, given))
    else:
        from cli.simulations import show_order_used, show_simulation

        show_order_used(described, given)
        show_simulation(verdict, played, contended)
    if require_fit and not verdict.fits:
        raise typer.Exit(DOES_NOT_FIT)


@app.command()
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
        _print_json(comparison)
    else:
        views.show_choices(comparison)


@app.command(name="what-if")
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
        _print_json(comparison)
    else:
        from cli.views import show_comparison

        show_comparison(comparison)


@app.command()
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
        _print_json(derivation)
    else:
        from cli.views import show_derivation

        show_derivation(derivation, depth)


@app.command()
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


@app.command(name="format", context_settings={"ignore_unknown_options": True})
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
        _print_json(found)
    else:
        show_formats(found, steps=steps)


@app.command()
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
        _print_json(found)
    else:
        show_errors(found)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a scenario file."""
    from costmodels.leaves import SECTIONS
    from costmodels.presets import FOLDERS, preset_names
    from costmodels.specs.schema import scenario_schema

    _print_json(scenario_schema(SECTIONS, {name: preset_names(name) for name in FOLDERS}))


@app.command(name="import-model")
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
        _print_json(imported)
    else:
        typer.echo(imported_toml(imported), nl=False)


@app.command()
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
        _print_json(found)
    else:
        from cli.views import show_description

        show_description(found)


@app.command()
def validate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE...] | list | diff BEFORE AFTER | history FOLDER",
            help="suites to run, all where none is named; or reports to compare",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="leave out what takes long")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda", help="where programs run")
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="of random choices")] = 0,
    job: Annotated[
        list[str] | None, typer.Option("--job", metavar="NAME", help="only this job of a suite")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="write page, Markdown, JSON and JUnit XML"),
    ] = None,
    progress_json: Annotated[
        bool,
        typer.Option(
            "--progress-json",
            help="for programs: a line of JSON before each job, and one with the verdict",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare predictions with running torch programs and published measurements."""
    from cli import validating

    words = words or []
    if progress_json and (as_json or words[:1] in (["list"], ["diff"], ["history"])):
        raise typer.BadParameter("--progress-json is for runs of suites, without --json")
    if words[:1] == ["list"]:
        validating.show_suites()
    elif words[:1] == ["diff"]:
        found = validating.compared(words[1:])
        _print_json(found) if as_json else validating.show_differences(found)
    elif words[:1] == ["history"]:
        runs = validating.history(words[1:])
        _print_json(runs) if as_json else validating.show_history(runs)
    else:
        validating.quiet_libraries()
        settings = validating.settings_of(quick=quick, device=device, seed=seed)
        run = validating.validated(
            words, settings, jobs=job or (), out=out, progress_json=progress_json
        )
        if progress_json:
            validating.tell_run(run, out)
        else:
            _print_json(run) if as_json else validating.show_run(run, out)
        raise typer.Exit(INTERRUPTED if run.interrupted else validating.exit_code(run))


@app.command()
def calibrate(
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="processes that run at once")
    ] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda", help="where operators run")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="time each operator less often")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="OUT.toml", help="write a cluster that --cluster reads"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: products, attention, memory, optimizer, all-reduces."""
    from cli import calibrating

    found = calibrating.calibrated(processes, device=device, quick=quick, out=out)
    _print_json(found) if as_json else calibrating.show_calibration(found, out)


@app.command(name="list")
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
        _print_json(table.as_records())
    else:
        from cli.views import show_listing

        show_listing(table)


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


def _json_text(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _print_json(value: Any) -> None:
    typer.echo(_json_text(value))


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
        write_text(trace, _json_text(chrome_trace(played.trace)))
    if gantt and gantt.suffix.lower() == ".svg":
        from simulator.drawing import gantt_svg

        write_text(gantt, gantt_svg(played.trace))
    elif gantt:
        from dashboard.figures import pipeline

        _write_figure(gantt, pipeline.gantt(played.trace))


def _write_figure(file: Path, figure: Any) -> None:
    from cli.inputs import write_text

    write_text(file, figure.to_html(include_plotlyjs=True, full_html=True))


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
