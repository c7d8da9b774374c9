"""Accounts of memory, messages and work for people."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from cli.tables import console, print_table, show_verdict, table_of
from costmodels.units import (
    format_bytes,
    format_count,
    format_flop,
    format_fraction,
    format_traffic,
)
from simulator.accounting import MemoryAccount, Message, TrafficAccount, WorkAccount
from simulator.limits import Limit, LimitCase

_COMPONENTS = {
    "weights_bytes": "weights",
    "served_weights_bytes": "weights",
    "gradients_bytes": "gradients",
    "main_weights_bytes": "optimizer: main weights",
    "moments_bytes": "optimizer: moments",
    "layer_input_activations_bytes": "activations: inputs of layers",
    "attention_activations_bytes": "activations: attention",
    "attention_core_activations_bytes": "activations: attention core",
    "ffn_activations_bytes": "activations: FFN or experts",
    "mixture_activations_bytes": "activations: routing",
    "embedding_activations_bytes": "activations: embedding",
    "head_activations_bytes": "activations: head and loss",
    "transient_bytes": "buffer: backward",
    "dummy_gradient_bytes": "buffer: dummy gradients",
    "offload_buffer_bytes": "buffer: states of the host",
    "offload_staging_bytes": "buffer: activations of the host",
    "cast_weights_bytes": "buffer: cast weights",
    "bucket_buffer_bytes": "buffer: buckets of gradients",
    "pipeline_buffer_bytes": "buffer: pipeline",
    "sequence_buffer_bytes": "buffer: sequence",
    "context_buffer_bytes": "buffer: keys and values",
    "sharding_buffer_bytes": "buffer: sharding",
    "copied_weights_bytes": "weights: copied key and value heads",
    "kv_cache_bytes": "cache of keys and values",
    "serving_hidden_bytes": "activations: hidden states",
    "serving_layer_bytes": "activations: inside a layer",
    "serving_logits_bytes": "activations: logits",
    "accelerator_context_bytes": "reserve: context",
    "accelerator_allocator_reserve_bytes": "reserve: allocator",
}

_MESSAGES = {
    "hidden_all_reduce": "hidden states",
    "loss_all_reduce": "loss",
    "sequence_all_gather": "hidden states",
    "sequence_reduce_scatter": "hidden states",
    "compressed_all_gather": "compressed vectors",
    "compressed_reduce_scatter": "gradients of compressed vectors",
    "compressed_all_reduce": "gradients of compressed vectors",
    "prediction_all_gather": "outputs of projections",
    "prediction_input_all_reduce": "gradients of projections' inputs",
    "prediction_input_all_gather": "inputs of projections",
    "prediction_input_reduce_scatter": "gradients of projections' inputs",
    "replicated_all_reduce": "gradients of replicated weights",
    "shared_all_reduce": "gradients of shared heads",
    "context_send": "keys and values",
    "context_all_gather": "keys and values",
    "context_reduce_scatter": "gradients of keys and values",
    "context_input_all_to_all": "queries, keys and values",
    "context_output_all_to_all": "output of heads",
    "expert_all_to_all": "rows of experts",
    "expert_rows_all_gather": "rows of experts",
    "expert_rows_reduce_scatter": "rows of experts",
    "handover_all_gather": "what arrives in parts",
    "hop": "hidden states",
    "tied_all_reduce": "gradient of the copies",
    "mirror_all_reduce": "gradients of two copies of the layers",
    "gradient_all_reduce": "gradients",
    "gradient_reduce_scatter": "gradients",
    "weight_all_gather": "weights",
    "expert_gradient_all_reduce": "experts' gradients",
    "expert_gradient_reduce_scatter": "experts' gradients",
    "expert_weight_all_gather": "experts' weights",
    "replica_all_reduce": "scattered gradients",
}

_WORK = {
    "projection": "attention projections",
    "scores": "attention scores",
    "ffn": "FFN or experts",
    "adapter": "adapters",
    "router": "router",
    "head": "head",
}

_CONVENTIONS = {
    "model_flop": "model FLOP (unmasked pairs, nothing repeated)",
    "hardware_flop": "hardware FLOP (what is executed)",
    "full_attention_flop": "model FLOP, masked pairs counted too",
    "six_nd_flop": "6 N D",
    "six_active_nd_flop": "6 N_active D",
    "palm_flop": "PaLM: 6 N + 12 L H Q T a token",
    "palm_causal_flop": "PaLM with a causal mask: 6 N + 6 L H Q T",
    "megatron_flop": "Megatron, GPT, without recomputation",
    "megatron_recompute_flop": "Megatron, GPT, with full recomputation",
}

_STAGES_OF_A_TABLE = 6


def _component(name: str) -> str:
    return _COMPONENTS.get(name, name)


def _groups(rows: Sequence[Any]) -> list[tuple[str, int]]:
    """Return ranges of neighbouring stages whose rows are equal, and one stage of each."""
    groups: list[tuple[str, int]] = []
    start = 0
    for stage in range(1, len(rows) + 1):
        if stage == len(rows) or rows[stage] != rows[start]:
            last = stage - 1
            groups.append((str(start) if last == start else f"{start}-{last}", start))
            start = stage
    return groups


def _stages(label: str) -> str:
    return f"stages {label}" if "-" in label else f"stage {label}"


def _plus(counts: Sequence[int]) -> str:
    return "+".join(str(count) for count in counts)


def show_memory(account: MemoryAccount) -> None:
    """Print the memory of each stage by component, the verdict first."""
    out = console()
    worst = account.worst_stage_index
    show_verdict(out, fits=account.fits, headroom_bytes=account.headroom_bytes, stage=worst)
    largest = account.component(account.worst_component)
    out.print(
        f"largest there: {_component(largest.name)}, {format_bytes(largest.stage_bytes[worst])} of "
        f"{format_bytes(account.stage_bytes[worst])}; a GPU has "
        f"{format_bytes(account.accelerator_memory_bytes)}"
    )
    if account.replica_sequence_count is None:
        out.print(
            f"activations: tensors that {account.saved_tensors} keeps, with a "
            f"{account.attention_kernel} kernel (plan.saved_tensors)"
        )
    else:
        out.print(
            f"{account.kind}: a replica keeps {account.replica_sequence_count:,} sequences and "
            f"computes {account.serving_tokens:,} tokens at once"
        )
    shown = [entry for entry in account.components if any(entry.stage_bytes)]
    count = len(account.stage_bytes)
    flights = account.chunk_in_flight_count or [[]] * count
    rows = [
        (
            [entry.stage_bytes[stage] for entry in shown],
            account.chunk_layers[stage],
            flights[stage],
        )
        for stage in range(count)
    ]
    groups = _groups(rows)
    for first in range(0, len(groups), _STAGES_OF_A_TABLE):
        part = groups[first : first + _STAGES_OF_A_TABLE]
        labels = [
            _stages(label) + (" (fullest)" if stage == worst else "") for label, stage in part
        ]
        table = table_of("Memory per GPU, by component", "", *labels)
        table.add_row("layers", *(_plus(account.chunk_layers[stage]) for _, stage in part))
        if account.chunk_in_flight_count:
            in_flight = (_plus(flights[stage]) for _, stage in part)
            table.add_row("microbatches in flight", *in_flight)
        for entry in shown:
            cells = (format_bytes(entry.stage_bytes[stage]) for _, stage in part)
            table.add_row(_component(entry.name), *cells)
        totals = (format_bytes(account.stage_bytes[stage]) for _, stage in part)
        table.add_row("total", *totals, style="bold")
        left = (
            format_bytes(account.accelerator_memory_bytes - account.stage_bytes[stage])
            for _, stage in part
        )
        table.add_row("left", *left)
        print_table(out, table)
    for label, stage in _groups(account.host_bytes):
        if account.host_bytes[stage]:
            held = format_bytes(account.host_bytes[stage])
            out.print(f"a GPU of {_stages(label)} has {held} more in the memory of its host")
    _show_caches(out, account)
    for note in account.notes:
        out.print(f"- {note}", soft_wrap=True)


def _show_caches(out: Console, account: MemoryAccount) -> None:
    """Print what each kind of layer keeps in inference."""
    if not account.caches:
        return
    table = table_of(
        "Cache of a layer on one GPU, for one sequence",
        "layout",
        "layers",
        "tokens kept",
        "a token",
        "state",
        "in all",
    )
    for cache in account.caches:
        table.add_row(
            cache.layout,
            format_count(cache.layer_count),
            format_count(cache.cached_tokens),
            *map(format_bytes, (cache.token_bytes, cache.state_bytes, cache.sequence_bytes)),
        )
    print_table(out, table)


def show_limit(found: Limit) -> None:
    """Print the largest or smallest value that fits, and what stops the next."""
    out = console()
    name = f"{found.sense} {found.quantity} ({found.field}, stated {found.stated_value:,})"
    if found.found is None:
        if found.closest is None:
            out.print(f"{name}: no value is legal", style="red")
            return
        closest = found.closest
        out.print(f"{name}: nothing fits", style="red")
        out.print(f"closest, {closest.value:,}: {_stopped(closest)}")
        return
    out.print(f"{name}: {found.found.value:,}", style="green")
    if found.next is None:
        out.print("no further value is legal: memory does not bind")
        return
    grows = f"; {_component(found.growing_component)} grows most" if found.growing_component else ""
    out.print(f"the next, {found.next.value:,}: {_stopped(found.next)}{grows}")


def _stopped(case: LimitCase) -> str:
    memory = case.memory
    stage = memory.worst_stage_index
    largest = memory.component(memory.worst_component)
    return (
        f"{format_bytes(-memory.headroom_bytes)} too much on stage {stage}, where "
        f"the largest is {_component(largest.name)} ({format_bytes(largest.stage_bytes[stage])})"
    )


def show_traffic(account: TrafficAccount) -> None:
    """Print what a GPU of each stage sends in a step, collective by collective."""
    out = console()
    out.print(
        f"all GPUs send {format_traffic(account.sent_bytes)} in a step, and receive "
        f"{format_traffic(account.received_bytes)}"
    )
    messages = account.messages
    rows = [
        [(m.calls[stage], m.payload_bytes[stage] * m.calls[stage]) for m in messages]
        for stage in range(len(account.stage_sent_bytes))
    ]
    for label, stage in _groups(rows):
        busiest = " (busiest)" if stage == account.busiest_stage_index else ""
        table = table_of(
            f"A GPU of {_stages(label)}{busiest}, in a step",
            "axis",
            "collective",
            "of",
            "ranks",
            "calls",
            "payload each",
            "sent each",
            "sent",
            "inside the node",
            "across nodes",
            left=3,
        )
        for message in messages:
            if message.calls[stage]:
                table.add_row(*_message_cells(message, stage))
        totals = (
            account.stage_sent_bytes[stage],
            account.scale_up_bytes[stage],
            account.network_bytes[stage],
        )
        table.add_row("total", *[""] * 6, *map(format_traffic, totals), style="bold")
        print_table(out, table)
    _show_host(out, account)


def _show_host(out: Console, account: TrafficAccount) -> None:
    """Print what passes between a GPU of each stage and its host, where something does."""
    there, back = account.device_to_host_bytes, account.host_to_device_bytes
    for label, stage in _groups(list(zip(there, back, strict=True))):
        if there[stage] or back[stage]:
            out.print(
                f"a GPU of {_stages(label)} sends {format_traffic(there[stage])} to its host in a "
                f"step, and takes {format_traffic(back[stage])} back"
            )


def _message_cells(message: Message, stage: int) -> tuple[str, ...]:
    chunk = "" if message.chunk_index is None else f" of chunk {message.chunk_index}"
    ring = " (ring)" if message.algorithm == "ring" else ""
    sizes = (
        message.payload_bytes,
        message.call_sent_bytes,
        message.sent_bytes,
        message.scale_up_bytes,
        message.network_bytes,
    )
    return (
        message.axis,
        message.collective + ring,
        _MESSAGES.get(message.name, message.name) + chunk,
        format_count(message.group_size),
        format_count(message.calls[stage]),
        *(format_traffic(size_bytes[stage]) for size_bytes in sizes),
    )


def show_work(account: WorkAccount) -> None:
    """Print the work of a step by component and stage, and published conventions beside it."""
    out = console()
    ratio = format_fraction(account.hardware_flop / account.model_flop)
    out.print(
        f"model {format_flop(account.model_flop)}, hardware {format_flop(account.hardware_flop)} "
        f"in a step ({ratio} of the model's)"
    )
    columns = ("model forward", "model backward", "hardware forward", "hardware backward", "share")
    table = table_of("Work of a step, all GPUs", "component", *columns)
    for entry in account.components:
        phases = (
            sum(entry.model_forward_flop),
            sum(entry.model_backward_flop),
            sum(entry.hardware_forward_flop),
            sum(entry.hardware_backward_flop),
        )
        if any(phases):
            share = format_fraction((phases[2] + phases[3]) / account.hardware_flop)
            table.add_row(_WORK[entry.name], *map(format_flop, phases), share)
    repeated = sum(account.recompute_flop)
    share = format_fraction(repeated / account.hardware_flop)
    table.add_row("recomputation", "", "", "", format_flop(repeated), share)
    print_table(out, table)
    _show_stages(out, account)
    table = table_of(
        "Conventions", "", "FLOP", "over model FLOP", "over hardware FLOP", "source", left=1
    )
    table.table.columns[4].justify = "left"
    for convention in account.conventions:
        table.add_row(
            _CONVENTIONS[convention.name],
            format_flop(convention.flop),
            f"{convention.model_ratio:.4f}",
            f"{convention.hardware_ratio:.4f}",
            _cited(convention.source),
        )
    print_table(out, table)


def _cited(source: str) -> str:
    """Return authors, year and number of a source, nothing where it is no publication."""
    return ", ".join(source.split(", ")[:2]) if "arXiv" in source else ""


def _show_stages(out: Console, account: WorkAccount) -> None:
    count = len(account.recompute_flop)
    if count == 1:
        return
    rows = []
    for stage in range(count):
        forward = sum(entry.hardware_forward_flop[stage] for entry in account.components)
        backward = sum(entry.hardware_backward_flop[stage] for entry in account.components)
        model = sum(
            entry.model_forward_flop[stage] + entry.model_backward_flop[stage]
            for entry in account.components
        )
        rows.append((model, forward, backward, account.recompute_flop[stage]))
    table = table_of(
        "Work of a step, all GPUs of a stage",
        "stage",
        "model",
        "hardware forward",
        "hardware backward",
        "recomputation",
        "hardware, a GPU",
    )
    for label, stage in _groups(rows):
        own = sum(rows[stage][1:]) / account.stage_gpu_count
        table.add_row(label, *map(format_flop, rows[stage]), format_flop(own))
    print_table(out, table)
