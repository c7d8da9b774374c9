"""What is computed again in the backward pass."""

from costmodels.columns import Axis, Column, largest, total
from costmodels.errors import SpecError
from costmodels.leaves import Sections
from costmodels.rules.declaration import rule
from costmodels.specs.plan import RecomputeModule


@rule(
    "plan.recompute_num_layers",
    "groups of layers must be of 1 where further tokens are predicted, as Megatron-LM asks "
    "(model.multi_token_prediction_layers)",
)
def predictions_are_repeated_alone(
    prediction_count: Column, recompute_group_size: Column, recompute_is_full: Column
) -> Column:
    """Return whether layers that predict further tokens are computed again one by one."""
    grouped = recompute_is_full * (recompute_group_size > 1)
    return (prediction_count == 0) + (grouped == 0) > 0


@rule(
    "plan.recompute_modules",
    "mlp is the network of a layer without experts, and every layer has experts: name moe",
)
def mlp_has_layers(
    recompute_is_selective: Column, recomputes_mlp: Column, is_mixture: Axis
) -> Column:
    """Return whether a layer has the dense network that is to be computed again."""
    dense = total([1 - mixture for mixture in is_mixture])
    return (recompute_is_selective * recomputes_mlp == 0) + (dense > 0) > 0


@rule(
    "plan.recompute_modules",
    "moe and moe_act are of layers with experts, and the model has no model.mixture: name mlp",
)
def repeated_experts_have_layers(
    recompute_is_selective: Column,
    recomputes_moe: Column,
    recomputes_moe_act: Column,
    is_mixture: Axis,
) -> Column:
    """Return whether a layer has the experts that are to be computed again."""
    asked = recompute_is_selective * (recomputes_moe + recomputes_moe_act)
    return (asked == 0) + (largest(is_mixture) > 0) > 0


@rule(
    "plan.recompute_modules",
    "moe computes the activation function of experts again too: leave out moe_act",
)
def experts_are_repeated_once(
    recompute_is_selective: Column, recomputes_moe: Column, recomputes_moe_act: Column
) -> Column:
    """Return whether the activation function of experts is not computed again twice."""
    return recompute_is_selective * recomputes_moe * recomputes_moe_act == 0


@rule(
    "plan.recompute_modules",
    "shared_experts are experts that every token visits, and no layer has any "
    "(model.mixture.shared_intermediate_size)",
)
def repeated_shared_experts_have_layers(
    recompute_is_selective: Column,
    recomputes_shared_experts: Column,
    shared_intermediate_size: Axis,
) -> Column:
    """Return whether a layer has the shared experts that are to be computed again."""
    asked = recompute_is_selective * recomputes_shared_experts
    return (asked == 0) + (largest(shared_intermediate_size) > 0) > 0


@rule(
    "plan.recompute_modules",
    "moe computes shared experts again too: leave out shared_experts",
)
def shared_experts_are_repeated_once(
    recompute_is_selective: Column, recomputes_moe: Column, recomputes_shared_experts: Column
) -> Column:
    """Return whether shared experts are not computed again twice."""
    return recompute_is_selective * recomputes_moe * recomputes_shared_experts == 0


@rule(
    "plan.recompute_modules",
    "shared_experts are not modelled yet with plan.tensor_parallel_size ({tensor_parallel_size}) "
    "above 1 and routed experts split by the same ranks, where both are summed together",
    modelled=False,
)
def repeated_shared_experts_reduce_alone(
    recompute_is_selective: Column,
    recomputes_shared_experts: Column,
    experts_apart: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether shared experts that are computed again share no collective with routed ones."""
    asked = recompute_is_selective * recomputes_shared_experts
    return (asked * (1 - experts_apart) == 0) + (tensor_parallel_size == 1) > 0


@rule(
    "plan.recompute_modules",
    "mla_up_proj is of latent attention, which no layer has (model.layouts)",
)
def up_projection_has_layers(
    recompute_is_selective: Column, recomputes_mla_up_proj: Column, key_value_rank: Axis
) -> Column:
    """Return whether a layer has the latent attention whose heads are to be computed again."""
    latent = largest(key_value_rank)
    return (recompute_is_selective * recomputes_mla_up_proj == 0) + (latent > 0) > 0


@rule(
    "plan.recompute_modules",
    "mla_up_proj is not modelled yet with plan.sequence_parallel=true, where "
    "compressed vectors are gathered again",
    modelled=False,
)
def up_projection_is_whole(
    recompute_is_selective: Column, recomputes_mla_up_proj: Column, sequence_parallel: Column
) -> Column:
    """Return whether up-projections that are computed again gather nothing."""
    return recompute_is_selective * recomputes_mla_up_proj * sequence_parallel == 0


@rule(
    "plan.recompute_modules",
    "layernorm: with plan.saved_tensors=transformer-engine norms are computed "
    "together with the product behind them, but before latent attention and experts; the model has "
    "neither",
)
def repeated_norms_are_apart(
    recompute_is_selective: Column,
    recomputes_layernorm: Column,
    saved_tensors_is_transformer_engine: Column,
    key_value_rank: Axis,
    is_mixture: Axis,
) -> Column:
    """Return whether a layer has a norm that no kernel computes together with a product."""
    asked = recompute_is_selective * recomputes_layernorm * saved_tensors_is_transformer_engine
    return (asked == 0) + (largest(key_value_rank) + largest(is_mixture) > 0) > 0


@rule(
    "plan.recompute_modules",
    "mlp, moe and shared_experts are not modelled yet with model.parallel_residual=true and "
    "plan.tensor_parallel_size ({tensor_parallel_size}) above 1, where attention and network "
    "are summed together",
    modelled=False,
)
def repeated_networks_reduce_alone(
    recompute_is_selective: Column,
    recomputes_mlp: Column,
    recomputes_moe: Column,
    recomputes_shared_experts: Column,
    parallel_residual: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return whether a network that is computed again shares no collective with attention."""
    networks = recomputes_mlp + recomputes_moe + recomputes_shared_experts
    asked = recompute_is_selective * networks
    return (asked * parallel_residual == 0) + (tensor_parallel_size == 1) > 0


@rule(
    "plan.recompute_modules",
    "modules beside core_attn are not modelled yet with precision.adapters",
    modelled=False,
)
def repeated_modules_are_trained(
    recompute_is_selective: Column,
    weights_are_frozen: Column,
    recomputes_mlp: Column,
    recomputes_moe: Column,
    recomputes_shared_experts: Column,
    recomputes_layernorm: Column,
    recomputes_moe_act: Column,
    recomputes_mla_up_proj: Column,
) -> Column:
    """Return whether modules beside the inside of attention are computed again without adapters."""
    networks = recomputes_mlp + recomputes_moe + recomputes_shared_experts + recomputes_moe_act
    asked = networks + recomputes_layernorm + recomputes_mla_up_proj
    return recompute_is_selective * weights_are_frozen * asked == 0


def check_modules(sections: Sections) -> None:
    """Raise unless modules to compute again are named, each once.

    Raises
    ------
    SpecError
        Naming them and those that there are.
    """
    named = sections.plan.recompute_modules
    if not named or len(set(named)) < len(named):
        raise SpecError(
            f"plan.recompute_modules ({[module.value for module in named]}): must name some of "
            f"{', '.join(RecomputeModule)}, each once"
        )
