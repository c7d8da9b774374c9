"""Weights of inference as they are stored: copied heads, and what few bits spare."""

from types import MappingProxyType

from costmodels.columns import Axis, Column, ceil_div, largest, maximum, weighted_total
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
_STORAGE = "tensors of the model in their formats, split evenly among tensor-parallel ranks"


def softmax_copied_parameters(
    rank_key_value_head_count: Column,
    tensor_parallel_size: Column,
    num_key_value_heads: Column,
    head_size: Column,
    hidden_size: Column,
    attention_bias: Column,
) -> Column:
    """Return the weights of copied key and value heads beyond an equal share [parameter].

    Examples
    --------
    >>> softmax_copied_parameters(1, 16, 8, 128, 4096, 0)
    524288
    """
    copies = rank_key_value_head_count * tensor_parallel_size - num_key_value_heads
    return copies * 2 * head_size * (hidden_size + attention_bias) // tensor_parallel_size


def no_copied_parameters() -> Column:
    """Return zero: nothing is copied [parameter]."""
    return 0


COPIED_PARAMETERS = Quantity(
    name="copied_parameters",
    unit="parameter",
    scope=Scope.GPU,
    axes=_LAYER,
    definition="Weights of copied key and value heads on one rank beyond an equal share.",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="vLLM, vllm/model_executor/layers/linear.py, QKVParallelLinear: with more ranks than "
    "heads each head is on several",
    variants=MappingProxyType(
        dict.fromkeys(OF_SOFTMAX_HEADS, softmax_copied_parameters)
        | dict.fromkeys(("latent", "gated-delta", "lightning"), no_copied_parameters)
    ),
    selector="layout",
)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(stage_layer_count * copied_parameters) * weight_element_bytes",
    source="the sum over the layers of the stage",
)
def copied_weights_bytes(
    stage_layer_count: Axis, copied_parameters: Axis, weight_element_bytes: Column
) -> Column:
    """Return the weights of copied key and value heads of a stage on one rank [byte]."""
    return weighted_total(stage_layer_count, copied_parameters) * weight_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_split_stored_parameters // tensor_parallel_size * weight_element_bytes"
    " - ceil_div(layer_split_stored_bytes, tensor_parallel_size)"
    " + layer_whole_stored_parameters * weight_element_bytes - layer_whole_stored_bytes",
    source=_STORAGE,
)
def layer_narrowed_bytes(
    layer_split_stored_parameters: Column,
    layer_split_stored_bytes: Column,
    layer_whole_stored_parameters: Column,
    layer_whole_stored_bytes: Column,
    tensor_parallel_size: Column,
    weight_element_bytes: Column,
) -> Column:
    """Return what storing a layer's weights in few bits spares a GPU [byte].

    Examples
    --------
    >>> layer_narrowed_bytes(1000, 500, 0, 0, 2, 2)
    750
    """
    split = layer_split_stored_parameters // tensor_parallel_size * weight_element_bytes
    whole = layer_whole_stored_parameters * weight_element_bytes - layer_whole_stored_bytes
    return split - ceil_div(layer_split_stored_bytes, tensor_parallel_size) + whole


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="largest(chunk_holds_embedding) * (embedding_stored_parameters // tensor_parallel_size"
    " * weight_element_bytes - ceil_div(embedding_stored_bytes, tensor_parallel_size))"
    " + largest(chunk_holds_head) * maximum(1 - tied_embeddings, separate_ends_count)"
    " * (head_stored_parameters // tensor_parallel_size"
    " * weight_element_bytes - ceil_div(head_stored_bytes, tensor_parallel_size))",
    source=_STORAGE + "; what every rank holds of the ends (a norm) counts as split",
)
def ends_narrowed_bytes(
    chunk_holds_embedding: Axis,
    embedding_stored_parameters: Column,
    embedding_stored_bytes: Column,
    chunk_holds_head: Axis,
    tied_embeddings: Column,
    separate_ends_count: Column,
    head_stored_parameters: Column,
    head_stored_bytes: Column,
    tensor_parallel_size: Column,
    weight_element_bytes: Column,
) -> Column:
    """Return what storing embedding and head in few bits spares a GPU of a stage [byte]."""
    embedding = embedding_stored_parameters // tensor_parallel_size * weight_element_bytes
    embedding = embedding - ceil_div(embedding_stored_bytes, tensor_parallel_size)
    head = head_stored_parameters // tensor_parallel_size * weight_element_bytes
    head = head - ceil_div(head_stored_bytes, tensor_parallel_size)
    separate = maximum(1 - tied_embeddings, separate_ends_count)
    return largest(chunk_holds_embedding) * embedding + largest(chunk_holds_head) * separate * head


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="total(stage_layer_count * layer_narrowed_bytes) + ends_narrowed_bytes",
    source=_STORAGE,
)
def stage_narrowed_bytes(
    stage_layer_count: Axis, layer_narrowed_bytes: Axis, ends_narrowed_bytes: Column
) -> Column:
    """Return what storing weights in few bits spares a GPU of a stage [byte]."""
    return weighted_total(stage_layer_count, layer_narrowed_bytes) + ends_narrowed_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="wide_weights_bytes - stage_narrowed_bytes",
    source=_STORAGE,
)
def served_weights_bytes(wide_weights_bytes: Column, stage_narrowed_bytes: Column) -> Column:
    """Return the weights of a stage in inference, as they are stored [byte]."""
    return wide_weights_bytes - stage_narrowed_bytes
