"""The model alone: heads, norms, positions, further tokens, and the layers that have experts."""

from costmodels.columns import Axis, Column, total
from costmodels.errors import SpecError
from costmodels.rules.declaration import rule
from costmodels.rules.layouts import check_layout
from costmodels.specs.model import Mixture, Model


@rule(
    "model.num_attention_heads",
    "must be a multiple of model.num_key_value_heads ({num_key_value_heads})",
)
def groups_divide(num_attention_heads: Axis, num_key_value_heads: Axis) -> Column:
    """Return whether query heads share key and value heads evenly."""
    pairs = zip(num_attention_heads, num_key_value_heads, strict=True)
    return total([heads % shared for heads, shared in pairs]) == 0


@rule(
    "model.norms_per_layer",
    "must be 2 (before each half of a layer), 4 (before and after, "
    "model.parallel_residual=false) or 1 (for both halves, model.parallel_residual=true)",
)
def norms_are_placed(norms_per_layer: Column, parallel_residual: Column) -> Column:
    """Return whether norms are before each half of a layer, or before and after, or one for both."""
    in_series = (parallel_residual == 0) * (norms_per_layer == 4)
    beside = (parallel_residual == 1) * (norms_per_layer == 1)
    return (norms_per_layer == 2) + in_series + beside > 0


@rule(
    "model.multi_token_prediction_layers",
    "further tokens are not modelled with model.positions=learned or "
    "model.embedding_norm=true; set model.multi_token_prediction_layers=0",
    modelled=False,
)
def predictions_embed_tokens_alone(
    prediction_count: Column, positions_is_learned: Column, embedding_norm: Column
) -> Column:
    """Return whether layers that predict further tokens look up nothing but tokens."""
    return (prediction_count == 0) + (positions_is_learned + embedding_norm == 0) > 0


@rule(
    "workload.sequence_length",
    "must be at most model.max_position_embeddings ({max_position_embeddings}) "
    "with learned positions",
)
def positions_suffice(
    positions_is_learned: Column, sequence_length: Column, max_position_embeddings: Column
) -> Column:
    """Return whether a table of learned positions is long enough."""
    return (positions_is_learned == 0) + (sequence_length <= max_position_embeddings) > 0


def check_model(model: Model) -> None:
    """Raise unless a model's layers are described without contradiction.

    Raises
    ------
    SpecError
        Naming the field, its value and what would be valid.
    """
    layers = model.num_hidden_layers
    if len(model.layouts) > layers:
        raise SpecError(
            f"model.layouts ({len(model.layouts)} members): must be at most "
            f"model.num_hidden_layers ({layers})"
        )
    for layout in model.layouts:
        check_layout(model, layout)
    if model.mixture is not None:
        _check_mixture(model, model.mixture)


def _check_mixture(model: Model, mixture: Mixture) -> None:
    if mixture.shared_gate and not mixture.shared_intermediate_size:
        raise SpecError(
            "model.mixture.shared_gate (True): weighs shared experts, so "
            "model.mixture.shared_intermediate_size (0) must be above 0"
        )
    dense, layers = mixture.dense_layers, model.num_hidden_layers
    for index in dense:
        if index >= layers:
            raise SpecError(
                f"model.mixture.dense_layers ({index}): must be below model.num_hidden_layers "
                f"({layers}); layers are counted from zero"
            )
    if len(set(dense)) != len(dense) or len(dense) == layers:
        raise SpecError(
            f"model.mixture.dense_layers ({len(dense)} members): must name each layer once, and "
            "leave some to experts"
        )
