"""Parameters of one GPU's chunks and stage: its layers and its part of the ends."""

from costmodels.columns import Axis, Column, ceil_div, maximum, minimum, total, weighted_total
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_MEGATRON = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_MEGATRON_MOE = (
    "Liu et al. 2025, arXiv:2504.14960, section 3 (folded parallelism of experts); Megatron-LM, "
    "parallel_state: tensor-parallel size of experts, by default that of all matrices"
)
_COPIES = (
    "Ainslie et al. 2023, arXiv:2305.13245, section 2.2; with fewer heads than ranks each rank has"
    " a copy of one: vLLM, vllm/model_executor/layers/linear.py (QKVParallelLinear);"
    " neuronx-distributed, modules/qkv_linear.py"
)


@quantity(
    "row",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ceil_div(vocabulary_size, tensor_parallel_size)",
    source=_MEGATRON,
)
def vocabulary_rows(vocabulary_size: Column, tensor_parallel_size: Column) -> Column:
    """Return the rows of the embedding on one tensor-parallel rank, padded to be equal [row]."""
    return ceil_div(vocabulary_size, tensor_parallel_size)


@quantity(
    "parameter",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="vocabulary_rows * hidden_size + position_parameters"
    " + embedding_norm * norm_parameters",
    source=_MEGATRON,
)
def embedding_gpu_parameters(
    vocabulary_rows: Column,
    hidden_size: Column,
    position_parameters: Column,
    embedding_norm: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of the input embeddings on one GPU of the first stage [parameter]."""
    return vocabulary_rows * hidden_size + position_parameters + embedding_norm * norm_parameters


@quantity(
    "count",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="minimum(pipeline_parallel_size - 1, 1) * (1 - schedule_joins_ends)",
    source="Narayanan et al. 2021, arXiv:2104.04473, section 2.2; on one rank they share it: "
    "DeepSeek-AI 2024, arXiv:2412.19437, section 3.2.3",
)
def separate_ends_count(pipeline_parallel_size: Column, schedule_joins_ends: Column) -> Column:
    """Return the ranks that hold the head but not the embedding: one, or none [count].

    Examples
    --------
    >>> separate_ends_count(1, 0), separate_ends_count(4, 0), separate_ends_count(4, 1)
    (0, 1, 0)
    """
    return minimum(pipeline_parallel_size - 1, 1) * (1 - schedule_joins_ends)


@quantity(
    "parameter",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="maximum(1 - tied_embeddings, separate_ends_count)"
    " * vocabulary_rows * hidden_size + head_bias * vocabulary_rows + norm_parameters",
    source=_MEGATRON + "; Narayanan et al. 2021, arXiv:2104.04473",
)
def head_gpu_parameters(
    vocabulary_rows: Column,
    hidden_size: Column,
    tied_embeddings: Column,
    separate_ends_count: Column,
    head_bias: Column,
    norm_parameters: Column,
) -> Column:
    """Return the parameters of final norm and head on one GPU of the last stage [parameter].

    Notes
    -----
    A tied head shares the embedding where one rank holds both; else the last stage keeps a copy.
    """
    separate = maximum(1 - tied_embeddings, separate_ends_count)
    return separate * vocabulary_rows * hidden_size + head_bias * vocabulary_rows + norm_parameters


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_gpu_parameters)"
    " + chunk_holds_embedding * embedding_gpu_parameters"
    " + chunk_holds_head * head_gpu_parameters + chunk_prediction_parameters",
    source=_MEGATRON,
)
def chunk_parameters(
    chunk_layer_count: Axis,
    layer_gpu_parameters: Axis,
    chunk_holds_embedding: Column,
    embedding_gpu_parameters: Column,
    chunk_holds_head: Column,
    head_gpu_parameters: Column,
    chunk_prediction_parameters: Column,
) -> Column:
    """Return the parameters of one chunk of layers on one GPU, with the ends it holds [parameter]."""
    return (
        weighted_total(chunk_layer_count, layer_gpu_parameters)
        + chunk_holds_embedding * embedding_gpu_parameters
        + chunk_holds_head * head_gpu_parameters
        + chunk_prediction_parameters
    )


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_summed_parameters) + sequence_parallel"
    " * (chunk_holds_embedding * (position_parameters + embedding_norm * norm_parameters)"
    " + (chunk_holds_head + 3 * chunk_prediction_count) * norm_parameters)",
    source=_KORTHIKANTI,
)
def chunk_summed_parameters(
    chunk_layer_count: Axis,
    layer_summed_parameters: Axis,
    sequence_parallel: Column,
    chunk_holds_embedding: Column,
    position_parameters: Column,
    embedding_norm: Column,
    norm_parameters: Column,
    chunk_holds_head: Column,
    chunk_prediction_count: Column,
) -> Column:
    """Return the weights of a chunk whose gradients are sums over tensor-parallel ranks [parameter]."""
    embedding = chunk_holds_embedding * (position_parameters + embedding_norm * norm_parameters)
    ends = embedding + (chunk_holds_head + 3 * chunk_prediction_count) * norm_parameters
    layers = weighted_total(chunk_layer_count, layer_summed_parameters)
    return layers + sequence_parallel * ends


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="total(chunk_layer_count * layer_shared_parameters)",
    source=_COPIES,
)
def chunk_shared_parameters(chunk_layer_count: Axis, layer_shared_parameters: Axis) -> Column:
    """Return the weights of a chunk of which other tensor-parallel ranks have a copy [parameter]."""
    return weighted_total(chunk_layer_count, layer_shared_parameters)


@quantity(
    "parameter",
    Scope.GPU,
    axes=(STAGE,),
    group="parameters",
    basis=Basis.EXACT,
    formula="total(chunk_parameters)",
    source=_MEGATRON,
)
def stage_parameters(chunk_parameters: Axis) -> Column:
    """Return the parameters on one GPU before data-parallel sharding [parameter]."""
    return total(chunk_parameters)


@quantity(
    "parameter",
    Scope.CHUNK,
    axes=(STAGE, CHUNK),
    basis=Basis.EXACT,
    formula="experts_apart * total(chunk_layer_count * layer_expert_parameters)",
    source=_MEGATRON_MOE,
)
def chunk_expert_parameters(
    experts_apart: Column, chunk_layer_count: Axis, layer_expert_parameters: Axis
) -> Column:
    """Return the parameters of a chunk's experts that have groups of their own [parameter]."""
    return experts_apart * weighted_total(chunk_layer_count, layer_expert_parameters)


@quantity(
    "parameter",
    Scope.GPU,
    axes=(STAGE,),
    basis=Basis.EXACT,
    formula="total(chunk_expert_parameters)",
    source=_MEGATRON_MOE,
)
def stage_expert_parameters(chunk_expert_parameters: Axis) -> Column:
    """Return the parameters of a GPU's experts that have groups of their own [parameter]."""
    return total(chunk_expert_parameters)
