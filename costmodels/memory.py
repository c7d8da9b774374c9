"""Memory of one GPU: weights, gradients, optimizer, activations, buffers and a named reserve.

Sharding over data-parallel ranks follows ZeRO [1]_; every sharded tensor is padded to whole
elements.

References
----------
.. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
   Models," 2020, section 5. arXiv:1910.02054.
"""

from costmodels.columns import (
    Axis,
    Column,
    ceil_div,
    first_of_largest,
    largest,
    maximum,
    minimum,
    weighted_total,
    where,
)
from costmodels.quantities import ALGORITHM, CHUNK, KIND, STAGE, Basis, Scope, quantity

_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054, section 5"
_UNIT = "Zhao et al. 2023, arXiv:2304.11277, section 3.2: a layer is a unit of sharding"
_OFFLOAD = "Ren et al. 2021, arXiv:2101.06840, section 3; updated on the GPU, layer by layer"
_LAYER = (KIND,)
_STAGE = (STAGE,)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ceil_div(stage_parameters - stage_expert_parameters, sharding_size) +"
    " ceil_div(stage_expert_parameters, expert_sharding_size)",
    source=_ZERO + "; experts over the ranks that hold the same experts; hybrid: Zhao et al. 2023, "
    "arXiv:2304.11277, section 3.2.2",
)
def shard_parameters(
    stage_parameters: Column,
    stage_expert_parameters: Column,
    sharding_size: Column,
    expert_sharding_size: Column,
) -> Column:
    """Return the parameters of a GPU's shard [parameter].

    Examples
    --------
    >>> shard_parameters(1001, 600, 4, 2)
    401
    """
    others = ceil_div(stage_parameters - stage_expert_parameters, sharding_size)
    return others + ceil_div(stage_expert_parameters, expert_sharding_size)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 3, shard_parameters, stage_parameters) * weight_element_bytes"
    " * (1 - cast_on_gather)",
    source=_ZERO + "; made of main weights as they are gathered: torch's fully_shard with a "
    "MixedPrecisionPolicy",
)
def wide_weights_bytes(
    stage_parameters: Column,
    zero_stage: Column,
    shard_parameters: Column,
    weight_element_bytes: Column,
    cast_on_gather: Column,
) -> Column:
    """Return the weights of the model as they would be without a storage in few bits [byte]."""
    held = where(zero_stage >= 3, shard_parameters, stage_parameters)
    return held * weight_element_bytes * (1 - cast_on_gather)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="wide_weights_bytes - stage_narrowed_bytes + adapter_weights_bytes",
    source="the sum of its parts",
)
def weights_bytes(
    wide_weights_bytes: Column, stage_narrowed_bytes: Column, adapter_weights_bytes: Column
) -> Column:
    """Return the weights that forward and backward use, as they are kept [byte]."""
    return wide_weights_bytes - stage_narrowed_bytes + adapter_weights_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, trained_shard_parameters, stage_trained_parameters)"
    " * gradient_element_bytes",
    source=_ZERO,
)
def gradients_bytes(
    stage_trained_parameters: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    gradient_element_bytes: Column,
) -> Column:
    """Return the accumulated gradients [byte]."""
    held = where(zero_stage >= 2, trained_shard_parameters, stage_trained_parameters)
    return held * gradient_element_bytes


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="2 * optimizer_is_adam + optimizer_is_sgd_momentum",
    source="Kingma and Ba 2014, arXiv:1412.6980, algorithm 1",
)
def moment_count(optimizer_is_adam: Column, optimizer_is_sgd_momentum: Column) -> Column:
    """Return the moments that the optimizer keeps of each weight [count]."""
    return 2 * optimizer_is_adam + optimizer_is_sgd_momentum


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)"
    " * main_weight_element_bytes",
    source=_ZERO,
)
def main_weight_state_bytes(
    stage_trained_parameters: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    main_weight_element_bytes: Column,
) -> Column:
    """Return the main weights, the copy that the optimizer updates, wherever it lies [byte]."""
    held = where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)
    return held * main_weight_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)"
    " * moment_count * moment_element_bytes + shape_moments_bytes",
    source=_ZERO,
)
def moment_state_bytes(
    stage_trained_parameters: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    moment_count: Column,
    moment_element_bytes: Column,
    shape_moments_bytes: Column,
) -> Column:
    """Return the optimizer's moments, wherever they lie [byte].

    Examples
    --------
    >>> moment_state_bytes(7_500_000_000, 1, 117_187_500, 2, 4, 0) / 1e9
    0.9375
    """
    held = where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)
    return held * moment_count * moment_element_bytes + shape_moments_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(1 - offload_optimizer) * main_weight_state_bytes",
    source=_OFFLOAD,
)
def main_weights_bytes(offload_optimizer: Column, main_weight_state_bytes: Column) -> Column:
    """Return the main weights in the memory of the GPU [byte]."""
    return (1 - offload_optimizer) * main_weight_state_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(1 - offload_optimizer) * moment_state_bytes",
    source=_OFFLOAD,
)
def moments_bytes(offload_optimizer: Column, moment_state_bytes: Column) -> Column:
    """Return the optimizer's moments in the memory of the GPU [byte]."""
    return (1 - offload_optimizer) * moment_state_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="offload_optimizer * (main_weight_state_bytes + moment_state_bytes)",
    source=_OFFLOAD,
)
def host_state_bytes(
    offload_optimizer: Column, main_weight_state_bytes: Column, moment_state_bytes: Column
) -> Column:
    """Return the states of a GPU's optimizer in the memory of the host [byte]."""
    return offload_optimizer * (main_weight_state_bytes + moment_state_bytes)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="main_weights_bytes + moments_bytes",
    source=_ZERO,
)
def optimizer_bytes(main_weights_bytes: Column, moments_bytes: Column) -> Column:
    """Return the main weights and the optimizer's moments [byte]."""
    return main_weights_bytes + moments_bytes


