"""Classes of equal pipeline stages, and the columns of layers that they hold.

Neighbours with the same layers, ends and microbatches in flight form a class, and classes are in
the order of their stages. Where rows of a batch have fewer classes than others, one of them is
repeated with a count of zero, which moves neither a sum nor a maximum.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from costmodels.columns import Column
from costmodels.gradient_order import BucketNumbers
from costmodels.pipelining.orderings import ORDERINGS
from costmodels.pipelining.schedules import SCHEDULES, ScheduleName
from costmodels.specs.layouts import Layout
from costmodels.specs.model import Model
from costmodels.specs.plan import Plan


class StageClass(NamedTuple):
    """Stages of a plan that are equal in all that memory and time depend on.

    Attributes
    ----------
    stages : tuple of int
        The stages, ascending [index].
    layer_counts : tuple of tuple of int
        For each chunk, layers of each kind [count].
    holds_embedding, holds_head : tuple of int
        For each chunk, one if it holds that end of the model.
    repeated_counts : tuple of tuple of int
        For each chunk, layers of each kind that full recomputation is for [count].
    stays : tuple of int
        For each chunk, neighbouring chunks on the same rank, to which it sends nothing [count].
    arrives : tuple of int
        For each chunk, one if its input comes from another rank.
    offloaded_counts : tuple of tuple of int
        For each chunk, layers of each kind whose saved tensors go to the host [count].
    offloaded_repeated_counts : tuple of tuple of int
        Of these, the layers that full recomputation is for [count].
    """

    stages: tuple[int, ...]
    layer_counts: tuple[tuple[int, ...], ...]
    holds_embedding: tuple[int, ...]
    holds_head: tuple[int, ...]
    repeated_counts: tuple[tuple[int, ...], ...]
    stays: tuple[int, ...]
    arrives: tuple[int, ...]
    offloaded_counts: tuple[tuple[int, ...], ...]
    offloaded_repeated_counts: tuple[tuple[int, ...], ...]


def balanced_layers(
    num_hidden_layers: int, virtual_stage_count: int, prediction_count: int = 0
) -> tuple[int, ...]:
    """Return the layers of every virtual stage, embedding and head counting as one layer each.

    Where they don't divide, the stages after the first take one layer more, in order: the first
    stage already holds the most microbatches. Each further token that the last stage predicts
    counts as two layers there, its layer and its head.

    Examples
    --------
    >>> balanced_layers(126, 16)
    (7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7)
    >>> balanced_layers(8, 3)
    (2, 4, 2)
    >>> balanced_layers(61, 16, 1)
    (3, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1)
    """
    if virtual_stage_count > 1 and prediction_count:
        mean = (num_hidden_layers + 2 + 2 * prediction_count) // virtual_stage_count
        last = max(mean - 1 - 2 * prediction_count, 0)
        base, extra = divmod(num_hidden_layers - last + 1, virtual_stage_count - 1)
        others = [base + (1 <= index <= extra) for index in range(virtual_stage_count - 1)]
        return (others[0] - 1, *others[1:], last)
    base, extra = divmod(num_hidden_layers + 2, virtual_stage_count)
    if virtual_stage_count == 1:
        return (num_hidden_layers,)
    counts = [base + (1 <= index <= extra) for index in range(virtual_stage_count)]
    counts[0] -= 1
    counts[-1] -= 1
    return tuple(max(count, 0) for count in counts)


def part_count(plan: Plan) -> int:
    """Return into how many parts a plan cuts the model: virtual stages, copies counted once [count]."""
    stages = plan.pipeline_parallel_size * plan.virtual_stages
    return stages // ORDERINGS[plan.schedule].copies


@lru_cache(maxsize=512)
def stage_classes(
    layer_kinds: tuple[int, ...],
    pipeline_parallel_size: int,
    virtual_stages: int,
    microbatch_count: int,
    schedule: ScheduleName,
    layers_per_stage: tuple[int, ...] | None,
    repeated_layers: int | None = None,
    prediction_count: int = 0,
    offloaded_layers: int = 0,
) -> tuple[StageClass, ...]:
    """Return the classes of a plan's stages, ordered by their first stage.

    Parameters
    ----------
    layer_kinds : tuple of int
        Kind of each layer of the model, in order.
    pipeline_parallel_size, virtual_stages, microbatch_count : int
        Sizes of the schedule [count].
    schedule : ScheduleName
        Decides how many microbatches are in flight.
    layers_per_stage : tuple of int or None
        Layers of every virtual stage; None balances them.
    repeated_layers : int or None
        First layers of each chunk that full recomputation is for; None for all [count].
    prediction_count : int
        Layers of the last kind behind them, on the last virtual stage, that predict further tokens
        [count]. Recomputation of some layers is not for these, nor is offload.
    offloaded_layers : int
        First layers of each chunk whose saved tensors go to the host [count].

    Returns
    -------
    tuple of StageClass
        Every stage is in one of them.
    """
    placement = SCHEDULES[schedule].placement(
        pipeline_parallel_size=pipeline_parallel_size, virtual_stages=virtual_stages
    )
    virtual_count = placement.part_count
    layers = layers_per_stage or balanced_layers(len(layer_kinds), virtual_count, prediction_count)
    kind_count = max(layer_kinds) + 1
    parts = _chunks(layer_kinds, layers[:virtual_count], virtual_count)
    counts = [_of_kinds(part, kind_count) for part in parts]
    repeated = [_of_kinds(part[:repeated_layers], kind_count) for part in parts]
    offloaded = [_of_kinds(part[:offloaded_layers], kind_count) for part in parts]
    both = [_of_kinds(part[:offloaded_layers][:repeated_layers], kind_count) for part in parts]
    further = tuple(prediction_count * (kind == layer_kinds[-1]) for kind in range(kind_count))
    counts[-1] = tuple(map(add, counts[-1], further))
    if repeated_layers is None:
        repeated[-1] = counts[-1]
    held_key = SCHEDULES[schedule].held_key
    chunks, stays, arrives = placement.stages_by_rank(), placement.stays(), placement.arrives()
    classes: list[StageClass] = []
    latest: tuple[Any, ...] | None = None
    for rank in range(pipeline_parallel_size):
        virtual = chunks[rank]
        held = [placement.parts[stage] for stage in virtual]
        key = (
            tuple(counts[part] for part in held),
            tuple(int(part == 0) for part in held),
            tuple(int(part == virtual_count - 1) for part in held),
            tuple(repeated[part] for part in held),
            tuple(stays[stage] for stage in virtual),
            tuple(int(arrives[stage]) for stage in virtual),
            tuple(offloaded[part] for part in held),
            tuple(both[part] for part in held),
            held_key(
                pipeline_parallel_size=pipeline_parallel_size,
                virtual_stages=virtual_stages,
                microbatch_count=microbatch_count,
                stage_index=rank,
            ),
        )
        if key == latest:
            last = classes.pop()
            classes.append(last._replace(stages=(*last.stages, rank)))
        else:
            classes.append(StageClass((rank,), *key[:-1]))
        latest = key
    return tuple(classes)


def _of_kinds(layers: tuple[int, ...], kind_count: int) -> tuple[int, ...]:
    """Return how many of some layers are of each kind."""
    return tuple(layers.count(kind) for kind in range(kind_count))


def _chunks(
    layer_kinds: tuple[int, ...], layers: tuple[int, ...], virtual_count: int
) -> list[tuple[int, ...]]:
    """Return the kinds of the layers of each virtual stage, in order."""
    chunks, start = [], 0
    for size in layers:
        chunks.append(layer_kinds[start : start + size])
        start += size
    return chunks + [()] * (virtual_count - len(chunks))


class LayerKind(NamedTuple):
    """What layers of one kind share, beyond what all layers of a model do.

    Attributes
    ----------
    layout : Layout
        Who attends to whom.
    has_experts : bool
        Whether they have a mixture of experts.
    """

    layout: Layout
    has_experts: bool


def layer_kinds(model: Model) -> tuple[tuple[int, ...], tuple[LayerKind, ...]]:
    """Return the kind of each layer, and what each kind is.

    Parameters
    ----------
    model : Model
        Its layouts repeat over its layers.

    Returns
    -------
    tuple
        For each layer the index of its kind, and the kinds in the order of their first layers.
    """
    dense = frozenset(model.mixture.dense_layers if model.mixture else ())
    layers = [
        LayerKind(
            model.layouts[index % len(model.layouts)],
            model.mixture is not None and index not in dense,
        )
        for index in range(model.num_hidden_layers)
    ]
    places = {kind: place for place, kind in enumerate(dict.fromkeys(layers))}
    return tuple(places[kind] for kind in layers), tuple(places)


def _padded(members: tuple[Any, ...], size: int, *, filler: int | None = None) -> tuple[Any, ...]:
    """Return the members with fillers before the last, by default copies of the one before it.

    So the last stage, which differs most, has the same place in every row, and columns that hold
    the same for every row stay one object.
    """
    copy = members[-2:][0] if filler is None else filler
    return (*members[:-1], *(copy,) * (size - len(members)), members[-1])


def _runs(table: Sequence[StageClass]) -> tuple[int, ...]:
    """Return for each class the stages of a run of equal work that begins there, zero within one.

    Classes of a run differ only in what they hold in flight.

    Examples
    --------
    >>> _runs(stage_classes((0,) * 6, 4, 1, 4, ScheduleName.ONE_F_ONE_B, None))
    (1, 2, 0, 1)
    """
    counts: list[int] = []
    begun = 0
    for index, entry in enumerate(table):
        counts.append(0)
        if index and entry[1:] != table[begun][1:]:
            begun = index
        counts[begun] += len(entry.stages)
    return tuple(counts)


class _Pool:
    """Columns and tuples of them, equal ones as one object.

    What is computed from one object is not computed again, so stages that differ only in what
    they hold in flight cost as much as one.
    """

    def __init__(self, inverse: npt.NDArray[np.intp]) -> None:
        self._inverse = inverse
        self._columns: dict[bytes, Column] = {}
        self._tuples: dict[tuple[int, ...], tuple[Any, ...]] = {}

    def column(self, entries: Iterable[int]) -> Column:
        """Return the rows' column of a number for each table, of length one if all are equal."""
        table = np.fromiter(entries, dtype=np.int64)
        table = table[:1] if (table == table[0]).all() else table
        key = table.tobytes()
        if key not in self._columns:
            self._columns[key] = table if len(table) == 1 else table[self._inverse]
        return self._columns[key]

    def tuple_of(self, members: Iterable[Any]) -> tuple[Any, ...]:
        """Return a tuple of pooled members, itself pooled."""
        found = tuple(members)
        return self._tuples.setdefault(tuple(map(id, found)), found)


