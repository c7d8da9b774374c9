"""The tensors of a model's weights, one by one, with their shapes and what they are for."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from costmodels.specs.layouts import Compressive, GatedDelta, Infini, Latent, Layout, Lightning
from costmodels.specs.model import Model, Norm, Positions, QueryKeyNorm


class Role(StrEnum):
    """What a tensor of weights is for."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    FFN = "ffn"
    EXPERTS = "experts"
    ROUTER = "router"
    HEAD = "head"
    VECTORS = "vectors"


class Tensor(NamedTuple):
    """Weights of one kind: a matrix, or a stack of them.

    Attributes
    ----------
    name : str
        What it is, such as ``query`` or ``down``.
    role : Role
        What it is for.
    layer : int or None
        Layer, None outside of layers [index].
    rows, columns : int
        Outputs and inputs; a vector has one row [count].
    matrix_count : int
        Matrices: experts of a layer, else one [count].
    """

    name: str
    role: Role
    layer: int | None
    rows: int
    columns: int
    matrix_count: int = 1

    @property
    def elements_count(self) -> int:
        """Return its weights [count]."""
        return self.rows * self.columns * self.matrix_count


def model_tensors(model: Model) -> tuple[Tensor, ...]:
    """Return every tensor of a model's weights, a tied head counted once.

    Parameters
    ----------
    model : Model
        Any description.

    Returns
    -------
    tuple of Tensor
        In the order in which the model uses them. Vectors of one kind in a layer are one tensor.

    Notes
    -----
    Their elements sum to `costmodels.parameters.whole.total_parameters`. Layers that predict further
    tokens are not among them, as there.
    """
    hidden = model.hidden_size
    found = [Tensor("embedding", Role.EMBEDDING, None, model.vocabulary_size, hidden)]
    if model.positions is Positions.LEARNED:
        rows = model.max_position_embeddings + model.reserved_positions
        found.append(Tensor("positions", Role.EMBEDDING, None, rows, hidden))
    if model.embedding_norm:
        found.append(_vector("embedding norm", None, _norm(model, hidden)))
    for layer in range(model.num_hidden_layers):
        layout = model.layouts[layer % len(model.layouts)]
        found.extend(_attention(model, layout, layer))
        found.extend(_feed_forward(model, layer))
        norms = model.norms_per_layer * _norm(model, hidden)
        found.append(_vector("norms", layer, norms))
    found.append(_vector("final norm", None, _norm(model, hidden)))
    if not model.tied_embeddings:
        found.append(Tensor("head", Role.HEAD, None, model.vocabulary_size, hidden))
    if model.head_bias:
        found.append(_vector("head bias", None, model.vocabulary_size))
    return tuple(entry for entry in found if entry.elements_count)


def _vector(name: str, layer: int | None, size: int) -> Tensor:
    return Tensor(name, Role.VECTORS, layer, 1, size)


def _norm(model: Model, width: int) -> int:
    return width * (2 if model.norm is Norm.LAYERNORM else 1)


def _attention(model: Model, layout: Layout, layer: int) -> Iterator[Tensor]:
    shapes = _matrices(model, layout)
    for name, rows, columns in shapes:
        yield Tensor(name, Role.ATTENTION, layer, rows, columns)
    yield _vector("attention vectors", layer, _attention_vectors(model, layout))


def _matrices(model: Model, layout: Layout) -> list[tuple[str, int, int]]:
    hidden = model.hidden_size
    if isinstance(layout, Latent):
        return _latent_matrices(model, layout)
    if isinstance(layout, GatedDelta):
        keys = layout.key_heads * layout.key_head_size
        values = layout.value_heads * layout.value_head_size
        return [
            ("query, key, value", 2 * keys + values, hidden),
            ("gate", values, hidden),
            ("decay and step", 2 * layout.value_heads, hidden),
            ("convolution", 2 * keys + values, layout.convolution_width),
            ("output", hidden, values),
        ]
    width = model.num_attention_heads * model.head_size
    if isinstance(layout, Lightning):
        return [
            ("query, key, value", 3 * width, hidden),
            ("gate", width, hidden),
            ("output", hidden, width),
        ]
    kept = model.num_key_value_heads * model.head_size
    gate = [("gate", width, hidden)] if model.attention_output_gate else []
    squeezing = []
    if isinstance(layout, Compressive):
        squeezing = [("compressor", hidden, layout.compression_rate * hidden)]
    return [
        ("query", width, hidden),
        *gate,
        ("key", kept, hidden),
        ("value", kept, hidden),
        ("output", hidden, width),
        *squeezing,
    ]


def _latent_matrices(model: Model, layout: Latent) -> list[tuple[str, int, int]]:
    heads, hidden = model.num_attention_heads, model.hidden_size
    width = heads * (layout.unrotated_size + layout.rotated_size)
    if layout.query_rank:
        queries = [
            ("query down", layout.query_rank, hidden),
            ("query up", width, layout.query_rank),
        ]
    else:
        queries = [("query", width, hidden)]
    return [
        *queries,
        ("key and value down", layout.key_value_rank + layout.rotated_size, hidden),
        (
            "key and value up",
            heads * (layout.unrotated_size + layout.value_size),
            layout.key_value_rank,
        ),
        ("output", hidden, heads * layout.value_size),
    ]


def _attention_vectors(model: Model, layout: Layout) -> int:
    output_bias = model.attention_output_bias * model.hidden_size
    if isinstance(layout, Latent):
        width = layout.query_rank + layout.key_value_rank
        return width + model.attention_bias * (width + layout.rotated_size) + output_bias
    if isinstance(layout, GatedDelta):
        return 2 * layout.value_heads + layout.value_head_size
    heads = model.num_attention_heads
    if isinstance(layout, Lightning):
        return heads * model.head_size
    both = heads + model.num_key_value_heads
    biased = both + model.num_key_value_heads + model.attention_output_gate * heads
    normed = {QueryKeyNorm.HEAD: 2, QueryKeyNorm.FULL: both}.get(model.query_key_norm, 0)
    own = 0
    if isinstance(layout, Infini):
        own = heads + 2 * layout.decayed * model.num_key_value_heads
    elif isinstance(layout, Compressive):
        own = model.hidden_size
    return (
        model.attention_bias * biased * model.head_size
        + _norm(model, normed * model.head_size)
        + model.attention_sinks * heads
        + own
        + output_bias
    )


def _feed_forward(model: Model, layer: int) -> Iterator[Tensor]:
    mixture = model.mixture
    if mixture is None or not model.has_experts(layer):
        yield from _network(model, layer, Role.FFN, model.intermediate_size)
        return
    width = mixture.expert_intermediate_size or model.intermediate_size
    yield from _network(model, layer, Role.EXPERTS, width, mixture.expert_count)
    if mixture.shared_intermediate_size:
        yield from _network(model, layer, Role.FFN, mixture.shared_intermediate_size)
    outputs = mixture.expert_count + mixture.shared_gate
    yield Tensor("router", Role.ROUTER, layer, outputs, model.hidden_size)
    yield _vector("router bias", layer, mixture.router_bias * mixture.expert_count)


def _network(
    model: Model, layer: int, role: Role, width: int, matrix_count: int = 1
) -> Iterator[Tensor]:
    hidden = model.hidden_size
    if model.gated:
        yield Tensor("gate projection", role, layer, width, hidden, matrix_count)
    yield Tensor("up", role, layer, width, hidden, matrix_count)
    yield Tensor("down", role, layer, hidden, width, matrix_count)
    biases = ((1 + model.gated) * width + hidden) * matrix_count
    yield _vector("biases", layer, model.ffn_bias * biases)
