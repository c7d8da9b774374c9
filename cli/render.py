"""Answers as tables for people: readable in a terminal, plain when piped."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from cli.listings import Listing
from costmodels.analysis import inputs_of
from costmodels.scenario import Scenario
from costmodels.units import (
    SECONDS_PER_HOUR,
    format_bytes,
    format_count,
    format_energy,
    format_flop,
    format_fraction,
    format_number,
    format_rate,
    format_seconds,
    format_traffic,
    format_usd,
    unit_of_field,
)
from simulator.answer import Answer, Comparison, Derivation, Difference
from simulator.gaps import gap_fraction
from simulator.training import Simulation

PIPED_WIDTH = 150

_PARTS = {
    "weights_bytes": "weights",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activations_bytes": "activations",
    "buffers_bytes": "buffers",
    "reserve_bytes": "reserve",
    "stage_bytes": "total",
}
_TERMS = {
    "compute_s": "compute",
    "recompute_s": "recomputation",
    "tensor_exposed_s": "tensor parallel, exposed",
    "sequence_exposed_s": "sequence parallel, exposed",
    "data_exposed_s": "data parallel, exposed",
    "pipeline_exposed_s": "pipeline hand-overs, exposed",
    "bubble_s": "pipeline bubble",
    "imbalance_s": "waiting for the slowest stage",
    "optimizer_s": "optimizer",
}
_AXES = {
    "tensor_bytes": "tensor",
    "sequence_bytes": "sequence",
    "pipeline_bytes": "pipeline",
    "data_bytes": "data",
    "scale_up_bytes": "inside the node",
    "network_bytes": "across nodes",
}


def console() -> Console:
    """Return a console that prints plain text of a fixed width where nobody looks at it."""
    piped = not sys.stdout.isatty()
    return Console(
        width=PIPED_WIDTH if piped else None, no_color=piped, highlight=False, soft_wrap=False
    )


class _Titled(NamedTuple):
    """A table with the line above it, which is no wider or narrower than it needs."""

    title: str
    table: Table

    def add_row(self, *cells: str, style: str | None = None) -> None:
        self.table.add_row(*cells, style=style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.title, style="bold")
        yield self.table


def _table(title: str, *columns: str, left: int = 1) -> _Titled:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for index, column in enumerate(columns):
        is_text = index < left
        justify: JustifyMethod = "left" if is_text else "right"
        table.add_column(
            column, justify=justify, overflow="fold", no_wrap=index == 0 or not is_text
        )
    return _Titled(title, table)


def shown(name: str, value: Any) -> str:
    """Return a number with the unit that its name ends with."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("sent_bytes"):
        return format_traffic(value)
    if "tokens_per_s" in name:
        return f"{value:,.1f} tokens/s"
    unit = unit_of_field(name.removesuffix("_per_gpu"))
    return _FORMS.get(unit, format_number)(value)


_FORMS: Mapping[str, Callable[[float], str]] = {
    "bytes": format_bytes,
    "bytes_per_s": lambda value: format_rate(value, "B/s"),
    "flop": format_flop,
    "flop_per_s": lambda value: format_rate(value, "FLOP/s"),
    "s": format_seconds,
    "w": lambda value: f"{value:,.4g} W",
    "j": format_energy,
    "usd": format_usd,
    "usd_per_s": lambda value: f"{format_usd(value * SECONDS_PER_HOUR)}/h",
    "fraction": format_fraction,
}


def show_answer(scenario: Scenario, answer: Answer) -> None:
    """Print an answer, the verdict first."""
    out = console()
    out.print(_headline(scenario, answer))
    out.print(_verdict(answer), style="green" if answer.fits else "red")
    out.print(_memory_table(answer))
    out.print(_work_table(answer))
    out.print(_traffic_table(answer))
    if answer.time["step_s"] is not None:
        out.print(_time_table(answer))
        out.print(_rates_table(answer))
        out.print(_simulation_table(answer))
    out.print(_basis_table(answer))
    out.print("Notes", style="bold")
    for note in answer.notes:
        out.print(Padding(f"- {note}", (0, 0, 0, 2)))


