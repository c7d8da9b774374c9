"""Moments of optimizers that look at the shape of a weight: Adafactor, Muon, and Adam in 8 bits.

Adam and SGD keep so many numbers of each weight, whatever its tensor (`memory.moment_count`). Of a
matrix Adafactor keeps a sum over each row and each column [1]_, Muon one moment, while embeddings,
head and vectors have Adam's two [2]_. Adam in 8 bits keeps a byte of each moment, and a scale in fp32
of each 256; small tensors stay in fp32 [3]_. Tensors are those of one rank, each projection its own.

Where states are sharded, they are counted as one vector: each shard is rounded up.

References
----------
.. [1] N. Shazeer and M. Stern, "Adafactor," 2018, section 3. arXiv:1804.04235. As
   ``torch.optim.Adafactor`` keeps it: no first moment.
.. [2] J. Liu et al., "Muon is Scalable for LLM Training," 2025, section 2. arXiv:2502.16982.
.. [3] T. Dettmers et al., "8-bit Optimizers via Block-wise Quantization," 2021, section 2.
   arXiv:2110.02861; github.com/bitsandbytes-foundation/bitsandbytes, ``optim/optimizer.py``:
   blocks of 256, ``min_8bit_size`` of 4096.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    maximum,
    minimum,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import ALGORITHM, KIND, STAGE, Basis, Scope, quantity

_SHAPES = (
    "Shazeer and Stern 2018, arXiv:1804.04235, section 3; Liu et al. 2025, arXiv:2502.16982, section "
    "2; Dettmers et al. 2021, arXiv:2110.02861, section 2; equal to torch.optim.Adafactor and Muon"
)
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 5"
_LAYER = (KIND,)
_STAGE = (STAGE,)

_BLOCK_ELEMENTS, _SMALLEST_ELEMENTS, _SCALE_BYTES = 256, 4096, 4

Matrix: TypeAlias = tuple[Column, Column, Column]
"""How many there are of a matrix, its rows and its columns [count]."""

Vector: TypeAlias = tuple[Column, Column]
"""How many there are of a vector, and its elements [count]."""


class Choice(NamedTuple):
    """Which optimizer it is, and the bytes of a moment's element."""

    is_adafactor: Column
    is_muon: Column
    is_adam_8bit: Column
    element_bytes: Column


def quantized_bytes(elements: Column) -> Column:
    """Return both moments of a tensor of Adam in 8 bits, with their scales [byte].

    Parameters
    ----------
    elements : Column
        Elements of the tensor [count].

    Examples
    --------
    >>> quantized_bytes(4096), quantized_bytes(4095), quantized_bytes(4097)
    (8320, 32760, 8330)
    """
    scales = _SCALE_BYTES * ceil_div(elements, _BLOCK_ELEMENTS)
    return 2 * where(elements >= _SMALLEST_ELEMENTS, elements + scales, 4 * elements)


