"""Selective recomputation by modules: what is not kept, computed again, and how long that takes.

`plan.recompute_modules` lists modules of a layer as Megatron-LM does [1]_. The inside of attention,
a dense network (``mlp``), a layer's experts (``moe``) or its shared experts alone
(``shared_experts``) are checkpoints: their inputs are kept, all they would keep inside is not. A
norm (``layernorm``), the activation function of experts (``moe_act``) and the up-projections of
latent attention with their rotation (``mla_up_proj``) give up their *output*: it is computed again
in the storage it had when the gradient of what reads it arrives, so that it is not kept twice.

References
----------
.. [1] Megatron-LM, ``megatron/core/transformer/transformer_config.py`` (recompute_modules) and
   ``megatron/core/tensor_parallel/random.py`` (CheckpointWithoutOutput),
   github.com/NVIDIA/Megatron-LM.
"""

from costmodels.columns import Column, maximum, minimum, where
from costmodels.quantities import KIND, Basis, Scope, quantity

_MODULES = "Megatron-LM, megatron/core/transformer/transformer_config.py: recompute_modules"
_DISCARDED = (
    "Megatron-LM, megatron/core/tensor_parallel/random.py: CheckpointWithoutOutput; as counted by "
    "saved-tensor hooks for torch's plain modules"
)
_PRODUCTS = "Narayanan et al. 2021, arXiv:2104.04473, appendix, matrix products only"
_OPERANDS = "by counting the tensors that each operation reads and writes, once each"
_WILLIAMS = "Williams et al. 2009, doi:10.1145/1498765.1498785"
_LAYER = (KIND,)


# Which modules a layer computes again


@quantity(
    "truth",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="recompute_is_selective * recomputes_core_attn",
    source=_MODULES + ", core_attn",
)
def core_is_repeated(recompute_is_selective: Column, recomputes_core_attn: Column) -> Column:
    """Return whether the backward computes the inside of attention again, and no whole layer [truth]."""
    return recompute_is_selective * recomputes_core_attn


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="recompute_is_selective * where(is_mixture, recomputes_moe, recomputes_mlp)",
    source=_MODULES + ", mlp and moe",
)
def network_is_repeated(
    recompute_is_selective: Column,
    is_mixture: Column,
    recomputes_moe: Column,
    recomputes_mlp: Column,
) -> Column:
    """Return whether the backward computes a layer's dense network or experts again [truth]."""
    return recompute_is_selective * where(is_mixture, recomputes_moe, recomputes_mlp)


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="recompute_is_selective * recomputes_shared_experts * (shared_intermediate_size > 0)",
    source=_MODULES + ", shared_experts",
)
def shared_ffn_is_repeated(
    recompute_is_selective: Column,
    recomputes_shared_experts: Column,
    shared_intermediate_size: Column,
) -> Column:
    """Return whether the backward computes shared experts again, and routed ones not [truth]."""
    return recompute_is_selective * recomputes_shared_experts * (shared_intermediate_size > 0)


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="recompute_is_selective * is_mixture * recomputes_moe_act",
    source=_MODULES + ", moe_act",
)
def expert_activation_is_repeated(
    recompute_is_selective: Column, is_mixture: Column, recomputes_moe_act: Column
) -> Column:
    """Return whether the backward computes the activation function of experts again [truth]."""
    return recompute_is_selective * is_mixture * recomputes_moe_act


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="recompute_is_selective * recomputes_mla_up_proj * (key_value_rank > 0)",
    source=_MODULES + ", mla_up_proj",
)
def up_projection_is_repeated(
    recompute_is_selective: Column, recomputes_mla_up_proj: Column, key_value_rank: Column
) -> Column:
    """Return whether the backward computes the heads of latent attention again [truth]."""
    return recompute_is_selective * recomputes_mla_up_proj * (key_value_rank > 0)


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="recompute_is_selective * recomputes_layernorm"
    " * where(saved_tensors_is_transformer_engine, key_value_rank > 0, 1)",
    source=_MODULES + ", layernorm: the norm before attention; TransformerEngine fuses it with the "
    "projections, but for latent attention",
)
def attention_norm_is_repeated(
    recompute_is_selective: Column,
    recomputes_layernorm: Column,
    saved_tensors_is_transformer_engine: Column,
    key_value_rank: Column,
) -> Column:
    """Return whether the backward computes the norm before attention again [truth]."""
    apart = where(saved_tensors_is_transformer_engine, key_value_rank > 0, 1)
    return recompute_is_selective * recomputes_layernorm * apart


