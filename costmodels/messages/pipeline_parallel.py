"""Messages between stages: hand-overs, tied embeddings, and copies of the same layers."""

from costmodels.collectives import ring_all_reduce_bytes
from costmodels.columns import Axis, Column, as_float, minimum, total, where
from costmodels.quantities import ALGORITHM, STAGE, Basis, Scope, quantity

_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
_RING = "Thakur et al. 2005, doi:10.1177/1094342005051521, section 4: a ring"
_MIRROR = "DeepSeek-AI 2024, arXiv:2412.19437, section 3.2.1: two copies of the layers"
_STAGE = (STAGE,)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_hops)",
    source=_NARAYANAN,
)
def hop_calls(chunk_microbatch_count: Column, chunk_hops: Axis) -> Column:
    """Return the sends of activations and of gradients to other stages, over a step [count]."""
    return as_float(chunk_microbatch_count) * total(chunk_hops)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * total(chunk_hops)",
    source=_NARAYANAN + ": an activation unless it is the first chunk, a gradient unless the last, "
    "and nothing from a chunk of the same rank: as many as it sends",
)
def hop_receive_calls(chunk_microbatch_count: Column, chunk_hops: Axis) -> Column:
    """Return the activations and gradients that a GPU receives from stages, over a step [count]."""
    return as_float(chunk_microbatch_count) * total(chunk_hops)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * chunk_microbatch_count * (total(chunk_forward_handover_gather_count)"
    " + total(chunk_backward_handover_gather_count))",
    source="Narayanan et al. 2021, arXiv:2104.04473, section 4.1",
)
def handover_all_gather_calls(
    chunk_microbatch_count: Column,
    chunk_forward_handover_gather_count: Axis,
    chunk_backward_handover_gather_count: Axis,
) -> Column:
    """Return the all-gathers of activations and gradients that arrive in parts, over a step [count]."""
    both = total(chunk_forward_handover_gather_count) + total(chunk_backward_handover_gather_count)
    return as_float(chunk_microbatch_count) * both


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="vocabulary_rows * hidden_size * reduction_element_bytes",
    source=_NARAYANAN,
)
def tied_message_bytes(
    vocabulary_rows: Column, hidden_size: Column, reduction_element_bytes: Column
) -> Column:
    """Return the payload of the all-reduce of a tied embedding's gradient [byte]."""
    return vocabulary_rows * hidden_size * reduction_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(tied_message_bytes, 2)",
    source=_RING,
)
def tied_call_bytes(tied_message_bytes: Column) -> Column:
    """Return the bytes sent in the all-reduce of a tied embedding's gradient [byte]."""
    return ring_all_reduce_bytes(tied_message_bytes, 2)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * (1 - weights_are_frozen) * embedding_copy_count"
    " * (total(chunk_holds_embedding) + total(chunk_holds_head))",
    source=_NARAYANAN + "; a frozen embedding has no gradient",
)
def tied_all_reduce_calls(
    weights_are_frozen: Column,
    embedding_copy_count: Column,
    chunk_holds_embedding: Axis,
    chunk_holds_head: Axis,
) -> Column:
    """Return the all-reduces of a tied embedding's gradient, over a step [count]."""
    copies = as_float((1 - weights_are_frozen) * embedding_copy_count)
    return copies * (total(chunk_holds_embedding) + total(chunk_holds_head))


@quantity(
    "fraction",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula="1.0 * (pipeline_node_members < pipeline_parallel_size)",
    source="the copies of a tied embedding are on the first and the last rank",
)
def tied_network_fraction(pipeline_node_members: Column, pipeline_parallel_size: Column) -> Column:
    """Return the share of a tied embedding's hops that cross nodes: all or none [fraction]."""
    return 1.0 * (pipeline_node_members < pipeline_parallel_size)


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="minimum(schedule_copies - 1, 1) * where(zero_stage >= 1,"
    " trained_shard_parameters, stage_trained_parameters) * reduction_element_bytes",
    source=_MIRROR + "; sharded gradients are scattered before",
)
def mirror_message_bytes(
    schedule_copies: Column,
    zero_stage: Column,
    trained_shard_parameters: Column,
    stage_trained_parameters: Column,
    reduction_element_bytes: Column,
) -> Column:
    """Return the gradients that a rank adds to those of the other copy of its layers [byte]."""
    held = where(zero_stage >= 1, trained_shard_parameters, stage_trained_parameters)
    return minimum(schedule_copies - 1, 1) * held * reduction_element_bytes


@quantity(
    "byte",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="ring_all_reduce_bytes(mirror_message_bytes, 2)",
    source=_RING,
)
def mirror_call_bytes(mirror_message_bytes: Column) -> Column:
    """Return the bytes sent in the all-reduce of the gradients of two copies of layers [byte]."""
    return ring_all_reduce_bytes(mirror_message_bytes, 2)


@quantity(
    "count",
    Scope.GPU,
    axes=_STAGE,
    basis=Basis.EXACT,
    formula="1.0 * minimum(schedule_copies - 1, 1) * minimum(total(chunk_exists), 1)",
    source=_MIRROR + "; one for all chunks of a rank",
)
def mirror_all_reduce_calls(schedule_copies: Column, chunk_exists: Axis) -> Column:
    """Return the all-reduces between copies of layers, over a step [count]."""
    return 1.0 * minimum(schedule_copies - 1, 1) * minimum(total(chunk_exists), 1)


@quantity(
    "fraction",
    Scope.PLAN,
    basis=Basis.EXACT,
    formula=ALGORITHM,
    source="ranks r and p - 1 - r hold the same layers: both are in one node where the middle of the "
    "pipeline is",
)
def mirror_network_fraction(
    pipeline_node_members: Column, pipeline_parallel_size: Column
) -> Column:
    """Return the share of the pairs of ranks with copies of the same layers that cross nodes [fraction].

    Examples
    --------
    Eight ranks, four in a node: rank 3 and rank 4 are in two nodes too. Three in a node: they share
    the second one, with neighbours that have their copy elsewhere.

    >>> mirror_network_fraction(4, 8), mirror_network_fraction(3, 8), mirror_network_fraction(8, 8)
    (1.0, 0.75, 0.0)
    """
    half = pipeline_parallel_size // 2
    before = half % pipeline_node_members
    after = minimum(pipeline_node_members - before, half)
    return 1.0 - 2.0 * minimum(before, after) / pipeline_parallel_size