def _headline(scenario: Scenario, answer: Answer) -> str:
    plan, workload = scenario.plan, scenario.workload
    replicas = answer.pipeline["data_parallel_size"]
    sharding = f", ZeRO {plan.zero_stage}" if plan.zero_stage else ""
    sequence = ", sequence parallel" if plan.sequence_parallel else ""
    chunks = f" x {plan.virtual_stages} chunks" if plan.virtual_stages > 1 else ""
    return (
        f"{scenario.model.name} on {scenario.cluster.accelerator_count:,} x "
        f"{scenario.cluster.accelerator.name}\n"
        f"tensor {plan.tensor_parallel_size} x pipeline {plan.pipeline_parallel_size}{chunks} x "
        f"data {replicas}{sequence}{sharding}, {plan.schedule.value}, recompute "
        f"{plan.recompute.value}, {plan.attention_kernel.value} attention, "
        f"{scenario.precision.name}\n"
        f"{workload.global_batch_size:,} sequences of {workload.sequence_length:,} tokens a step, "
        f"{answer.pipeline['microbatch_count']:,} microbatches of {plan.micro_batch_size} on each "
        "replica"
    )


def _verdict(answer: Answer) -> str:
    memory = answer.memory
    stage = memory["worst_stage_index"]
    margin = format_bytes(abs(memory["headroom_bytes"]))
    if answer.fits:
        return f"fits: {margin} left on the fullest GPUs (stage {stage})"
    return f"does not fit: {margin} too much on the fullest GPUs (stage {stage})"


def _stage_groups(answer: Answer) -> list[tuple[str, int]]:
    """Return ranges of neighbouring stages with equal memory, and one stage of each."""
    memory = answer.memory
    count = len(memory["stage_bytes"])
    rows = [
        [
            *(_at(memory[name], stage) for name in _PARTS),
            *answer.pipeline["chunk_layers"][stage],
        ]
        for stage in range(count)
    ]
    groups: list[tuple[str, int]] = []
    start = 0
    for stage in range(1, count + 1):
        if stage == count or rows[stage] != rows[start]:
            last = stage - 1
            groups.append((str(start) if last == start else f"{start}-{last}", start))
            start = stage
    return groups


def _at(value: Any, stage: int) -> Any:
    return value[stage] if isinstance(value, list) else value


def _memory_table(answer: Answer) -> _Titled:
    table = _table("Memory per GPU, by stage", "stage", "layers", *_PARTS.values())
    worst = answer.memory["worst_stage_index"]
    for label, stage in _stage_groups(answer):
        layers = "+".join(str(count) for count in answer.pipeline["chunk_layers"][stage])
        cells = [format_bytes(_at(answer.memory[name], stage)) for name in _PARTS]
        marked = f"{label} (fullest)" if stage == worst else label
        table.add_row(marked, layers, *cells, style="bold" if stage == worst else None)
    return table