@quantity(
    "byte",
    Scope.GPU,
    formula="minimum(pipeline_parallel_size - 1, 1) * (layer_input_bytes"
    " + scatter_gather_handovers * hop_bytes)",
    source="the output on its way to the next stage: Narayanan et al. 2021, arXiv:2104.04473, "
    "section 2.2; the activation received is the input that the first layer keeps, the gradient "
    "received the one that the backward starts with; a part of either that arrives, before it is "
    "gathered",
    basis=Basis.ASSUMED,
)
def pipeline_buffer_bytes(
    pipeline_parallel_size: Column,
    layer_input_bytes: Column,
    scatter_gather_handovers: Column,
    hop_bytes: Column,
) -> Column:
    """Return the buffers through which a pipeline rank sends and receives [byte]."""
    buffers = layer_input_bytes + scatter_gather_handovers * hop_bytes
    return minimum(pipeline_parallel_size - 1, 1) * buffers


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="sequence_parallel * microbatch_tokens * hidden_size * activation_element_bytes",
    source="Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2: gathered again for the "
    "backward, not kept",
)
def sequence_buffer_bytes(
    sequence_parallel: Column,
    microbatch_tokens: Column,
    hidden_size: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the buffer for the gathered input of a split matrix [byte]."""
    return sequence_parallel * microbatch_tokens * hidden_size * activation_element_bytes


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="maximum(largest(minimum(chunk_layer_count, 1) * layer_gpu_parameters"
    " + minimum(predicted_layer_count * chunk_prediction_count, 1) * prediction_gpu_parameters),"
    " maximum(chunk_holds_embedding * embedding_gpu_parameters,"
    " chunk_holds_head * head_gpu_parameters))",
    source=_UNIT,
)
def chunk_unit_parameters(
    chunk_layer_count: Axis,
    layer_gpu_parameters: Axis,
    predicted_layer_count: Axis,
    chunk_prediction_count: Column,
    prediction_gpu_parameters: Column,
    chunk_holds_embedding: Column,
    embedding_gpu_parameters: Column,
    chunk_holds_head: Column,
    head_gpu_parameters: Column,
) -> Column:
    """Return the parameters of the largest layer, embedding or head of a chunk [parameter]."""
    layers = [
        minimum(count, 1) * parameters
        + minimum(further * chunk_prediction_count, 1) * prediction_gpu_parameters
        for count, parameters, further in zip(
            chunk_layer_count, layer_gpu_parameters, predicted_layer_count, strict=True
        )
    ]
    ends = maximum(
        chunk_holds_embedding * embedding_gpu_parameters, chunk_holds_head * head_gpu_parameters
    )
    return maximum(largest(layers), ends)


@quantity(
    "parameter",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="largest(chunk_unit_parameters)",
    source=_UNIT,
)
def unit_parameters(chunk_unit_parameters: Axis) -> Column:
    """Return the parameters of the largest layer, embedding or head of a GPU [parameter]."""
    return largest(chunk_unit_parameters)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="maximum(minimum(maximum(sharding_size, expert_sharding_size) - 1, 1), cast_on_gather)"
    " * ((zero_stage >= 3) * 2 * (unit_parameters * weight_element_bytes"
    " + weights_are_frozen * trained_unit_parameters * adapter_element_bytes)"
    " + (zero_stage >= 2) * trained_unit_parameters"
    " * (gradient_element_bytes + cast_on_gather * weight_element_bytes))",
    source="Zhao et al. 2023, arXiv:2304.11277, section 3.2: the unit in use and the next one; with "
    "a cast, gradients in the format of weights beside what is scattered: torch 2.13, "
    "distributed/fsdp/_fully_shard/_fsdp_collectives.py, foreach_reduce",
)
def sharding_buffer_bytes(
    sharding_size: Column,
    expert_sharding_size: Column,
    unit_parameters: Column,
    weights_are_frozen: Column,
    trained_unit_parameters: Column,
    adapter_element_bytes: Column,
    zero_stage: Column,
    weight_element_bytes: Column,
    gradient_element_bytes: Column,
    cast_on_gather: Column,
) -> Column:
    """Return the buffers for gathered weights and for gradients not yet scattered [byte]."""
    adapters = weights_are_frozen * trained_unit_parameters * adapter_element_bytes
    gathered = 2 * (unit_parameters * weight_element_bytes + adapters)
    element_bytes = gradient_element_bytes + cast_on_gather * weight_element_bytes
    gradients = trained_unit_parameters * element_bytes
    has_shards = minimum(maximum(sharding_size, expert_sharding_size) - 1, 1)
    held = (zero_stage >= 3) * gathered + (zero_stage >= 2) * gradients
    return maximum(has_shards, cast_on_gather) * held


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="minimum(context_parallel_size - 1, 1) * (2 * context_parallel_method_is_ring +"
    " context_parallel_size * context_parallel_method_is_all_gather) *"
    " context_block_bytes",
    source="Liu et al. 2023, arXiv:2310.01889, section 3: a block in use and one that arrives; gathered: "
    "Llama Team 2024, arXiv:2407.21783, section 3.3.2",
)
def context_buffer_bytes(
    context_parallel_size: Column,
    context_parallel_method_is_ring: Column,
    context_parallel_method_is_all_gather: Column,
    context_block_bytes: Column,
) -> Column:
    """Return the buffers for keys and values of other context-parallel ranks [byte]."""
    gathered = context_parallel_size * context_parallel_method_is_all_gather
    blocks = 2 * context_parallel_method_is_ring + gathered
    return minimum(context_parallel_size - 1, 1) * blocks * context_block_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="(gradient_buckets_is_copied * gradient_bucket_parameters"
    " + gradient_buckets_is_torch_ddp * minimum(sharding_size - 1, 1) * stage_trained_parameters)"
    " * trained_element_bytes",
    source="github.com/deepspeedai/DeepSpeed@edaa722126, runtime/zero/stage_1_and_2.py, "
    "setup_buckets: reduce_bucket_size elements of the weights' format, allocated as a whole; "
    "Megatron-LM's buckets are parts of the gradients, those of FSDP2 layers; torch 2.13, "
    "nn/parallel/distributed.py, gradient_as_bucket_view: buckets as large as all gradients",
)
def bucket_buffer_bytes(
    gradient_buckets_is_copied: Column,
    gradient_bucket_parameters: Column,
    gradient_buckets_is_torch_ddp: Column,
    sharding_size: Column,
    stage_trained_parameters: Column,
    trained_element_bytes: Column,
) -> Column:
    """Return the buckets to which gradients are copied to be reduced [byte].

    Examples
    --------
    >>> bucket_buffer_bytes(1, 500_000_000, 0, 8, 7, 2)
    1000000000
    >>> bucket_buffer_bytes(0, 0, 1, 8, 7, 2)
    14
    """
    ddp = gradient_buckets_is_torch_ddp * minimum(sharding_size - 1, 1)
    copied = gradient_buckets_is_copied * gradient_bucket_parameters
    return (copied + ddp * stage_trained_parameters) * trained_element_bytes


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="(attention_matrix_parameters + layer_copied_matrix_parameters"
    " + shared_matrix_parameters) // tensor_parallel_size"
    " + expert_count // where(is_mixture, expert_parallel_size, 1)"
    " * (expert_matrix_parameters // layer_split_size) + attention_compressing_parameters",
    source="Shoeybi et al. 2019, arXiv:1909.08053, section 3",
)
def layer_cast_parameters(
    attention_matrix_parameters: Column,
    layer_copied_matrix_parameters: Column,
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    expert_count: Column,
    is_mixture: Column,
    expert_parallel_size: Column,
    expert_matrix_parameters: Column,
    layer_split_size: Column,
    attention_compressing_parameters: Column,
) -> Column:
    """Return the weights of a layer's matrices on one GPU, its router aside [parameter]."""
    attention = attention_matrix_parameters + layer_copied_matrix_parameters
    split = (attention + shared_matrix_parameters) // tensor_parallel_size
    held = expert_count // where(is_mixture, expert_parallel_size, 1)
    own = held * (expert_matrix_parameters // layer_split_size)
    return split + own + attention_compressing_parameters


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.ASSUMED,
    formula="ceil_div(where(zero_stage >= 3, largest(minimum(stage_layer_count, 1)"
    " * layer_cast_parameters), total(stage_layer_count * layer_cast_parameters))"
    " * cast_block_bytes, 32)",
    source="TransformerEngine, pytorch/module/base.py (get_weight_workspace): weights cast once a step, "
    "kept for its microbatches; of sharded weights those of the layer in use",
)
def cast_weights_bytes(
    zero_stage: Column,
    stage_layer_count: Axis,
    layer_cast_parameters: Axis,
    cast_block_bytes: Column,
) -> Column:
    """Return the copies of weights, cast for their products, that are kept beside them [byte].

    Examples
    --------
    Two layers of 1,024 weights in FP8, with transposes.

    >>> cast_weights_bytes(0, [2], [1024], 64)
    4096
    """
    layers = [
        minimum(count, 1) * own
        for count, own in zip(stage_layer_count, layer_cast_parameters, strict=True)
    ]
    whole = weighted_total(stage_layer_count, layer_cast_parameters)
    return ceil_div(where(zero_stage >= 3, largest(layers), whole) * cast_block_bytes, 32)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="transient_bytes + dummy_gradient_bytes + pipeline_buffer_bytes"
    " + sequence_buffer_bytes + context_buffer_bytes + sharding_buffer_bytes"
    " + offload_buffer_bytes + offload_staging_bytes + bucket_buffer_bytes + cast_weights_bytes",
    source="the sum of its parts",
)
def buffers_bytes(
    transient_bytes: Column,
    dummy_gradient_bytes: Column,
    pipeline_buffer_bytes: Column,
    sequence_buffer_bytes: Column,
    context_buffer_bytes: Column,
    sharding_buffer_bytes: Column,
    offload_buffer_bytes: Column,
    offload_staging_bytes: Column,
    bucket_buffer_bytes: Column,
    cast_weights_bytes: Column,
) -> Column:
    """Return the buffers of the backward, kernels, communication and sharding [byte]."""
    return (
        transient_bytes
        + dummy_gradient_bytes
        + pipeline_buffer_bytes
        + sequence_buffer_bytes
        + context_buffer_bytes
        + sharding_buffer_bytes
        + offload_buffer_bytes
        + offload_staging_bytes
        + bucket_buffer_bytes
        + cast_weights_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    group="memory",
    basis=Basis.EXACT,
    formula="accelerator_context_bytes + accelerator_allocator_reserve_bytes",
    source="stated in the description of the accelerator",
)
def reserve_bytes(
    accelerator_context_bytes: Column, accelerator_allocator_reserve_bytes: Column
) -> Column:
    """Return the memory of the framework's context and of its allocator [byte]."""
    return accelerator_context_bytes + accelerator_allocator_reserve_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    group="memory",
    basis=Basis.EXACT,
    formula="weights_bytes + gradients_bytes + optimizer_bytes + activations_bytes"
    " + buffers_bytes + reserve_bytes",
    source="the sum of its parts",
)
def stage_bytes(
    weights_bytes: Column,
    gradients_bytes: Column,
    optimizer_bytes: Column,
    activations_bytes: Column,
    buffers_bytes: Column,
    reserve_bytes: Column,
) -> Column:
    """Return the peak memory of a GPU of the stage [byte]."""
    return (
        weights_bytes
        + gradients_bytes
        + optimizer_bytes
        + activations_bytes
        + buffers_bytes
        + reserve_bytes
    )


