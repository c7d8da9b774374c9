"""An answer for people, the verdict first."""

from typing import Any

from rich.padding import Padding

from cli.tables import Titled, console, print_table, show_verdict, shown, signed, table_of
from costmodels.analysis import inputs_of
from costmodels.scenario import Scenario
from costmodels.specs.plan import Plan, Recompute, RecomputeModule
from costmodels.units import (
    SECONDS_PER_HOUR,
    format_bytes,
    format_count,
    format_energy,
    format_flop,
    format_fraction,
    format_seconds,
    format_traffic,
    format_usd,
    unit_of_field,
)
from simulator.answer import Answer
from simulator.gaps import gap_fraction
from simulator.inert_fields import counted, inert_fields, is_inert, listed

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
    "context_exposed_s": "context parallel, exposed",
    "expert_exposed_s": "expert parallel, exposed",
    "data_exposed_s": "data parallel, exposed",
    "offload_exposed_s": "activations of the host, exposed",
    "pipeline_exposed_s": "pipeline hand-overs, exposed",
    "bubble_s": "pipeline bubble",
    "imbalance_s": "waiting for slow stages",
    "replicated_exposed_s": "gradients of replicated weights",
    "tied_exposed_s": "copies of the tied embedding",
    "optimizer_s": "optimizer",
}


_AXES = {
    "tensor_bytes": "tensor",
    "sequence_bytes": "sequence",
    "context_bytes": "context",
    "expert_bytes": "experts",
    "pipeline_bytes": "pipeline",
    "data_bytes": "data",
    "scale_up_bytes": "inside the node",
    "network_bytes": "across nodes",
}


def show_answer(scenario: Scenario, answer: Answer, *, all_notes: bool = False) -> None:
    """Print an answer, the verdict first; of fields without effect only the names, or all."""
    out = console()
    out.print(_headline(scenario, answer))
    memory = answer.memory
    show_verdict(
        out,
        fits=answer.fits,
        headroom_bytes=memory["headroom_bytes"],
        stage=memory["worst_stage_index"],
    )
    print_table(out, _memory_table(answer))
    print_table(out, _work_table(answer))
    print_table(out, _traffic_table(answer))
    if answer.time["step_s"] is not None:
        print_table(out, _time_table(answer))
        print_table(out, _rates_table(answer))
        print_table(out, _simulation_table(answer))
    print_table(out, _basis_table(answer))
    out.print("Notes", style="bold")
    for note in answer.notes:
        if all_notes or not is_inert(note):
            out.print(Padding(f"- {note}", (0, 0, 0, 2)))
    fields = inert_fields(answer.notes)
    if fields and not all_notes:
        said = f"of no effect here, or only with some values (--all-notes): {listed(fields)}"
        out.print(Padding(f"- {said}", (0, 0, 0, 2)))


def _recomputed(plan: Plan) -> str:
    """Return what is recomputed, with the modules where they are others than the usual one."""
    usual = plan.recompute_modules == (RecomputeModule.CORE_ATTN,)
    if plan.recompute is not Recompute.SELECTIVE or usual:
        return plan.recompute.value
    return f"{plan.recompute.value} ({', '.join(plan.recompute_modules)})"


def _headline(scenario: Scenario, answer: Answer) -> str:
    plan, workload = scenario.plan, scenario.workload
    replicas = answer.pipeline["data_parallel_size"]
    sharding = f", ZeRO {plan.zero_stage}" if plan.zero_stage else ""
    sequence = ", sequence parallel" if plan.sequence_parallel else ""
    microbatches = counted(answer.pipeline["microbatch_count"], "microbatch", "microbatches")
    chunks = f" x {plan.virtual_stages} chunks" if plan.virtual_stages > 1 else ""
    return (
        f"{scenario.model.name} on {scenario.cluster.accelerator_count:,} x "
        f"{scenario.cluster.accelerator.name}\n"
        f"tensor {plan.tensor_parallel_size} x pipeline {plan.pipeline_parallel_size}{chunks} x "
        f"data {replicas}{sequence}{sharding}, {plan.schedule.value}, recompute "
        f"{_recomputed(plan)}, {plan.attention_kernel.value} attention, "
        f"{scenario.precision.name}\n"
        f"{counted(workload.global_batch_size, 'sequence')} of "
        f"{counted(workload.sequence_length, 'token')} a step, {microbatches} of "
        f"{plan.micro_batch_size} on each replica"
    )


