"""A step of inference for people."""

from cli.tables import console, print_table, table_of
from costmodels.units import (
    format_bytes,
    format_count,
    format_flop,
    format_rate,
    format_seconds,
    format_traffic,
)
from simulator.inference import InferenceStep


def show_step(step: InferenceStep) -> None:
    """Print what a step of inference computes, moves and takes."""
    out = console()
    if not step.fits:
        out.print("does not fit: shardwise memory says what is too much", style="red")
    out.print(
        f"{step.kind}: {format_seconds(step.step_s)} a step of {format_count(step.token_count)} "
        f"tokens (sequences: {format_count(step.sequence_count)}), "
        f"{format_rate(step.tokens_per_s, 'token/s')} of a replica "
        f"(replicas: {format_count(step.replica_count)})"
    )
    out.print(
        f"a GPU computes {format_flop(step.gpu_flop)} and moves {format_traffic(step.gpu_bytes)}; "
        f"basis: {step.basis}"
    )
    table = table_of(
        "One layer on one GPU, in a step",
        "layout",
        "layers",
        "work of weights",
        "of attention",
        "weights read",
        "states moved",
        "activations",
        "time",
        "longest",
    )
    for layer in step.layers:
        moved = (layer.weight_bytes, layer.state_bytes, layer.operand_bytes)
        table.add_row(
            layer.layout,
            format_count(layer.layer_count),
            format_flop(layer.matmul_flop),
            format_flop(layer.attention_flop),
            *map(format_bytes, moved),
            format_seconds(layer.layer_s),
            layer.bound_by,
        )
    print_table(out, table)
    for note in step.notes:
        out.print(f"- {note}", soft_wrap=True)