@quantity(
    "truth",
    Scope.LAYER,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="recompute_is_selective * recomputes_layernorm * (norms_per_layer > 1)"
    " * where(saved_tensors_is_transformer_engine, is_mixture, 1)",
    source=_MODULES + ", layernorm: the norm before the network; TransformerEngine fuses it with a "
    "dense one",
)
def ffn_norm_is_repeated(
    recompute_is_selective: Column,
    recomputes_layernorm: Column,
    norms_per_layer: Column,
    saved_tensors_is_transformer_engine: Column,
    is_mixture: Column,
) -> Column:
    """Return whether the backward computes the norm before the network again [truth]."""
    apart = where(saved_tensors_is_transformer_engine, is_mixture, 1)
    return recompute_is_selective * recomputes_layernorm * (norms_per_layer > 1) * apart


# What is not kept


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.ASSUMED,
    formula="where(saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda, torch_norm_bytes,"
    " layer_input_bytes + saved_tensors_is_transformer_engine * (2 - norm_is_rmsnorm)"
    " * 4 * sharded_tokens)",
    source=_DISCARDED + ": all but the norm's input",
)
def repeated_norm_bytes(
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    torch_norm_bytes: Column,
    layer_input_bytes: Column,
    saved_tensors_is_transformer_engine: Column,
    norm_is_rmsnorm: Column,
    sharded_tokens: Column,
) -> Column:
    """Return what a norm that is computed again does not keep, for one microbatch [byte].

    Notes
    -----
    What torch keeps of a norm beside its output is as large as what it keeps beside its input.
    """
    plain_torch = saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda
    statistics = saved_tensors_is_transformer_engine * (2 - norm_is_rmsnorm) * 4 * sharded_tokens
    return where(plain_torch, torch_norm_bytes, layer_input_bytes + statistics)


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="microbatch_tokens * num_attention_heads * (2 * (unrotated_size + rotated_size)"
    " + (1 - saved_tensors_is_torch_eager_cpu * (1 - core_is_repeated) * (micro_batch_size > 1)"
    " * (num_attention_heads > 1) * (sequence_length > 1)) * (unrotated_size + value_size))"
    " * activation_element_bytes // tensor_parallel_size + saved_tensors_is_torch_eager_cpu"
    " * 16 * sequence_length * (rotated_size // 2)",
    source=_DISCARDED + ": query, key, and the value with the keys that it is a view of; an eager "
    "product that copies its value keeps the copy",
)
def repeated_up_projection_bytes(
    microbatch_tokens: Column,
    num_attention_heads: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    core_is_repeated: Column,
    micro_batch_size: Column,
    sequence_length: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the heads of latent attention, computed again, that are not kept, for one microbatch [byte].

    Examples
    --------
    DeepSeek-V3, a sequence of 4096 tokens in 16 bits: 640 elements of each of 128 heads.

    >>> sizes = {"activation_element_bytes": 2, "tensor_parallel_size": 1}
    >>> repeated_up_projection_bytes(4096, 128, 128, 64, 128, 0, 0, 1, 4096, **sizes) / 2**20
    640.0
    """
    eager = saved_tensors_is_torch_eager_cpu
    is_copied = (micro_batch_size > 1) * (num_attention_heads > 1) * (sequence_length > 1)
    is_view = 1 - eager * (1 - core_is_repeated) * is_copied
    head = 2 * (unrotated_size + rotated_size) + is_view * (unrotated_size + value_size)
    heads = microbatch_tokens * num_attention_heads * head * activation_element_bytes
    tables = eager * 16 * sequence_length * (rotated_size // 2)
    return heads // tensor_parallel_size + tables


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="expert_rows * layer_intermediate_size * activation_element_bytes // layer_split_size",
    source="by counting tensors: one of the width inside",
)
def network_row_bytes(
    expert_rows: Column,
    layer_intermediate_size: Column,
    activation_element_bytes: Column,
    layer_split_size: Column,
) -> Column:
    """Return one tensor inside a layer's network or routed experts, for one microbatch [byte]."""
    return expert_rows * layer_intermediate_size * activation_element_bytes // layer_split_size


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="microbatch_tokens * shared_intermediate_size * activation_element_bytes"
    " // tensor_parallel_size",
    source="by counting tensors: one of the width inside",
)
def shared_row_bytes(
    microbatch_tokens: Column,
    shared_intermediate_size: Column,
    activation_element_bytes: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return one tensor inside a layer's shared experts, for one microbatch [byte]."""
    wide = microbatch_tokens * shared_intermediate_size * activation_element_bytes
    return wide // tensor_parallel_size


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="attention_norm_is_repeated * repeated_norm_bytes"
    " + up_projection_is_repeated * repeated_up_projection_bytes",
    source=_DISCARDED,
)
def attention_repeated_bytes(
    attention_norm_is_repeated: Column,
    repeated_norm_bytes: Column,
    up_projection_is_repeated: Column,
    repeated_up_projection_bytes: Column,
) -> Column:
    """Return what modules around attention that are computed again do not keep [byte]."""
    norms = attention_norm_is_repeated * repeated_norm_bytes
    return norms + up_projection_is_repeated * repeated_up_projection_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="ffn_norm_is_repeated * repeated_norm_bytes + (2 + gated"
    " + (saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda) * gated)"
    " * (network_is_repeated * (network_row_bytes + shared_row_bytes)"
    " + shared_ffn_is_repeated * shared_row_bytes) + expert_activation_is_repeated * (1"
    " + (saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda) * gated)"
    " * network_row_bytes",
    source=_DISCARDED + ": inside a network all that is kept; of an activation function what it "
    "gives, and with plain modules the gate behind its own",
)
def ffn_repeated_bytes(
    ffn_norm_is_repeated: Column,
    repeated_norm_bytes: Column,
    network_is_repeated: Column,
    gated: Column,
    saved_tensors_is_torch_eager_cpu: Column,
    saved_tensors_is_torch_cuda: Column,
    network_row_bytes: Column,
    shared_row_bytes: Column,
    shared_ffn_is_repeated: Column,
    expert_activation_is_repeated: Column,
) -> Column:
    """Return what modules of a network that are computed again do not keep [byte]."""
    gates = (saved_tensors_is_torch_eager_cpu + saved_tensors_is_torch_cuda) * gated
    rows = network_is_repeated * (network_row_bytes + shared_row_bytes)
    inner = (2 + gated + gates) * (rows + shared_ffn_is_repeated * shared_row_bytes)
    outputs = expert_activation_is_repeated * (1 + gates) * network_row_bytes
    return ffn_norm_is_repeated * repeated_norm_bytes + inner + outputs


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="network_is_repeated * mixture_saved_bytes"
    " + shared_ffn_is_repeated * shared_gate_bytes",
    source=_MODULES + ", moe and shared_experts",
)
def mixture_repeated_bytes(
    network_is_repeated: Column,
    mixture_saved_bytes: Column,
    shared_ffn_is_repeated: Column,
    shared_gate_bytes: Column,
) -> Column:
    """Return what routing and the gate of shared experts, computed again, do not keep [byte]."""
    routing = network_is_repeated * mixture_saved_bytes
    return routing + shared_ffn_is_repeated * shared_gate_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="core_is_repeated * attention_core_bytes + attention_repeated_bytes"
    " + ffn_repeated_bytes + mixture_repeated_bytes",
    source=_MODULES,
)
def layer_repeated_bytes(
    core_is_repeated: Column,
    attention_core_bytes: Column,
    attention_repeated_bytes: Column,
    ffn_repeated_bytes: Column,
    mixture_repeated_bytes: Column,
) -> Column:
    """Return what the modules of a layer that are computed again do not keep, for one microbatch [byte]."""
    attention = core_is_repeated * attention_core_bytes + attention_repeated_bytes
    return attention + ffn_repeated_bytes + mixture_repeated_bytes