@quantity(
    "byte",
    Scope.GPU,
    group="memory",
    basis=Basis.EXACT,
    formula="largest(stage_bytes)",
    source="the stage that needs most decides",
)
def worst_stage_bytes(stage_bytes: Axis) -> Column:
    """Return the peak memory of a GPU of the stage that needs most [byte]."""
    return largest(stage_bytes)


@quantity(
    "index",
    Scope.PLAN,
    group="memory",
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="the first stage, in their order, that needs most",
)
def worst_stage_index(stage_index: Axis, stage_bytes: Axis) -> Column:
    """Return the stage that needs most memory [index]."""
    return first_of_largest(stage_index, stage_bytes)


@quantity(
    "byte",
    Scope.GPU,
    group="memory",
    basis=Basis.EXACT,
    formula="accelerator_memory_bytes - worst_stage_bytes",
    source="by definition; negative where the plan does not fit",
)
def headroom_bytes(accelerator_memory_bytes: Column, worst_stage_bytes: Column) -> Column:
    """Return the memory left on the worst stage [byte]."""
    return accelerator_memory_bytes - worst_stage_bytes


@quantity(
    "truth",
    Scope.PLAN,
    group="verdict",
    basis=Basis.EXACT,
    formula="headroom_bytes >= 0",
    source="by definition",
)
def fits(headroom_bytes: Column) -> Column:
    """Return the verdict: whether every stage fits the memory of its GPUs [truth]."""
    return headroom_bytes >= 0