def _stage_groups(answer: Answer) -> list[tuple[str, int]]:
    """Return ranges of neighbouring stages with equal memory, and one stage of each."""
    memory = answer.memory
    count = len(memory["stage_bytes"])
    rows = [
        [
            *(_at(memory[name], stage) for name in (*_PARTS, "host_bytes") if name in memory),
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


def _memory_table(answer: Answer) -> Titled:
    parts = _PARTS | (
        {"host_bytes": "on the host"} if any(answer.memory.get("host_bytes", ())) else {}
    )
    table = table_of("Memory per GPU, by stage", "stage", "layers", *parts.values())
    worst = answer.memory["worst_stage_index"]
    for label, stage in _stage_groups(answer):
        layers = "+".join(str(count) for count in answer.pipeline["chunk_layers"][stage])
        cells = [format_bytes(_at(answer.memory[name], stage)) for name in parts]
        marked = f"{label} (fullest)" if stage == worst else label
        table.add_row(marked, layers, *cells, style="bold" if stage == worst else None)
    return table


def _work_table(answer: Answer) -> Titled:
    table = table_of("Parameters and work", "", "total")
    rows = (
        ("parameters", format_count(answer.parameters["total_parameters"])),
        ("active parameters, of a token", format_count(answer.parameters["active_parameters"])),
        ("model FLOP per step", format_flop(answer.compute["model_flop"])),
        (
            "hardware FLOP per step, as executed",
            format_flop(answer.compute["hardware_flop"]),
        ),
    )
    for row in rows:
        table.add_row(*row)
    return table


_HOST = {"device_to_host_bytes": "to its host", "host_to_device_bytes": "from its host"}


def _traffic_table(answer: Answer) -> Titled:
    busiest = answer.communication["busiest_stage_index"]
    table = table_of("Bytes sent per step", "axis or tier", f"GPU of stage {busiest} (busiest)")
    for name, label in _AXES.items():
        table.add_row(label, format_traffic(answer.communication[name][busiest]))
    table.add_row("all GPUs together", format_traffic(answer.communication["sent_bytes"]))
    for name, label in _HOST.items():
        if any(answer.communication.get(name, ())):
            table.add_row(label, format_traffic(answer.communication[name][busiest]))
    return table


def _time_table(answer: Answer) -> Titled:
    step_s = answer.time["step_s"]
    table = table_of(f"Step time (basis: {answer.time['basis']})", "", "time", "share")
    for name in inputs_of("step_s"):
        value = answer.time[name]
        table.add_row(_TERMS[name], format_seconds(value), format_fraction(value / step_s))
    table.add_row("step", format_seconds(step_s), "", style="bold")
    return table


def _rates_table(answer: Answer) -> Titled:
    table = table_of("Throughput and cost", "", "")
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


def _simulation_table(answer: Answer) -> Titled:
    table = table_of("Closed form and simulation", "", "closed form", "simulated", "gap")
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
            gap = f"{signed(100 * (simulated - closed))} points"
            if unit == "s":
                gap = f"{signed(100 * gap_fraction(closed, simulated))} %"
        table.add_row(label, shown(f"_{unit}", closed), shown(f"_{unit}", simulated), gap)
    ideal = format_fraction(answer.pipeline["ideal_idle_fraction"])
    table.add_row("bubble of equal stages and free links", ideal, "", "")
    return table


def _basis_table(answer: Answer) -> Titled:
    table = table_of(
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