# What is computed again, and how long that takes


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * shared_matrix_parameters // tensor_parallel_size"
    " + 2 * expert_rows * expert_matrix_parameters // layer_split_size"
    " + 2 * sharded_tokens * router_parameters",
    source=_PRODUCTS,
)
def network_flop(
    microbatch_tokens: Column,
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    expert_rows: Column,
    expert_matrix_parameters: Column,
    layer_split_size: Column,
    sharded_tokens: Column,
    router_parameters: Column,
) -> Column:
    """Return the forward work of a layer's network or experts, for one microbatch [FLOP]."""
    shared = 2 * microbatch_tokens * shared_matrix_parameters // tensor_parallel_size
    experts = 2 * expert_rows * expert_matrix_parameters // layer_split_size
    return shared + experts + 2 * sharded_tokens * router_parameters


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="2 * microbatch_tokens * shared_matrix_parameters // tensor_parallel_size"
    " + 2 * sharded_tokens * shared_gate * hidden_size",
    source=_PRODUCTS,
)
def shared_experts_flop(
    microbatch_tokens: Column,
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    sharded_tokens: Column,
    shared_gate: Column,
    hidden_size: Column,
) -> Column:
    """Return the forward work of a layer's shared experts and their gate, for one microbatch [FLOP]."""
    experts = 2 * microbatch_tokens * shared_matrix_parameters // tensor_parallel_size
    return experts + 2 * sharded_tokens * shared_gate * hidden_size


