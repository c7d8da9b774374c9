"""Work of a step by component: projections of attention, scores, networks or experts, router, head.

Forward and backward apart, of all GPUs of a stage; once as executed, once as the model needs.
The components add up to the executed work and to the model's.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from costmodels.columns import Axis, Column, as_float, total, weighted_total, where
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Quantity, Scope, quantity, renamed

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, appendix, matrix products only"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 5 and appendix A"
_PALM = "Chowdhery et al. 2022, arXiv:2204.02311, appendix B (MFU); backward twice the forward"
_LAYER = (KIND,)
_STAGE = (STAGE,)


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * (attention_matrix_parameters"
    " + layer_copied_matrix_parameters) // tensor_parallel_size"
    " + 2 * sharded_tokens * attention_compressing_parameters"
    " + micro_batch_size * attention_repeated_flop // tensor_parallel_size",
    source=_NARAYANAN,
)
def layer_projection_flop(
    microbatch_tokens: Column,
    attention_matrix_parameters: Column,
    layer_copied_matrix_parameters: Column,
    tensor_parallel_size: Column,
    sharded_tokens: Column,
    attention_compressing_parameters: Column,
    micro_batch_size: Column,
    attention_repeated_flop: Column,
) -> Column:
    """Return the forward work of the projections of a layer's attention, for a microbatch [FLOP]."""
    heads = attention_matrix_parameters + layer_copied_matrix_parameters
    split = 2 * microbatch_tokens * heads // tensor_parallel_size
    again = micro_batch_size * attention_repeated_flop // tensor_parallel_size
    return split + 2 * sharded_tokens * attention_compressing_parameters + again


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * sharded_tokens * router_parameters",
    source=_NARAYANAN,
)
def layer_router_flop(sharded_tokens: Column, router_parameters: Column) -> Column:
    """Return the forward work of a layer's router, for one microbatch [FLOP]."""
    return 2 * sharded_tokens * router_parameters


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_matmul_flop - layer_projection_flop - layer_router_flop",
    source="the weights that are neither attention's nor the router's",
)
def layer_ffn_flop(
    layer_matmul_flop: Column, layer_projection_flop: Column, layer_router_flop: Column
) -> Column:
    """Return the forward work of a layer's feed-forward network or experts, for a microbatch [FLOP]."""
    return layer_matmul_flop - layer_projection_flop - layer_router_flop


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * sequence_length * (attention_matrix_parameters + attention_compressing_parameters)"
    " + attention_repeated_flop",
    source=_NARAYANAN,
)
def layer_model_projection_flop(
    sequence_length: Column,
    attention_matrix_parameters: Column,
    attention_compressing_parameters: Column,
    attention_repeated_flop: Column,
) -> Column:
    """Return the forward work that attention's projections need, for one sequence [FLOP]."""
    weights = attention_matrix_parameters + attention_compressing_parameters
    return 2 * sequence_length * weights + attention_repeated_flop


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * attended_pairs * num_attention_heads"
    " * (attention_query_size + attention_value_size) + attention_state_model_flop",
    source=_NARAYANAN,
)
def layer_model_scores_flop(
    attended_pairs: Column,
    num_attention_heads: Column,
    attention_query_size: Column,
    attention_value_size: Column,
    attention_state_model_flop: Column,
) -> Column:
    """Return the forward work that scores and weighted values need, for one sequence [FLOP]."""
    widths = num_attention_heads * (attention_query_size + attention_value_size)
    return 2 * attended_pairs * widths + attention_state_model_flop


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * sequence_length * router_parameters",
    source=_NARAYANAN,
)
def layer_model_router_flop(sequence_length: Column, router_parameters: Column) -> Column:
    """Return the forward work that a layer's router needs, for one sequence [FLOP]."""
    return 2 * sequence_length * router_parameters


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="layer_model_flop - layer_model_projection_flop - layer_model_scores_flop"
    " - layer_model_router_flop",
    source="the weights that are neither attention's nor the router's",
)
def layer_model_ffn_flop(
    layer_model_flop: Column,
    layer_model_projection_flop: Column,
    layer_model_scores_flop: Column,
    layer_model_router_flop: Column,
) -> Column:
    """Return the forward work that a feed-forward network or experts need, for one sequence [FLOP]."""
    attention = layer_model_projection_flop + layer_model_scores_flop
    return layer_model_flop - attention - layer_model_router_flop


