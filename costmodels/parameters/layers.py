"""Parameters of a layer: attention apart, its network, experts, router and norms."""

from costmodels.columns import Column, minimum, where
from costmodels.quantities import KIND, Basis, Scope, quantity

_MEGATRON = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_VASWANI = "Vaswani et al. 2017, arXiv:1706.03762, section 3; counts equal to the modules of torch"
_LAYER = (KIND,)
_DEEPSEEK = (
    "Dai et al. 2024, arXiv:2401.06066, section 3.2; Rajbhandari et al. 2022, arXiv:2201.05596"
)
_SHAZEER = "Shazeer et al. 2017, arXiv:1701.06538, section 2; Jiang et al. 2024, arXiv:2401.04088"


@quantity(
    "count",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(is_mixture * (expert_intermediate_size > 0), expert_intermediate_size,"
    " intermediate_size)",
    source=_SHAZEER,
)
def layer_intermediate_size(
    is_mixture: Column, expert_intermediate_size: Column, intermediate_size: Column
) -> Column:
    """Return the width of a layer's feed-forward network, or of one of its experts [count].

    Examples
    --------
    >>> int(layer_intermediate_size(1, 2048, 18432)), int(layer_intermediate_size(0, 0, 18432))
    (2048, 18432)
    """
    has_own = is_mixture * (expert_intermediate_size > 0)
    return where(has_own, expert_intermediate_size, intermediate_size)


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(2 + gated) * hidden_size * layer_intermediate_size",
    source="Shazeer 2020, arXiv:2002.05202, section 2 (gated); " + _VASWANI,
)
def expert_matrix_parameters(
    hidden_size: Column, layer_intermediate_size: Column, gated: Column
) -> Column:
    """Return the weights of one feed-forward network, or of one expert [parameter].

    Examples
    --------
    >>> expert_matrix_parameters(4096, 14336, gated=1)
    176160768
    """
    return (2 + gated) * hidden_size * layer_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ffn_bias * (1 + gated) * layer_intermediate_size",
    source=_VASWANI,
)
def expert_bias_parameters(
    layer_intermediate_size: Column, gated: Column, ffn_bias: Column
) -> Column:
    """Return the biases of the first projections of a feed-forward network [parameter]."""
    return ffn_bias * (1 + gated) * layer_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(2 + gated) * hidden_size * shared_intermediate_size",
    source=_DEEPSEEK,
)
def shared_matrix_parameters(
    hidden_size: Column, shared_intermediate_size: Column, gated: Column
) -> Column:
    """Return the weights of the experts of a layer that every token visits [parameter].

    Examples
    --------
    >>> shared_matrix_parameters(7168, 2048, gated=1)
    44040192
    """
    return (2 + gated) * hidden_size * shared_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="ffn_bias * (1 + gated) * shared_intermediate_size",
    source=_DEEPSEEK,
)
def shared_bias_parameters(
    shared_intermediate_size: Column, gated: Column, ffn_bias: Column
) -> Column:
    """Return the biases of the first projections of a layer's shared experts [parameter]."""
    return ffn_bias * (1 + gated) * shared_intermediate_size


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="is_mixture * hidden_size * (expert_count + shared_gate)",
    source=_SHAZEER,
)
def router_parameters(
    hidden_size: Column, expert_count: Column, is_mixture: Column, shared_gate: Column
) -> Column:
    """Return the weights of a layer's router and shared gate, zero without a mixture [parameter]."""
    return is_mixture * hidden_size * (expert_count + shared_gate)


@quantity(
    "parameter",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="hidden_size * (1 + norm_is_layernorm)",
    source="Ba et al. 2016, arXiv:1607.06450; Zhang and Sennrich 2019, arXiv:1910.07467",
)
def norm_parameters(hidden_size: Column, norm_is_layernorm: Column) -> Column:
    """Return the parameters of one normalization [parameter]."""
    return hidden_size * (1 + norm_is_layernorm)


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_matrix_parameters + attention_vector_parameters + shared_matrix_parameters"
    " + shared_bias_parameters"
    " + expert_count * (expert_matrix_parameters + expert_bias_parameters)",
    source=_MEGATRON,
)
def layer_sharded_parameters(
    attention_matrix_parameters: Column,
    attention_vector_parameters: Column,
    shared_matrix_parameters: Column,
    shared_bias_parameters: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    expert_count: Column,
) -> Column:
    """Return the parameters of a layer that tensor parallelism splits [parameter]."""
    return (
        attention_matrix_parameters
        + attention_vector_parameters
        + shared_matrix_parameters
        + shared_bias_parameters
        + expert_count * (expert_matrix_parameters + expert_bias_parameters)
    )


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_whole_parameters"
    " + (expert_count + minimum(shared_intermediate_size, 1)) * ffn_bias * hidden_size"
    " + router_parameters + router_bias * expert_count + norms_per_layer * norm_parameters",
    source=_MEGATRON,
)
def layer_replicated_parameters(
    attention_whole_parameters: Column,
    hidden_size: Column,
    ffn_bias: Column,
    expert_count: Column,
    shared_intermediate_size: Column,
    router_parameters: Column,
    router_bias: Column,
    norms_per_layer: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of a layer that every tensor-parallel rank holds [parameter]."""
    return (
        attention_whole_parameters
        + (expert_count + minimum(shared_intermediate_size, 1)) * ffn_bias * hidden_size
        + router_parameters
        + router_bias * expert_count
        + norms_per_layer * norm_parameters
    )


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_sharded_parameters + layer_replicated_parameters",
    source=_VASWANI,
)
def layer_parameters(
    layer_sharded_parameters: Column, layer_replicated_parameters: Column
) -> Column:
    """Return the parameters of a layer [parameter]."""
    return layer_sharded_parameters + layer_replicated_parameters


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(expert_count - experts_per_token)"
    " * (expert_matrix_parameters + expert_bias_parameters + ffn_bias * hidden_size)",
    source=_SHAZEER,
)
def layer_inactive_parameters(
    expert_count: Column,
    experts_per_token: Column,
    expert_matrix_parameters: Column,
    expert_bias_parameters: Column,
    ffn_bias: Column,
    hidden_size: Column,
) -> Column:
    """Return the parameters of the experts of a layer that a token does not visit [parameter]."""
    return (expert_count - experts_per_token) * (
        expert_matrix_parameters + expert_bias_parameters + ffn_bias * hidden_size
    )