@quantity(
    "parameter",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="num_attention_heads * (where(query_rank > 0, query_rank, hidden_size)"
    " * (unrotated_size + rotated_size) + key_value_rank * (unrotated_size + value_size))"
    " // tensor_parallel_size",
    source="DeepSeek-AI 2024, arXiv:2405.04434, section 2.1",
)
def up_projection_parameters(
    num_attention_heads: Column,
    query_rank: Column,
    hidden_size: Column,
    unrotated_size: Column,
    rotated_size: Column,
    key_value_rank: Column,
    value_size: Column,
    tensor_parallel_size: Column,
) -> Column:
    """Return the weights that give the heads of latent attention, on one GPU [parameter]."""
    source = where(query_rank > 0, query_rank, hidden_size)
    head = source * (unrotated_size + rotated_size) + key_value_rank * (unrotated_size + value_size)
    return num_attention_heads * head // tensor_parallel_size


@quantity(
    "FLOP",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.EXACT,
    formula="network_is_repeated * network_flop"
    " + shared_ffn_is_repeated * shared_experts_flop"
    " + up_projection_is_repeated * 2 * microbatch_tokens * up_projection_parameters",
    source=_MODULES + "; matrix products only",
)
def layer_module_flop(
    network_is_repeated: Column,
    network_flop: Column,
    shared_ffn_is_repeated: Column,
    shared_experts_flop: Column,
    up_projection_is_repeated: Column,
    microbatch_tokens: Column,
    up_projection_parameters: Column,
) -> Column:
    """Return the work of modules beside the inside of attention that a layer repeats [FLOP]."""
    heads = up_projection_is_repeated * 2 * microbatch_tokens * up_projection_parameters
    shared = shared_ffn_is_repeated * shared_experts_flop
    return network_is_repeated * network_flop + shared + heads


