"""Parameters of the whole model: its ends, its layers, and those that a token uses."""

from costmodels.columns import Axis, Column, weighted_total
from costmodels.quantities import Basis, Scope, quantity

_VASWANI = "Vaswani et al. 2017, arXiv:1706.03762, section 3; counts equal to the modules of torch"
_SHAZEER = "Shazeer et al. 2017, arXiv:1701.06538, section 2; Jiang et al. 2024, arXiv:2401.04088"


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="vocabulary_size * hidden_size",
    source=_VASWANI,
)
def embedding_parameters(vocabulary_size: Column, hidden_size: Column) -> Column:
    """Return the parameters of the token embedding [parameter]."""
    return vocabulary_size * hidden_size


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="positions_is_learned * (max_position_embeddings + reserved_positions) * hidden_size",
    source=_VASWANI,
)
def position_parameters(
    positions_is_learned: Column,
    max_position_embeddings: Column,
    reserved_positions: Column,
    hidden_size: Column,
) -> Column:
    """Return the parameters of the table of learned positions [parameter]."""
    return positions_is_learned * (max_position_embeddings + reserved_positions) * hidden_size


@quantity(
    "parameter",
    Scope.TOTAL,
    symbol="N",
    group="parameters",
    basis=Basis.EXACT,
    formula="total(kind_layer_count * layer_parameters)"
    " + (2 - tied_embeddings) * embedding_parameters + head_bias * vocabulary_size"
    " + position_parameters + (1 + embedding_norm) * norm_parameters",
    source=_VASWANI,
)
def total_parameters(
    kind_layer_count: Axis,
    layer_parameters: Axis,
    embedding_parameters: Column,
    position_parameters: Column,
    norm_parameters: Column,
    embedding_norm: Column,
    tied_embeddings: Column,
    head_bias: Column,
    vocabulary_size: Column,
) -> Column:
    """Return the parameters of the model, a tied head counted once [parameter].

    Notes
    -----
    Layers that predict further tokens are not among them: they serve training, and are published
    apart.
    """
    return (
        weighted_total(kind_layer_count, layer_parameters)
        + (2 - tied_embeddings) * embedding_parameters
        + head_bias * vocabulary_size
        + position_parameters
        + (1 + embedding_norm) * norm_parameters
    )


@quantity(
    "parameter",
    Scope.TOTAL,
    group="parameters",
    basis=Basis.EXACT,
    formula="total(predicted_layer_count * (layer_parameters + 2 * hidden_size * hidden_size"
    " + 3 * norm_parameters))",
    source="DeepSeek-AI 2024, arXiv:2412.19437, section 2.2: a layer, a projection of two"
    " normalized vectors to one, a norm; embedding and head are those of the model",
)
def multi_token_prediction_parameters(
    predicted_layer_count: Axis,
    layer_parameters: Axis,
    hidden_size: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters that only predict further tokens, beside the model's [parameter]."""
    own = 2 * hidden_size * hidden_size + 3 * norm_parameters
    return weighted_total(predicted_layer_count, [layer + own for layer in layer_parameters])


@quantity(
    "parameter",
    Scope.TOTAL,
    symbol="N_a",
    group="parameters",
    basis=Basis.EXACT,
    formula="total_parameters - total(kind_layer_count * layer_inactive_parameters)",
    source=_SHAZEER,
)
def active_parameters(
    total_parameters: Column, kind_layer_count: Axis, layer_inactive_parameters: Axis
) -> Column:
    """Return the parameters that one token passes through, embeddings included [parameter]."""
    return total_parameters - weighted_total(kind_layer_count, layer_inactive_parameters)