def _work_table(answer: Answer) -> _Titled:
    table = _table("Parameters and work", "", "total")
    rows = (
        ("parameters", format_count(answer.parameters["total_parameters"])),
        ("active parameters, of a token", format_count(answer.parameters["active_parameters"])),
        ("model FLOP per step", format_flop(answer.compute["model_flop"])),
        (
            "hardware FLOP per step, with recomputation",
            format_flop(answer.compute["hardware_flop"]),
        ),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _traffic_table(answer: Answer) -> _Titled:
    busiest = answer.communication["busiest_stage_index"]
    table = _table(
        "Bytes sent per step", "axis or tier", f"GPU of stage {busiest} (busiest)", "mean GPU"
    )
    for name, label in _AXES.items():
        stages: Sequence[float] = answer.communication[name]
        mean = sum(stages) / len(stages)
        table.add_row(label, format_traffic(stages[busiest]), format_traffic(mean))
    table.add_row("all GPUs together", format_traffic(answer.communication["sent_bytes"]), "")
    return table


def _time_table(answer: Answer) -> _Titled:
    step_s = answer.time["step_s"]
    table = _table(f"Step time (basis: {answer.time['basis']})", "", "time", "share")
    for name in inputs_of("step_s"):
        value = answer.time[name]
        table.add_row(_TERMS[name], format_seconds(value), format_fraction(value / step_s))
    table.add_row("step", format_seconds(step_s), "", style="bold")
    return table


def _rates_table(answer: Answer) -> _Titled:
    table = _table("Throughput and cost", "", "")
    time, compute, cost = answer.time, answer.compute, answer.cost
    rows = [
        ("tokens per second", f"{time['tokens_per_s']:,.0f}"),
        ("tokens per second per GPU", f"{time['tokens_per_s_per_gpu']:,.1f}"),
        (
            "model FLOP per second per GPU",
            shown("model_flop_per_s", compute["model_flop_per_s_per_gpu"]),
        ),
        ("MFU", format_fraction(compute["mfu_fraction"])),
        ("HFU", format_fraction(compute["hfu_fraction"])),
        ("energy per step", format_energy(cost["step_energy_j"])),
    ]
    if "step_usd" in cost:
        rows.append(("dollars per step", format_usd(cost["step_usd"])))
        rows.append(("dollars per million tokens", format_usd(cost["million_tokens_usd"])))
    if "run_s" in cost:
        rows += [
            ("run: steps", format_count(cost["run_steps"])),
            ("run: time", format_seconds(cost["run_s"])),
            ("run: GPU-hours", format_count(cost["run_gpu_s"] / SECONDS_PER_HOUR)),
            ("run: energy", format_energy(cost["run_energy_j"])),
        ]
        if "run_usd" in cost:
            rows.append(("run: dollars", format_usd(cost["run_usd"])))
    for row in rows:
        table.add_row(*row)
    return table


def _simulation_table(answer: Answer) -> _Titled:
    table = _table("Closed form and simulation", "", "closed form", "simulated", "gap")
    rows = (
        ("step time", "s", answer.time["step_s"], answer.time["simulated_step_s"]),
        (
            "idle share of the pipeline",
            "fraction",
            answer.pipeline["idle_fraction"],
            answer.pipeline["simulated_idle_fraction"],
        ),
    )
    for label, unit, closed, simulated in rows:
        gap = "-"
        if simulated is not None:
            gap = f"{100 * (simulated - closed):+.2f} points"
            if unit == "s":
                gap = f"{100 * gap_fraction(closed, simulated):+.2f} %"
        table.add_row(label, shown(f"_{unit}", closed), shown(f"_{unit}", simulated), gap)
    ideal = format_fraction(answer.pipeline["ideal_idle_fraction"])
    table.add_row("bubble of equal stages and free links", ideal, "", "")
    return table


def _basis_table(answer: Answer) -> _Titled:
    table = _table(
        "What this rests on, the weakest first", "basis", "input", "value", "source", left=4
    )
    for entry in answer.assumptions:
        value = shown(_quantity_name(entry.field), entry.value)
        table.add_row(
            entry.basis.value, entry.field.removeprefix("cluster."), value, _short(entry.source)
        )
    return table


def _quantity_name(field: str) -> str:
    """Return the part of a field's path that ends with its unit."""
    return next((part for part in field.split(".") if unit_of_field(part) != "count"), field)


def _short(text: str) -> str:
    return text if len(text) <= 72 else text[:69].rsplit(" ", 1)[0] + " ..."


def show_simulation(played: Simulation) -> None:
    """Print what a simulated step took, GPU by GPU."""
    out, metrics = console(), played.metrics
    out.print(f"step {format_seconds(metrics.makespan_s)} (basis: assumed)")
    out.print(
        f"pipeline {format_seconds(metrics.pipeline_makespan_s)}, idle "
        f"{format_fraction(metrics.idle_fraction)}; {len(played.trace.spans):,} spans"
    )
    table = _table(
        "One GPU of each stage", "stage", "busy", "idle", "idle share", "work", "peak memory"
    )
    phase_s = metrics.pipeline_makespan_s
    for stage, busy_s in enumerate(metrics.busy_s):
        table.add_row(
            str(stage),
            format_seconds(busy_s),
            format_seconds(metrics.idle_s[stage]),
            format_fraction(metrics.idle_s[stage] / phase_s),
            format_flop(metrics.flop[stage]),
            format_bytes(metrics.peak_bytes[stage]),
        )
    out.print(table)
    sent = _table("Bytes sent, one GPU of each stage together", "axis", "bytes")
    for axis, size_bytes in metrics.sent_bytes.items():
        sent.add_row(axis, format_traffic(size_bytes))
    out.print(sent)


def show_comparison(comparison: Comparison) -> None:
    """Print a column for each case beside the scenario that they start from."""
    out = console()
    columns = ["", "before"]
    for number, case in enumerate(comparison.cases, start=1):
        changes = " ".join(f"{path}={value}" for path, value in case.changes.items())
        out.print(f"case {number}: {changes}")
        columns += [f"case {number}", "difference"]
    table = _table("Before, after, and the terms that make the difference", *columns)
    fits = [str(case.answer.fits).lower() for case in comparison.cases]
    table.add_row("fits", str(comparison.base.fits).lower(), *(c for f in fits for c in (f, "")))
    for name in dict.fromkeys(d.name for case in comparison.cases for d in case.differences):
        _add_difference_rows(table, name, comparison)
    out.print(table)
    for number, case in enumerate(comparison.cases, start=1):
        for note in case.answer.notes:
            if note not in comparison.base.notes:
                out.print(Padding(f"- case {number}: {note}", (0, 0, 0, 2)))


def _add_difference_rows(table: _Titled, name: str, comparison: Comparison) -> None:
    """Add a quantity's row, and one for each term that moved it in any case."""
    found = [
        next((d for d in case.differences if d.name == name), None) for case in comparison.cases
    ]
    before = next(d.before for d in found if d is not None)
    cells = [cell for d in found for cell in _difference_cells(d)]
    moved = dict.fromkeys(
        term.name for d in found if d is not None for term in d.terms if term.difference
    )
    table.add_row(name, shown(name, before), *cells, style="bold" if moved else None)
    for term_name in moved:
        terms = [
            next((t for t in d.terms if t.name == term_name), None) if d is not None else None
            for d in found
        ]
        first = next(term.before for term in terms if term is not None)
        cells = [
            cell
            for term in terms
            for cell in (
                ("-", "-")
                if term is None
                else (shown(term_name, term.after), _signed(term_name, term.difference))
            )
        ]
        table.add_row(f"    {term_name}", shown(term_name, first), *cells)


def _difference_cells(entry: Difference | None) -> tuple[str, str]:
    if entry is None:
        return "-", "-"
    difference = "-" if entry.difference is None else _signed(entry.name, entry.difference)
    if entry.difference and entry.before:
        difference += f" ({100 * entry.difference / abs(entry.before):+.1f} %)"
    return shown(entry.name, entry.after), difference


def _signed(name: str, value: float) -> str:
    if name.endswith("_fraction"):
        return f"{100 * value:+.2f} points"
    sign = "-" if value < 0 else "+" if value > 0 else ""
    return sign + shown(name, abs(value))


def show_derivation(derivation: Derivation, depth: int) -> None:
    """Print the derivation of a number as a tree, as many levels deep as asked."""
    tree = Tree(_derivation_text(derivation, root=True), guide_style="dim")
    _grow(tree, derivation, depth)
    console().print(tree)


def _grow(tree: Tree, derivation: Derivation, depth: int) -> None:
    if depth == 0:
        return
    for entry in derivation.inputs:
        _grow(tree.add(_derivation_text(entry, root=False)), entry, depth - 1)


def _derivation_text(entry: Derivation, *, root: bool) -> str:
    from rich.markup import escape

    value = _value_text(entry)
    lines = [f"{entry.name} = {value}  \\[{entry.basis.value}; {entry.scope}]"]
    if root or not entry.formula:
        lines.append(escape(entry.definition))
    if entry.formula:
        lines.append("formula: " + escape(entry.formula))
    if entry.substituted:
        lines.append("       = " + escape(entry.substituted))
    if entry.source:
        lines.append("source: " + escape(entry.source))
    return "\n".join(lines)


def _value_text(entry: Derivation) -> str:
    if isinstance(entry.value, dict):
        return "; ".join(f"{label}: {value}" for label, value in entry.value.items())
    return (
        f"{entry.value} {entry.unit}" if entry.unit not in ("truth", "index") else str(entry.value)
    )


def show_listing(table: Listing) -> None:
    """Print a list."""
    printed = _table(table.title, *table.columns, left=len(table.columns))
    for row in table.rows:
        printed.add_row(*row)
    console().print(printed)