@quantity(
    "byte",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="(shared_matrix_parameters // tensor_parallel_size + expert_count"
    " // where(is_mixture, expert_parallel_size, 1) * (expert_matrix_parameters"
    " // layer_split_size) + router_parameters) * read_element_bytes + (2 + gated)"
    " * (network_row_bytes + shared_row_bytes) + 2 * hidden_size * (expert_rows"
    " + minimum(shared_intermediate_size, 1) * microbatch_tokens) * activation_element_bytes",
    source=_OPERANDS,
)
def network_operand_bytes(
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    expert_count: Column,
    is_mixture: Column,
    expert_parallel_size: Column,
    expert_matrix_parameters: Column,
    layer_split_size: Column,
    router_parameters: Column,
    read_element_bytes: Column,
    gated: Column,
    network_row_bytes: Column,
    shared_row_bytes: Column,
    hidden_size: Column,
    expert_rows: Column,
    shared_intermediate_size: Column,
    microbatch_tokens: Column,
    activation_element_bytes: Column,
) -> Column:
    """Return the operands of the products of a layer's network or experts, forward [byte]."""
    held = expert_count // where(is_mixture, expert_parallel_size, 1)
    experts = held * (expert_matrix_parameters // layer_split_size)
    weights = shared_matrix_parameters // tensor_parallel_size + experts + router_parameters
    rows = expert_rows + minimum(shared_intermediate_size, 1) * microbatch_tokens
    outer = 2 * hidden_size * rows * activation_element_bytes
    inner = (2 + gated) * (network_row_bytes + shared_row_bytes)
    return weights * read_element_bytes + inner + outer


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(network_flop / matmul_flop_per_s, network_operand_bytes / memory_bytes_per_s)"
    " + (2 + gated) * (network_row_bytes + shared_row_bytes) / memory_bytes_per_s",
    source=_WILLIAMS + "; the activation function by its traffic",
)
def network_forward_s(
    network_flop: Column,
    matmul_flop_per_s: Column,
    network_operand_bytes: Column,
    memory_bytes_per_s: Column,
    gated: Column,
    network_row_bytes: Column,
    shared_row_bytes: Column,
) -> Column:
    """Return the time of a layer's network or experts, forward, for one microbatch [s]."""
    products_s = maximum(
        network_flop / matmul_flop_per_s, network_operand_bytes / memory_bytes_per_s
    )
    traffic = (2 + gated) * (network_row_bytes + shared_row_bytes)
    return products_s + traffic / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(shared_experts_flop / matmul_flop_per_s, (shared_matrix_parameters"
    " // tensor_parallel_size * read_element_bytes + (2 + gated) * shared_row_bytes + 2"
    " * hidden_size * microbatch_tokens * activation_element_bytes) / memory_bytes_per_s)"
    " + (2 + gated) * shared_row_bytes / memory_bytes_per_s",
    source=_WILLIAMS + "; the activation function by its traffic",
)
def shared_experts_forward_s(
    shared_experts_flop: Column,
    matmul_flop_per_s: Column,
    shared_matrix_parameters: Column,
    tensor_parallel_size: Column,
    read_element_bytes: Column,
    gated: Column,
    shared_row_bytes: Column,
    hidden_size: Column,
    microbatch_tokens: Column,
    activation_element_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of a layer's shared experts, forward, for one microbatch [s]."""
    inner = (2 + gated) * shared_row_bytes
    outer = 2 * hidden_size * microbatch_tokens * activation_element_bytes
    weights = shared_matrix_parameters // tensor_parallel_size * read_element_bytes
    work_s = shared_experts_flop / matmul_flop_per_s
    products_s = maximum(work_s, (weights + inner + outer) / memory_bytes_per_s)
    return products_s + inner / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="maximum(2 * microbatch_tokens * up_projection_parameters / matmul_flop_per_s,"
    " (up_projection_parameters * read_element_bytes + microbatch_tokens * (where(query_rank > 0,"
    " query_rank, hidden_size) + key_value_rank + num_attention_heads * (2 * unrotated_size"
    " + rotated_size + value_size) // tensor_parallel_size) * activation_element_bytes)"
    " / memory_bytes_per_s) + microbatch_tokens * (attention_rotated_elements"
    " // tensor_parallel_size) * activation_element_bytes / memory_bytes_per_s",
    source=_WILLIAMS + "; rotation by its traffic",
)
def up_projection_forward_s(
    microbatch_tokens: Column,
    up_projection_parameters: Column,
    matmul_flop_per_s: Column,
    read_element_bytes: Column,
    query_rank: Column,
    hidden_size: Column,
    key_value_rank: Column,
    num_attention_heads: Column,
    unrotated_size: Column,
    rotated_size: Column,
    value_size: Column,
    tensor_parallel_size: Column,
    activation_element_bytes: Column,
    memory_bytes_per_s: Column,
    attention_rotated_elements: Column,
) -> Column:
    """Return the time to make the heads of latent attention, forward, for one microbatch [s]."""
    heads = num_attention_heads * (2 * unrotated_size + rotated_size + value_size)
    source = where(query_rank > 0, query_rank, hidden_size) + key_value_rank
    vectors = microbatch_tokens * (source + heads // tensor_parallel_size)
    operands = up_projection_parameters * read_element_bytes + vectors * activation_element_bytes
    work = 2 * microbatch_tokens * up_projection_parameters
    rotated = microbatch_tokens * (attention_rotated_elements // tensor_parallel_size)
    products_s = maximum(work / matmul_flop_per_s, operands / memory_bytes_per_s)
    return products_s + rotated * activation_element_bytes / memory_bytes_per_s


@quantity(
    "s",
    Scope.GPU,
    axes=_LAYER,
    basis=Basis.ASSUMED,
    formula="network_is_repeated * network_forward_s"
    " + shared_ffn_is_repeated * shared_experts_forward_s"
    " + up_projection_is_repeated * up_projection_forward_s"
    " + ((attention_norm_is_repeated + ffn_norm_is_repeated) * 2 * layer_input_bytes"
    " + expert_activation_is_repeated * (2 + gated) * network_row_bytes) / memory_bytes_per_s",
    source=_WILLIAMS + "; norms and activation functions by their traffic",
)
def layer_module_recompute_s(
    network_is_repeated: Column,
    network_forward_s: Column,
    shared_ffn_is_repeated: Column,
    shared_experts_forward_s: Column,
    up_projection_is_repeated: Column,
    up_projection_forward_s: Column,
    attention_norm_is_repeated: Column,
    ffn_norm_is_repeated: Column,
    layer_input_bytes: Column,
    expert_activation_is_repeated: Column,
    gated: Column,
    network_row_bytes: Column,
    memory_bytes_per_s: Column,
) -> Column:
    """Return the time of modules beside the inside of attention that a layer repeats [s]."""
    products_s = network_is_repeated * network_forward_s
    products_s = products_s + shared_ffn_is_repeated * shared_experts_forward_s
    heads_s = up_projection_is_repeated * up_projection_forward_s
    norms = (attention_norm_is_repeated + ffn_norm_is_repeated) * 2 * layer_input_bytes
    functions = expert_activation_is_repeated * (2 + gated) * network_row_bytes
    return products_s + heads_s + (norms + functions) / memory_bytes_per_s
