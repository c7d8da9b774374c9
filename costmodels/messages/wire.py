"""Bytes on the wire: what each collective sends over a step, the part that crosses nodes, what arrives."""

from costmodels.columns import Axis, Column, total
from costmodels.quantities import CHUNK, STAGE, Basis, Quantity, Scope, quantity, renamed

_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521, section 4: a ring"
_STAGE = (STAGE,)
_CHUNK = (STAGE, CHUNK)


def wire_bytes(calls: Column, call_bytes: Column) -> Column:
    """Return the bytes that a rank sends in all calls of a collective [byte].

    Examples
    --------
    >>> wire_bytes(3.0, 100)
    300.0
    """
    return calls * call_bytes


def crossing_bytes(sent_bytes: Column, network_fraction: Column) -> Column:
    """Return the bytes of a collective that cross nodes [byte].

    Examples
    --------
    >>> crossing_bytes(300.0, 0.25)
    75.0
    """
    return sent_bytes * network_fraction


def _sent(
    name: str, what: str, *, calls: str, call: str, fraction: str, axes: tuple[str, ...] = _STAGE
) -> tuple[Quantity, Quantity]:
    """Return the bytes that a collective sends over a step, and those of them that cross nodes."""
    scope = Scope.CHUNK if axes == _CHUNK else Scope.GPU
    sent, crossing = f"{name}_sent_bytes", f"{name}_network_bytes"
    return (
        Quantity(
            name=sent,
            unit="byte",
            scope=scope,
            axes=axes,
            definition=f"Bytes that a GPU sends in {what}, over a step.",
            basis=Basis.EXACT,
            formula=f"{calls} * {call}",
            source=_RING,
            function=renamed(wire_bytes, sent, {"calls": calls, "call_bytes": call}),
        ),
        Quantity(
            name=crossing,
            unit="byte",
            scope=scope,
            axes=axes,
            definition=f"Bytes that a GPU sends across nodes in {what}, over a step.",
            basis=Basis.ASSUMED,
            formula=f"{sent} * {fraction}",
            source="the share of the group's hops that cross nodes, a mean over the group",
            function=renamed(
                crossing_bytes, crossing, {"sent_bytes": sent, "network_fraction": fraction}
            ),
        ),
    )


