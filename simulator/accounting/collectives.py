"""What is known of each collective beside its numbers: axis, payload, group."""

import msgspec


class Collective(msgspec.Struct, frozen=True):
    """What is known of a collective beside its numbers; `name` is the stem of its quantities.

    Without an axis it is of sequence parallelism where that is on, else of tensor parallelism.
    With `passes`, payload and bytes sent are those of all the calls of a pass.
    """

    name: str
    axis: str
    operation: str
    payload: str
    call: str
    group: str
    passes: str = ""

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the quantities that count it."""
        return (
            f"{self.name}_calls",
            self.payload,
            self.call,
            f"{self.name}_sent_bytes",
            f"{self.name}_network_bytes",
        )


COLLECTIVES = (
    Collective(
        "hidden_all_reduce",
        "tensor",
        "all-reduce",
        "hidden_message_bytes",
        "hidden_all_reduce_bytes",
        "tensor",
    ),
    Collective(
        "loss_all_reduce", "tensor", "all-reduce", "loss_message_bytes", "loss_call_bytes", "tensor"
    ),
    Collective(
        "sequence_all_gather",
        "sequence",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    Collective(
        "sequence_reduce_scatter",
        "sequence",
        "reduce-scatter",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    Collective(
        "compressed_all_gather",
        "sequence",
        "all-gather",
        "compressed_gather_message_bytes",
        "compressed_gather_bytes",
        "tensor",
        "compressed_scatter_passes",
    ),
    Collective(
        "compressed_reduce_scatter",
        "sequence",
        "reduce-scatter",
        "compressed_message_bytes",
        "compressed_scatter_bytes",
        "tensor",
        "compressed_scatter_passes",
    ),
    Collective(
        "compressed_all_reduce",
        "tensor",
        "all-reduce",
        "compressed_message_bytes",
        "compressed_reduce_bytes",
        "tensor",
        "compressed_reduce_passes",
    ),
    Collective(
        "prediction_all_gather",
        "",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    Collective(
        "prediction_input_all_reduce",
        "tensor",
        "all-reduce",
        "prediction_input_message_bytes",
        "prediction_input_all_reduce_bytes",
        "tensor",
    ),
    Collective(
        "prediction_input_all_gather",
        "sequence",
        "all-gather",
        "prediction_input_message_bytes",
        "prediction_input_all_gather_bytes",
        "tensor",
    ),
    Collective(
        "prediction_input_reduce_scatter",
        "sequence",
        "reduce-scatter",
        "prediction_input_message_bytes",
        "prediction_input_all_gather_bytes",
        "tensor",
    ),
    Collective(
        "replicated_all_reduce",
        "",
        "all-reduce",
        "replicated_message_bytes",
        "chunk_replicated_bytes",
        "tensor",
    ),
    Collective(
        "shared_all_reduce",
        "",
        "all-reduce",
        "shared_message_bytes",
        "chunk_shared_bytes",
        "copies",
    ),
    Collective(
        "context_send", "context", "send", "context_block_bytes", "context_block_bytes", "context"
    ),
    Collective(
        "context_all_gather",
        "context",
        "all-gather",
        "context_gathered_bytes",
        "context_pass_bytes",
        "context",
    ),
    Collective(
        "context_reduce_scatter",
        "context",
        "reduce-scatter",
        "context_gathered_bytes",
        "context_pass_bytes",
        "context",
    ),
    Collective(
        "context_input_all_to_all",
        "context",
        "all-to-all",
        "context_input_bytes",
        "context_input_exchange_bytes",
        "context",
    ),
    Collective(
        "context_output_all_to_all",
        "context",
        "all-to-all",
        "context_output_bytes",
        "context_output_exchange_bytes",
        "context",
    ),
    Collective(
        "expert_all_to_all",
        "expert",
        "all-to-all",
        "expert_message_bytes",
        "expert_exchange_bytes",
        "expert",
    ),
    Collective(
        "expert_rows_all_gather",
        "expert",
        "all-gather",
        "expert_rows_message_bytes",
        "expert_rows_bytes",
        "expert_tensor",
    ),
    Collective(
        "expert_rows_reduce_scatter",
        "expert",
        "reduce-scatter",
        "expert_rows_message_bytes",
        "expert_rows_bytes",
        "expert_tensor",
    ),
    Collective(
        "handover_all_gather",
        "tensor",
        "all-gather",
        "hidden_message_bytes",
        "hidden_all_gather_bytes",
        "tensor",
    ),
    Collective("hop", "pipeline", "send", "hop_bytes", "hop_bytes", "pipeline"),
    Collective(
        "tied_all_reduce",
        "tied embedding",
        "all-reduce",
        "tied_message_bytes",
        "tied_call_bytes",
        "",
    ),
    Collective(
        "mirror_all_reduce",
        "pipeline",
        "all-reduce",
        "mirror_message_bytes",
        "mirror_call_bytes",
        "mirror",
    ),
    Collective(
        "gradient_all_reduce",
        "data",
        "all-reduce",
        "chunk_gradient_message_bytes",
        "chunk_gradient_call_bytes",
        "sharding",
        "all_reduce_passes",
    ),
    Collective(
        "gradient_reduce_scatter",
        "data",
        "reduce-scatter",
        "chunk_gradient_message_bytes",
        "chunk_dense_gradient_bytes",
        "sharding",
        "reduce_scatter_passes",
    ),
    Collective(
        "weight_all_gather",
        "data",
        "all-gather",
        "chunk_weight_message_bytes",
        "chunk_dense_gather_bytes",
        "sharding",
        "weight_gather_passes",
    ),
    Collective(
        "expert_gradient_all_reduce",
        "data",
        "all-reduce",
        "chunk_expert_gradient_message_bytes",
        "chunk_expert_gradient_call_bytes",
        "expert_sharding",
        "all_reduce_passes",
    ),
    Collective(
        "expert_gradient_reduce_scatter",
        "data",
        "reduce-scatter",
        "chunk_expert_gradient_message_bytes",
        "chunk_expert_gradient_bytes",
        "expert_sharding",
        "reduce_scatter_passes",
    ),
    Collective(
        "expert_weight_all_gather",
        "data",
        "all-gather",
        "chunk_expert_weight_message_bytes",
        "chunk_expert_gather_bytes",
        "expert_sharding",
        "weight_gather_passes",
    ),
    Collective(
        "replica_all_reduce",
        "data",
        "all-reduce",
        "replica_message_bytes",
        "chunk_replica_bytes",
        "replication",
        "reduce_scatter_passes",
    ),
)
