"""Work: of a layer for one microbatch on one GPU, of a chunk, and of a whole step.

One multiply-add is two FLOP. *Model FLOP* is what the model needs whatever the implementation:
unmasked pairs only, no recomputation, backward twice the forward. *Hardware FLOP* is what is
executed: recomputed forwards, and the fifth matrix product of a flash backward.
"""

from costmodels.columns import (
    Axis,
    Column,
    as_float,
    ceiling,
    maximum,
    present,
    total,
    weighted_total,
    where,
)
from costmodels.quantities import CHUNK, KIND, STAGE, Basis, Scope, quantity

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, appendix, matrix products only"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 5 and appendix A"
_DAO = "Dao 2023, arXiv:2307.08691, section 2.3.2: two products forward, five backward"
_CAPACITY = (
    "Lepikhin et al. 2020, arXiv:2006.16668, section 2.2 (capacity, filled with padding);"
    " Megatron-LM, get_capacity: rounded up"
)
_LAYER = (KIND,)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "replica",
    Scope.PLAN,
    group="pipeline",
    symbol="d",
    basis=Basis.EXACT,
    formula="maximum(accelerator_count // (tensor_parallel_size * pipeline_parallel_size"
    " * context_parallel_size), 1)",
    source="by definition: the ranks that are left; at least one, so that a plan that a rule "
    "refuses divides by no zero",
)
def data_parallel_size(
    accelerator_count: Column,
    tensor_parallel_size: Column,
    pipeline_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return the replicas that share the batch [count].

    Examples
    --------
    >>> data_parallel_size(16384, 8, 16, 1)
    128
    """
    ranks = tensor_parallel_size * pipeline_parallel_size * context_parallel_size
    return maximum(accelerator_count // ranks, 1)


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="data_parallel_size * tensor_parallel_size * context_parallel_size",
    source="by definition",
)
def stage_gpu_count(
    data_parallel_size: Column, tensor_parallel_size: Column, context_parallel_size: Column
) -> Column:
    """Return the GPUs of a pipeline stage [count]."""
    return data_parallel_size * tensor_parallel_size * context_parallel_size


@quantity(
    "microbatch",
    Scope.REPLICA,
    symbol="m",
    group="pipeline",
    basis=Basis.EXACT,
    formula="global_batch_size // (micro_batch_size * data_parallel_size)",
    source="by definition",
)
def microbatch_count(
    global_batch_size: Column, micro_batch_size: Column, data_parallel_size: Column
) -> Column:
    """Return the microbatches of a step on each replica [count].

    Examples
    --------
    >>> microbatch_count(2048, 1, 128)
    16
    """
    return global_batch_size // (micro_batch_size * data_parallel_size)


@quantity(
    "microbatch",
    Scope.CHUNK,
    basis=Basis.EXACT,
    formula="microbatch_count // schedule_copies",
    source="copies of the layers in one pipeline take equal parts of the microbatches: DeepSeek-AI "
    "2024, arXiv:2412.19437, section 3.2.1",
)
def chunk_microbatch_count(microbatch_count: Column, schedule_copies: Column) -> Column:
    """Return the microbatches of a step that go through each chunk [count].

    Examples
    --------
    >>> chunk_microbatch_count(16, 2)
    8
    """
    return microbatch_count // schedule_copies


@quantity(
    "token",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="micro_batch_size * sequence_length // context_parallel_size",
    source="by definition; Liu et al. 2023, arXiv:2310.01889: a sequence in equal parts",
)
def microbatch_tokens(
    micro_batch_size: Column, sequence_length: Column, context_parallel_size: Column
) -> Column:
    """Return the tokens of a microbatch, or of a context-parallel rank's part of it [token]."""
    return micro_batch_size * sequence_length // context_parallel_size


@quantity(
    "token",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="microbatch_tokens // where(sequence_parallel, tensor_parallel_size, 1)",
    source=_KORTHIKANTI,
)
def sharded_tokens(
    microbatch_tokens: Column, sequence_parallel: Column, tensor_parallel_size: Column
) -> Column:
    """Return the tokens of a microbatch that a GPU holds outside the split matrices [token]."""
    return microbatch_tokens // where(sequence_parallel, tensor_parallel_size, 1)


@quantity(
    "row",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(is_mixture * (stated_capacity_factor > 0), expert_count *"
    " ceiling(experts_per_token * sharded_tokens / expert_count *"
    " stated_capacity_factor), experts_per_token * sharded_tokens)",
    source=_CAPACITY,
)
def routed_rows(
    is_mixture: Column,
    stated_capacity_factor: Column,
    expert_count: Column,
    experts_per_token: Column,
    sharded_tokens: Column,
) -> Column:
    """Return the rows that a GPU's tokens give to experts, for one microbatch [row].

    Notes
    -----
    A row is a token for one of its experts. With a capacity every expert gets as many from every
    GPU, whoever chose it: rows beyond are dropped, missing ones are padding.

    Examples
    --------
    >>> routed_rows(1, 0.0, 8, 2, 1024), routed_rows(1, 1.25, 8, 2, 1024)
    (2048, 2560)
    """
    share = experts_per_token * sharded_tokens / expert_count
    filled = expert_count * ceiling(share * stated_capacity_factor)
    has_capacity = is_mixture * (stated_capacity_factor > 0)
    return where(has_capacity, filled, experts_per_token * sharded_tokens)


@quantity(
    "row",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="maximum(experts_per_token * sharded_tokens - routed_rows, 0)",
    source=_CAPACITY,
)
def dropped_rows(experts_per_token: Column, sharded_tokens: Column, routed_rows: Column) -> Column:
    """Return the rows that experts with a capacity leave out, for one microbatch [row].

    Examples
    --------
    >>> dropped_rows(2, 1024, 2560), dropped_rows(2, 1024, 1024)
    (0, 1024)
    """
    return maximum(experts_per_token * sharded_tokens - routed_rows, 0)


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * expert_matrix_parameters * dropped_rows * context_parallel_size"
    " * where(sequence_parallel, tensor_parallel_size, 1) // micro_batch_size",
    source=_CAPACITY,
)
def layer_dropped_flop(
    expert_matrix_parameters: Column,
    dropped_rows: Column,
    context_parallel_size: Column,
    sequence_parallel: Column,
    tensor_parallel_size: Column,
    micro_batch_size: Column,
) -> Column:
    """Return the forward work of a layer that dropped rows save, for one sequence [FLOP]."""
    parts = context_parallel_size * where(sequence_parallel, tensor_parallel_size, 1)
    return 2 * expert_matrix_parameters * dropped_rows * parts // micro_batch_size


@quantity(
    "row",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="routed_rows * where(sequence_parallel + (tensor_parallel_size == 1) > 0,"
    " layer_split_size, 1)",
    source="Liu et al. 2025, arXiv:2504.14960, section 3: ranks that split an expert gather their rows; as "
    "many arrive as leave, tokens balanced",
)
def expert_rows(
    routed_rows: Column,
    sequence_parallel: Column,
    tensor_parallel_size: Column,
    layer_split_size: Column,
) -> Column:
    """Return the rows that a GPU's network or experts multiply, for one microbatch [row]."""
    # Without either, tensor-parallel ranks hold the same tokens, and split experts as all matrices.
    own_tokens = sequence_parallel + (tensor_parallel_size == 1) > 0
    return routed_rows * where(own_tokens, layer_split_size, 1)


@quantity(
    "parameter",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="attention_matrix_parameters + shared_matrix_parameters"
    " + experts_per_token * expert_matrix_parameters",
    source=_NARAYANAN,
)
def layer_multiplied_parameters(
    attention_matrix_parameters: Column,
    shared_matrix_parameters: Column,
    experts_per_token: Column,
    expert_matrix_parameters: Column,
) -> Column:
    """Return the split weights of a layer that multiply one token [parameter]."""
    return (
        attention_matrix_parameters
        + shared_matrix_parameters
        + experts_per_token * expert_matrix_parameters
    )


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * (attention_matrix_parameters"
    " + layer_copied_matrix_parameters + shared_matrix_parameters) // tensor_parallel_size"
    " + 2 * expert_rows * expert_matrix_parameters // layer_split_size"
    " + 2 * sharded_tokens * (router_parameters + attention_compressing_parameters)"
    " + micro_batch_size * attention_repeated_flop // tensor_parallel_size",
    source=_NARAYANAN,
)
def layer_matmul_flop(
    microbatch_tokens: Column,
    attention_matrix_parameters: Column,
    layer_copied_matrix_parameters: Column,
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    expert_rows: Column,
    expert_matrix_parameters: Column,
    layer_split_size: Column,
    sharded_tokens: Column,
    router_parameters: Column,
    attention_compressing_parameters: Column,
    micro_batch_size: Column,
    attention_repeated_flop: Column,
) -> Column:
    """Return the forward work of a layer's weights, for one microbatch [FLOP]."""
    whole = router_parameters + attention_compressing_parameters
    attention = attention_matrix_parameters + layer_copied_matrix_parameters
    parameters = attention + shared_matrix_parameters
    split = 2 * microbatch_tokens * parameters // tensor_parallel_size
    experts = 2 * expert_rows * expert_matrix_parameters // layer_split_size
    again = micro_batch_size * attention_repeated_flop // tensor_parallel_size
    return split + experts + 2 * sharded_tokens * whole + again


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(2 * micro_batch_size * executed_pairs * num_attention_heads"
    " * (attention_query_size + attention_value_size)"
    " + micro_batch_size * attention_state_flop)"
    " // (tensor_parallel_size * context_parallel_size)",
    source=_NARAYANAN,
)
def layer_attention_flop(
    micro_batch_size: Column,
    executed_pairs: Column,
    num_attention_heads: Column,
    attention_query_size: Column,
    attention_value_size: Column,
    attention_state_flop: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
) -> Column:
    """Return the forward work of scores and weighted values of a layer, for one microbatch [FLOP].

    Notes
    -----
    Context-parallel ranks have equally many pairs: each takes two of 2 c parts of the sequence, one
    from each end, or all of it for a part of the heads.
    """
    pairs = micro_batch_size * executed_pairs * num_attention_heads
    ranks = tensor_parallel_size * context_parallel_size
    scores = 2 * pairs * (attention_query_size + attention_value_size)
    return (scores + micro_batch_size * attention_state_flop) // ranks


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * layer_attention_flop + attention_kernel_is_flash"
    " * (2 * micro_batch_size * executed_pairs * num_attention_heads * attention_query_size"
    " // (tensor_parallel_size * context_parallel_size))"
    " - micro_batch_size * attention_state_spared_flop"
    " // (tensor_parallel_size * context_parallel_size)",
    source=_DAO + ": the scores are computed again",
)
def layer_attention_backward_flop(
    layer_attention_flop: Column,
    attention_kernel_is_flash: Column,
    micro_batch_size: Column,
    executed_pairs: Column,
    num_attention_heads: Column,
    attention_query_size: Column,
    tensor_parallel_size: Column,
    context_parallel_size: Column,
    attention_state_spared_flop: Column,
) -> Column:
    """Return the backward work of a layer's attention, for one microbatch [FLOP]."""
    pairs = micro_batch_size * executed_pairs * num_attention_heads
    ranks = tensor_parallel_size * context_parallel_size
    scores = 2 * pairs * attention_query_size // ranks
    spared = micro_batch_size * attention_state_spared_flop // ranks
    return 2 * layer_attention_flop + attention_kernel_is_flash * scores - spared


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="where(recompute_is_full, layer_matmul_flop + layer_adapter_flop"
    " + layer_attention_flop, core_is_repeated * layer_attention_flop + layer_module_flop)",
    source=_KORTHIKANTI,
)
def layer_recompute_flop(
    recompute_is_full: Column,
    core_is_repeated: Column,
    layer_module_flop: Column,
    layer_matmul_flop: Column,
    layer_adapter_flop: Column,
    layer_attention_flop: Column,
) -> Column:
    """Return the forward work of a layer that the backward repeats, for one microbatch [FLOP]."""
    return where(
        recompute_is_full,
        layer_matmul_flop + layer_adapter_flop + layer_attention_flop,
        core_is_repeated * layer_attention_flop + layer_module_flop,
    )