@quantity(
    "count",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * stage_gpu_count",
    source="by definition",
)
def stage_pass_count(chunk_microbatch_count: Column, stage_gpu_count: Column) -> Column:
    """Return the microbatches of a step, counted for each GPU of a stage that works on it [count]."""
    return as_float(chunk_microbatch_count) * stage_gpu_count


@quantity(
    "count",
    Scope.TOTAL,
    basis=Basis.EXACT,
    formula="1.0 * global_batch_size / schedule_copies",
    source="copies of the layers in one pipeline take equal parts of the microbatches: DeepSeek-AI "
    "2024, arXiv:2412.19437, section 3.2.1",
)
def chunk_sequence_count(global_batch_size: Column, schedule_copies: Column) -> Column:
    """Return the sequences of a step that go through each chunk, over all replicas [count].

    Examples
    --------
    >>> chunk_sequence_count(64, 2)
    32.0
    """
    return as_float(global_batch_size) / schedule_copies


def layers_work_flop(factor: Column, stage_layer_count: Axis, layer_flop: Axis) -> Column:
    """Return the work of a stage's layers in a step [FLOP].

    Examples
    --------
    >>> layers_work_flop(2.0, [1, 2], [10, 100])
    420.0
    """
    return factor * weighted_total(stage_layer_count, [as_float(flop) for flop in layer_flop])


def layers_weighted_flop(
    product_count: Column, factor: Column, stage_layer_count: Axis, layer_flop: Axis
) -> Column:
    """Return the backward of products of a stage's layers in a step, so many for each [FLOP].

    Examples
    --------
    >>> layers_weighted_flop(1, 2.0, [1, 2], [10, 100])
    420.0
    """
    layers = weighted_total(stage_layer_count, [as_float(flop) for flop in layer_flop])
    return product_count * factor * layers


def layers_double_flop(factor: Column, stage_layer_count: Axis, layer_flop: Axis) -> Column:
    """Return twice the work of a stage's layers in a step, the backward of products of two inputs [FLOP].

    Examples
    --------
    >>> layers_double_flop(2.0, [1, 2], [10, 100])
    840.0
    """
    return 2.0 * factor * weighted_total(stage_layer_count, [as_float(flop) for flop in layer_flop])


def head_work_flop(factor: Column, head_flop: Axis) -> Column:
    """Return the work of heads in a step, zero in stages without one [FLOP].

    Examples
    --------
    >>> head_work_flop(2.0, [0, 10])
    20.0
    """
    return factor * total(head_flop)


def head_weighted_flop(product_count: Column, factor: Column, head_flop: Axis) -> Column:
    """Return the backward of products of heads in a step, so many for each [FLOP].

    Examples
    --------
    >>> head_weighted_flop(2, 2.0, [0, 10])
    40.0
    """
    return product_count * factor * total(head_flop)


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="chunk_holds_head * model_head_flop",
    source=_NARAYANAN,
)
def chunk_model_head_flop(chunk_holds_head: Column, model_head_flop: Column) -> Column:
    """Return the forward work that a chunk's heads and projections need, for one sequence [FLOP]."""
    return chunk_holds_head * model_head_flop


@quantity(
    "count",
    Scope.GPU,
    axes=(STAGE, KIND),
    basis=Basis.EXACT,
    formula="where(recompute_is_full, stage_repeated_layer_count, stage_layer_count)",
    source=_KORTHIKANTI,
)
def stage_repeated_layers(
    recompute_is_full: Column, stage_repeated_layer_count: Column, stage_layer_count: Column
) -> Column:
    """Return the layers of a kind on a GPU that recomputation is for, if there is any [count]."""
    return where(recompute_is_full, stage_repeated_layer_count, stage_layer_count)


@quantity(
    "FLOP",
    Scope.TOTAL,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="stage_pass_count * (total(stage_repeated_layers * 1.0 * layer_recompute_flop)"
    " + total(chunk_prediction_recompute_flop))",
    source=_KORTHIKANTI,
)
def stage_recompute_flop(
    stage_pass_count: Column,
    stage_repeated_layers: Axis,
    layer_recompute_flop: Axis,
    chunk_prediction_recompute_flop: Axis,
) -> Column:
    """Return the work of forwards that the backward repeats, on all GPUs of a stage, in a step [FLOP]."""
    layers = weighted_total(
        stage_repeated_layers, [as_float(flop) for flop in layer_recompute_flop]
    )
    return stage_pass_count * (layers + total(chunk_prediction_recompute_flop))


