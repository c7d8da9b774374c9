"""Published conventions for the work of a training step, as named quantities.

None of them is what Shardwise counts; they stand beside its model and hardware FLOP so that numbers
of different papers can be compared.
"""

from costmodels.columns import Axis, Column, as_float, minimum, weighted_total
from costmodels.quantities import Basis, Scope, quantity

_MAIN = "; N and L are those of the main model, without layers that predict further tokens"
_HOFFMANN = "Hoffmann et al. 2022, arXiv:2203.15556, section 2 and appendix F: C = 6 N D" + _MAIN
_PALM = (
    "Chowdhery et al. 2022, arXiv:2204.02311, appendix B: 6 N + 12 L H Q T for each token" + _MAIN
)
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, equation 3: 96 B s l h^2 (1 + s / (6 h) + V / (16 l h))"
_KORTHIKANTI = (
    "Korthikanti et al. 2022, arXiv:2205.05198, appendix A: 72 B L s h^2 (1 + s / (6 h)"
    " + v / (12 h L))"
)


@quantity(
    "token",
    Scope.TOTAL,
    symbol="D",
    basis=Basis.EXACT,
    formula="1.0 * global_batch_size * sequence_length",
    source="by definition",
)
def step_tokens(global_batch_size: Column, sequence_length: Column) -> Column:
    """Return the tokens of a step [token]."""
    return as_float(global_batch_size) * sequence_length


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="6.0 * total_parameters * step_tokens",
    source=_HOFFMANN,
)
def six_nd_flop(total_parameters: Column, step_tokens: Column) -> Column:
    """Return the work of a step by 6 N D, all parameters counted [FLOP]."""
    return 6.0 * total_parameters * step_tokens


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="6.0 * active_parameters * step_tokens",
    source=_HOFFMANN + ", with the parameters that a token passes through",
)
def six_active_nd_flop(active_parameters: Column, step_tokens: Column) -> Column:
    """Return the work of a step by 6 N D, active parameters counted [FLOP]."""
    return 6.0 * active_parameters * step_tokens


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="step_tokens * (6.0 * active_parameters + 6.0 * sequence_length"
    " * total(kind_layer_count * num_attention_heads"
    " * (attention_query_size + attention_value_size)))",
    source=_PALM + "; active parameters, and for Q the mean width of query and value",
)
def palm_flop(
    step_tokens: Column,
    active_parameters: Column,
    sequence_length: Column,
    kind_layer_count: Axis,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    attention_value_size: Axis,
) -> Column:
    """Return the work of a step by PaLM's convention, every pair of tokens counted [FLOP]."""
    widths = [
        heads * (query + value)
        for heads, query, value in zip(
            num_attention_heads, attention_query_size, attention_value_size, strict=True
        )
    ]
    scores = 6.0 * sequence_length * weighted_total(kind_layer_count, widths)
    return step_tokens * (6.0 * active_parameters + scores)


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="(palm_flop + six_active_nd_flop) / 2.0",
    source=_PALM + "; with a causal mask half of the pairs, 6 L H Q T",
)
def palm_causal_flop(palm_flop: Column, six_active_nd_flop: Column) -> Column:
    """Return the work of a step by PaLM's convention, half of the pairs counted [FLOP]."""
    return (palm_flop + six_active_nd_flop) / 2.0


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="6.0 * step_tokens * hidden_size * (12.0 * num_hidden_layers * hidden_size"
    " + 2.0 * num_hidden_layers * sequence_length + vocabulary_size)",
    source=_KORTHIKANTI,
)
def megatron_flop(
    step_tokens: Column,
    hidden_size: Column,
    num_hidden_layers: Column,
    sequence_length: Column,
    vocabulary_size: Column,
) -> Column:
    """Return the work of a step of GPT by Megatron's formula, without recomputation [FLOP]."""
    layers = 12.0 * num_hidden_layers * hidden_size + 2.0 * num_hidden_layers * sequence_length
    return 6.0 * step_tokens * hidden_size * (layers + vocabulary_size)


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="step_tokens * hidden_size * (96.0 * num_hidden_layers * hidden_size"
    " + 16.0 * num_hidden_layers * sequence_length + 6.0 * vocabulary_size)",
    source=_NARAYANAN,
)
def megatron_recompute_flop(
    step_tokens: Column,
    hidden_size: Column,
    num_hidden_layers: Column,
    sequence_length: Column,
    vocabulary_size: Column,
) -> Column:
    """Return the work of a step of GPT by Megatron's formula, with full recomputation [FLOP]."""
    layers = 96.0 * num_hidden_layers * hidden_size + 16.0 * num_hidden_layers * sequence_length
    return step_tokens * hidden_size * (layers + 6.0 * vocabulary_size)


@quantity(
    "FLOP",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="model_flop + 6.0 * global_batch_size * total(kind_layer_count"
    " * minimum(attended_pairs, 1)"
    " * (1.0 * sequence_length * sequence_length - attended_pairs) * num_attention_heads"
    " * (attention_query_size + attention_value_size))",
    source="model FLOP with masked pairs of tokens counted too; a layer without pairs has none",
)
def full_attention_flop(
    model_flop: Column,
    global_batch_size: Column,
    sequence_length: Column,
    kind_layer_count: Axis,
    attended_pairs: Axis,
    num_attention_heads: Axis,
    attention_query_size: Axis,
    attention_value_size: Axis,
) -> Column:
    """Return the work that the model would need for a step without a mask [FLOP]."""
    square = as_float(sequence_length) * sequence_length
    masked = [
        minimum(pairs, 1) * (square - pairs) * heads * (query + value)
        for pairs, heads, query, value in zip(
            attended_pairs,
            num_attention_heads,
            attention_query_size,
            attention_value_size,
            strict=True,
        )
    ]
    return model_flop + 6.0 * global_batch_size * weighted_total(kind_layer_count, masked)