def tensor_state_bytes(
    choice: Choice,
    matrices: Sequence[Matrix],
    vectors: Sequence[Vector],
    *,
    matrix_moments: int = 1,
) -> Column:
    """Return the moments of some tensors [byte].

    Parameters
    ----------
    choice : Choice
        The optimizer.
    matrices, vectors : sequence
        Shapes, and how many there are of each.
    matrix_moments : int
        Moments of a matrix beside Muon: 1 of those that it updates, 2 of embeddings and head [count].

    Examples
    --------
    A matrix of 8 by 6 and a vector of 5, in fp32: 8 + 6 + 5 numbers; 48 + 2 x 5 numbers.

    >>> tensor_state_bytes(Choice(1, 0, 0, 4), [(1, 8, 6)], [(1, 5)])
    76
    >>> tensor_state_bytes(Choice(0, 1, 0, 4), [(1, 8, 6)], [(1, 5)])
    232
    """
    sizes = [(count, rows * columns) for count, rows, columns in matrices]
    flat = [*sizes, *vectors]
    own = total([count * size for count, size in vectors])
    factors = total([count * (rows + columns) for count, rows, columns in matrices]) + own
    moments = matrix_moments * total([count * size for count, size in sizes]) + 2 * own
    blocks = total([count * quantized_bytes(size) for count, size in flat])
    elements = choice.is_adafactor * factors + choice.is_muon * moments
    return elements * choice.element_bytes + choice.is_adam_8bit * blocks


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAPES,
)
def layer_state_bytes(
    optimizer_is_adafactor: Column,
    optimizer_is_muon: Column,
    optimizer_is_adam_8bit: Column,
    moment_element_bytes: Column,
    tensor_parallel_size: Column,
    hidden_size: Column,
    num_attention_heads: Column,
    rank_key_value_head_count: Column,
    head_size: Column,
    attention_output_gate: Column,
    attention_bias: Column,
    attention_output_bias: Column,
    attention_sinks: Column,
    query_key_norm_is_head: Column,
    query_key_norm_is_full: Column,
    norm_is_layernorm: Column,
    norms_per_layer: Column,
    key_value_rank: Column,
    query_rank: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
    gated: Column,
    ffn_bias: Column,
    shared_intermediate_size: Column,
    shared_gate: Column,
    is_mixture: Column,
    expert_count: Column,
    router_bias: Column,
) -> Column:
    """Return the moments of a layer by shapes, without its network or routed experts [byte]."""
    choice = Choice(
        optimizer_is_adafactor, optimizer_is_muon, optimizer_is_adam_8bit, moment_element_bytes
    )
    hidden, split, biases = hidden_size, tensor_parallel_size, 1 + norm_is_layernorm
    queries = num_attention_heads * head_size // split
    shared = rank_key_value_head_count * head_size
    latent = (key_value_rank > 0) * 1
    softmax, compressed = 1 - latent, latent * ((query_rank > 0) * 1)
    heads = num_attention_heads // split
    width = shared_intermediate_size // split
    one = minimum(shared_intermediate_size, 1)
    small = query_rank + (query_rank == 0) * hidden
    matrices: list[Matrix] = [
        (softmax * (1 + attention_output_gate), queries, hidden),
        (softmax * 2, shared, hidden),
        (softmax, hidden, queries),
        (compressed, query_rank, hidden),
        (latent, heads * (unrotated_size + rotated_size), small),
        (latent, key_value_rank + rotated_size, hidden),
        (latent, heads * (unrotated_size + value_size), key_value_rank),
        (latent, hidden, heads * value_size),
        (is_mixture, expert_count, hidden),
        (shared_gate, 1, hidden),
        (one * (1 + gated), width, hidden),
        (one, hidden, width),
    ]
    vectors: list[Vector] = [
        (norms_per_layer * biases, hidden),
        (softmax * attention_bias * (1 + attention_output_gate), queries),
        (softmax * attention_bias * 2, shared),
        (attention_output_bias, hidden),
        (softmax * attention_sinks, heads),
        (query_key_norm_is_head * 2 * biases, head_size),
        (query_key_norm_is_full * biases, queries),
        (query_key_norm_is_full * biases, shared),
        (compressed, query_rank),
        (compressed * attention_bias, query_rank),
        (latent, key_value_rank),
        (latent * attention_bias, key_value_rank + rotated_size),
        (one * ffn_bias * (1 + gated), width),
        (one * ffn_bias, hidden),
        (router_bias * is_mixture, expert_count),
    ]
    return tensor_state_bytes(choice, matrices, vectors)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAPES,
)
def ffn_state_bytes(
    optimizer_is_adafactor: Column,
    optimizer_is_muon: Column,
    optimizer_is_adam_8bit: Column,
    moment_element_bytes: Column,
    layer_split_size: Column,
    hidden_size: Column,
    layer_intermediate_size: Column,
    gated: Column,
    ffn_bias: Column,
    is_mixture: Column,
    expert_count: Column,
    expert_parallel_size: Column,
) -> Column:
    """Return the moments of a layer's network or routed experts on a GPU, by shapes [byte]."""
    choice = Choice(
        optimizer_is_adafactor, optimizer_is_muon, optimizer_is_adam_8bit, moment_element_bytes
    )
    held = where(is_mixture, expert_count // expert_parallel_size, 1)
    width = layer_intermediate_size // layer_split_size
    matrices: list[Matrix] = [
        (held * (1 + gated), width, hidden_size),
        (held, hidden_size, width),
    ]
    vectors: list[Vector] = [
        (held * ffn_bias * (1 + gated), width),
        (held * ffn_bias, hidden_size),
    ]
    return tensor_state_bytes(choice, matrices, vectors)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAPES,
)
def embedding_state_bytes(
    optimizer_is_adafactor: Column,
    optimizer_is_muon: Column,
    optimizer_is_adam_8bit: Column,
    moment_element_bytes: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    positions_is_learned: Column,
    max_position_embeddings: Column,
    reserved_positions: Column,
    embedding_norm: Column,
    norm_is_layernorm: Column,
) -> Column:
    """Return the moments of the input embeddings, by shapes [byte]."""
    choice = Choice(
        optimizer_is_adafactor, optimizer_is_muon, optimizer_is_adam_8bit, moment_element_bytes
    )
    rows = max_position_embeddings + reserved_positions
    matrices: list[Matrix] = [
        (1, vocabulary_rows, hidden_size),
        (positions_is_learned, rows, hidden_size),
    ]
    vectors = [(embedding_norm * (1 + norm_is_layernorm), hidden_size)]
    return tensor_state_bytes(choice, matrices, vectors, matrix_moments=2)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAPES,
)
def head_state_bytes(
    optimizer_is_adafactor: Column,
    optimizer_is_muon: Column,
    optimizer_is_adam_8bit: Column,
    moment_element_bytes: Column,
    vocabulary_rows: Column,
    hidden_size: Column,
    tied_embeddings: Column,
    separate_ends_count: Column,
    embedding_copy_count: Column,
    prediction_count: Column,
    tensor_parallel_size: Column,
    head_bias: Column,
    norm_is_layernorm: Column,
) -> Column:
    """Return the moments of final norm, head and projections to further tokens, by shapes [byte]."""
    choice = Choice(
        optimizer_is_adafactor, optimizer_is_muon, optimizer_is_adam_8bit, moment_element_bytes
    )
    separate = maximum(1 - tied_embeddings, separate_ends_count)
    copies = (1 - tied_embeddings) * embedding_copy_count
    matrices = [(separate + copies, vocabulary_rows, hidden_size)]
    width = hidden_size // tensor_parallel_size
    further = tensor_state_bytes(
        choice,
        [(prediction_count, width, 2 * hidden_size)],
        [(3 * prediction_count * (1 + norm_is_layernorm), hidden_size)],
    )
    vectors: list[Vector] = [(1 + norm_is_layernorm, hidden_size), (head_bias, vocabulary_rows)]
    return tensor_state_bytes(choice, matrices, vectors, matrix_moments=2) + further


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source=_SHAPES,
)
def adapter_state_bytes(
    optimizer_is_adafactor: Column,
    optimizer_is_muon: Column,
    optimizer_is_adam_8bit: Column,
    moment_element_bytes: Column,
    adapter_rank: Column,
    hidden_size: Column,
    num_attention_heads: Column,
    num_key_value_heads: Column,
    head_size: Column,
    layer_intermediate_size: Column,
    adapts_query: Column,
    adapts_key: Column,
    adapts_value: Column,
    adapts_output: Column,
    adapts_gate: Column,
    adapts_up: Column,
    adapts_down: Column,
) -> Column:
    """Return the moments of a layer's adapters, by shapes [byte]."""
    choice = Choice(
        optimizer_is_adafactor, optimizer_is_muon, optimizer_is_adam_8bit, moment_element_bytes
    )
    queries, shared = num_attention_heads * head_size, num_key_value_heads * head_size
    projections = (
        (adapts_query, hidden_size, queries),
        (adapts_key + adapts_value, hidden_size, shared),
        (adapts_output, queries, hidden_size),
        (adapts_gate + adapts_up, hidden_size, layer_intermediate_size),
        (adapts_down, layer_intermediate_size, hidden_size),
    )
    down = [(count, adapter_rank, inputs) for count, inputs, _ in projections]
    up = [(count, outputs, adapter_rank) for count, _, outputs in projections]
    none: list[Vector] = [(0, hidden_size)]
    return tensor_state_bytes(choice, [*down, *up], none)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ceil_div(total(stage_layer_count * (layer_state_bytes"
    " + (1 - is_mixture * experts_apart) * ffn_state_bytes))"
    " + total(chunk_holds_embedding) * embedding_state_bytes"
    " + total(chunk_holds_head) * head_state_bytes, where(zero_stage >= 1, sharding_size, 1))"
    " + ceil_div(total(stage_layer_count * is_mixture * experts_apart * ffn_state_bytes),"
    " where(zero_stage >= 1, expert_sharding_size, 1))",
    source=_ZERO,
)
def weight_moments_bytes(
    stage_layer_count: Axis,
    layer_state_bytes: Axis,
    is_mixture: Axis,
    experts_apart: Column,
    ffn_state_bytes: Axis,
    chunk_holds_embedding: Axis,
    embedding_state_bytes: Column,
    chunk_holds_head: Axis,
    head_state_bytes: Column,
    zero_stage: Column,
    sharding_size: Column,
    expert_sharding_size: Column,
) -> Column:
    """Return the moments of all weights by shapes, for optimizers that look at them [byte]."""
    rows = list(zip(stage_layer_count, layer_state_bytes, is_mixture, ffn_state_bytes, strict=True))
    layers = total(
        [
            count * (own + (1 - routed * experts_apart) * network)
            for count, own, routed, network in rows
        ]
    )
    experts = total(
        [count * routed * experts_apart * network for count, _, routed, network in rows]
    )
    ends = (
        total(chunk_holds_embedding) * embedding_state_bytes
        + total(chunk_holds_head) * head_state_bytes
    )
    return ceil_div(layers + ends, where(zero_stage >= 1, sharding_size, 1)) + ceil_div(
        experts, where(zero_stage >= 1, expert_sharding_size, 1)
    )


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(weights_are_frozen, ceil_div(total(stage_layer_count * adapter_state_bytes),"
    " where(zero_stage >= 1, sharding_size, 1)), weight_moments_bytes)",
    source=_ZERO,
)
def shape_moments_bytes(
    weights_are_frozen: Column,
    stage_layer_count: Axis,
    adapter_state_bytes: Axis,
    zero_stage: Column,
    sharding_size: Column,
    weight_moments_bytes: Column,
) -> Column:
    """Return the moments of optimizers that look at shapes; zero of the others [byte]."""
    ranks = where(zero_stage >= 1, sharding_size, 1)
    adapters = ceil_div(weighted_total(stage_layer_count, adapter_state_bytes), ranks)
    return where(weights_are_frozen, adapters, weight_moments_bytes)