SENT = (
    *_sent(
        "hidden_all_reduce",
        "all-reduces of activations",
        calls="hidden_all_reduce_calls",
        call="hidden_all_reduce_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "loss_all_reduce",
        "all-reduces of the loss",
        calls="loss_all_reduce_calls",
        call="loss_call_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "sequence_all_gather",
        "all-gathers of sequence parallelism",
        calls="sequence_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "sequence_reduce_scatter",
        "reduce-scatters of sequence parallelism",
        calls="sequence_reduce_scatter_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "compressed_all_gather",
        "all-gathers of compressed vectors",
        calls="compressed_scatter_passes",
        call="compressed_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "compressed_reduce_scatter",
        "reduce-scatters of compressed vectors' gradients",
        calls="compressed_scatter_passes",
        call="compressed_scatter_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "compressed_all_reduce",
        "all-reduces of compressed vectors' gradients",
        calls="compressed_reduce_passes",
        call="compressed_reduce_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_all_gather",
        "all-gathers of projections to further tokens",
        calls="prediction_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_all_reduce",
        "all-reduces of gradients of the inputs of projections to further tokens",
        calls="prediction_input_all_reduce_calls",
        call="prediction_input_all_reduce_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_all_gather",
        "all-gathers of the inputs of projections to further tokens",
        calls="prediction_input_all_gather_calls",
        call="prediction_input_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "prediction_input_reduce_scatter",
        "reduce-scatters of gradients of the inputs of projections to further tokens",
        calls="prediction_input_reduce_scatter_calls",
        call="prediction_input_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "replicated_all_reduce",
        "all-reduces of a chunk's gradients of replicated weights",
        calls="replicated_all_reduce_calls",
        call="chunk_replicated_bytes",
        fraction="tensor_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "shared_all_reduce",
        "all-reduces of a chunk's gradients of copied key and value heads",
        calls="shared_all_reduce_calls",
        call="chunk_shared_bytes",
        fraction="tensor_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "handover_all_gather",
        "all-gathers of what arrives from other stages in parts",
        calls="handover_all_gather_calls",
        call="hidden_all_gather_bytes",
        fraction="tensor_network_fraction",
    ),
    *_sent(
        "hop",
        "hand-overs to other stages",
        calls="hop_calls",
        call="hop_bytes",
        fraction="pipeline_network_fraction",
    ),
    *_sent(
        "tied_all_reduce",
        "all-reduces of a tied embedding",
        calls="tied_all_reduce_calls",
        call="tied_call_bytes",
        fraction="tied_network_fraction",
    ),
    *_sent(
        "mirror_all_reduce",
        "all-reduces of gradients over the copies of layers in a pipeline",
        calls="mirror_all_reduce_calls",
        call="mirror_call_bytes",
        fraction="mirror_network_fraction",
    ),
    *_sent(
        "context_send",
        "blocks of keys and values",
        calls="context_send_calls",
        call="context_block_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_all_gather",
        "all-gathers of keys and values",
        calls="context_all_gather_calls",
        call="context_pass_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_reduce_scatter",
        "reduce-scatters of gradients of keys and values",
        calls="context_reduce_scatter_calls",
        call="context_pass_bytes",
        fraction="context_network_fraction",
    ),
    *_sent(
        "context_input_all_to_all",
        "exchanges of queries, keys and values",
        calls="context_input_all_to_all_calls",
        call="context_input_exchange_bytes",
        fraction="context_exchange_fraction",
    ),
    *_sent(
        "context_output_all_to_all",
        "exchanges of the output of heads",
        calls="context_output_all_to_all_calls",
        call="context_output_exchange_bytes",
        fraction="context_exchange_fraction",
    ),
    *_sent(
        "expert_all_to_all",
        "exchanges of rows between experts",
        calls="expert_all_to_all_calls",
        call="expert_exchange_bytes",
        fraction="expert_network_fraction",
    ),
    *_sent(
        "expert_rows_all_gather",
        "all-gathers of rows over ranks that split an expert",
        calls="expert_rows_all_gather_calls",
        call="expert_rows_bytes",
        fraction="expert_tensor_network_fraction",
    ),
    *_sent(
        "expert_rows_reduce_scatter",
        "reduce-scatters of rows over ranks that split an expert",
        calls="expert_rows_reduce_scatter_calls",
        call="expert_rows_bytes",
        fraction="expert_tensor_network_fraction",
    ),
    *_sent(
        "gradient_all_reduce",
        "all-reduces of a chunk's gradients",
        calls="all_reduce_passes",
        call="chunk_gradient_call_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "gradient_reduce_scatter",
        "reduce-scatters of a chunk's gradients",
        calls="reduce_scatter_passes",
        call="chunk_dense_gradient_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "weight_all_gather",
        "all-gathers of a chunk's weights",
        calls="weight_gather_passes",
        call="chunk_dense_gather_bytes",
        fraction="sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_gradient_all_reduce",
        "all-reduces of the gradients of a chunk's experts",
        calls="all_reduce_passes",
        call="chunk_expert_gradient_call_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_gradient_reduce_scatter",
        "reduce-scatters of the gradients of a chunk's experts",
        calls="reduce_scatter_passes",
        call="chunk_expert_gradient_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "expert_weight_all_gather",
        "all-gathers of the weights of a chunk's experts",
        calls="weight_gather_passes",
        call="chunk_expert_gather_bytes",
        fraction="expert_sharding_network_fraction",
        axes=_CHUNK,
    ),
    *_sent(
        "replica_all_reduce",
        "all-reduces of a chunk's scattered gradients over sharding groups",
        calls="reduce_scatter_passes",
        call="chunk_replica_bytes",
        fraction="replication_network_fraction",
        axes=_CHUNK,
    ),
)
"""For each collective the bytes that a GPU sends, and those that cross nodes."""


@quantity(
    "byte",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="stage_gpu_count * total(class_stage_count * (tensor_bytes + sequence_bytes"
    " + context_bytes + expert_bytes + hop_receive_calls * hop_bytes + tied_embedding_bytes"
    " + mirror_call_bytes + data_bytes))",
    source=_RING + " brings a rank as many bytes as it sends",
)
def received_bytes(
    stage_gpu_count: Column,
    class_stage_count: Axis,
    tensor_bytes: Axis,
    sequence_bytes: Axis,
    context_bytes: Axis,
    expert_bytes: Axis,
    hop_receive_calls: Axis,
    hop_bytes: Column,
    tied_embedding_bytes: Axis,
    mirror_call_bytes: Axis,
    data_bytes: Axis,
) -> Column:
    """Return the bytes that all GPUs receive, over a step [byte]."""
    stages = [
        count * (tensor + sequence + context + expert + calls * hop_bytes + tied + mirror + data)
        for count, tensor, sequence, context, expert, calls, tied, mirror, data in zip(
            class_stage_count,
            tensor_bytes,
            sequence_bytes,
            context_bytes,
            expert_bytes,
            hop_receive_calls,
            tied_embedding_bytes,
            mirror_call_bytes,
            data_bytes,
            strict=True,
        )
    ]
    return stage_gpu_count * total(stages)