@quantity(
    "FLOP",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * hidden_size * vocabulary_rows",
    source=_NARAYANAN,
)
def head_flop(microbatch_tokens: Column, hidden_size: Column, vocabulary_rows: Column) -> Column:
    """Return the forward work of the head, for one microbatch [FLOP]."""
    return 2 * microbatch_tokens * hidden_size * vocabulary_rows


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * (layer_matmul_flop + layer_adapter_flop"
    " + layer_attention_flop)) + chunk_head_flop",
    source=_NARAYANAN,
)
def chunk_forward_flop(
    chunk_layer_count: Axis,
    layer_matmul_flop: Axis,
    layer_adapter_flop: Axis,
    layer_attention_flop: Axis,
    chunk_head_flop: Column,
) -> Column:
    """Return the forward work of a chunk, for one microbatch [FLOP]."""
    layers = [
        matmul + adapter + attention
        for matmul, adapter, attention in zip(
            layer_matmul_flop, layer_adapter_flop, layer_attention_flop, strict=True
        )
    ]
    return weighted_total(chunk_layer_count, layers) + chunk_head_flop


@quantity(
    "count",
    Scope.CHUNK,
    axes=(STAGE, CHUNK, KIND),
    basis=Basis.EXACT,
    formula="where(recompute_is_full, chunk_repeated_layer_count, chunk_layer_count)",
    source=_KORTHIKANTI + "; Megatron-LM: recompute-method, recompute-num-layers",
)
def kind_repeated_layers(
    recompute_is_full: Column, chunk_repeated_layer_count: Column, chunk_layer_count: Column
) -> Column:
    """Return the layers of a kind in a chunk that recomputation is for, if there is any [count]."""
    return where(recompute_is_full, chunk_repeated_layer_count, chunk_layer_count)


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * (backward_product_count * layer_matmul_flop"
    " + 2 * layer_adapter_flop + layer_attention_backward_flop)"
    " + kind_repeated_layers * layer_recompute_flop) + backward_product_count * chunk_head_flop"
    " + chunk_prediction_recompute_flop",
    source=_NARAYANAN + "; of frozen matrices the gradient of the input alone: Hu et al. 2021, "
    "arXiv:2106.09685, section 4.1",
)
def chunk_backward_flop(
    chunk_layer_count: Axis,
    backward_product_count: Column,
    layer_matmul_flop: Axis,
    layer_adapter_flop: Axis,
    layer_attention_backward_flop: Axis,
    kind_repeated_layers: Axis,
    layer_recompute_flop: Axis,
    chunk_head_flop: Column,
    chunk_prediction_recompute_flop: Column,
) -> Column:
    """Return the backward work of a chunk with what it repeats, for one microbatch [FLOP]."""
    layers = [
        backward_product_count * matmul + 2 * adapter + attention
        for matmul, adapter, attention in zip(
            layer_matmul_flop, layer_adapter_flop, layer_attention_backward_flop, strict=True
        )
    ]
    own = weighted_total(chunk_layer_count, layers) + backward_product_count * chunk_head_flop
    again = weighted_total(kind_repeated_layers, layer_recompute_flop)
    return own + again + chunk_prediction_recompute_flop


