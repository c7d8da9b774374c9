"""Memory of a GPU in inference: the sum of its parts, and what is left."""

from costmodels.columns import Axis, Column, first_of_largest, largest
from costmodels.quantities import ALGORITHM, STAGE, Basis, Scope, quantity

_STAGE = (STAGE,)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="served_weights_bytes + copied_weights_bytes + kv_cache_bytes + serving_hidden_bytes"
    " + serving_layer_bytes + serving_logits_bytes + reserve_bytes",
    source="the sum of its parts",
)
def serving_bytes(
    served_weights_bytes: Column,
    copied_weights_bytes: Column,
    kv_cache_bytes: Column,
    serving_hidden_bytes: Column,
    serving_layer_bytes: Column,
    serving_logits_bytes: Column,
    reserve_bytes: Column,
) -> Column:
    """Return the memory of a GPU of the stage in inference [byte]."""
    return (
        served_weights_bytes
        + copied_weights_bytes
        + kv_cache_bytes
        + serving_hidden_bytes
        + serving_layer_bytes
        + serving_logits_bytes
        + reserve_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="accelerator_memory_bytes - largest(serving_bytes)",
    source="by definition; negative where the plan does not fit",
)
def serving_headroom_bytes(accelerator_memory_bytes: Column, serving_bytes: Axis) -> Column:
    """Return the memory left on the fullest stage in inference [byte]."""
    return accelerator_memory_bytes - largest(serving_bytes)


@quantity(
    "index",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="the first stage, in their order, that needs most",
)
def serving_worst_stage_index(stage_index: Axis, serving_bytes: Axis) -> Column:
    """Return the stage that needs most memory in inference [index]."""
    return first_of_largest(stage_index, serving_bytes)
