"""Tensors of weights in the order in which their gradients arrive, and buckets that cut none of them.

The backward of torch runs operations in the reverse order of the forward, and hands a weight its
gradient as soon as all that used it has run: a tied embedding gets its own last. Of a linear layer
the bias comes before the matrix.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from costmodels.specs.layouts import (
    Chunked,
    Dense,
    Dilated,
    DilatedHeads,
    Linear,
    Sliding,
)
from costmodels.specs.model import Model, Norm, Positions, QueryKeyNorm
from costmodels.units import parse_quantity

FIRST_CAP_BYTES, CAP_BYTES = (int(parse_quantity(size, "bytes")) for size in ("1 MiB", "25 MiB"))
"""Sizes at which DistributedDataParallel closes its first bucket and the others, unless told."""

_PROJECTED = (Dense, Sliding, Chunked, Dilated, DilatedHeads, Linear)
"""Layouts whose layers have four projections and no weights of their own."""

Operation: TypeAlias = tuple[int, ...]
"""Elements of the tensors that one operation of the forward uses, in the order of their gradients."""


def order_is_known(model: Model) -> bool:
    """Return whether the order in which a model's gradients arrive follows from its description.

    Parameters
    ----------
    model : Model
        Any description.

    Notes
    -----
    Not that of experts, which depends on the tokens that they get, nor of layers with projections
    of other kinds, gated outputs or further tokens, which programs order in more than one way.
    """
    plain = all(isinstance(layout, _PROJECTED) for layout in model.layouts)
    others = model.attention_output_gate or model.multi_token_prediction_layers
    return plain and model.mixture is None and not others


def arriving_parameters(
    model: Model,
    *,
    layer_count: int,
    holds_embedding: bool,
    holds_head: bool,
    tensor_parallel_size: int = 1,
) -> tuple[int, ...]:
    """Return the elements of each tensor of a chunk on one rank, as their gradients arrive [parameter].

    Parameters
    ----------
    model : Model
        A description whose order is known.
    layer_count : int
        Layers of the chunk [count].
    holds_embedding, holds_head : bool
        Whether it holds the ends of the model. A tied head is one tensor where it holds both.
    tensor_parallel_size : int
        Ranks that share each matrix [count].

    Notes
    -----
    Queries, keys and values are three projections, and so are gate and up, as in transformers.
    """
    size, hidden = tensor_parallel_size, model.hidden_size
    rows = -(-model.vocabulary_size // size)
    shared = model.tied_embeddings and holds_embedding and holds_head
    forward: list[Operation] = []
    if holds_embedding:
        forward.append((rows * hidden,))
        if model.positions is Positions.LEARNED:
            forward.append(((model.max_position_embeddings + model.reserved_positions) * hidden,))
        if model.embedding_norm:
            forward.append(_norm(model, hidden))
    forward.extend([*_attention(model, size), *_network(model, size)] * layer_count)
    if holds_head:
        head = 0 if shared else rows * hidden
        forward.extend((_norm(model, hidden), (rows * model.head_bias, head)))
    arriving = (elements for operation in reversed(forward) for elements in operation)
    return tuple(elements for elements in arriving if elements)


def _norm(model: Model, width: int) -> Operation:
    return (width, width if model.norm is Norm.LAYERNORM else 0)


def _linear(rows: int, columns: int, bias: int) -> Operation:
    return bias, rows * columns


def _attention(model: Model, size: int) -> Iterator[Operation]:
    """Return the operations of attention behind its norm, on one of so many ranks."""
    hidden, head = model.hidden_size, model.head_size
    width = model.num_attention_heads // size * head
    kept = max(model.num_key_value_heads // size, 1) * head
    yield _norm(model, hidden)
    for rows, normed in ((width, True), (kept, True), (kept, False)):
        yield _linear(rows, hidden, model.attention_bias * rows)
        if normed:
            yield from _head_norm(model, rows)
    yield (model.attention_sinks * (model.num_attention_heads // size),)
    yield _linear(hidden, width, model.attention_output_bias * hidden)
    if model.norms_per_layer > _PAIR:
        yield _norm(model, hidden)


_PAIR = 2


def _head_norm(model: Model, rows: int) -> Iterator[Operation]:
    """Return the norm of a projection, or of its heads."""
    if model.query_key_norm is QueryKeyNorm.HEAD:
        yield _norm(model, model.head_size)
    if model.query_key_norm is QueryKeyNorm.FULL:
        yield _norm(model, rows)


def _network(model: Model, size: int) -> Iterator[Operation]:
    """Return the operations of a feed-forward network behind its norm, on one of so many ranks."""
    hidden, rows = model.hidden_size, model.intermediate_size // size
    if model.norms_per_layer >= _PAIR:
        yield _norm(model, hidden)
    for _ in range(1 + model.gated):
        yield _linear(rows, hidden, model.ffn_bias * rows)
    yield _linear(hidden, rows, model.ffn_bias * hidden)
    if model.norms_per_layer > _PAIR:
        yield _norm(model, hidden)


class BucketNumbers(NamedTuple):
    """What closed forms need to know of a chunk's buckets of whole tensors.

    Attributes
    ----------
    bucket_count : int
        Buckets [count].
    last_bucket_parameters : int
        Parameters of the last one [parameter].
    bucket_shard_parameters : int
        The largest part of each of them, cut for the ranks that reduce it [parameter].
    """

    bucket_count: int
    last_bucket_parameters: int
    bucket_shard_parameters: int


NO_BUCKETS = BucketNumbers(0, 0, 0)


def bucket_numbers(buckets: Sequence[int], group_size: int) -> BucketNumbers:
    """Return what closed forms need to know of buckets that so many ranks reduce.

    Examples
    --------
    >>> bucket_numbers((7, 8, 4), 2)
    BucketNumbers(bucket_count=3, last_bucket_parameters=4, bucket_shard_parameters=10)
    """
    shards = sum(-(-bucket // group_size) for bucket in buckets)
    return BucketNumbers(len(buckets), buckets[-1], shards)


def whole_buckets(parameters: Iterable[int], caps: Sequence[int]) -> tuple[int, ...]:
    """Return buckets of tensors, each closed by the tensor that brings it to its cap [parameter].

    Parameters
    ----------
    parameters : iterable of int
        Elements of each tensor, in order [parameter].
    caps : sequence of int
        Sizes at which the first buckets close; the last one holds for all others [parameter].

    Returns
    -------
    tuple of int
        Elements of each bucket, one that is empty for no tensors.

    References
    ----------
    S. Li et al., "PyTorch Distributed," 2020, arXiv:2006.15704, section 3.2.3;
    github.com/pytorch/pytorch, torch/csrc/distributed/c10d/reducer.cpp,
    ``compute_bucket_assignment_by_size``.

    Examples
    --------
    >>> whole_buckets((7, 1, 2, 5, 3, 1), (6, 4))
    (7, 8, 4)
    """
    buckets: list[int] = []
    filled = 0
    for elements in parameters:
        filled += elements
        if filled >= caps[min(len(buckets), len(caps) - 1)]:
            buckets.append(filled)
            filled = 0
    return tuple([*buckets, filled] if filled or not buckets else buckets)


def equal_caps(parameters: Sequence[int], caps: Sequence[int]) -> tuple[int, int]:
    """Return the least and the largest single cap that makes the same buckets [parameter].

    Parameters, as of `whole_buckets`. The first is above the second where no single cap does; the
    second is the largest integer where one bucket holds all.

    Examples
    --------
    >>> equal_caps((7, 1, 2, 5, 3, 1), (5,)), whole_buckets((7, 1, 2, 5, 3, 1), (7,))
    ((4, 7), (7, 8, 4))
    """
    least, most, filled, place = 1, sys.maxsize, 0, 0
    for number, elements in enumerate(parameters, 1):
        before, filled = filled, filled + elements
        least = max(least, before + 1)
        if filled >= caps[min(place, len(caps) - 1)] and number < len(parameters):
            most, filled, place = min(most, filled), 0, place + 1
    return least, most


def caps_parameters(bucket_parameters: int, element_bytes: int) -> tuple[int, ...]:
    """Return the sizes at which DistributedDataParallel closes buckets of gradients [parameter].

    Parameters
    ----------
    bucket_parameters : int
        A stated size; 0 for torch's own, 1 MiB for the first and 25 MiB for the others [parameter].
    element_bytes : int
        Of a gradient [byte].

    Examples
    --------
    >>> caps_parameters(0, 4), caps_parameters(1000, 4)
    ((262144, 6553600), (1000,))
    """
    if bucket_parameters:
        return (bucket_parameters,)
    return tuple(-(-cap // element_bytes) for cap in (FIRST_CAP_BYTES, CAP_BYTES))