_ChunkNumber: TypeAlias = Callable[[StageClass, int], int]
ChunkBuckets: TypeAlias = Callable[[StageClass, int], BucketNumbers]
"""Buckets of whole tensors that the gradients of a class's chunk make."""


def stage_columns(
    tables: Sequence[tuple[StageClass, ...]],
    inverse: npt.NDArray[np.intp],
    *,
    kind_count: int,
    buckets: Sequence[ChunkBuckets],
) -> dict[str, Any]:
    """Return the inputs with a stage axis: for each class of the tables a column of the rows.

    Parameters
    ----------
    tables : sequence of tuple of StageClass
        Classes of the stages of each distinct plan.
    inverse : array of int
        Which of them each row has [index].
    kind_count : int
        Kinds of layer [count].
    buckets : sequence of callable
        Of each table, the buckets of whole tensors of a class's chunk.
    """
    class_count = max(len(table) for table in tables)
    chunk_count = max(len(table[0].layer_counts) for table in tables)
    padded = [_padded(table, class_count) for table in tables]
    counts = [
        _padded(tuple(len(entry.stages) for entry in table), class_count, filler=0)
        for table in tables
    ]
    runs = [_padded(_runs(table), class_count, filler=0) for table in tables]
    pool = _Pool(inverse)
    kinds = range(kind_count)

    def by_table(numbers: Iterable[_ChunkNumber]) -> tuple[Any, ...]:
        """Return for each class and chunk a column of each table's number, zero without a chunk."""
        numbered = tuple(zip(numbers, padded, strict=True))

        def entry(index: int, chunk: int) -> Column:
            return pool.column(
                number(table[index], chunk) if chunk < len(table[index].layer_counts) else 0
                for number, table in numbered
            )

        return tuple(
            pool.tuple_of(entry(index, chunk) for chunk in range(chunk_count))
            for index in range(class_count)
        )

    def by_chunk(number: _ChunkNumber) -> tuple[Any, ...]:
        """Return for each class and chunk a column of a number."""
        return by_table([number] * len(padded))

    def of_kinds(number: Callable[[int], _ChunkNumber]) -> tuple[Any, ...]:
        """Return for each class, chunk and kind a column of layers."""
        by_kind = [by_chunk(number(k)) for k in kinds]
        return tuple(
            pool.tuple_of(
                pool.tuple_of(by_kind[k][index][chunk] for k in kinds)
                for chunk in range(chunk_count)
            )
            for index in range(class_count)
        )

    def of_stage(counts_of: Callable[[StageClass], tuple[tuple[int, ...], ...]]) -> tuple[Any, ...]:
        """Return for each class and kind a column of layers, over its chunks."""
        return tuple(
            pool.tuple_of(
                pool.column(sum(chunk[k] for chunk in counts_of(t[index])) for t in padded)
                for k in kinds
            )
            for index in range(class_count)
        )

    return {
        "class_stage_count": tuple(map(pool.column, zip(*counts, strict=True))),
        "run_stage_count": tuple(map(pool.column, zip(*runs, strict=True))),
        "stage_index": tuple(
            pool.column(table[index].stages[0] for table in padded) for index in range(class_count)
        ),
        "stage_layer_count": of_stage(lambda stage: stage.layer_counts),
        "stage_repeated_layer_count": of_stage(lambda stage: stage.repeated_counts),
        "chunk_layer_count": of_kinds(_layers_of),
        "chunk_repeated_layer_count": of_kinds(_repeated_of),
        "chunk_offloaded_layer_count": of_kinds(_offloaded_of),
        "chunk_offloaded_repeated_count": of_kinds(_offloaded_repeated_of),
        "chunk_exists": by_chunk(_one),
        "chunk_index": by_chunk(_place),
        "chunk_stays_count": by_chunk(lambda stage, chunk: stage.stays[chunk]),
        "chunk_input_arrives": by_chunk(lambda stage, chunk: stage.arrives[chunk]),
        "chunk_holds_embedding": by_chunk(lambda stage, chunk: stage.holds_embedding[chunk]),
        "chunk_holds_head": by_chunk(lambda stage, chunk: stage.holds_head[chunk]),
        **{
            f"chunk_whole_{name}": by_table([_number_of(own, place) for own in buckets])
            for place, name in enumerate(BucketNumbers._fields)
        },
    }


def _number_of(buckets: ChunkBuckets, place: int) -> _ChunkNumber:
    return lambda stage, chunk: buckets(stage, chunk)[place]


def _layers_of(kind: int) -> _ChunkNumber:
    return lambda stage, chunk: stage.layer_counts[chunk][kind]


def _repeated_of(kind: int) -> _ChunkNumber:
    return lambda stage, chunk: stage.repeated_counts[chunk][kind]


def _offloaded_of(kind: int) -> Callable[[StageClass, int], int]:
    return lambda stage, chunk: stage.offloaded_counts[chunk][kind]


def _offloaded_repeated_of(kind: int) -> Callable[[StageClass, int], int]:
    return lambda stage, chunk: stage.offloaded_repeated_counts[chunk][kind]


def _one(stage: StageClass, chunk: int) -> int:
    del stage, chunk
    return 1


def _place(stage: StageClass, chunk: int) -> int:
    del stage
    return chunk
