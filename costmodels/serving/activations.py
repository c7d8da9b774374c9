"""Activations of a step of inference, one layer at a time, and its logits."""

from types import MappingProxyType

from costmodels.columns import Axis, Column, ceil_div, largest, maximum, minimum, where
from costmodels.quantities import (
    ALGORITHM,
    KIND,
    OF_SOFTMAX_HEADS,
    STAGE,
    Basis,
    Quantity,
    Scope,
    quantity,
)

_LAYER = (KIND,)
_STAGE = (STAGE,)
_ORCA = "Yu et al. 2022 (Orca, OSDI), section 4.1"


@quantity(
    "count",
    Scope.REPLICA,
    basis=Basis.ASSUMED,
    formula="where(kind_is_decode, replica_sequence_count, micro_batch_size)",
    source=_ORCA + ": decode takes a token of every sequence, prefill a microbatch of prompts",
)
def serving_sequence_count(
    kind_is_decode: Column, replica_sequence_count: Column, micro_batch_size: Column
) -> Column:
    """Return the sequences that a replica computes at once in inference [count]."""
    return where(kind_is_decode, replica_sequence_count, micro_batch_size)


@quantity(
    "token",
    Scope.REPLICA,
    basis=Basis.EXACT,
    formula="serving_sequence_count * where(kind_is_decode, 1, sequence_length)",
    source="by definition",
)
def serving_tokens(
    serving_sequence_count: Column, kind_is_decode: Column, sequence_length: Column
) -> Column:
    """Return the tokens that a replica computes at once in inference [token]."""
    return serving_sequence_count * where(kind_is_decode, 1, sequence_length)


def softmax_serving_elements(
    num_attention_heads: Column,
    head_size: Column,
    attention_output_gate: Column,
    tensor_parallel_size: Column,
    rank_key_value_head_count: Column,
) -> Column:
    """Return queries, gate, keys, values and output of a token on one rank [element].

    Examples
    --------
    >>> softmax_serving_elements(32, 128, 0, 1, 8)
    10240
    """
    heads = (2 + attention_output_gate) * num_attention_heads // tensor_parallel_size
    return (heads + 2 * rank_key_value_head_count) * head_size


def latent_serving_elements(
    num_attention_heads: Column,
    query_rank: Column,
    key_value_rank: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return compressed vectors, queries, keys, values and output of a token [element]."""
    heads = num_attention_heads // tensor_parallel_size
    head = 2 * (unrotated_size + rotated_size) + 2 * value_size
    return query_rank + key_value_rank + rotated_size + heads * head


def gated_delta_serving_elements(
    key_heads: Column,
    value_heads: Column,
    key_head_size: Column,
    value_head_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return queries, keys, values, gate, decay, step and output of a token [element]."""
    keys = ceil_div(key_heads, tensor_parallel_size)
    values = ceil_div(value_heads, tensor_parallel_size)
    return 2 * keys * key_head_size + values * (3 * value_head_size + 2)


def lightning_serving_elements(
    num_attention_heads: Column, head_size: Column, tensor_parallel_size: Column
) -> Column:
    """Return queries, keys, values, gate and output of a token [element]."""
    return 5 * (num_attention_heads // tensor_parallel_size) * head_size


SERVING_ELEMENTS = Quantity(
    name="attention_serving_elements",
    unit="element",
    scope=Scope.GPU,
    axes=_LAYER,
    definition="Elements of a layer's attention of one token on one rank, in inference.",
    basis=Basis.ASSUMED,
    formula=ALGORITHM,
    source="by counting tensors that are there at the same time; no scores: a flash kernel",
    variants=MappingProxyType(
        dict.fromkeys(OF_SOFTMAX_HEADS, softmax_serving_elements)
        | {
            "latent": latent_serving_elements,
            "gated-delta": gated_delta_serving_elements,
            "lightning": lightning_serving_elements,
        }
    ),
    selector="layout",
)


@quantity(
    "element",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="experts_per_token * ((2 + gated) * layer_intermediate_size // tensor_parallel_size"
    " + is_mixture * hidden_size) + (2 + gated) * shared_intermediate_size"
    " // tensor_parallel_size",
    source="by counting tensors that are there at the same time; experts: vLLM, "
    "vllm/model_executor/layers/fused_moe/fused_moe.py, its three intermediate caches",
)
def ffn_serving_elements(
    experts_per_token: Column,
    gated: Column,
    layer_intermediate_size: Column,
    tensor_parallel_size: Column,
    is_mixture: Column,
    hidden_size: Column,
    shared_intermediate_size: Column,
) -> Column:
    """Return the elements of a layer's FFN or experts of one token on one rank [element].

    Examples
    --------
    >>> ffn_serving_elements(1, 1, 14336, 1, 0, 4096, 0)
    43008
    """
    routed = (2 + gated) * layer_intermediate_size // tensor_parallel_size
    shared = (2 + gated) * shared_intermediate_size // tensor_parallel_size
    return experts_per_token * (routed + is_mixture * hidden_size) + shared


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="2 * serving_tokens * hidden_size * activation_element_bytes",
    source="the residual stream, and the normalized input of a layer",
)
def serving_hidden_bytes(
    serving_tokens: Column, hidden_size: Column, activation_element_bytes: Column
) -> Column:
    """Return the hidden states of a step of inference [byte]."""
    return 2 * serving_tokens * hidden_size * activation_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="serving_tokens * activation_element_bytes * largest(minimum(stage_layer_count, 1)"
    " * maximum(attention_serving_elements, ffn_serving_elements))",
    source="one layer at a time, attention and FFN one after the other: nothing is kept",
)
def serving_layer_bytes(
    serving_tokens: Column,
    activation_element_bytes: Column,
    stage_layer_count: Axis,
    attention_serving_elements: Axis,
    ffn_serving_elements: Axis,
) -> Column:
    """Return the activations inside the largest half of a stage's layers, in inference [byte]."""
    halves = [
        minimum(count, 1) * maximum(attention, ffn)
        for count, attention, ffn in zip(
            stage_layer_count, attention_serving_elements, ffn_serving_elements, strict=True
        )
    ]
    return serving_tokens * activation_element_bytes * largest(halves)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="largest(chunk_holds_head) * serving_sequence_count * logits_element_bytes"
    " * vocabulary_rows * (tensor_parallel_size + minimum(tensor_parallel_size - 1, 1))",
    source="of the last token of each sequence: a rank's part and, with several ranks, the whole",
)
def serving_logits_bytes(
    chunk_holds_head: Axis,
    serving_sequence_count: Column,
    logits_element_bytes: Column,
    vocabulary_rows: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the logits of a step of inference [byte]."""
    parts = tensor_parallel_size + minimum(tensor_parallel_size - 1, 1)
    rows = serving_sequence_count * logits_element_bytes * vocabulary_rows
    return largest(chunk_holds_head) * rows * parts
