"""Messages of ranks that split matrices and sequences: activations, the loss, and replicated weights."""

from costmodels.collectives import ring_all_reduce_bytes
from costmodels.columns import Axis, Column, as_float, minimum, total, where
from costmodels.quantities import CHUNK, STAGE, Basis, Scope, quantity

_SHOEYBI = "Shoeybi et al. 2019, arXiv:1909.08053, section 3"
_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521, section 4: a ring"
_COPIES = "each rank has seen its own query heads of a key and value head that it shares"
_STAGE = (STAGE,)
_CHUNK = (STAGE, CHUNK)


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="4 * microbatch_tokens",
    source=_SHOEYBI + ": one number of fp32 for each token",
)
def loss_message_bytes(microbatch_tokens: Column) -> Column:
    """Return the payload of one all-reduce of the vocabulary-parallel loss [byte]."""
    return 4 * microbatch_tokens


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(loss_message_bytes, tensor_parallel_size)",
    source=_RING,
)
def loss_call_bytes(loss_message_bytes: Column, tensor_parallel_size: Column) -> Column:
    """Return the bytes sent in one all-reduce of the vocabulary-parallel loss [byte]."""
    return ring_all_reduce_bytes(loss_message_bytes, tensor_parallel_size)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * (total(forward_all_reduces) + total(backward_all_reduces))",
    source=_SHOEYBI,
)
def hidden_all_reduce_calls(
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    forward_all_reduces: Axis,
    backward_all_reduces: Axis,
) -> Column:
    """Return the all-reduces of activations and of their gradients, over a step [count]."""
    calls = total(forward_all_reduces) + total(backward_all_reduces)
    return as_float(chunk_microbatch_count) * minimum(tensor_parallel_size - 1, 1) * calls


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="3.0 * chunk_microbatch_count * minimum(tensor_parallel_size - 1, 1)"
    " * total(chunk_head_passes)",
    source=_SHOEYBI + ": maximum, sum of exponentials, label's logit",
)
def loss_all_reduce_calls(
    chunk_microbatch_count: Column, tensor_parallel_size: Column, chunk_head_passes: Axis
) -> Column:
    """Return the all-reduces of the vocabulary-parallel loss, over a step [count]."""
    return (
        3.0
        * chunk_microbatch_count
        * minimum(tensor_parallel_size - 1, 1)
        * total(chunk_head_passes)
    )


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (2 * total(chunk_entry_count)"
    " + total(chunk_exit_count) + total(chunk_repeated_entry_count) + 2 * total(chunk_head_passes)"
    " + total(chunk_embedding_passes))",
    source=_KORTHIKANTI + ": two a layer forward, of them again for weight gradients, two backward",
)
def sequence_all_gather_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_entry_count: Axis,
    chunk_exit_count: Axis,
    chunk_repeated_entry_count: Axis,
    chunk_head_passes: Axis,
    chunk_embedding_passes: Axis,
) -> Column:
    """Return the all-gathers of sequence parallelism, over a step [count]."""
    inputs = 2 * total(chunk_entry_count) + total(chunk_repeated_entry_count)
    layers = inputs + total(chunk_exit_count)
    ends = 2 * total(chunk_head_passes) + total(chunk_embedding_passes)
    return as_float(chunk_microbatch_count) * sequence_parallel * (layers + ends)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * sequence_parallel * (total(chunk_exit_count)"
    " + total(chunk_entry_count) + total(chunk_repeated_exit_count)"
    " + total(chunk_head_passes) + total(chunk_embedding_passes))",
    source=_KORTHIKANTI + ": two a layer forward, two backward",
)
def sequence_reduce_scatter_calls(
    chunk_microbatch_count: Column,
    sequence_parallel: Column,
    chunk_entry_count: Axis,
    chunk_exit_count: Axis,
    chunk_repeated_exit_count: Axis,
    chunk_head_passes: Axis,
    chunk_embedding_passes: Axis,
) -> Column:
    """Return the reduce-scatters of sequence parallelism, over a step [count]."""
    outputs = total(chunk_exit_count) + total(chunk_repeated_exit_count)
    layers = outputs + total(chunk_entry_count)
    ends = total(chunk_head_passes) + total(chunk_embedding_passes)
    return as_float(chunk_microbatch_count) * sequence_parallel * (layers + ends)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_summed_parameters * reduction_element_bytes",
    source=_KORTHIKANTI,
)
def replicated_message_bytes(
    chunk_summed_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of one sum of a chunk's gradients of replicated weights [byte]."""
    return chunk_summed_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0)"
    " * minimum(tensor_parallel_size - 1, 1) * minimum(chunk_summed_parameters, 1)",
    source=_KORTHIKANTI + "; once a step, or before gradients are scattered",
)
def replicated_all_reduce_calls(
    zero_stage: Column,
    chunk_microbatch_count: Column,
    tensor_parallel_size: Column,
    chunk_summed_parameters: Column,
) -> Column:
    """Return the all-reduces of a chunk's gradients of replicated weights, over a step [count]."""
    calls = where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0)
    return calls * minimum(tensor_parallel_size - 1, 1) * minimum(chunk_summed_parameters, 1)


@quantity(
    "byte",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="chunk_shared_parameters * reduction_element_bytes",
    source=_COPIES,
)
def shared_message_bytes(
    chunk_shared_parameters: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of one sum of a chunk's gradients of copied heads [byte]."""
    return chunk_shared_parameters * reduction_element_bytes


@quantity(
    "count",
    Scope.CHUNK,
    axes=_CHUNK,
    basis=Basis.EXACT,
    formula="where(zero_stage >= 2, 1.0 * chunk_microbatch_count, 1.0)"
    " * minimum(chunk_shared_parameters, 1)",
    source=_COPIES + "; once a step, or before gradients are scattered",
)
def shared_all_reduce_calls(
    zero_stage: Column, chunk_microbatch_count: Column, chunk_shared_parameters: Column
) -> Column:
    """Return the all-reduces of a chunk's gradients of copied heads, over a step [count]."""
    calls = where(zero_stage >= 2, as_float(chunk_microbatch_count), 1.0)
    return calls * minimum(chunk_shared_parameters, 1)