@quantity(
    "FLOP",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="(1 - weights_are_frozen) * (total(chunk_layer_count * layer_matmul_flop)"
    " + chunk_head_flop) + total(chunk_layer_count * layer_adapter_flop)",
    source="one product for each of the forward of a weight that is trained; scores have no weights",
)
def chunk_weight_gradient_flop(
    weights_are_frozen: Column,
    chunk_layer_count: Axis,
    layer_matmul_flop: Axis,
    chunk_head_flop: Column,
    layer_adapter_flop: Axis,
) -> Column:
    """Return the part of a chunk's backward that gives gradients of weights, for a microbatch [FLOP]."""
    own = weighted_total(chunk_layer_count, layer_matmul_flop) + chunk_head_flop
    adapters = weighted_total(chunk_layer_count, layer_adapter_flop)
    return (1 - weights_are_frozen) * own + adapters


@quantity(
    "FLOP",
    Scope.GPU,
    axes=(STAGE,),
    group="compute",
    basis=Basis.EXACT,
    formula="total(chunk_forward_flop + chunk_backward_flop)",
    source=_NARAYANAN,
)
def stage_microbatch_flop(chunk_forward_flop: Axis, chunk_backward_flop: Axis) -> Column:
    """Return the executed work of a GPU, for one microbatch [FLOP]."""
    return total(
        [
            forward + backward
            for forward, backward in zip(chunk_forward_flop, chunk_backward_flop, strict=True)
        ]
    )