class _Way(StrEnum):
    """How often a component's work is done: once, twice, or once for each product of a backward."""

    ONCE = ""
    TWICE = "2.0 * "
    BY_PRODUCTS = "backward_product_count * "


_LAYERS: Mapping[_Way, Callable[..., Column]] = {
    _Way.ONCE: layers_work_flop,
    _Way.TWICE: layers_double_flop,
    _Way.BY_PRODUCTS: layers_weighted_flop,
}
_HEAD: Mapping[_Way, Callable[..., Column]] = {
    _Way.ONCE: head_work_flop,
    _Way.BY_PRODUCTS: head_weighted_flop,
}


def _of_stage(
    name: str,
    layer: str,
    definition: str,
    *,
    factor: str,
    source: str,
    way: _Way = _Way.ONCE,
) -> Quantity:
    """Return the work of one component on all GPUs of a stage, in a step."""
    names = {"factor": factor}
    if way is _Way.BY_PRODUCTS:
        names["product_count"] = "backward_product_count"
    if "head" in layer:
        function = renamed(_HEAD[way], name, names | {"head_flop": layer})
        formula = f"{way.value}{factor} * total({layer})"
    else:
        function = renamed(_LAYERS[way], name, names | {"layer_flop": layer})
        formula = f"{way.value}{factor} * total(stage_layer_count * {layer})"
    return Quantity(
        name=name,
        unit="FLOP",
        scope=Scope.TOTAL,
        axes=_STAGE,
        definition=definition,
        basis=Basis.EXACT,
        formula=formula,
        source=source,
        function=function,
    )


_NAMES = {
    "projection": ("layer_projection_flop", "attention's projections"),
    "scores": ("layer_attention_flop", "scores and weighted values"),
    "ffn": ("layer_ffn_flop", "feed-forward networks or experts"),
    "router": ("layer_router_flop", "routers"),
    "adapter": ("layer_adapter_flop", "low-rank adapters"),
    "head": ("chunk_head_flop", "heads, and projections before them"),
}

_TRAINED = frozenset({"scores", "adapter"})
"""Components with two products in the backward for each of the forward, whatever is frozen."""

_EXECUTED = "on all GPUs of a stage, in a step"


def _way(component: str) -> _Way:
    return _Way.TWICE if component in _TRAINED else _Way.BY_PRODUCTS


def _executed(component: str) -> tuple[Quantity, Quantity]:
    layer, what = _NAMES[component]
    own_backward = component == "scores"
    return (
        _of_stage(
            f"stage_{component}_forward_flop",
            layer,
            f"Work executed for {what} in the forward, {_EXECUTED}.",
            factor="stage_pass_count",
            source=_NARAYANAN,
        ),
        _of_stage(
            f"stage_{component}_backward_flop",
            "layer_attention_backward_flop" if own_backward else layer,
            f"Work executed for {what} in the backward, nothing repeated, {_EXECUTED}.",
            factor="stage_pass_count",
            source=_NARAYANAN,
            way=_Way.ONCE if own_backward else _way(component),
        ),
    )


def _needed(component: str) -> tuple[Quantity, Quantity]:
    _, what = _NAMES[component]
    layer = "chunk_model_head_flop" if component == "head" else f"layer_model_{component}_flop"
    return (
        _of_stage(
            f"stage_model_{component}_forward_flop",
            layer,
            f"Work that the model needs for {what} in the forward, of a stage, in a step.",
            factor="chunk_sequence_count",
            source=_PALM,
        ),
        _of_stage(
            f"stage_model_{component}_backward_flop",
            layer,
            f"Work that the model needs for {what} in the backward, of a stage, in a step.",
            factor="chunk_sequence_count",
            source=_PALM,
            way=_way(component),
        ),
    )


EXECUTED = tuple(entry for component in _NAMES for entry in _executed(component))
"""Executed work of a stage by component, forward and backward."""

NEEDED = tuple(entry for component in _NAMES for entry in _needed(component))
"""Work that the model needs of a stage by component, forward and backward."""

COMPONENTS = tuple(_NAMES)
"""The components of work, in the order of a layer."""