@quantity(
    "FLOP",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * sequence_length * (layer_multiplied_parameters + router_parameters"
    " + attention_compressing_parameters) + 2 * attended_pairs * num_attention_heads"
    " * (attention_query_size + attention_value_size) + attention_state_model_flop"
    " + attention_repeated_flop - layer_dropped_flop",
    source=_NARAYANAN,
)
def layer_model_flop(
    sequence_length: Column,
    layer_multiplied_parameters: Column,
    router_parameters: Column,
    attention_compressing_parameters: Column,
    attended_pairs: Column,
    num_attention_heads: Column,
    attention_query_size: Column,
    attention_value_size: Column,
    attention_state_model_flop: Column,
    attention_repeated_flop: Column,
    layer_dropped_flop: Column,
) -> Column:
    """Return the forward work of a layer that the model needs, for one sequence [FLOP]."""
    weights = layer_multiplied_parameters + router_parameters + attention_compressing_parameters
    widths = num_attention_heads * (attention_query_size + attention_value_size)
    attention = 2 * attended_pairs * widths + attention_state_model_flop
    again = attention_repeated_flop
    return 2 * sequence_length * weights + attention + again - layer_dropped_flop


@quantity(
    "FLOP",
    Scope.TOTAL,
    symbol="F_model",
    group="compute",
    basis=Basis.EXACT,
    formula="3.0 * global_batch_size * (total((kind_layer_count + kind_is_training"
    " * predicted_layer_count) * (layer_model_flop + layer_model_adapter_flop)) + model_head_flop)"
    " - 1.0 * weights_are_frozen * global_batch_size * (total(kind_layer_count"
    " * (layer_model_flop - layer_model_scores_flop)) + model_head_flop)",
    source="Chowdhery et al. 2022, arXiv:2204.02311, appendix B (MFU); unmasked pairs only; frozen "
    "matrices have no gradient: Hu et al. 2021, arXiv:2106.09685, section 4.1",
)
def model_flop(
    global_batch_size: Column,
    kind_layer_count: Axis,
    kind_is_training: Column,
    predicted_layer_count: Axis,
    layer_model_flop: Axis,
    layer_model_adapter_flop: Axis,
    model_head_flop: Column,
    weights_are_frozen: Column,
    layer_model_scores_flop: Axis,
) -> Column:
    """Return the work that the model needs for a step, forward and backward [FLOP]."""
    layers = [
        count + kind_is_training * further
        for count, further in zip(kind_layer_count, predicted_layer_count, strict=True)
    ]
    whole = [
        own + adapters
        for own, adapters in zip(layer_model_flop, layer_model_adapter_flop, strict=True)
    ]
    weights = [
        own - scores for own, scores in zip(layer_model_flop, layer_model_scores_flop, strict=True)
    ]
    needed = 3.0 * global_batch_size * (weighted_total(layers, whole) + model_head_flop)
    frozen = 1.0 * weights_are_frozen * global_batch_size
    return needed - frozen * (weighted_total(kind_layer_count, weights) + model_head_flop)


@quantity(
    "FLOP",
    Scope.TOTAL,
    symbol="F_hardware",
    group="compute",
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * stage_gpu_count"
    " * total(run_stage_count * 1.0 * stage_microbatch_flop)",
    source=_KORTHIKANTI,
)
def hardware_flop(
    chunk_microbatch_count: Column,
    stage_gpu_count: Column,
    run_stage_count: Axis,
    stage_microbatch_flop: Axis,
) -> Column:
    """Return the work that all GPUs execute in a step, recomputation included [FLOP]."""
    gpus = as_float(chunk_microbatch_count) * stage_gpu_count
    stages = present(run_stage_count, stage_microbatch_flop)
    return gpus * total([count * as_float(flop) for count, flop in stages])
